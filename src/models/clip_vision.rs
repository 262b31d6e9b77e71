//! The vision tower of LLaVA: CLIP's ViT (arXiv 2103.00020), read at one of its layers.

use serde_json::json;

use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{Conv, LayerNorm};
use crate::models::vision::{Block, VisionConfig};
use crate::ops::{Activation, Scores, Window, add, copy_rows, gather_rows};
use crate::tensor::{Tensor, Weights};

/// The tower, under the checkpoint's names.
#[derive(Debug)]
pub struct ClipVision {
    config: VisionConfig,
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
    /// Reads `vision_config` of LLaVA.
    ///
    /// # Errors
    /// Sizes that do not fit, in words that `config.json` goes before.
    pub(super) fn config_of(part: &serde_json::Value) -> std::result::Result<VisionConfig, String> {
        let usual = json!({
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
        });
        VisionConfig::of(part, &usual)
    }

    /// The first `count` blocks of the tower whose tensors lie at `w`.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or no memory.
    pub fn new(config: VisionConfig, count: usize, w: &Weights) -> Result<Self> {
        let (dim, side, eps) = (config.hidden_size, config.side(), config.layer_norm_eps);
        let embeddings = w.at("embeddings");
        let window = Window::square(config.patch_size, config.patch_size, 0);
        let layers = w.at("encoder").at("layers");
        let class = embeddings.tensor("class_embedding", [dim])?;
        Ok(Self {
            class_embedding: class.reshape([1, dim]),
            patch_embedding: Conv::new([3, dim], window, &embeddings.at("patch_embedding"))?,
            position_embedding: embeddings
                .at("position_embedding")
                .tensor("weight", [side * side + 1, dim])?,
            pre_layrnorm: LayerNorm::new(dim, eps, &w.at("pre_layrnorm"))?,
            layers: (0..count)
                .map(|n| Block::new(&config, &layers.at(n)))
                .collect::<Result<_>>()?,
            config,
        })
    }

    /// The tower's sizes.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Tokens of a picture, the class token's included.
    pub fn tokens(&self) -> usize {
        self.config.side().pow(2) + 1
    }

    /// The states after the last block that is read, `[images · tokens, hidden_size]`, of pictures `[images, image_size,
    /// image_size, 4]` (red, green, blue and nothing). The first token of each is the class token. `keep` is shown the
    /// states after the first norm (`embedding`) and each block (`layer0` …).
    pub fn forward(
        &self,
        rec: &Recorder,
        pixels: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Tensor {
        let patches = self.patch_embedding.forward(rec, pixels, Activation::None);
        let [images, rows, columns, dim] = patches.dims();
        let (own, tokens) = (rows * columns, self.tokens());
        assert_eq!(own + 1, tokens, "a picture of {rows} × {columns} patches");
        let x = Tensor::empty(rec, [images * tokens, dim]);
        copy_rows(rec, &self.class_embedding, &x, images, 0, tokens);
        for image in 0..images {
            let part = gather_rows(rec, &patches, own, image * own, 1);
            copy_rows(rec, &part, &x, own, image * tokens + 1, 1);
        }
        let x = add(rec, &x, &self.position_embedding);
        let mut x = self.pre_layrnorm.forward(rec, &x);
        keep("embedding", &x);
        for (n, block) in self.layers.iter().enumerate() {
            x = block.forward(rec, x, images, Scores::default());
            keep(&format!("layer{n}"), &x);
        }
        x
    }
}
