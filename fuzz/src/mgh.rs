//! A volume of FreeSurfer's, plain and compressed.

use keraunos::Result;

use super::nifti::read_volume;

/// Reads it as a scan and as a label map.
pub fn read(bytes: &[u8]) -> Result<()> {
    read_volume(bytes, "mgh", "mgz")
}
