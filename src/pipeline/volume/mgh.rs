//! FreeSurfer's MGH, and MGZ, which is MGH in gzip.
//!
//! 284 bytes of header, all numbers most significant byte first: version (1), four lengths, type and degrees of
//! freedom as `i32`, `goodRASFlag` as `i16`, then as `f32` three voxel sizes (`delta`), the directions of the three
//! axes in RAS (`Mdc`) and the place of the middle (`Pxyz_c`), which is that of voxel `shape / 2`. Acquisition
//! parameters and tags follow the voxels; they are passed over.

use super::header::{self, Datatype, Endian, check_dim};
use super::made;
use super::names::Names;
use super::read::{Opened, Stored};
use super::source::Source;
use crate::error::{Error, Result};
use crate::pipeline::geometry::{self, Affine};

/// The version, with which every file begins.
pub(super) const VERSION: &[u8] = &[0, 0, 0, 1];
/// Where the voxels begin.
const START: u64 = 284;
/// The directions of a volume that says nothing of them: coronal slices, as FreeSurfer conforms them. A row for each
/// axis.
const CORONAL: [[f64; 3]; 3] = [[-1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]];

/// Reads the header; the version was read.
pub(super) fn open(mut source: Source, mut warnings: Vec<String>) -> Result<Opened> {
    let path = source.path.clone();
    let bad = |field, problem: String| Error::volume(&path, field, problem);
    let raw = source.take(START - VERSION.len() as u64)?;
    if raw.len() < START as usize - VERSION.len() {
        let found = raw.len() + VERSION.len();
        let problem = format!("is truncated: {found} bytes, the header alone has {START}");
        return Err(bad("file", problem));
    }
    let int = |n: usize| header::number_at!(raw, Endian::Big, 4 * n, i32);
    let real = |n: usize| f64::from(header::number_at!(raw, Endian::Big, 26 + 4 * n, f32));

    let lengths: [i64; 4] = std::array::from_fn(|n| i64::from(int(n)));
    let [x, y, z, frames] = lengths;
    check_dim(&[4, x, y, z, frames, 1, 1, 1]).map_err(|(_, problem)| bad("dims", problem))?;
    let datatype = match int(4) {
        0 => Datatype::U8,
        1 => Datatype::I32,
        3 => Datatype::F32,
        4 => Datatype::I16,
        other => {
            let known = "0 (uchar), 1 (int), 3 (float) and 4 (short) are known";
            return Err(bad("type", format!("is {other}: {known}")));
        }
    };
    let is_known = header::number_at!(raw, Endian::Big, 24, i16) > 0;
    let (sizes, directions, middle) = if is_known {
        let three = |first: usize| [0, 1, 2].map(|n| real(first + n));
        (three(0), [three(3), three(6), three(9)], three(12))
    } else {
        warnings.push(
            "goodRASFlag is not set; coronal slices of 1 mm are taken, so left and right may be exchanged".into(),
        );
        ([1.0; 3], CORONAL, [0.0; 3])
    };
    for (axis, size) in sizes.into_iter().enumerate() {
        if !(size > 0.0 && size.is_finite()) {
            let problem = format!("[{axis}] is {size}: a voxel size must be positive");
            return Err(bad("delta", problem));
        }
    }
    let affine: Affine = std::array::from_fn(|row| {
        let steps: [f64; 3] = std::array::from_fn(|axis| directions[axis][row] * sizes[axis]);
        let to_middle: f64 = (0..3)
            .map(|axis| steps[axis] * lengths[axis] as f64 / 2.0)
            .sum();
        [steps[0], steps[1], steps[2], middle[row] - to_middle]
    });
    if !geometry::is_usable(&affine) {
        let problem = "or Pxyz_c is not finite, or two axes have one direction";
        return Err(bad("Mdc", problem.into()));
    }
    if is_known && geometry::is_made_up(&affine) {
        warnings.push(header::MADE_UP.into());
    }
    let shape = [x, y, z].map(|n| n as usize);
    let stored = Stored {
        datatype,
        endian: Endian::Big,
        scaling: None,
        digits: false,
        start: START,
    };
    stored.check_size(shape, &source)?;
    Ok(Opened {
        header: made::header(&path, shape, &affine, datatype, is_known)?,
        stored,
        extensions: Vec::new(),
        affine,
        names: Names::new(),
        has_footer: true,
        warnings,
        source,
    })
}
