//! What a model of the Llama family is made of, and how GGUF's metadata says it; `json` reads Hugging Face's `config.json`.

use super::json;
use super::rope::{Rope, RopeScaling, yarn_attention_factor};
use crate::error::{Error, Result};
use crate::ops::{Activation, Heads};
use crate::tensor::{Checkpoint, Gguf};

/// The widest head that the attention kernels take.
const WIDEST_HEAD: usize = 256;
/// Of Gemma 3's blocks every sixth sees everything.
pub(super) const GEMMA3_PATTERN: usize = 6;
/// The base of the angles in Gemma 3's other blocks, which GGUF does not say.
pub(super) const GEMMA3_LOCAL_THETA: f64 = 10_000.0;

/// Which paper a model follows, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// LLaMA 1 to 3, Vicuna, SmolLM2 (arXiv 2302.13971); Mistral (arXiv 2310.06825), which gives every row a window.
    Llama,
    /// Qwen 2 and 2.5 (arXiv 2407.10671): biases on q, k and v.
    Qwen2,
    /// Qwen 3 (arXiv 2505.09388): a norm on each head of q and k.
    Qwen3,
    /// Gemma 3 (arXiv 2503.19786): that too, norms after attention and MLP, windows in five blocks of six.
    Gemma3,
}

impl Architecture {
    /// By the name in GGUF's `general.architecture`.
    fn of_gguf(name: &str) -> Option<Self> {
        Some(match name {
            "llama" | "mistral" => Self::Llama,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            "gemma3" => Self::Gemma3,
            _ => return None,
        })
    }

    /// By `model_type` in `config.json`.
    pub(super) fn of_hugging_face(name: &str) -> Option<Self> {
        Some(match name {
            "llama" | "mistral" => Self::Llama,
            "qwen2" => Self::Qwen2,
            "qwen3" => Self::Qwen3,
            "gemma3_text" => Self::Gemma3,
            _ => return None,
        })
    }

    /// Whether each head of q and k is normed.
    pub fn norms_heads(self) -> bool {
        matches!(self, Self::Qwen3 | Self::Gemma3)
    }

    /// What the gate of the MLP goes through.
    pub fn activation(self) -> Activation {
        match self {
            Self::Gemma3 => Activation::GeluTanh,
            _ => Activation::Silu,
        }
    }
}

/// The sizes of a model.
#[derive(Clone, Debug)]
pub struct LlamaConfig {
    /// The paper it follows.
    pub architecture: Architecture,
    /// Width of a token.
    pub embedding_length: usize,
    /// Heads of q, of k and v, and their width.
    pub heads: Heads,
    /// Width of the MLP.
    pub feed_forward_length: usize,
    /// Epsilon of the RMS norms.
    pub rms_eps: f32,
    /// Rows of the token table.
    pub vocab_size: usize,
    /// The most tokens a sequence may have.
    pub context_length: usize,
    /// Of each block the most keys a row sees, its own included; all of them if none.
    pub windows: Vec<Option<usize>>,
    /// Positions in blocks that see everything, and in all if there is one kind only.
    pub rope: Rope,
    /// Positions in blocks with a window, where they are others.
    pub local_rope: Option<Rope>,
    /// Whether the output layer is the token table.
    pub tied: bool,
}

/// The numbers that both kinds of file give, before they are checked against each other.
pub(super) struct Sizes {
    pub dim: u64,
    pub blocks: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub head_width: Option<u64>,
    pub hidden: u64,
    pub context: u64,
}

impl Sizes {
    /// `(blocks, embedding length, heads, hidden, context)`, or what does not fit.
    pub(super) fn check(&self) -> std::result::Result<(usize, usize, Heads, usize, usize), String> {
        for (name, value) in [
            ("embedding length", self.dim),
            ("block count", self.blocks),
            ("head count", self.heads),
            ("key-value head count", self.kv_heads),
            ("feed-forward length", self.hidden),
            ("context length", self.context),
        ] {
            if !(1..=1 << 24).contains(&value) {
                return Err(format!("{name} is {value}, expected 1 to {}", 1 << 24));
            }
        }
        let [dim, blocks, q, kv, hidden, context] = [
            self.dim,
            self.blocks,
            self.heads,
            self.kv_heads,
            self.hidden,
            self.context,
        ]
        .map(|value| value as usize);
        if blocks > 1024 {
            return Err(format!("block count is {blocks}, expected at most 1024"));
        }
        let width = match self.head_width {
            Some(width) => usize::try_from(width).unwrap_or(usize::MAX),
            None if dim.is_multiple_of(q) => dim / q,
            None => return Err(format!("{q} heads do not fit a width of {dim}")),
        };
        if width == 0 || !width.is_multiple_of(8) || width > WIDEST_HEAD {
            return Err(format!(
                "heads are {width} wide, expected a multiple of 8 up to {WIDEST_HEAD}"
            ));
        }
        if !q.is_multiple_of(kv) {
            return Err(format!("{q} heads cannot share {kv} key-value heads"));
        }
        if !dim.is_multiple_of(4) || !hidden.is_multiple_of(4) {
            return Err(format!(
                "widths are {dim} and {hidden}, expected multiples of 4"
            ));
        }
        Ok((blocks, dim, Heads { q, kv, width }, hidden, context))
    }
}

impl LlamaConfig {
    /// The number of blocks.
    pub fn block_count(&self) -> usize {
        self.windows.len()
    }

    /// Reads the metadata of a GGUF file, or the `config.json` beside safetensors.
    ///
    /// # Errors
    /// Another architecture, a missing key, or sizes that do not fit.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        match checkpoint.gguf() {
            Some(gguf) => Self::of_gguf(checkpoint, gguf),
            None => json::of_folder(checkpoint),
        }
    }

    fn of_gguf(checkpoint: &Checkpoint, gguf: &Gguf) -> Result<Self> {
        let fault = |problem: String| Error::weights(checkpoint.path(), problem);
        let name = gguf.str("general.architecture")?;
        let architecture = Architecture::of_gguf(name).ok_or_else(|| {
            fault(format!(
                "`general.architecture` is `{name}`, expected `llama`, `qwen2`, `qwen3` or `gemma3`"
            ))
        })?;
        let key = |key: &str| format!("{name}.{key}");
        let optional = |at: &str| match gguf.has(&key(at)) {
            true => gguf.u64(&key(at)).map(Some),
            false => Ok(None),
        };
        let number = |at: &str| match gguf.has(&key(at)) {
            true => match gguf.f32(&key(at))? {
                v if v.is_finite() => Ok(Some(f64::from(v))),
                v => Err(fault(format!("`{}` is {v}, expected a number", key(at)))),
            },
            false => Ok(None),
        };
        let heads = gguf.u64(&key("attention.head_count"))?;
        let sizes = Sizes {
            dim: gguf.u64(&key("embedding_length"))?,
            blocks: gguf.u64(&key("block_count"))?,
            heads,
            kv_heads: optional("attention.head_count_kv")?.unwrap_or(heads),
            head_width: optional("attention.key_length")?,
            hidden: gguf.u64(&key("feed_forward_length"))?,
            context: gguf.u64(&key("context_length"))?,
        };
        let (blocks, dim, heads, hidden, context) = sizes.check().map_err(fault)?;
        for (at, part) in [
            ("attention.value_length", "values"),
            ("rope.dimension_count", "rotated columns"),
        ] {
            if let Some(width) = optional(at)?.filter(|width| *width != heads.width as u64) {
                return Err(fault(format!(
                    "`{}` is {width}: {part} of another width than a head's {} are not supported",
                    key(at),
                    heads.width
                )));
            }
        }
        let theta = number("rope.freq_base")?.unwrap_or(10_000.0);
        if theta <= 1.0 {
            return Err(fault(format!(
                "`{}` is {theta}, expected above 1",
                key("rope.freq_base")
            )));
        }
        const EPS: &str = "attention.layer_norm_rms_epsilon";
        let rms_eps = gguf.f32(&key(EPS))?;
        if !(rms_eps >= 0.0 && rms_eps.is_finite()) {
            return Err(fault(format!(
                "`{}` is {rms_eps}, expected 0 or more",
                key(EPS)
            )));
        }
        let scaling = match gguf.has(&key("rope.scaling.type")) {
            true => gguf.str(&key("rope.scaling.type"))?,
            false => "none",
        };
        let factor = number("rope.scaling.factor")?;
        let needed = || {
            factor.filter(|factor| *factor > 0.0).ok_or_else(|| {
                fault(format!(
                    "`{}` is missing or not positive, and positions are scaled `{scaling}`",
                    key("rope.scaling.factor")
                ))
            })
        };
        const FACTORS: &str = "rope_freqs.weight";
        let scaling = match scaling {
            "none" => match checkpoint.tensor(FACTORS) {
                None => RopeScaling::None,
                Some(entry) => {
                    let factors = entry.decode().unwrap_or_default();
                    if factors.len() != heads.width / 2
                        || factors.iter().any(|f| f.is_nan() || *f <= 0.0)
                    {
                        return Err(fault(format!(
                            "tensor `{FACTORS}` has {} values, expected {} above zero",
                            factors.len(),
                            heads.width / 2
                        )));
                    }
                    RopeScaling::Factors(factors)
                }
            },
            "linear" => RopeScaling::Linear { factor: needed()? },
            "yarn" => {
                let factor = needed()?;
                let original = optional("rope.scaling.original_context_length")?;
                RopeScaling::Yarn {
                    factor,
                    beta_fast: number("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
                    beta_slow: number("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
                    original_context: original.map_or(context as f64 / factor, |n| n as f64),
                    attention_factor: number("rope.scaling.attn_factor")?.unwrap_or(1.0)
                        * yarn_attention_factor(factor),
                }
            }
            other => {
                return Err(fault(format!(
                    "`{}` is `{other}`, expected `none`, `linear` or `yarn`",
                    key("rope.scaling.type")
                )));
            }
        };
        let window = optional("attention.sliding_window")?.filter(|window| *window > 0);
        let gemma = architecture == Architecture::Gemma3;
        let windows = (0..blocks).map(|n| {
            let all = gemma && (n + 1).is_multiple_of(GEMMA3_PATTERN);
            window.map(|w| w as usize).filter(|_| !all)
        });
        let vocab_size = checkpoint
            .tensor("token_embd.weight")
            .and_then(|table| table.shape.first().copied())
            .ok_or_else(|| fault("tensor `token_embd.weight` is missing".into()))?;
        Ok(Self {
            architecture,
            embedding_length: dim,
            heads,
            feed_forward_length: hidden,
            rms_eps,
            vocab_size,
            context_length: context,
            windows: windows.collect(),
            rope: Rope { theta, scaling }
                .checked(heads.width)
                .map_err(fault)?,
            local_rope: gemma.then(|| Rope::plain(GEMMA3_LOCAL_THETA)),
            tied: checkpoint.tensor("output.weight").is_none(),
        })
    }
}
