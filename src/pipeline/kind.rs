//! Which model a checkpoint is of: the one place that chooses.

use crate::error::{Error, Result};
use crate::models::meshnet;
use crate::tensor::Checkpoint;

/// A kind of network that segments volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Segments slices by words.
    Zeus,
    /// Segments a conformed volume into classes of its own.
    MeshNet,
}

/// Signs of models that are not segmented with, or not by this option: a part of a tensor's name, and whose it is.
const SIGNS: [(&str, &str); 9] = [
    (
        "mask_decoder.output_hypernetworks_mlps",
        "SAM or one of its children (MedSAM, MobileSAM)",
    ),
    (
        "image_encoder.neck",
        "SAM or one of its children (MedSAM, MobileSAM)",
    ),
    ("decoder.film_mul", "CLIPSeg"),
    (
        "visual.transformer.resblocks",
        "CLIP as OpenAI or open_clip names it",
    ),
    ("vision_model.encoder.layers", "CLIP or SigLIP"),
    (
        "model.layers.0.self_attn",
        "a language model of the Llama family",
    ),
    ("blk.0.attn_q", "a language model (GGUF)"),
    (
        "encoder.layer.0.attention.self",
        "BERT or one of its children",
    ),
    (
        "conv3d",
        "a MeshNet that lost its metadata; convert it again by `keraunos convert`",
    ),
];

/// The kind of a checkpoint, by its metadata.
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
    let first = checkpoint
        .tensors()
        .next()
        .map(|tensor| tensor.name.to_owned());
    let first = first.unwrap_or_else(|| "none".into());
    Err(Error::weights(
        checkpoint.path(),
        format!(
            "its metadata says neither `architecture` MeshNet nor Zeus' `config`; tensor `{first}` looks like {}",
            likely(checkpoint).unwrap_or("no model that is known here")
        ),
    ))
}

/// Whose a checkpoint is likely to be, by the names of its tensors.
pub fn likely(checkpoint: &Checkpoint) -> Option<&'static str> {
    let has = |sign: &str| {
        checkpoint
            .tensors()
            .any(|tensor| tensor.name.contains(sign))
    };
    let found = SIGNS.iter().find(|(sign, _)| has(sign));
    found.map(|(_, model)| *model)
}
