//! BERT (arXiv 1810.04805) as a sentence encoder: all-MiniLM-L6-v2.
//!
//! Sentences lie side by side as rows of tokens, each attending to its own span, so a batch needs no
//! padding. A sentence is read by its tokens' states, or embedded as their mean at unit length
//! (Sentence-BERT, arXiv 1908.10084).

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::{Embedding, LayerNorm, Linear};
use crate::ops::{Activation, Columns, Heads, add, attention_spans, mean_pool};
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// The widest head that the attention kernels take for rows side by side.
const WIDEST_HEAD: usize = 128;

/// The sizes of a BERT model.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct BertConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads of the attention.
    pub num_attention_heads: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Rows of the position table: the longest sentence.
    pub max_position_embeddings: usize,
    /// Rows of the segment table.
    pub type_vocab_size: usize,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f32,
}

impl BertConfig {
    /// all-MiniLM-L6-v2: 6 blocks of 384.
    pub fn mini_lm() -> Self {
        Self {
            hidden_size: 384,
            num_hidden_layers: 6,
            num_attention_heads: 12,
            intermediate_size: 1536,
            vocab_size: 30_522,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
        }
    }

    /// Whether the sizes make sense and fit each other.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn check(&self) -> std::result::Result<(), String> {
        for (name, value) in [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("vocab_size", self.vocab_size),
            ("max_position_embeddings", self.max_position_embeddings),
            ("type_vocab_size", self.type_vocab_size),
        ] {
            if !(1..=1 << 24).contains(&value) {
                return Err(format!("`{name}` is {value}, expected 1 to {}", 1 << 24));
            }
        }
        let (dim, heads) = (self.hidden_size, self.num_attention_heads);
        let width = dim / heads;
        if !dim.is_multiple_of(heads) || !width.is_multiple_of(8) || width > WIDEST_HEAD {
            return Err(format!(
                "{heads} heads do not fit a width of {dim}: each must have a multiple of 8 up to {WIDEST_HEAD}"
            ));
        }
        if !self.intermediate_size.is_multiple_of(4) {
            let hidden = self.intermediate_size;
            return Err(format!(
                "`intermediate_size` is {hidden}, expected a multiple of 4"
            ));
        }
        if !(self.layer_norm_eps >= 0.0 && self.layer_norm_eps.is_finite()) {
            let eps = self.layer_norm_eps;
            return Err(format!("`layer_norm_eps` is {eps}, expected 0 or more"));
        }
        Ok(())
    }
}

/// Token, position and segment embeddings, normed.
#[derive(Debug)]
struct Embeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    /// The row of segment 0, the only one a single sentence uses.
    token_type: Tensor,
    layer_norm: LayerNorm,
}

impl Embeddings {
    fn new(config: &BertConfig, w: &Weights) -> Result<Self> {
        let dim = config.hidden_size;
        let types = w.values(
            "token_type_embeddings.weight",
            &[config.type_vocab_size, dim],
        )?;
        Ok(Self {
            word_embeddings: Embedding::new(config.vocab_size, dim, &w.at("word_embeddings"))?,
            position_embeddings: Embedding::new(
                config.max_position_embeddings,
                dim,
                &w.at("position_embeddings"),
            )?,
            token_type: Tensor::upload(w.gpu(), "token_type_embeddings", [1, dim], &types[..dim])?,
            layer_norm: LayerNorm::new(dim, config.layer_norm_eps, &w.at("LayerNorm"))?,
        })
    }

    fn forward(&self, rec: &Recorder, ids: &Tensor, positions: &Tensor) -> Tensor {
        let words = self.word_embeddings.forward(rec, ids);
        let placed = add(
            rec,
            &words,
            &self.position_embeddings.forward(rec, positions),
        );
        self.layer_norm
            .forward(rec, &add(rec, &placed, &self.token_type))
    }
}

/// A post-norm transformer block.
#[derive(Debug)]
struct Layer {
    /// `attention.self.{query,key,value}` as one product.
    qkv: Linear,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
    heads: Heads,
}

impl Layer {
    fn new(config: &BertConfig, w: &Weights) -> Result<Self> {
        let (dim, heads, eps) = (
            config.hidden_size,
            config.num_attention_heads,
            config.layer_norm_eps,
        );
        let attention = w.at("attention");
        Ok(Self {
            qkv: Linear::stacked(
                dim,
                &[("query", dim), ("key", dim), ("value", dim)],
                &attention.at("self"),
            )?,
            attention_output: Linear::new([dim, dim], &attention.at("output").at("dense"))?,
            attention_norm: LayerNorm::new(dim, eps, &attention.at("output").at("LayerNorm"))?,
            intermediate: Linear::new(
                [dim, config.intermediate_size],
                &w.at("intermediate").at("dense"),
            )?,
            output: Linear::new([config.intermediate_size, dim], &w.at("output").at("dense"))?,
            output_norm: LayerNorm::new(dim, eps, &w.at("output").at("LayerNorm"))?,
            heads: Heads {
                q: heads,
                kv: heads,
                width: dim / heads,
            },
        })
    }

    fn forward(&self, rec: &Recorder, x: Tensor, span: &Tensor) -> Tensor {
        let [_, dim] = x.matrix();
        let qkv = self.qkv.forward(rec, &x);
        let (q, k, v) = (
            Columns::from(&qkv, 0),
            Columns::from(&qkv, dim),
            Columns::from(&qkv, 2 * dim),
        );
        let attended = attention_spans(rec, q, k, v, span, 0, self.heads);
        let x = self
            .attention_norm
            .forward(rec, &self.attention_output.added(rec, &attended, &x));
        let hidden = self.intermediate.activated(rec, &x, Activation::Gelu);
        self.output_norm
            .forward(rec, &self.output.added(rec, &hidden, &x))
    }
}

/// The states of some sentences' tokens, side by side.
#[derive(Clone, Debug)]
pub struct Sentences {
    /// `[tokens of all sentences, hidden_size]`.
    pub states: Tensor,
    /// `[sentences, 2]` u32: first token and count.
    pub spans: Tensor,
}

impl Sentences {
    /// Sentence embeddings of unit length, `[sentences, hidden_size]`.
    pub fn embeddings(&self, rec: &Recorder) -> Tensor {
        mean_pool(rec, &self.states, &self.spans)
    }
}

/// A BERT encoder.
#[derive(Debug)]
pub struct Bert {
    config: BertConfig,
    embeddings: Embeddings,
    layer: Vec<Layer>,
}

impl Bert {
    /// Loads a checkpoint with the names of Hugging Face's `BertModel`.
    ///
    /// # Errors
    /// A missing, misshapen or unknown tensor, or no memory.
    pub fn new(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        config: BertConfig,
        precision: Precision,
    ) -> Result<Self> {
        let w = Weights::new(gpu, checkpoint, precision);
        let layer = |n| Layer::new(&config, &w.at("encoder").at("layer").at(n));
        let this = Self {
            embeddings: Embeddings::new(&config, &w.at("embeddings"))?,
            layer: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<Result<_>>()?,
            config,
        };
        // Sentence embeddings do not pass through the pooler; the position ids are 0, 1, 2 …
        w.finish(&[
            "embeddings.position_ids",
            "pooler.dense.weight",
            "pooler.dense.bias",
        ])?;
        Ok(this)
    }

    /// The model's sizes.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Encodes sentences given as token ids that include the special tokens. `keep` is shown the
    /// hidden states of all sentences' tokens after the embeddings (`hidden0`) and after each block.
    ///
    /// # Errors
    /// A sentence without tokens or too long, an id beyond the table, or no memory.
    pub fn forward<'g>(
        &self,
        rec: &Recorder<'g>,
        sentences: &[Vec<u32>],
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Sentences> {
        let (mut ids, mut positions, mut token_spans, mut spans) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for tokens in sentences {
            if tokens.is_empty() || tokens.len() > self.config.max_position_embeddings {
                let most = self.config.max_position_embeddings;
                return Err(Error::Argument(format!(
                    "a sentence of {} tokens; 1 to {most} fit",
                    tokens.len()
                )));
            }
            if let Some(id) = tokens
                .iter()
                .find(|id| **id as usize >= self.config.vocab_size)
            {
                let size = self.config.vocab_size;
                return Err(Error::Argument(format!(
                    "token {id} is beyond the table of {size}"
                )));
            }
            let span = [ids.len() as u32, tokens.len() as u32];
            ids.extend_from_slice(tokens);
            positions.extend(0..tokens.len() as u32);
            token_spans.extend(std::iter::repeat_n(span, tokens.len()));
            spans.push(span);
        }
        let gpu = rec.gpu();
        let upload = |name, values: &[u32]| Tensor::upload(gpu, name, values.len(), values);
        let spans_tensor = |name, spans: &[[u32; 2]]| {
            Tensor::upload(gpu, name, [spans.len(), 2], spans.as_flattened())
        };
        let token_spans = spans_tensor("token spans", &token_spans)?;
        let mut x = self.embeddings.forward(
            rec,
            &upload("ids", &ids)?,
            &upload("positions", &positions)?,
        );
        keep("hidden0", &x);
        for (n, layer) in self.layer.iter().enumerate() {
            x = layer.forward(rec, x, &token_spans);
            keep(&format!("hidden{}", n + 1), &x);
        }
        Ok(Sentences {
            states: x,
            spans: spans_tensor("sentence spans", &spans)?,
        })
    }
}
