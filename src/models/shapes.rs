//! What a checkpoint says of itself by its tensors' names and shapes.

use crate::error::{Error, Result};
use crate::tensor::Checkpoint;

/// The shapes of a checkpoint's tensors.
#[derive(Debug)]
pub(super) struct Shapes<'a> {
    pub checkpoint: &'a Checkpoint,
    /// What the checkpoint is taken for, for errors.
    pub kind: &'a str,
}

impl Shapes<'_> {
    /// The dimensions of a tensor.
    ///
    /// # Errors
    /// A missing tensor, or one with another number of dimensions.
    pub(super) fn of<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let fault = |problem: String| Error::weights(self.checkpoint.path(), problem);
        let kind = self.kind;
        let entry = self
            .checkpoint
            .tensor(name)
            .ok_or_else(|| fault(format!("tensor `{name}` is missing, which {kind} has")))?;
        entry.shape.try_into().map_err(|_| {
            let shape = entry.shape;
            fault(format!(
                "tensor `{name}` has shape {shape:?}, expected {N} dimensions"
            ))
        })
    }

    /// How many of numbered tensors there are in a row.
    pub(super) fn count(&self, name: impl Fn(usize) -> String) -> usize {
        let has = |n: &usize| self.checkpoint.tensor(&name(*n)).is_some();
        (0..).take_while(has).count()
    }
}
