//! Two and three linear layers with an activation between.

use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::Linear;
use crate::ops::Activation;
use crate::tensor::{Tensor, Weights};

/// `lin2(activation(lin1(x)))`, the MLP of a transformer block.
#[derive(Debug)]
pub struct Mlp {
    lin1: Linear,
    lin2: Linear,
    activation: Activation,
}

impl Mlp {
    /// `lin1` `dim → hidden` and `lin2` back.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(dim: usize, hidden: usize, activation: Activation, w: &Weights) -> Result<Self> {
        let lin1 = Linear::new([dim, hidden], &w.at("lin1"))?;
        Ok(Self {
            lin1,
            lin2: Linear::new([hidden, dim], &w.at("lin2"))?,
            activation,
        })
    }

    /// The MLP of `normed`, added to `x`.
    pub fn added(&self, rec: &Recorder, normed: &Tensor, x: &Tensor) -> Tensor {
        self.lin2
            .added(rec, &self.lin1.activated(rec, normed, self.activation), x)
    }
}

/// Three linear layers with ReLU between: the heads of SAM's mask decoder.
#[derive(Debug)]
pub struct Mlp3 {
    layers: [Linear; 3],
    last: Activation,
}

impl Mlp3 {
    /// `layers.0` `inputs → hidden`, `layers.1`, `layers.2` `hidden → outputs`, then `last`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(sizes: [usize; 3], last: Activation, w: &Weights) -> Result<Self> {
        Self::named(sizes, last, ["layers.0", "layers.1", "layers.2"], w)
    }

    /// The same where a checkpoint calls its layers otherwise.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn named(
        [inputs, hidden, outputs]: [usize; 3],
        last: Activation,
        [first, second, third]: [&str; 3],
        w: &Weights,
    ) -> Result<Self> {
        let layers = [
            Linear::new([inputs, hidden], &w.at(first))?,
            Linear::new([hidden, hidden], &w.at(second))?,
            Linear::new([hidden, outputs], &w.at(third))?,
        ];
        Ok(Self { layers, last })
    }

    /// Rows of `outputs` values, padded to a multiple of 4.
    pub fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let [first, second, third] = &self.layers;
        let x = first.activated(rec, x, Activation::Relu);
        let x = second.activated(rec, &x, Activation::Relu);
        third.activated(rec, &x, self.last)
    }
}
