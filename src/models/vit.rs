//! ViT (arXiv 2010.11929) under the names of timm's `VisionTransformer`, which open_clip's towers have too.

use crate::error::{Error, Result};
use crate::gpu::Recorder;
use crate::layers::{Conv, LayerNorm, Linear};
use crate::models::shapes::Shapes;
use crate::models::vision::LARGEST_PATCH;
use crate::ops::{
    Activation, Columns, Heads, Window, add, attention, can_cut, copy_rows, gather_rows,
};
use crate::tensor::{Tensor, Weights};

/// The epsilon of timm's norms.
const EPS: f32 = 1e-6;
/// Columns of a head of every ViT that timm knows by a published name, from Ti to L.
const HEAD: usize = 64;

/// The sizes of a ViT.
#[derive(Clone, Debug)]
pub struct VitConfig {
    /// Rows and columns of a picture in pixels.
    pub image_size: usize,
    /// Side of the square that becomes a token, in pixels.
    pub patch_size: usize,
    /// Width of a token.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads, and their width.
    pub heads: Heads,
    /// Width of the MLP.
    pub mlp_dim: usize,
}

impl VitConfig {
    /// Reads the shapes of the tensors below `place`.
    ///
    /// # Errors
    /// A missing tensor, or sizes that do not fit each other or the kernels.
    pub(super) fn of_shapes(shapes: &Shapes, place: &str) -> Result<Self> {
        let [dim, _, patch_size, _] = shapes.of(&format!("{place}.patch_embed.proj.weight"))?;
        let [_, tokens, _] = shapes.of(&format!("{place}.pos_embed"))?;
        let [mlp_dim, _] = shapes.of(&format!("{place}.blocks.0.mlp.fc1.weight"))?;
        let depth = shapes.count(|n| format!("{place}.blocks.{n}.attn.qkv.weight"));
        let fault = |problem| Err(Error::weights(shapes.checkpoint.path(), problem));
        let side = tokens.saturating_sub(1).isqrt();
        if !(1..=1 << 10).contains(&side) || side * side + 1 != tokens {
            return fault(format!(
                "`{place}.pos_embed` has {tokens} tokens, expected those of a square and one"
            ));
        }
        if patch_size > LARGEST_PATCH || !can_cut(side * patch_size, patch_size) {
            return fault(format!(
                "patches of {patch_size} pixels, expected at most {LARGEST_PATCH} that pictures can be cut into"
            ));
        }
        if !(1..=1 << 16).contains(&dim) || !dim.is_multiple_of(HEAD) {
            return fault(format!(
                "tokens of {dim} columns, expected a multiple of {HEAD} up to {}",
                1 << 16
            ));
        }
        if !(1..=1 << 18).contains(&mlp_dim) || !mlp_dim.is_multiple_of(4) {
            return fault(format!(
                "an MLP of {mlp_dim} columns, expected a multiple of 4 up to {}",
                1 << 18
            ));
        }
        Ok(Self {
            image_size: side * patch_size,
            patch_size,
            dim,
            depth,
            heads: Heads {
                q: dim / HEAD,
                kv: dim / HEAD,
                width: HEAD,
            },
            mlp_dim,
        })
    }

    /// Tokens of a picture, the class token's included.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2) + 1
    }
}

/// A pre-norm transformer block.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: Heads,
}

impl Block {
    fn new(config: &VitConfig, w: &Weights) -> Result<Self> {
        let (dim, hidden) = (config.dim, config.mlp_dim);
        let (attn, mlp) = (w.at("attn"), w.at("mlp"));
        Ok(Self {
            norm1: LayerNorm::new(dim, EPS, &w.at("norm1"))?,
            qkv: Linear::new([dim, 3 * dim], &attn.at("qkv"))?,
            proj: Linear::new([dim, dim], &attn.at("proj"))?,
            norm2: LayerNorm::new(dim, EPS, &w.at("norm2"))?,
            fc1: Linear::new([dim, hidden], &mlp.at("fc1"))?,
            fc2: Linear::new([hidden, dim], &mlp.at("fc2"))?,
            heads: config.heads,
        })
    }

    /// x `[images · tokens, dim]`; the tokens of an image see each other.
    fn forward(&self, rec: &Recorder, x: Tensor, images: usize) -> Tensor {
        let [_, dim] = x.matrix();
        let qkv = self.qkv.forward(rec, &self.norm1.forward(rec, &x));
        let [q, k, v] = [0, dim, 2 * dim].map(|first| Columns::from(&qkv, first));
        let attended = attention(rec, q, k, v, self.heads, images, false);
        let x = self.proj.added(rec, &attended, &x);
        let normed = self.norm2.forward(rec, &x);
        let hidden = self.fc1.activated(rec, &normed, Activation::Gelu);
        self.fc2.added(rec, &hidden, &x)
    }
}

/// Patches, positions and blocks.
#[derive(Debug)]
pub struct Trunk {
    config: VitConfig,
    patch_embed: Conv,
    /// `[1, dim]`.
    cls_token: Tensor,
    /// `[tokens, dim]`, the class token's first.
    pos_embed: Tensor,
    blocks: Vec<Block>,
}

impl Trunk {
    /// The tensors below `w`, of as many blocks as `config` has.
    pub(super) fn load(config: VitConfig, w: &Weights) -> Result<Self> {
        let (dim, tokens) = (config.dim, config.tokens());
        let patches = Window::square(config.patch_size, config.patch_size, 0);
        let blocks = w.at("blocks");
        Ok(Self {
            patch_embed: Conv::new([3, dim], patches, &w.at("patch_embed").at("proj"))?,
            cls_token: w.tensor("cls_token", [1, 1, dim])?.reshape([1, dim]),
            pos_embed: w
                .tensor("pos_embed", [1, tokens, dim])?
                .reshape([tokens, dim]),
            blocks: (0..config.depth)
                .map(|n| Block::new(&config, &blocks.at(n)))
                .collect::<Result<_>>()?,
            config,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// The states of all tokens after the last block, `[images · tokens, dim]`, of pictures
    /// `[images, image_size, image_size, 4]` (red, green, blue and nothing). `keep` is shown those after the positions
    /// (`embedding`) and each block (`block0` …).
    ///
    /// # Panics
    /// If the pictures have another size.
    pub fn forward(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        keep: &mut dyn FnMut(&str, &Tensor),
    ) -> Tensor {
        let [images, height, width, _] = pixels.dims();
        let (size, tokens) = (self.config.image_size, self.config.tokens());
        assert_eq!([height, width], [size; 2], "rows and columns of a picture");
        let patches = self.patch_embed.forward(rec, pixels, Activation::None);
        let mut x = Tensor::empty(rec, [images * tokens, self.config.dim]);
        copy_rows(rec, &self.cls_token, &x, images, 0, tokens);
        for image in 0..images {
            let own = gather_rows(rec, &patches, tokens - 1, image * (tokens - 1), 1);
            copy_rows(rec, &own, &x, tokens - 1, image * tokens + 1, 1);
        }
        drop(patches);
        x = add(rec, &x, &self.pos_embed);
        keep("embedding", &x);
        for (n, block) in self.blocks.iter().enumerate() {
            x = block.forward(rec, x, images);
            keep(&format!("block{n}"), &x);
        }
        x
    }
}

/// A ViT, read at its class token.
#[derive(Debug)]
pub struct Vit {
    trunk: Trunk,
    norm: LayerNorm,
}

impl Vit {
    /// The tensors below `w`.
    pub(super) fn load(config: VitConfig, w: &Weights) -> Result<Self> {
        Ok(Self {
            norm: LayerNorm::new(config.dim, EPS, &w.at("norm"))?,
            trunk: Trunk::load(config, w)?,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &VitConfig {
        self.trunk.config()
    }

    /// The normed class tokens, `[images, dim]`, of pictures as [`Trunk::forward`] takes them. `keep` is shown what that
    /// shows, and the states after the norm (`tower`).
    pub fn forward(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Tensor {
        let x = self.trunk.forward(rec, pixels, &mut keep);
        let x = self.norm.forward(rec, &x);
        keep("tower", &x);
        let [images, ..] = pixels.dims::<4>();
        gather_rows(rec, &x, images, 0, self.config().tokens())
    }
}
