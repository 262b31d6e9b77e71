//! CLIP's text tower (arXiv 2103.00020): a causal transformer, read at the token that ends a text; and SigLIP's, which is the same
//! but that its tokens see each other.
//!
//! Texts lie side by side as rows of tokens, each token seeing those before it in its own text, so a batch needs no padding.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::gpu::Recorder;
use crate::layers::{Embedding, LayerNorm};
use crate::models::shapes::Shapes;
use crate::models::vision::{Block, BlockConfig, activation};
use crate::ops::{Activation, Heads, MOST_KEYS, add, copy_span};
use crate::tensor::{Tensor, Weights};

/// The widest head that the attention kernels take.
const WIDEST_HEAD: usize = 128;
/// Columns of a head in OpenAI's models.
const HEAD: usize = 64;
/// What old files say ends a text, whatever their vocabulary: the highest token of each does then.
const LEGACY_EOS: u32 = 2;

/// The sizes of a text tower, called as `text_config` calls them.
#[derive(Clone, Debug)]
pub struct ClipTextConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads, and their width.
    pub heads: Heads,
    /// Rows of the token table.
    pub vocab_size: usize,
    /// The most tokens of a text.
    pub max_position_embeddings: usize,
    /// What follows the first layer of the MLP.
    pub hidden_act: Activation,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f32,
    /// The token that ends a text.
    pub eos_token_id: u32,
}

/// `text_config`, as far as it matters here.
#[derive(Deserialize)]
struct Json {
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    vocab_size: u64,
    max_position_embeddings: u64,
    hidden_act: String,
    layer_norm_eps: f64,
    eos_token_id: u32,
}

impl ClipTextConfig {
    /// What `text_config` is where it says nothing.
    pub(super) fn usual() -> Value {
        json!({
            "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
            "vocab_size": 49408, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
            "eos_token_id": 49407,
        })
    }

    /// Reads `text_config` of CLIP or CLIPSeg.
    ///
    /// # Errors
    /// Sizes that do not fit, in words that `config.json` goes before.
    pub(super) fn of(part: &Value) -> std::result::Result<Self, String> {
        Self::of_usual(part, &Self::usual())
    }

    /// The same of a kin of CLIP's, which is `usual` where it says nothing.
    ///
    /// # Errors
    /// As [`ClipTextConfig::of`].
    pub(super) fn of_usual(part: &Value, usual: &Value) -> std::result::Result<Self, String> {
        let Value::Object(given) = part else {
            return Err("`text_config` is no object".into());
        };
        let mut all: Map<String, Value> = usual.as_object().cloned().unwrap_or_default();
        all.extend(given.clone());
        serde_json::from_value::<Json>(Value::Object(all))
            .map_err(|e| e.to_string())
            .and_then(|json| json.config())
            .map_err(|problem| format!("`text_config`: {problem}"))
    }

    /// Reads the shapes of the tensors of OpenAI's names, which come without a `config.json`; `place` goes before them. What shapes
    /// do not tell is as in all of OpenAI's CLIPs: heads of 64 columns, their activation and epsilon.
    ///
    /// # Errors
    /// A missing tensor, or sizes that do not fit.
    pub(super) fn of_shapes(shapes: &Shapes, place: &str) -> Result<Self> {
        let at = |name: &str| format!("{place}{name}");
        let block = |n: usize, name: &str| at(&format!("transformer.resblocks.{n}.{name}"));
        let [vocab_size, hidden] = shapes.of(&at("token_embedding.weight"))?;
        let [positions, _] = shapes.of(&at("positional_embedding"))?;
        let [intermediate, _] = shapes.of(&block(0, "mlp.c_fc.weight"))?;
        let layers = shapes.count(|n| block(n, "mlp.c_fc.weight"));
        let json = Json {
            hidden_size: hidden as u64,
            intermediate_size: intermediate as u64,
            num_hidden_layers: layers as u64,
            num_attention_heads: (hidden / HEAD) as u64,
            vocab_size: vocab_size as u64,
            max_position_embeddings: positions as u64,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            // Theirs ends a text at its highest token.
            eos_token_id: LEGACY_EOS,
        };
        let fault = |problem| Error::weights(shapes.checkpoint.path(), problem);
        json.config().map_err(fault)
    }

    fn block(&self) -> BlockConfig {
        BlockConfig {
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            heads: self.heads,
            hidden_act: self.hidden_act,
            layer_norm_eps: self.layer_norm_eps,
        }
    }
}

impl Json {
    fn config(&self) -> std::result::Result<ClipTextConfig, String> {
        let within = |name: &str, value: u64, most: usize| match usize::try_from(value) {
            Ok(value) if (1..=most).contains(&value) => Ok(value),
            _ => Err(format!("`{name}` is {value}, expected 1 to {most}")),
        };
        let hidden = within("hidden_size", self.hidden_size, 1 << 16)?;
        let heads = within("num_attention_heads", self.num_attention_heads, 1024)?;
        let width = hidden / heads;
        let fits = (8..=WIDEST_HEAD).contains(&width) && width.is_multiple_of(8);
        if !hidden.is_multiple_of(heads) || !fits {
            return Err(format!(
                "{heads} heads of {hidden} columns, expected heads of a multiple of 8 up to {WIDEST_HEAD}"
            ));
        }
        let intermediate = within("intermediate_size", self.intermediate_size, 1 << 18)?;
        if !intermediate.is_multiple_of(4) {
            return Err(format!(
                "`intermediate_size` is {intermediate}, expected a multiple of 4"
            ));
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err(format!(
                "`layer_norm_eps` is {}, expected above 0",
                self.layer_norm_eps
            ));
        }
        let positions = self.max_position_embeddings;
        Ok(ClipTextConfig {
            hidden_size: hidden,
            intermediate_size: intermediate,
            num_hidden_layers: within("num_hidden_layers", self.num_hidden_layers, 1024)?,
            heads: Heads {
                q: heads,
                kv: heads,
                width,
            },
            vocab_size: within("vocab_size", self.vocab_size, 1 << 24)?,
            max_position_embeddings: within("max_position_embeddings", positions, MOST_KEYS)?,
            hidden_act: activation("hidden_act", &self.hidden_act)?,
            layer_norm_eps: self.layer_norm_eps as f32,
            eos_token_id: self.eos_token_id,
        })
    }
}

/// The tower, under the checkpoint's names below `text_model`.
#[derive(Debug)]
pub struct ClipText {
    config: ClipTextConfig,
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<Block>,
    final_layer_norm: LayerNorm,
    /// Whether a token sees those before it alone. If not, as in SigLIP, it sees its whole text, whose last token is read.
    is_causal: bool,
}

impl ClipText {
    /// The tower whose tensors lie at `w`.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or no memory.
    pub fn new(config: ClipTextConfig, w: &Weights) -> Result<Self> {
        let dim = config.hidden_size;
        let (embeddings, layers) = (w.at("embeddings"), w.at("encoder").at("layers"));
        let table = |name: &str, rows| Embedding::new(rows, dim, &embeddings.at(name));
        Ok(Self {
            token_embedding: table("token_embedding", config.vocab_size)?,
            position_embedding: table("position_embedding", config.max_position_embeddings)?,
            layers: (0..config.num_hidden_layers)
                .map(|n| Block::new(&config.block(), &layers.at(n)))
                .collect::<Result<_>>()?,
            final_layer_norm: LayerNorm::new(
                dim,
                config.layer_norm_eps,
                &w.at("final_layer_norm"),
            )?,
            is_causal: true,
            config,
        })
    }

    /// SigLIP's tower at `w`, whose tokens see each other.
    ///
    /// # Errors
    /// As [`ClipText::new`].
    pub(super) fn bidirectional(config: ClipTextConfig, w: &Weights) -> Result<Self> {
        Ok(Self {
            is_causal: false,
            ..Self::new(config, w)?
        })
    }

    /// The same under the names of OpenAI's own program: `token_embedding`, `positional_embedding`, `transformer`, `ln_final`.
    ///
    /// # Errors
    /// As [`ClipText::new`].
    pub(super) fn openai(config: ClipTextConfig, w: &Weights) -> Result<Self> {
        let (dim, rows) = (config.hidden_size, config.max_position_embeddings);
        let blocks = w.at("transformer").at("resblocks");
        let block = |n| Block::residual_attention(&config.block(), &blocks.at(n));
        Ok(Self {
            token_embedding: Embedding::new(config.vocab_size, dim, &w.at("token_embedding"))?,
            position_embedding: Embedding::stacked(&[("positional_embedding", rows)], dim, w)?,
            layers: (0..config.num_hidden_layers)
                .map(block)
                .collect::<Result<_>>()?,
            final_layer_norm: LayerNorm::new(dim, config.layer_norm_eps, &w.at("ln_final"))?,
            is_causal: true,
            config,
        })
    }

    /// The tower's sizes.
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// The state of each text at the token that is read, `[texts, hidden_size]`; texts are token ids with their first and last.
    /// `keep` is shown the states of all texts' tokens, one text after the other, after the positions (`text_embedding`), each
    /// block (`text_layer0` …) and the last norm (`text_states`).
    ///
    /// # Errors
    /// A text without tokens or too long, an id beyond the table, or no memory.
    pub fn forward(
        &self,
        rec: &Recorder,
        texts: &[Vec<u32>],
        keep: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        Ok(self.states(rec, texts, keep)?.1)
    }

    /// The states of all texts' tokens, `[tokens, hidden_size]`, and what [`ClipText::forward`] gives.
    ///
    /// # Errors
    /// As [`ClipText::forward`].
    pub(super) fn states(
        &self,
        rec: &Recorder,
        texts: &[Vec<u32>],
        keep: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<(Tensor, Tensor)> {
        let (most, size) = (self.config.max_position_embeddings, self.config.vocab_size);
        let (mut ids, mut positions, mut spans, mut ends) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for tokens in texts {
            if tokens.is_empty() || tokens.len() > most {
                let count = tokens.len();
                return Err(Error::Argument(format!(
                    "a text of {count} tokens; 1 to {most} fit"
                )));
            }
            if let Some(id) = tokens.iter().find(|id| **id as usize >= size) {
                return Err(Error::Argument(format!(
                    "token {id} is beyond the table of {size}"
                )));
            }
            let first = ids.len() as u32;
            ends.push(ids.len() + self.end(tokens));
            let count = tokens.len() as u32;
            let seen = |n: u32| if self.is_causal { n } else { count };
            spans.extend((1..=count).map(|n| [first, seen(n)]));
            positions.extend(0..count);
            ids.extend_from_slice(tokens);
        }
        let gpu = rec.gpu();
        let upload = |name, values: &[u32]| Tensor::upload(gpu, name, values.len(), values);
        let (ids, positions) = (upload("ids", &ids)?, upload("positions", &positions)?);
        let span = Tensor::upload(gpu, "spans", [spans.len(), 2], spans.as_flattened())?;
        let mut x = add(
            rec,
            &self.token_embedding.forward(rec, &ids),
            &self.position_embedding.forward(rec, &positions),
        );
        keep("text_embedding", &x);
        for (n, block) in self.layers.iter().enumerate() {
            x = block.forward_spans(rec, x, &span);
            keep(&format!("text_layer{n}"), &x);
        }
        let x = self.final_layer_norm.forward(rec, &x);
        keep("text_states", &x);
        let y = Tensor::empty(rec, [texts.len(), self.config.hidden_size]);
        for (n, end) in ends.into_iter().enumerate() {
            copy_span(rec, &x, end, &y, n, 1);
        }
        Ok((x, y))
    }

    /// Which of a text's tokens is read: SigLIP's last, or the one that ends it, by the two rules of transformers: the first that `eos_token_id` names, the first token
    /// of all if none is; or the highest, the first of several, where the file is too old to name it.
    fn end(&self, tokens: &[u32]) -> usize {
        if !self.is_causal {
            return tokens.len().saturating_sub(1);
        }
        let eos = match self.config.eos_token_id {
            LEGACY_EOS => tokens.iter().copied().max(),
            eos => Some(eos),
        };
        let end = tokens.iter().position(|id| Some(*id) == eos);
        end.unwrap_or(0)
    }
}
