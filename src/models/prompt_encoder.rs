//! Words to prompt tokens: SAM's prompt encoder with sentences in the place of points and boxes.

use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{LayerNorm, Linear, Mlp};
use crate::models::bert::Sentences;
use crate::models::zeus::ZeusConfig;
use crate::ops::{Activation, Columns, Heads, attention_spans};
use crate::tensor::{Tensor, Weights};

/// Token states of a sentence to one vector: multi-head attention pooling (the head of SigLIP, arXiv
/// 2303.15343). Every head looks for words of its own; in a mean over the tokens a single one, such as
/// "left", counts for little.
#[derive(Debug)]
struct TextPool {
    /// What is looked for, `prompt_dim` values. The same for every sentence, so it stays on the host
    /// and goes up once for each of them.
    probe: Vec<f32>,
    /// `k_proj` and `v_proj` as one product.
    kv_proj: Linear,
    out_proj: Linear,
    norm: LayerNorm,
    mlp: Mlp,
    heads: Heads,
}

impl TextPool {
    fn new(config: &ZeusConfig, w: &Weights) -> Result<Self> {
        let (dim, heads) = (config.prompt_dim, config.decoder_heads);
        Ok(Self {
            probe: w.values("probe", &[1, dim])?,
            kv_proj: Linear::stacked(config.text_dim, &[("k_proj", dim), ("v_proj", dim)], w)?,
            out_proj: Linear::new([dim, dim], &w.at("out_proj"))?,
            norm: LayerNorm::new(dim, config.decoder_ln_eps, &w.at("norm"))?,
            mlp: Mlp::new(dim, config.decoder_mlp, Activation::Gelu, &w.at("mlp"))?,
            heads: Heads {
                q: heads,
                kv: heads,
                width: dim / heads,
            },
        })
    }

    fn forward(&self, rec: &Recorder, sentences: &Sentences) -> Result<Tensor> {
        let dim = self.probe.len();
        let [count, _] = sentences.spans.dims();
        let probes = self.probe.repeat(count);
        let probes = Tensor::upload(rec.gpu(), "probes", [count, dim], &probes)?;
        let kv = self.kv_proj.forward(rec, &sentences.states);
        let (k, v) = (Columns::from(&kv, 0), Columns::from(&kv, dim));
        let q = Columns::from(&probes, 0);
        let attended = attention_spans(rec, q, k, v, &sentences.spans, 0, self.heads);
        let x = self.out_proj.forward(rec, &attended);
        Ok(self.mlp.added(rec, &self.norm.forward(rec, &x), &x))
    }
}

/// Sentences to sparse prompt tokens, and the position of the image tokens.
#[derive(Debug)]
pub struct PromptEncoder {
    text_pool: TextPool,
    /// `[1, grid², prompt_dim]`, added to the keys of the image.
    pub image_pe: Tensor,
}

impl PromptEncoder {
    /// Loads `prompt_encoder`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(config: &ZeusConfig, w: &Weights) -> Result<Self> {
        let tokens = config.grid * config.grid;
        Ok(Self {
            text_pool: TextPool::new(config, &w.at("text_pool"))?,
            image_pe: w.tensor("image_pe", [1, tokens, config.prompt_dim])?,
        })
    }

    /// One prompt token a sentence, `[sentences, prompt_dim]`.
    ///
    /// # Errors
    /// No memory.
    pub fn forward(&self, rec: &Recorder, sentences: &Sentences) -> Result<Tensor> {
        self.text_pool.forward(rec, sentences)
    }
}
