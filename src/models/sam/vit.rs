//! The ViT of SAM's image encoder: its blocks see windows of the picture, but for a few that see all of it, with decomposed
//! relative positions (ViTDet, arXiv 2203.16527).

use super::config::VitConfig;
use super::names::Names;
use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{Conv, LayerNorm, Linear, Mlp};
use crate::ops::{
    Activation, Added, Columns, Heads, Scores, Window, add, attention, joined_windows, rel_pos,
    windows,
};
use crate::tensor::{Tensor, Weights};

/// A pre-norm transformer block.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    /// `attn.rel_pos_h` and `attn.rel_pos_w`, of a table row for each distance.
    rel_pos: [Tensor; 2],
    proj: Linear,
    norm2: LayerNorm,
    mlp: Mlp,
    heads: Heads,
    /// The side of a window; nothing where a token sees the whole picture.
    window: Option<usize>,
}

impl Block {
    fn new(config: &VitConfig, names: &Names, window: Option<usize>, w: &Weights) -> Result<Self> {
        let (dim, eps) = (config.dim, config.ln_eps);
        let attn = w.at("attn");
        let side = window.unwrap_or(config.grid);
        let table = |name: &str| attn.tensor(name, [2 * side - 1, config.heads.width]);
        Ok(Self {
            norm1: LayerNorm::new(dim, eps, &w.at(names.norm1))?,
            qkv: Linear::new([dim, 3 * dim], &attn.at("qkv"))?,
            rel_pos: [table("rel_pos_h")?, table("rel_pos_w")?],
            proj: Linear::new([dim, dim], &attn.at("proj"))?,
            norm2: LayerNorm::new(dim, eps, &w.at(names.norm2))?,
            mlp: Mlp::new(dim, config.mlp_dim, Activation::Gelu, &w.at("mlp"))?,
            heads: config.heads,
            window,
        })
    }

    /// x `[images, grid, grid, dim]`.
    fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let [images, grid, _, dim] = x.dims();
        let pixels = images * grid * grid;
        let attended = self.attend(rec, self.norm1.forward(rec, x));
        let x = x.reshape([pixels, dim]);
        // On the picture, not on its windows, whose padding would be multiplied too.
        let x = self.proj.added(rec, &attended.reshape([pixels, dim]), &x);
        let y = self.mlp.added(rec, &self.norm2.forward(rec, &x), &x);
        y.reshape([images, grid, grid, dim])
    }

    /// Attention within each window, whose padding is normed rows of zeros and takes part as SAM's does.
    fn attend(&self, rec: &Recorder, normed: Tensor) -> Tensor {
        let [images, grid, _, dim] = normed.dims();
        let side = self.window.unwrap_or(grid);
        let tokens = match self.window {
            Some(side) => windows(rec, &normed, side, 0),
            None => normed.reshape([images, grid * grid, dim]),
        };
        drop(normed);
        let [batch, ..] = tokens.dims::<3>();
        let qkv = self.qkv.forward(rec, &tokens);
        drop(tokens);
        let [q, k, v] = [0, dim, 2 * dim].map(|first| Columns::from(&qkv, first));
        let places = rel_pos(rec, q, self.heads, batch, self.rel_pos.each_ref());
        let added = Added::Relative {
            places: &places,
            columns: side,
        };
        let scores = Scores {
            added,
            ..Scores::default()
        };
        let attended = attention(rec, q, k, v, self.heads, batch, scores);
        match self.window {
            Some(side) => joined_windows(rec, &attended, [images, grid, grid], side, 0),
            None => attended,
        }
    }
}

/// Patches and blocks.
#[derive(Debug)]
pub(super) struct Vit {
    patch_embed: Conv,
    pos_embed: Tensor,
    blocks: Vec<Block>,
}

impl Vit {
    /// The tensors below `image_encoder`.
    pub(super) fn new(config: &VitConfig, names: &Names, w: &Weights) -> Result<Self> {
        let (dim, grid) = (config.dim, config.grid);
        let patches = Window::square(config.patch_size, config.patch_size, 0);
        Ok(Self {
            patch_embed: Conv::new([3, dim], patches, &w.at(names.patch_embed))?,
            pos_embed: w.tensor("pos_embed", [1, grid, grid, dim])?,
            blocks: (0..config.windows.len())
                .map(|n| Block::new(config, names, config.windows[n], &w.at(names.blocks).at(n)))
                .collect::<Result<_>>()?,
        })
    }

    /// `[images, image_size, image_size, 4]` to `[images, grid, grid, dim]`. `keep` is shown the states after the positions
    /// (`embedding`) and each block (`block0` …).
    pub(super) fn forward(
        &self,
        rec: &Recorder,
        image: &Tensor,
        keep: &mut impl FnMut(&str, &Tensor),
    ) -> Tensor {
        let mut x = self.patch_embed.forward(rec, image, Activation::None);
        x = add(rec, &x, &self.pos_embed);
        keep("embedding", &x);
        for (n, block) in self.blocks.iter().enumerate() {
            x = block.forward(rec, &x);
            keep(&format!("block{n}"), &x);
        }
        x
    }
}
