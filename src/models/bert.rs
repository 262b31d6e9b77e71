//! BERT (arXiv 1810.04805): any `BertModel` of Hugging Face's, such as BioClinicalBERT, PubMedBERT, BioBERT and all-MiniLM-L6-v2.
//!
//! Sentences lie side by side as rows of tokens, each attending to its own span, so a batch needs no
//! padding. A sentence is read by its tokens' states, or embedded as one row of them ([`Pooling`]).

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::{Embedding, LayerNorm, Linear};
use crate::models::shapes::Shapes;
use crate::models::{check_biases, likely, number, unit_rows};
use crate::ops::{
    Activation, Columns, Heads, MOST_KEYS, add, attention_spans, mean_pool, mean_rows,
};
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// The widest head that the attention kernels take for rows side by side.
const WIDEST_HEAD: usize = 128;
/// Where `BertModel` lies in a checkpoint of what was trained with a head on it.
const PREFIX: &str = "bert";
/// Heads of such checkpoints, which no encoder needs: of masked words and next sentences, of classes, of answers.
const TASK_HEADS: [&str; 3] = ["cls.", "classifier.", "qa_outputs."];

/// The sizes of a BERT model.
#[derive(Clone, Debug)]
pub struct BertConfig {
    /// Width of a token.
    pub hidden_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Heads of the attention.
    pub num_attention_heads: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// What follows the first layer of the MLP.
    pub hidden_act: Activation,
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
            hidden_act: Activation::Gelu,
            vocab_size: 30_522,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
        }
    }

    /// Reads a `config.json`; what it does not say is BERT-base's, as in transformers.
    ///
    /// # Errors
    /// Another model, or sizes that do not fit, in words that the file goes before.
    pub fn of(json: &Value) -> std::result::Result<Self, String> {
        if !json.is_object() {
            return Err("is no object".into());
        }
        for (key, known) in [
            ("model_type", "bert"),
            ("position_embedding_type", "absolute"),
        ] {
            let said = &json[key];
            if !said.is_null() && said != known {
                return Err(format!("`{key}` is {said}, expected `{known}`"));
            }
        }
        for key in ["is_decoder", "add_cross_attention"] {
            let said = &json[key];
            if !said.is_null() && said != false {
                return Err(format!("`{key}` is {said}, expected false: an encoder"));
            }
        }
        let size = |key: &str, usual: u64| {
            let size = number(json, key, usual)?;
            Ok::<usize, String>(usize::try_from(size).unwrap_or(usize::MAX))
        };
        let hidden_act = match &json["hidden_act"] {
            Value::Null => Activation::Gelu,
            said => match said.as_str() {
                Some("gelu") => Activation::Gelu,
                Some("gelu_new" | "gelu_pytorch_tanh") => Activation::GeluTanh,
                Some("relu") => Activation::Relu,
                Some("silu" | "swish") => Activation::Silu,
                _ => {
                    return Err(format!(
                        "`hidden_act` is {said}, expected `gelu`, `gelu_new`, `gelu_pytorch_tanh`, `relu` or `silu`"
                    ));
                }
            },
        };
        let layer_norm_eps = match &json["layer_norm_eps"] {
            Value::Null => 1e-12,
            said => said
                .as_f64()
                .ok_or_else(|| format!("`layer_norm_eps` is {said}, expected a number"))?,
        };
        let config = Self {
            hidden_size: size("hidden_size", 768)?,
            num_hidden_layers: size("num_hidden_layers", 12)?,
            num_attention_heads: size("num_attention_heads", 12)?,
            intermediate_size: size("intermediate_size", 3072)?,
            hidden_act,
            vocab_size: size("vocab_size", 30_522)?,
            max_position_embeddings: size("max_position_embeddings", 512)?,
            type_vocab_size: size("type_vocab_size", 2)?,
            layer_norm_eps: layer_norm_eps as f32,
        };
        config.check()?;
        Ok(config)
    }

    /// Reads the shapes of the tensors below `place`, where a checkpoint comes without a `config.json`. What shapes do not
    /// tell is BERT-base's: heads of 64 columns, GELU, an epsilon of 1e-12.
    ///
    /// # Errors
    /// A missing tensor, or sizes that do not fit.
    pub(super) fn of_shapes(shapes: &Shapes, place: &str) -> Result<Self> {
        let table = |name: &str| shapes.of::<2>(&format!("{place}.embeddings.{name}.weight"));
        let layer = |n: usize, part: &str| format!("{place}.encoder.layer.{n}.{part}.dense.weight");
        let [vocab_size, hidden_size] = table("word_embeddings")?;
        let [max_position_embeddings, _] = table("position_embeddings")?;
        let [type_vocab_size, _] = table("token_type_embeddings")?;
        let [intermediate_size, _] = shapes.of(&layer(0, "intermediate"))?;
        let config = Self {
            hidden_size,
            num_hidden_layers: shapes.count(|n| layer(n, "output")),
            num_attention_heads: hidden_size / 64,
            intermediate_size,
            hidden_act: Activation::Gelu,
            vocab_size,
            max_position_embeddings,
            type_vocab_size,
            layer_norm_eps: 1e-12,
        };
        let fault = |problem| Error::weights(shapes.checkpoint.path(), problem);
        config.check().map_err(fault)?;
        Ok(config)
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

    /// The most tokens of a sentence.
    pub fn longest(&self) -> usize {
        self.max_position_embeddings.min(MOST_KEYS)
    }

    /// A norm; checkpoints that TensorFlow wrote call its tensors otherwise.
    fn norm(&self, w: &Weights) -> Result<LayerNorm> {
        let (dim, eps) = (self.hidden_size, self.layer_norm_eps);
        match w.has("gamma") {
            true => LayerNorm::named(dim, eps, ["gamma", "beta"], w),
            false => LayerNorm::new(dim, eps, w),
        }
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
            layer_norm: config.norm(&w.at("LayerNorm"))?,
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
    hidden_act: Activation,
    output: Linear,
    output_norm: LayerNorm,
    heads: Heads,
}

impl Layer {
    fn new(config: &BertConfig, w: &Weights) -> Result<Self> {
        let (dim, heads) = (config.hidden_size, config.num_attention_heads);
        let (attention, output) = (w.at("attention"), w.at("output"));
        let attention_output = attention.at("output");
        Ok(Self {
            qkv: Linear::stacked(
                dim,
                &[("query", dim), ("key", dim), ("value", dim)],
                &attention.at("self"),
            )?,
            attention_output: Linear::new([dim, dim], &attention_output.at("dense"))?,
            attention_norm: config.norm(&attention_output.at("LayerNorm"))?,
            intermediate: Linear::new(
                [dim, config.intermediate_size],
                &w.at("intermediate").at("dense"),
            )?,
            hidden_act: config.hidden_act,
            output: Linear::new([config.intermediate_size, dim], &output.at("dense"))?,
            output_norm: config.norm(&output.at("LayerNorm"))?,
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
        let hidden = self.intermediate.activated(rec, &x, self.hidden_act);
        self.output_norm
            .forward(rec, &self.output.added(rec, &hidden, &x))
    }
}

/// How the states of a sentence's tokens become one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// Their mean, the special tokens' included (Sentence-BERT, arXiv 1908.10084).
    #[default]
    Mean,
    /// The state of the first token, `[CLS]`.
    Cls,
    /// That through the pooler, `tanh(dense(x))`: transformers' `pooler_output`.
    Pooler,
}

/// The states of some sentences' tokens, side by side.
#[derive(Clone, Debug)]
pub struct Sentences {
    /// `[tokens of all sentences, hidden_size]`.
    pub states: Tensor,
    /// `[sentences, 2]` u32: first token and count.
    pub spans: Tensor,
    /// `[sentences, 2]` u32: first token and 1.
    pub firsts: Tensor,
}

/// A BERT encoder.
#[derive(Debug)]
pub struct Bert {
    config: BertConfig,
    embeddings: Embeddings,
    layer: Vec<Layer>,
    /// `pooler.dense`, which not every checkpoint has.
    pooler: Option<Linear>,
}

impl Bert {
    /// Loads a checkpoint of Hugging Face's `BertModel`, or of a model that has one below `bert`; heads for masked words,
    /// classes and answers are left alone. A checkpoint that is no BERT is told what it seems to be.
    ///
    /// # Errors
    /// A missing, misshapen or unknown tensor, or no memory.
    pub fn new(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        config: BertConfig,
        precision: Precision,
    ) -> Result<Self> {
        let root = Weights::new(gpu, checkpoint, precision);
        let place = match root.has(&format!("{PREFIX}.embeddings.word_embeddings.weight")) {
            true => root.at(PREFIX),
            false => root.clone(),
        };
        let left = |name: &&str| {
            TASK_HEADS.iter().any(|head| name.starts_with(head)) || is_position_ids(name)
        };
        let names = checkpoint.tensors().map(|entry| entry.name);
        let left: Vec<&str> = names.filter(left).collect();
        let load = || {
            check_biases(checkpoint, |stem| {
                is_without_bias(stem) || left.contains(&format!("{stem}.weight").as_str())
            })?;
            let this = Self::load(config, &place)?;
            root.finish(&left)?;
            Ok(this)
        };
        load().map_err(|error| likely::named(error, checkpoint))
    }

    /// The tensors below `w`, for a model that has one in it.
    pub(super) fn load(config: BertConfig, w: &Weights) -> Result<Self> {
        let dim = config.hidden_size;
        let layer = |n| Layer::new(&config, &w.at("encoder").at("layer").at(n));
        let pooler = w.at("pooler").at("dense");
        Ok(Self {
            embeddings: Embeddings::new(&config, &w.at("embeddings"))?,
            layer: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<Result<_>>()?,
            pooler: match pooler.has("weight") {
                true => Some(Linear::new([dim, dim], &pooler)?),
                false => None,
            },
            config,
        })
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
            let most = self.config.longest();
            if tokens.is_empty() || tokens.len() > most {
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
        let firsts: Vec<[u32; 2]> = spans.iter().map(|[first, _]| [*first, 1]).collect();
        Ok(Sentences {
            states: x,
            spans: spans_tensor("sentence spans", &spans)?,
            firsts: spans_tensor("first tokens", &firsts)?,
        })
    }

    /// A row of each sentence, `[sentences, hidden_size]`, as the pooling leaves it.
    ///
    /// # Errors
    /// The pooler of a checkpoint that has none.
    pub fn pooled(
        &self,
        rec: &Recorder,
        sentences: &Sentences,
        pooling: Pooling,
    ) -> Result<Tensor> {
        let Sentences {
            states,
            spans,
            firsts,
        } = sentences;
        if pooling == Pooling::Mean {
            return Ok(mean_rows(rec, states, spans));
        }
        let first = mean_rows(rec, states, firsts);
        match (pooling, &self.pooler) {
            (Pooling::Pooler, Some(dense)) => Ok(dense.activated(rec, &first, Activation::Tanh)),
            (Pooling::Pooler, None) => {
                let problem = "the pooler of a BERT whose checkpoint has no `pooler.dense.weight`";
                Err(Error::Argument(problem.into()))
            }
            _ => Ok(first),
        }
    }

    /// The same at unit length.
    ///
    /// # Errors
    /// As [`Bert::pooled`], or no memory.
    pub fn embeddings(
        &self,
        rec: &Recorder,
        sentences: &Sentences,
        pooling: Pooling,
    ) -> Result<Tensor> {
        match pooling {
            Pooling::Mean => Ok(mean_pool(rec, &sentences.states, &sentences.spans)),
            _ => unit_rows(rec, &self.pooled(rec, sentences, pooling)?),
        }
    }
}

/// The numbers 0, 1, 2 …, which older releases of transformers kept.
pub(super) fn is_position_ids(name: &str) -> bool {
    name == "embeddings.position_ids" || name.ends_with(".embeddings.position_ids")
}

/// Whether what a tensor is called has a weight alone.
pub(super) fn is_without_bias(stem: &str) -> bool {
    stem.ends_with("_embeddings")
}
