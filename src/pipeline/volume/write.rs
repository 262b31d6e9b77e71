//! Writing results on the grid of the volume they were made from.
//!
//! The reference's header is taken byte for byte, in its own version and byte order (both forms,
//! units, voxel sizes, description, axes of length one), and only what describes the stored
//! numbers is changed: datatype, scaling, display range, intent and where the voxels begin. Its
//! extensions are kept. A `.hdr`/`.img` pair becomes a single file, and so does a volume of another format, with the
//! header that was made for it.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Volume;
use super::header::{self, Datatype, Endian, Header, Version};
use super::names::{self, Names};
use crate::error::{Error, Result};
use crate::pipeline::files;

/// The intent code of a label map.
const INTENT_LABEL: i32 = 1002;
/// The bytes encoded at a time.
const CHUNK: usize = 1 << 16;

/// Writes a label map on `reference`'s grid, compressed if the name ends in `.gz`.
///
/// `labels` holds one label per voxel of the reference, first axis fastest. The smallest of
/// `u8`, `u16`, `i32` and `u32` that holds the largest label is used, with slope 1, intercept
/// 0, intent 1002 (label) and a display range from 0 to the largest label. `names` go into a
/// label table inside the header, where viewers find them; for the BIDS table beside the file
/// see [`write_names`](super::write_names). The file is there whole or not at all
/// ([`atomic_write`](files::atomic_write)).
///
/// # Errors
///
/// [`Error::Write`]; [`Error::Argument`] if the name ends in neither `.nii` nor `.nii.gz`.
///
/// # Panics
///
/// If `labels` does not hold one label per voxel.
pub fn write_labels<T>(path: &Path, reference: &Volume, labels: &[T], names: &Names) -> Result<()>
where
    T: Copy + Into<u32>,
{
    assert_eq!(labels.len(), reference.grid().len(), "one label per voxel");
    let highest = labels.iter().map(|&label| label.into()).max().unwrap_or(0);
    let datatype = match highest {
        0..=0xff => Datatype::U8,
        0x100..=0xffff => Datatype::U16,
        0x1_0000..=0x7fff_ffff => Datatype::I32,
        _ => Datatype::U32,
    };
    let header = &reference.header;
    let extensions = names::with_label_table(&reference.extensions, header.endian, names);
    let mut patched = Patched::new(header, datatype, extensions);
    patched.meaning(INTENT_LABEL, f64::from(highest));
    write(path, &patched, labels, |label, bytes| {
        let label: u32 = (*label).into();
        // The datatype was chosen so that no cast loses anything.
        match (datatype, header.endian) {
            (Datatype::U8, _) => bytes.push(label as u8),
            (Datatype::U16, Endian::Little) => bytes.extend((label as u16).to_le_bytes()),
            (Datatype::U16, Endian::Big) => bytes.extend((label as u16).to_be_bytes()),
            (_, Endian::Little) => bytes.extend(label.to_le_bytes()),
            (_, Endian::Big) => bytes.extend(label.to_be_bytes()),
        }
    })
}

/// Writes a map of probabilities, 0 to 1, as `f32` on `reference`'s grid, compressed if the
/// name ends in `.gz`; otherwise like [`write_labels`].
///
/// # Errors
///
/// As [`write_labels`].
///
/// # Panics
///
/// If `map` does not hold one value per voxel.
pub fn write_map(path: &Path, reference: &Volume, map: &[f32]) -> Result<()> {
    assert_eq!(map.len(), reference.grid().len(), "one value per voxel");
    let header = &reference.header;
    let mut patched = Patched::new(header, Datatype::F32, reference.extensions.clone());
    patched.meaning(0, 1.0);
    write(path, &patched, map, |value, bytes| {
        bytes.extend(match header.endian {
            Endian::Little => value.to_le_bytes(),
            Endian::Big => value.to_be_bytes(),
        });
    })
}

/// A reference's header, changed to describe other voxels, and everything before them.
pub(super) struct Patched {
    raw: Vec<u8>,
    version: Version,
    endian: Endian,
    extensions: Vec<u8>,
}

impl Patched {
    fn new(header: &Header, datatype: Datatype, extensions: Vec<u8>) -> Self {
        let raw = header.raw().to_vec();
        Self::of(raw, header.version, header.endian, datatype, extensions)
    }

    /// A header of zeros, little-endian, but for what describes the stored numbers.
    pub(super) fn blank(version: Version, datatype: Datatype) -> Self {
        let mut raw = vec![0; version.header_len()];
        raw[..4].copy_from_slice(&(version.header_len() as u32).to_le_bytes());
        if version == Version::Two {
            raw[8..12].copy_from_slice(b"\r\n\x1a\n");
        }
        Self::of(raw, version, Endian::Little, datatype, Vec::new())
    }

    fn of(
        raw: Vec<u8>,
        version: Version,
        endian: Endian,
        datatype: Datatype,
        mut extensions: Vec<u8>,
    ) -> Self {
        // Readers like voxels at a multiple of 16; both headers with their extender end on one.
        extensions.resize(extensions.len().next_multiple_of(16), 0);
        let mut patched = Self {
            raw,
            version,
            endian,
            extensions,
        };
        let fields = version.fields();
        patched.put(fields.datatype, datatype.code().to_be_bytes());
        patched.put(fields.bitpix, (8 * datatype.size() as i16).to_be_bytes());
        patched.raw[fields.magic..fields.magic + 4].copy_from_slice(match version {
            Version::One => b"n+1\0",
            Version::Two => b"n+2\0",
        });
        let offset = version.data_start() + patched.extensions.len() as u64;
        match version {
            // A multiple of 16 below 2²⁸ is exact.
            Version::One => patched.put(fields.vox_offset, (offset as f32).to_be_bytes()),
            Version::Two => patched.put(fields.vox_offset, offset.to_be_bytes()),
        }
        patched.put_real(fields.scl_slope, 1.0);
        patched.put_real(fields.scl_inter, 0.0);
        patched
    }

    /// Sets the intent, without parameters or a name, and a display range from 0 to `highest`.
    fn meaning(&mut self, intent: i32, highest: f64) {
        let fields = self.version.fields();
        self.put_code(fields.intent_code, intent);
        let parameters = match self.version {
            Version::One => 12,
            Version::Two => 24,
        };
        self.raw[fields.intent_p1..fields.intent_p1 + parameters].fill(0);
        self.raw[fields.intent_name..fields.intent_name + 16].fill(0);
        self.put_real(fields.cal_min, 0.0);
        self.put_real(fields.cal_max, highest);
    }

    fn put_real(&mut self, at: usize, value: f64) {
        header::put_real(&mut self.raw, self.version, self.endian, at, 0, value);
    }

    /// Stores real numbers side by side.
    pub(super) fn put_reals(&mut self, at: usize, values: &[f64]) {
        for (n, value) in values.iter().enumerate() {
            header::put_real(&mut self.raw, self.version, self.endian, at, n, *value);
        }
    }

    /// Stores a code of a form or an intent.
    pub(super) fn put_code(&mut self, at: usize, code: i32) {
        match self.version {
            // The codes in use fit into 16 bits.
            Version::One => self.put(at, (code as i16).to_be_bytes()),
            Version::Two => self.put(at, code.to_be_bytes()),
        }
    }

    /// The bytes of the header.
    pub(super) fn into_raw(self) -> Vec<u8> {
        self.raw
    }

    /// Stores a number, given most significant byte first, in the header's byte order.
    pub(super) fn put<const N: usize>(&mut self, at: usize, mut bytes: [u8; N]) {
        if self.endian == Endian::Little {
            bytes.reverse();
        }
        self.raw[at..at + N].copy_from_slice(&bytes);
    }
}

fn write<T>(
    path: &Path,
    header: &Patched,
    voxels: &[T],
    encode: impl Fn(&T, &mut Vec<u8>),
) -> Result<()> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase();
    let fill = |out: &mut dyn Write| {
        out.write_all(&header.raw)?;
        out.write_all(&[u8::from(!header.extensions.is_empty()), 0, 0, 0])?;
        out.write_all(&header.extensions)?;
        let mut bytes = Vec::with_capacity(4 * CHUNK);
        voxels.chunks(CHUNK).try_for_each(|chunk| {
            bytes.clear();
            chunk.iter().for_each(|voxel| encode(voxel, &mut bytes));
            out.write_all(&bytes)
        })
    };
    if name.ends_with(".nii.gz") {
        files::atomic_write(path, |out| compress(out, fill))
    } else if name.ends_with(".nii") {
        files::atomic_write(path, fill)
    } else {
        Err(Error::Argument(format!(
            "`{}`: a volume's name must end in .nii or .nii.gz",
            path.display()
        )))
    }
}

/// Gzip without name and time, so that equal volumes are equal files.
fn compress(
    out: &mut dyn Write,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut encoder = BufWriter::new(GzEncoder::new(out, Compression::default()));
    fill(&mut encoder)?;
    encoder
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?
        .finish()?;
    Ok(())
}
