//! The image encoder of Zeus: a convolutional stem and a ViT.
//!
//! Four scales of 3 × 3 convolutions bring a slice to a grid of tokens; pre-norm transformer blocks
//! follow, and a neck of a 1 × 1 convolution and a layer norm, as in SAM (arXiv 2304.02643). The
//! first three scales are kept as skip connections for the upscaling.

use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{Conv, LayerNorm, Linear, Mlp};
use crate::models::zeus::ZeusConfig;
use crate::ops::{Activation, Columns, Heads, Window, add, attention};
use crate::tensor::{Tensor, Weights};

/// A slice, encoded.
#[derive(Clone, Debug)]
pub struct ImageEmbedding {
    /// `[slices, grid, grid, prompt_dim]`: what the prompts read.
    pub neck: Tensor,
    /// The stem's scales, finest first: `[slices, size / 2, size / 2, stem[0]]` and so on.
    pub skips: [Tensor; 3],
}

/// One scale of the stem: a convolution of stride 2 and, but for the last scale, one of stride 1.
#[derive(Debug)]
struct Stage {
    convs: Vec<Conv>,
    /// The last scale hands its result to the ViT without an activation.
    activation: Activation,
}

impl Stage {
    fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let mut x = x.clone();
        for conv in &self.convs {
            x = conv.forward(rec, &x, self.activation);
        }
        x
    }
}

/// A pre-norm transformer block.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    heads: Heads,
}

impl Block {
    fn new(config: &ZeusConfig, w: &Weights) -> Result<Self> {
        let (dim, eps) = (config.dim, config.ln_eps);
        Ok(Self {
            norm1: LayerNorm::new(dim, eps, &w.at("norm1"))?,
            qkv: Linear::new([dim, 3 * dim], &w.at("attn").at("qkv"))?,
            proj: Linear::new([dim, dim], &w.at("attn").at("proj"))?,
            norm2: LayerNorm::new(dim, eps, &w.at("norm2"))?,
            mlp: Mlp::new(dim, dim * config.mlp_ratio, Activation::Gelu, &w.at("mlp"))?,
            heads: Heads {
                q: config.heads,
                kv: config.heads,
                width: dim / config.heads,
            },
        })
    }

    /// x `[slices · tokens, dim]`.
    fn forward(&self, rec: &Recorder, x: Tensor, slices: usize) -> Tensor {
        let [_, dim] = x.matrix();
        let qkv = self.qkv.forward(rec, &self.norm1.forward(rec, &x));
        let (q, k, v) = (
            Columns::from(&qkv, 0),
            Columns::from(&qkv, dim),
            Columns::from(&qkv, 2 * dim),
        );
        let attended = attention(rec, q, k, v, self.heads, slices, false);
        let x = self.proj.added(rec, &attended, &x);
        self.mlp.added(rec, &self.norm2.forward(rec, &x), &x)
    }
}

/// Stem, ViT and neck.
#[derive(Debug)]
pub struct ImageEncoder {
    patch_embed: Vec<Stage>,
    pos_embed: Tensor,
    blocks: Vec<Block>,
    neck: (Linear, LayerNorm),
    grid: usize,
}

impl ImageEncoder {
    /// The tensors below `image_encoder`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(config: &ZeusConfig, w: &Weights) -> Result<Self> {
        let mut inputs = config.channels;
        let mut patch_embed = Vec::new();
        let last = config.stem.len() - 1;
        for (n, outputs) in config.stem.into_iter().enumerate() {
            let w = w.at("patch_embed").at("stages").at(n);
            let window = |stride| Window::square(3, stride, 1);
            let mut convs = vec![Conv::new(
                [inputs, outputs],
                window(2),
                &w.at(0).at("conv"),
            )?];
            if n < last {
                convs.push(Conv::new([outputs; 2], window(1), &w.at(1).at("conv"))?);
            }
            let activation = if n < last {
                Activation::Gelu
            } else {
                Activation::None
            };
            patch_embed.push(Stage { convs, activation });
            inputs = outputs;
        }
        let (grid, dim) = (config.grid, config.dim);
        let neck = w.at("neck");
        Ok(Self {
            patch_embed,
            pos_embed: w.tensor("pos_embed", [1, grid, grid, dim])?,
            blocks: (0..config.depth)
                .map(|n| Block::new(config, &w.at("blocks").at(n)))
                .collect::<Result<_>>()?,
            neck: (
                Linear::conv1x1([dim, config.prompt_dim], &neck.at(0))?,
                LayerNorm::new(config.prompt_dim, config.ln_eps, &neck.at(1))?,
            ),
            grid,
        })
    }

    /// Encodes `[slices, size, size, channels padded to 4]`, intensities 0 … 1. `keep` is shown the
    /// intermediate tensors by the reference's names.
    pub fn forward(
        &self,
        rec: &Recorder,
        image: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> ImageEmbedding {
        let [slices, ..] = image.dims::<4>();
        let mut scales = Vec::new();
        let mut x = image.clone();
        for (n, stage) in self.patch_embed.iter().enumerate() {
            x = stage.forward(rec, &x);
            keep(&format!("stem{n}"), &x);
            scales.push(x.clone());
        }
        scales.pop();
        let [.., dim] = x.dims::<4>();
        x = add(rec, &x, &self.pos_embed).reshape([slices * self.grid * self.grid, dim]);
        for (n, block) in self.blocks.iter().enumerate() {
            x = block.forward(rec, x, slices);
            keep(&format!("block{n}"), &x);
        }
        let neck = self.neck.1.forward(rec, &self.neck.0.forward(rec, &x));
        let neck = neck.reshape([slices, self.grid, self.grid, neck.matrix()[1]]);
        keep("neck", &neck);
        let [fine, middle, coarse] =
            <[Tensor; 3]>::try_from(scales).expect("the stem has four scales");
        ImageEmbedding {
            neck,
            skips: [fine, middle, coarse],
        }
    }
}
