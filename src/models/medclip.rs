//! MedCLIP (arXiv 2210.10163): Swin-T and BioClinicalBERT into one space, under the names of its own repository.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::Linear;
use crate::models::bert::{self, Bert, BertConfig};
use crate::models::shapes::Shapes;
use crate::models::swin::{self, Swin, SwinConfig};
use crate::models::{check_biases, check_embedding, likely, unit_rows};
use crate::ops::{add, mean_pool};
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// The largest logarithm of what cosines are multiplied by: about 100, as CLIP has it.
const LARGEST_LOGIT_SCALE: f32 = 4.6052;
/// Where both projections lie.
const HEADS: [&str; 2] = ["vision_model.projection_head", "text_model.projection_head"];

/// Both towers in numbers.
#[derive(Clone, Debug)]
pub struct MedClipConfig {
    /// `vision_model.model`.
    pub vision: SwinConfig,
    /// `text_model.model`.
    pub text: BertConfig,
    /// Width of an embedding.
    pub proj_dim: usize,
}

impl MedClipConfig {
    /// Reads a checkpoint's shapes: MedCLIP comes without a configuration.
    ///
    /// # Errors
    /// A missing tensor, or sizes that do not fit.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let fault = |problem: String| Err(Error::weights(checkpoint.path(), problem));
        if checkpoint.tensor("vision_model.model.fc.weight").is_some() {
            return fault("its vision model is a ResNet, expected a Swin: MedCLIP-ViT".into());
        }
        let shapes = Shapes {
            checkpoint,
            kind: "MedCLIP-ViT",
        };
        let [proj_dim, _] = shapes.of(&format!("{}.weight", HEADS[0]))?;
        // Only without one a sum may stand for a mean.
        for head in HEADS {
            let bias = format!("{head}.bias");
            if checkpoint.tensor(&bias).is_some() {
                return fault(format!("has tensor `{bias}`, expected none"));
            }
        }
        let config = Self {
            vision: SwinConfig::of_shapes(&shapes, "vision_model.model")?,
            text: BertConfig::of_shapes(&shapes, "text_model.model")?,
            proj_dim,
        };
        if let Err(problem) = check_embedding(proj_dim) {
            return fault(problem);
        }
        if config.text.num_hidden_layers < 2 {
            return fault("a text model of one layer, expected two or more".into());
        }
        Ok(config)
    }
}

/// Both towers and their projections.
#[derive(Debug)]
pub struct MedClip {
    config: MedClipConfig,
    vision_model: Swin,
    vision_projection: Linear,
    text_model: Bert,
    text_projection: Linear,
    logit_scale: f32,
}

impl MedClip {
    /// What grey levels of 0 to 1 are normalised by: their mean and standard deviation.
    pub const NORMALISED_BY: [f32; 2] = [0.586_278_6, 0.279_500_9];

    /// Loads a checkpoint. One that is no MedCLIP is told what it seems to be.
    ///
    /// # Errors
    /// A missing, misshapen or unknown tensor, sizes that do not fit, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let load = || {
            let config = MedClipConfig::of(checkpoint)?;
            check_biases(checkpoint, |stem| {
                HEADS.contains(&stem)
                    || swin::is_without_bias(stem, true)
                    || bert::is_without_bias(stem)
            })?;
            let w = Weights::new(gpu, checkpoint, precision);
            let (vision, text) = (w.at("vision_model"), w.at("text_model"));
            let (vision_dim, text_dim) = (config.vision.hidden_size(), config.text.hidden_size);
            let head =
                |dim, w: &Weights| Linear::new([dim, config.proj_dim], &w.at("projection_head"));
            let this = Self {
                vision_model: Swin::load(config.vision.clone(), &vision.at("model"))?,
                vision_projection: head(vision_dim, &vision)?,
                text_model: Bert::load(config.text.clone(), &text.at("model"))?,
                text_projection: head(text_dim, &text)?,
                logit_scale: w.values("logit_scale", &[])?[0]
                    .clamp(0.0, LARGEST_LOGIT_SCALE)
                    .exp(),
                config,
            };
            let names = checkpoint.tensors().map(|entry| entry.name);
            let left = |name: &&str| bert::is_position_ids(name) || swin::is_position_index(name);
            let left: Vec<&str> = names.filter(left).collect();
            w.finish(&left)?;
            Ok(this)
        };
        load().map_err(|error| likely::named(error, checkpoint))
    }

    /// Its sizes.
    pub fn config(&self) -> &MedClipConfig {
        &self.config
    }

    /// What cosines are multiplied by to be logits.
    pub fn logit_scale(&self) -> f32 {
        self.logit_scale
    }

    /// Embeddings of unit length, `[images, proj_dim]`, of pictures `[images, height, width, 4]`: the grey level three times,
    /// normalised, and nothing. `keep` is shown what [`Swin::forward`] shows.
    ///
    /// # Errors
    /// A picture that is too small, or no memory.
    pub fn encode_image(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let features = self.vision_model.forward(rec, pixels, keep)?;
        unit_rows(rec, &self.vision_projection.forward(rec, &features.pooled))
    }

    /// Embeddings of unit length, `[texts, proj_dim]`, of texts given as token ids that include the special tokens. `keep` is
    /// shown what [`Bert::forward`] shows.
    ///
    /// A text is the mean of its tokens' states after layers 1, 2 and the last. MedCLIP's own code counts the padding among the
    /// tokens where texts of different lengths are read at once; here each is read as if it were alone.
    ///
    /// # Errors
    /// A text without tokens or too long, an id beyond the table, or no memory.
    pub fn encode_text(
        &self,
        rec: &Recorder,
        texts: &[Vec<u32>],
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let mut early = Vec::new();
        let sentences = self.text_model.forward(rec, texts, |name, states| {
            if ["hidden1", "hidden2"].contains(&name) {
                early.push(states.clone());
            }
            keep(name, states);
        })?;
        // Their sum, at unit length over the tokens: what follows has no bias and is scaled again.
        let mut sum = sentences.states;
        for states in early {
            sum = add(rec, &sum, &states);
        }
        let mean = mean_pool(rec, &sum, &sentences.spans);
        unit_rows(rec, &self.text_projection.forward(rec, &mean))
    }
}
