//! The Llama family: LLaMA (arXiv 2302.13971), Vicuna, SmolLM2, Mistral, Qwen 2 and 3, Gemma 3; from GGUF or from a folder
//! of Hugging Face's.
//!
//! Weights stay packed in their quantised format. Several sequences are computed at once: every row
//! of a batch is a token with its position, its slot in the key-value cache, and the span of slots it
//! sees after the prefix that all rows share.

mod config;
mod json;
mod names;
mod rope;

pub use config::{Architecture, LlamaConfig};
pub use rope::{Rope, RopeScaling};

use std::ops::Range;

use names::Names;
use rope::Table;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::{Embedding, KvCache, Linear, RmsNorm};
use crate::ops::{
    Attended, Columns, Heads, MOST_KEYS, Operand, Pairs, Rotation, add, attention_in_spans,
    attention_shares, copy_rows, gather_rows, head_norm, rope_cache,
};
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// The widest heads that other kernels than `attention_split` take.
const WIDE_HEAD: usize = 128;

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
    /// Rows whose embeddings are not the table's.
    pub given: Vec<Given>,
}

/// Neighbouring rows of a batch that are image tokens: their embeddings are given, their ids stand for nothing.
#[derive(Clone, Debug)]
pub struct Given {
    /// The first such row of the batch.
    pub row: usize,
    /// How many there are.
    pub count: usize,
    /// `[tokens, embedding_length]`, in memory that outlives the recording.
    pub tokens: Tensor,
    /// The first of `tokens` that is meant.
    pub first: usize,
}

impl Given {
    /// What lies in these rows, counted from the first of them.
    pub fn part(&self, rows: &Range<usize>) -> Option<Self> {
        let start = self.row.max(rows.start);
        let end = (self.row + self.count).min(rows.end);
        (start < end).then(|| Self {
            row: start - rows.start,
            count: end - start,
            tokens: self.tokens.clone(),
            first: self.first + start - self.row,
        })
    }

    /// Writes the embeddings into those of the batch, `[tokens, embedding_length]`.
    fn write(&self, rec: &Recorder, x: &Tensor) {
        let whole = self.first == 0 && self.count == self.tokens.matrix()[0];
        let tokens = match whole {
            true => self.tokens.clone(),
            false => gather_rows(rec, &self.tokens, self.count, self.first, 1),
        };
        copy_rows(rec, &tokens, x, self.count, self.row, 1);
    }
}

impl Batch {
    /// One sequence's tokens from `position` on, in slots of the same numbers.
    pub fn sequence(ids: &[u32], position: usize) -> Self {
        let numbers = (position..position + ids.len()).map(|n| n as u32);
        let own = 0..ids.len() as u32;
        Self {
            ids: ids.to_vec(),
            positions: numbers.clone().collect(),
            slots: numbers.collect(),
            spans: own.map(|n| [position as u32, n + 1]).collect(),
            prefix: position,
            given: Vec::new(),
        }
    }

    /// Some of the rows, which see what they saw.
    #[must_use]
    pub fn part(&self, rows: Range<usize>) -> Self {
        let given = self.given.iter().filter_map(|given| given.part(&rows));
        Self {
            given: given.collect(),
            ids: self.ids[rows.clone()].to_vec(),
            positions: self.positions[rows.clone()].to_vec(),
            slots: self.slots[rows.clone()].to_vec(),
            spans: self.spans[rows].to_vec(),
            prefix: self.prefix,
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

/// Which keys the rows of a batch see in one kind of block.
struct Sight {
    /// First and count of each row's own, `[tokens, 2]` u32.
    spans: Tensor,
    /// Those that all rows see.
    prefix: usize,
    /// The most keys of its own that a row sees.
    longest: usize,
}

impl Sight {
    /// Of the keys that `batch` sees the last `window`.
    fn of(gpu: &Gpu, batch: &Batch, window: Option<usize>) -> Result<Self> {
        let (mut spans, mut prefix) = (batch.spans.clone(), batch.prefix);
        let seen = |[_, count]: &[u32; 2]| batch.prefix + *count as usize;
        if let Some(window) = window.filter(|window| batch.spans.iter().any(|s| seen(s) > *window))
        {
            for span in &mut spans {
                if batch.prefix > 0 && span[0] as usize != batch.prefix {
                    return Err(Error::Argument(format!(
                        "texts of {} tokens side by side do not fit a window of {window}",
                        seen(span)
                    )));
                }
                let all = seen(span);
                let hidden = all.saturating_sub(window) as u32;
                let first = if batch.prefix > 0 { 0 } else { span[0] };
                *span = [first + hidden, all as u32 - hidden];
            }
            prefix = 0;
        }
        let longest = spans.iter().map(|[_, count]| *count as usize).max();
        Ok(Self {
            spans: Tensor::upload(gpu, "spans", [spans.len(), 2], spans.as_flattened())?,
            prefix,
            longest: longest.unwrap_or(0),
        })
    }
}

/// Where the tokens of a forward pass stand.
struct Rows {
    positions: Tensor,
    slots: Tensor,
}

/// What the blocks of one kind read.
struct Context<'a> {
    rows: &'a Rows,
    sight: &'a Sight,
    rotation: Rotation<'a>,
}

/// One decoder block, under GGUF's names.
#[derive(Debug)]
struct Block {
    attn_norm: RmsNorm,
    /// `attn_q`, `attn_k` and `attn_v` as one product.
    attn_qkv: Linear,
    /// `attn_q_norm` and `attn_k_norm`, `[2, width of a head]`.
    attn_qk_norm: Option<Tensor>,
    attn_output: Linear,
    /// Of what attention adds.
    post_attention_norm: Option<RmsNorm>,
    ffn_norm: RmsNorm,
    /// `activation(ffn_gate) · ffn_up` as one product.
    ffn_gate_up: Linear,
    ffn_down: Linear,
    /// Of what the MLP adds.
    post_ffw_norm: Option<RmsNorm>,
}

impl Block {
    fn new(config: &LlamaConfig, names: &Names, w: &Weights) -> Result<Self> {
        let (dim, hidden, heads) = (
            config.embedding_length,
            config.feed_forward_length,
            config.heads,
        );
        let (q, kv) = (heads.q * heads.width, heads.kv * heads.width);
        let norm = |name: &str| names.norm(dim, config.rms_eps, &w.at(name));
        let stack = [(names.attn_q, q), (names.attn_k, kv), (names.attn_v, kv)];
        let attn_qk_norm = match config.architecture.norms_heads() {
            false => None,
            true => {
                let own = [names.attn_q_norm, names.attn_k_norm];
                let weights = own.map(|name| names.norm_values(heads.width, &w.at(name)));
                let [q, k] = weights;
                let both = [q?, k?].concat();
                Some(Tensor::upload(
                    w.gpu(),
                    "q and k norm",
                    [2, heads.width],
                    &both,
                )?)
            }
        };
        let gemma = config.architecture == Architecture::Gemma3;
        Ok(Self {
            attn_norm: norm(names.attn_norm)?,
            attn_qkv: Linear::stacked(dim, &stack, w)?,
            attn_qk_norm,
            attn_output: Linear::new([q, dim], &w.at(names.attn_output))?,
            post_attention_norm: match gemma {
                true => Some(norm(names.post_attention_norm)?),
                false => None,
            },
            ffn_norm: norm(names.ffn_norm(config.architecture))?,
            ffn_gate_up: Linear::gated([dim, hidden], [names.ffn_gate, names.ffn_up], w)?,
            ffn_down: Linear::new([hidden, dim], &w.at(names.ffn_down))?,
            post_ffw_norm: match gemma {
                true => Some(norm(names.post_ffw_norm)?),
                false => None,
            },
        })
    }

    fn forward(
        &self,
        rec: &Recorder,
        config: &LlamaConfig,
        x: Tensor,
        context: &Context,
        cache: (Columns, Columns),
    ) -> Tensor {
        let heads = config.heads;
        let mut qkv = self.attn_qkv.forward(rec, self.attn_norm.operand(&x));
        if let Some(weight) = &self.attn_qk_norm {
            qkv = head_norm(rec, &qkv, weight, heads, config.rms_eps);
        }
        let Rows { positions, slots } = context.rows;
        let q = rope_cache(rec, &qkv, positions, slots, heads, context.rotation, cache);
        let attended = attend(rec, &q, cache, context.sight, heads);
        let x = added(
            rec,
            &self.attn_output,
            &self.post_attention_norm,
            attended.operand(),
            &x,
        );
        let activation = config.architecture.activation();
        let normed = self.ffn_norm.operand(&x);
        let hidden = self.ffn_gate_up.activated(rec, normed, activation);
        added(
            rec,
            &self.ffn_down,
            &self.post_ffw_norm,
            Operand::Rows(&hidden),
            &x,
        )
    }
}

/// `x` and what a layer makes of `y`, normed where there is a norm.
fn added(rec: &Recorder, layer: &Linear, norm: &Option<RmsNorm>, y: Operand, x: &Tensor) -> Tensor {
    match norm {
        None => layer.added(rec, y, x),
        Some(norm) => add(rec, &norm.forward(rec, &layer.forward(rec, y)), x),
    }
}

/// Attention of each row of q on what it sees of the cache, by the kernel that can: only one takes heads beyond
/// [`WIDE_HEAD`] or rows that see more than [`MOST_KEYS`].
fn attend(
    rec: &Recorder,
    q: &Tensor,
    (k, v): (Columns, Columns),
    sight: &Sight,
    heads: Heads,
) -> Attended {
    let q = Columns::all(q);
    let (spans, prefix) = (&sight.spans, sight.prefix);
    if heads.width > WIDE_HEAD || sight.longest > MOST_KEYS {
        return attention_shares(rec, q, k, v, spans, prefix, heads, 1);
    }
    attention_in_spans(rec, q, k, v, spans, prefix, heads)
}

/// A model of the Llama family.
#[derive(Debug)]
pub struct Llama {
    config: LlamaConfig,
    pairs: Pairs,
    /// Rotations of blocks that see everything and of those with a window.
    rope: [Table; 2],
    token_embd: Embedding,
    blk: Vec<Block>,
    output_norm: RmsNorm,
    output: Linear,
}

impl Llama {
    /// Loads a GGUF file or a folder of Hugging Face's.
    ///
    /// # Errors
    /// Another architecture, a missing, misshapen or unknown tensor, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config = LlamaConfig::of(checkpoint)?;
        let names = Names::of(checkpoint.gguf().is_some(), config.architecture);
        let w = Weights::new(gpu, checkpoint, precision);
        let body = names.body.map_or_else(|| w.clone(), |body| w.at(body));
        let this = Self::load(config, &names, &body, &w.at(names.output))?;
        w.finish(&names.unread(checkpoint, this.config.tied))?;
        Ok(this)
    }

    /// The language model of a larger one of Hugging Face's: its tensors lie below `body` (`embed_tokens`, `layers`, `norm`),
    /// those of its output layer below `head`.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or no memory.
    pub(crate) fn part(config: LlamaConfig, body: &Weights, head: &Weights) -> Result<Self> {
        let names = Names::of(false, config.architecture);
        Self::load(config, &names, body, head)
    }

    fn load(config: LlamaConfig, names: &Names, w: &Weights, head: &Weights) -> Result<Self> {
        let (dim, vocab) = (config.embedding_length, config.vocab_size);
        let mut token_embd = Embedding::new(vocab, dim, &w.at(names.token_embd))?;
        if config.architecture == Architecture::Gemma3 {
            token_embd = token_embd.scaled((dim as f32).sqrt());
        }
        let output = match config.tied {
            true => Linear::tied(token_embd.parts(), w)?,
            false => Linear::new([dim, vocab], head)?,
        };
        let table = |rope: &Rope| {
            let values = rope.frequencies(config.heads.width);
            Ok(Table {
                frequency: Tensor::upload(w.gpu(), "frequencies", values.len(), &values)?,
                scale: rope.scale(),
            })
        };
        let own = table(&config.rope)?;
        let rope = [
            own.clone(),
            config.local_rope.as_ref().map_or(Ok(own), table)?,
        ];
        Ok(Self {
            pairs: names.pairs,
            rope,
            blk: (0..config.block_count())
                .map(|n| Block::new(&config, names, &w.at(names.blk).at(n)))
                .collect::<Result<_>>()?,
            output_norm: names.norm(dim, config.rms_eps, &w.at(names.output_norm))?,
            token_embd,
            output,
            config,
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// A cache for `slots` tokens, as wide as [`KvCache::is_half`] says.
    ///
    /// # Errors
    /// No memory.
    pub fn cache(&self, gpu: &Gpu, slots: usize, precision: Precision) -> Result<KvCache> {
        let width = self.config.heads.kv * self.config.heads.width;
        KvCache::new(gpu, self.config.block_count(), slots, width, precision)
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
        };
        let windows = &self.config.windows;
        let all = Sight::of(gpu, batch, None)?;
        let window = windows.iter().find_map(|window| *window);
        let near = window
            .map(|window| Sight::of(gpu, batch, Some(window)))
            .transpose()?;
        let mut x = self.token_embd.forward(rec, &upload("ids", &batch.ids)?);
        for given in &batch.given {
            given.write(rec, &x);
        }
        keep("embedding", &x);
        for (n, block) in self.blk.iter().enumerate() {
            let local = windows[n].is_some();
            let sight = near.as_ref().filter(|_| local).unwrap_or(&all);
            let table = &self.rope[usize::from(local)];
            let context = Context {
                rows: &rows,
                sight,
                rotation: Rotation {
                    frequency: &table.frequency,
                    scale: table.scale,
                    pairs: self.pairs,
                },
            };
            x = block.forward(rec, &self.config, x, &context, cache.block(n));
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
        let dim = self.config.embedding_length;
        for given in &batch.given {
            let [tokens, width] = given.tokens.matrix();
            if width != dim {
                return Err(Error::Argument(format!(
                    "image tokens are {width} wide, expected {dim}"
                )));
            }
            assert!(
                given.count > 0
                    && given.first + given.count <= tokens
                    && given.row + given.count <= len,
                "{given:?} in a batch of {len} tokens"
            );
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
