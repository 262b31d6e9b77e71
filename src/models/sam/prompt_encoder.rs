//! SAM's prompt encoder: points and boxes to sparse tokens, a mask to a dense embedding.

use super::SamConfig;
use super::names::Names;
use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{Conv, Embedding, LayerNorm};
use crate::ops::{Activation, Window, add, copy_rows, fourier};
use crate::tensor::{Tensor, Weights};

/// What a prompt of one object is made of, in pixels of the model's input; the middle of the first pixel is 0.
///
/// Prompts that are decoded together have as many points each, and all or none of them a box.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// Places, column and line, and whether they lie in the object.
    pub points: Vec<([f32; 2], bool)>,
    /// The columns and lines of two corners, the upper left one first.
    pub corners: Option<[[f32; 2]; 2]>,
}

impl Prompt {
    /// A box.
    pub fn corners(corners: [[f32; 2]; 2]) -> Self {
        Self {
            corners: Some(corners),
            ..Self::default()
        }
    }

    /// Its tokens: a point or a corner each, and one that says that there is no box.
    fn tokens(&self) -> usize {
        match (self.points.len(), self.corners) {
            (points, Some(_)) => points + 2,
            (0, None) => 0,
            (points, None) => points + 1,
        }
    }
}

/// `point_embeddings`: outside, inside, the corners of a box; then `not_a_point_embed`.
const NOT_A_POINT: u32 = 4;

/// `mask_downscaling`: a mask's logits, four times as fine as the image tokens, to an embedding of each.
#[derive(Debug)]
struct MaskDownscaling {
    scales: [(Conv, LayerNorm); 2],
    last: Conv,
}

impl MaskDownscaling {
    fn new(config: &SamConfig, names: &Names, w: &Weights) -> Result<Self> {
        let half = Window::square(2, 2, 0);
        let (few, many) = (config.mask_in_chans / 4, config.mask_in_chans);
        let [first, first_norm, second, second_norm, last] =
            names.mask_downscaling.map(|name| w.at(name));
        Ok(Self {
            scales: [
                (
                    Conv::new([1, few], half, &first)?,
                    LayerNorm::new(few, config.mask_ln_eps, &first_norm)?,
                ),
                (
                    Conv::new([few, many], half, &second)?,
                    LayerNorm::new(many, config.mask_ln_eps, &second_norm)?,
                ),
            ],
            last: Conv::new([many, config.prompt_dim], Window::square(1, 1, 0), &last)?,
        })
    }

    /// x `[prompts, low_res, low_res, 4]`, the logits and nothing; `[prompts, grid, grid, prompt_dim]`.
    fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let mut x = x.clone();
        for (conv, norm) in &self.scales {
            x = conv.forward(rec, &x, Activation::None);
            x = norm.activated(rec, &x, Activation::Gelu);
        }
        self.last.forward(rec, &x, Activation::None)
    }
}

/// Prompts to tokens, and the positions of the image tokens.
#[derive(Debug)]
pub struct PromptEncoder {
    /// `pe_layer`: frequencies of columns and lines.
    gaussian_matrix: Tensor,
    point_embeddings: Embedding,
    not_a_point_embed: Tensor,
    no_mask_embed: Tensor,
    mask_downscaling: MaskDownscaling,
    image_size: usize,
    grid: usize,
}

impl PromptEncoder {
    /// The tensors below `prompt_encoder`, and the frequencies, wherever the file has them.
    pub(super) fn new(config: &SamConfig, names: &Names, root: &Weights) -> Result<Self> {
        let (dim, w) = (config.prompt_dim, root.at("prompt_encoder"));
        let points: Vec<String> = (0..NOT_A_POINT)
            .map(|n| format!("{}.{n}.weight", names.point_embeddings))
            .collect();
        let points: Vec<(&str, usize)> = points.iter().map(|name| (name.as_str(), 1)).collect();
        let one = |name: &str| w.at(name).tensor("weight", [1, dim]);
        Ok(Self {
            gaussian_matrix: root.tensor(names.gaussian_matrix, [2, dim / 2])?,
            point_embeddings: Embedding::stacked(&points, dim, &w)?,
            not_a_point_embed: one("not_a_point_embed")?,
            no_mask_embed: one("no_mask_embed")?,
            mask_downscaling: MaskDownscaling::new(config, names, &w)?,
            image_size: config.image_size,
            grid: config.grid(),
        })
    }

    /// The positions of the image tokens, `[grid², prompt_dim]` (`get_dense_pe`).
    ///
    /// # Errors
    /// No memory.
    pub fn image_pe(&self, rec: &Recorder) -> Result<Tensor> {
        let middle = |n: usize| (n as f32 + 0.5) / self.grid as f32;
        let lines = (0..self.grid).flat_map(|line| (0..self.grid).map(move |c| [c, line]));
        let places: Vec<f32> = lines.flatten().map(middle).collect();
        let shape = [places.len() / 2, 2];
        let places = Tensor::upload(rec.gpu(), "places", shape, &places)?;
        Ok(fourier(rec, &places, &self.gaussian_matrix))
    }

    /// The tokens of prompts, `[prompts · tokens, prompt_dim]`; nothing, where they have neither points nor boxes.
    ///
    /// # Errors
    /// No memory.
    ///
    /// # Panics
    /// If the prompts have not as many points each, or some of them a box.
    pub fn sparse(&self, rec: &Recorder, prompts: &[Prompt]) -> Result<Option<Tensor>> {
        let tokens = prompts.first().map_or(0, Prompt::tokens);
        if tokens == 0 {
            return Ok(None);
        }
        let (mut places, mut kinds) = (Vec::new(), Vec::new());
        // A place counts from the edge of the first pixel.
        let mut place = |at: [f32; 2], kind: u32| {
            places.extend(at.map(|p| (p + 0.5) / self.image_size as f32));
            kinds.push(kind);
        };
        for prompt in prompts {
            assert_eq!(prompt.tokens(), tokens, "tokens of prompts");
            for (at, inside) in &prompt.points {
                place(*at, u32::from(*inside));
            }
            match prompt.corners {
                Some([first, last]) => {
                    place(first, 2);
                    place(last, 3);
                }
                None => place([0.0; 2], 0),
            }
        }
        let gpu = rec.gpu();
        let rows = kinds.len();
        let places = Tensor::upload(gpu, "places", [rows, 2], &places)?;
        let kinds = Tensor::upload(gpu, "kinds of places", rows, &kinds)?;
        let features = fourier(rec, &places, &self.gaussian_matrix);
        let tokens_of = self.point_embeddings.forward(rec, &kinds);
        let sparse = add(rec, &features, &tokens_of);
        if prompts[0].corners.is_none() {
            // What stands for the box that is missing has no place.
            let last = tokens - 1;
            let count = prompts.len();
            copy_rows(rec, &self.not_a_point_embed, &sparse, count, last, tokens);
        }
        Ok(Some(sparse))
    }

    /// The image tokens `[1, grid, grid, prompt_dim]` once for each prompt, with what their masks say of them:
    /// `[prompts · grid², prompt_dim]`. `masks` are logits, `[prompts, low_res, low_res, 4]`, padded by whatever.
    pub fn dense(
        &self,
        rec: &Recorder,
        image: &Tensor,
        prompts: usize,
        masks: Option<&Tensor>,
    ) -> Tensor {
        let [_, dim] = image.matrix();
        let tokens = self.grid * self.grid;
        let image = image.reshape([tokens, dim]);
        match masks {
            Some(masks) => {
                let masks = self.mask_downscaling.forward(rec, masks);
                add(rec, &masks.reshape([prompts * tokens, dim]), &image)
            }
            None => {
                let image = add(rec, &image, &self.no_mask_embed);
                if prompts == 1 {
                    return image;
                }
                let all = Tensor::empty(rec, [prompts * tokens, dim]);
                copy_rows(rec, &image, &all, prompts * tokens, 0, 1);
                all
            }
        }
    }
}
