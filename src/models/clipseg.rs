//! CLIPSeg (arXiv 2112.10003): a picture segmented by a phrase, on CLIP's towers.
//!
//! rd64, rd64-refined and rd16, and what was trained further from them: a folder of Hugging Face's
//! `CLIPSegForImageSegmentation`. The picture is read once, at some blocks of the image tower; a phrase is a vector that
//! conditions the decoder, and each phrase costs one decoder.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::{Conv, ConvTranspose, LayerNorm, Linear};
use crate::models::clip::{ClipConfig, without_bias};
use crate::models::clip_text::ClipText;
use crate::models::clip_vision::{ClipVision, without_class};
use crate::models::{check_biases, config_json, likely, number, wrapper};
use crate::ops::{
    Activation, Columns, Heads, Scores, Window, add, attention, attention_spans, film,
};
use crate::tensor::{Checkpoint, Precision, Tensor, Weights};

/// The widest head that the attention kernels take.
const WIDEST_HEAD: usize = 128;
/// The most tokens along a side of a picture.
const LARGEST_GRID: usize = 44;

/// A tensor that tells where the model begins: MedVLSM's lies below `net.clipseg`.
pub(super) const TELLTALE: &str = "decoder.film_mul.weight";

/// The sizes of a model.
#[derive(Clone, Debug)]
pub struct ClipSegConfig {
    /// Both towers.
    pub clip: ClipConfig,
    /// The blocks of the image tower that are read, from 0, the first to be read last.
    pub extract_layers: Vec<usize>,
    /// What draws.
    pub decoder: ClipSegDecoderConfig,
    /// Rows and columns of a picture in pixels.
    pub image_size: usize,
}

/// The sizes of a decoder.
#[derive(Clone, Debug)]
pub struct ClipSegDecoderConfig {
    /// Width of a token of the image tower.
    pub hidden_size: usize,
    /// Width of what a phrase is.
    pub projection_dim: usize,
    /// Layers: one for each block of the tower that is read.
    pub layers: usize,
    /// Width of the decoder's own tokens.
    pub reduce_dim: usize,
    /// Its heads, and their width.
    pub heads: Heads,
    /// Width of its MLP.
    pub intermediate_size: usize,
    /// Epsilon of its norms.
    pub layer_norm_eps: f32,
    /// The layer before which the phrase conditions the tokens.
    pub conditional_layer: usize,
    /// Whether pixels come of three convolutions (rd64-refined), not of one.
    pub use_complex_transposed_convolution: bool,
    /// Side of the square that is a token, in pixels.
    pub patch_size: usize,
    /// Tokens along a side of a picture.
    pub grid: usize,
}

impl ClipSegDecoderConfig {
    /// Numbers of its widest tensor.
    pub fn widest(&self) -> usize {
        (self.grid * self.grid + 1) * self.intermediate_size.max(16 * self.reduce_dim)
    }

    /// Numbers that are kept of a picture.
    pub fn kept(&self) -> usize {
        (self.grid * self.grid + 1) * self.reduce_dim * self.layers
    }
}

impl ClipSegConfig {
    /// Reads the `config.json` beside a checkpoint, for pictures of so many pixels a side; which those are, the folder's
    /// `preprocessor_config.json` says.
    ///
    /// # Errors
    /// Another model, or sizes that do not fit.
    pub fn of(checkpoint: &Checkpoint, image_size: usize) -> Result<Self> {
        let (path, json) = config_json(checkpoint)?;
        Self::of_json(&json, image_size).map_err(|problem| Error::config(&path, problem))
    }

    fn of_json(json: &Value, image_size: usize) -> std::result::Result<Self, String> {
        let clip = ClipConfig::of_json(json, "clipseg")?;
        let sized = |key: &str, usual: u64, most: u64| match number(json, key, usual)? {
            size if (1..=most).contains(&size) => Ok(size as usize),
            size => Err(format!("`{key}` is {size}, expected 1 to {most}")),
        };
        let blocks = clip.vision.num_hidden_layers;
        let extract_layers = match &json["extract_layers"] {
            Value::Null => Some(vec![3, 6, 9]),
            said => serde_json::from_value::<Vec<usize>>(said.clone()).ok(),
        };
        let rising = |layers: &Vec<usize>| {
            !layers.is_empty()
                && layers.windows(2).all(|two| two[0] < two[1])
                && layers.iter().all(|layer| *layer < blocks)
        };
        let extract_layers = extract_layers.filter(rising).ok_or_else(|| {
            let said = &json["extract_layers"];
            format!(
                "`extract_layers` is {said}, expected rising numbers below {blocks}, the blocks"
            )
        })?;
        let heads = sized("decoder_num_attention_heads", 4, 1024)?;
        let reduce_dim = sized("reduce_dim", 64, 1 << 12)?;
        let width = reduce_dim / heads;
        let fits = (4..=WIDEST_HEAD).contains(&width) && width.is_multiple_of(4);
        if !reduce_dim.is_multiple_of(heads) || !fits || !reduce_dim.is_multiple_of(8) {
            return Err(format!(
                "`reduce_dim` is {reduce_dim} in {heads} heads, expected a multiple of 8, and heads of a multiple of 4 up to {WIDEST_HEAD}"
            ));
        }
        let decoder_intermediate_size = sized("decoder_intermediate_size", 2048, 1 << 16)?;
        if !decoder_intermediate_size.is_multiple_of(4) {
            return Err(format!(
                "`decoder_intermediate_size` is {decoder_intermediate_size}, expected a multiple of 4"
            ));
        }
        let conditional = number(json, "conditional_layer", 0)?;
        let conditional_layer = usize::try_from(conditional).unwrap_or(usize::MAX);
        if conditional_layer >= extract_layers.len() {
            let layers = extract_layers.len();
            return Err(format!(
                "`conditional_layer` is {conditional}, expected below {layers}, the layers of the decoder"
            ));
        }
        let complex = json["use_complex_transposed_convolution"] == true;
        let (patch, grain) = (clip.vision.patch_size, if complex { 16 } else { 4 });
        if !patch.is_multiple_of(grain) {
            return Err(format!(
                "`patch_size` is {patch}, expected a multiple of {grain}"
            ));
        }
        let grid = image_size / patch;
        if !image_size.is_multiple_of(patch) || !(1..=LARGEST_GRID).contains(&grid) {
            return Err(format!(
                "pictures of {image_size} pixels in patches of {patch}, expected whole ones, {LARGEST_GRID} at most"
            ));
        }
        let decoder = ClipSegDecoderConfig {
            hidden_size: clip.vision.hidden_size,
            projection_dim: clip.projection_dim,
            layers: extract_layers.len(),
            reduce_dim,
            heads: Heads {
                q: heads,
                kv: heads,
                width,
            },
            intermediate_size: decoder_intermediate_size,
            // The tower's: transformers makes the decoder's settings from the tower's.
            layer_norm_eps: clip.vision.layer_norm_eps,
            conditional_layer,
            use_complex_transposed_convolution: complex,
            patch_size: patch,
            grid,
        };
        Ok(Self {
            clip,
            extract_layers,
            decoder,
            image_size,
        })
    }

    /// `rd64-refined`, `rd64` or `rd16`, if it is one.
    pub fn name(&self) -> Option<&'static str> {
        Some(
            match (
                self.decoder.reduce_dim,
                self.decoder.use_complex_transposed_convolution,
            ) {
                (64, true) => "rd64-refined",
                (64, false) => "rd64",
                (16, false) => "rd16",
                _ => return None,
            },
        )
    }
}

/// A post-norm transformer block of the decoder.
#[derive(Debug)]
struct DecoderLayer {
    /// `self_attn.q_proj`, `k_proj` and `v_proj` as one product.
    qkv: Linear,
    out_proj: Linear,
    layer_norm1: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    layer_norm2: LayerNorm,
    heads: Heads,
}

impl DecoderLayer {
    fn new(config: &ClipSegDecoderConfig, w: &Weights) -> Result<Self> {
        let (dim, hidden) = (config.reduce_dim, config.intermediate_size);
        let (attn, mlp) = (w.at("self_attn"), w.at("mlp"));
        let stack = [("q_proj", dim), ("k_proj", dim), ("v_proj", dim)];
        let eps = config.layer_norm_eps;
        Ok(Self {
            qkv: Linear::stacked(dim, &stack, &attn)?,
            out_proj: Linear::new([dim, dim], &attn.at("out_proj"))?,
            layer_norm1: LayerNorm::new(dim, eps, &w.at("layer_norm1"))?,
            fc1: Linear::new([dim, hidden], &mlp.at("fc1"))?,
            fc2: Linear::new([hidden, dim], &mlp.at("fc2"))?,
            layer_norm2: LayerNorm::new(dim, eps, &w.at("layer_norm2"))?,
            heads: config.heads,
        })
    }

    /// x `[prompts · tokens, reduce_dim]`; the tokens of a prompt see each other. `span` says so of each row where heads are
    /// too narrow for the kernels that need no span.
    fn forward(&self, rec: &Recorder, x: Tensor, prompts: usize, span: Option<&Tensor>) -> Tensor {
        let [_, dim] = x.matrix();
        let qkv = self.qkv.forward(rec, &x);
        let [q, k, v] = [0, dim, 2 * dim].map(|first| Columns::from(&qkv, first));
        let attended = match span {
            None => attention(rec, q, k, v, self.heads, prompts, Scores::default()),
            Some(span) => attention_spans(rec, q, k, v, span, 0, self.heads),
        };
        let x = self
            .layer_norm1
            .forward(rec, &self.out_proj.added(rec, &attended, &x));
        let hidden = self.fc1.activated(rec, &x, Activation::Relu);
        self.layer_norm2
            .forward(rec, &self.fc2.added(rec, &hidden, &x))
    }
}

/// `transposed_convolution`: tokens to pixels.
#[derive(Debug)]
enum Head {
    /// One transposed convolution.
    Plain(ConvTranspose),
    /// A convolution and two transposed ones.
    Complex(Box<(Conv, ConvTranspose, ConvTranspose)>),
}

impl Head {
    fn new(config: &ClipSegDecoderConfig, w: &Weights) -> Result<Self> {
        let (dim, patch) = (config.reduce_dim, config.patch_size);
        if !config.use_complex_transposed_convolution {
            return Ok(Self::Plain(ConvTranspose::plane(dim, [patch; 2], w)?));
        }
        let part = patch / 4;
        // Numbered with the activations between them.
        Ok(Self::Complex(Box::new((
            Conv::new([dim, dim], Window::square(3, 1, 1), &w.at(0))?,
            ConvTranspose::new([dim, dim / 2], [1, part, part], &w.at(2))?,
            ConvTranspose::plane(dim / 2, [part; 2], &w.at(4))?,
        ))))
    }

    /// x `[prompts, grid, grid, reduce_dim]`.
    fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        match self {
            Self::Plain(up) => up.forward(rec, x, None, Activation::None),
            Self::Complex(all) => {
                let (conv, up, further) = &**all;
                let x = conv.forward(rec, x, Activation::Relu);
                let x = up.forward(rec, &x, None, Activation::Relu);
                further.forward(rec, &x, None, Activation::None)
            }
        }
    }
}

/// `decoder`: reduces what was read of a picture, conditions it by a phrase, and draws.
#[derive(Debug)]
pub struct ClipSegDecoder {
    film_mul: Linear,
    film_add: Linear,
    /// One for each block that is read, the last first.
    reduces: Vec<Linear>,
    layers: Vec<DecoderLayer>,
    transposed_convolution: Head,
    conditional_layer: usize,
    grid: usize,
    image_size: usize,
}

impl ClipSegDecoder {
    /// The tensors below `decoder`.
    pub(super) fn new(config: &ClipSegDecoderConfig, w: &Weights) -> Result<Self> {
        let (dim, depth) = (config.reduce_dim, config.layers);
        let (from, condition) = (config.hidden_size, config.projection_dim);
        let (reduces, layers) = (w.at("reduces"), w.at("layers"));
        Ok(Self {
            film_mul: Linear::new([condition, dim], &w.at("film_mul"))?,
            film_add: Linear::new([condition, dim], &w.at("film_add"))?,
            reduces: (0..depth)
                .map(|n| Linear::new([from, dim], &reduces.at(n)))
                .collect::<Result<_>>()?,
            layers: (0..depth)
                .map(|n| DecoderLayer::new(config, &layers.at(n)))
                .collect::<Result<_>>()?,
            transposed_convolution: Head::new(config, &w.at("transposed_convolution"))?,
            conditional_layer: config.conditional_layer,
            grid: config.grid,
            image_size: config.grid * config.patch_size,
        })
    }

    /// What is kept of a picture: the states `[tokens, hidden_size]` that were read, the first block's first, reduced to
    /// `[tokens, reduce_dim]` each, the last block's first.
    pub(super) fn reduce(&self, rec: &Recorder, taps: &[Tensor]) -> Vec<Tensor> {
        let taps = taps.iter().rev().zip(&self.reduces);
        taps.map(|(tap, reduce)| reduce.forward(rec, tap)).collect()
    }

    /// The logits of each condition on a picture, `[conditions, image_size, image_size]`.
    pub(super) fn forward(
        &self,
        rec: &Recorder,
        reduced: &[Tensor],
        conditions: &Tensor,
        keep: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let ([prompts, _], [tokens, dim]) = (conditions.matrix(), reduced[0].matrix());
        assert_eq!(reduced.len(), self.layers.len(), "blocks that were read");
        let gamma = self.film_mul.forward(rec, conditions);
        let beta = self.film_add.forward(rec, conditions);
        let mut x = reduced[0].clone();
        // Until the phrases have a say all of them see the same.
        let mut own = 1;
        for (n, layer) in self.layers.iter().enumerate() {
            if n > 0 {
                x = add(rec, &x, &reduced[n]);
            }
            if n == self.conditional_layer {
                x = film(rec, &x, &gamma, &beta);
                own = prompts;
                keep("film", &x);
            }
            let span = self.span(rec, own, tokens)?;
            x = layer.forward(rec, x, own, span.as_ref());
            keep(&format!("decoder{n}"), &x);
        }
        let x = without_class(rec, &x, prompts, tokens);
        let x = x.reshape([prompts, self.grid, self.grid, dim]);
        let y = self.transposed_convolution.forward(rec, &x);
        Ok(y.reshape([prompts, self.image_size, self.image_size]))
    }

    /// For each row the tokens of its own prompt, where heads are narrower than the plain kernels take.
    fn span(&self, rec: &Recorder, prompts: usize, tokens: usize) -> Result<Option<Tensor>> {
        if self.layers[0].heads.width.is_multiple_of(8) {
            return Ok(None);
        }
        let span = |row: usize| [(row / tokens * tokens) as u32, tokens as u32];
        let spans: Vec<[u32; 2]> = (0..prompts * tokens).map(span).collect();
        let spans = Tensor::upload(rec.gpu(), "spans", [spans.len(), 2], spans.as_flattened())?;
        Ok(Some(spans))
    }
}

/// The towers and the decoder, under the checkpoint's names.
#[derive(Debug)]
pub struct ClipSeg {
    config: ClipSegConfig,
    /// `clip.text_model`.
    text_model: ClipText,
    /// `clip.text_projection`.
    text_projection: Linear,
    /// `clip.vision_model`, up to the last block that is read.
    vision_model: ClipVision,
    decoder: ClipSegDecoder,
}

impl ClipSeg {
    /// Loads a checkpoint for pictures of `image_size` pixels a side. What lies behind the last block that is read is not
    /// loaded. A checkpoint that is no CLIPSeg is told what it seems to be.
    ///
    /// # Errors
    /// Another model, sizes that do not fit, a missing, misshapen or unknown tensor, or no memory.
    pub fn new(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        image_size: usize,
        precision: Precision,
    ) -> Result<Self> {
        let config = ClipSegConfig::of(checkpoint, image_size)?;
        let named = |error| likely::named(error, checkpoint);
        check_biases(checkpoint, without_bias).map_err(named)?;
        let wrapper = wrapper(checkpoint, TELLTALE);
        let w = Weights::new(gpu, checkpoint, precision).within(wrapper);
        let this = Self::load(config, &w).map_err(named)?;
        let (all, count) = (
            this.config.clip.vision.num_hidden_layers,
            this.config.extract_layers.last().map_or(0, |last| last + 1),
        );
        let unread: Vec<String> = (count..all)
            .map(|n| format!("clip.vision_model.encoder.layers.{n}."))
            .chain(["clip.vision_model.post_layernorm.".into()])
            .collect();
        let known = |name: &str| {
            let name = name.strip_prefix(wrapper).unwrap_or(name);
            name.ends_with("embeddings.position_ids")
                || ["clip.visual_projection.weight", "clip.logit_scale"].contains(&name)
                || unread.iter().any(|unread| name.starts_with(unread))
        };
        let names = checkpoint.tensors().map(|entry| entry.name);
        w.finish(&names.filter(|name| known(name)).collect::<Vec<_>>())
            .map_err(named)?;
        Ok(this)
    }

    fn load(config: ClipSegConfig, w: &Weights) -> Result<Self> {
        let (clip, text) = (w.at("clip"), config.clip.text.clone());
        let count = config.extract_layers.last().map_or(0, |last| last + 1);
        let projection = [text.hidden_size, config.clip.projection_dim];
        Ok(Self {
            text_model: ClipText::new(text, &clip.at("text_model"))?,
            text_projection: Linear::new(projection, &clip.at("text_projection"))?,
            vision_model: ClipVision::stretched(
                config.clip.vision.clone(),
                count,
                config.decoder.grid,
                &clip.at("vision_model"),
            )?,
            decoder: ClipSegDecoder::new(&config.decoder, &w.at("decoder"))?,
            config,
        })
    }

    /// The model's sizes.
    pub fn config(&self) -> &ClipSegConfig {
        &self.config
    }

    /// What phrases condition the decoder by, `[phrases, projection_dim]`; they are token ids with their first and last.
    /// `keep` is shown what [`ClipText::forward`] shows.
    ///
    /// # Errors
    /// A phrase without tokens or too long, an id beyond the table, or no memory.
    pub fn conditions(
        &self,
        rec: &Recorder,
        phrases: &[Vec<u32>],
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let pooled = self.text_model.forward(rec, phrases, &mut keep)?;
        Ok(self.text_projection.forward(rec, &pooled))
    }

    /// What the decoder reads of a picture `[1, image_size, image_size, 4]` (red, green, blue and nothing): of each block that
    /// is read, the last first, `[tokens, reduce_dim]`. `keep` is shown what [`ClipVision::forward`] shows.
    pub fn encode(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Vec<Tensor> {
        let size = self.config.image_size;
        pixels.expect([1, size, size, 4]);
        let layers = &self.config.extract_layers;
        let (taps, _) = self.vision_model.taps(rec, pixels, layers, &mut keep);
        self.decoder.reduce(rec, &taps)
    }

    /// The logits of each phrase on an encoded picture, `[phrases, image_size, image_size]`. `keep` is shown the tokens of all
    /// phrases after the phrases had their say (`film`) and after each layer of the decoder (`decoder0` …).
    ///
    /// # Errors
    /// No memory.
    ///
    /// # Panics
    /// If `reduced` is not of this model.
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
