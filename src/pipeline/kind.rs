//! Which model a checkpoint is of: the one place that chooses.

use crate::error::{Error, Result};
use crate::models::likely::likely;
use crate::models::meshnet;
use crate::tensor::Checkpoint;

/// A kind of network that segments volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Segments slices by words.
    Zeus,
    /// Segments a conformed volume into classes of its own.
    MeshNet,
    /// Segments what boxes and points show.
    Sam,
    /// Segments slices by phrases.
    ClipSeg,
    /// The same, on BiomedCLIP's towers.
    BiomedClipSeg,
    /// The same, on CLIP's ResNet.
    Cris,
}

impl Kind {
    /// What it is called, after "a".
    pub fn name(self) -> &'static str {
        match self {
            Kind::Zeus => "Zeus",
            Kind::MeshNet => "MeshNet",
            Kind::Sam => "SAM",
            Kind::ClipSeg => "CLIPSeg",
            Kind::BiomedClipSeg => "BiomedCLIPSeg",
            Kind::Cris => "CRIS",
        }
    }
}

/// The kind of a checkpoint, by its metadata, or the names of its tensors.
///
/// # Errors
/// [`Error::Weights`] that names the first tensor and whose it is likely to be.
pub fn kind(checkpoint: &Checkpoint) -> Result<Kind> {
    let metadata = checkpoint.metadata();
    if metadata
        .get("architecture")
        .is_some_and(|name| name == meshnet::ARCHITECTURE)
    {
        return Ok(Kind::MeshNet);
    }
    if metadata.contains_key("config") {
        return Ok(Kind::Zeus);
    }
    match likely(checkpoint) {
        Some("SAM" | "MobileSAM") => return Ok(Kind::Sam),
        Some("CLIPSeg") => return Ok(Kind::ClipSeg),
        Some("BiomedCLIPSeg") => return Ok(Kind::BiomedClipSeg),
        Some("CRIS") => return Ok(Kind::Cris),
        _ => {}
    }
    let first = checkpoint
        .tensors()
        .next()
        .map(|tensor| tensor.name.to_owned());
    let first = first.unwrap_or_else(|| "none".into());
    Err(Error::weights(
        checkpoint.path(),
        format!(
            "its metadata says neither `architecture` MeshNet nor Zeus' `config`, and it is no SAM, CLIPSeg or CRIS; tensor `{first}` looks like {}",
            likely(checkpoint).unwrap_or("no model that is known here")
        ),
    ))
}
