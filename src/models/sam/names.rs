//! What the two kinds of files call the same tensors: those of segment-anything, and so MobileSAM's, and those of Hugging Face's
//! `SamModel`.

use crate::error::{Error, Result};
use crate::models::likely;
use crate::tensor::Checkpoint;

/// The names of one kind of file, under the names that segment-anything has for them.
#[derive(Debug)]
pub(super) struct Names {
    /// Whether they are Hugging Face's.
    pub hugging_face: bool,
    /// Whether the image encoder is a TinyViT, whose other names are its own.
    pub tiny_vit: bool,
    pub image_encoder: &'static str,
    /// `patch_embed.proj`.
    pub patch_embed: &'static str,
    pub blocks: &'static str,
    pub norm1: &'static str,
    pub norm2: &'static str,
    /// `neck.0`, a convolution, `neck.1`, a norm, and both once more.
    pub neck: [&'static str; 4],
    /// From the root, as it is shared: `prompt_encoder.pe_layer.positional_encoding_gaussian_matrix`.
    pub gaussian_matrix: &'static str,
    pub point_embeddings: &'static str,
    /// `mask_downscaling`: a convolution and a norm twice, then a convolution.
    pub mask_downscaling: [&'static str; 5],
    pub norm3: &'static str,
    pub norm4: &'static str,
    pub norm_final_attn: &'static str,
    /// `output_upscaling`: a transposed convolution, a norm, a transposed convolution.
    pub output_upscaling: [&'static str; 3],
    /// The three layers of a head.
    pub layers: [&'static str; 3],
}

const SEGMENT_ANYTHING: Names = Names {
    hugging_face: false,
    tiny_vit: false,
    image_encoder: "image_encoder",
    patch_embed: "patch_embed.proj",
    blocks: "blocks",
    norm1: "norm1",
    norm2: "norm2",
    neck: ["neck.0", "neck.1", "neck.2", "neck.3"],
    gaussian_matrix: "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
    point_embeddings: "point_embeddings",
    mask_downscaling: [
        "mask_downscaling.0",
        "mask_downscaling.1",
        "mask_downscaling.3",
        "mask_downscaling.4",
        "mask_downscaling.6",
    ],
    norm3: "norm3",
    norm4: "norm4",
    norm_final_attn: "norm_final_attn",
    output_upscaling: [
        "output_upscaling.0",
        "output_upscaling.1",
        "output_upscaling.3",
    ],
    layers: ["layers.0", "layers.1", "layers.2"],
};

const MOBILE_SAM: Names = Names {
    tiny_vit: true,
    patch_embed: "patch_embed.seq.0.c",
    ..SEGMENT_ANYTHING
};

const HUGGING_FACE: Names = Names {
    hugging_face: true,
    tiny_vit: false,
    image_encoder: "vision_encoder",
    patch_embed: "patch_embed.projection",
    blocks: "layers",
    norm1: "layer_norm1",
    norm2: "layer_norm2",
    neck: [
        "neck.conv1",
        "neck.layer_norm1",
        "neck.conv2",
        "neck.layer_norm2",
    ],
    gaussian_matrix: SHARED[0],
    point_embeddings: "point_embed",
    mask_downscaling: [
        "mask_embed.conv1",
        "mask_embed.layer_norm1",
        "mask_embed.conv2",
        "mask_embed.layer_norm2",
        "mask_embed.conv3",
    ],
    norm3: "layer_norm3",
    norm4: "layer_norm4",
    norm_final_attn: "layer_norm_final_attn",
    output_upscaling: ["upscale_conv1", "upscale_layer_norm", "upscale_conv2"],
    layers: ["proj_in", "layers.0", "proj_out"],
};

/// Where Hugging Face's files keep the frequencies: once or twice, as the release that wrote them shares them.
pub(super) const SHARED: [&str; 2] = [
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
];

impl Names {
    /// Those of a checkpoint.
    ///
    /// # Errors
    /// A checkpoint that begins as none does; what it seems to be is said.
    pub(super) fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let first = |names: &Self| format!("{}.{}.weight", names.image_encoder, names.patch_embed);
        let has = |name: &str| checkpoint.tensor(name).is_some();
        for names in [SEGMENT_ANYTHING, MOBILE_SAM, HUGGING_FACE] {
            if has(&first(&names)) {
                let shared = SHARED.into_iter().find(|name| has(name));
                return Ok(match (names.hugging_face, shared) {
                    (true, Some(gaussian_matrix)) => Self {
                        gaussian_matrix,
                        ..names
                    },
                    _ => names,
                });
            }
        }
        let problem = format!(
            "tensor `{}`, `{}` or `{}` is missing: no SAM",
            first(&SEGMENT_ANYTHING),
            first(&MOBILE_SAM),
            first(&HUGGING_FACE)
        );
        Err(likely::named(
            Error::weights(checkpoint.path(), problem),
            checkpoint,
        ))
    }
}
