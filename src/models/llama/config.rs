//! What a model of the Llama family is made of, read from GGUF's metadata or from Hugging Face's `config.json`.

use serde::Deserialize;

use super::rope::{Rope, RopeScaling, yarn_attention_factor};
use crate::error::{Error, Result};
use crate::ops::{Activation, Heads};
use crate::tensor::{Checkpoint, Gguf};

/// The widest head that the attention kernels take.
const WIDEST_HEAD: usize = 256;
/// The largest `config.json` that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Of Gemma 3's blocks every sixth sees everything.
const GEMMA3_PATTERN: usize = 6;
/// The base of the angles in Gemma 3's other blocks, which GGUF does not say.
const GEMMA3_LOCAL_THETA: f64 = 10_000.0;

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
    fn of_hugging_face(name: &str) -> Option<Self> {
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
struct Sizes {
    dim: u64,
    blocks: u64,
    heads: u64,
    kv_heads: u64,
    head_width: Option<u64>,
    hidden: u64,
    context: u64,
}

impl Sizes {
    /// `(blocks, embedding length, heads, hidden, context)`, or what does not fit.
    fn check(&self) -> std::result::Result<(usize, usize, Heads, usize, usize), String> {
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
            None => Self::of_hugging_face(checkpoint),
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
            rope: Rope { theta, scaling },
            local_rope: gemma.then(|| Rope::plain(GEMMA3_LOCAL_THETA)),
            tied: checkpoint.tensor("output.weight").is_none(),
        })
    }

    fn of_hugging_face(checkpoint: &Checkpoint) -> Result<Self> {
        let path = checkpoint.folder().join("config.json");
        let found = std::fs::metadata(&path).map_err(Error::read(&path))?;
        if !found.is_file() || found.len() > MAX_CONFIG_BYTES {
            let problem = format!("is not a regular file of at most {MAX_CONFIG_BYTES} bytes");
            return Err(Error::config(&path, problem));
        }
        let text = std::fs::read(&path).map_err(Error::read(&path))?;
        let json: Json =
            serde_json::from_slice(&text).map_err(|e| Error::config(&path, e.to_string()))?;
        let table = checkpoint.tensor("model.embed_tokens.weight");
        let rows = table.and_then(|table| table.shape.first().copied());
        json.config(rows)
            .map_err(|problem| Error::config(&path, problem))
    }
}

/// `config.json`, as far as it matters here.
#[derive(Deserialize)]
struct Json {
    model_type: String,
    hidden_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    intermediate_size: u64,
    max_position_embeddings: u64,
    rms_norm_eps: f64,
    vocab_size: u64,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    tie_word_embeddings: Option<bool>,
    sliding_window: Option<u64>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<u64>,
    layer_types: Option<Vec<String>>,
    sliding_window_pattern: Option<u64>,
    query_pre_attn_scalar: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    rope_scaling: Option<Scaling>,
    /// Since transformers 5 all of a rotation's numbers, or those of each kind of block.
    rope_parameters: Option<Parameters>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Parameters {
    ByKind {
        full_attention: Scaling,
        sliding_attention: Scaling,
    },
    One(Scaling),
}

/// What `rope_scaling` and `rope_parameters` say.
#[derive(Clone, Default, Deserialize)]
struct Scaling {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    attention_factor: Option<f64>,
    partial_rotary_factor: Option<f64>,
}

impl Scaling {
    fn rope(&self, theta: f64, context: f64) -> std::result::Result<Rope, String> {
        let theta = self.rope_theta.unwrap_or(theta);
        if !(theta > 1.0 && theta.is_finite()) {
            return Err(format!("`rope_theta` is {theta}, expected above 1"));
        }
        if self.partial_rotary_factor.is_some_and(|part| part != 1.0) {
            return Err("`partial_rotary_factor` is not 1, which is not supported".into());
        }
        let kind = self.rope_type.as_deref().unwrap_or("default");
        let positive = |name: &str, value: Option<f64>| {
            value
                .filter(|value| *value > 0.0 && value.is_finite())
                .ok_or_else(|| {
                    format!("`{name}` is missing or not positive, and `rope_type` is `{kind}`")
                })
        };
        let factor = || positive("factor", self.factor);
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: factor()? },
            "llama3" => RopeScaling::Llama3 {
                factor: factor()?,
                low_freq_factor: positive("low_freq_factor", self.low_freq_factor)?,
                high_freq_factor: positive("high_freq_factor", self.high_freq_factor)?,
                original_context: positive(
                    "original_max_position_embeddings",
                    self.original_max_position_embeddings,
                )?,
            },
            "yarn" => RopeScaling::Yarn {
                factor: factor()?,
                beta_fast: self.beta_fast.unwrap_or(32.0),
                beta_slow: self.beta_slow.unwrap_or(1.0),
                original_context: self.original_max_position_embeddings.unwrap_or(context),
                attention_factor: match self.attention_factor {
                    Some(factor) => factor,
                    None => yarn_attention_factor(factor()?),
                },
            },
            other => {
                return Err(format!(
                    "`rope_type` is `{other}`, expected `default`, `linear`, `llama3` or `yarn`"
                ));
            }
        };
        Ok(Rope { theta, scaling })
    }
}

impl Json {
    /// The configuration of a token table of so many rows.
    fn config(&self, rows: Option<usize>) -> std::result::Result<LlamaConfig, String> {
        let architecture = Architecture::of_hugging_face(&self.model_type).ok_or_else(|| {
            format!(
                "`model_type` is `{}`, expected `llama`, `mistral`, `qwen2`, `qwen3` or `gemma3_text`",
                self.model_type
            )
        })?;
        let gemma = architecture == Architecture::Gemma3;
        let activation = self.hidden_act.as_ref().or(self.hidden_activation.as_ref());
        let expected = if gemma { "gelu_pytorch_tanh" } else { "silu" };
        if let Some(activation) = activation.filter(|name| *name != expected) {
            return Err(format!(
                "`hidden_act` is `{activation}`, expected `{expected}` for `{}`",
                self.model_type
            ));
        }
        let sizes = Sizes {
            dim: self.hidden_size,
            blocks: self.num_hidden_layers,
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_width: self.head_dim,
            hidden: self.intermediate_size,
            context: self.max_position_embeddings,
        };
        let (blocks, dim, heads, hidden, context) = sizes.check()?;
        let eps = self.rms_norm_eps;
        if !(0.0..f64::from(f32::MAX)).contains(&eps) {
            return Err(format!("`rms_norm_eps` is {eps}, expected 0 or more"));
        }
        if let Some(scalar) = self
            .query_pre_attn_scalar
            .filter(|s| *s != heads.width as f64)
        {
            return Err(format!(
                "`query_pre_attn_scalar` is {scalar}: another than a head's width, {}, is not supported",
                heads.width
            ));
        }
        for (name, cap) in [
            ("attn_logit_softcapping", self.attn_logit_softcapping),
            ("final_logit_softcapping", self.final_logit_softcapping),
        ] {
            if let Some(cap) = cap {
                return Err(format!("`{name}` is {cap}, which is not supported"));
            }
        }
        let plain = Scaling::default();
        let theta = self.rope_theta.unwrap_or(10_000.0);
        let (rope, local) = match &self.rope_parameters {
            Some(Parameters::ByKind {
                full_attention,
                sliding_attention,
            }) => (full_attention, Some(sliding_attention.clone())),
            Some(Parameters::One(one)) => (one, None),
            None => {
                let local = Scaling {
                    rope_theta: Some(self.rope_local_base_freq.unwrap_or(GEMMA3_LOCAL_THETA)),
                    ..Scaling::default()
                };
                (
                    self.rope_scaling.as_ref().unwrap_or(&plain),
                    gemma.then_some(local),
                )
            }
        };
        let local_rope = local
            .map(|local| local.rope(theta, context as f64))
            .transpose()?;
        let rows = rows.unwrap_or(self.vocab_size as usize);
        Ok(LlamaConfig {
            architecture,
            embedding_length: dim,
            heads,
            feed_forward_length: hidden,
            rms_eps: self.rms_norm_eps as f32,
            vocab_size: rows,
            context_length: context,
            windows: self.windows(architecture, blocks)?,
            rope: rope.rope(theta, context as f64)?,
            local_rope,
            tied: self.tie_word_embeddings.unwrap_or(gemma),
        })
    }

    /// The window of each block.
    fn windows(
        &self,
        architecture: Architecture,
        blocks: usize,
    ) -> std::result::Result<Vec<Option<usize>>, String> {
        let used = self
            .use_sliding_window
            .unwrap_or(architecture != Architecture::Qwen2);
        let window = self.sliding_window.filter(|window| used && *window > 0);
        let window = window.map(|window| window as usize);
        if let Some(types) = &self.layer_types {
            if types.len() != blocks {
                return Err(format!(
                    "`layer_types` has {} entries, expected {blocks}",
                    types.len()
                ));
            }
            return types
                .iter()
                .map(|kind| match kind.as_str() {
                    "full_attention" => Ok(None),
                    "sliding_attention" => Ok(window),
                    other => Err(format!(
                        "`layer_types` has `{other}`, which is not supported"
                    )),
                })
                .collect();
        }
        let pattern = self
            .sliding_window_pattern
            .map_or(GEMMA3_PATTERN, |n| n as usize)
            .max(1);
        let first = self.max_window_layers.unwrap_or(0) as usize;
        let sees_all = |n: usize| match architecture {
            Architecture::Gemma3 => (n + 1).is_multiple_of(pattern),
            Architecture::Llama => false,
            Architecture::Qwen2 | Architecture::Qwen3 => n < first,
        };
        Ok((0..blocks)
            .map(|n| window.filter(|_| !sees_all(n)))
            .collect())
    }
}
