//! `x · wᵀ + b`.

use crate::error::Result;
use crate::gpu::Recorder;
use crate::ops::{Activation, linear};
use crate::tensor::{Matrix, Tensor, Weights};

/// A linear layer. Its results are padded to a multiple of 4 columns.
#[derive(Debug)]
pub struct Linear {
    weight: Matrix,
    bias: Tensor,
}

impl Linear {
    /// `weight` `[outputs, inputs]` and, where there is one, `bias` `[outputs]`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new([inputs, outputs]: [usize; 2], w: &Weights) -> Result<Self> {
        let bias = w.has("bias").then_some("bias");
        Ok(Self {
            weight: w.matrix("weight", [outputs, inputs])?,
            bias: w.bias(bias, outputs)?,
        })
    }

    /// A 1 × 1 convolution on NHWC: `weight` `[outputs, inputs, 1, 1]`, `bias` `[outputs]`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn conv1x1([inputs, outputs]: [usize; 2], w: &Weights) -> Result<Self> {
        Ok(Self {
            weight: w.conv1x1("weight", [outputs, inputs])?,
            bias: w.bias(Some("bias"), outputs)?,
        })
    }

    /// Several layers on the same input as one product: `(name, outputs)` each with `weight` and,
    /// where the first has one, `bias`.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or different formats.
    pub fn stacked(inputs: usize, parts: &[(&str, usize)], w: &Weights) -> Result<Self> {
        fn suffixed<'n>(names: &'n [String], parts: &[(&str, usize)]) -> Vec<(&'n str, usize)> {
            names
                .iter()
                .zip(parts)
                .map(|(name, (_, outputs))| (name.as_str(), *outputs))
                .collect()
        }
        let named = |suffix: &str| {
            parts
                .iter()
                .map(|(name, _)| format!("{name}.{suffix}"))
                .collect::<Vec<_>>()
        };
        let (weights, biases) = (named("weight"), named("bias"));
        let weight = w.stacked(&suffixed(&weights, parts), inputs)?;
        let bias = if w.has(&biases[0]) {
            w.stacked_bias(&suffixed(&biases, parts))?
        } else {
            w.bias(None, weight.outputs)?
        };
        Ok(Self { weight, bias })
    }

    /// A layer without bias on a matrix that is also used elsewhere: a tied output layer.
    ///
    /// # Errors
    /// No memory.
    pub fn tied(weight: Matrix, w: &Weights) -> Result<Self> {
        let bias = w.bias(None, weight.outputs)?;
        Ok(Self { weight, bias })
    }

    /// The outputs without padding.
    pub fn outputs(&self) -> usize {
        self.weight.outputs
    }

    /// `x · wᵀ + b`.
    pub fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        linear(rec, x, &self.weight, &self.bias, Activation::None, None)
    }

    /// `activation(x · wᵀ + b)`.
    pub fn activated(&self, rec: &Recorder, x: &Tensor, activation: Activation) -> Tensor {
        linear(rec, x, &self.weight, &self.bias, activation, None)
    }

    /// `x · wᵀ + b + residual`.
    pub fn added(&self, rec: &Recorder, x: &Tensor, residual: &Tensor) -> Tensor {
        linear(
            rec,
            x,
            &self.weight,
            &self.bias,
            Activation::None,
            Some(residual),
        )
    }
}
