//! Zeus (arXiv 2504.07336): an image encoder, a prompt encoder that pools the instruction's token states
//! to one sparse prompt token, and a mask decoder. `zeus-mini` is the default that the binary embeds.

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::models::bert::Sentences;
use crate::models::image_encoder::{ImageEmbedding, ImageEncoder};
use crate::models::mask_decoder::{Decoded, MaskDecoder};
use crate::models::prompt_encoder::PromptEncoder;
use crate::ops::matmul;
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// A tensor that a checkpoint may carry beside the model: the prompt tokens of some instructions, whose
/// texts are `instructions` in its metadata.
pub const INSTRUCTION_TOKENS: &str = "instruction_tokens";

/// The sizes of a Zeus model, as its checkpoint's metadata gives them under `config`.
#[derive(Clone, Debug, Deserialize)]
pub struct ZeusConfig {
    /// Rows and columns of a slice in pixels.
    pub image_size: usize,
    /// Rows and columns of the token grid.
    pub grid: usize,
    /// Channels of a slice: modalities that are fused early.
    #[serde(default = "one")]
    pub channels: usize,
    /// Channels of the four scales of the stem; the last are the ViT's.
    pub stem: [usize; 4],
    /// Width of the ViT.
    pub dim: usize,
    /// Blocks of the ViT.
    pub depth: usize,
    /// Heads of the ViT.
    pub heads: usize,
    /// Width of the ViT's MLP as a multiple of `dim`.
    pub mlp_ratio: usize,
    /// Width of the text encoder's token states.
    pub text_dim: usize,
    /// Width of prompt and image tokens in the decoder.
    pub prompt_dim: usize,
    /// Blocks of the decoder.
    pub decoder_depth: usize,
    /// Heads of the decoder's attentions.
    pub decoder_heads: usize,
    /// Width of the decoder's MLP.
    pub decoder_mlp: usize,
    /// By how much the cross-attention is narrower than `prompt_dim`.
    pub attention_downsample: usize,
    /// Channels of the three scales of the upscaling.
    pub up_dims: [usize; 3],
    /// Rows and columns of a mask before it is doubled.
    pub low_res: usize,
    /// Epsilon of the encoder's layer norms.
    pub ln_eps: f32,
    /// Epsilon of the decoder's layer norms.
    pub decoder_ln_eps: f32,
}

fn one() -> usize {
    1
}

impl ZeusConfig {
    /// Reads and checks the configuration of a checkpoint.
    ///
    /// # Errors
    /// No `config` in the metadata, or sizes that do not fit each other.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let fault = |problem: String| Error::weights(checkpoint.path(), problem);
        let metadata = checkpoint.metadata();
        let text = metadata
            .get("config")
            .ok_or_else(|| fault("no `config` in its metadata: not a Zeus model".into()))?;
        let config: Self = serde_json::from_str(text)
            .map_err(|e| fault(format!("`config` in its metadata: {e}")))?;
        let sizes = [
            config.image_size,
            config.dim,
            config.prompt_dim,
            config.text_dim,
            config.decoder_mlp,
        ];
        let sensible = sizes
            .iter()
            .all(|n| (4..=1 << 16).contains(n) && n % 4 == 0)
            && (1..=64).contains(&config.heads)
            && (1..=64).contains(&config.decoder_heads)
            && (1..=8).contains(&config.attention_downsample)
            && (1..=256).contains(&config.depth)
            && (1..=256).contains(&config.decoder_depth)
            && (1..=64).contains(&config.mlp_ratio)
            && (1..=4).contains(&config.channels)
            && (1..=1 << 12).contains(&config.grid)
            && [config.ln_eps, config.decoder_ln_eps]
                .iter()
                .all(|eps| *eps >= 0.0 && eps.is_finite())
            && config
                .stem
                .iter()
                .chain(&config.up_dims)
                .all(|n| (4..=1 << 12).contains(n) && n % 4 == 0)
            && config.up_dims[2].is_multiple_of(8);
        let fits = sensible
            && config.stem[3] == config.dim
            && config.image_size == 16 * config.grid
            && config.low_res == 8 * config.grid
            && (config.dim / config.heads).is_multiple_of(8)
            && config.prompt_dim / config.decoder_heads <= 128
            && config.dim.is_multiple_of(config.heads)
            && config
                .prompt_dim
                .is_multiple_of(config.decoder_heads * config.attention_downsample * 8);
        if fits {
            Ok(config)
        } else {
            Err(fault(format!(
                "`config` in its metadata has sizes that do not fit: {text}"
            )))
        }
    }
}

/// Masks of one slice.
#[derive(Clone, Debug)]
pub struct Masks {
    /// `[prompts, low_res, low_res]` logits.
    pub low_res: Tensor,
    /// `[prompts, 4]`: the predicted Dice first, the rest is padding.
    pub quality: Tensor,
}

/// Image encoder, prompt encoder and mask decoder.
#[derive(Debug)]
pub struct Zeus {
    config: ZeusConfig,
    image_encoder: ImageEncoder,
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
}

impl Zeus {
    /// Loads a checkpoint, every tensor of it.
    ///
    /// # Errors
    /// A configuration or tensor that does not fit, a tensor too many, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config = ZeusConfig::of(checkpoint)?;
        let w = Weights::new(gpu, checkpoint, precision);
        let this = Self {
            image_encoder: ImageEncoder::new(&config, &w.at("image_encoder"))?,
            prompt_encoder: PromptEncoder::new(&config, &w.at("prompt_encoder"))?,
            mask_decoder: MaskDecoder::new(&config, &w.at("mask_decoder"))?,
            config,
        };
        w.finish(&[INSTRUCTION_TOKENS])?;
        Ok(this)
    }

    /// The model's sizes.
    pub fn config(&self) -> &ZeusConfig {
        &self.config
    }

    /// Encodes slices, `[slices, size, size, 4]`, intensities 0 … 1.
    pub fn encode(
        &self,
        rec: &Recorder,
        image: &Tensor,
        keep: impl FnMut(&str, &Tensor),
    ) -> ImageEmbedding {
        self.image_encoder.forward(rec, image, keep)
    }

    /// The pixels that masks are made of, `[slices, low_res, low_res, up_dims[2]]`.
    pub fn upscale(
        &self,
        rec: &Recorder,
        image: &ImageEmbedding,
        keep: impl FnMut(&str, &Tensor),
    ) -> Tensor {
        self.mask_decoder.upscale(rec, image, keep)
    }

    /// Prompt tokens of instructions, `[sentences, prompt_dim]`.
    ///
    /// # Errors
    /// No memory.
    pub fn read(&self, rec: &Recorder, instructions: &Sentences) -> Result<Tensor> {
        self.prompt_encoder.forward(rec, instructions)
    }

    /// What prompts say of slices: `neck` is `[slices, grid, grid, prompt_dim]`, `prompts` are prompt
    /// tokens `[prompts, prompt_dim]`.
    pub fn decode(
        &self,
        rec: &Recorder,
        neck: &Tensor,
        prompts: &Tensor,
        keep: impl FnMut(&str, &Tensor),
    ) -> Decoded {
        self.mask_decoder
            .forward(rec, neck, &self.prompt_encoder.image_pe, prompts, keep)
    }

    /// Everything but the words on one slice: masks of all prompt tokens.
    pub fn forward(
        &self,
        rec: &Recorder,
        image: &Tensor,
        prompts: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Masks {
        let [slices, ..] = image.dims::<4>();
        assert_eq!(slices, 1, "one slice at a time");
        let embedding = self.encode(rec, image, &mut keep);
        let pixels = self.upscale(rec, &embedding, &mut keep);
        let decoded = self.decode(rec, &embedding.neck, prompts, &mut keep);
        let [_, prompts, width] = decoded.hyper.dims();
        let [_, size, _, channels] = pixels.dims();
        let hyper = decoded.hyper.reshape([prompts, width]);
        let masks = matmul(rec, &hyper, &pixels.reshape([size * size, channels]), true);
        Masks {
            low_res: masks.reshape([prompts, size, size]),
            quality: decoded.quality.reshape([prompts, 4]),
        }
    }
}
