//! Zeus at its paper's size (arXiv 2504.07336): SAM's image encoder for each modality, the text's embedding projected to one
//! token of SAM's mask decoder (`f_tt`, a linear layer), and that decoder.
//!
//! The image encoders and the text encoder stay as they were trained; a Zeus trains the projection and the mask decoder.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::Linear;
use crate::models::check_embedding;
use crate::models::sam::{Masks, Sam, SamConfig};
use crate::models::shapes::Shapes;
use crate::ops::{add, add_scaled};
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// SAMs of one size, one of which draws, and the projection.
#[derive(Debug)]
pub struct ZeusSam {
    sams: Vec<Sam>,
    /// Which of them draws.
    drawing: usize,
    text_projection: Linear,
    text_dim: usize,
}

impl ZeusSam {
    /// Puts together the SAMs of some checkpoints, of which `drawing` draws, and a projection: `weight` `[prompt_dim, text_dim]`
    /// and, if there is one, `bias`.
    ///
    /// # Errors
    /// A missing, misshapen or unknown tensor, SAMs of different sizes, or no memory.
    ///
    /// # Panics
    /// If `drawing` is none of them.
    pub fn new(
        gpu: &Gpu,
        checkpoints: &[Checkpoint],
        drawing: usize,
        text_projection: &Checkpoint,
        precision: Precision,
    ) -> Result<Self> {
        let mut sams: Vec<Sam> = Vec::new();
        for checkpoint in checkpoints {
            let sam = Sam::new(gpu, checkpoint, precision)?;
            let size = |config: &SamConfig| [config.image_size, config.grid(), config.prompt_dim];
            if let Some(first) = sams.first()
                && size(first.config()) != size(sam.config())
            {
                let (has, wants) = (size(sam.config()), size(first.config()));
                let of = checkpoints[0].path().display();
                let problem = format!(
                    "image size, grid and prompt width are {has:?}, those of `{of}` {wants:?}"
                );
                return Err(Error::weights(checkpoint.path(), problem));
            }
            sams.push(sam);
        }
        let prompt_dim = sams[drawing].config().prompt_dim;
        let shapes = Shapes {
            checkpoint: text_projection,
            kind: "a text projection",
        };
        let [_, text_dim] = shapes.of("weight")?;
        check_embedding(text_dim)
            .map_err(|problem| Error::weights(text_projection.path(), problem))?;
        let w = Weights::new(gpu, text_projection, precision);
        let this = Self {
            text_projection: Linear::new([text_dim, prompt_dim], &w)?,
            text_dim,
            drawing,
            sams,
        };
        w.finish(&[])?;
        Ok(this)
    }

    /// The sizes of the SAM that draws.
    pub fn config(&self) -> &SamConfig {
        self.sams[self.drawing].config()
    }

    /// Width of a text's embedding.
    pub fn text_dim(&self) -> usize {
        self.text_dim
    }

    /// The image tokens of pictures `[images, image_size, image_size, 4]` by the encoder of one of the checkpoints:
    /// `[images, grid, grid, prompt_dim]`.
    pub fn encode(&self, rec: &Recorder, encoder: usize, image: &Tensor) -> Tensor {
        self.sams[encoder].encode(rec, image, |_, _| ())
    }

    /// Hybrid fusion: the mean of the image tokens of several modalities.
    ///
    /// # Panics
    /// If there are none.
    pub fn mean(&self, rec: &Recorder, images: &[Tensor]) -> Tensor {
        let (first, rest) = images.split_first().expect("an image");
        let Some((last, between)) = rest.split_last() else {
            return first.clone();
        };
        let sum = between
            .iter()
            .fold(first.clone(), |sum, image| add(rec, &sum, image));
        add_scaled(rec, &sum, last, 1.0 / images.len() as f32)
    }

    /// The decoder's tokens of texts, `[texts, prompt_dim]`, of their embeddings `[texts, text_dim]`.
    pub fn project(&self, rec: &Recorder, texts: &Tensor) -> Tensor {
        self.text_projection.forward(rec, texts)
    }

    /// Masks of prompts, a token each `[prompts, prompt_dim]`, on one encoded picture `[1, grid, grid, prompt_dim]`.
    ///
    /// # Errors
    /// No memory.
    pub fn decode(
        &self,
        rec: &Recorder,
        image: &Tensor,
        tokens: &Tensor,
        keep: impl FnMut(&str, &Tensor),
    ) -> Result<Masks> {
        let [prompts, _] = tokens.matrix();
        self.sams[self.drawing].decode_tokens(rec, image, prompts, tokens, keep)
    }
}
