//! SAM's mask decoder: tokens and image rewrite each other twice (`TwoWayTransformer`), then a mask is a dot product of what a
//! token became and the upscaled image.

use super::SamConfig;
use super::names::Names;
use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::{ConvTranspose, LayerNorm, Linear, Mlp, Mlp3};
use crate::ops::{Activation, Columns, Heads, add, attention, copy_rows, gather_rows, matmul};
use crate::tensor::{Tensor, Weights};

/// An attention with an inner width of its own.
#[derive(Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: Heads,
}

impl Attention {
    fn new(config: &SamConfig, inner: usize, w: &Weights) -> Result<Self> {
        let (dim, heads) = (config.prompt_dim, config.decoder_heads);
        let proj = |name| Linear::new([dim, inner], &w.at(name));
        Ok(Self {
            q_proj: proj("q_proj")?,
            k_proj: proj("k_proj")?,
            v_proj: proj("v_proj")?,
            out_proj: Linear::new([inner, dim], &w.at("out_proj"))?,
            heads: Heads {
                q: heads,
                kv: heads,
                width: inner / heads,
            },
        })
    }

    /// Attention in `prompts` groups of rows, added to `residual` if there is one.
    fn forward(
        &self,
        rec: &Recorder,
        [q, k, v]: [&Tensor; 3],
        prompts: usize,
        residual: Option<&Tensor>,
    ) -> Tensor {
        let (q, k, v) = (
            self.q_proj.forward(rec, q),
            self.k_proj.forward(rec, k),
            self.v_proj.forward(rec, v),
        );
        let (q, k, v) = (Columns::all(&q), Columns::all(&k), Columns::all(&v));
        let attended = attention(rec, q, k, v, self.heads, prompts, false);
        match residual {
            Some(residual) => self.out_proj.added(rec, &attended, residual),
            None => self.out_proj.forward(rec, &attended),
        }
    }
}

/// What does not change from block to block: where tokens and image tokens are.
struct Places<'a> {
    /// The first tokens, which are the positions of all later ones.
    tokens: &'a Tensor,
    /// `[grid², prompt_dim]`.
    image: &'a Tensor,
    prompts: usize,
}

/// `TwoWayAttentionBlock`: tokens see each other, then the image; the image sees the tokens.
#[derive(Debug)]
struct Block {
    self_attn: Attention,
    norm1: LayerNorm,
    cross_attn_token_to_image: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
    norm3: LayerNorm,
    norm4: LayerNorm,
    cross_attn_image_to_token: Attention,
    /// The first block's tokens are their own positions: they are not added, and the attention replaces them.
    skip_first_layer_pe: bool,
}

impl Block {
    fn new(config: &SamConfig, names: &Names, first: bool, w: &Weights) -> Result<Self> {
        let (dim, inner) = (config.prompt_dim, config.decoder_inner);
        let norm = |name| LayerNorm::new(dim, config.decoder_ln_eps, &w.at(name));
        let attention = |name, inner| Attention::new(config, inner, &w.at(name));
        let mlp = w.at("mlp");
        Ok(Self {
            self_attn: attention("self_attn", dim)?,
            norm1: norm(names.norm1)?,
            cross_attn_token_to_image: attention("cross_attn_token_to_image", inner)?,
            norm2: norm(names.norm2)?,
            mlp: Mlp::new(dim, config.decoder_mlp, Activation::Relu, &mlp)?,
            norm3: norm(names.norm3)?,
            norm4: norm(names.norm4)?,
            cross_attn_image_to_token: attention("cross_attn_image_to_token", inner)?,
            skip_first_layer_pe: first,
        })
    }

    /// Tokens `[prompts · tokens, prompt_dim]` and image `[prompts · grid², prompt_dim]`, both as they are afterwards.
    fn forward(
        &self,
        rec: &Recorder,
        queries: Tensor,
        keys: Tensor,
        places: &Places,
    ) -> (Tensor, Tensor) {
        let groups = places.prompts;
        let attended = if self.skip_first_layer_pe {
            self.self_attn.forward(rec, [&queries; 3], groups, None)
        } else {
            let placed = add(rec, &queries, places.tokens);
            let operands = [&placed, &placed, &queries];
            self.self_attn
                .forward(rec, operands, groups, Some(&queries))
        };
        let queries = self.norm1.forward(rec, &attended);
        let placed = add(rec, &queries, places.tokens);
        let placed_keys = add(rec, &keys, places.image);
        let operands = [&placed, &placed_keys, &keys];
        let attended =
            self.cross_attn_token_to_image
                .forward(rec, operands, groups, Some(&queries));
        let queries = self.norm2.forward(rec, &attended);
        let queries = self
            .norm3
            .forward(rec, &self.mlp.added(rec, &queries, &queries));
        let placed = add(rec, &queries, places.tokens);
        let operands = [&placed_keys, &placed, &queries];
        let attended = self
            .cross_attn_image_to_token
            .forward(rec, operands, groups, Some(&keys));
        (queries, self.norm4.forward(rec, &attended))
    }
}

/// Masks of prompts on one picture.
#[derive(Clone, Debug)]
pub struct Masks {
    /// `[prompts, mask_tokens, low_res, low_res]` logits: the one mask, then those to choose from where a prompt may mean
    /// several things.
    pub low_res: Tensor,
    /// `[prompts, mask_tokens padded to 4]`: the predicted IoU of each.
    pub iou: Tensor,
}

/// Tokens, two-way blocks, upscaling and heads.
#[derive(Debug)]
pub struct MaskDecoder {
    /// `iou_token` and `mask_tokens`, each `[1, prompt_dim]`.
    output_tokens: Vec<Tensor>,
    layers: Vec<Block>,
    final_attn_token_to_image: Attention,
    norm_final_attn: LayerNorm,
    output_upscaling: (ConvTranspose, LayerNorm, ConvTranspose),
    output_hypernetworks_mlps: Vec<Mlp3>,
    iou_prediction_head: Mlp3,
    grid: usize,
}

impl MaskDecoder {
    /// The tensors below `mask_decoder`.
    pub(super) fn new(config: &SamConfig, names: &Names, w: &Weights) -> Result<Self> {
        let (dim, masks) = (config.prompt_dim, config.mask_tokens);
        let transformer = w.at("transformer");
        let iou_token = w.at("iou_token").values("weight", &[1, dim])?;
        let mask_tokens = w.at("mask_tokens").values("weight", &[masks, dim])?;
        let output_tokens = iou_token
            .chunks_exact(dim)
            .chain(mask_tokens.chunks_exact(dim));
        let layers = transformer.at("layers");
        let block = |n| Block::new(config, names, n == 0, &layers.at(n));
        let [first, norm, second] = names.output_upscaling.map(|name| w.at(name));
        let (fine, finest) = (dim / 4, dim / 8);
        let hyper = |n| {
            let w = w.at("output_hypernetworks_mlps").at(n);
            Mlp3::named([dim, dim, finest], Activation::None, names.layers, &w)
        };
        let final_attn = transformer.at("final_attn_token_to_image");
        // The last norm's epsilon is PyTorch's own in either kind of file.
        let last = LayerNorm::new(dim, 1e-5, &transformer.at(names.norm_final_attn))?;
        Ok(Self {
            output_tokens: output_tokens
                .map(|token| Tensor::upload(w.gpu(), "output token", [1, dim], token))
                .collect::<Result<_>>()?,
            layers: (0..config.decoder_depth)
                .map(block)
                .collect::<Result<_>>()?,
            final_attn_token_to_image: Attention::new(config, config.decoder_inner, &final_attn)?,
            norm_final_attn: last,
            output_upscaling: (
                ConvTranspose::new([dim, fine], [1, 2, 2], &first)?,
                LayerNorm::new(fine, 1e-6, &norm)?,
                ConvTranspose::new([fine, finest], [1, 2, 2], &second)?,
            ),
            output_hypernetworks_mlps: (0..masks).map(hyper).collect::<Result<_>>()?,
            iou_prediction_head: Mlp3::named(
                [dim, config.iou_head_dim, masks],
                Activation::None,
                names.layers,
                &w.at("iou_prediction_head"),
            )?,
            grid: config.grid(),
        })
    }

    /// Decodes prompts: `sparse` are their tokens `[prompts · tokens, prompt_dim]`, `image` the image tokens of each with its
    /// mask `[prompts · grid², prompt_dim]`, `positions` theirs. `keep` is shown tokens and image after each block (`tokens0`,
    /// `image0` …), the tokens after the last attention (`tokens`), and the pixels that masks are made of (`pixels`).
    pub fn forward(
        &self,
        rec: &Recorder,
        image: Tensor,
        positions: &Tensor,
        sparse: Option<&Tensor>,
        mut keep: impl FnMut(&str, &Tensor),
    ) -> Masks {
        let ([rows, dim], grid) = (image.matrix(), self.grid);
        let prompts = rows / (grid * grid);
        let given = sparse.map_or(0, |sparse| sparse.matrix()[0] / prompts);
        let masks = self.output_hypernetworks_mlps.len();
        let count = 1 + masks + given;
        let tokens = Tensor::empty(rec, [prompts * count, dim]);
        for (n, token) in self.output_tokens.iter().enumerate() {
            copy_rows(rec, token, &tokens, prompts, n, count);
        }
        if let Some(sparse) = sparse {
            for n in 0..given {
                let part = gather_rows(rec, sparse, prompts, n, given);
                copy_rows(rec, &part, &tokens, prompts, 1 + masks + n, count);
            }
        }
        let places = Places {
            tokens: &tokens,
            image: positions,
            prompts,
        };
        let (mut queries, mut keys) = (tokens.clone(), image);
        for (n, layer) in self.layers.iter().enumerate() {
            (queries, keys) = layer.forward(rec, queries, keys, &places);
            keep(&format!("tokens{n}"), &queries);
            keep(&format!("image{n}"), &keys);
        }
        let placed = add(rec, &queries, &tokens);
        let placed_keys = add(rec, &keys, positions);
        let operands = [&placed, &placed_keys, &keys];
        let attended =
            self.final_attn_token_to_image
                .forward(rec, operands, prompts, Some(&queries));
        drop(placed_keys);
        let queries = self.norm_final_attn.forward(rec, &attended);
        keep("tokens", &queries);

        let (up, norm, further) = &self.output_upscaling;
        let mut x = up.forward(
            rec,
            &keys.reshape([prompts, grid, grid, dim]),
            None,
            Activation::None,
        );
        drop(keys);
        x = norm.activated(rec, &x, Activation::Gelu);
        x = further.forward(rec, &x, None, Activation::Gelu);
        keep("pixels", &x);
        let low_res = self.masks(rec, &queries, &x, count);
        let iou = gather_rows(rec, &queries, prompts, 0, count);
        Masks {
            low_res,
            iou: self.iou_prediction_head.forward(rec, &iou),
        }
    }

    /// The dot products of pixels `[prompts, low_res, low_res, prompt_dim / 8]` with what the mask tokens, each by a network
    /// of its own, become.
    fn masks(&self, rec: &Recorder, queries: &Tensor, pixels: &Tensor, count: usize) -> Tensor {
        let ([prompts, side, _, channels], masks) =
            (pixels.dims(), self.output_hypernetworks_mlps.len());
        let hyper = Tensor::empty(rec, [prompts * masks, channels]);
        for (n, mlp) in self.output_hypernetworks_mlps.iter().enumerate() {
            let token = gather_rows(rec, queries, prompts, 1 + n, count);
            copy_rows(rec, &mlp.forward(rec, &token), &hyper, prompts, n, masks);
        }
        let area = side * side;
        let pixels = pixels.reshape([prompts * area, channels]);
        if prompts == 1 {
            let y = matmul(rec, &hyper, &pixels, false);
            return y.reshape([1, masks, side, side]);
        }
        // Each prompt's tokens have an image of their own.
        let y = Tensor::empty(rec, [prompts * masks, area]);
        for prompt in 0..prompts {
            let own = gather_rows(rec, &pixels, area, prompt * area, 1);
            let hyper = gather_rows(rec, &hyper, masks, prompt * masks, 1);
            let logits = matmul(rec, &hyper, &own, false);
            copy_rows(rec, &logits, &y, masks, prompt * masks, 1);
        }
        y.reshape([prompts, masks, side, side])
    }
}
