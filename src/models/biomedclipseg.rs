//! BiomedCLIPSeg and BiomedCLIPSeg-D (MedVLSM, arXiv 2308.07706): CLIPSeg's decoder on the image tower of BiomedCLIP (arXiv
//! 2303.00915).
//!
//! The two differ in what their decoder was trained from, not in their layers. The blocks that are read are not those of CLIPSeg:
//! its list of states begins with those before the first block, MedVLSM's with those after it, and both are read one behind 3, 6
//! and 9. So CLIPSeg reads the states after blocks 3, 6 and 9, counted from 0, and this model those after 4, 7 and 10.
//!
//! A phrase is the vector that BiomedCLIP's text tower makes of it, and given.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::{Conv, LayerNorm, Linear};
use crate::models::clipseg::{ClipSegDecoder, ClipSegDecoderConfig};
use crate::models::{check_biases, likely};
use crate::ops::{
    Activation, Columns, Heads, Scores, Window, add, attention, copy_rows, copy_span,
};
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// The blocks that are read, from 0.
const READ: [usize; 3] = [4, 7, 10];
/// Heads of timm's ViT-B, which no tensor tells.
const HEADS: usize = 12;
/// Heads of the decoder, and the epsilon of its norms, as CLIPSeg's configuration has them.
const DECODER_HEADS: usize = 4;
const DECODER_EPS: f32 = 1e-5;
/// Epsilon of the norms of timm's ViTs.
const EPS: f32 = 1e-6;
/// The largest patch side: a convolution's kernel has at most 31 rows and slices together.
const LARGEST_PATCH: usize = 29;
/// The most tokens along a side of a picture.
const LARGEST_GRID: usize = 44;

/// The sizes of a model, read off its tensors.
#[derive(Clone, Debug)]
pub struct BiomedClipSegConfig {
    /// Width of a token of the image tower.
    pub dim: usize,
    /// Its heads.
    pub heads: Heads,
    /// Width of its MLP.
    pub mlp_dim: usize,
    /// Rows and columns of a picture in pixels.
    pub image_size: usize,
    /// What draws.
    pub decoder: ClipSegDecoderConfig,
}

impl BiomedClipSegConfig {
    /// Reads a checkpoint's shapes.
    ///
    /// # Errors
    /// A missing tensor, or sizes that do not fit each other or the kernels.
    pub fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let fault = |problem: String| Error::weights(checkpoint.path(), problem);
        let shape = |name: &str| match checkpoint.tensor(name) {
            Some(entry) => Ok(entry.shape.to_vec()),
            None => Err(fault(format!("tensor `{name}` is missing"))),
        };
        let sized = |name: &str, count: usize| match shape(name)? {
            shape if shape.len() == count => Ok(shape),
            shape => Err(fault(format!(
                "tensor `{name}` has shape {shape:?}, expected {count} dimensions"
            ))),
        };
        let trunk = |name: &str| format!("biomedclip.visual.trunk.{name}");
        let patches = sized(&trunk("patch_embed.proj.weight"), 4)?;
        let (dim, patch) = (patches[0], patches[2]);
        let positions = sized(&trunk("pos_embed"), 3)?[1].saturating_sub(1);
        let grid = positions.isqrt();
        let mlp_dim = sized(&trunk("blocks.0.mlp.fc1.weight"), 2)?[0];
        let film = sized("decoder.film_mul.weight", 2)?;
        let (reduce_dim, projection_dim) = (film[0], film[1]);
        let hidden = sized("decoder.layers.0.mlp.fc1.weight", 2)?[0];
        let complex = checkpoint
            .tensor("decoder.transposed_convolution.0.weight")
            .is_some();
        let heads_of = |name: &str, dim: usize, heads: usize, grain: usize| {
            let width = dim / heads;
            let fits = (grain..=128).contains(&width) && width.is_multiple_of(grain);
            match dim.is_multiple_of(heads) && fits {
                true => Ok(Heads {
                    q: heads,
                    kv: heads,
                    width,
                }),
                false => Err(fault(format!(
                    "{name} has a width of {dim}, expected {heads} heads of a multiple of {grain} up to 128"
                ))),
            }
        };
        let grain = if complex { 16 } else { 4 };
        if grid * grid != positions
            || !(1..=LARGEST_GRID).contains(&grid)
            || patch > LARGEST_PATCH
            || !patch.is_multiple_of(grain)
        {
            return Err(fault(format!(
                "{positions} positions of patches of {patch} pixels, expected a square of at most {LARGEST_GRID} a side, of a multiple of {grain}"
            )));
        }
        let wide = [mlp_dim, hidden, projection_dim];
        if let Some(odd) = wide.iter().find(|n| **n == 0 || !n.is_multiple_of(4)) {
            return Err(fault(format!("a width of {odd}, expected a multiple of 4")));
        }
        if !reduce_dim.is_multiple_of(8) {
            let problem =
                format!("the decoder has a width of {reduce_dim}, expected a multiple of 8");
            return Err(fault(problem));
        }
        Ok(Self {
            dim,
            heads: heads_of("the image tower", dim, HEADS, 8)?,
            mlp_dim,
            image_size: grid * patch,
            decoder: ClipSegDecoderConfig {
                hidden_size: dim,
                projection_dim,
                layers: READ.len(),
                reduce_dim,
                heads: heads_of("the decoder", reduce_dim, DECODER_HEADS, 4)?,
                intermediate_size: hidden,
                layer_norm_eps: DECODER_EPS,
                conditional_layer: 0,
                use_complex_transposed_convolution: complex,
                patch_size: patch,
                grid,
            },
        })
    }
}

/// A pre-norm transformer block under timm's names.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    /// `attn.qkv`.
    qkv: Linear,
    /// `attn.proj`.
    proj: Linear,
    norm2: LayerNorm,
    /// `mlp.fc1` and `mlp.fc2`.
    fc1: Linear,
    fc2: Linear,
    heads: Heads,
}

impl Block {
    fn new(config: &BiomedClipSegConfig, w: &Weights) -> Result<Self> {
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

    /// x `[tokens, dim]` of one picture.
    fn forward(&self, rec: &Recorder, x: Tensor) -> Tensor {
        let [_, dim] = x.matrix();
        let qkv = self.qkv.forward(rec, &self.norm1.forward(rec, &x));
        let [q, k, v] = [0, dim, 2 * dim].map(|first| Columns::from(&qkv, first));
        let attended = attention(rec, q, k, v, self.heads, 1, Scores::default());
        let x = self.proj.added(rec, &attended, &x);
        let normed = self.norm2.forward(rec, &x);
        let hidden = self.fc1.activated(rec, &normed, Activation::Gelu);
        self.fc2.added(rec, &hidden, &x)
    }
}

/// BiomedCLIP's image tower, up to the last block that is read, and CLIPSeg's decoder.
#[derive(Debug)]
pub struct BiomedClipSeg {
    config: BiomedClipSegConfig,
    /// `[1, dim]`.
    cls_token: Tensor,
    /// `[tokens, dim]`, the class token's first.
    pos_embed: Tensor,
    /// `patch_embed.proj`.
    patch_embed: Conv,
    blocks: Vec<Block>,
    decoder: ClipSegDecoder,
}

impl BiomedClipSeg {
    /// Loads a checkpoint with the names of MedVLSM's module: `biomedclip.…` and `decoder.…`. The text tower, and what lies
    /// behind the last block that is read, are not loaded.
    ///
    /// # Errors
    /// A missing, misshapen or unknown tensor, sizes that do not fit, or no memory; what the checkpoint seems to be is said.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let named = |error| likely::named(error, checkpoint);
        let config = BiomedClipSegConfig::of(checkpoint).map_err(named)?;
        // Of the text tower no layer is read here.
        let without = |stem: &str| {
            !stem.starts_with("biomedclip.visual.trunk.") && !stem.starts_with("decoder.")
        };
        check_biases(checkpoint, without).map_err(named)?;
        let w = Weights::new(gpu, checkpoint, precision);
        Self::load(config, checkpoint, &w).map_err(named)
    }

    fn load(config: BiomedClipSegConfig, checkpoint: &Checkpoint, w: &Weights) -> Result<Self> {
        let (dim, patch) = (config.dim, config.decoder.patch_size);
        let trunk = w.at("biomedclip").at("visual").at("trunk");
        let tokens = config.decoder.grid.pow(2) + 1;
        let (count, blocks) = (READ[2] + 1, trunk.at("blocks"));
        let window = Window::square(patch, patch, 0);
        let this = Self {
            cls_token: trunk.tensor("cls_token", [1, 1, dim])?.reshape([1, dim]),
            pos_embed: trunk
                .tensor("pos_embed", [1, tokens, dim])?
                .reshape([tokens, dim]),
            patch_embed: Conv::new([3, dim], window, &trunk.at("patch_embed").at("proj"))?,
            blocks: (0..count)
                .map(|n| Block::new(&config, &blocks.at(n)))
                .collect::<Result<_>>()?,
            decoder: ClipSegDecoder::new(&config.decoder, &w.at("decoder"))?,
            config,
        };
        let last = format!("biomedclip.visual.trunk.blocks.{count}.");
        let unread = [
            last.as_str(),
            "biomedclip.visual.trunk.norm.",
            "biomedclip.visual.head.",
            "biomedclip.text.",
            "biomedclip.logit_scale",
        ];
        let names = checkpoint.tensors().map(|entry| entry.name);
        let unread = |name: &&str| unread.iter().any(|unread| name.starts_with(unread));
        w.finish(&names.filter(unread).collect::<Vec<_>>())?;
        Ok(this)
    }

    /// The model's sizes.
    pub fn config(&self) -> &BiomedClipSegConfig {
        &self.config
    }

    /// What the decoder reads of a picture `[1, image_size, image_size, 4]` (red, green, blue and nothing): of each block that
    /// is read, the last first, `[tokens, reduce_dim]`. `keep` is shown the states after the positions (`embedding`) and each
    /// block (`block0` …).
    pub fn encode(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Vec<Tensor> {
        let (size, dim) = (self.config.image_size, self.config.dim);
        pixels.expect([1, size, size, 4]);
        let patches = self.patch_embed.forward(rec, pixels, Activation::None);
        let own = self.config.decoder.grid.pow(2);
        let x = Tensor::empty(rec, [own + 1, dim]);
        copy_rows(rec, &self.cls_token, &x, 1, 0, 1);
        copy_span(rec, &patches.reshape([own, dim]), 0, &x, 1, own);
        drop(patches);
        let mut x = add(rec, &x, &self.pos_embed);
        keep("embedding", &x);
        let mut taps = Vec::new();
        for (n, block) in self.blocks.iter().enumerate() {
            x = block.forward(rec, x);
            keep(&format!("block{n}"), &x);
            if READ.contains(&n) {
                taps.push(x.clone());
            }
        }
        self.decoder.reduce(rec, &taps)
    }

    /// The logits of each phrase on an encoded picture, `[phrases, image_size, image_size]`; phrases are the vectors of
    /// BiomedCLIP's text tower, `[phrases, projection_dim]`. `keep` is shown what [`ClipSeg`](super::clipseg::ClipSeg) shows.
    ///
    /// # Errors
    /// No memory.
    ///
    /// # Panics
    /// If `reduced` or `conditions` are not of this model.
    pub fn decode(
        &self,
        rec: &Recorder,
        reduced: &[Tensor],
        conditions: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        self.decoder.forward(rec, reduced, conditions, &mut keep)
    }
}
