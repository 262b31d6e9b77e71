//! A table of rows by number.

use crate::error::Result;
use crate::gpu::Recorder;
use crate::ops::embed;
use crate::tensor::{Matrix, Tensor, Weights};

/// An embedding table, packed like the weight of a linear layer so that it can be tied to one.
#[derive(Debug)]
pub struct Embedding {
    weight: Matrix,
}

impl Embedding {
    /// `weight` `[rows, dim]`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(rows: usize, dim: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            weight: w.matrix("weight", [rows, dim])?,
        })
    }

    /// The packed table.
    pub fn weight(&self) -> &Matrix {
        &self.weight
    }

    /// The rows named by `ids` (`[tokens]`, u32, checked by the caller): `[tokens, dim]`.
    pub fn forward(&self, rec: &Recorder, ids: &Tensor) -> Tensor {
        embed(rec, ids, &self.weight)
    }
}
