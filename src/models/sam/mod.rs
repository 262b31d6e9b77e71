//! SAM, Segment Anything (arXiv 2304.02643): an image encoder that runs once a picture, and a decoder that runs once a prompt.
//!
//! ViT-B, L and H, and what was trained further from them, such as MedSAM (arXiv 2304.12306); MobileSAM (arXiv 2306.14289), whose
//! image encoder is a TinyViT. A checkpoint is a folder of Hugging Face's `SamModel` or a safetensors file with segment-anything's
//! names; the sizes are those of its tensors.

mod config;
mod image_encoder;
mod mask_decoder;
mod names;
mod prompt_encoder;
mod tiny_vit;
mod vit;

pub use config::{EncoderConfig, SamConfig, VitConfig};
pub use image_encoder::ImageEncoder;
pub use mask_decoder::{MaskDecoder, Masks};
pub use prompt_encoder::{Prompt, PromptEncoder};
pub use tiny_vit::{StageConfig, TinyVitConfig};

use crate::error::Result;
use crate::gpu::{Gpu, Recorder};
use crate::models::{check_biases, likely};
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};
use names::{Names, SHARED};

/// Image encoder, prompt encoder and mask decoder.
#[derive(Debug)]
pub struct Sam {
    config: SamConfig,
    image_encoder: ImageEncoder,
    prompt_encoder: PromptEncoder,
    mask_decoder: MaskDecoder,
}

impl Sam {
    /// Loads a checkpoint. One that is no SAM is told what it seems to be.
    ///
    /// # Errors
    /// A missing, misshapen or unknown tensor, sizes that do not fit, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let names = Names::of(checkpoint)?;
        let named = |error| likely::named(error, checkpoint);
        let config = SamConfig::of(checkpoint, &names).map_err(named)?;
        check_biases(checkpoint, without_bias(&names, &config.encoder)).map_err(named)?;
        let w = Weights::new(gpu, checkpoint, precision);
        let this = Self::load(config, &names, &w).map_err(named)?;
        let left = |name: &&str| match names.tiny_vit {
            true => tiny_vit::is_unused(name),
            false => names.hugging_face && SHARED.contains(name),
        };
        let tensors = checkpoint.tensors().map(|entry| entry.name);
        let left: Vec<&str> = tensors.filter(left).collect();
        w.finish(&left).map_err(named)?;
        Ok(this)
    }

    fn load(config: SamConfig, names: &Names, w: &Weights) -> Result<Self> {
        Ok(Self {
            image_encoder: ImageEncoder::new(&config, names, &w.at(names.image_encoder))?,
            prompt_encoder: PromptEncoder::new(&config, names, w)?,
            mask_decoder: MaskDecoder::new(&config, names, &w.at("mask_decoder"))?,
            config,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &SamConfig {
        &self.config
    }

    /// The image tokens of pictures `[images, image_size, image_size, 4]`: `[images, grid, grid, prompt_dim]`. `keep` is shown
    /// what [`ImageEncoder::forward`] shows.
    pub fn encode(
        &self,
        rec: &Recorder,
        image: &Tensor,
        keep: impl FnMut(&str, &Tensor),
    ) -> Tensor {
        self.image_encoder.forward(rec, image, keep)
    }

    /// The masks of prompts on an encoded picture `[1, grid, grid, prompt_dim]`; `masks` are logits that go with them,
    /// `[prompts, low_res, low_res, 4]`, the last dimension padded. `keep` is shown the prompts' tokens (`sparse`), and what
    /// [`MaskDecoder::forward`] shows.
    ///
    /// # Errors
    /// No memory.
    ///
    /// # Panics
    /// If there is no prompt, if the prompts have not as many points each or some of them a box, or if there are not as
    /// many masks.
    pub fn decode(
        &self,
        rec: &Recorder,
        image: &Tensor,
        prompts: &[Prompt],
        masks: Option<&Tensor>,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Masks> {
        let (count, side) = (prompts.len(), self.config.low_res());
        assert!(count > 0, "no prompt");
        if let Some(masks) = masks {
            masks.expect([count, side, side, 4]);
        }
        let positions = self.prompt_encoder.image_pe(rec)?;
        let sparse = self.prompt_encoder.sparse(rec, prompts)?;
        if let Some(sparse) = &sparse {
            keep("sparse", sparse);
        }
        let dense = self.prompt_encoder.dense(rec, image, count, masks);
        let decoder = &self.mask_decoder;
        Ok(decoder.forward(rec, dense, &positions, sparse.as_ref(), keep))
    }
}

impl Sam {
    /// The masks of prompts that are tokens already, such as what an instruction became (Zeus): `tokens` is
    /// `[prompts · tokens of each, prompt_dim]`, `image` and `keep` are those of [`Sam::decode`].
    ///
    /// # Errors
    /// No memory.
    pub fn decode_tokens(
        &self,
        rec: &Recorder,
        image: &Tensor,
        prompts: usize,
        tokens: &Tensor,
        keep: impl FnMut(&str, &Tensor),
    ) -> Result<Masks> {
        let positions = self.prompt_encoder.image_pe(rec)?;
        let dense = self.prompt_encoder.dense(rec, image, prompts, None);
        let decoder = &self.mask_decoder;
        Ok(decoder.forward(rec, dense, &positions, Some(tokens), keep))
    }
}

/// Which of SAM's layers have a weight alone: the neck's convolutions, rows that are read as they are, q, k and v where the ViT's
/// configuration says so, and a TinyViT's convolutions before batch norms.
fn without_bias(names: &Names, encoder: &EncoderConfig) -> impl Fn(&str) -> bool {
    let rows = ["_token", "_tokens", "not_a_point_embed", "no_mask_embed"];
    let points = format!("prompt_encoder.{}.", names.point_embeddings);
    let neck = [names.neck[0], names.neck[2]];
    let own = match encoder {
        EncoderConfig::Vit(vit) => (!vit.qkv_bias).then_some("attn.qkv"),
        EncoderConfig::TinyVit(_) => Some(".c"),
    };
    move |stem: &str| {
        let ends = |end: &str| stem.ends_with(end);
        neck.into_iter().chain(rows).chain(own).any(ends) || stem.starts_with(&points)
    }
}
