//! LLaVA 1.5 (arXiv 2310.03744): a CLIP tower, an MLP of two layers, and a language model of the Llama family.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::Linear;
use crate::models::clip_vision::{ClipVision, without_class};
use crate::models::llama::{Llama, LlamaConfig};
use crate::models::vision::{VisionConfig, activation};
use crate::models::{config_json, number, place, table_rows};
use crate::ops::Activation;
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// What `image_token_index` is if `config.json` does not say it.
const USUAL_IMAGE_TOKEN: u64 = 32_000;

/// The sizes of a model.
#[derive(Clone, Debug)]
pub struct LlavaConfig {
    /// The language model.
    pub text: LlamaConfig,
    /// The tower.
    pub vision: VisionConfig,
    /// Whether the class token is read too (`vision_feature_select_strategy` is `full`).
    pub full: bool,
    /// What stands for an image token in a text.
    pub image_token_id: u32,
    /// What follows the first layer of the projector.
    act: Activation,
    /// Blocks of the tower that are computed.
    count: usize,
    places: Places,
}

/// Below which names the parts lie: releases of transformers differ.
#[derive(Clone, Copy, Debug)]
struct Places {
    body: &'static str,
    head: &'static str,
    tower: &'static str,
    projector: &'static str,
}

impl LlavaConfig {
    /// Reads the `config.json` beside a checkpoint.
    ///
    /// # Errors
    /// Another model, or sizes that do not fit.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let (path, json) = config_json(checkpoint)?;
        let fault = |problem: String| Error::config(&path, problem);
        let body = place(
            checkpoint,
            &["language_model.model", "model.language_model"],
            "embed_tokens.weight",
        )?;
        let head = match body {
            "language_model.model" => "language_model.lm_head",
            _ => "lm_head",
        };
        let tower = place(
            checkpoint,
            &[
                "vision_tower.vision_model",
                "model.vision_tower.vision_model",
                "vision_tower",
                "model.vision_tower",
            ],
            "embeddings.class_embedding",
        )?;
        let projector = place(
            checkpoint,
            &["multi_modal_projector", "model.multi_modal_projector"],
            "linear_1.weight",
        )?;
        let rows = table_rows(checkpoint, body);
        let mut text = LlamaConfig::of_part(&json["text_config"], rows).map_err(fault)?;
        text.tied |= json["tie_word_embeddings"] == true;
        let part = &json["vision_config"];
        if let Some(kind) = part["model_type"]
            .as_str()
            .filter(|k| *k != "clip_vision_model")
        {
            return Err(fault(format!(
                "`vision_config`: `model_type` is `{kind}`, expected `clip_vision_model`"
            )));
        }
        let vision = ClipVision::config_of(part).map_err(fault)?;
        let count = blocks(&json, vision.num_hidden_layers).map_err(fault)?;
        let full = match json["vision_feature_select_strategy"].as_str() {
            None | Some("default") => false,
            Some("full") => true,
            Some(other) => {
                return Err(fault(format!(
                    "`vision_feature_select_strategy` is `{other}`, expected `default` or `full`"
                )));
            }
        };
        let act = json["projector_hidden_act"].as_str().unwrap_or("gelu");
        let act = activation("projector_hidden_act", act).map_err(fault)?;
        let key = match json["image_token_id"] {
            Value::Null => "image_token_index",
            _ => "image_token_id",
        };
        let image_token = number(&json, key, USUAL_IMAGE_TOKEN).map_err(fault)?;
        if image_token >= text.vocab_size as u64 {
            return Err(fault(format!(
                "`{key}` is {image_token}, beyond the table of {}",
                text.vocab_size
            )));
        }
        Ok(Self {
            text,
            vision,
            full,
            image_token_id: image_token as u32,
            act,
            count,
            places: Places {
                body,
                head,
                tower,
                projector,
            },
        })
    }
}

/// What of the model sees: pictures in, image tokens out.
#[derive(Debug)]
pub struct Llava {
    vision_tower: ClipVision,
    multi_modal_projector: Projector,
    /// Whether the class token is read too (`vision_feature_select_strategy` is `full`).
    full: bool,
    /// What stands for an image token in a text.
    pub image_token_id: u32,
}

/// `multi_modal_projector`.
#[derive(Debug)]
struct Projector {
    linear_1: Linear,
    linear_2: Linear,
    act: Activation,
}

impl Projector {
    fn new([inputs, outputs]: [usize; 2], act: Activation, w: &Weights) -> Result<Self> {
        Ok(Self {
            linear_1: Linear::new([inputs, outputs], &w.at("linear_1"))?,
            linear_2: Linear::new([outputs, outputs], &w.at("linear_2"))?,
            act,
        })
    }

    fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let hidden = self.linear_1.activated(rec, x, self.act);
        self.linear_2.forward(rec, &hidden)
    }
}

impl Llava {
    /// Loads a folder of Hugging Face's: what sees, and the language model that it speaks to. Blocks of the tower after the
    /// layer that is read are not loaded.
    ///
    /// # Errors
    /// Another model, sizes that do not fit, a missing, misshapen or unknown tensor, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<(Self, Llama)> {
        let LlavaConfig {
            text,
            vision,
            full,
            image_token_id,
            act,
            count,
            places,
        } = LlavaConfig::of(checkpoint)?;
        let Places {
            body,
            head,
            tower,
            projector,
        } = places;
        let w = Weights::new(gpu, checkpoint, precision);
        let widths = [vision.hidden_size, text.embedding_length];
        let (tied, all) = (text.tied, vision.num_hidden_layers);
        let this = Self {
            multi_modal_projector: Projector::new(widths, act, &w.at(projector))?,
            vision_tower: ClipVision::new(vision, count, &w.at(tower))?,
            full,
            image_token_id,
        };
        let llama = Llama::part(text, &w.at(body), &w.at(head))?;
        let later: Vec<String> = (count..all)
            .map(|n| format!("{tower}.encoder.layers.{n}."))
            .chain([format!("{tower}.post_layernorm.")])
            .collect();
        let unread = |name: &str| {
            name.ends_with("rotary_emb.inv_freq")
                || name.ends_with("position_ids")
                || (tied && name == format!("{head}.weight"))
                || later.iter().any(|later| name.starts_with(later))
        };
        let names = checkpoint.tensors().map(|entry| entry.name);
        w.finish(&names.filter(|name| unread(name)).collect::<Vec<_>>())?;
        Ok((this, llama))
    }

    /// The tower.
    pub fn vision_tower(&self) -> &ClipVision {
        &self.vision_tower
    }

    /// The image tokens of pictures, `[images · tokens of a picture, embedding_length]`. `pixels` is what
    /// [`ClipVision::forward`] takes; `keep` is shown what it shows and the result (`connector`).
    pub fn forward(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Tensor {
        let [images, ..] = pixels.dims::<4>();
        let tokens = self.vision_tower.tokens();
        let x = self.vision_tower.forward(rec, pixels, &mut keep);
        let y = self.multi_modal_projector.forward(rec, &x);
        // It looks at each token by itself: the class token may go after it.
        let y = match self.full {
            true => y,
            false => without_class(rec, &y, images, tokens),
        };
        keep("connector", &y);
        y
    }
}

/// How many blocks lie before the states that `vision_feature_layer` names: among those after each block and those before
/// the first, a number from 0 on, or from the end where it is negative.
fn blocks(json: &Value, all: usize) -> std::result::Result<usize, String> {
    let layer = match &json["vision_feature_layer"] {
        Value::Null => -2,
        value => value.as_i64().ok_or_else(|| {
            format!("`vision_feature_layer` is {value}; several layers are not supported")
        })?,
    };
    let states = all as i64 + 1;
    let at = if layer < 0 { layer + states } else { layer };
    match (0..states).contains(&at) {
        true => Ok(at as usize),
        false => Err(format!(
            "`vision_feature_layer` is {layer}, expected -{states} to {all}"
        )),
    }
}
