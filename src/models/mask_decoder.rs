//! The mask decoder of Zeus: SAM's, whose prompts read the image without writing to it.
//!
//! A prompt is three tokens: one for the quality, one for the mask, one for the text. They attend to
//! each other and to the image; the image tokens stay as they are. So a slice is upscaled once, and
//! a further prompt costs one pass of three tokens and a dot product per pixel.

use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{Conv, ConvTranspose, LayerNorm, Linear, Mlp, Mlp3};
use crate::models::image_encoder::ImageEmbedding;
use crate::models::zeus::ZeusConfig;
use crate::ops::{Activation, Columns, Heads, Window, add, attention, copy_rows, gather_rows};
use crate::tensor::{Tensor, Weights};

/// Tokens of a prompt: quality, mask, text.
const TOKENS: usize = 3;

/// SAM's decoder attention with an inner width of its own.
#[derive(Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: Heads,
}

impl Attention {
    fn new(config: &ZeusConfig, downsample: usize, w: &Weights) -> Result<Self> {
        let (dim, heads) = (config.prompt_dim, config.decoder_heads);
        let inner = dim / downsample;
        Ok(Self {
            q_proj: Linear::new([dim, inner], &w.at("q_proj"))?,
            k_proj: Linear::new([dim, inner], &w.at("k_proj"))?,
            v_proj: Linear::new([dim, inner], &w.at("v_proj"))?,
            out_proj: Linear::new([inner, dim], &w.at("out_proj"))?,
            heads: Heads {
                q: heads,
                kv: heads,
                width: inner / heads,
            },
        })
    }

    /// Attention in `batch` groups of rows, added to `residual`.
    fn added(
        &self,
        rec: &Recorder,
        [q, k, v]: [&Tensor; 3],
        batch: usize,
        residual: &Tensor,
    ) -> Tensor {
        let (q, k, v) = (
            self.q_proj.forward(rec, q),
            self.k_proj.forward(rec, k),
            self.v_proj.forward(rec, v),
        );
        let (q, k, v) = (Columns::all(&q), Columns::all(&k), Columns::all(&v));
        self.out_proj.added(
            rec,
            &attention(rec, q, k, v, self.heads, batch, false),
            residual,
        )
    }
}

/// SAM's two-way block without its image-to-token half.
#[derive(Debug)]
struct TokenBlock {
    self_attn: Attention,
    norm1: LayerNorm,
    cross_attn_token_to_image: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    norm3: LayerNorm,
}

/// What a block reads: the image tokens with and without their positions, and the first tokens, which
/// are the queries' positions.
struct Context<'a> {
    image: &'a Tensor,
    image_with_positions: &'a Tensor,
    tokens: &'a Tensor,
    slices: usize,
    prompts: usize,
}

impl TokenBlock {
    fn new(config: &ZeusConfig, w: &Weights) -> Result<Self> {
        let (dim, eps) = (config.prompt_dim, config.decoder_ln_eps);
        Ok(Self {
            self_attn: Attention::new(config, 1, &w.at("self_attn"))?,
            norm1: LayerNorm::new(dim, eps, &w.at("norm1"))?,
            cross_attn_token_to_image: Attention::new(
                config,
                config.attention_downsample,
                &w.at("cross_attn_token_to_image"),
            )?,
            norm2: LayerNorm::new(dim, eps, &w.at("norm2"))?,
            mlp: Mlp::new(dim, config.decoder_mlp, Activation::Relu, &w.at("mlp"))?,
            norm3: LayerNorm::new(dim, eps, &w.at("norm3"))?,
        })
    }

    fn forward(&self, rec: &Recorder, queries: Tensor, context: &Context) -> Tensor {
        // The tokens of a prompt attend to each other; their positions go to q and k, not to v.
        let placed = add(rec, &queries, context.tokens);
        let groups = context.slices * context.prompts;
        let attended = self
            .self_attn
            .added(rec, [&placed, &placed, &queries], groups, &queries);
        let queries = self.norm1.forward(rec, &attended);
        // All tokens of a slice attend to its image.
        let placed = add(rec, &queries, context.tokens);
        let keys = [&placed, context.image_with_positions, context.image];
        let attended = self
            .cross_attn_token_to_image
            .added(rec, keys, context.slices, &queries);
        let queries = self.norm2.forward(rec, &attended);
        self.norm3
            .forward(rec, &self.mlp.added(rec, &queries, &queries))
    }
}

/// `grid → size / 2` in three steps, each a transposed convolution with a skip and a residual one.
#[derive(Debug)]
struct Upscale {
    up: Vec<ConvTranspose>,
    skip: Vec<Linear>,
    refine: Vec<Conv>,
}

impl Upscale {
    fn new(config: &ZeusConfig, w: &Weights) -> Result<Self> {
        let [first, second, third] = config.up_dims;
        let ups = [[config.prompt_dim, first], [first, second], [second, third]];
        let skips = [
            [config.stem[2], first],
            [config.stem[1], second],
            [config.stem[0], third],
        ];
        let refine = Window::square(3, 1, 1);
        let each = |n: usize| -> Result<_> {
            Ok((
                ConvTranspose::new(ups[n], [1, 2, 2], &w.at("up").at(n))?,
                Linear::conv1x1(skips[n], &w.at("skip").at(n))?,
                Conv::new([ups[n][1]; 2], refine, &w.at("refine").at(n).at("conv"))?,
            ))
        };
        let mut this = Self {
            up: Vec::new(),
            skip: Vec::new(),
            refine: Vec::new(),
        };
        for n in 0..3 {
            let (up, skip, refine) = each(n)?;
            this.up.push(up);
            this.skip.push(skip);
            this.refine.push(refine);
        }
        Ok(this)
    }

    fn forward(
        &self,
        rec: &Recorder,
        image: &ImageEmbedding,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Tensor {
        let mut x = image.neck.clone();
        for (n, scale) in image.skips.iter().rev().enumerate() {
            let [slices, height, width, _] = scale.dims();
            let skip = self.skip[n].forward(rec, scale);
            let skip = skip.reshape([slices, height, width, skip.matrix()[1]]);
            x = self.up[n].forward(rec, &x, Some(&skip), Activation::Gelu);
            x = self.refine[n].added(rec, &x, Activation::Gelu, &x);
            keep(&format!("up{n}"), &x);
        }
        x
    }
}

/// What the tokens of all prompts say of all slices.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// `[slices, prompts, channels + 1 padded to 4]`: weights of the pixels' channels and a bias.
    pub hyper: Tensor,
    /// `[slices, prompts, 4]`: the predicted Dice first, the rest is padding.
    pub quality: Tensor,
}

/// Token blocks, upscaling and heads.
#[derive(Debug)]
pub struct MaskDecoder {
    iou_token: Tensor,
    mask_tokens: Tensor,
    layers: Vec<TokenBlock>,
    upscale: Upscale,
    output_hypernetworks_mlps: Mlp3,
    iou_prediction_head: Mlp3,
}

impl MaskDecoder {
    /// The tensors below `mask_decoder`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new(config: &ZeusConfig, w: &Weights) -> Result<Self> {
        let dim = config.prompt_dim;
        let layer = |n| TokenBlock::new(config, &w.at("layers").at(n));
        let hyper = w.at("output_hypernetworks_mlps").at(0);
        Ok(Self {
            iou_token: w.tensor("iou_token", [1, dim])?,
            mask_tokens: w.tensor("mask_tokens", [1, dim])?,
            layers: (0..config.decoder_depth)
                .map(layer)
                .collect::<Result<_>>()?,
            upscale: Upscale::new(config, &w.at("upscale"))?,
            output_hypernetworks_mlps: Mlp3::new(
                [dim, dim, config.up_dims[2] + 1],
                Activation::None,
                &hyper,
            )?,
            iou_prediction_head: Mlp3::new(
                [dim, dim, 1],
                Activation::Sigmoid,
                &w.at("iou_prediction_head"),
            )?,
        })
    }

    /// The pixels that masks are made of: `[slices, size / 2, size / 2, up_dims[2]]`. Once per slice.
    pub fn upscale(
        &self,
        rec: &Recorder,
        image: &ImageEmbedding,
        keep: impl FnMut(&str, &Tensor),
    ) -> Tensor {
        self.upscale.forward(rec, image, keep)
    }

    /// Decodes all prompts on all slices: `text` is `[prompts, prompt_dim]`, `positions` are the image
    /// tokens' `[1, grid², prompt_dim]`.
    pub fn forward(
        &self,
        rec: &Recorder,
        neck: &Tensor,
        positions: &Tensor,
        text: &Tensor,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Decoded {
        let ([slices, ..], [prompts, dim]) = (neck.dims::<4>(), text.dims());
        let rows = slices * prompts;
        let tokens = Tensor::empty(rec, [rows * TOKENS, dim]);
        for (n, part) in [&self.iou_token, &self.mask_tokens, text]
            .into_iter()
            .enumerate()
        {
            copy_rows(rec, part, &tokens, rows, n, TOKENS);
        }
        keep("tokens_in", &tokens);
        let image_with_positions = add(rec, neck, positions);
        let context = Context {
            image: neck,
            image_with_positions: &image_with_positions,
            tokens: &tokens,
            slices,
            prompts,
        };
        let mut queries = tokens.clone();
        for layer in &self.layers {
            queries = layer.forward(rec, queries, &context);
        }
        keep("tokens_out", &queries);
        let hyper = self
            .output_hypernetworks_mlps
            .forward(rec, &gather_rows(rec, &queries, rows, 1, TOKENS));
        keep("hyper", &hyper);
        let quality = self
            .iou_prediction_head
            .forward(rec, &gather_rows(rec, &queries, rows, 0, TOKENS));
        let width = hyper.matrix()[1];
        Decoded {
            hyper: hyper.reshape([slices, prompts, width]),
            quality: quality.reshape([slices, prompts, 4]),
        }
    }
}
