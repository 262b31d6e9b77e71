//! Idefics3 (arXiv 2408.12637) and SmolVLM (arXiv 2504.05299): a SigLIP tower, a connector that puts the tokens of a square of
//! places side by side, and a language model of the Llama family.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::models::llama::{Llama, LlamaConfig};
use crate::models::siglip_vision::{SiglipVision, Tiles};
use crate::models::vision::VisionConfig;
use crate::models::{config_json, number, place, table_rows};
use crate::ops::{Activation, Residual, Window, conv};
use crate::tensor::{Checkpoint, Matrix, Precision, Tensor, Weights};

/// What `image_token_id` is if `config.json` does not say it.
const USUAL_IMAGE_TOKEN: u64 = 128_257;

/// The sizes of a model.
#[derive(Clone, Debug)]
pub struct Idefics3Config {
    /// The language model.
    pub text: LlamaConfig,
    /// The tower.
    pub vision: VisionConfig,
    /// Places of a side of the square that becomes one image token.
    pub scale_factor: usize,
    /// What stands for an image token in a text.
    pub image_token_id: u32,
    /// Where the language model's tensors are.
    body: &'static str,
}

impl Idefics3Config {
    /// Reads the `config.json` beside a checkpoint.
    ///
    /// # Errors
    /// Another model, or sizes that do not fit.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let (path, json) = config_json(checkpoint)?;
        let fault = |problem: String| Error::config(&path, problem);
        let body = place(checkpoint, &["model.text_model"], "embed_tokens.weight")?;
        let rows = table_rows(checkpoint, body);
        let mut text = LlamaConfig::of_part(&json["text_config"], rows).map_err(fault)?;
        text.tied |= json["tie_word_embeddings"] == true;
        let vision = SiglipVision::config_of(&json["vision_config"]).map_err(fault)?;
        let scale = number(&json, "scale_factor", 2).map_err(fault)? as usize;
        if scale == 0 || scale > 31 / 2 || !vision.side().is_multiple_of(scale) {
            return Err(fault(format!(
                "`scale_factor` is {scale}, expected 1 to 15 and a divisor of {} patches",
                vision.side()
            )));
        }
        let image_token = number(&json, "image_token_id", USUAL_IMAGE_TOKEN).map_err(fault)?;
        if image_token >= text.vocab_size as u64 {
            return Err(fault(format!(
                "`image_token_id` is {image_token}, beyond the table of {}",
                text.vocab_size
            )));
        }
        Ok(Self {
            text,
            vision,
            scale_factor: scale,
            image_token_id: image_token as u32,
            body,
        })
    }
}

/// What of the model sees: pictures in, image tokens out.
#[derive(Debug)]
pub struct Idefics3 {
    vision_model: SiglipVision,
    connector: Connector,
    /// What stands for an image token in a text.
    pub image_token_id: u32,
}

/// `connector.modality_projection`: each square of `scale_factor` × `scale_factor` tokens becomes one, their columns side by
/// side in row-major order (transformers' `pixel_shuffle`), in the language model's width. That is a convolution whose stride
/// is its kernel, and its taps are in the order of the matrix's columns as they are.
#[derive(Debug)]
struct Connector {
    proj: Matrix,
    /// Zeros: the projection has none.
    bias: Tensor,
    scale_factor: usize,
}

impl Connector {
    fn new([inputs, outputs]: [usize; 2], scale_factor: usize, w: &Weights) -> Result<Self> {
        let proj = w.at("modality_projection").at("proj");
        let columns = scale_factor * scale_factor * inputs;
        Ok(Self {
            proj: proj.matrix("weight", [outputs, columns])?,
            bias: proj.bias(None, outputs)?,
            scale_factor,
        })
    }

    /// x `[images, rows, columns, hidden_size]`, multiples of `scale_factor`; `[image tokens, embedding_length]`.
    fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let window = Window::square(self.scale_factor, self.scale_factor, 0);
        let (proj, bias) = (&self.proj, &self.bias);
        let y = conv(
            rec,
            x,
            &window,
            proj,
            bias,
            Activation::None,
            Residual::None,
        );
        let rows = y.matrix();
        y.reshape(rows)
    }
}

impl Idefics3 {
    /// Loads a folder of Hugging Face's: what sees, and the language model that it speaks to.
    ///
    /// # Errors
    /// Another model, sizes that do not fit, a missing, misshapen or unknown tensor, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<(Self, Llama)> {
        let Idefics3Config {
            text,
            vision,
            scale_factor,
            image_token_id,
            body,
        } = Idefics3Config::of(checkpoint)?;
        let w = Weights::new(gpu, checkpoint, precision);
        let model = w.at("model");
        let widths = [vision.hidden_size, text.embedding_length];
        let tied = text.tied;
        let this = Self {
            connector: Connector::new(widths, scale_factor, &model.at("connector"))?,
            vision_model: SiglipVision::new(vision, &model.at("vision_model"))?,
            image_token_id,
        };
        let llama = Llama::part(text, &w.at(body), &w.at("lm_head"))?;
        let unread = |name: &str| {
            name.ends_with("rotary_emb.inv_freq")
                || name.ends_with("position_ids")
                || (tied && name == "lm_head.weight")
        };
        let names = checkpoint.tensors().map(|entry| entry.name);
        w.finish(&names.filter(|name| unread(name)).collect::<Vec<_>>())?;
        Ok((this, llama))
    }

    /// The tower.
    pub fn vision_model(&self) -> &SiglipVision {
        &self.vision_model
    }

    /// Places of a side of a square that becomes one image token, in pixels: pictures are multiples of it.
    pub fn grain(&self) -> usize {
        self.vision_model.config().patch_size * self.connector.scale_factor
    }

    /// The image tokens of pictures, `[images · tokens of a picture, embedding_length]`. `keep` is shown what
    /// [`SiglipVision::forward`] shows and the result (`connector`).
    ///
    /// # Errors
    /// No memory.
    pub fn forward(
        &self,
        rec: &Recorder,
        tiles: &Tiles,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let [images, height, width, _] = tiles.pixels.dims();
        let patch = self.vision_model.config().patch_size;
        let x = self.vision_model.forward(rec, tiles, &mut keep)?;
        let [_, dim] = x.matrix();
        let x = x.reshape([images, height / patch, width / patch, dim]);
        let y = self.connector.forward(rec, &x);
        keep("connector", &y);
        Ok(y)
    }
}
