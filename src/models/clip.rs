//! CLIP (arXiv 2103.00020): texts and pictures as vectors that are near where one describes the other.
//!
//! ViT-B/32, B/16 and L/14: a folder of Hugging Face's `CLIPModel`.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::{LayerNorm, Linear};
use crate::models::clip_text::{ClipText, ClipTextConfig};
use crate::models::clip_vision::ClipVision;
use crate::models::vision::VisionConfig;
use crate::models::{check_biases, config_json, likely, logits_per_image, number};
use crate::ops::gather_rows;
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// The most columns of a projection.
const WIDEST_PROJECTION: usize = 1 << 14;

/// The sizes of a model.
#[derive(Clone, Debug)]
pub struct ClipConfig {
    /// The text tower.
    pub text: ClipTextConfig,
    /// The image tower.
    pub vision: VisionConfig,
    /// Width of the vectors that texts and pictures become.
    pub projection_dim: usize,
}

impl ClipConfig {
    /// Reads the `config.json` beside a checkpoint.
    ///
    /// # Errors
    /// Another model, or sizes that do not fit.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let (path, json) = config_json(checkpoint)?;
        Self::of_json(&json, "clip").map_err(|problem| Error::config(&path, problem))
    }

    /// The same of a `config.json` of that `model_type`.
    ///
    /// # Errors
    /// As [`ClipConfig::of`], in words that the file goes before.
    pub(super) fn of_json(json: &Value, model: &str) -> std::result::Result<Self, String> {
        let said = json["model_type"].as_str().unwrap_or_default();
        if said != model {
            return Err(format!("`model_type` is `{said}`, expected `{model}`"));
        }
        let text = part(json, "text_config", &ClipTextConfig::usual());
        let vision = part(json, "vision_config", &ClipVision::usual());
        let projection = number(json, "projection_dim", 512)?;
        let projection = usize::try_from(projection).unwrap_or(usize::MAX);
        if !(1..=WIDEST_PROJECTION).contains(&projection) || !projection.is_multiple_of(4) {
            return Err(format!(
                "`projection_dim` is {projection}, expected a multiple of 4 up to {WIDEST_PROJECTION}"
            ));
        }
        Ok(Self {
            text: ClipTextConfig::of(&text)?,
            vision: ClipVision::config_of(&vision)?,
            projection_dim: projection,
        })
    }
}

/// A part of `config.json`. Early files have it twice; what `…_dict` says holds then, and what is usual where it is silent, as
/// transformers has it.
fn part(json: &Value, key: &str, usual: &Value) -> Value {
    let own = match &json[key] {
        Value::Null => Value::Object(serde_json::Map::new()),
        own => own.clone(),
    };
    match (own, usual, &json[format!("{key}_dict")]) {
        (Value::Object(mut own), Value::Object(usual), Value::Object(dict)) => {
            own.extend(usual.clone());
            own.extend(dict.clone());
            Value::Object(own)
        }
        (own, ..) => own,
    }
}

/// Both towers and what brings their states to one width, under the checkpoint's names.
#[derive(Debug)]
pub struct Clip {
    config: ClipConfig,
    text_model: ClipText,
    vision_model: ClipVision,
    /// `vision_model.post_layernorm`.
    post_layernorm: LayerNorm,
    text_projection: Linear,
    visual_projection: Linear,
    /// What cosines are multiplied by: `exp(logit_scale)`.
    scale: f32,
}

impl Clip {
    /// Loads a checkpoint. One that is no CLIP is told what it seems to be.
    ///
    /// # Errors
    /// Another model, sizes that do not fit, a missing, misshapen or unknown tensor, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config = ClipConfig::of(checkpoint)?;
        let named = |error| likely::named(error, checkpoint);
        check_biases(checkpoint, without_bias).map_err(named)?;
        let w = Weights::new(gpu, checkpoint, precision);
        Self::load(config, &w).map_err(named)
    }

    fn load(config: ClipConfig, w: &Weights) -> Result<Self> {
        let ClipConfig {
            text,
            vision,
            projection_dim,
        } = config.clone();
        let tower = w.at("vision_model");
        let (dim, eps) = (vision.hidden_size, vision.layer_norm_eps);
        let all = vision.num_hidden_layers;
        let this = Self {
            text_projection: Linear::new(
                [text.hidden_size, projection_dim],
                &w.at("text_projection"),
            )?,
            visual_projection: Linear::new([dim, projection_dim], &w.at("visual_projection"))?,
            text_model: ClipText::new(text, &w.at("text_model"))?,
            vision_model: ClipVision::new(vision, all, &tower)?,
            post_layernorm: LayerNorm::new(dim, eps, &tower.at("post_layernorm"))?,
            scale: w.values("logit_scale", &[])?[0].exp(),
            config,
        };
        w.finish(&POSITION_IDS)?;
        Ok(this)
    }

    /// The model's sizes.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// The vectors of texts, given as token ids with their first and last: `[texts, projection_dim]`. `keep` is shown what
    /// [`ClipText::forward`] shows.
    ///
    /// # Errors
    /// A text without tokens or too long, an id beyond the table, or no memory.
    pub fn texts(
        &self,
        rec: &Recorder,
        texts: &[Vec<u32>],
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let pooled = self.text_model.forward(rec, texts, &mut keep)?;
        Ok(self.text_projection.forward(rec, &pooled))
    }

    /// The vectors of pictures, `[images, projection_dim]`: their class tokens, normed and projected. `pixels` and `keep` are
    /// those of [`ClipVision::forward`].
    pub fn images(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        keep: impl FnMut(&str, &Tensor),
    ) -> Tensor {
        let [images, ..] = pixels.dims::<4>();
        let x = self.vision_model.forward(rec, pixels, keep);
        let class = gather_rows(rec, &x, images, 0, self.vision_model.tokens());
        let pooled = self.post_layernorm.forward(rec, &class);
        self.visual_projection.forward(rec, &pooled)
    }

    /// How well each text describes each picture, `[images, texts padded to 4]`: the cosine of their vectors, scaled.
    ///
    /// # Errors
    /// No memory.
    pub fn logits_per_image(
        &self,
        rec: &Recorder,
        images: &Tensor,
        texts: &Tensor,
    ) -> Result<Tensor> {
        logits_per_image(rec, images, texts, [self.scale, 0.0])
    }
}

/// What older files keep and no model reads: 0, 1, 2 …
const POSITION_IDS: [&str; 2] = [
    "text_model.embeddings.position_ids",
    "vision_model.embeddings.position_ids",
];

/// Which of CLIP's layers have a weight alone: tables, patches and projections.
pub(super) fn without_bias(stem: &str) -> bool {
    stem.ends_with("_embedding")
        || stem.ends_with("text_projection")
        || stem.ends_with("visual_projection")
}
