//! Layer norm and RMS norm over the last dimension, and batch norm, which is folded into what it follows.

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

/// PyTorch's epsilon of a batch norm.
const BATCH_EPS: f64 = 1e-5;

/// PyTorch's `BatchNorm1d` and `BatchNorm2d` once trained: `x · scale + shift`, by channel. What it follows takes it in when it
/// loads ([`Conv::normed`](crate::layers::Conv::normed), [`Linear::normed`](crate::layers::Linear::normed)).
#[derive(Debug)]
pub struct BatchNorm {
    /// `weight / √(running_var + eps)`.
    pub scale: Vec<f64>,
    /// `bias − running_mean · scale`.
    pub shift: Vec<f64>,
}

impl BatchNorm {
    /// `weight`, `bias`, `running_mean` and `running_var` `[dim]`.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or a variance below 0.
    pub fn new(dim: usize, w: &Weights) -> Result<Self> {
        let values = |name: &str| Ok(w.values(name, &[dim])?.into_iter().map(f64::from));
        let mut scale: Vec<f64> = values("weight")?.collect();
        for (n, (scale, var)) in scale.iter_mut().zip(values("running_var")?).enumerate() {
            if var < 0.0 {
                let name = w.full("running_var");
                return Err(w.fault(format!(
                    "tensor `{name}` holds {var} at element {n}, expected 0 or more"
                )));
            }
            *scale /= (var + BATCH_EPS).sqrt();
        }
        let moved = values("bias")?.zip(values("running_mean")?).zip(&scale);
        let shift = moved.map(|((bias, mean), scale)| bias - mean * scale);
        let shift = shift.collect();
        w.skip("num_batches_tracked");
        Ok(Self { scale, shift })
    }

    /// The shift as a bias.
    pub fn bias(&self) -> Vec<f32> {
        self.shift.iter().map(|v| *v as f32).collect()
    }
}
