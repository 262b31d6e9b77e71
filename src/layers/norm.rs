//! Layer norm and RMS norm over the last dimension.

use crate::error::Result;
use crate::gpu::Recorder;
use crate::ops::{Activation, Operand, layer_norm, layer_norm_activated, rms_norm};
use crate::tensor::{Tensor, Weights};

/// `(x − mean) / √(var + eps) · weight + bias`.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// `weight` and `bias` `[dim]`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(dim: usize, eps: f32, w: &Weights) -> Result<Self> {
        Self::named(dim, eps, ["weight", "bias"], w)
    }

    /// The same where a checkpoint calls both otherwise.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn named(dim: usize, eps: f32, [weight, bias]: [&str; 2], w: &Weights) -> Result<Self> {
        Ok(Self {
            weight: w.vector(weight, dim)?,
            bias: w.vector(bias, dim)?,
            eps,
        })
    }

    /// Norms each row.
    pub fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        layer_norm(rec, x, &self.weight, &self.bias, self.eps)
    }

    /// Norms each row and activates it.
    pub fn activated(&self, rec: &Recorder, x: &Tensor, activation: Activation) -> Tensor {
        layer_norm_activated(rec, x, &self.weight, &self.bias, self.eps, activation)
    }
}

/// `x / √(mean(x²) + eps) · weight`.
#[derive(Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    /// Of these weights, for checkpoints that keep them otherwise.
    ///
    /// # Errors
    /// No memory.
    pub fn of(weight: &[f32], eps: f32, w: &Weights) -> Result<Self> {
        Ok(Self {
            weight: Tensor::upload(w.gpu(), "norm", weight.len(), weight)?,
            eps,
        })
    }

    /// `weight` `[dim]`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(dim: usize, eps: f32, w: &Weights) -> Result<Self> {
        Ok(Self {
            weight: w.vector("weight", dim)?,
            eps,
        })
    }

    /// Norms each row.
    pub fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        rms_norm(rec, x, &self.weight, self.eps)
    }

    /// The rows to be normed, for a product that follows.
    pub fn operand<'a>(&'a self, x: &'a Tensor) -> Operand<'a> {
        Operand::Normed {
            x,
            weight: &self.weight,
            eps: self.eps,
        }
    }
}
