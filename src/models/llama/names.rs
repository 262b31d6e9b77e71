//! What the two kinds of files call the same tensors.

use super::config::Architecture;
use crate::error::Result;
use crate::layers::RmsNorm;
use crate::ops::Pairs;
use crate::tensor::{Checkpoint, Weights};

/// The names of one kind of file, under the names that GGUF has for them.
pub(super) struct Names {
    /// Below what all but the output layer lie, if they do.
    pub body: Option<&'static str>,
    pub token_embd: &'static str,
    pub blk: &'static str,
    pub attn_norm: &'static str,
    pub attn_q: &'static str,
    pub attn_k: &'static str,
    pub attn_v: &'static str,
    pub attn_q_norm: &'static str,
    pub attn_k_norm: &'static str,
    pub attn_output: &'static str,
    pub post_attention_norm: &'static str,
    ffn_norm: &'static str,
    pub ffn_gate: &'static str,
    pub ffn_up: &'static str,
    pub ffn_down: &'static str,
    pub post_ffw_norm: &'static str,
    pub output_norm: &'static str,
    pub output: &'static str,
    /// Which columns are turned together.
    pub pairs: Pairs,
    /// Whether norms are kept as their distance from 1.
    from_one: bool,
}

const GGUF: Names = Names {
    body: None,
    token_embd: "token_embd",
    blk: "blk",
    attn_norm: "attn_norm",
    attn_q: "attn_q",
    attn_k: "attn_k",
    attn_v: "attn_v",
    attn_q_norm: "attn_q_norm",
    attn_k_norm: "attn_k_norm",
    attn_output: "attn_output",
    post_attention_norm: "post_attention_norm",
    ffn_norm: "ffn_norm",
    ffn_gate: "ffn_gate",
    ffn_up: "ffn_up",
    ffn_down: "ffn_down",
    post_ffw_norm: "post_ffw_norm",
    output_norm: "output_norm",
    output: "output",
    pairs: Pairs::Halves,
    from_one: false,
};

const HUGGING_FACE: Names = Names {
    body: Some("model"),
    token_embd: "embed_tokens",
    blk: "layers",
    attn_norm: "input_layernorm",
    attn_q: "self_attn.q_proj",
    attn_k: "self_attn.k_proj",
    attn_v: "self_attn.v_proj",
    attn_q_norm: "self_attn.q_norm",
    attn_k_norm: "self_attn.k_norm",
    attn_output: "self_attn.o_proj",
    post_attention_norm: "post_attention_layernorm",
    ffn_norm: "post_attention_layernorm",
    ffn_gate: "mlp.gate_proj",
    ffn_up: "mlp.up_proj",
    ffn_down: "mlp.down_proj",
    post_ffw_norm: "post_feedforward_layernorm",
    output_norm: "norm",
    output: "lm_head",
    pairs: Pairs::Halves,
    from_one: false,
};

impl Names {
    /// Those of a GGUF file or of Hugging Face's, of an architecture.
    pub(super) fn of(gguf: bool, architecture: Architecture) -> Self {
        match (gguf, architecture) {
            // Its converter permutes the rows of q and k.
            (true, Architecture::Llama) => Self {
                pairs: Pairs::Neighbours,
                ..GGUF
            },
            (true, _) => GGUF,
            (false, Architecture::Gemma3) => Self {
                from_one: true,
                ..HUGGING_FACE
            },
            (false, _) => HUGGING_FACE,
        }
    }

    /// Hugging Face calls what comes before the MLP after what it follows, but for Gemma 3, where another norm does.
    pub(super) fn ffn_norm(&self, architecture: Architecture) -> &'static str {
        match architecture {
            Architecture::Gemma3 if self.ffn_norm == HUGGING_FACE.ffn_norm => {
                "pre_feedforward_layernorm"
            }
            _ => self.ffn_norm,
        }
    }

    /// The weight of a norm.
    pub(super) fn norm_values(&self, dim: usize, w: &Weights) -> Result<Vec<f32>> {
        let mut values = w.values("weight", &[dim])?;
        if self.from_one {
            values.iter_mut().for_each(|v| *v += 1.0);
        }
        Ok(values)
    }

    /// A norm.
    pub(super) fn norm(&self, dim: usize, eps: f32, w: &Weights) -> Result<RmsNorm> {
        RmsNorm::of(&self.norm_values(dim, w)?, eps, w)
    }

    /// Tensors that a checkpoint may hold and no model reads: the frequencies, which are computed, and an output layer that
    /// repeats the token table.
    pub(super) fn unread<'c>(&self, checkpoint: &'c Checkpoint, tied: bool) -> Vec<&'c str> {
        let spare = |name: &str| {
            name == "rope_freqs.weight"
                || name.ends_with("rotary_emb.inv_freq")
                || (tied && name == format!("{}.weight", self.output))
        };
        let names = checkpoint.tensors().map(|entry| entry.name);
        names.filter(|name| spare(name)).collect()
    }
}
