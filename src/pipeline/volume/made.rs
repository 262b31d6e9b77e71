//! A NIfTI header for a volume that came in another format: what its results are written with.

use std::path::Path;

use super::header::{Datatype, Endian, Header, Version};
use super::write::Patched;
use crate::error::{Error, Result};
use crate::pipeline::geometry::{self, Affine};

/// How far a corner may lie off, in smallest voxel sizes, for a quaternion to say what an affine says.
const APART: f64 = 0.01;

/// The header of one volume in millimetres, little-endian, with the affine as sform and, where the axes are at right
/// angles, as qform too. The forms' code is 1 (the scanner's own axes) where the file stated its axes, otherwise 2.
///
/// # Errors
///
/// As for a header that was read; or an affine of numbers that NIfTI, in single precision, does not hold.
pub(super) fn header(
    path: &Path,
    shape: [usize; 3],
    affine: &Affine,
    datatype: Datatype,
    is_known: bool,
) -> Result<Header> {
    let is_long = shape.iter().any(|&n| n > i16::MAX as usize);
    let version = if is_long { Version::Two } else { Version::One };
    let code = if is_known { 1 } else { 2 };
    let whole = forms(path, version, shape, affine, datatype, [code, code])?;
    let [sform, qform] = [whole.sform(), whole.qform().unwrap_or(*affine)];
    if !geometry::is_usable(&sform) {
        let problem = "is lost in single precision, which results keep it in";
        return Err(Error::volume(path, "affine", problem));
    }
    let size = geometry::voxel_sizes(affine)
        .into_iter()
        .fold(f64::INFINITY, f64::min);
    if whole.farthest_corner(&sform, &qform) <= APART * size {
        return Ok(whole);
    }
    forms(path, version, shape, affine, datatype, [0, code])
}

/// The header with these codes of qform and sform.
fn forms(
    path: &Path,
    version: Version,
    shape: [usize; 3],
    affine: &Affine,
    datatype: Datatype,
    [qform_code, sform_code]: [i32; 2],
) -> Result<Header> {
    let fields = version.fields();
    let mut made = Patched::blank(version, datatype);
    let [nx, ny, nz] = shape.map(|n| n as i64);
    for (n, length) in [3, nx, ny, nz, 1, 1, 1, 1].into_iter().enumerate() {
        match version {
            Version::One => made.put(fields.dim + 2 * n, (length as i16).to_be_bytes()),
            Version::Two => made.put(fields.dim + 8 * n, length.to_be_bytes()),
        }
    }
    let (quaternion, is_left_handed) = geometry::quaternion(affine);
    let side = if is_left_handed { -1.0 } else { 1.0 };
    let [x, y, z] = geometry::voxel_sizes(affine);
    made.put_reals(fields.pixdim, &[side, x, y, z, 1.0, 1.0, 1.0, 1.0]);
    made.put_reals(fields.quatern_b, &quaternion);
    made.put_reals(fields.qoffset_x, &affine.map(|row| row[3]));
    made.put_reals(fields.srow_x, affine.as_flattened());
    made.put_code(fields.qform_code, qform_code);
    made.put_code(fields.sform_code, sform_code);
    const MILLIMETRES: u8 = 2;
    match version {
        Version::One => made.put(fields.xyzt_units, [MILLIMETRES]),
        Version::Two => made.put(fields.xyzt_units, i32::from(MILLIMETRES).to_be_bytes()),
    }
    Header::parse(
        path,
        made.into_raw(),
        version,
        Endian::Little,
        &mut Vec::new(),
    )
}
