//! The sizes of a SAM, read off its tensors; what those do not tell is `config.json`'s, or usual.

use serde_json::Value;

use super::names::Names;
use super::tiny_vit::{self, TinyVitConfig};
use crate::error::{Error, Result};
use crate::models::config_json;
use crate::models::shapes::Shapes;
use crate::models::vision::LARGEST_PATCH;
use crate::ops::{Heads, can_cut};
use crate::tensor::Checkpoint;

/// The widest head that the attention kernels take.
const WIDEST_HEAD: usize = 128;
/// The largest side of the grid of image tokens: 4096 pixels in patches of 16.
const LARGEST_GRID: usize = 256;

/// Image encoder, prompt encoder and mask decoder in numbers.
#[derive(Clone, Debug)]
pub struct SamConfig {
    /// Rows and columns of the picture in pixels.
    pub image_size: usize,
    /// Side of the square that becomes a token, in pixels.
    pub patch_size: usize,
    /// What makes tokens of the picture.
    pub encoder: EncoderConfig,
    /// Width of a prompt's token and of what the neck gives.
    pub prompt_dim: usize,
    /// Channels of a mask that is given as a prompt, before it has `prompt_dim`.
    pub mask_in_chans: usize,
    /// Epsilon of the norms on the way there.
    pub mask_ln_eps: f32,
    /// Blocks of the mask decoder.
    pub decoder_depth: usize,
    /// Heads of the mask decoder.
    pub decoder_heads: usize,
    /// Width of the mask decoder's MLP.
    pub decoder_mlp: usize,
    /// Width within the attentions between tokens and image.
    pub decoder_inner: usize,
    /// Masks of a prompt: the one, then those to choose from.
    pub mask_tokens: usize,
    /// Width of the head that predicts the masks' IoU.
    pub iou_head_dim: usize,
    /// Epsilon of the mask decoder's norms.
    pub decoder_ln_eps: f32,
}

/// The body of an image encoder in numbers.
#[derive(Clone, Debug)]
pub enum EncoderConfig {
    /// SAM's own.
    Vit(VitConfig),
    /// MobileSAM's.
    TinyVit(TinyVitConfig),
}

/// A ViT in numbers. ViT-B, L and H differ in `dim`, `heads` and `windows`.
#[derive(Clone, Debug)]
pub struct VitConfig {
    /// Rows and columns of tokens.
    pub grid: usize,
    /// Side of the square that becomes a token, in pixels.
    pub patch_size: usize,
    /// Width of a token.
    pub dim: usize,
    /// Heads.
    pub heads: Heads,
    /// Of each block the side of its windows, in tokens; nothing where it sees the whole picture.
    pub windows: Vec<Option<usize>>,
    /// Width of the MLP.
    pub mlp_dim: usize,
    /// Whether q, k and v have a bias.
    pub qkv_bias: bool,
    /// Epsilon of the norms.
    pub ln_eps: f32,
}

impl VitConfig {
    /// Reads the shapes of the tensors below the image encoder.
    fn of(shapes: &Shapes, names: &Names) -> Result<Self> {
        let encoder = names.image_encoder;
        let [_, grid, _, dim] = shapes.of(&format!("{encoder}.pos_embed"))?;
        let [_, _, patch_size, _] =
            shapes.of(&format!("{encoder}.{}.weight", names.patch_embed))?;
        let block = |n: usize| format!("{encoder}.{}.{n}", names.blocks);
        let depth = shapes.count(|n| format!("{}.attn.qkv.weight", block(n)));
        let mut windows = Vec::new();
        let mut width = 0;
        for n in 0..depth {
            let [rows, columns] = shapes.of(&format!("{}.attn.rel_pos_h", block(n)))?;
            width = columns;
            let side = rows / 2 + 1;
            windows.push((side != grid).then_some(side));
        }
        let [mlp_dim, _] = shapes.of(&format!("{}.mlp.lin1.weight", block(0)))?;
        let heads = dim / width.max(1);
        Ok(Self {
            grid,
            patch_size,
            dim,
            heads: Heads {
                q: heads,
                kv: heads,
                width,
            },
            windows,
            mlp_dim,
            qkv_bias: true,
            ln_eps: 1e-6,
        })
    }
}

impl SamConfig {
    /// Rows and columns of image tokens.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Rows and columns of a mask's logits.
    pub fn low_res(&self) -> usize {
        4 * self.grid()
    }

    /// Reads a checkpoint's shapes, and `config.json` beside Hugging Face's tensors.
    ///
    /// # Errors
    /// A missing tensor, sizes that do not fit each other or the kernels, or a `config.json` that says otherwise.
    pub(super) fn of(checkpoint: &Checkpoint, names: &Names) -> Result<Self> {
        let kind = match (names.hugging_face, names.tiny_vit) {
            (true, _) => "Hugging Face's SamModel",
            (_, true) => "MobileSAM",
            _ => "segment-anything",
        };
        let shapes = Shapes { checkpoint, kind };
        let (grid, patch_size, encoder) = if names.tiny_vit {
            let tiny = TinyVitConfig::of(&shapes)?;
            let (grid, patch_size) = (tiny_vit::GRID, tiny_vit::PATCH_SIZE);
            (grid, patch_size, EncoderConfig::TinyVit(tiny))
        } else {
            let vit = VitConfig::of(&shapes, names)?;
            (vit.grid, vit.patch_size, EncoderConfig::Vit(vit))
        };
        let prompts = |part: &str| format!("prompt_encoder.{part}.weight");
        let [_, prompt_dim] = shapes.of(&prompts("not_a_point_embed"))?;
        let [mask_in_chans, ..] = shapes.of::<4>(&prompts(names.mask_downscaling[2]))?;
        let decoder = |part: &str| format!("mask_decoder.{part}.weight");
        let layer = |n: usize, part: &str| decoder(&format!("transformer.layers.{n}.{part}"));
        let decoder_depth = shapes.count(|n| layer(n, "self_attn.q_proj"));
        let [decoder_mlp, _] = shapes.of(&layer(0, "mlp.lin1"))?;
        let [decoder_inner, _] = shapes.of(&layer(0, "cross_attn_token_to_image.q_proj"))?;
        let [mask_tokens, _] = shapes.of(&decoder("mask_tokens"))?;
        let head = format!("iou_prediction_head.{}", names.layers[0]);
        let [iou_head_dim, _] = shapes.of(&decoder(&head))?;
        let mut config = Self {
            image_size: grid.saturating_mul(patch_size),
            patch_size,
            encoder,
            prompt_dim,
            mask_in_chans,
            mask_ln_eps: 1e-6,
            decoder_depth,
            decoder_heads: 8,
            decoder_mlp,
            decoder_inner,
            mask_tokens,
            iou_head_dim,
            // PyTorch's own, which segment-anything leaves as it is.
            decoder_ln_eps: 1e-5,
        };
        if names.hugging_face {
            config.read_json(checkpoint)?;
        }
        match config.problem() {
            Some(problem) => Err(Error::weights(checkpoint.path(), problem)),
            None => Ok(config),
        }
    }

    /// What the shapes do not tell, and whether `config.json` says of the others what they do.
    fn read_json(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let EncoderConfig::Vit(vit) = &mut self.encoder else {
            return Ok(());
        };
        let (path, json) = config_json(checkpoint)?;
        let fault = |problem: String| Error::config(&path, problem);
        let model_type = json["model_type"].as_str().unwrap_or_default();
        if model_type != "sam" {
            return Err(fault(format!(
                "`model_type` is `{model_type}`, expected `sam`"
            )));
        }
        let (vision, decoder) = (&json["vision_config"], &json["mask_decoder_config"]);
        for (part, key, found) in [
            (vision, "image_size", self.image_size),
            (vision, "patch_size", self.patch_size),
            (vision, "hidden_size", vit.dim),
            (vision, "num_hidden_layers", vit.windows.len()),
            (vision, "num_attention_heads", vit.heads.q),
            (vision, "output_channels", self.prompt_dim),
            (vision, "num_channels", 3),
            (decoder, "hidden_size", self.prompt_dim),
            (decoder, "num_hidden_layers", self.decoder_depth),
            (decoder, "mlp_dim", self.decoder_mlp),
            (decoder, "num_multimask_outputs", self.mask_tokens - 1),
            (decoder, "iou_head_hidden_dim", self.iou_head_dim),
            (decoder, "iou_head_depth", 3),
        ] {
            let said = &part[key];
            if !said.is_null() && said.as_u64() != Some(found as u64) {
                return Err(fault(format!(
                    "`{key}` is {said}, the tensors are those of {found}"
                )));
            }
        }
        for (part, key, known) in [
            (vision, "hidden_act", "gelu"),
            (&json["prompt_encoder_config"], "hidden_act", "gelu"),
            (decoder, "hidden_act", "relu"),
        ] {
            let said = &part[key];
            if !said.is_null() && said.as_str() != Some(known) {
                return Err(fault(format!("`{key}` is {said}, expected `{known}`")));
            }
        }
        let eps = |part: &Value| match &part["layer_norm_eps"] {
            // What transformers takes where nothing is said.
            Value::Null => Ok(1e-6),
            said => match said.as_f64() {
                Some(eps) if eps > 0.0 && eps < 1.0 => Ok(eps as f32),
                _ => Err(fault(format!(
                    "`layer_norm_eps` is {said}, expected above 0"
                ))),
            },
        };
        vit.qkv_bias = vision["qkv_bias"] != false;
        vit.ln_eps = eps(vision)?;
        self.mask_ln_eps = eps(&json["prompt_encoder_config"])?;
        self.decoder_ln_eps = eps(decoder)?;
        if let Some(heads) = decoder["num_attention_heads"].as_u64() {
            self.decoder_heads = usize::try_from(heads).unwrap_or(usize::MAX);
        }
        Ok(())
    }

    /// What the kernels do not take.
    fn problem(&self) -> Option<String> {
        let patch = self.patch_size;
        let grid = self.image_size.checked_div(patch).unwrap_or(0);
        let cut = patch <= LARGEST_PATCH && can_cut(self.image_size, patch);
        if !(1..=LARGEST_GRID).contains(&grid) || !cut {
            return Some(format!(
                "a grid of {grid} tokens of {patch} pixels, expected at most {LARGEST_GRID} of {LARGEST_PATCH}"
            ));
        }
        if let EncoderConfig::TinyVit(tiny) = &self.encoder
            && let Some(problem) = tiny.problem()
        {
            return Some(problem);
        }
        // A width and its heads, wherever there is attention, and the width of an MLP.
        let (attentions, is_empty) = match &self.encoder {
            EncoderConfig::Vit(vit) => (
                vec![(vit.dim, vit.heads, vit.mlp_dim)],
                vit.windows.is_empty(),
            ),
            EncoderConfig::TinyVit(tiny) => {
                let stages = tiny.stages.iter();
                let own = stages.map(|stage| (stage.dim, stage.heads, stage.mlp_dim));
                (own.collect(), false)
            }
        };
        if is_empty || self.decoder_depth == 0 {
            return Some("no block in the image encoder or the mask decoder".into());
        }
        let fits = |width: usize| (8..=WIDEST_HEAD).contains(&width) && width.is_multiple_of(8);
        for (dim, heads, _) in &attentions {
            if heads.q * heads.width != *dim || !fits(heads.width) {
                let width = heads.width;
                return Some(format!(
                    "heads of {width} columns in {dim}, expected a multiple of 8 up to {WIDEST_HEAD}"
                ));
            }
        }
        for inner in [self.prompt_dim, self.decoder_inner] {
            let heads = self.decoder_heads;
            if heads == 0 || !inner.is_multiple_of(heads) || !fits(inner / heads) {
                return Some(format!(
                    "{heads} heads of {inner} columns in the mask decoder, expected heads of a multiple of 8 up to {WIDEST_HEAD}"
                ));
            }
        }
        let mut widths = vec![
            (self.decoder_mlp, 4),
            (self.iou_head_dim, 4),
            (self.mask_in_chans, 16),
            (self.prompt_dim, 32),
        ];
        widths.extend(attentions.iter().map(|(.., mlp)| (*mlp, 4)));
        let odd = |(width, of): &&(usize, usize)| *width == 0 || !width.is_multiple_of(*of);
        if let Some((width, of)) = widths.iter().find(odd) {
            return Some(format!("a width of {width}, expected a multiple of {of}"));
        }
        (!(2..=16).contains(&self.mask_tokens))
            .then(|| format!("{} mask tokens, expected 2 to 16", self.mask_tokens))
    }
}
