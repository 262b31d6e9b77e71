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
            Self::Vit { .. } => "vit",
            Self::Zeus => "zeus",
        }
    }

    pub fn name(self) -> String {
        match self {
            Self::Matmul { side } => format!("matmul-{side}"),
            Self::Conv { channels, side } => format!("conv-{channels}x{side}"),
            Self::Attention { queries, keys, .. } => format!("attention-{queries}x{keys}"),
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

fn norm(seed: u32) -> Layer {
    Layer {
        outputs: DIM,
        inputs: 1,
        weight: numbers(seed, DIM, 0.1).iter().map(|v| 1.0 + v).collect(),
        bias: numbers(seed + 1, DIM, 0.1),
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
        norm1: norm(seed),
        qkv: linear(seed + 2, 3 * DIM, DIM),
        proj: linear(seed + 4, DIM, DIM),
        norm2: norm(seed + 6),
        lin1: linear(seed + 8, HIDDEN, DIM),
        lin2: linear(seed + 10, DIM, HIDDEN),
    }
}

/// What comes before and after the blocks: patch embedding, positions, last norm.
pub fn vit_ends(tokens: usize) -> (Layer, Vec<f32>, Layer) {
    (
        linear(1, DIM, PATCH),
        numbers(3, tokens * DIM, 1.0),
        norm(4),
    )
}
