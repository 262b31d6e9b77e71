//! SAM's mask decoder through keraunos' ops: two-way transformer, upscaling, masks.

use keraunos::gpu::{Gpu, Recorder};
use keraunos::ops::{
    Activation, Columns, Heads, add, attention, copy_rows, gather_rows, matmul, pixel_shuffle,
};
use keraunos::tensor::Tensor;

use crate::Fallible;
use crate::cases::{self, GRID, MASKS, TOKEN, TOKEN_EPS, TOKEN_HEADS, TOKENS, UP};
use crate::ours::{Layer, Norm, Step};

/// SAM's upscaling takes the epsilon of its convolutions' norms.
const UP_EPS: f32 = 1e-6;

struct Attention {
    qkv: [Layer; 3],
    out: Layer,
    heads: Heads,
}

impl Attention {
    fn new(gpu: &Gpu, half: bool, layer: &cases::TokenAttention) -> Fallible<Self> {
        let [q, k, v] = &layer.qkv;
        let new = |layer: &cases::Layer| Layer::new(gpu, half, layer);
        Ok(Self {
            qkv: [new(q)?, new(k)?, new(v)?],
            out: new(&layer.out)?,
            heads: Heads {
                q: TOKEN_HEADS,
                kv: TOKEN_HEADS,
                width: layer.inner / TOKEN_HEADS,
            },
        })
    }

    /// `plus + out(attention(q, k, v))`.
    fn forward(&self, rec: &Recorder, [q, k, v]: [&Tensor; 3], plus: Option<&Tensor>) -> Tensor {
        let project = |n: usize, x| self.qkv[n].forward(rec, x, Activation::None, None);
        let (q, k, v) = (project(0, q), project(1, k), project(2, v));
        let [q, k, v] = [&q, &k, &v].map(Columns::all);
        let attended = attention(rec, q, k, v, self.heads, 1, false);
        self.out.forward(rec, &attended, Activation::None, plus)
    }
}

struct TwoWay {
    itself: Attention,
    norm1: Norm,
    to_image: Attention,
    norm2: Norm,
    mlp: [Layer; 2],
    norm3: Norm,
    to_tokens: Attention,
    norm4: Norm,
}

impl TwoWay {
    fn new(gpu: &Gpu, half: bool, n: u32) -> Fallible<Self> {
        let layer = cases::two_way(n);
        let [inner, outer] = &layer.mlp;
        Ok(Self {
            itself: Attention::new(gpu, half, &layer.itself)?,
            norm1: Norm::new(gpu, &layer.norm1)?,
            to_image: Attention::new(gpu, half, &layer.to_image)?,
            norm2: Norm::new(gpu, &layer.norm2)?,
            mlp: [Layer::new(gpu, half, inner)?, Layer::new(gpu, half, outer)?],
            norm3: Norm::new(gpu, &layer.norm3)?,
            to_tokens: Attention::new(gpu, half, &layer.to_tokens)?,
            norm4: Norm::new(gpu, &layer.norm4)?,
        })
    }
}

/// What was not learned with these weights: the inputs.
struct Inputs {
    tokens: Tensor,
    image: Tensor,
    positions: Tensor,
}

struct Decoder {
    inputs: Inputs,
    layers: Vec<TwoWay>,
    attention: Attention,
    norm: Norm,
    up: [Layer; 2],
    up_norm: Norm,
    masks: Vec<[Layer; 3]>,
}

impl Decoder {
    fn new(gpu: &Gpu, half: bool) -> Fallible<Self> {
        let end = cases::decoder_end();
        let [tokens, image, positions] = cases::decoder_inputs();
        let upload =
            |values: &[f32]| Tensor::upload(gpu, "tokens", [values.len() / TOKEN, TOKEN], values);
        let new = |layer: &cases::Layer| Layer::new(gpu, half, layer);
        let [first, second] = &end.up;
        let mask = |[a, b, c]: &[cases::Layer; 3]| Ok([new(a)?, new(b)?, new(c)?]);
        Ok(Self {
            inputs: Inputs {
                tokens: upload(&tokens)?,
                image: upload(&image)?,
                positions: upload(&positions)?,
            },
            layers: (0..2)
                .map(|n| TwoWay::new(gpu, half, n))
                .collect::<Fallible<_>>()?,
            attention: Attention::new(gpu, half, &end.attention)?,
            norm: Norm::new(gpu, &end.norm)?,
            up: [new(first)?, new(second)?],
            up_norm: Norm::new(gpu, &end.up_norm)?,
            masks: end.masks.iter().map(mask).collect::<Fallible<_>>()?,
        })
    }

    /// The tokens and the image after both layers and the last attention.
    fn transform(&self, rec: &Recorder) -> (Tensor, Tensor) {
        let Inputs {
            tokens,
            image,
            positions,
        } = &self.inputs;
        let (mut q, mut k) = (tokens.clone(), image.clone());
        let mut k_placed = add(rec, &k, positions);
        for (n, layer) in self.layers.iter().enumerate() {
            q = match n {
                // The first layer's queries are the tokens alone.
                0 => layer.itself.forward(rec, [&q, &q, &q], None),
                _ => {
                    let placed = add(rec, &q, tokens);
                    layer.itself.forward(rec, [&placed, &placed, &q], Some(&q))
                }
            };
            q = layer.norm1.forward(rec, &q, TOKEN_EPS);
            let placed = add(rec, &q, tokens);
            q = layer
                .to_image
                .forward(rec, [&placed, &k_placed, &k], Some(&q));
            q = layer.norm2.forward(rec, &q, TOKEN_EPS);
            let [inner, outer] = &layer.mlp;
            let hidden = inner.forward(rec, &q, Activation::Relu, None);
            q = outer.forward(rec, &hidden, Activation::None, Some(&q));
            q = layer.norm3.forward(rec, &q, TOKEN_EPS);
            let placed = add(rec, &q, tokens);
            k = layer
                .to_tokens
                .forward(rec, [&k_placed, &placed, &q], Some(&k));
            k = layer.norm4.forward(rec, &k, TOKEN_EPS);
            k_placed = add(rec, &k, positions);
        }
        let placed = add(rec, &q, tokens);
        q = self
            .attention
            .forward(rec, [&placed, &k_placed, &k], Some(&q));
        (self.norm.forward(rec, &q, TOKEN_EPS), k)
    }

    /// Masks `[4, 256 · 256]`.
    fn forward(&self, rec: &Recorder) -> Tensor {
        let (tokens, image) = self.transform(rec);
        let none = Activation::None;
        let [first, second] = &self.up;
        let x = first.forward(rec, &image, none, None);
        let x = pixel_shuffle(
            rec,
            &x.reshape([1, GRID, GRID, 4 * UP[0]]),
            [1, 2, 2],
            None,
            none,
        );
        let x = self
            .up_norm
            .forward(rec, &x.reshape([4 * GRID * GRID, UP[0]]), UP_EPS);
        // An activation alone is a shuffle that moves nothing.
        let x = x.reshape([1, 2 * GRID, 2 * GRID, UP[0]]);
        let x = pixel_shuffle(rec, &x, [1, 1, 1], None, Activation::Gelu);
        let x = second.forward(rec, &x.reshape([4 * GRID * GRID, UP[0]]), none, None);
        let x = x.reshape([1, 2 * GRID, 2 * GRID, 4 * UP[1]]);
        let pixels = pixel_shuffle(rec, &x, [1, 2, 2], None, Activation::Gelu);
        let weights = Tensor::empty(rec, [MASKS, UP[1]]);
        for (n, [a, b, c]) in self.masks.iter().enumerate() {
            // After the token of the quality.
            let x = gather_rows(rec, &tokens, 1, 1 + n, TOKENS);
            let x = a.forward(rec, &x, Activation::Relu, None);
            let x = b.forward(rec, &x, Activation::Relu, None);
            copy_rows(rec, &c.forward(rec, &x, none, None), &weights, 1, n, MASKS);
        }
        let pixels = pixels.reshape([16 * GRID * GRID, UP[1]]);
        matmul(rec, &weights, &pixels, false)
    }
}

pub fn step<'g>(gpu: &'g Gpu, half: bool) -> Fallible<Step<'g>> {
    let decoder = Decoder::new(gpu, half)?;
    Ok(Box::new(move |rec| decoder.forward(rec)))
}
