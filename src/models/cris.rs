//! CRIS (arXiv 2111.15174): a picture segmented by a phrase, on CLIP's ResNet-50 or -101 and its text tower.
//!
//! The published weights (DerrickWang005/CRIS.pytorch) and what MedVLSM (arXiv 2308.07706) trained further from them. The neck
//! weighs the last map of a picture by the phrase and brings three maps together; a transformer lets each pixel read the words;
//! the projector convolves the result by a kernel that the phrase makes. What does not depend on a phrase is done once.
//!
//! MedVLSM fills phrases up with the token that ends them and lets pixels read those tokens too; the published weights never saw
//! them. Its checkpoints are known by `net.` before all names.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::{BatchNorm, Conv, LayerNorm, Linear};
use crate::models::bicubic::bicubic;
use crate::models::clip_resnet::STRIDE;
use crate::models::clip_rn::{ClipRn, ClipRnConfig, without_bias};
use crate::models::shapes::Shapes;
use crate::models::vision::WIDEST_HEAD;
use crate::models::{check_biases, likely, wrapper};
use crate::ops::{
    Activation, Columns, Heads, Residual, Scores, Window, add, attention, conv, conv_depthwise,
    copy_span, gather_rows, matmul, resample,
};
use crate::tensor::{Checkpoint, Matrix, Precision, Tensor, Weights};

/// Rows and columns of the pictures that all published models take, in pixels.
pub const USUAL_SIZE: usize = 416;
/// The probability from which on both programs take a pixel for what the phrase names.
pub const THRESHOLD: f32 = 0.35;

/// A tensor that no other model has.
const TELLTALE: &str = "neck.txt_proj.0.weight";
/// What MedVLSM's training calls the model, before all names.
const MEDVLSM: &str = "net";
/// Heads of the decoder in all published models, which no shape tells.
const HEADS: usize = 8;
/// Epsilon of the decoder's norms.
const EPS: f32 = 1e-5;
/// The largest picture a side, in pixels of the last map.
const LARGEST_GRID: usize = 22;
/// Taps of the kernel that a phrase makes, row by row, and with those that are nothing.
const TAPS: usize = 9;
const PADDED_TAPS: usize = 12;
/// One pixel.
const POINT: Window = Window::new([1; 3]);
/// Three by three pixels.
const AROUND: Window = Window::square(3, 1, 1);

/// The sizes of a model, read off its tensors.
#[derive(Clone, Debug)]
pub struct CrisConfig {
    /// Both towers.
    pub clip: ClipRnConfig,
    /// Channels that the neck makes of each map (`fpn_out`), the largest first.
    pub neck: [usize; 3],
    /// Width of a token of the decoder.
    pub vis_dim: usize,
    /// Layers of the decoder.
    pub layers: usize,
    /// Width of its MLP.
    pub dim_ffn: usize,
    /// Rows and columns of a picture in pixels.
    pub image_size: usize,
    /// Whether phrases are filled up with the token that ends them, as MedVLSM's are.
    pub fills_phrases: bool,
    /// What all names begin with.
    wrapper: String,
}

impl CrisConfig {
    /// Reads a checkpoint's shapes, for pictures of so many pixels a side.
    ///
    /// # Errors
    /// A missing tensor, or sizes that do not fit each other or the kernels.
    pub fn of(checkpoint: &Checkpoint, image_size: usize) -> Result<Self> {
        let fault = |problem: String| Err(Error::weights(checkpoint.path(), problem));
        let shapes = Shapes {
            checkpoint,
            kind: "CRIS",
        };
        let wrapper = wrapper(checkpoint, TELLTALE);
        let at = |name: &str| format!("{wrapper}{name}");
        let clip = ClipRnConfig::of_shapes(&shapes, &at("backbone."))?;
        shapes.of::<4>(&at("backbone.visual.attnpool.connect.0.weight"))?;
        let [c5, _] = shapes.of(&at(TELLTALE))?;
        let [c4, ..] = shapes.of::<4>(&at("neck.f2_v_proj.0.weight"))?;
        let [c3, ..] = shapes.of::<4>(&at("neck.f3_v_proj.0.weight"))?;
        let [vis_dim, ..] = shapes.of::<4>(&at("neck.aggr.0.weight"))?;
        let [dim_ffn, _] = shapes.of(&at("decoder.layers.0.ffn.0.weight"))?;
        let layers = shapes.count(|n| at(&format!("decoder.layers.{n}.ffn.0.weight")));
        if let Some(odd) = [c3, c4, c5, dim_ffn]
            .iter()
            .find(|n| !(1..=1 << 14).contains(*n) || !n.is_multiple_of(4))
        {
            return fault(format!("a width of {odd}, expected a multiple of 4"));
        }
        let width = vis_dim / HEADS;
        if !vis_dim.is_multiple_of(8 * HEADS) || !(8..=WIDEST_HEAD).contains(&width) {
            return fault(format!(
                "the decoder has a width of {vis_dim}, expected {HEADS} heads of a multiple of 8 up to {WIDEST_HEAD}"
            ));
        }
        let words = clip.text.hidden_size;
        if words != vis_dim || c4 != vis_dim {
            return fault(format!(
                "the decoder has a width of {vis_dim}, words one of {words} and the neck's second map one of {c4}, expected the same"
            ));
        }
        let grid = image_size / STRIDE;
        if !image_size.is_multiple_of(STRIDE) || !(1..=LARGEST_GRID).contains(&grid) {
            let most = LARGEST_GRID * STRIDE;
            return fault(format!(
                "pictures of {image_size} pixels, expected a multiple of {STRIDE} up to {most}"
            ));
        }
        Ok(Self {
            clip,
            neck: [c3, c4, c5],
            vis_dim,
            layers,
            dim_ffn,
            image_size,
            fills_phrases: wrapper.split('.').any(|part| part == MEDVLSM),
            wrapper: wrapper.into(),
        })
    }

    /// Pixels along a side of the decoder's map.
    pub fn grid(&self) -> usize {
        self.image_size / STRIDE * 2
    }

    /// Pixels along a side of what is drawn.
    pub fn drawn(&self) -> usize {
        4 * self.grid()
    }

    /// Numbers that are kept of a picture.
    pub fn kept(&self) -> usize {
        let [_, c4, c5] = self.neck;
        self.grid().pow(2) * 2 * c4 + self.grid().pow(2) / 4 * c5
    }
}

/// `neck`: brings the three maps of a picture and a phrase to one.
#[derive(Debug)]
struct Fpn {
    txt_proj: Linear,
    f1_v_proj: Conv,
    /// `norm_layer`: what a phrase's weights are multiplied by, and what is added to the pixels that it weighed.
    norm_scale: Tensor,
    norm_shift: Tensor,
    /// Adds nothing to `norm_scale`.
    nothing: Tensor,
    f2_v_proj: Conv,
    /// On the picture's own channels, and on those from below.
    f2_cat: [Conv; 2],
    f3_v_proj: Conv,
    average: Conv,
    f3_cat: [Conv; 2],
    f4_proj5: Conv,
    f4_proj4: Conv,
    f4_proj3: Conv,
    /// On what `f4_proj3`, `f4_proj4` and `f4_proj5` make.
    aggr: [Conv; 3],
    /// `coordconv.0.conv1` on its input, and on where its pixels are.
    coordinates: [Conv; 2],
    /// Where each pixel is, from -1 to 1: `[1, grid, grid, 4]`, column and row.
    places: Tensor,
    /// `coordconv.1`.
    coordconv: Conv,
}

impl Fpn {
    fn new(config: &CrisConfig, w: &Weights) -> Result<Self> {
        let ([c3, c4, c5], vision) = (config.neck, &config.clip.vision);
        let (dim, grid) = (config.vis_dim, config.grid());
        let layer = |sizes, window, name: &str| {
            let at = w.at(name);
            Conv::normed(sizes, window, &at.at(0), &at.at(1))
        };
        let cat = |parts: [usize; 2], name: &str| {
            let at = w.at(name);
            Conv::normed_parts(parts, dim, POINT, &at.at(0), &at.at(1))
        };
        let (text, aggr, coordconv) = (w.at("txt_proj"), w.at("aggr"), w.at("coordconv"));
        let norm = BatchNorm::new(c5, &w.at("norm_layer").at(0))?;
        let scale: Vec<f32> = norm.scale.iter().map(|v| *v as f32).collect();
        let first = coordconv.at(0).at("conv1");
        let along = |n: usize| 2.0 * n as f32 / (grid.max(2) - 1) as f32 - 1.0;
        let pixels = (0..grid * grid).map(|n| [along(n % grid), along(n / grid), 0.0, 0.0]);
        let pixels: Vec<[f32; 4]> = pixels.collect();
        Ok(Self {
            txt_proj: Linear::normed([vision.output_dim, c5], &text.at(0), &text.at(1))?,
            f1_v_proj: layer([vision.output_dim, c5], POINT, "f1_v_proj")?,
            norm_scale: Tensor::upload(w.gpu(), "norm_layer", [1, c5], &scale)?,
            norm_shift: w.padded_bias(&norm.bias())?,
            nothing: w.bias(None, c5)?,
            f2_v_proj: layer([vision.channels(2), c4], AROUND, "f2_v_proj")?,
            f2_cat: cat([c4, c5], "f2_cat")?,
            f3_v_proj: layer([vision.channels(1), c3], AROUND, "f3_v_proj")?,
            average: Conv::average(c3, 2, w)?,
            f3_cat: cat([c3, c4], "f3_cat")?,
            f4_proj5: layer([c5, dim], AROUND, "f4_proj5")?,
            f4_proj4: layer([dim, dim], AROUND, "f4_proj4")?,
            f4_proj3: layer([dim, dim], AROUND, "f4_proj3")?,
            aggr: Conv::normed_parts([dim; 3], dim, POINT, &aggr.at(0), &aggr.at(1))?,
            coordinates: Conv::normed_parts([dim, 2], dim, AROUND, &first.at(0), &first.at(1))?,
            places: Tensor::upload(w.gpu(), "places", [1, grid, grid, 4], pixels.as_flattened())?,
            coordconv: layer([dim, dim], AROUND, "coordconv.1")?,
        })
    }

    /// What is kept of a picture's maps: the last one, and what the other two bring to theirs.
    fn picture(&self, rec: &Recorder, [v3, v4, v5]: [Tensor; 3]) -> Vec<Tensor> {
        let f5 = self.f1_v_proj.forward(rec, &v5, Activation::Relu);
        let f4 = self.f2_v_proj.forward(rec, &v4, Activation::Relu);
        let f4 = self.f2_cat[0].forward(rec, &f4, Activation::None);
        let f3 = self.f3_v_proj.forward(rec, &v3, Activation::Relu);
        let f3 = self.average.forward(rec, &f3, Activation::None);
        let f3 = self.f3_cat[0].forward(rec, &f3, Activation::None);
        vec![f5, f4, f3]
    }

    /// The map `[1, grid, grid, vis_dim]` of a picture under a phrase, whose state is `[1, columns]`.
    fn forward(&self, rec: &Recorder, picture: &[Tensor], state: &Tensor) -> Tensor {
        let [f5, f4, f3] = picture else {
            panic!("{} maps of a picture", picture.len())
        };
        let relu = Activation::Relu;
        let weighed = |x: &Tensor, weights: &Tensor, shift: &Tensor, activation| {
            conv_depthwise(rec, x, &POINT, weights, shift, activation, Residual::None)
        };
        let state = self.txt_proj.activated(rec, state, relu);
        let [_, c5] = state.matrix();
        let state = state.reshape([1, 1, 1, c5]);
        let weights = weighed(&state, &self.norm_scale, &self.nothing, Activation::None);
        let f5 = weighed(f5, &weights.reshape([1, c5]), &self.norm_shift, relu);
        let f4 = self.f2_cat[1].joined(rec, &resample(rec, &f5), relu, f4);
        let f3 = self.f3_cat[1].joined(rec, &f4, relu, f3);
        let fq5 = resample(rec, &self.f4_proj5.forward(rec, &f5, relu));
        let fq4 = self.f4_proj4.forward(rec, &f4, relu);
        let fq3 = self.f4_proj3.forward(rec, &f3, relu);
        let none = Activation::None;
        let fq = self.aggr[0].forward(rec, &fq3, none);
        let fq = self.aggr[1].added(rec, &fq4, none, &fq);
        let fq = self.aggr[2].joined(rec, &fq5, relu, &fq);
        let there = self.coordinates[1].forward(rec, &self.places, none);
        let fq = self.coordinates[0].joined(rec, &fq, relu, &there);
        self.coordconv.forward(rec, &fq, relu)
    }
}

/// PyTorch's `MultiheadAttention`, under its names: keys are made of what has a place, values of what has none.
#[derive(Debug)]
struct MultiheadAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    out_proj: Linear,
    heads: Heads,
}

impl MultiheadAttention {
    fn new(dim: usize, w: &Weights) -> Result<Self> {
        let part = |n: usize| {
            let names = ["in_proj_weight", "in_proj_bias"];
            Linear::rows([dim, 3 * dim], names, n * dim..(n + 1) * dim, w)
        };
        Ok(Self {
            q: part(0)?,
            k: part(1)?,
            v: part(2)?,
            out_proj: Linear::new([dim, dim], &w.at("out_proj"))?,
            heads: Heads {
                q: HEADS,
                kv: HEADS,
                width: dim / HEADS,
            },
        })
    }

    fn forward(&self, rec: &Recorder, [query, key, value]: [&Tensor; 3]) -> Tensor {
        let q = self.q.forward(rec, query);
        let (k, v) = (self.k.forward(rec, key), self.v.forward(rec, value));
        let [q, k, v] = [&q, &k, &v].map(Columns::all);
        let seen = attention(rec, q, k, v, self.heads, 1, Scores::default());
        self.out_proj.forward(rec, &seen)
    }
}

/// A layer of the decoder: pixels read each other, then the words.
#[derive(Debug)]
struct DecoderLayer {
    self_attn: MultiheadAttention,
    self_attn_norm: LayerNorm,
    multihead_attn: MultiheadAttention,
    cross_attn_norm: LayerNorm,
    /// `ffn.0`, `ffn.3` and `ffn.4`, numbered with what is between them.
    ffn: (Linear, LayerNorm, Linear),
    norm1: LayerNorm,
    norm2: LayerNorm,
    norm3: LayerNorm,
}

impl DecoderLayer {
    fn new(config: &CrisConfig, w: &Weights) -> Result<Self> {
        let (dim, hidden) = (config.vis_dim, config.dim_ffn);
        let norm = |name| LayerNorm::new(dim, EPS, &w.at(name));
        let ffn = w.at("ffn");
        Ok(Self {
            self_attn: MultiheadAttention::new(dim, &w.at("self_attn"))?,
            self_attn_norm: norm("self_attn_norm")?,
            multihead_attn: MultiheadAttention::new(dim, &w.at("multihead_attn"))?,
            cross_attn_norm: norm("cross_attn_norm")?,
            ffn: (
                Linear::new([dim, hidden], &ffn.at(0))?,
                LayerNorm::new(hidden, EPS, &ffn.at(3))?,
                Linear::new([hidden, dim], &ffn.at(4))?,
            ),
            norm1: norm("norm1")?,
            norm2: norm("norm2")?,
            norm3: norm("norm3")?,
        })
    }

    /// x `[pixels, vis_dim]`, whose places are `places`; the words with theirs, and without.
    fn forward(
        &self,
        rec: &Recorder,
        x: Tensor,
        places: &Tensor,
        [placed, words]: [&Tensor; 2],
    ) -> Tensor {
        let own = self.norm1.forward(rec, &x);
        let there = add(rec, &own, places);
        let seen = self.self_attn.forward(rec, [&there, &there, &own]);
        let x = add(rec, &x, &self.self_attn_norm.forward(rec, &seen));
        let there = add(rec, &self.norm2.forward(rec, &x), places);
        let seen = self.multihead_attn.forward(rec, [&there, placed, words]);
        let x = add(rec, &x, &self.cross_attn_norm.forward(rec, &seen));
        let (first, norm, last) = &self.ffn;
        let hidden = first.activated(rec, &self.norm3.forward(rec, &x), Activation::Relu);
        last.added(rec, &norm.forward(rec, &hidden), &x)
    }
}

/// `decoder`.
#[derive(Debug)]
struct TransformerDecoder {
    layers: Vec<DecoderLayer>,
    norm: LayerNorm,
    /// `pos2d`, `[pixels, vis_dim]`.
    places: Tensor,
    /// `pos1d` of the longest phrase, `[tokens, vis_dim]`.
    order: Tensor,
}

impl TransformerDecoder {
    fn new(config: &CrisConfig, w: &Weights) -> Result<Self> {
        let (dim, grid) = (config.vis_dim, config.grid());
        let layers = w.at("layers");
        let pixel = |n: usize| [waves(n % grid, dim / 2), waves(n / grid, dim / 2)].concat();
        let places: Vec<f32> = (0..grid * grid).flat_map(pixel).collect();
        let tokens = config.clip.text.max_position_embeddings;
        let order: Vec<f32> = (0..tokens).flat_map(|n| waves(n, dim)).collect();
        Ok(Self {
            layers: (0..config.layers)
                .map(|n| DecoderLayer::new(config, &layers.at(n)))
                .collect::<Result<_>>()?,
            norm: LayerNorm::new(dim, EPS, &w.at("norm"))?,
            places: Tensor::upload(w.gpu(), "places", [grid * grid, dim], &places)?,
            order: Tensor::upload(w.gpu(), "order", [tokens, dim], &order)?,
        })
    }

    /// x `[pixels, vis_dim]`, words `[tokens, vis_dim]`.
    fn forward(
        &self,
        rec: &Recorder,
        mut x: Tensor,
        words: &Tensor,
        keep: &mut dyn FnMut(&str, &Tensor),
    ) -> Tensor {
        let [tokens, _] = words.matrix();
        let placed = add(rec, words, &gather_rows(rec, &self.order, tokens, 0, 1));
        for (n, layer) in self.layers.iter().enumerate() {
            x = layer.forward(rec, x, &self.places, [&placed, words]);
            keep(&format!("decoder{n}"), &x);
        }
        self.norm.forward(rec, &x)
    }
}

/// Sines and cosines in turn of a place, of ever longer waves.
fn waves(at: usize, dim: usize) -> Vec<f32> {
    let wave = |n: usize| {
        let turn = at as f64 * (-(10_000.0_f64.ln()) * (n - n % 2) as f64 / dim as f64).exp();
        let value = if n.is_multiple_of(2) {
            turn.sin()
        } else {
            turn.cos()
        };
        value as f32
    };
    (0..dim).map(wave).collect()
}

/// `proj`: four times as large, then a convolution to one channel by a kernel and a bias that the phrase makes.
///
/// Of each pixel its product with every tap of the kernel is made, nine numbers; what a pixel is, is the sum of one number of each
/// of its neighbours. That sum is a convolution of its own, by ones, of four neighbours of a line at once.
#[derive(Debug)]
struct Projector {
    /// `vis.1` and `vis.3`, each on pixels at twice their number a side.
    up: [Conv; 2],
    /// `vis.4`.
    last: Conv,
    /// `txt`: the kernel, tap by tap, and rows of zeros behind it.
    kernel: Linear,
    /// `txt`: the bias, once for each column of a panel.
    bias: Linear,
    /// Ones, which bring a pixel's products together.
    gather: Matrix,
}

/// Four neighbours of a line, and one pixel more on every side.
const GATHER: Window = Window {
    kernel: [1, 3, 6],
    stride: [1, 1, 4],
    padding: [[0; 2], [1; 2], [1; 2]],
    ..POINT
};

impl Projector {
    fn new(config: &CrisConfig, w: &Weights) -> Result<Self> {
        let (dim, words) = (config.vis_dim, config.clip.vision.output_dim);
        let (half, vis, txt) = (dim / 2, w.at("vis"), w.at("txt"));
        let up = |outputs, n: usize| {
            let at = vis.at(n);
            Conv::normed([dim, outputs], AROUND, &at.at(0), &at.at(1))
        };
        let outputs = half * TAPS + 1;
        let stored = [outputs, words];
        // The checkpoint has the taps of a channel side by side.
        let row = |o: usize| (o < half * TAPS).then(|| o % half * TAPS + o / half);
        let value = |values: &[f32], o: usize, i: usize| match row(o) {
            Some(row) => values[row * words + i],
            None => 0.0,
        };
        let shape = [half * PADDED_TAPS, words];
        let kernel = txt.matrix_of("weight", &stored, shape, value)?;
        let biases = txt.values("bias", &[outputs])?;
        let own = |o| row(o).map_or(0.0, |row| biases[row]);
        let kernel_bias: Vec<f32> = (0..shape[0]).map(own).collect();
        let last = |values: &[f32], _: usize, i: usize| values[(outputs - 1) * words + i];
        let bias = txt.matrix_of("weight", &stored, [8, words], last)?;
        let mut ones = vec![0.0; 4 * 3 * 6 * PADDED_TAPS];
        for pixel in 0..4 {
            for tap in 0..TAPS {
                let (row, column) = (tap / 3, pixel + tap % 3);
                ones[((pixel * 3 + row) * 6 + column) * PADDED_TAPS + tap] = 1.0;
            }
        }
        Ok(Self {
            up: [up(dim, 1)?, up(half, 3)?],
            last: Conv::new([half, half], POINT, &vis.at(4))?,
            kernel: Linear::made(kernel, &kernel_bias, w)?,
            bias: Linear::made(bias, &[biases[outputs - 1]; 8], w)?,
            gather: Matrix::f32(w.gpu(), "ones", [4, 18 * PADDED_TAPS], &ones)?,
        })
    }

    /// x `[1, grid, grid, vis_dim]`; the logits `[4 · grid, 4 · grid]`.
    fn forward(
        &self,
        rec: &Recorder,
        x: &Tensor,
        state: &Tensor,
        keep: &mut dyn FnMut(&str, &Tensor),
    ) -> Tensor {
        let x = self.up[0].forward(rec, &resample(rec, x), Activation::Relu);
        let x = self.up[1].forward(rec, &resample(rec, &x), Activation::Relu);
        let x = self.last.forward(rec, &x, Activation::None);
        keep("vis", &x);
        let [_, side, _, half] = x.dims();
        let kernel = self.kernel.forward(rec, state);
        let kernel = kernel.reshape([PADDED_TAPS, half]);
        let bias = self.bias.forward(rec, state).reshape([8]);
        let products = matmul(rec, &x.reshape([side * side, half]), &kernel, false);
        let products = products.reshape([1, side, side, PADDED_TAPS]);
        let (none, nothing) = (Activation::None, Residual::None);
        let y = conv(rec, &products, &GATHER, &self.gather, &bias, none, nothing);
        y.reshape([side, side])
    }
}

/// Phrases as the decoder reads them.
#[derive(Clone, Debug)]
pub struct Phrases {
    /// A vector of each, `[phrases, columns]`.
    pub vectors: Tensor,
    /// The states of the tokens of each, `[tokens, vis_dim]`.
    pub words: Vec<Tensor>,
}

/// CLIP's towers, the neck, the decoder and the projector, under the checkpoint's names.
#[derive(Debug)]
pub struct Cris {
    config: CrisConfig,
    backbone: ClipRn,
    neck: Fpn,
    decoder: TransformerDecoder,
    proj: Projector,
}

impl Cris {
    /// Loads a checkpoint for pictures of `image_size` pixels a side. One that is no CRIS is told what it seems to be.
    ///
    /// # Errors
    /// A missing, misshapen or unknown tensor, sizes that do not fit, or no memory.
    pub fn new(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        image_size: usize,
        precision: Precision,
    ) -> Result<Self> {
        let load = || {
            let config = CrisConfig::of(checkpoint, image_size)?;
            let last = format!("{}proj.vis.4", config.wrapper);
            check_biases(checkpoint, |stem| {
                stem != last
                    && (without_bias(checkpoint, stem) || stem.ends_with("neck.txt_proj.0"))
            })?;
            let w = Weights::new(gpu, checkpoint, precision).within(&config.wrapper);
            let this = Self::load(config, &w)?;
            w.finish(&[])?;
            Ok(this)
        };
        load().map_err(|error| likely::named(error, checkpoint))
    }

    fn load(config: CrisConfig, w: &Weights) -> Result<Self> {
        let (clip, size) = (config.clip.clone(), config.image_size);
        Ok(Self {
            backbone: ClipRn::load(clip, size, &w.at("backbone"))?,
            neck: Fpn::new(&config, &w.at("neck"))?,
            decoder: TransformerDecoder::new(&config, &w.at("decoder"))?,
            proj: Projector::new(&config, &w.at("proj"))?,
            config,
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &CrisConfig {
        &self.config
    }

    /// Phrases, given as token ids with their first and last, as the decoder reads them. `keep` is shown what
    /// [`ClipRn::texts`] shows.
    ///
    /// # Errors
    /// A phrase without tokens or too long, an id beyond the table, or no memory.
    pub fn phrases(
        &self,
        rec: &Recorder,
        phrases: &[Vec<u32>],
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Phrases> {
        let mut phrases = phrases.to_vec();
        if self.config.fills_phrases {
            let most = self.config.clip.text.max_position_embeddings;
            for ids in &mut phrases {
                if let Some(end) = ids.last().copied() {
                    ids.resize(ids.len().max(most), end);
                }
            }
        }
        let (states, ends) = self.backbone.text.states(rec, &phrases, &mut keep)?;
        let [_, width] = states.matrix();
        let mut first = 0;
        let own = |ids: &Vec<u32>| {
            let words = Tensor::empty(rec, [ids.len(), width]);
            copy_span(rec, &states, first, &words, 0, ids.len());
            first += ids.len();
            words
        };
        Ok(Phrases {
            vectors: self.backbone.text_projection.forward(rec, &ends),
            words: phrases.iter().map(own).collect(),
        })
    }

    /// What is kept of a picture `[1, image_size, image_size, 4]` (red, green, blue and nothing): three maps. `keep` is shown what
    /// [`ClipResNet::maps`](super::clip_resnet::ClipResNet::maps) shows.
    pub fn encode(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Vec<Tensor> {
        let size = self.config.image_size;
        pixels.expect([1, size, size, 4]);
        let maps = self.backbone.visual.maps(rec, pixels, &mut keep);
        self.neck.picture(rec, maps)
    }

    /// The logits of one of the phrases on an encoded picture, `[drawn, drawn]`: a quarter of the picture a side, see
    /// [`enlarged`](Self::enlarged). `keep` is shown what the neck makes (`fq`), each layer of the decoder (`decoder0` …) and its
    /// last norm (`decoder`), and the pixels that the phrase's kernel is laid on (`vis`).
    ///
    /// # Panics
    /// If `picture` is not of this model, or there is no such phrase.
    pub fn decode(
        &self,
        rec: &Recorder,
        picture: &[Tensor],
        phrases: &Phrases,
        phrase: usize,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Tensor {
        let (grid, dim) = (self.config.grid(), self.config.vis_dim);
        let state = gather_rows(rec, &phrases.vectors, 1, phrase, 1);
        let fq = self.neck.forward(rec, picture, &state);
        keep("fq", &fq);
        let fq = fq.reshape([grid * grid, dim]);
        let fq = self
            .decoder
            .forward(rec, fq, &phrases.words[phrase], &mut keep);
        keep("decoder", &fq);
        let fq = fq.reshape([1, grid, grid, dim]);
        self.proj.forward(rec, &fq, &state, &mut keep)
    }

    /// Logits at the size of the picture, as MedVLSM makes them: bicubic, from corner to corner.
    pub fn enlarged(&self, logits: &[f32]) -> Vec<f32> {
        let (from, to) = (self.config.drawn(), self.config.image_size);
        bicubic(logits, from, to, 1, true)
    }
}
