//! The projector of Zeus' LVLM (arXiv 2504.07336, section 3.2): image tokens in a language model's embedding space.
//!
//! The tokens of an image embedding that lie in one cell of the grid are put side by side, and an MLP of two layers brings each
//! cell to the language model's width, as in LLaVA 1.5 (arXiv 2310.03744).

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::Linear;
use crate::ops::{Activation, Residual, Window, conv};
use crate::tensor::{Checkpoint, Matrix, Precision, Tensor, Weights};

/// Two linear layers with GELU between.
#[derive(Debug)]
pub struct Projector {
    /// A square of `cell` × `cell` tokens, columns of each side by side in row-major order: a convolution whose stride is its
    /// kernel, with its taps in the order of the matrix's columns as they are.
    linear_1: Matrix,
    bias: Tensor,
    linear_2: Linear,
    cell: usize,
    width: usize,
}

impl Projector {
    /// Loads a checkpoint for image embeddings of `grid` × `grid` tokens of `prompt_dim` columns, every tensor of it. Its
    /// metadata give the side of a `cell` in tokens.
    ///
    /// # Errors
    /// A cell that does not divide the grid, a missing, misshapen or unknown tensor, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, grid: usize, prompt_dim: usize) -> Result<Self> {
        let fault = |problem: String| Error::weights(checkpoint.path(), problem);
        let text = checkpoint.metadata().remove("cell");
        let cell = text.as_deref().and_then(|text| text.parse().ok());
        let cell = cell.filter(|cell| (1..=15).contains(cell) && grid.is_multiple_of(*cell));
        let cell = cell.ok_or_else(|| {
            fault(format!(
                "`cell` in its metadata is {text:?}, expected 1 to 15 and a divisor of {grid} tokens"
            ))
        })?;
        let rows = |name: &str| match checkpoint.tensor(name).map(|entry| entry.shape) {
            Some(&[rows, _]) if (4..=1 << 16).contains(&rows) => Ok(rows),
            Some(shape) => Err(fault(format!(
                "tensor `{name}` has shape {shape:?}, expected 4 to 65536 rows"
            ))),
            None => Err(fault(format!("tensor `{name}` is missing"))),
        };
        let (hidden, width) = (rows("linear_1.weight")?, rows("linear_2.weight")?);
        let w = Weights::new(gpu, checkpoint, Precision::Auto);
        let first = w.at("linear_1");
        let this = Self {
            linear_1: first.matrix("weight", [hidden, cell * cell * prompt_dim])?,
            bias: first.bias(Some("bias"), hidden)?,
            linear_2: Linear::new([hidden, width], &w.at("linear_2"))?,
            cell,
            width,
        };
        w.finish(&[])?;
        Ok(this)
    }

    /// Columns of an image token: the width of the language model that it was trained for.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The image tokens of slices, `[slices · cells, width]`, cells row by row. `neck` is
    /// [`ImageEmbedding::neck`](crate::models::image_encoder::ImageEmbedding::neck), `[slices, grid, grid, prompt_dim]`.
    pub fn forward(&self, rec: &Recorder, neck: &Tensor) -> Tensor {
        let window = Window::square(self.cell, self.cell, 0);
        let hidden = conv(
            rec,
            neck,
            &window,
            &self.linear_1,
            &self.bias,
            Activation::Gelu,
            Residual::None,
        );
        let rows = hidden.matrix();
        self.linear_2.forward(rec, &hidden.reshape(rows))
    }
}
