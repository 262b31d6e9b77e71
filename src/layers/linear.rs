//! `x · wᵀ + b`.

use std::ops::Range;

use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::BatchNorm;
use crate::ops::{Activation, Operand, Product, linear_into};
use crate::tensor::{Matrix, Tensor, Weights};

/// A linear layer. Its results are padded to a multiple of 4 columns.
#[derive(Debug)]
pub struct Linear {
    /// One product, or several side by side: where the file stores parts of a stack in different formats, or where a
    /// matrix is larger than the adapter binds at once.
    parts: Vec<Part>,
    outputs: usize,
}

/// A matrix with its bias.
#[derive(Debug)]
struct Part {
    weight: Matrix,
    bias: Tensor,
}

impl From<Part> for Linear {
    fn from(part: Part) -> Self {
        Self {
            outputs: part.weight.outputs,
            parts: vec![part],
        }
    }
}

impl Linear {
    /// `weight` `[outputs, inputs]` and, where there is one, `bias` `[outputs]`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new([inputs, outputs]: [usize; 2], w: &Weights) -> Result<Self> {
        let bias = match w.has("bias") {
            true => w.values("bias", &[outputs])?,
            false => vec![0.0; outputs],
        };
        Self::of(w.matrix_in_parts("weight", [outputs, inputs])?, &bias, w)
    }

    /// The same, its outputs in another order: the i-th is the checkpoint's `order[i]`-th.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    ///
    /// # Panics
    /// If `order` names an output that there is not.
    pub fn in_order(inputs: usize, order: &[usize], w: &Weights) -> Result<Self> {
        let matrix = w.matrix_of_rows("weight", inputs, order)?;
        let bias = w.values("bias", &[order.len()])?;
        let bias: Vec<f32> = order.iter().map(|n| bias[*n]).collect();
        Self::of(vec![matrix], &bias, w)
    }

    /// Some rows of a layer whose weight `[outputs, inputs]` and bias `[outputs]` are called so: of PyTorch's
    /// `MultiheadAttention` those of q, k or v in `in_proj_weight`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn rows(
        [inputs, outputs]: [usize; 2],
        [weight, bias]: [&str; 2],
        rows: Range<usize>,
        w: &Weights,
    ) -> Result<Self> {
        let bias = w.values(bias, &[outputs])?;
        let matrix = w.matrix_rows(weight, [outputs, inputs], rows.clone())?;
        Self::of(vec![matrix], &bias[rows], w)
    }

    /// `weight` `[outputs, inputs]`, which has no bias, and the batch norm that follows it.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn normed([inputs, outputs]: [usize; 2], w: &Weights, norm: &Weights) -> Result<Self> {
        let norm = BatchNorm::new(outputs, norm)?;
        let scaled = |values: &[f32], o: usize, i: usize| {
            (f64::from(values[o * inputs + i]) * norm.scale[o]) as f32
        };
        let shape = [outputs, inputs];
        let matrix = w.matrix_of("weight", &shape, shape, scaled)?;
        Self::made(matrix, &norm.bias(), w)
    }

    /// A layer of this matrix and bias.
    ///
    /// # Errors
    /// No memory.
    pub fn made(weight: Matrix, bias: &[f32], w: &Weights) -> Result<Self> {
        Self::of(vec![weight], bias, w)
    }

    /// The rows of several matrices one after the other, with the bias of all of them.
    fn of(matrices: Vec<Matrix>, bias: &[f32], w: &Weights) -> Result<Self> {
        let mut first = 0;
        let part = |weight: Matrix| {
            let own = &bias[first..first + weight.outputs];
            first += weight.outputs;
            let bias = w.padded_bias(own)?;
            Ok(Part { weight, bias })
        };
        Ok(Self {
            parts: matrices.into_iter().map(part).collect::<Result<_>>()?,
            outputs: bias.len(),
        })
    }

    /// A 1 × 1 convolution on NHWC: `weight` `[outputs, inputs, 1, 1]`, `bias` `[outputs]`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn conv1x1([inputs, outputs]: [usize; 2], w: &Weights) -> Result<Self> {
        let weight = w.conv1x1("weight", [outputs, inputs])?;
        let bias = w.bias(Some("bias"), outputs)?;
        Ok(Part { weight, bias }.into())
    }

    /// Several layers on the same input as one product: `(name, outputs)` each with `weight` and,
    /// where the first has one, `bias`. A part in another format than the one before it becomes a product of its own,
    /// into the same result.
    ///
    /// # Errors
    /// A missing or misshapen tensor; a part of another format whose results would not begin at a multiple of 4.
    pub fn stacked(inputs: usize, parts: &[(&str, usize)], w: &Weights) -> Result<Self> {
        let named = |suffix: &str| {
            parts
                .iter()
                .map(|(name, outputs)| (format!("{name}.{suffix}"), *outputs))
                .collect::<Vec<_>>()
        };
        let (weights, biases) = (named("weight"), named("bias"));
        let weights: Vec<(&str, usize)> = weights.iter().map(|(n, o)| (n.as_str(), *o)).collect();
        let has_bias = w.has(&biases[0].0);
        let mut bias = Vec::new();
        for (name, outputs) in &biases {
            match has_bias {
                true => bias.extend(w.values(name, &[*outputs])?),
                false => bias.resize(bias.len() + outputs, 0.0),
            }
        }
        let matrices = w.stacked(&weights, inputs)?;
        let mut before: usize = 0;
        for matrix in &matrices {
            if !before.is_multiple_of(4) {
                return Err(w.fault(format!(
                    "`{}` is stacked with matrices in other formats, one of which begins after {before} outputs, no multiple of 4",
                    weights[0].0
                )));
            }
            before += matrix.outputs;
        }
        Self::of(matrices, &bias, w)
    }

    /// A gate and what it gates, on the same input, without bias: [`Linear::activated`] gives
    /// `activation(x · gateᵀ) · (x · upᵀ)`.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or different formats.
    pub fn gated(
        [inputs, outputs]: [usize; 2],
        [gate, up]: [&str; 2],
        w: &Weights,
    ) -> Result<Self> {
        let names = [format!("{gate}.weight"), format!("{up}.weight")];
        let part = |weight: Matrix| {
            let bias = w.bias(None, weight.rows())?;
            Ok(Part { weight, bias })
        };
        let matrices = w.gated([&names[0], &names[1]], [outputs, inputs])?;
        Ok(Self {
            parts: matrices.into_iter().map(part).collect::<Result<_>>()?,
            outputs,
        })
    }

    /// A layer without bias on matrices that are also used elsewhere: a tied output layer.
    ///
    /// # Errors
    /// No memory.
    pub fn tied(parts: &[Matrix], w: &Weights) -> Result<Self> {
        let outputs = parts.iter().map(|part| part.outputs).sum();
        Self::of(parts.to_vec(), &vec![0.0; outputs], w)
    }

    /// The outputs without padding.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// `x · wᵀ + b`.
    pub fn forward<'a>(&self, rec: &Recorder, x: impl Into<Operand<'a>>) -> Tensor {
        self.apply(rec, x.into(), Activation::None, None)
    }

    /// `activation(x · wᵀ + b)`.
    pub fn activated<'a>(
        &self,
        rec: &Recorder,
        x: impl Into<Operand<'a>>,
        activation: Activation,
    ) -> Tensor {
        self.apply(rec, x.into(), activation, None)
    }

    /// `x · wᵀ + b + residual`.
    pub fn added<'a>(
        &self,
        rec: &Recorder,
        x: impl Into<Operand<'a>>,
        residual: &Tensor,
    ) -> Tensor {
        self.apply(rec, x.into(), Activation::None, Some(residual))
    }

    fn apply(
        &self,
        rec: &Recorder,
        x: Operand,
        activation: Activation,
        residual: Option<&Tensor>,
    ) -> Tensor {
        let made = (!x.folds(rec.gpu())).then(|| x.rows(rec));
        let x = made.as_ref().map_or(x, Operand::Rows);
        let y = Tensor::empty(rec, [x.matrix()[0], self.outputs.next_multiple_of(4)]);
        let mut first = 0;
        for Part { weight, bias } in &self.parts {
            let product = Product {
                x,
                weight,
                bias,
                activation,
                residual,
            };
            linear_into(rec, &product, &y, first);
            first += weight.width();
        }
        y
    }
}
