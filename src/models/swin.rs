//! Swin (arXiv 2103.14030): attention within windows of a picture, which every other block shifts by half a window, and stages
//! of ever fewer and wider tokens. Hugging Face's `SwinModel`, such as microsoft/swin-tiny-patch4-window7-224.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::layers::{Conv, LayerNorm, Linear};
use crate::models::shapes::Shapes;
use crate::models::vision::{WIDEST_HEAD, activation};
use crate::models::{check_biases, likely, number};
use crate::ops::{
    Activation, Added, Columns, Heads, Scores, Window, attention, joined_windows, layer_norm,
    linear, mean_rows, windows,
};
use crate::tensor::{Checkpoint, Matrix, Precision, Tensor, Weights};

/// Where `SwinModel` lies in a checkpoint of what was trained with a head on it.
const PREFIX: &str = "swin";
/// What is added to the score of a key beyond the edge that shifting put into the middle of a window.
const BEYOND: f32 = -100.0;
/// PyTorch's epsilon, which the norms outside the blocks have whatever `config.json` says.
const EPS: f32 = 1e-5;
/// The largest patch side: a convolution's kernel has at most 31 rows and slices together.
const LARGEST_PATCH: usize = 29;
/// The largest side of a window in tokens: published ones have 7 to 24.
const LARGEST_WINDOW: usize = 64;
/// The four pixels that become one token lie in the order of their columns in a checkpoint, and of their lines in a window.
const BY_LINES: [usize; 4] = [0, 2, 1, 3];

/// The sizes of a Swin.
#[derive(Clone, Debug)]
pub struct SwinConfig {
    /// Side of the picture that it was trained on, in pixels; it takes others.
    pub image_size: usize,
    /// Side of the square that becomes a token, in pixels.
    pub patch_size: usize,
    /// Width of a token in the first stage; each further one doubles it.
    pub embed_dim: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Heads of each stage.
    pub num_heads: Vec<usize>,
    /// Side of a window in tokens.
    pub window_size: usize,
    /// Width of the MLP in the first stage; each further one doubles it.
    pub mlp_dim: usize,
    /// Whether q, k and v have a bias.
    pub qkv_bias: bool,
    /// What follows the first layer of the MLP.
    pub hidden_act: Activation,
    /// Epsilon of the norms in the blocks, and of the last one.
    pub layer_norm_eps: f32,
}

impl SwinConfig {
    /// Reads a `config.json`; what it does not say is Swin-T's, as in transformers.
    ///
    /// # Errors
    /// Another model, or sizes that do not fit, in words that the file goes before.
    pub fn of(json: &Value) -> std::result::Result<Self, String> {
        let kind = &json["model_type"];
        if kind != "swin" {
            return Err(format!("`model_type` is {kind}, expected `swin`"));
        }
        let size = |key: &str, usual: u64| {
            let size = number(json, key, usual)?;
            Ok::<usize, String>(usize::try_from(size).unwrap_or(usize::MAX))
        };
        let several = |key: &str, usual: [usize; 4]| match &json[key] {
            Value::Null => Ok(usual.to_vec()),
            said => serde_json::from_value(said.clone())
                .map_err(|_| format!("`{key}` is {said}, expected whole numbers")),
        };
        for (key, known) in [("use_absolute_embeddings", false), ("qkv_bias", true)] {
            let said = &json[key];
            if !said.is_null() && !said.is_boolean() {
                return Err(format!("`{key}` is {said}, expected {known}"));
            }
        }
        if json["use_absolute_embeddings"] == true {
            return Err("`use_absolute_embeddings` is true, which is not supported".into());
        }
        let channels = size("num_channels", 3)?;
        if channels != 3 {
            return Err(format!("`num_channels` is {channels}, expected 3"));
        }
        let real = |key: &str, usual: f64| match &json[key] {
            Value::Null => Ok(usual),
            said => match said.as_f64() {
                Some(value) if value > 0.0 => Ok(value),
                _ => Err(format!("`{key}` is {said}, expected above 0")),
            },
        };
        let embed_dim = size("embed_dim", 96)?;
        let config = Self {
            image_size: size("image_size", 224)?,
            patch_size: size("patch_size", 4)?,
            embed_dim,
            depths: several("depths", [2, 2, 6, 2])?,
            num_heads: several("num_heads", [3, 6, 12, 24])?,
            window_size: size("window_size", 7)?,
            mlp_dim: (real("mlp_ratio", 4.0)? * embed_dim as f64) as usize,
            qkv_bias: json["qkv_bias"] != false,
            hidden_act: match &json["hidden_act"] {
                Value::Null => Activation::Gelu,
                said => activation("hidden_act", said.as_str().unwrap_or_default())?,
            },
            layer_norm_eps: real("layer_norm_eps", 1e-5)? as f32,
        };
        config.check()?;
        Ok(config)
    }

    /// Reads the shapes of the tensors below `place`, where a checkpoint comes without a `config.json`. What shapes do not
    /// tell is Swin-T's: pictures of 224 pixels, GELU, an epsilon of 1e-5.
    ///
    /// # Errors
    /// A missing tensor, or sizes that do not fit.
    pub(super) fn of_shapes(shapes: &Shapes, place: &str) -> Result<Self> {
        let patches = format!("{place}.embeddings.patch_embeddings.projection.weight");
        let [embed_dim, _, patch_size, _] = shapes.of(&patches)?;
        let block = |n: usize, m: usize, part: &str| {
            format!("{place}.encoder.layers.{n}.blocks.{m}.{part}")
        };
        let table = |n: usize, m: usize| block(n, m, "attention.self.relative_position_bias_table");
        let stages = shapes.count(|n| table(n, 0));
        let (mut depths, mut num_heads, mut rows) = (Vec::new(), Vec::new(), 0);
        for n in 0..stages {
            depths.push(shapes.count(|m| table(n, m)));
            let [places, heads] = shapes.of(&table(n, 0))?;
            num_heads.push(heads);
            rows = places;
        }
        let [mlp_dim, _] = shapes.of(&block(0, 0, "intermediate.dense.weight"))?;
        let config = Self {
            image_size: 224,
            patch_size,
            embed_dim,
            depths,
            num_heads,
            window_size: rows.isqrt().div_ceil(2),
            mlp_dim,
            qkv_bias: true,
            hidden_act: Activation::Gelu,
            layer_norm_eps: EPS,
        };
        let fault = |problem| Error::weights(shapes.checkpoint.path(), problem);
        config.check().map_err(fault)?;
        Ok(config)
    }

    /// Width of a token in a stage.
    pub fn dim(&self, stage: usize) -> usize {
        self.embed_dim << stage
    }

    /// Width of what it makes of a picture.
    pub fn hidden_size(&self) -> usize {
        self.dim(self.depths.len() - 1)
    }

    /// Whether the sizes make sense and fit each other and the kernels.
    fn check(&self) -> std::result::Result<(), String> {
        let within = |name: &str, value: usize, most: usize| match value {
            value if (1..=most).contains(&value) => Ok(()),
            _ => Err(format!("`{name}` is {value}, expected 1 to {most}")),
        };
        within("image_size", self.image_size, 1 << 13)?;
        within("patch_size", self.patch_size, LARGEST_PATCH)?;
        within("embed_dim", self.embed_dim, 1 << 12)?;
        within("window_size", self.window_size, LARGEST_WINDOW)?;
        let (stages, heads) = (self.depths.len(), self.num_heads.len());
        if stages != heads || !(1..=6).contains(&stages) {
            return Err(format!(
                "`depths` has {stages} stages and `num_heads` {heads}, expected the same of 1 to 6"
            ));
        }
        for (stage, (depth, heads)) in self.depths.iter().zip(&self.num_heads).enumerate() {
            within("depths", *depth, 1024)?;
            within("num_heads", *heads, 1024)?;
            let dim = self.dim(stage);
            let width = dim / heads;
            let fits = (8..=WIDEST_HEAD).contains(&width) && width.is_multiple_of(8);
            if !dim.is_multiple_of(*heads) || !fits {
                return Err(format!(
                    "{heads} heads of {dim} columns, expected heads of a multiple of 8 up to {WIDEST_HEAD}"
                ));
            }
        }
        if !(1..=1 << 18).contains(&self.mlp_dim) || !self.mlp_dim.is_multiple_of(4) {
            let mlp = self.mlp_dim;
            return Err(format!(
                "an MLP of {mlp} columns, expected a multiple of 4 up to {}",
                1 << 18
            ));
        }
        Ok(())
    }
}

/// A pre-norm transformer block on windows.
#[derive(Debug)]
struct Block {
    layernorm_before: LayerNorm,
    /// `attention.self.{query,key,value}` as one product.
    qkv: Linear,
    /// What is added to the scores, `[kinds, heads, side², side²]`: the relative positions, and in blocks that shift also what
    /// hides the keys beyond an edge, for each of [`Kinds`].
    bias: Tensor,
    attention_output: Linear,
    layernorm_after: LayerNorm,
    intermediate: Linear,
    hidden_act: Activation,
    output: Linear,
    heads: Heads,
    side: usize,
    /// By how much its windows are shifted.
    shift: usize,
}

impl Block {
    fn new(config: &SwinConfig, stage: usize, number: usize, w: &Weights) -> Result<Self> {
        let (dim, mlp, side) = (
            config.dim(stage),
            config.mlp_dim << stage,
            config.window_size,
        );
        let (heads, attention) = (config.num_heads[stage], w.at("attention"));
        let own = attention.at("self");
        let rows = (2 * side - 1).pow(2);
        let table = own.values("relative_position_bias_table", &[rows, heads])?;
        let shift = if number % 2 == 1 { side / 2 } else { 0 };
        let (kinds, bias) = biases(&table, heads, side, shift);
        let shape = [kinds, heads, side * side, (side * side).next_multiple_of(4)];
        let norm = |name| LayerNorm::new(dim, config.layer_norm_eps, &w.at(name));
        Ok(Self {
            layernorm_before: norm("layernorm_before")?,
            qkv: Linear::stacked(dim, &[("query", dim), ("key", dim), ("value", dim)], &own)?,
            bias: Tensor::upload(w.gpu(), "relative positions", shape, &bias)?,
            attention_output: Linear::new([dim, dim], &attention.at("output").at("dense"))?,
            layernorm_after: norm("layernorm_after")?,
            intermediate: Linear::new([dim, mlp], &w.at("intermediate").at("dense"))?,
            hidden_act: config.hidden_act,
            output: Linear::new([mlp, dim], &w.at("output").at("dense"))?,
            heads: Heads {
                q: heads,
                kv: heads,
                width: dim / heads,
            },
            side,
            shift,
        })
    }

    /// x `[images, rows, columns, dim]`; `kinds` are those of its windows, where it is large enough to be shifted.
    fn forward(&self, rec: &Recorder, x: &Tensor, kinds: Option<&Tensor>) -> Tensor {
        let [images, rows, columns, dim] = x.dims();
        let pixels = images * rows * columns;
        let kinds = kinds.filter(|_| self.shift > 0);
        let shift = kinds.map_or(0, |_| self.shift);
        // The padding is zeros behind the norm, and takes part as it does in Swin's own code.
        let normed = self.layernorm_before.forward(rec, x);
        let tokens = windows(rec, &normed, self.side, shift);
        drop(normed);
        let [batch, ..] = tokens.dims::<3>();
        let qkv = self.qkv.forward(rec, &tokens);
        drop(tokens);
        let [q, k, v] = [0, dim, 2 * dim].map(|first| Columns::from(&qkv, first));
        let added = Added::Bias {
            bias: &self.bias,
            kind: kinds,
        };
        let scores = Scores {
            added,
            ..Scores::default()
        };
        let attended = attention(rec, q, k, v, self.heads, batch, scores);
        let attended = joined_windows(rec, &attended, [images, rows, columns], self.side, shift);
        // On the picture, not on its windows, whose padding would be multiplied too.
        let attended = attended.reshape([pixels, dim]);
        let x = x.reshape([pixels, dim]);
        let x = self.attention_output.added(rec, &attended, &x);
        let normed = self.layernorm_after.forward(rec, &x);
        let hidden = self.intermediate.activated(rec, &normed, self.hidden_act);
        let x = self.output.added(rec, &hidden, &x);
        x.reshape([images, rows, columns, dim])
    }
}

/// What is added to the scores of windows of `side` × `side` tokens, its rows padded to whole vec4s, and of how many kinds they
/// are. A table's row is a distance, lines by columns. Shifted windows are of four: within the picture, those of its last column,
/// of its last line, and the last of both, in which the edge runs down, across, or both, `shift` tokens before their end.
fn biases(table: &[f32], heads: usize, side: usize, shift: usize) -> (usize, Vec<f32>) {
    let (tokens, kinds) = (side * side, if shift > 0 { 4 } else { 1 });
    let padded = tokens.next_multiple_of(4);
    let mut bias = vec![0.0; kinds * heads * tokens * padded];
    let beyond = |place: usize, at_edge: bool| at_edge && place >= side - shift;
    for (row, values) in bias.chunks_exact_mut(padded).enumerate() {
        let (query, head, kind) = (row % tokens, row / tokens % heads, row / tokens / heads);
        let (line, column) = (query / side, query % side);
        for (key, value) in values.iter_mut().take(tokens).enumerate() {
            let (other_line, other_column) = (key / side, key % side);
            let down = line + side - 1 - other_line;
            let across = column + side - 1 - other_column;
            let hidden = beyond(line, kind >= 2) != beyond(other_line, kind >= 2)
                || beyond(column, kind % 2 == 1) != beyond(other_column, kind % 2 == 1);
            *value = table[(down * (2 * side - 1) + across) * heads + head];
            if hidden {
                *value += BEYOND;
            }
        }
    }
    (kinds, bias)
}

/// `downsample`: four neighbouring tokens to one of twice the width.
#[derive(Debug)]
struct PatchMerging {
    norm: [Tensor; 2],
    reduction: Matrix,
    /// None: zeros.
    bias: Tensor,
}

impl PatchMerging {
    fn new(dim: usize, w: &Weights) -> Result<Self> {
        let norm = |name: &str| {
            let values = w.at("norm").values(name, &[4 * dim])?;
            let mut ordered = Vec::with_capacity(4 * dim);
            for block in BY_LINES {
                ordered.extend_from_slice(&values[block * dim..][..dim]);
            }
            Tensor::upload(w.gpu(), name, 4 * dim, &ordered)
        };
        let shape = [2 * dim, 4 * dim];
        Ok(Self {
            norm: [norm("weight")?, norm("bias")?],
            reduction: w
                .at("reduction")
                .matrix_in_order("weight", shape, &BY_LINES)?,
            bias: w.bias(None, 2 * dim)?,
        })
    }

    /// x `[images, rows, columns, dim]`, an odd line and column beside zeros.
    fn forward(&self, rec: &Recorder, x: &Tensor) -> Tensor {
        let [images, rows, columns, dim] = x.dims();
        let (rows, columns) = (rows.div_ceil(2), columns.div_ceil(2));
        let fours = windows(rec, x, 2, 0).reshape([images * rows * columns, 4 * dim]);
        let [weight, bias] = &self.norm;
        let fours = layer_norm(rec, &fours, weight, bias, EPS);
        let x = linear(
            rec,
            &fours,
            &self.reduction,
            &self.bias,
            Activation::None,
            None,
        );
        x.reshape([images, rows, columns, 2 * dim])
    }
}

/// Blocks on one grid, and the way to the next.
#[derive(Debug)]
struct Stage {
    blocks: Vec<Block>,
    downsample: Option<PatchMerging>,
    side: usize,
}

impl Stage {
    fn new(config: &SwinConfig, stage: usize, w: &Weights) -> Result<Self> {
        let dim = config.dim(stage);
        let last = stage + 1 == config.depths.len();
        Ok(Self {
            blocks: (0..config.depths[stage])
                .map(|n| Block::new(config, stage, n, &w.at("blocks").at(n)))
                .collect::<Result<_>>()?,
            downsample: match last {
                true => None,
                false => Some(PatchMerging::new(dim, &w.at("downsample"))?),
            },
            side: config.window_size,
        })
    }

    /// Which kind of [`biases`] each window of a picture has; nothing where one is as wide or high as the picture, and so not
    /// shifted.
    fn kinds(&self, rec: &Recorder, [rows, columns]: [usize; 2]) -> Result<Option<Tensor>> {
        if rows.min(columns) <= self.side {
            return Ok(None);
        }
        let (down, across) = (rows.div_ceil(self.side), columns.div_ceil(self.side));
        let kind = |n: usize| {
            let (line, column) = (n / across + 1 == down, n % across + 1 == across);
            2 * u32::from(line) + u32::from(column)
        };
        let kinds: Vec<u32> = (0..down * across).map(kind).collect();
        Tensor::upload(rec.gpu(), "kinds of windows", kinds.len(), &kinds).map(Some)
    }
}

/// What a Swin makes of pictures.
#[derive(Clone, Debug)]
pub struct Features {
    /// `[images, rows, columns, hidden_size]`.
    pub states: Tensor,
    /// Their means, `[images, hidden_size]`: transformers' `pooler_output`.
    pub pooled: Tensor,
}

/// A Swin.
#[derive(Debug)]
pub struct Swin {
    config: SwinConfig,
    patch_embeddings: Conv,
    norm: LayerNorm,
    layers: Vec<Stage>,
    layernorm: LayerNorm,
}

impl Swin {
    /// Loads a checkpoint of Hugging Face's `SwinModel`, or of a model that has one below `swin`; heads for classes and for hidden
    /// patches are left alone. A checkpoint that is no Swin is told what it seems to be.
    ///
    /// # Errors
    /// A missing, misshapen or unknown tensor, or no memory.
    pub fn new(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        config: SwinConfig,
        precision: Precision,
    ) -> Result<Self> {
        let root = Weights::new(gpu, checkpoint, precision);
        let place = match root.has(&format!("{PREFIX}.embeddings.norm.weight")) {
            true => root.at(PREFIX),
            false => root.clone(),
        };
        let left = |name: &&str| {
            let head = name.starts_with("classifier.") || name.starts_with("decoder.");
            head || name.ends_with("embeddings.mask_token") || is_position_index(name)
        };
        let names = checkpoint.tensors().map(|entry| entry.name);
        let left: Vec<&str> = names.filter(left).collect();
        let load = || {
            let qkv_bias = config.qkv_bias;
            check_biases(checkpoint, |stem| is_without_bias(stem, qkv_bias))?;
            let this = Self::load(config, &place)?;
            root.finish(&left)?;
            Ok(this)
        };
        load().map_err(|error| likely::named(error, checkpoint))
    }

    /// The tensors below `w`, for a model that has one in it.
    pub(super) fn load(config: SwinConfig, w: &Weights) -> Result<Self> {
        let (dim, embeddings) = (config.embed_dim, w.at("embeddings"));
        let patches = Window::square(config.patch_size, config.patch_size, 0);
        let projection = embeddings.at("patch_embeddings").at("projection");
        let layers = w.at("encoder").at("layers");
        let (last, eps) = (config.hidden_size(), config.layer_norm_eps);
        Ok(Self {
            patch_embeddings: Conv::new([3, dim], patches, &projection)?,
            norm: LayerNorm::new(dim, EPS, &embeddings.at("norm"))?,
            layers: (0..config.depths.len())
                .map(|n| Stage::new(&config, n, &layers.at(n)))
                .collect::<Result<_>>()?,
            layernorm: LayerNorm::new(last, eps, &w.at("layernorm"))?,
            config,
        })
    }

    /// Its sizes.
    pub fn config(&self) -> &SwinConfig {
        &self.config
    }

    /// Encodes pictures `[images, height, width, 4]`, red, green, blue and nothing, normalised as the model's processor does.
    /// `keep` is shown the states after the patches' norm (`embedding`), each block (`layer0.block0` …) and each stage
    /// (`layer0` …, after its tokens are merged), and after the last norm (`tower`).
    ///
    /// # Errors
    /// A picture so small that a stage would not fill a window, or no memory.
    pub fn forward(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Features> {
        let [images, height, width, _] = pixels.dims();
        self.check_size([height, width])?;
        let patch = self.config.patch_size;
        let missing = |pixels: usize| pixels.next_multiple_of(patch) - pixels;
        let padding = [[0, 0], [0, missing(height)], [0, missing(width)]];
        let mut x = self
            .patch_embeddings
            .on_block(rec, pixels, padding, Activation::None);
        x = self.norm.forward(rec, &x);
        keep("embedding", &x);
        for (n, stage) in self.layers.iter().enumerate() {
            let [_, rows, columns, _] = x.dims();
            let kinds = stage.kinds(rec, [rows, columns])?;
            for (m, block) in stage.blocks.iter().enumerate() {
                x = block.forward(rec, &x, kinds.as_ref());
                keep(&format!("layer{n}.block{m}"), &x);
            }
            if let Some(downsample) = &stage.downsample {
                x = downsample.forward(rec, &x);
            }
            keep(&format!("layer{n}"), &x);
        }
        let states = self.layernorm.forward(rec, &x);
        keep("tower", &states);
        let [_, rows, columns, dim] = states.dims();
        let tokens = rows * columns;
        let spans: Vec<[u32; 2]> = (0..images)
            .map(|image| [image * tokens, tokens].map(|n| n as u32))
            .collect();
        let spans = Tensor::upload(rec.gpu(), "pictures", [images, 2], spans.as_flattened())?;
        let rows = states.reshape([images * tokens, dim]);
        Ok(Features {
            pooled: mean_rows(rec, &rows, &spans),
            states,
        })
    }

    /// Whether every stage fills a window: transformers would make the window smaller, which its table of positions does not fit.
    fn check_size(&self, size: [usize; 2]) -> Result<()> {
        let Self { config, .. } = self;
        let mut grid = size.map(|pixels| pixels.div_ceil(config.patch_size));
        for stage in 0..config.depths.len() {
            if grid[0].min(grid[1]) < config.window_size {
                let ([height, width], [rows, columns]) = (size, grid);
                let side = config.window_size;
                return Err(Error::Argument(format!(
                    "a picture of {height} × {width} pixels leaves {rows} × {columns} tokens in stage {stage}, which do not fill a window of {side}"
                )));
            }
            grid = grid.map(|side| side.div_ceil(2));
        }
        Ok(())
    }
}

/// Which row of the table each pair of tokens has, which older releases of transformers kept.
pub(super) fn is_position_index(name: &str) -> bool {
    name.ends_with(".relative_position_index")
}

/// Whether what a tensor is called has a weight alone.
pub(super) fn is_without_bias(stem: &str, qkv_bias: bool) -> bool {
    let own = [".self.query", ".self.key", ".self.value"];
    stem.ends_with(".reduction") || (!qkv_bias && own.iter().any(|end| stem.ends_with(end)))
}
