//! The keys and values of a generation.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::ops::Columns;
use crate::tensor::{Precision, Tensor};

/// Per block the keys and values of `slots` tokens. Which slot a token gets is the caller's plan: one
/// sequence in a row, or a common prefix and a stretch for each of several.
#[derive(Debug)]
pub struct KvCache {
    blocks: Vec<(Tensor, Tensor)>,
    slots: usize,
    half: bool,
}

impl KvCache {
    /// Room for `slots` tokens of `width` key and value columns in each of `blocks` blocks, kept as [`KvCache::is_half`] says.
    ///
    /// # Errors
    /// More than one binding may hold, or no memory.
    pub fn new(
        gpu: &Gpu,
        blocks: usize,
        slots: usize,
        width: usize,
        precision: Precision,
    ) -> Result<Self> {
        let half = Self::is_half(gpu, width, precision);
        let words = if half { width / 2 } else { width };
        let one = |name| Tensor::zeros(gpu, name, [slots, words]);
        let blocks = (0..blocks)
            .map(|_| Ok((one("k cache")?, one("v cache")?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            blocks,
            slots,
            half,
        })
    }

    /// Whether a cache of so many columns holds f16: half the memory, and half of what a step reads of it. Left to itself
    /// (`Precision::Auto`) it does on graphics cards, whose steps wait for memory, and not on CPU adapters, whose steps
    /// wait for arithmetic.
    pub fn is_half(gpu: &Gpu, width: usize, precision: Precision) -> bool {
        let wanted = match precision {
            Precision::Auto => !gpu.is_cpu(),
            Precision::F32 => false,
            Precision::F16 => true,
        };
        wanted && width.is_multiple_of(8)
    }

    /// The number of tokens there is room for.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Keys and values of a block, `[slots, width]` each.
    pub fn block(&self, n: usize) -> (Columns<'_>, Columns<'_>) {
        let (k, v) = &self.blocks[n];
        match self.half {
            true => (Columns::halves(k), Columns::halves(v)),
            false => (Columns::all(k), Columns::all(v)),
        }
    }
}
