//! TinyViT (arXiv 2207.10666) as MobileSAM has it (arXiv 2306.14289): a stage of convolutions, then three of attention within
//! windows, each followed by a convolution of every channel and an MLP. Batch norms are folded into the convolutions before them
//! when they load.

use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{Conv, LayerNorm, Linear};
use crate::models::shapes::Shapes;
use crate::ops::{
    Activation, Added, Columns, Heads, Scores, Window, attention, joined_windows, windows,
};
use crate::tensor::{Tensor, Weights};

/// PyTorch's epsilon, which all norms here have, batch norms too.
const EPS: f32 = 1e-5;
/// Stages, of which the first has no attention.
const STAGES: usize = 4;
/// Rows and columns of tokens, as the model's own code has them; no tensor tells.
pub(super) const GRID: usize = 64;
/// Pixels of a token's side: patches halve it twice, and so do the ways from stage to stage, see [`PatchMerging`].
pub(super) const PATCH_SIZE: usize = 16;
/// The largest side of a window in tokens: TinyViTs have 7 to 32.
const LARGEST_WINDOW: usize = 32;

/// A TinyViT in numbers.
#[derive(Clone, Debug)]
pub struct TinyVitConfig {
    /// Width of a token in the first stage.
    pub embed_dim: usize,
    /// Blocks of the first stage.
    pub depth: usize,
    /// Width within those blocks.
    pub hidden_dim: usize,
    /// The other stages.
    pub stages: Vec<StageConfig>,
}

/// A stage with attention in numbers.
#[derive(Clone, Debug)]
pub struct StageConfig {
    /// Width of a token.
    pub dim: usize,
    /// Blocks.
    pub depth: usize,
    /// Heads.
    pub heads: Heads,
    /// Side of a window in tokens.
    pub window: usize,
    /// Width of the MLP.
    pub mlp_dim: usize,
}

impl TinyVitConfig {
    /// Reads the shapes of the tensors below `image_encoder`.
    ///
    /// # Errors
    /// A missing tensor.
    pub(super) fn of(shapes: &Shapes) -> Result<Self> {
        let block =
            |n: usize, m: usize, part: &str| format!("image_encoder.layers.{n}.blocks.{m}.{part}");
        let [hidden_dim, embed_dim, ..] = shapes.of::<4>(&block(0, 0, "conv1.c.weight"))?;
        let stage = |n: usize| {
            let [_, dim] = shapes.of(&block(n, 0, "attn.qkv.weight"))?;
            let [heads, distances] = shapes.of(&block(n, 0, "attn.attention_biases"))?;
            let [mlp_dim, _] = shapes.of(&block(n, 0, "mlp.fc1.weight"))?;
            Ok(StageConfig {
                dim,
                depth: shapes.count(|m| block(n, m, "attn.qkv.weight")),
                heads: Heads {
                    q: heads,
                    kv: heads,
                    width: dim / heads.max(1),
                },
                window: distances.isqrt(),
                mlp_dim,
            })
        };
        Ok(Self {
            embed_dim,
            depth: shapes.count(|m| block(0, m, "conv1.c.weight")),
            hidden_dim,
            stages: (1..STAGES).map(stage).collect::<Result<_>>()?,
        })
    }

    /// Width of a token in the last stage.
    pub(super) fn dim(&self) -> usize {
        self.stages.last().map_or(self.embed_dim, |stage| stage.dim)
    }

    /// What the kernels do not take, but for the stages' widths and heads.
    pub(super) fn problem(&self) -> Option<String> {
        let mut windows = self.stages.iter().map(|stage| stage.window);
        if let Some(side) = windows.find(|side| !(1..=LARGEST_WINDOW).contains(side)) {
            return Some(format!(
                "windows of {side} tokens a side, expected 1 to {LARGEST_WINDOW}"
            ));
        }
        let odd = [self.embed_dim, self.hidden_dim]
            .into_iter()
            .find(|width| *width == 0 || !width.is_multiple_of(4));
        odd.map(|width| format!("a width of {width}, expected a multiple of 4"))
    }
}

/// `Conv2d_BN`: a convolution `c` without bias and a batch norm `bn`.
fn conv_bn(channels: [usize; 2], window: Window, w: &Weights) -> Result<Conv> {
    Conv::normed(channels, window, &w.at("c"), &w.at("bn"))
}

/// The same of each channel by itself, on 3 × 3 pixels.
fn depthwise_bn(channels: usize, stride: usize, w: &Weights) -> Result<Conv> {
    let window = Window::square(3, stride, 1).grouped(channels);
    conv_bn([channels; 2], window, w)
}

/// One pixel, side by side.
const POINT: Window = Window::square(1, 1, 0);

/// `MBConv`: wider, then among neighbours, then narrow again.
#[derive(Debug)]
struct MbConv {
    conv1: Conv,
    conv2: Conv,
    conv3: Conv,
}

impl MbConv {
    fn new(config: &TinyVitConfig, w: &Weights) -> Result<Self> {
        let (dim, hidden) = (config.embed_dim, config.hidden_dim);
        Ok(Self {
            conv1: conv_bn([dim, hidden], POINT, &w.at("conv1"))?,
            conv2: depthwise_bn(hidden, 1, &w.at("conv2"))?,
            conv3: conv_bn([hidden, dim], POINT, &w.at("conv3"))?,
        })
    }

    fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let y = self.conv1.forward(rec, x, Activation::Gelu);
        let y = self.conv2.forward(rec, &y, Activation::Gelu);
        self.conv3.joined(rec, &y, Activation::Gelu, x)
    }
}

/// `downsample`: from the tokens of a stage to those of the next.
#[derive(Debug)]
struct PatchMerging {
    conv1: Conv,
    conv2: Conv,
    conv3: Conv,
}

impl PatchMerging {
    /// After stage `n`. MobileSAM enters its last stage on the same grid, where TinyViT halves rows and columns.
    fn new([dim, out]: [usize; 2], n: usize, w: &Weights) -> Result<Self> {
        let stride = if n + 2 == STAGES { 1 } else { 2 };
        Ok(Self {
            conv1: conv_bn([dim, out], POINT, &w.at("conv1"))?,
            conv2: depthwise_bn(out, stride, &w.at("conv2"))?,
            conv3: conv_bn([out, out], POINT, &w.at("conv3"))?,
        })
    }

    fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let x = self.conv1.forward(rec, x, Activation::Gelu);
        let x = self.conv2.forward(rec, &x, Activation::Gelu);
        self.conv3.forward(rec, &x, Activation::None)
    }
}

/// `attn`: attention within windows.
#[derive(Debug)]
struct Attention {
    norm: LayerNorm,
    qkv: Linear,
    /// `attention_biases` of each pair of tokens, `[1, heads, side², side²]`.
    bias: Tensor,
    proj: Linear,
    heads: Heads,
    side: usize,
}

impl Attention {
    fn new(config: &StageConfig, w: &Weights) -> Result<Self> {
        let (dim, heads, side) = (config.dim, config.heads, config.window);
        let table = w.values("attention_biases", &[heads.q, side * side])?;
        let tokens = side * side;
        let shape = [1, heads.q, tokens, tokens.next_multiple_of(4)];
        let bias = Tensor::upload(w.gpu(), "distances", shape, &biases(&table, heads.q, side))?;
        // A checkpoint has q, k and v of a head together, the product those of all heads.
        let parts = (0..3).flat_map(|part| (0..heads.q).map(move |head| head * 3 + part));
        let rows = |part: usize| part * heads.width..(part + 1) * heads.width;
        let order: Vec<usize> = parts.flat_map(rows).collect();
        Ok(Self {
            norm: LayerNorm::new(dim, EPS, &w.at("norm"))?,
            qkv: Linear::in_order(dim, &order, &w.at("qkv"))?,
            bias,
            proj: Linear::new([dim, dim], &w.at("proj"))?,
            heads,
            side,
        })
    }

    /// x `[images, rows, columns, dim]` with its attention added. Windows are filled with zeros before the norm, which makes its
    /// bias of them, and they take part.
    fn added(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let [images, rows, columns, dim] = x.dims();
        let tokens = windows(rec, x, self.side, 0);
        let [batch, ..] = tokens.dims::<3>();
        let tokens = self.norm.forward(rec, &tokens);
        let qkv = self.qkv.forward(rec, &tokens);
        drop(tokens);
        let [q, k, v] = [0, dim, 2 * dim].map(|first| Columns::from(&qkv, first));
        let added = Added::Bias {
            bias: &self.bias,
            kind: None,
        };
        let scores = Scores {
            added,
            ..Scores::default()
        };
        let attended = attention(rec, q, k, v, self.heads, batch, scores);
        let attended = joined_windows(rec, &attended, [images, rows, columns], self.side, 0);
        let pixels = images * rows * columns;
        // On the picture, not on its windows, whose padding would be multiplied too.
        let y = self.proj.added(
            rec,
            &attended.reshape([pixels, dim]),
            &x.reshape([pixels, dim]),
        );
        y.reshape([images, rows, columns, dim])
    }
}

/// A head's row of the table has a number for each distance of two tokens, lines by columns; here each pair of them has its own,
/// rows padded to whole vec4s.
fn biases(table: &[f32], heads: usize, side: usize) -> Vec<f32> {
    let tokens = side * side;
    let padded = tokens.next_multiple_of(4);
    let mut bias = vec![0.0; heads * tokens * padded];
    for (row, values) in bias.chunks_exact_mut(padded).enumerate() {
        let (query, head) = (row % tokens, row / tokens);
        for (key, value) in values.iter_mut().take(tokens).enumerate() {
            let down = (query / side).abs_diff(key / side);
            let across = (query % side).abs_diff(key % side);
            *value = table[head * tokens + down * side + across];
        }
    }
    bias
}

/// `Mlp`, which has its norm in it.
#[derive(Debug)]
struct Mlp {
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Mlp {
    fn new(config: &StageConfig, w: &Weights) -> Result<Self> {
        let (dim, hidden) = (config.dim, config.mlp_dim);
        Ok(Self {
            norm: LayerNorm::new(dim, EPS, &w.at("norm"))?,
            fc1: Linear::new([dim, hidden], &w.at("fc1"))?,
            fc2: Linear::new([hidden, dim], &w.at("fc2"))?,
        })
    }

    fn added(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let hidden = self.norm.forward(rec, x);
        let hidden = self.fc1.activated(rec, &hidden, Activation::Gelu);
        self.fc2.added(rec, &hidden, x)
    }
}

/// `TinyViTBlock`.
#[derive(Debug)]
struct TinyVitBlock {
    attn: Attention,
    local_conv: Conv,
    mlp: Mlp,
}

impl TinyVitBlock {
    fn new(config: &StageConfig, w: &Weights) -> Result<Self> {
        Ok(Self {
            attn: Attention::new(config, &w.at("attn"))?,
            local_conv: depthwise_bn(config.dim, 1, &w.at("local_conv"))?,
            mlp: Mlp::new(config, &w.at("mlp"))?,
        })
    }

    fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let x = self.attn.added(rec, x);
        let x = self.local_conv.forward(rec, &x, Activation::None);
        self.mlp.added(rec, &x).reshape(x.shape())
    }
}

/// A block of the first stage, or of another.
#[derive(Debug)]
enum Block {
    MbConv(MbConv),
    TinyVit(TinyVitBlock),
}

impl Block {
    /// x `[images, rows, columns, dim]`.
    fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        match self {
            Self::MbConv(block) => block.forward(rec, x),
            Self::TinyVit(block) => block.forward(rec, x),
        }
    }
}

/// Blocks on one grid, and the way to the next.
#[derive(Debug)]
struct Stage {
    blocks: Vec<Block>,
    downsample: Option<PatchMerging>,
}

impl Stage {
    fn new(config: &TinyVitConfig, n: usize, w: &Weights) -> Result<Self> {
        let blocks = w.at("blocks");
        let (dim, blocks) = match n.checked_sub(1).map(|n| &config.stages[n]) {
            None => {
                let block = |m| MbConv::new(config, &blocks.at(m)).map(Block::MbConv);
                let blocks = (0..config.depth).map(block).collect::<Result<_>>()?;
                (config.embed_dim, blocks)
            }
            Some(stage) => {
                let block = |m| TinyVitBlock::new(stage, &blocks.at(m)).map(Block::TinyVit);
                let blocks = (0..stage.depth).map(block).collect::<Result<_>>()?;
                (stage.dim, blocks)
            }
        };
        // The stage after the n-th is the n-th with attention.
        let next = config.stages.get(n);
        let downsample =
            next.map(|next| PatchMerging::new([dim, next.dim], n, &w.at("downsample")));
        Ok(Self {
            blocks,
            downsample: downsample.transpose()?,
        })
    }
}

/// Patches and stages.
#[derive(Debug)]
pub(super) struct TinyVit {
    /// `patch_embed.seq.0` and `.2`.
    patch_embed: [Conv; 2],
    layers: Vec<Stage>,
}

impl TinyVit {
    /// The tensors below `image_encoder`.
    pub(super) fn new(config: &TinyVitConfig, w: &Weights) -> Result<Self> {
        let (dim, half) = (config.embed_dim, Window::square(3, 2, 1));
        let (seq, layers) = (w.at("patch_embed").at("seq"), w.at("layers"));
        Ok(Self {
            patch_embed: [
                conv_bn([3, dim / 2], half, &seq.at(0))?,
                conv_bn([dim / 2, dim], half, &seq.at(2))?,
            ],
            layers: (0..STAGES)
                .map(|n| Stage::new(config, n, &layers.at(n)))
                .collect::<Result<_>>()?,
        })
    }

    /// `[images, image_size, image_size, 4]` to `[images, grid, grid, dim]`. `keep` is shown the states after the patches
    /// (`embedding`), each block (`layer0.block0` …) and each stage (`layer0` …, on the grid of the next).
    pub(super) fn forward(
        &self,
        rec: &Recorder,
        image: &Tensor,
        keep: &mut impl FnMut(&str, &Tensor),
    ) -> Tensor {
        let [first, second] = &self.patch_embed;
        let mut x = first.forward(rec, image, Activation::Gelu);
        x = second.forward(rec, &x, Activation::None);
        keep("embedding", &x);
        for (n, stage) in self.layers.iter().enumerate() {
            for (m, block) in stage.blocks.iter().enumerate() {
                x = block.forward(rec, &x);
                keep(&format!("layer{n}.block{m}"), &x);
            }
            if let Some(downsample) = &stage.downsample {
                x = downsample.forward(rec, &x);
            }
            keep(&format!("layer{n}"), &x);
        }
        x
    }
}

/// What a checkpoint has that is not read: how many batches a norm saw, and the head for classes that the encoder was first
/// trained with.
pub(super) fn is_unused(name: &str) -> bool {
    name.ends_with(".bn.num_batches_tracked")
        || name.starts_with("image_encoder.head.")
        || name.starts_with("image_encoder.norm_head.")
}
