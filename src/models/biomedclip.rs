//! BiomedCLIP (arXiv 2303.00915): a ViT-B/16 and PubMedBERT into one space, under open_clip's names.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::Linear;
use crate::models::bert::{self, Bert, BertConfig, Pooling};
use crate::models::shapes::Shapes;
use crate::models::vit::{Vit, VitConfig};
use crate::models::{check_biases, check_embedding, json_beside, likely, unit_rows};
use crate::ops::Activation;
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// What open_clip writes beside its weights.
const CONFIG: &str = "open_clip_config.json";
/// Tokens of a text, its special ones included, as open_clip cuts it where `open_clip_config.json` says nothing.
const CONTEXT_LENGTH: usize = 256;

/// Both towers in numbers.
#[derive(Clone, Debug)]
pub struct BiomedClipConfig {
    /// `visual.trunk`.
    pub vision: VitConfig,
    /// `text.transformer`.
    pub text: BertConfig,
    /// Width of an embedding.
    pub embed_dim: usize,
    /// Width between the layers of the text's projection.
    pub proj_dim: usize,
    /// Tokens of a text.
    pub context_length: usize,
}

impl BiomedClipConfig {
    /// Reads a checkpoint's shapes, and whether `open_clip_config.json`, where one is beside it, says the same.
    ///
    /// # Errors
    /// A missing tensor, sizes that do not fit, or a configuration of something else.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let shapes = Shapes {
            checkpoint,
            kind: "BiomedCLIP",
        };
        let [embed_dim, _] = shapes.of("visual.head.proj.weight")?;
        let [proj_dim, _] = shapes.of("text.proj.0.weight")?;
        let mut config = Self {
            vision: VitConfig::of_shapes(&shapes, "visual.trunk")?,
            text: BertConfig::of_shapes(&shapes, "text.transformer")?,
            embed_dim,
            proj_dim,
            context_length: CONTEXT_LENGTH,
        };
        check_embedding(embed_dim)
            .and_then(|()| check_embedding(proj_dim))
            .map_err(|problem| Error::weights(checkpoint.path(), problem))?;
        if checkpoint.folder().join(CONFIG).is_file() {
            config.read_json(checkpoint)?;
        }
        Ok(config)
    }

    fn read_json(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let (path, json) = json_beside(checkpoint, CONFIG)?;
        let fault = |problem: String| Err(Error::config(&path, problem));
        let model = &json["model_cfg"];
        let (vision, text) = (&model["vision_cfg"], &model["text_cfg"]);
        for (part, key, known) in [
            (vision, "timm_pool", ""),
            (vision, "timm_proj", "linear"),
            (text, "hf_proj_type", "mlp"),
            (text, "hf_pooler_type", "cls_last_hidden_state_pooler"),
        ] {
            let said = &part[key];
            if !said.is_null() && said != known {
                return fault(format!("`{key}` is {said}, expected `{known}`"));
            }
        }
        for (part, key, found) in [
            (model, "embed_dim", self.embed_dim),
            (vision, "image_size", self.vision.image_size),
        ] {
            let said = &part[key];
            if !said.is_null() && said.as_u64() != Some(found as u64) {
                return fault(format!(
                    "`{key}` is {said}, the tensors are those of {found}"
                ));
            }
        }
        match &text["context_length"] {
            serde_json::Value::Null => {}
            said => match said.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) if (3..=self.text.longest()).contains(&n) => self.context_length = n,
                _ => {
                    let most = self.text.longest();
                    return fault(format!("`context_length` is {said}, expected 3 to {most}"));
                }
            },
        }
        Ok(())
    }
}

/// `text`: PubMedBERT, and two layers with GELU between on its first state.
#[derive(Debug)]
pub(super) struct TextTower {
    transformer: Bert,
    /// `proj.0` and `proj.2`.
    proj: [Linear; 2],
}

/// The layers of [`TextTower`] that have no bias, below its place.
pub(super) const TEXT_WITHOUT_BIAS: [&str; 2] = ["proj.0", "proj.2"];

impl TextTower {
    /// The tensors below `w`; `middle` columns between the layers of the projection, `embed` behind it.
    pub(super) fn load(
        config: BertConfig,
        [middle, embed]: [usize; 2],
        w: &Weights,
    ) -> Result<Self> {
        let proj = w.at("proj");
        Ok(Self {
            proj: [
                Linear::new([config.hidden_size, middle], &proj.at(0))?,
                Linear::new([middle, embed], &proj.at(2))?,
            ],
            transformer: Bert::load(config, &w.at("transformer"))?,
        })
    }

    /// Texts as vectors of any length, `[texts, embed_dim]`.
    pub(super) fn forward(
        &self,
        rec: &Recorder,
        texts: &[Vec<u32>],
        keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let sentences = self.transformer.forward(rec, texts, keep)?;
        let class = self.transformer.pooled(rec, &sentences, Pooling::Cls)?;
        let [first, second] = &self.proj;
        let hidden = first.activated(rec, &class, Activation::Gelu);
        Ok(second.forward(rec, &hidden))
    }
}

/// Both towers and their projections.
#[derive(Debug)]
pub struct BiomedClip {
    config: BiomedClipConfig,
    trunk: Vit,
    /// `visual.head.proj`.
    head: Linear,
    text: TextTower,
    logit_scale: f32,
}

impl BiomedClip {
    /// Loads a checkpoint. One that is no BiomedCLIP is told what it seems to be.
    ///
    /// # Errors
    /// A missing, misshapen or unknown tensor, sizes that do not fit, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let load = || {
            let config = BiomedClipConfig::of(checkpoint)?;
            check_biases(checkpoint, |stem| {
                let text = stem.strip_prefix("text.");
                stem == "visual.head.proj"
                    || text.is_some_and(|stem| TEXT_WITHOUT_BIAS.contains(&stem))
                    || bert::is_without_bias(stem)
            })?;
            let w = Weights::new(gpu, checkpoint, precision);
            let visual = w.at("visual");
            let widths = [config.proj_dim, config.embed_dim];
            let this = Self {
                trunk: Vit::load(config.vision.clone(), &visual.at("trunk"))?,
                head: Linear::new(
                    [config.vision.dim, config.embed_dim],
                    &visual.at("head").at("proj"),
                )?,
                text: TextTower::load(config.text.clone(), widths, &w.at("text"))?,
                logit_scale: w.values("logit_scale", &[])?[0].exp(),
                config,
            };
            let names = checkpoint.tensors().map(|entry| entry.name);
            let left: Vec<&str> = names.filter(|name| bert::is_position_ids(name)).collect();
            w.finish(&left)?;
            Ok(this)
        };
        load().map_err(|error| likely::named(error, checkpoint))
    }

    /// Its sizes.
    pub fn config(&self) -> &BiomedClipConfig {
        &self.config
    }

    /// What cosines are multiplied by to be logits.
    pub fn logit_scale(&self) -> f32 {
        self.logit_scale
    }

    /// Embeddings of unit length, `[images, embed_dim]`, of pictures `[images, image_size, image_size, 4]`, normalised as CLIP
    /// does. `keep` is shown what [`Vit::forward`] shows.
    ///
    /// # Errors
    /// No memory.
    pub fn encode_image(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let class = self.trunk.forward(rec, pixels, keep);
        unit_rows(rec, &self.head.forward(rec, &class))
    }

    /// Embeddings of unit length, `[texts, embed_dim]`, of texts given as token ids that include the special tokens. `keep` is
    /// shown what [`Bert::forward`] shows.
    ///
    /// # Errors
    /// A text without tokens or too long, an id beyond the table, or no memory.
    pub fn encode_text(
        &self,
        rec: &Recorder,
        texts: &[Vec<u32>],
        keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        unit_rows(rec, &self.text.forward(rec, texts, keep)?)
    }
}
