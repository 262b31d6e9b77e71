//! Opening a NIfTI file, or either file of a pair.

use std::path::{Path, PathBuf};

use super::header::Header;
use super::names;
use super::read::{MAX_GAP, Opened, Stored};
use super::source::Source;
use crate::error::{Error, Result};

/// Reads everything before the voxels of a file that begins with `start`.
pub(super) fn open(
    path: &Path,
    mut source: Source,
    start: Vec<u8>,
    mut warnings: Vec<String>,
) -> Result<Opened> {
    let header = read_header(&mut source, start, &mut warnings)?;
    let affine = header.affine(path, &mut warnings)?;
    if header.vox_offset > MAX_GAP + header.version.data_start() {
        let problem = format!("is {}: implausibly far into the file", header.vox_offset);
        return Err(Error::volume(&source.path, "vox_offset", problem));
    }
    let stored = Stored {
        datatype: header.datatype,
        endian: header.endian,
        scaling: header.scaling,
        digits: false,
        start: header.vox_offset,
    };
    let begun = source.position;
    let mut after_header = if header.pair {
        let rest = source.take(MAX_GAP)?;
        source.drain()?;
        source = Source::open(&voxel_path(&source.path)?, &mut warnings)?;
        stored.check_size(header.shape(), &source)?;
        source.skip(header.vox_offset)?;
        rest
    } else {
        stored.check_size(header.shape(), &source)?;
        source.take(header.vox_offset - begun)?
    };
    let mut extensions = Vec::new();
    if after_header.len() > 4 && after_header[0] != 0 {
        let (whole, broken) = names::whole_extensions(after_header.split_off(4), header.endian);
        extensions = whole;
        if let Some(size) = broken {
            warnings.push(format!(
                "a header extension claims {size} bytes; skipped, the voxels begin at byte {}",
                header.vox_offset
            ));
        }
    }
    Ok(Opened {
        names: names::embedded(&extensions, header.endian),
        header,
        stored,
        extensions,
        affine,
        has_footer: false,
        warnings,
        source,
    })
}

fn read_header(source: &mut Source, start: Vec<u8>, warnings: &mut Vec<String>) -> Result<Header> {
    let path = source.path.clone();
    let mut raw = start;
    raw.extend(source.take(348 - raw.len() as u64)?);
    let announced = raw.first_chunk().and_then(Header::announced);
    let Some((version, endian)) = announced else {
        let problem = match foreign(&raw) {
            Some(what) => format!("is {what}"),
            None => {
                "is not a NIfTI file: it does not begin with a header size of 348 or 540".into()
            }
        };
        return Err(Error::volume(&path, "file", problem));
    };
    raw.extend(source.take((version.header_len() - 348) as u64)?);
    if raw.len() < version.header_len() {
        let (found, wanted) = (raw.len(), version.header_len());
        let problem = format!("is truncated: {found} bytes, the header alone has {wanted}");
        return Err(Error::volume(&path, "file", problem));
    }
    Header::parse(&path, raw, version, endian, warnings)
}

/// What a file that cannot be read is, by its first bytes, and what to do with it.
fn foreign(start: &[u8]) -> Option<&'static str> {
    const KNOWN: [(usize, &[u8], &str); 12] = [
        (
            128,
            b"DICM",
            "a DICOM file; convert the series with dcm2niix",
        ),
        (0, b"\x89PNG", "a PNG picture; give a NIfTI volume"),
        (0, b"\xff\xd8\xff", "a JPEG picture; give a NIfTI volume"),
        (0, b"GIF8", "a GIF picture; give a NIfTI volume"),
        (0, b"II*\0", "a TIFF picture; give a NIfTI volume"),
        (0, b"MM\0*", "a TIFF picture; give a NIfTI volume"),
        (
            0,
            b"ObjectType",
            "a MetaImage header; convert it to NIfTI, for instance with SimpleITK",
        ),
        (
            0,
            b"\x89HDF",
            "an HDF5 or MINC 2 file; convert MINC with mnc2nii",
        ),
        (
            0,
            b"CDF\x01",
            "a NetCDF or MINC 1 file; convert it with mnc2nii",
        ),
        (
            0,
            b"PK\x03\x04",
            "a zip archive; extract the NIfTI volume from it",
        ),
        (0, b"%PDF", "a PDF document"),
        (0, b"\x1f\x8b", "compressed twice"),
    ];
    KNOWN
        .iter()
        .find(|(at, magic, _)| start[(*at).min(start.len())..].starts_with(magic))
        .map(|(_, _, what)| *what)
}

/// `path` with the first of `suffixes` it ends in, in any case, replaced by each of `by`, in
/// both cases.
fn siblings(path: &Path, suffixes: &[&str], by: [&str; 2]) -> Vec<PathBuf> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return Vec::new();
    };
    let lower = name.to_ascii_lowercase();
    let Some(suffix) = suffixes.iter().find(|suffix| lower.ends_with(*suffix)) else {
        return Vec::new();
    };
    let stem = &name[..name.len() - suffix.len()];
    by.iter()
        .flat_map(|new| [(*new).to_owned(), new.to_ascii_uppercase()])
        .map(|new| path.with_file_name(format!("{stem}{new}")))
        .collect()
}

/// The file that holds the header: the `.hdr` beside a `.img`, otherwise the file itself.
pub(super) fn header_path(path: &Path) -> PathBuf {
    siblings(path, &[".img", ".img.gz"], [".hdr", ".hdr.gz"])
        .into_iter()
        .find(|header| header.is_file())
        .unwrap_or_else(|| path.into())
}

/// The `.img` that belongs to a header of a pair.
pub(super) fn voxel_path(header: &Path) -> Result<PathBuf> {
    let suffixes = [".hdr", ".hdr.gz", ".nii", ".nii.gz"];
    siblings(header, &suffixes, [".img", ".img.gz"])
        .into_iter()
        .find(|file| file.is_file())
        .ok_or_else(|| {
            let problem = "says that the voxels are in a `.img` file, but there is none beside it";
            Error::volume(header, "magic", problem)
        })
}
