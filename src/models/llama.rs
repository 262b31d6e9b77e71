//! Llama (arXiv 2302.13971) from GGUF: SmolLM2-135M-Instruct.
//!
//! Weights stay packed in their quantised format. Several sequences are computed at once: every row
//! of a batch is a token with its position, its slot in the key-value cache, and the span of slots it
//! sees after the prefix that all rows share.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::{Embedding, KvCache, Linear, RmsNorm};
use crate::ops::{Activation, Columns, Heads, MOST_KEYS, attention_spans, rope_cache};
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// The sizes of a Llama model, as its GGUF metadata gives them.
#[derive(Clone, Debug)]
pub struct LlamaConfig {
    /// Width of a token.
    pub embedding_length: usize,
    /// Blocks.
    pub block_count: usize,
    /// Heads of q, of k and v, and their width.
    pub heads: Heads,
    /// Width of the MLP.
    pub feed_forward_length: usize,
    /// Epsilon of the RMS norms.
    pub rms_eps: f32,
    /// Base of the rotary angles.
    pub rope_theta: f32,
    /// Rows of the token table.
    pub vocab_size: usize,
    /// The most tokens a sequence may have: the model's context, bounded by the attention kernel.
    pub context_length: usize,
}

impl LlamaConfig {
    /// Reads the metadata of a GGUF file.
    ///
    /// # Errors
    /// Another architecture, a missing key, or sizes that do not fit.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let gguf = checkpoint.expect_gguf()?;
        let fault = |problem: String| Error::weights(checkpoint.path(), problem);
        let architecture = gguf.str("general.architecture")?;
        if architecture != "llama" {
            return Err(fault(format!(
                "`general.architecture` is `{architecture}`, expected `llama`"
            )));
        }
        let size = |key: &str| -> Result<usize> {
            let value = gguf.u32(&format!("llama.{key}"))?;
            if (1..=1 << 20).contains(&value) {
                Ok(value as usize)
            } else {
                Err(fault(format!("`llama.{key}` is {value}")))
            }
        };
        let (dim, heads, kv) = (
            size("embedding_length")?,
            size("attention.head_count")?,
            size("attention.head_count_kv")?,
        );
        let vocab_size = checkpoint
            .tensor("token_embd.weight")
            .and_then(|table| table.shape.first().copied())
            .ok_or_else(|| fault("tensor `token_embd.weight` is missing".into()))?;
        if dim % heads != 0
            || heads % kv != 0
            || !(dim / heads).is_multiple_of(4)
            || dim / heads > 128
        {
            return Err(fault(format!(
                "{heads} heads and {kv} key-value heads do not fit a width of {dim}"
            )));
        }
        Ok(Self {
            embedding_length: dim,
            block_count: size("block_count")?,
            heads: Heads {
                q: heads,
                kv,
                width: dim / heads,
            },
            feed_forward_length: size("feed_forward_length")?,
            rms_eps: gguf.f32("llama.attention.layer_norm_rms_epsilon")?,
            rope_theta: if gguf.has("llama.rope.freq_base") {
                gguf.f32("llama.rope.freq_base")?
            } else {
                10_000.0
            },
            vocab_size,
            context_length: size("context_length")?.min(MOST_KEYS),
        })
    }
}

/// Rows of tokens to compute at once.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Position of each token in its own sequence.
    pub positions: Vec<u32>,
    /// Where each token's key and value go.
    pub slots: Vec<u32>,
    /// The slots each token sees after the prefix: first and count, its own included.
    pub spans: Vec<[u32; 2]>,
    /// The slots from 0 on that every token sees.
    pub prefix: usize,
}

impl Batch {
    /// One sequence's tokens from `position` on, in slots of the same numbers.
    pub fn sequence(ids: &[u32], position: usize) -> Self {
        let numbers = (position..position + ids.len()).map(|n| n as u32);
        Self {
            ids: ids.to_vec(),
            positions: numbers.clone().collect(),
            slots: numbers.clone().collect(),
            spans: numbers.map(|n| [0, n + 1]).collect(),
            prefix: 0,
        }
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }
}

/// One decoder block.
#[derive(Debug)]
struct Block {
    attn_norm: RmsNorm,
    /// `attn_q`, `attn_k` and `attn_v` as one product.
    attn_qkv: Linear,
    attn_output: Linear,
    ffn_norm: RmsNorm,
    /// `silu(ffn_gate) · ffn_up` as one product.
    ffn_gate_up: Linear,
    ffn_down: Linear,
}

/// What all blocks of a forward pass read.
struct Rows {
    positions: Tensor,
    slots: Tensor,
    spans: Tensor,
    prefix: usize,
}

impl Block {
    fn new(config: &LlamaConfig, w: &Weights) -> Result<Self> {
        let (dim, hidden, heads) = (
            config.embedding_length,
            config.feed_forward_length,
            config.heads,
        );
        let kv = heads.kv * heads.width;
        Ok(Self {
            attn_norm: RmsNorm::new(dim, config.rms_eps, &w.at("attn_norm"))?,
            attn_qkv: Linear::stacked(dim, &[("attn_q", dim), ("attn_k", kv), ("attn_v", kv)], w)?,
            attn_output: Linear::new([dim, dim], &w.at("attn_output"))?,
            ffn_norm: RmsNorm::new(dim, config.rms_eps, &w.at("ffn_norm"))?,
            ffn_gate_up: Linear::gated([dim, hidden], ["ffn_gate", "ffn_up"], w)?,
            ffn_down: Linear::new([hidden, dim], &w.at("ffn_down"))?,
        })
    }

    fn forward(
        &self,
        rec: &Recorder,
        config: &LlamaConfig,
        x: Tensor,
        rows: &Rows,
        cache: (&Tensor, &Tensor),
    ) -> Tensor {
        let qkv = self.attn_qkv.forward(rec, &self.attn_norm.forward(rec, &x));
        let q = rope_cache(
            rec,
            &qkv,
            &rows.positions,
            &rows.slots,
            config.heads,
            config.rope_theta,
            cache,
        );
        let (q, k, v) = (
            Columns::all(&q),
            Columns::all(cache.0),
            Columns::all(cache.1),
        );
        let attended = attention_spans(rec, q, k, v, &rows.spans, rows.prefix, config.heads);
        let x = self.attn_output.added(rec, &attended, &x);
        let normed = self.ffn_norm.forward(rec, &x);
        let hidden = self.ffn_gate_up.activated(rec, &normed, Activation::Silu);
        self.ffn_down.added(rec, &hidden, &x)
    }
}

/// A Llama model.
#[derive(Debug)]
pub struct Llama {
    config: LlamaConfig,
    token_embd: Embedding,
    blk: Vec<Block>,
    output_norm: RmsNorm,
    output: Linear,
}

impl Llama {
    /// Loads a GGUF checkpoint; the output layer is the token table unless it has one of its own.
    ///
    /// # Errors
    /// Another architecture, a missing, misshapen or unknown tensor, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config = LlamaConfig::of(checkpoint)?;
        let w = Weights::new(gpu, checkpoint, precision);
        let (dim, vocab) = (config.embedding_length, config.vocab_size);
        let token_embd = Embedding::new(vocab, dim, &w.at("token_embd"))?;
        let output = if w.has("output.weight") {
            Linear::new([dim, vocab], &w.at("output"))?
        } else {
            Linear::tied(token_embd.weight().clone(), &w)?
        };
        let this = Self {
            blk: (0..config.block_count)
                .map(|n| Block::new(&config, &w.at("blk").at(n)))
                .collect::<Result<_>>()?,
            output_norm: RmsNorm::new(dim, config.rms_eps, &w.at("output_norm"))?,
            token_embd,
            output,
            config,
        };
        w.finish(&[])?;
        Ok(this)
    }

    /// The model's sizes.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// A cache for `slots` tokens.
    ///
    /// # Errors
    /// No memory.
    pub fn cache(&self, gpu: &Gpu, slots: usize) -> Result<KvCache> {
        KvCache::new(
            gpu,
            self.config.block_count,
            slots,
            self.config.heads.kv * self.config.heads.width,
        )
    }

    /// Computes a batch: fills the cache and returns the last hidden states, normed,
    /// `[tokens, embedding_length]`. `keep` is shown the states after the embedding (`embedding`), each
    /// block (`layer0` …) and the last norm (`norm`).
    ///
    /// # Errors
    /// A token beyond the table or the cache, more keys than a row may see, or no memory.
    pub fn forward<'g>(
        &self,
        rec: &Recorder<'g>,
        batch: &Batch,
        cache: &KvCache,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        self.check(batch, cache)?;
        let gpu = rec.gpu();
        let upload = |name, values: &[u32]| Tensor::upload(gpu, name, values.len(), values);
        let rows = Rows {
            positions: upload("positions", &batch.positions)?,
            slots: upload("slots", &batch.slots)?,
            spans: Tensor::upload(gpu, "spans", [batch.len(), 2], batch.spans.as_flattened())?,
            prefix: batch.prefix,
        };
        let mut x = self.token_embd.forward(rec, &upload("ids", &batch.ids)?);
        keep("embedding", &x);
        for (n, block) in self.blk.iter().enumerate() {
            x = block.forward(rec, &self.config, x, &rows, cache.block(n));
            keep(&format!("layer{n}"), &x);
        }
        let x = self.output_norm.forward(rec, &x);
        keep("norm", &x);
        Ok(x)
    }

    /// Logits of hidden states: `[tokens, vocab_size padded to 4]`.
    pub fn logits(&self, rec: &Recorder, hidden: &Tensor) -> Tensor {
        self.output.forward(rec, hidden)
    }

    /// What the kernels take for granted, since the numbers live on the adapter.
    fn check(&self, batch: &Batch, cache: &KvCache) -> Result<()> {
        let len = batch.len();
        assert!(
            len > 0
                && batch.positions.len() == len
                && batch.slots.len() == len
                && batch.spans.len() == len,
            "a batch of {len} tokens"
        );
        let vocab = self.config.vocab_size;
        if let Some(id) = batch.ids.iter().find(|id| **id as usize >= vocab) {
            return Err(Error::Argument(format!(
                "token {id} is beyond the table of {vocab}"
            )));
        }
        let slots = cache.slots();
        for ([first, count], slot) in batch.spans.iter().zip(&batch.slots) {
            let (end, keys) = (
                *first as usize + *count as usize,
                batch.prefix + *count as usize,
            );
            if end > slots || *slot as usize >= slots || keys > self.config.context_length {
                let most = slots.min(self.config.context_length);
                return Err(Error::Argument(format!(
                    "a text of {keys} tokens does not fit the context of {most}"
                )));
            }
        }
        Ok(())
    }
}
