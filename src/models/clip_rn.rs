//! CLIP (arXiv 2103.00020) on a ResNet: RN50 and RN101, under the names of OpenAI's own program, which are open_clip's too.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::Linear;
use crate::models::clip_resnet::{ClipResNet, ClipResNetConfig, STRIDE};
use crate::models::clip_text::{ClipText, ClipTextConfig};
use crate::models::shapes::Shapes;
use crate::models::{check_biases, likely};
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// The sizes of a model, read off its tensors.
#[derive(Clone, Debug)]
pub struct ClipRnConfig {
    /// The image tower.
    pub vision: ClipResNetConfig,
    /// The text tower.
    pub text: ClipTextConfig,
}

impl ClipRnConfig {
    /// Reads the shapes of the tensors whose names begin with `place`.
    ///
    /// # Errors
    /// A missing tensor, or sizes that do not fit.
    pub(super) fn of_shapes(shapes: &Shapes, place: &str) -> Result<Self> {
        Ok(Self {
            vision: ClipResNetConfig::of_shapes(shapes, &format!("{place}visual."))?,
            text: ClipTextConfig::of_shapes(shapes, place)?,
        })
    }
}

/// Both towers and what brings texts to the width of pictures.
#[derive(Debug)]
pub struct ClipRn {
    config: ClipRnConfig,
    pub(super) visual: ClipResNet,
    /// `transformer` and what belongs to it.
    pub(super) text: ClipText,
    pub(super) text_projection: Linear,
}

impl ClipRn {
    /// Loads a checkpoint; pictures have the size that it was trained on. One that is no CLIP on a ResNet is told what it seems to
    /// be.
    ///
    /// # Errors
    /// A missing, misshapen or unknown tensor, sizes that do not fit, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let load = || {
            let shapes = Shapes {
                checkpoint,
                kind: "CLIP on a ResNet",
            };
            let config = ClipRnConfig::of_shapes(&shapes, "")?;
            check_biases(checkpoint, |stem| without_bias(checkpoint, stem))?;
            let w = Weights::new(gpu, checkpoint, precision);
            let size = config.vision.side * STRIDE;
            let this = Self::load(config, size, &w)?;
            // What OpenAI's files say of themselves.
            let said = ["input_resolution", "context_length", "vocab_size"];
            said.iter().for_each(|name| w.skip(name));
            w.finish(&[])?;
            Ok(this)
        };
        load().map_err(|error| likely::named(error, checkpoint))
    }

    /// The model whose tensors lie at `w`, for pictures of `image_size` pixels a side.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or no memory.
    pub(super) fn load(config: ClipRnConfig, image_size: usize, w: &Weights) -> Result<Self> {
        let (width, columns) = (config.text.hidden_size, config.vision.output_dim);
        // A parameter, not a layer: the other way round.
        let turned = |values: &[f32], o: usize, i: usize| values[i * columns + o];
        let (stored, shape) = ([width, columns], [columns, width]);
        let projection = w.matrix_of("text_projection", &stored, shape, turned)?;
        w.skip("logit_scale");
        Ok(Self {
            visual: ClipResNet::new(&config.vision, image_size, &w.at("visual"))?,
            text: ClipText::openai(config.text.clone(), w)?,
            text_projection: Linear::made(projection, &vec![0.0; columns], w)?,
            config,
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &ClipRnConfig {
        &self.config
    }

    /// The vectors of texts, given as token ids with their first and last: `[texts, output_dim]`. `keep` is shown what
    /// [`ClipText::forward`] shows.
    ///
    /// # Errors
    /// A text without tokens or too long, an id beyond the table, or no memory.
    pub fn texts(
        &self,
        rec: &Recorder,
        texts: &[Vec<u32>],
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let ends = self.text.forward(rec, texts, &mut keep)?;
        Ok(self.text_projection.forward(rec, &ends))
    }

    /// The vectors of pictures, `[images, output_dim]`; `pixels` and `keep` are those of [`ClipResNet::vector`].
    ///
    /// # Errors
    /// No memory, or pictures of another size than it was trained on.
    pub fn images(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let ([_, rows, columns, _], size) = (pixels.dims::<4>(), self.config.vision.side * STRIDE);
        if [rows, columns] != [size; 2] {
            let problem =
                format!("a picture of {rows} × {columns} pixels, expected {size} × {size}");
            return Err(Error::Argument(problem));
        }
        self.visual.vector(rec, pixels, keep)
    }
}

/// Which layers have a weight alone: the token table, and convolutions, whose norms follow them.
pub(super) fn without_bias(checkpoint: &Checkpoint, stem: &str) -> bool {
    let entry = checkpoint.tensor(&format!("{stem}.weight"));
    entry.is_some_and(|entry| entry.shape.len() == 4) || stem.ends_with("token_embedding")
}
