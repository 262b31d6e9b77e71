//! CLIP's image tower (arXiv 2103.00020): a ViT with a class token, read at its end by CLIP, at one of its layers by LLaVA, and at
//! several by CLIPSeg.

use serde_json::{Value, json};

use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{Conv, LayerNorm};
use crate::models::bicubic::bicubic;
use crate::models::vision::{Block, VisionConfig};
use crate::ops::{Activation, Scores, Window, add, copy_rows, copy_span};
use crate::tensor::{Tensor, Weights};

/// The tower, under the checkpoint's names.
#[derive(Debug)]
pub struct ClipVision {
    config: VisionConfig,
    /// Tokens along a side of the pictures that it is shown.
    side: usize,
    /// `[1, hidden_size]`.
    class_embedding: Tensor,
    patch_embedding: Conv,
    /// `[tokens, hidden_size]`, the class token's first.
    position_embedding: Tensor,
    /// The checkpoint's spelling.
    pre_layrnorm: LayerNorm,
    /// As many as are read.
    layers: Vec<Block>,
}

impl ClipVision {
    /// Reads `vision_config` of LLaVA, CLIP or CLIPSeg.
    ///
    /// # Errors
    /// Sizes that do not fit, in words that `config.json` goes before.
    pub(super) fn config_of(part: &Value) -> std::result::Result<VisionConfig, String> {
        VisionConfig::of(part, &Self::usual())
    }

    /// What `vision_config` is where it says nothing.
    pub(super) fn usual() -> Value {
        json!({
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
        })
    }

    /// The first `count` blocks of the tower whose tensors lie at `w`, for pictures of the size that it was trained on.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or no memory.
    pub fn new(config: VisionConfig, count: usize, w: &Weights) -> Result<Self> {
        let side = config.side();
        Self::stretched(config, count, side, w)
    }

    /// The same for pictures of `side` × `side` tokens: the positions are stretched to them, as CLIPSeg does.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or no memory.
    pub fn stretched(config: VisionConfig, count: usize, side: usize, w: &Weights) -> Result<Self> {
        let (dim, learned, eps) = (config.hidden_size, config.side(), config.layer_norm_eps);
        let embeddings = w.at("embeddings");
        let window = Window::square(config.patch_size, config.patch_size, 0);
        let layers = w.at("encoder").at("layers");
        let class = embeddings.tensor("class_embedding", [dim])?;
        let rows = learned * learned + 1;
        let positions = embeddings
            .at("position_embedding")
            .values("weight", &[rows, dim])?;
        let (first, grid) = positions.split_at(dim);
        let positions = [first.to_vec(), bicubic(grid, learned, side, dim, false)].concat();
        Ok(Self {
            class_embedding: class.reshape([1, dim]),
            patch_embedding: Conv::new([3, dim], window, &embeddings.at("patch_embedding"))?,
            position_embedding: Tensor::upload(
                w.gpu(),
                "position_embedding",
                [side * side + 1, dim],
                &positions,
            )?,
            pre_layrnorm: LayerNorm::new(dim, eps, &w.at("pre_layrnorm"))?,
            layers: (0..count)
                .map(|n| Block::new(&config.block(), &layers.at(n)))
                .collect::<Result<_>>()?,
            side,
            config,
        })
    }

    /// The tower's sizes.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Tokens along a side of a picture.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Tokens of a picture, the class token's included.
    pub fn tokens(&self) -> usize {
        self.side.pow(2) + 1
    }

    /// The states after the last block that is read, `[images · tokens, hidden_size]`, of square pictures `[images, pixels,
    /// pixels, 4]` (red, green, blue and nothing). The first token of each is the class token. `keep` is shown the states after
    /// the first norm (`embedding`) and each block (`layer0` …).
    pub fn forward(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Tensor {
        self.taps(rec, pixels, &[], &mut keep).1
    }

    /// The states after each of the blocks that `taps` numbers, and those after the last; see [`ClipVision::forward`].
    pub(super) fn taps(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        taps: &[usize],
        keep: &mut dyn FnMut(&str, &Tensor),
    ) -> (Vec<Tensor>, Tensor) {
        let patches = self.patch_embedding.forward(rec, pixels, Activation::None);
        let [images, rows, columns, dim] = patches.dims();
        let (own, tokens) = (rows * columns, self.tokens());
        assert_eq!(own + 1, tokens, "a picture of {rows} × {columns} patches");
        let x = Tensor::empty(rec, [images * tokens, dim]);
        copy_rows(rec, &self.class_embedding, &x, images, 0, tokens);
        let patches = patches.reshape([images * own, dim]);
        for image in 0..images {
            copy_span(rec, &patches, image * own, &x, image * tokens + 1, own);
        }
        drop(patches);
        let x = add(rec, &x, &self.position_embedding);
        let mut x = self.pre_layrnorm.forward(rec, &x);
        keep("embedding", &x);
        let mut tapped = vec![None; taps.len()];
        for (n, block) in self.layers.iter().enumerate() {
            x = block.forward(rec, x, images, Scores::default());
            keep(&format!("layer{n}"), &x);
            for (place, tap) in tapped.iter_mut().zip(taps) {
                if *tap == n {
                    *place = Some(x.clone());
                }
            }
        }
        let tapped = tapped
            .into_iter()
            .map(|tap| tap.expect("a block that is read"));
        (tapped.collect(), x)
    }
}

/// The rows of every picture but its first.
pub(super) fn without_class(rec: &Recorder, x: &Tensor, images: usize, tokens: usize) -> Tensor {
    let [_, width] = x.matrix();
    let kept = tokens - 1;
    let y = Tensor::empty(rec, [images * kept, width]);
    for image in 0..images {
        copy_span(rec, x, image * tokens + 1, &y, image * kept, kept);
    }
    y
}
