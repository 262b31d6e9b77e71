//! SigLIP (arXiv 2303.15343): texts and pictures as vectors that are near where one describes the other, learned pair by pair.
//!
//! A folder of Hugging Face's `SiglipModel`. A text is filled up to the length that the model was trained with, and what fills
//! it is read like its words; a picture is read by one learned query.

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::{LayerNorm, Linear};
use crate::models::clip_text::{ClipText, ClipTextConfig};
use crate::models::siglip_vision::{SiglipVision, Tiles};
use crate::models::vision::VisionConfig;
use crate::models::{check_biases, config_json, likely, logits_per_image, number};
use crate::ops::{Activation, Columns, Heads, attention, copy_rows};
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// The sizes of a model.
#[derive(Clone, Debug)]
pub struct SiglipConfig {
    /// The text tower.
    pub text: ClipTextConfig,
    /// The image tower; its width is that of the vectors.
    pub vision: VisionConfig,
    /// What a text is filled up with.
    pub pad_token_id: u32,
}

impl SiglipConfig {
    /// Reads the `config.json` beside a checkpoint.
    ///
    /// # Errors
    /// Another model, or sizes that do not fit.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let (path, json) = config_json(checkpoint)?;
        Self::of_json(&json).map_err(|problem| Error::config(&path, problem))
    }

    fn of_json(json: &Value) -> std::result::Result<Self, String> {
        let said = json["model_type"].as_str().unwrap_or_default();
        if said != "siglip" {
            return Err(format!("`model_type` is `{said}`, expected `siglip`"));
        }
        let part = |key: &str| match &json[key] {
            Value::Null => json!({}),
            own => own.clone(),
        };
        let text = part("text_config");
        let usual = json!({
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "vocab_size": 32000, "max_position_embeddings": 64, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
            "eos_token_id": 1,
        });
        let vision = part("vision_config");
        if vision["vision_use_head"] == false {
            return Err("`vision_use_head` is false, expected true".into());
        }
        let usual_vision = json!({
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "image_size": 224, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
        });
        let pad = number(&text, "pad_token_id", 1)?;
        let this = Self {
            text: ClipTextConfig::of_usual(&text, &usual)?,
            vision: VisionConfig::of(&vision, &usual_vision)?,
            pad_token_id: u32::try_from(pad).unwrap_or(u32::MAX),
        };
        let rows = this.text.vocab_size;
        if this.pad_token_id as usize >= rows {
            return Err(format!(
                "`pad_token_id` is {pad}, the table has {rows} rows"
            ));
        }
        let projection = number(&text, "projection_size", this.text.hidden_size as u64)?;
        if projection != this.vision.hidden_size as u64 {
            return Err(format!(
                "texts become {projection} values, pictures {}",
                this.vision.hidden_size
            ));
        }
        Ok(this)
    }
}

/// Both towers and what makes vectors of their states, under the checkpoint's names.
#[derive(Debug)]
pub struct Siglip {
    config: SiglipConfig,
    text_model: ClipText,
    /// `text_model.head`.
    text_head: Linear,
    vision_model: SiglipVision,
    /// `vision_model.head`.
    vision_head: PoolingHead,
    /// What cosines are multiplied by, `exp(logit_scale)`, and what is added.
    logits: [f32; 2],
}

impl Siglip {
    /// Loads a checkpoint. One that is no SigLIP is told what it seems to be.
    ///
    /// # Errors
    /// Another model, sizes that do not fit, a missing, misshapen or unknown tensor, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config = SiglipConfig::of(checkpoint)?;
        let named = |error| likely::named(error, checkpoint);
        check_biases(checkpoint, |stem| {
            stem.ends_with("token_embedding") || stem.ends_with("position_embedding")
        })
        .map_err(named)?;
        let w = Weights::new(gpu, checkpoint, precision);
        Self::load(config, &w).map_err(named)
    }

    fn load(config: SiglipConfig, w: &Weights) -> Result<Self> {
        let (text, vision) = (w.at("text_model"), w.at("vision_model"));
        let widths = [config.text.hidden_size, config.vision.hidden_size];
        let this = Self {
            text_model: ClipText::bidirectional(config.text.clone(), &text)?,
            text_head: Linear::new(widths, &text.at("head"))?,
            vision_model: SiglipVision::new(config.vision.clone(), &vision)?,
            vision_head: PoolingHead::new(&config.vision, &vision.at("head"))?,
            logits: [
                w.values("logit_scale", &[1])?[0].exp(),
                w.values("logit_bias", &[1])?[0],
            ],
            config,
        };
        w.finish(&[
            "text_model.embeddings.position_ids",
            "vision_model.embeddings.position_ids",
        ])?;
        Ok(this)
    }

    /// The model's sizes.
    pub fn config(&self) -> &SiglipConfig {
        &self.config
    }

    /// The vectors of texts, given as token ids that are filled up as they were in training: `[texts, vision.hidden_size]`.
    /// `keep` is shown what [`ClipText::forward`] shows.
    ///
    /// # Errors
    /// A text without tokens or too long, an id beyond the table, or no memory.
    pub fn texts(
        &self,
        rec: &Recorder,
        texts: &[Vec<u32>],
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let last = self.text_model.forward(rec, texts, &mut keep)?;
        Ok(self.text_head.forward(rec, &last))
    }

    /// The vectors of pictures `[images, image_size, image_size, 4]`, values from -1 to 1: `[images, hidden_size]`. `keep` is
    /// shown what [`SiglipVision::forward`] shows.
    ///
    /// # Errors
    /// No memory.
    pub fn images(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let [images, ..] = pixels.dims::<4>();
        let side = self.config.vision.side();
        let tiles = Tiles {
            pixels: pixels.clone(),
            covered: vec![[side; 2]; images],
        };
        let tokens = self.vision_model.forward(rec, &tiles, keep)?;
        Ok(self.vision_head.forward(rec, &tokens, images))
    }

    /// How well each text describes each picture, `[images, texts padded to 4]`: the cosine of their vectors, scaled, and the
    /// bias of the sigmoid that makes a probability of it.
    ///
    /// # Errors
    /// No memory.
    pub fn logits_per_image(
        &self,
        rec: &Recorder,
        images: &Tensor,
        texts: &Tensor,
    ) -> Result<Tensor> {
        logits_per_image(rec, images, texts, self.logits)
    }
}

/// `SiglipMultiheadAttentionPoolingHead`: one learned query reads the tokens of a picture, then an MLP.
#[derive(Debug)]
struct PoolingHead {
    /// `[1, hidden_size]`.
    probe: Tensor,
    q: Linear,
    kv: Linear,
    out_proj: Linear,
    layernorm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    hidden_act: Activation,
    heads: Heads,
}

impl PoolingHead {
    fn new(config: &VisionConfig, w: &Weights) -> Result<Self> {
        let (dim, hidden) = (config.hidden_size, config.intermediate_size);
        let (attention, mlp) = (w.at("attention"), w.at("mlp"));
        let names = ["in_proj_weight", "in_proj_bias"];
        let rows = |rows| Linear::rows([dim, 3 * dim], names, rows, &attention);
        Ok(Self {
            probe: w.tensor("probe", [1, 1, dim])?.reshape([1, dim]),
            q: rows(0..dim)?,
            kv: rows(dim..3 * dim)?,
            out_proj: Linear::new([dim, dim], &attention.at("out_proj"))?,
            layernorm: LayerNorm::new(dim, config.layer_norm_eps, &w.at("layernorm"))?,
            fc1: Linear::new([dim, hidden], &mlp.at("fc1"))?,
            fc2: Linear::new([hidden, dim], &mlp.at("fc2"))?,
            hidden_act: config.hidden_act,
            heads: config.heads,
        })
    }

    /// `[images, hidden_size]` of tokens `[images · tokens, hidden_size]`.
    fn forward(&self, rec: &Recorder, tokens: &Tensor, images: usize) -> Tensor {
        let [_, dim] = tokens.matrix();
        let probes = Tensor::empty(rec, [images, dim]);
        copy_rows(rec, &self.probe, &probes, images, 0, 1);
        let q = self.q.forward(rec, &probes);
        let kv = self.kv.forward(rec, tokens);
        let (k, v) = (Columns::from(&kv, 0), Columns::from(&kv, dim));
        let read = attention(rec, Columns::all(&q), k, v, self.heads, images, false);
        let x = self.out_proj.forward(rec, &read);
        let normed = self.layernorm.forward(rec, &x);
        let hidden = self.fc1.activated(rec, &normed, self.hidden_act);
        self.fc2.added(rec, &hidden, &x)
    }
}
