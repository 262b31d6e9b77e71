//! How far a position turns each pair of columns, and the ways to stretch a context beyond what a model was trained on.

use crate::tensor::Tensor;

/// Rotary positions (RoPE, arXiv 2104.09864) of one kind of block.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// The base of the angles.
    pub theta: f64,
    /// How the context is stretched.
    pub scaling: RopeScaling,
}

/// How a context is stretched.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// It is not.
    None,
    /// Every position divided by `factor` (arXiv 2306.15595).
    Linear {
        /// By how much.
        factor: f64,
    },
    /// Llama 3.1's: low frequencies divided by `factor`, high ones left alone, and in between a passage.
    Llama3 {
        /// By how much.
        factor: f64,
        /// Wavelengths beyond the context over this are divided.
        low_freq_factor: f64,
        /// Wavelengths below the context over this are left.
        high_freq_factor: f64,
        /// The context of the first training.
        original_context: f64,
    },
    /// Each frequency divided by a number of its own: what GGUF keeps of Llama 3.1's in `rope_freqs.weight`.
    Factors(Vec<f32>),
    /// YaRN (arXiv 2309.00071): as `Llama3`, the passage counted in turns over the context, and q and k a little longer.
    Yarn {
        /// By how much.
        factor: f64,
        /// Pairs that turn more often over the context are left.
        beta_fast: f64,
        /// Pairs that turn less often are divided.
        beta_slow: f64,
        /// The context of the first training.
        original_context: f64,
        /// What q and k are multiplied with.
        attention_factor: f64,
    },
}

impl Rope {
    /// Plain positions of a base.
    pub fn plain(theta: f64) -> Self {
        Self {
            theta,
            scaling: RopeScaling::None,
        }
    }

    /// Radians a position for each pair of heads of `width`, `[width / 2]`.
    pub fn frequencies(&self, width: usize) -> Vec<f32> {
        let pairs = width / 2;
        let plain = |i: usize| self.theta.powf(-2.0 * i as f64 / width as f64);
        let stretched = |i: usize| match &self.scaling {
            RopeScaling::None => plain(i),
            RopeScaling::Linear { factor } => plain(i) / factor,
            RopeScaling::Factors(factors) => plain(i) / f64::from(factors[i]),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => {
                let turns = original_context * plain(i) / std::f64::consts::TAU;
                let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let kept = kept.clamp(0.0, 1.0);
                plain(i) * (kept + (1.0 - kept) / factor)
            }
            RopeScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_context,
                ..
            } => {
                // The pair that turns so often over the first context.
                let pair = |turns: f64| {
                    let context = original_context / (turns * std::f64::consts::TAU);
                    pairs as f64 * context.ln() / self.theta.ln()
                };
                let low = pair(*beta_fast).floor().max(0.0);
                let high = pair(*beta_slow).ceil().min(width as f64 - 1.0);
                let passed = (i as f64 - low) / (high - low).max(1e-3);
                let kept = 1.0 - passed.clamp(0.0, 1.0);
                plain(i) * (kept + (1.0 - kept) / factor)
            }
        };
        (0..pairs).map(|i| stretched(i) as f32).collect()
    }

    /// The same, if heads of `width` are turned by numbers.
    ///
    /// # Errors
    /// A base and a scaling whose angles, or whose factor of q and k, are beyond f32, in words that the file goes before.
    pub(super) fn checked(self, width: usize) -> Result<Self, String> {
        let angles = self.frequencies(width);
        if angles.iter().chain([&self.scale()]).all(|v| v.is_finite()) {
            return Ok(self);
        }
        Err(format!(
            "positions of base {} scaled by {:?} turn by no finite angle",
            self.theta, self.scaling
        ))
    }

    /// What q and k are multiplied with.
    pub fn scale(&self) -> f32 {
        match self.scaling {
            RopeScaling::Yarn {
                attention_factor, ..
            } => attention_factor as f32,
            _ => 1.0,
        }
    }
}

/// The attention factor of YaRN where a file does not say it.
pub(super) fn yarn_attention_factor(factor: f64) -> f64 {
    0.1 * factor.max(1.0).ln() + 1.0
}

/// A rotation's table on the adapter.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub frequency: Tensor,
    pub scale: f32,
}
