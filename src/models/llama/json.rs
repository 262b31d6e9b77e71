//! Hugging Face's `config.json`, of a language model or of a larger one that has one.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::config::{Architecture, GEMMA3_LOCAL_THETA, GEMMA3_PATTERN, LlamaConfig, Sizes};
use super::rope::{Rope, RopeScaling, yarn_attention_factor};
use crate::error::{Error, Result};
use crate::models::config_json;
use crate::tensor::Checkpoint;

/// The configuration beside a checkpoint that is a language model and nothing else.
pub(super) fn of_folder(checkpoint: &Checkpoint) -> Result<LlamaConfig> {
    let (path, json) = config_json(checkpoint)?;
    let json: Json =
        serde_json::from_value(json).map_err(|e| Error::config(&path, e.to_string()))?;
    let table = checkpoint.tensor("model.embed_tokens.weight");
    let rows = table.and_then(|table| table.shape.first().copied());
    json.config(rows)
        .map_err(|problem| Error::config(&path, problem))
}

impl LlamaConfig {
    /// Reads the `text_config` of a larger model, whose token table has so many rows. What it does not say is as the
    /// architecture's authors had it: such parts are written without what is usual.
    ///
    /// # Errors
    /// What is missing or does not fit, in words that `config.json` goes before.
    pub(crate) fn of_part(part: &Value, rows: Option<usize>) -> std::result::Result<Self, String> {
        let Value::Object(given) = part else {
            return Err("`text_config` is no object".into());
        };
        let kind = given.get("model_type").and_then(Value::as_str);
        let usual = match kind.unwrap_or("llama") {
            "llama" => json!({
                "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
                "num_attention_heads": 32, "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "vocab_size": 32000,
            }),
            "mistral" => json!({
                "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
                "num_key_value_heads": 8, "max_position_embeddings": 131_072, "rms_norm_eps": 1e-6,
                "vocab_size": 32000, "sliding_window": 4096,
            }),
            _ => json!({}),
        };
        let mut all: Map<String, Value> = usual.as_object().cloned().unwrap_or_default();
        all.extend(given.clone());
        serde_json::from_value::<Json>(Value::Object(all))
            .map_err(|e| e.to_string())
            .and_then(|json| json.config(rows))
            .map_err(|problem| format!("`text_config`: {problem}"))
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
        let rope_of = |given: &Scaling| {
            let rope = given.rope(theta, context as f64)?;
            rope.checked(heads.width)
        };
        let local_rope = local.as_ref().map(rope_of).transpose()?;
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
            rope: rope_of(rope)?,
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
