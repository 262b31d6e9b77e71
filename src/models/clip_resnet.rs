//! CLIP's ResNets (arXiv 2103.00020): three convolutions for a stem, average pools where others stride, and attention at the end.
//!
//! RN50 and RN101, under the names of OpenAI's own program. CLIP reads one vector of a picture; CRIS (arXiv 2111.15174) the maps of
//! the last three stages, the last after an attention of all its pixels. Batch norms are folded into their convolutions.

use crate::error::{Error, Result};
use crate::gpu::Recorder;
use crate::layers::{Conv, Linear};
use crate::models::bicubic::bicubic;
use crate::models::shapes::Shapes;
use crate::ops::{
    Activation, Columns, Heads, Scores, Window, add, attention, copy_rows, copy_span, gather_rows,
    mean_rows,
};
use crate::tensor::{Tensor, Weights};

/// How many times as many channels a block has as its middle.
const EXPANSION: usize = 4;
/// Columns of a head of the last attention.
const HEAD: usize = 64;
/// Pixels of a picture along each side of a pixel of the last stage.
pub(super) const STRIDE: usize = 32;
/// One pixel of a picture.
const POINT: Window = Window::new([1; 3]);

/// The sizes of a ResNet, read off its tensors.
#[derive(Clone, Debug)]
pub struct ClipResNetConfig {
    /// Channels of the stem, and of the middle of the first stage's blocks; each further stage doubles them.
    pub width: usize,
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Pixels along a side of the last stage that the positions were learned for.
    pub side: usize,
    /// Columns of the vector or the map that comes out.
    pub output_dim: usize,
}

impl ClipResNetConfig {
    /// Reads the shapes of the tensors below `place`, which ends with a dot.
    ///
    /// # Errors
    /// A missing tensor, or sizes that do not fit.
    pub(super) fn of_shapes(shapes: &Shapes, place: &str) -> Result<Self> {
        let fault = |problem| Err(Error::weights(shapes.checkpoint.path(), problem));
        let [width, ..] = shapes.of::<4>(&format!("{place}conv3.weight"))?;
        let block = |stage: usize, n: usize| format!("{place}layer{stage}.{n}.conv1.weight");
        let depths = [1, 2, 3, 4].map(|stage| shapes.count(|n| block(stage, n)));
        if let Some(stage) = depths.iter().position(|depth| *depth == 0) {
            let name = block(stage + 1, 0);
            return fault(format!("tensor `{name}` is missing"));
        }
        let name = format!("{place}attnpool.positional_embedding");
        let [rows, _] = shapes.of(&name)?;
        let side = rows.saturating_sub(1).isqrt();
        if side == 0 || side * side + 1 != rows {
            return fault(format!(
                "tensor `{name}` has {rows} rows, expected a square's and one more"
            ));
        }
        let [output_dim, _] = shapes.of(&format!("{place}attnpool.c_proj.weight"))?;
        if !(1..=1 << 12).contains(&width) || !width.is_multiple_of(8) {
            return fault(format!(
                "a stem of {width} channels, expected a multiple of 8"
            ));
        }
        if !(1..=1 << 14).contains(&output_dim) || !output_dim.is_multiple_of(4) {
            return fault(format!(
                "{output_dim} columns of a picture, expected a multiple of 4"
            ));
        }
        Ok(Self {
            width,
            depths,
            side,
            output_dim,
        })
    }

    /// Channels that come out of a stage, counted from 0.
    pub fn channels(&self, stage: usize) -> usize {
        EXPANSION * (self.width << stage)
    }
}

/// A block: three convolutions and what goes past them.
#[derive(Debug)]
struct Bottleneck {
    conv1: Conv,
    conv2: Conv,
    /// Both where the block halves its picture: after the middle convolution, and first in `downsample` (its `-1`).
    avgpool: Option<[Conv; 2]>,
    conv3: Conv,
    /// `downsample.0` and `.1`.
    downsample: Option<Conv>,
}

impl Bottleneck {
    fn new([inputs, planes]: [usize; 2], stride: usize, w: &Weights) -> Result<Self> {
        let outputs = EXPANSION * planes;
        let conv = |sizes, window, n: usize| {
            let (conv, norm) = (w.at(format!("conv{n}")), w.at(format!("bn{n}")));
            Conv::normed(sizes, window, &conv, &norm)
        };
        let average = |channels| Conv::average(channels, stride, w);
        let down = w.at("downsample");
        Ok(Self {
            conv1: conv([inputs, planes], POINT, 1)?,
            conv2: conv([planes, planes], Window::square(3, 1, 1), 2)?,
            avgpool: match stride {
                1 => None,
                _ => Some([average(planes)?, average(inputs)?]),
            },
            conv3: conv([planes, outputs], POINT, 3)?,
            downsample: match stride > 1 || inputs != outputs {
                true => Some(Conv::normed(
                    [inputs, outputs],
                    POINT,
                    &down.at(0),
                    &down.at(1),
                )?),
                false => None,
            },
        })
    }

    fn forward(&self, rec: &Recorder, x: Tensor) -> Tensor {
        let y = self.conv1.forward(rec, &x, Activation::Relu);
        let mut y = self.conv2.forward(rec, &y, Activation::Relu);
        let mut past = x;
        if let Some([middle, first]) = &self.avgpool {
            y = middle.forward(rec, &y, Activation::None);
            past = first.forward(rec, &past, Activation::None);
        }
        if let Some(downsample) = &self.downsample {
            past = downsample.forward(rec, &past, Activation::None);
        }
        self.conv3.joined(rec, &y, Activation::Relu, &past)
    }
}

/// `attnpool`: attention among the pixels of the last stage.
#[derive(Debug)]
struct AttentionPool {
    /// `positional_embedding`, its first row: that of the mean.
    first: Tensor,
    /// The others, for each pixel `[pixels, columns]`.
    places: Tensor,
    /// `q_proj`, `k_proj` and `v_proj` as one product.
    qkv: Linear,
    c_proj: Linear,
    /// CRIS's way past the attention.
    connect: Option<Conv>,
    heads: Heads,
}

impl AttentionPool {
    /// For `side` × `side` pixels, to which the positions are stretched.
    fn new(config: &ClipResNetConfig, side: usize, w: &Weights) -> Result<Self> {
        let (dim, learned, outputs) = (config.channels(3), config.side, config.output_dim);
        let rows = learned * learned + 1;
        let positions = w.values("positional_embedding", &[rows, dim])?;
        let (first, grid) = positions.split_at(dim);
        let grid = bicubic(grid, learned, side, dim, false);
        let stack = [("q_proj", dim), ("k_proj", dim), ("v_proj", dim)];
        let connect = w.at("connect");
        Ok(Self {
            first: Tensor::upload(w.gpu(), "position", [1, dim], first)?,
            places: Tensor::upload(w.gpu(), "positions", [side * side, dim], &grid)?,
            qkv: Linear::stacked(dim, &stack, w)?,
            c_proj: Linear::new([dim, outputs], &w.at("c_proj"))?,
            connect: match connect.has("0.weight") {
                true => Some(Conv::normed(
                    [dim, outputs],
                    POINT,
                    &connect.at(0),
                    &connect.at(1),
                )?),
                false => None,
            },
            heads: Heads {
                q: dim / HEAD,
                kv: dim / HEAD,
                width: HEAD,
            },
        })
    }

    /// CLIP's: of x `[images, side, side, columns]` what the mean of a picture's pixels sees in them, `[images, output_dim]`.
    fn vector(&self, rec: &Recorder, x: &Tensor) -> Result<Tensor> {
        let [images, rows, columns, dim] = x.dims();
        let own = rows * columns;
        let pixels = x.reshape([images * own, dim]);
        let span = |n: usize| [(n * own) as u32, own as u32];
        let spans: Vec<[u32; 2]> = (0..images).map(span).collect();
        let spans = Tensor::upload(rec.gpu(), "pixels", [images, 2], spans.as_flattened())?;
        let mean = add(rec, &mean_rows(rec, &pixels, &spans), &self.first);
        let placed = add(rec, &pixels, &self.places);
        let tokens = own + 1;
        let all = Tensor::empty(rec, [images * tokens, dim]);
        copy_rows(rec, &mean, &all, images, 0, tokens);
        for image in 0..images {
            copy_span(rec, &placed, image * own, &all, image * tokens + 1, own);
        }
        let qkv = self.qkv.forward(rec, &all);
        let asked = gather_rows(rec, &qkv, images, 0, tokens);
        let (q, [k, v]) = (
            Columns::all(&asked),
            [dim, 2 * dim].map(|first| Columns::from(&qkv, first)),
        );
        let seen = attention(rec, q, k, v, self.heads, images, Scores::default());
        Ok(self.c_proj.forward(rec, &seen))
    }

    /// CRIS's: of x `[1, side, side, columns]` what each pixel sees in all, and what goes past: `[1, side, side, output_dim]`.
    fn map(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let [_, rows, columns, dim] = x.dims();
        let pixels = x.reshape([rows * columns, dim]);
        let qkv = self.qkv.forward(rec, &add(rec, &pixels, &self.places));
        let [q, k, v] = [0, dim, 2 * dim].map(|first| Columns::from(&qkv, first));
        let seen = attention(rec, q, k, v, self.heads, 1, Scores::default());
        let seen = self.c_proj.forward(rec, &seen);
        let [_, outputs] = seen.matrix();
        let seen = seen.reshape([1, rows, columns, outputs]);
        let connect = self.connect.as_ref().expect("CRIS's pool has a way past");
        connect.joined(rec, x, Activation::Relu, &seen)
    }
}

/// The network, under the checkpoint's names below `visual`.
#[derive(Debug)]
pub struct ClipResNet {
    /// `conv1`, `conv2` and `conv3`.
    stem: [Conv; 3],
    avgpool: Conv,
    /// `layer1` to `layer4`.
    layers: [Vec<Bottleneck>; 4],
    attnpool: AttentionPool,
}

impl ClipResNet {
    /// The network whose tensors lie at `w`, for pictures of `image_size` pixels a side.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or no memory.
    ///
    /// # Panics
    /// If that is no multiple of 32.
    pub fn new(config: &ClipResNetConfig, image_size: usize, w: &Weights) -> Result<Self> {
        assert!(
            image_size.is_multiple_of(STRIDE),
            "pictures of {image_size}"
        );
        let (width, half) = (config.width, config.width / 2);
        let stem = |sizes, stride, n: usize| {
            let (conv, norm) = (w.at(format!("conv{n}")), w.at(format!("bn{n}")));
            Conv::normed(sizes, Window::square(3, stride, 1), &conv, &norm)
        };
        let stage = |stage: usize| {
            let at = w.at(format!("layer{}", stage + 1));
            let (before, stride) = match stage {
                0 => (width, 1),
                _ => (config.channels(stage - 1), 2),
            };
            let block = |n| {
                let (inputs, stride) = match n {
                    0 => (before, stride),
                    _ => (config.channels(stage), 1),
                };
                Bottleneck::new([inputs, width << stage], stride, &at.at(n))
            };
            (0..config.depths[stage])
                .map(block)
                .collect::<Result<Vec<_>>>()
        };
        Ok(Self {
            stem: [
                stem([3, half], 2, 1)?,
                stem([half, half], 1, 2)?,
                stem([half, width], 1, 3)?,
            ],
            avgpool: Conv::average(width, 2, w)?,
            layers: [stage(0)?, stage(1)?, stage(2)?, stage(3)?],
            attnpool: AttentionPool::new(config, image_size / STRIDE, &w.at("attnpool"))?,
        })
    }

    /// What comes out of the last three stages, before any attention.
    fn stages(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        keep: &mut dyn FnMut(&str, &Tensor),
    ) -> [Tensor; 3] {
        let mut x = self.stem[0].forward(rec, pixels, Activation::Relu);
        for conv in &self.stem[1..] {
            x = conv.forward(rec, &x, Activation::Relu);
        }
        x = self.avgpool.forward(rec, &x, Activation::None);
        keep("stem", &x);
        let mut all = Vec::with_capacity(3);
        for (n, stage) in self.layers.iter().enumerate() {
            x = stage.iter().fold(x, |x, block| block.forward(rec, x));
            keep(&format!("c{}", n + 2), &x);
            if n > 0 {
                all.push(x.clone());
            }
        }
        all.try_into().expect("three stages")
    }

    /// CLIP's vectors of pictures `[images, pixels, pixels, 4]` (red, green, blue and nothing): `[images, output_dim]`. `keep` is
    /// shown what the stem (`stem`) and each stage (`c2` … `c5`) make of them.
    ///
    /// # Errors
    /// No memory.
    pub fn vector(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let [.., last] = self.stages(rec, pixels, &mut keep);
        self.attnpool.vector(rec, &last)
    }

    /// CRIS's maps of a picture `[1, pixels, pixels, 4]`: an eighth, a sixteenth and a thirty-second of it a side, the last
    /// after its attention (`pool`). `keep` is shown what [`ClipResNet::vector`] shows.
    ///
    /// # Panics
    /// If the checkpoint has no `attnpool.connect`.
    pub fn maps(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        keep: &mut dyn FnMut(&str, &Tensor),
    ) -> [Tensor; 3] {
        let [c3, c4, c5] = self.stages(rec, pixels, keep);
        let pooled = self.attnpool.map(rec, &c5);
        keep("pool", &pooled);
        [c3, c4, pooled]
    }
}
