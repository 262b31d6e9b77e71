//! SAM's image encoder: a ViT or a TinyViT, and a neck of two convolutions.

use super::SamConfig;
use super::config::EncoderConfig;
use super::names::Names;
use super::tiny_vit::TinyVit;
use super::vit::Vit;
use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{Conv, LayerNorm};
use crate::ops::{Activation, Window};
use crate::tensor::{Tensor, Weights};

/// What makes tokens of pixels.
#[derive(Debug)]
enum Body {
    Vit(Vit),
    TinyVit(TinyVit),
}

/// The tokens of a picture, and a neck that gives them the width of prompts.
#[derive(Debug)]
pub struct ImageEncoder {
    body: Body,
    neck: [(Conv, LayerNorm); 2],
}

impl ImageEncoder {
    /// The tensors below `image_encoder`.
    pub(super) fn new(config: &SamConfig, names: &Names, w: &Weights) -> Result<Self> {
        let (body, dim) = match &config.encoder {
            EncoderConfig::Vit(vit) => (Body::Vit(Vit::new(vit, names, w)?), vit.dim),
            EncoderConfig::TinyVit(tiny) => (Body::TinyVit(TinyVit::new(tiny, w)?), tiny.dim()),
        };
        let out = config.prompt_dim;
        let [first, first_norm, second, second_norm] = names.neck.map(|name| w.at(name));
        // The neck's norms are SAM's own, whose epsilon no file says.
        let norm = |w: &Weights| LayerNorm::new(out, 1e-6, w);
        Ok(Self {
            body,
            neck: [
                (
                    Conv::new([dim, out], Window::square(1, 1, 0), &first)?,
                    norm(&first_norm)?,
                ),
                (
                    Conv::new([out, out], Window::square(3, 1, 1), &second)?,
                    norm(&second_norm)?,
                ),
            ],
        })
    }

    /// Encodes `[images, image_size, image_size, 4]`, red, green, blue and nothing, normalised as the model's processor does:
    /// `[images, grid, grid, prompt_dim]`. `keep` is shown the states after the patches (`embedding`), each block (a ViT's
    /// `block0` …, a TinyViT's `layer0.block0` …) and stage (`layer0` …, on the grid of the next), and the neck (`neck`).
    pub fn forward(
        &self,
        rec: &Recorder,
        image: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Tensor {
        let mut x = match &self.body {
            Body::Vit(vit) => vit.forward(rec, image, &mut keep),
            Body::TinyVit(tiny) => tiny.forward(rec, image, &mut keep),
        };
        for (conv, norm) in &self.neck {
            x = conv.forward(rec, &x, Activation::None);
            x = norm.forward(rec, &x);
        }
        keep("neck", &x);
        x
    }
}
