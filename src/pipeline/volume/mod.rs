//! Radiology volumes in NIfTI files: read with every claim of the header checked, written on
//! the grid they came from.

mod header;
mod names;
mod read;
mod write;

use std::path::PathBuf;

pub use header::{Datatype, Endian, Header, Version};
pub use names::{LabelTable, Names, colour, read_names, sidecar, write_names};
pub use read::read_grid;
pub use write::{write_labels, write_map};

use super::geometry::{Affine, Grid};

/// One 3-D image with the header it came with.
#[derive(Clone, Debug)]
pub struct Volume {
    /// The file that was asked for.
    pub path: PathBuf,
    /// The header, kept to the byte for writing results.
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
