//! What the towers of SigLIP and CLIP have in common: sizes from `config.json`, and pre-norm transformer blocks (ViT, arXiv
//! 2010.11929) under the names that they share. CLIP's text tower is made of them too.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{LayerNorm, Linear};
use crate::ops::{Activation, Columns, Heads, Scores, attention, attention_spans, can_cut};
use crate::tensor::{Tensor, Weights};

/// The largest patch side.
pub(super) const LARGEST_PATCH: usize = 64;
/// The widest head that the attention kernels take.
pub(super) const WIDEST_HEAD: usize = 128;

/// The sizes of a vision tower, called as `vision_config` calls them.
#[derive(Clone, Debug)]
pub struct VisionConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads, and their width.
    pub heads: Heads,
    /// Side of the square picture that the positions were learned for, in pixels.
    pub image_size: usize,
    /// Side of the square that becomes a token, in pixels.
    pub patch_size: usize,
    /// What follows the first layer of the MLP.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f32,
}

/// `vision_config`, as far as it matters here.
#[derive(Deserialize)]
struct Json {
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    image_size: u64,
    patch_size: u64,
    hidden_act: String,
    layer_norm_eps: f64,
    num_channels: Option<u64>,
}

impl VisionConfig {
    /// Reads `vision_config`; what it does not say is `usual`.
    ///
    /// # Errors
    /// Sizes that do not fit, in words that `config.json` goes before.
    pub(super) fn of(part: &Value, usual: &Value) -> std::result::Result<Self, String> {
        let Value::Object(given) = part else {
            return Err("`vision_config` is no object".into());
        };
        let mut all: Map<String, Value> = usual.as_object().cloned().unwrap_or_default();
        all.extend(given.clone());
        serde_json::from_value::<Json>(Value::Object(all))
            .map_err(|e| e.to_string())
            .and_then(|json| json.config())
            .map_err(|problem| format!("`vision_config`: {problem}"))
    }

    /// Tokens along a side of the picture that the positions were learned for.
    pub fn side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// The sizes of its blocks.
    pub(super) fn block(&self) -> BlockConfig {
        BlockConfig {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            heads: self.heads,
            hidden_act: self.hidden_act,
            layer_norm_eps: self.layer_norm_eps,
        }
    }
}

/// The sizes of a transformer block.
#[derive(Clone, Debug)]
pub(super) struct BlockConfig {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub heads: Heads,
    pub hidden_act: Activation,
    pub layer_norm_eps: f32,
}

impl Json {
    fn config(&self) -> std::result::Result<VisionConfig, String> {
        let within = |name: &str, value: u64, most: usize| match usize::try_from(value) {
            Ok(value) if (1..=most).contains(&value) => Ok(value),
            _ => Err(format!("`{name}` is {value}, expected 1 to {most}")),
        };
        let hidden = within("hidden_size", self.hidden_size, 1 << 16)?;
        let intermediate = within("intermediate_size", self.intermediate_size, 1 << 18)?;
        let layers = within("num_hidden_layers", self.num_hidden_layers, 1024)?;
        let heads = within("num_attention_heads", self.num_attention_heads, 1024)?;
        let image = within("image_size", self.image_size, 4096)?;
        let patch = within("patch_size", self.patch_size, LARGEST_PATCH)?;
        let width = hidden / heads;
        let fits = (8..=WIDEST_HEAD).contains(&width) && width.is_multiple_of(8);
        if !hidden.is_multiple_of(heads) || !fits {
            return Err(format!(
                "{heads} heads of {hidden} columns, expected heads of a multiple of 8 up to {WIDEST_HEAD}"
            ));
        }
        if !intermediate.is_multiple_of(4) {
            return Err(format!(
                "`intermediate_size` is {intermediate}, expected a multiple of 4"
            ));
        }
        if !can_cut(image, patch) {
            return Err(format!(
                "`patch_size` is {patch}, which does not cut pictures of {image} (`image_size`)"
            ));
        }
        if self.num_channels.is_some_and(|channels| channels != 3) {
            return Err("`num_channels` is not 3, which is not supported".into());
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err(format!(
                "`layer_norm_eps` is {}, expected above 0",
                self.layer_norm_eps
            ));
        }
        Ok(VisionConfig {
            hidden_size: hidden,
            intermediate_size: intermediate,
            num_hidden_layers: layers,
            heads: Heads {
                q: heads,
                kv: heads,
                width,
            },
            image_size: image,
            patch_size: patch,
            hidden_act: activation("hidden_act", &self.hidden_act)?,
            layer_norm_eps: self.layer_norm_eps as f32,
        })
    }
}

/// An activation by its name in `config.json`.
pub(super) fn activation(key: &str, name: &str) -> std::result::Result<Activation, String> {
    Ok(match name {
        "gelu" => Activation::Gelu,
        "gelu_pytorch_tanh" => Activation::GeluTanh,
        "quick_gelu" => Activation::QuickGelu,
        other => {
            return Err(format!(
                "`{key}` is `{other}`, expected `gelu`, `gelu_pytorch_tanh` or `quick_gelu`"
            ));
        }
    })
}

/// A pre-norm transformer block.
#[derive(Debug)]
pub(super) struct Block {
    layer_norm1: LayerNorm,
    /// `self_attn.q_proj`, `k_proj` and `v_proj` as one product.
    qkv: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    hidden_act: Activation,
    heads: Heads,
}

impl Block {
    pub(super) fn new(config: &BlockConfig, w: &Weights) -> Result<Self> {
        let (dim, hidden) = (config.hidden_size, config.intermediate_size);
        let (attn, mlp) = (w.at("self_attn"), w.at("mlp"));
        let stack = [("q_proj", dim), ("k_proj", dim), ("v_proj", dim)];
        let norm = |name| LayerNorm::new(dim, config.layer_norm_eps, &w.at(name));
        Ok(Self {
            layer_norm1: norm("layer_norm1")?,
            qkv: Linear::stacked(dim, &stack, &attn)?,
            out_proj: Linear::new([dim, dim], &attn.at("out_proj"))?,
            layer_norm2: norm("layer_norm2")?,
            fc1: Linear::new([dim, hidden], &mlp.at("fc1"))?,
            fc2: Linear::new([hidden, dim], &mlp.at("fc2"))?,
            hidden_act: config.hidden_act,
            heads: config.heads,
        })
    }

    /// The same under the names of OpenAI's own program: a `ResidualAttentionBlock`.
    pub(super) fn residual_attention(config: &BlockConfig, w: &Weights) -> Result<Self> {
        let (dim, hidden) = (config.hidden_size, config.intermediate_size);
        let (attn, mlp) = (w.at("attn"), w.at("mlp"));
        let qkv = ["in_proj_weight", "in_proj_bias"];
        let norm = |name| LayerNorm::new(dim, config.layer_norm_eps, &w.at(name));
        Ok(Self {
            layer_norm1: norm("ln_1")?,
            qkv: Linear::rows([dim, 3 * dim], qkv, 0..3 * dim, &attn)?,
            out_proj: Linear::new([dim, dim], &attn.at("out_proj"))?,
            layer_norm2: norm("ln_2")?,
            fc1: Linear::new([dim, hidden], &mlp.at("c_fc"))?,
            fc2: Linear::new([hidden, dim], &mlp.at("c_proj"))?,
            hidden_act: config.hidden_act,
            heads: config.heads,
        })
    }

    /// x `[images · tokens, hidden_size]`; the tokens of an image see each other, but for what `scores` hides.
    pub(super) fn forward(
        &self,
        rec: &Recorder,
        x: Tensor,
        images: usize,
        scores: Scores,
    ) -> Tensor {
        self.with(rec, x, |q, k, v| {
            attention(rec, q, k, v, self.heads, images, scores)
        })
    }

    /// x `[tokens, hidden_size]`; each sees those of its `span` (`[tokens, 2]` u32: start and count).
    pub(super) fn forward_spans(&self, rec: &Recorder, x: Tensor, span: &Tensor) -> Tensor {
        self.with(rec, x, |q, k, v| {
            attention_spans(rec, q, k, v, span, 0, self.heads)
        })
    }

    fn with(
        &self,
        rec: &Recorder,
        x: Tensor,
        attend: impl FnOnce(Columns, Columns, Columns) -> Tensor,
    ) -> Tensor {
        let [_, dim] = x.matrix();
        let qkv = self.qkv.forward(rec, &self.layer_norm1.forward(rec, &x));
        let (q, k, v) = (
            Columns::from(&qkv, 0),
            Columns::from(&qkv, dim),
            Columns::from(&qkv, 2 * dim),
        );
        let attended = attend(q, k, v);
        let x = self.out_proj.added(rec, &attended, &x);
        let normed = self.layer_norm2.forward(rec, &x);
        let hidden = self.fc1.activated(rec, &normed, self.hidden_act);
        self.fc2.added(rec, &hidden, &x)
    }
}
