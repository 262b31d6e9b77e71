//! The vision tower of Idefics3 and SmolVLM: SigLIP (arXiv 2303.15343) for pictures of any shape.
//!
//! A picture may cover only the upper left of its square. Positions were learned on a square grid; a token has that of the
//! place it would have there if its picture were stretched over the whole (NaViT, arXiv 2307.06304).

use serde_json::json;

use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{Conv, Embedding, LayerNorm};
use crate::models::vision::{Block, VisionConfig};
use crate::ops::{Activation, Added, Scores, Window, add};
use crate::tensor::{Tensor, Weights};

/// How far below 1 the last place of a picture is cut, as transformers does.
const BELOW_ONE: f32 = 1.0 - 1e-6;
/// What hides a key: a score below -1e30 is none.
const HIDDEN: f32 = f32::MIN;

/// Pictures as the tower takes them.
#[derive(Clone, Debug)]
pub struct Tiles {
    /// `[images, height, width, 4]`: red, green, blue and nothing.
    pub pixels: Tensor,
    /// Rows and columns of patches that each picture covers, from its upper left.
    pub covered: Vec<[usize; 2]>,
}

/// The tower, under the names below `vision_model`.
#[derive(Debug)]
pub struct SiglipVision {
    config: VisionConfig,
    patch_embedding: Conv,
    position_embedding: Embedding,
    layers: Vec<Block>,
    post_layernorm: LayerNorm,
}

impl SiglipVision {
    /// Reads `vision_config` of Idefics3 or SmolVLM.
    ///
    /// # Errors
    /// Sizes that do not fit, in words that `config.json` goes before.
    pub(super) fn config_of(part: &serde_json::Value) -> std::result::Result<VisionConfig, String> {
        let usual = json!({
            "hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 16,
            "image_size": 224, "patch_size": 32, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
        });
        VisionConfig::of(part, &usual)
    }

    /// The tensors below `vision_model`.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or no memory.
    pub fn new(config: VisionConfig, w: &Weights) -> Result<Self> {
        let (dim, side) = (config.hidden_size, config.side());
        let embeddings = w.at("embeddings");
        let window = Window::square(config.patch_size, config.patch_size, 0);
        let layers = w.at("encoder").at("layers");
        Ok(Self {
            patch_embedding: Conv::new([3, dim], window, &embeddings.at("patch_embedding"))?,
            position_embedding: Embedding::new(
                side * side,
                dim,
                &embeddings.at("position_embedding"),
            )?,
            layers: (0..config.num_hidden_layers)
                .map(|n| Block::new(&config.block(), &layers.at(n)))
                .collect::<Result<_>>()?,
            post_layernorm: LayerNorm::new(dim, config.layer_norm_eps, &w.at("post_layernorm"))?,
            config,
        })
    }

    /// The tower's sizes.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// The tokens of each picture, `[images · rows · columns, hidden_size]`, those that it does not cover included. `keep`
    /// is shown the states after the positions (`embedding`), each block (`layer0` …) and the last norm (`tower`).
    ///
    /// # Errors
    /// No memory.
    pub fn forward(
        &self,
        rec: &Recorder,
        tiles: &Tiles,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        let x = self
            .patch_embedding
            .forward(rec, &tiles.pixels, Activation::None);
        let [images, rows, columns, dim] = x.dims();
        assert_eq!(images, tiles.covered.len(), "pictures");
        let mut ids = Vec::with_capacity(images * rows * columns);
        for covered in &tiles.covered {
            ids.extend(positions([rows, columns], *covered, self.config.side()));
        }
        let ids = Tensor::upload(rec.gpu(), "positions", ids.len(), &ids)?;
        let tokens = x.reshape([ids.len(), dim]);
        let mut x = add(rec, &tokens, &self.position_embedding.forward(rec, &ids));
        keep("embedding", &x);
        let hidden = hiding(rec, [rows, columns], &tiles.covered)?;
        let scores = match &hidden {
            None => Scores::default(),
            Some((bias, kind)) => Scores {
                added: Added::Bias {
                    bias,
                    kind: Some(kind),
                },
                ..Scores::default()
            },
        };
        for (n, block) in self.layers.iter().enumerate() {
            x = block.forward(rec, x, images, scores);
            keep(&format!("layer{n}"), &x);
        }
        let x = self.post_layernorm.forward(rec, &x);
        keep("tower", &x);
        Ok(x)
    }
}

/// The position of each token of a grid, row by row, of which a picture covers a part, among `side` × `side` learned ones;
/// the first for tokens that it does not cover. In the same single precision and order of operations as transformers, where
/// a place that is on the edge of two may fall to the one before.
pub fn positions(
    [rows, columns]: [usize; 2],
    [high, wide]: [usize; 2],
    side: usize,
) -> impl Iterator<Item = u32> {
    let edge = |n: usize| (1.0 / side as f64 + n as f64 * (1.0 / side as f64)) as f32;
    let edges: Vec<f32> = (0..side.saturating_sub(1)).map(edge).collect();
    let along = move |count: usize| -> Vec<u32> {
        let step = 1.0 / count as f32;
        let place = |n: usize| (n as f32 * step).min(BELOW_ONE);
        let bucket = |n: usize| edges.partition_point(|edge| *edge <= place(n)) as u32;
        (0..count).map(bucket).collect()
    };
    let (down, across) = (along(high), along(wide));
    (0..rows * columns).map(move |n| {
        let place = (down.get(n / columns), across.get(n % columns));
        match place {
            (Some(row), Some(column)) => row * side as u32 + column,
            _ => 0,
        }
    })
}

/// What hides the tokens that pictures do not cover, `[kinds, 1, tokens, tokens]`, and the kind of each picture; nothing
/// where all are covered.
fn hiding(
    rec: &Recorder,
    [rows, columns]: [usize; 2],
    covered: &[[usize; 2]],
) -> Result<Option<(Tensor, Tensor)>> {
    if covered.iter().all(|covered| *covered == [rows, columns]) {
        return Ok(None);
    }
    let mut kinds = covered.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    let (tokens, padded) = (rows * columns, (rows * columns).next_multiple_of(4));
    let mut bias: Vec<f32> = Vec::with_capacity(kinds.len() * tokens * padded);
    for [high, wide] in &kinds {
        let sees = |n: usize| n / columns < *high && n % columns < *wide;
        let row = |n: usize| if sees(n) { 0.0 } else { HIDDEN };
        let row: Vec<f32> = (0..padded).map(row).collect();
        (0..tokens).for_each(|_| bias.extend(&row));
    }
    let kind = covered
        .iter()
        .map(|covered| kinds.partition_point(|k| k < covered) as u32);
    let kind: Vec<u32> = kind.collect();
    Ok(Some((
        Tensor::upload(
            rec.gpu(),
            "hidden keys",
            [kinds.len(), 1, tokens, padded],
            &bias,
        )?,
        Tensor::upload(rec.gpu(), "kinds", kind.len(), &kind)?,
    )))
}
