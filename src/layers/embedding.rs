//! A table of rows by number.

use crate::error::Result;
use crate::gpu::Recorder;
use crate::ops::embed_into;
use crate::tensor::{Matrix, Tensor, Weights};

/// An embedding table, packed like the weight of a linear layer so that it can be tied to one. One that is larger than the
/// adapter binds at once is in several parts.
#[derive(Debug)]
pub struct Embedding {
    parts: Vec<Matrix>,
    scale: f32,
}

impl Embedding {
    /// `weight` `[rows, dim]`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(rows: usize, dim: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            parts: w.matrix_in_parts("weight", [rows, dim])?,
            scale: 1.0,
        })
    }

    /// The rows of several tensors one after the other, `(name, rows)` each.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn stacked(parts: &[(&str, usize)], dim: usize, w: &Weights) -> Result<Self> {
        Ok(Self {
            parts: w.stacked(parts, dim)?,
            scale: 1.0,
        })
    }

    /// The same table, its rows times `scale` when they are read.
    #[must_use]
    pub fn scaled(self, scale: f32) -> Self {
        Self { scale, ..self }
    }

    /// The packed table, in the order of its rows.
    pub fn parts(&self) -> &[Matrix] {
        &self.parts
    }

    /// The rows named by `ids` (`[tokens]`, u32, checked by the caller): `[tokens, dim]`.
    pub fn forward(&self, rec: &Recorder, ids: &Tensor) -> Tensor {
        let y = Tensor::empty(rec, [ids.len(), self.parts[0].inputs]);
        let mut first = 0;
        for part in &self.parts {
            embed_into(rec, ids, part, first, self.scale, &y);
            first += part.outputs;
        }
        y
    }
}
