//! What is measured, and the numbers it is measured on: a hash of the index, so that every language makes
//! the same ones.

/// ViT-B/16.
pub const DIM: usize = 768;
pub const HIDDEN: usize = 3072;
pub const HEADS: usize = 12;
pub const DEPTH: usize = 12;
pub const EPS: f32 = 1e-6;
/// Values of a 16 × 16 patch of three channels.
pub const PATCH: usize = 768;

/// SAM's mask decoder: columns of its tokens, of its cross attention, of an MLP, after either upscaling.
pub const TOKEN: usize = 256;
pub const CROSS: usize = 128;
pub const TOKEN_HIDDEN: usize = 2048;
pub const UP: [usize; 2] = [64, 32];
pub const TOKEN_HEADS: usize = 8;
/// Tokens of a prompt (a quality, four masks, two corners), of the image, and the masks.
pub const TOKENS: usize = 7;
pub const GRID: usize = 64;
pub const MASKS: usize = 4;
pub const TOKEN_EPS: f32 = 1e-5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Square f32 matrices.
    Matmul { side: usize },
    /// 3 × 3, padding 1, stride 1, with a bias: as many channels out as in.
    Conv { channels: usize, side: usize },
    /// Softmax attention, heads of `width`.
    Attention {
        queries: usize,
        keys: usize,
        heads: usize,
        width: usize,
    },
    /// The encoder of ViT-B/16 from patches to the last norm, global attention, no class token.
    Vit { pixels: usize },
    /// SAM's mask decoder: two-way transformer, upscaling, four masks of 256 × 256; without its quality.
    Decoder,
    /// keraunos' own image encoder with the embedded weights; for the scripts.
    Zeus,
}

impl Case {
    pub fn all() -> impl Iterator<Item = Self> {
        [512, 1024, 4096]
            .map(|side| Self::Matmul { side })
            .into_iter()
            .chain([(64, 56), (96, 28)].map(|(channels, side)| Self::Conv { channels, side }))
            // A SAM mask decoder's tokens on its image, its image on the tokens, a ViT-B block.
            .chain(
                [(7, 4096, 8, 16), (4096, 7, 8, 16), (196, 196, HEADS, 64)].map(
                    |(queries, keys, heads, width)| Self::Attention {
                        queries,
                        keys,
                        heads,
                        width,
                    },
                ),
            )
            .chain([Self::Decoder])
            .chain([224, 1024].map(|pixels| Self::Vit { pixels }))
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::all()
            .chain([Self::Zeus])
            .find(|case| case.name() == name)
    }

    pub fn family(self) -> &'static str {
        match self {
            Self::Matmul { .. } => "matmul",
            Self::Conv { .. } => "conv",
            Self::Attention { .. } => "attention",
            Self::Decoder => "decoder",
            Self::Vit { .. } => "vit",
            Self::Zeus => "zeus",
        }
    }

    pub fn name(self) -> String {
        match self {
            Self::Matmul { side } => format!("matmul-{side}"),
            Self::Conv { channels, side } => format!("conv-{channels}x{side}"),
            Self::Attention { queries, keys, .. } => format!("attention-{queries}x{keys}"),
            Self::Decoder => "decoder-sam".to_owned(),
            Self::Vit { pixels } => format!("vit-{pixels}"),
            Self::Zeus => "zeus".to_owned(),
        }
    }

    /// Whether two cores take a minute or more for its rounds.
    pub fn is_long(self) -> bool {
        self.flops() > 100e9
    }

    /// Operations, a multiply-add counted as two; of a ViT those of its products. Zero where unknown.
    pub fn flops(self) -> f64 {
        let product = |a: usize, b: usize, c: usize| 2.0 * a as f64 * b as f64 * c as f64;
        match self {
            Self::Matmul { side } => product(side, side, side),
            Self::Conv { channels, side } => product(side * side, 9 * channels, channels),
            Self::Attention {
                queries,
                keys,
                heads,
                width,
            } => 2.0 * product(queries, keys, heads * width),
            Self::Vit { pixels } => {
                let tokens = (pixels / 16) * (pixels / 16);
                let block = product(tokens, DIM, 4 * DIM)
                    + 2.0 * product(tokens, DIM, HIDDEN)
                    + 2.0 * product(tokens, tokens, DIM);
                product(tokens, PATCH, DIM) + DEPTH as f64 * block
            }
            Self::Decoder => {
                let image = GRID * GRID;
                // Of the products on image tokens, beside which those on seven are nothing.
                let layer =
                    4.0 * product(image, TOKEN, CROSS) + 4.0 * product(TOKENS, image, CROSS);
                let last = 2.0 * product(image, TOKEN, CROSS) + 2.0 * product(TOKENS, image, CROSS);
                let up = product(image, TOKEN, 4 * UP[0]) + product(4 * image, UP[0], 4 * UP[1]);
                2.0 * layer + last + up + product(MASKS, UP[1], 16 * image)
            }
            Self::Zeus => 0.0,
        }
    }
}

/// Numbers of `-scale … scale`, each made of its index and the seed alone.
pub fn numbers(seed: u32, len: usize, scale: f32) -> Vec<f32> {
    let number = |n: u32| {
        let mut h = n.wrapping_add(seed.wrapping_mul(0x9E37_79B9));
        h = (h ^ (h >> 16)).wrapping_mul(0x7FEB_352D);
        h = (h ^ (h >> 15)).wrapping_mul(0x846C_A68B);
        h ^= h >> 16;
        // 24 bits: exact in f32, so every language gets the same number.
        ((h >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale
    };
    (0..len as u32).map(number).collect()
}

/// Weights `[outputs, inputs]` that keep a signal's size.
pub fn weights(seed: u32, outputs: usize, inputs: usize) -> Vec<f32> {
    numbers(seed, outputs * inputs, (3.0 / inputs as f64).sqrt() as f32)
}

/// Rows of `columns` values as columns: a weight as rivals multiply it, so that nobody turns it while the clock runs.
#[cfg(any(feature = "burn", feature = "candle"))]
pub fn turned(values: &[f32], columns: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    let at = |n: usize| values[n % rows * columns + n / rows];
    (0..values.len()).map(at).collect()
}

/// The size of an attention's q (seed 0), k and v: scores that prefer some keys.
pub fn attention_scale(seed: u32) -> f32 {
    if seed == 0 { 4.0 } else { 1.0 }
}

/// The weights of a linear layer or norm: `weight` `[outputs, inputs]` (a norm's are `[1, outputs]`).
pub struct Layer {
    pub outputs: usize,
    pub inputs: usize,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

fn linear(seed: u32, outputs: usize, inputs: usize) -> Layer {
    Layer {
        outputs,
        inputs,
        weight: weights(seed, outputs, inputs),
        bias: numbers(seed + 1, outputs, 0.1),
    }
}

fn norm(seed: u32, outputs: usize) -> Layer {
    Layer {
        outputs,
        inputs: 1,
        weight: numbers(seed, outputs, 0.1)
            .iter()
            .map(|v| 1.0 + v)
            .collect(),
        bias: numbers(seed + 1, outputs, 0.1),
    }
}

pub struct VitBlock {
    pub norm1: Layer,
    pub qkv: Layer,
    pub proj: Layer,
    pub norm2: Layer,
    pub lin1: Layer,
    pub lin2: Layer,
}

/// The `n`th block's weights.
pub fn vit_block(n: usize) -> VitBlock {
    let seed = 100 + 16 * n as u32;
    VitBlock {
        norm1: norm(seed, DIM),
        qkv: linear(seed + 2, 3 * DIM, DIM),
        proj: linear(seed + 4, DIM, DIM),
        norm2: norm(seed + 6, DIM),
        lin1: linear(seed + 8, HIDDEN, DIM),
        lin2: linear(seed + 10, DIM, HIDDEN),
    }
}

/// What comes before and after the blocks: patch embedding, positions, last norm.
pub fn vit_ends(tokens: usize) -> (Layer, Vec<f32>, Layer) {
    (
        linear(1, DIM, PATCH),
        numbers(3, tokens * DIM, 1.0),
        norm(4, DIM),
    )
}

/// An attention of the mask decoder: q, k, v and what comes after, inner width `inner`.
pub struct TokenAttention {
    pub inner: usize,
    pub qkv: [Layer; 3],
    pub out: Layer,
}

fn token_attention(seed: u32, inner: usize) -> TokenAttention {
    TokenAttention {
        inner,
        qkv: [0, 2, 4].map(|n| linear(seed + n, inner, TOKEN)),
        out: linear(seed + 6, TOKEN, inner),
    }
}

pub struct TwoWay {
    pub itself: TokenAttention,
    pub norm1: Layer,
    pub to_image: TokenAttention,
    pub norm2: Layer,
    pub mlp: [Layer; 2],
    pub norm3: Layer,
    pub to_tokens: TokenAttention,
    pub norm4: Layer,
}

/// The `n`th layer of the mask decoder's transformer.
pub fn two_way(n: u32) -> TwoWay {
    let seed = 1000 + 100 * n;
    TwoWay {
        itself: token_attention(seed, TOKEN),
        norm1: norm(seed + 8, TOKEN),
        to_image: token_attention(seed + 10, CROSS),
        norm2: norm(seed + 18, TOKEN),
        mlp: [
            linear(seed + 20, TOKEN_HIDDEN, TOKEN),
            linear(seed + 22, TOKEN, TOKEN_HIDDEN),
        ],
        norm3: norm(seed + 24, TOKEN),
        to_tokens: token_attention(seed + 26, CROSS),
        norm4: norm(seed + 34, TOKEN),
    }
}

/// What follows its layers: the last attention and norm; both upscalings (outputs are four pixels, row by row, of so
/// many channels, whose biases are alike) and the norm between; the MLPs that make of each mask's token its weights.
pub struct DecoderEnd {
    pub attention: TokenAttention,
    pub norm: Layer,
    pub up: [Layer; 2],
    pub up_norm: Layer,
    pub masks: Vec<[Layer; 3]>,
}

pub fn decoder_end() -> DecoderEnd {
    let up = |seed, channels, inputs| Layer {
        outputs: 4 * channels,
        inputs,
        weight: weights(seed, 4 * channels, inputs),
        bias: numbers(seed + 1, channels, 0.1).repeat(4),
    };
    let mask = |n: u32| {
        let seed = 1400 + 10 * n;
        [(0, TOKEN), (2, TOKEN), (4, UP[1])]
            .map(|(more, outputs)| linear(seed + more, outputs, TOKEN))
    };
    DecoderEnd {
        attention: token_attention(1200, CROSS),
        norm: norm(1208, TOKEN),
        up: [up(1300, UP[0], TOKEN), up(1304, UP[1], UP[0])],
        up_norm: norm(1302, UP[0]),
        masks: (0..MASKS as u32).map(mask).collect(),
    }
}

/// Tokens, the image's, and the image's positions.
pub fn decoder_inputs() -> [Vec<f32>; 3] {
    let image = GRID * GRID * TOKEN;
    [(10, TOKENS * TOKEN), (11, image), (12, image)].map(|(seed, len)| numbers(seed, len, 1.0))
}
