//! What a checkpoint that does not fit seems to be.

use crate::error::Error;
use crate::tensor::Checkpoint;

/// Parts of tensor names that tell a model, and the model.
const TELLTALES: &[(&str, &str)] = &[
    ("biomedclip.visual.", "BiomedCLIPSeg"),
    ("image_encoder.patch_embed.stages.", "Zeus"),
    ("image_encoder.patch_embed.seq.", "MobileSAM"),
    ("image_encoder.trunk.", "SAM 2"),
    ("vision_encoder.backbone.", "SAM 2"),
    ("image_encoder.blocks.", "SAM"),
    ("vision_encoder.layers.", "SAM"),
    ("multi_modal_projector.", "LLaVA"),
    ("connector.modality_projection.", "Idefics3 or SmolVLM"),
    ("decoder.film_mul.", "CLIPSeg"),
    ("neck.txt_proj.", "CRIS"),
    ("text_model.projection_head.", "MedCLIP"),
    ("vision_model.head.probe", "SigLIP"),
    ("vision_model.encoder.", "CLIP or SigLIP"),
    ("visual.transformer.", "CLIP"),
    ("visual.attnpool.", "CLIP"),
    ("visual.trunk.", "BiomedCLIP"),
    ("encoder.layer.0.attention.", "BERT"),
    ("swinViT.", "SwinUNETR"),
    ("relative_position_bias_table", "Swin"),
    ("blocks.0.attn.qkv.", "a ViT of timm"),
    (".self_attn.q_proj.", "a language model"),
    ("blk.0.", "a language model"),
    ("encoder1.", "a U-Net"),
    ("down_blocks.", "a U-Net"),
    (
        "conv3d",
        "a MeshNet that lost its metadata; convert it again by `keraunos convert`",
    ),
];

/// The model that a checkpoint's tensors are called after, if one is known.
pub(crate) fn likely(checkpoint: &Checkpoint) -> Option<&'static str> {
    let has = |part: &str| checkpoint.tensors().any(|entry| entry.name.contains(part));
    let mut known = TELLTALES.iter().filter(|(part, _)| has(part));
    known.next().map(|(_, model)| *model)
}

/// A fault of a checkpoint's tensors with what it seems to be.
pub(crate) fn named(error: Error, checkpoint: &Checkpoint) -> Error {
    match (error, likely(checkpoint)) {
        (Error::Weights { path, problem }, Some(model)) => Error::Weights {
            path,
            problem: format!("{problem}; its tensors are called as those of {model}"),
        },
        (error, _) => error,
    }
}
