//! Radiology volumes in NIfTI files, FreeSurfer's MGH and NRRD: read with every claim of the header checked, written as
//! NIfTI on the grid they came from.

mod digits;
mod header;
mod made;
mod mgh;
mod names;
mod nifti;
mod nrrd;
mod nrrd_fields;
mod read;
mod source;
mod write;

use std::path::{Path, PathBuf};

pub use header::{Datatype, Endian, Header, Version};
pub use names::{LabelTable, Names, colour, read_names, sidecar, write_names};
pub use read::read_grid;
pub use write::{write_labels, write_map};

use super::files;
use super::geometry::{Affine, Grid};
use crate::error::Result;

/// What the names of volumes end in, longer ones before those that they end in.
pub const SUFFIXES: [&str; 10] = [
    ".nii.gz", ".hdr.gz", ".img.gz", ".nii", ".hdr", ".img", ".mgz", ".mgh", ".nrrd", ".nhdr",
];

/// The one of [`SUFFIXES`] that a file's name ends in, in any case.
pub fn suffix(path: &Path) -> Option<&'static str> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.to_ascii_lowercase();
    SUFFIXES.into_iter().find(|suffix| name.ends_with(suffix))
}

/// The files that the volume at `path` consists of, the one with the header first.
pub fn files_of(path: &Path) -> Vec<PathBuf> {
    let header = nifti::header_path(path);
    let voxels = match suffix(&header) {
        Some(".hdr" | ".hdr.gz") => nifti::voxel_path(&header).ok(),
        Some(".nhdr" | ".nrrd") => nrrd::voxels_of(&header),
        _ => None,
    };
    std::iter::once(header).chain(voxels).collect()
}

/// SHA-256 of a volume's file; of its two files one after the other, the header first, if it has two.
///
/// # Errors
///
/// [`Error::Read`](crate::error::Error::Read).
pub fn sha256(path: &Path) -> Result<String> {
    files::sha256_of(&files_of(path))
}

/// One 3-D image with the header it came with.
#[derive(Clone, Debug)]
pub struct Volume {
    /// The file that was asked for.
    pub path: PathBuf,
    /// The header, kept to the byte for writing results; one made for it if the file is not NIfTI.
    pub header: Header,
    /// The header extensions: the raw bytes from the end of the four extender bytes to the
    /// voxels; empty if there are none or they are damaged.
    pub extensions: Vec<u8>,
    /// The number of voxels along each axis.
    pub shape: [usize; 3],
    /// Voxel index to RAS millimetres.
    pub affine: Affine,
    /// The intensities, scaled as the header says, first axis fastest.
    pub data: Vec<f32>,
    /// What was odd about the file and what was made of it, a sentence each.
    pub warnings: Vec<String>,
}

impl Volume {
    /// The volume's shape and affine.
    pub fn grid(&self) -> Grid {
        Grid {
            shape: self.shape,
            affine: self.affine,
        }
    }
}

/// One 3-D map of whole-number labels, exact to the unit.
#[derive(Clone, Debug)]
pub struct Labels {
    /// The file that was asked for.
    pub path: PathBuf,
    /// The header.
    pub header: Header,
    /// The number of voxels along each axis.
    pub shape: [usize; 3],
    /// Voxel index to RAS millimetres.
    pub affine: Affine,
    /// The labels, first axis fastest; 0 is the background.
    pub data: Vec<u32>,
    /// Label names from the file's own label table or the table beside it; empty if neither is
    /// there.
    pub names: Names,
    /// What was odd about the file and what was made of it, a sentence each.
    pub warnings: Vec<String>,
}

impl Labels {
    /// The map's shape and affine.
    pub fn grid(&self) -> Grid {
        Grid {
            shape: self.shape,
            affine: self.affine,
        }
    }
}
