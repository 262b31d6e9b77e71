//! A volume of 3D Slicer's. Its voxels are in the same file: a header that names another finds none.

use keraunos::Result;

use super::files::Folder;
use super::nifti::look;

/// Reads it as a scan and as a label map.
pub fn read(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    let path = folder.file("scan.nrrd", bytes);
    look(&folder, &path, &path)
}
