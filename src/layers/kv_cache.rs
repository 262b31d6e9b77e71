//! The keys and values of a generation.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::tensor::Tensor;

/// Per block the keys and values of `slots` tokens. Which slot a token gets is the caller's plan: one
/// sequence in a row, or a common prefix and a stretch for each of several.
#[derive(Debug)]
pub struct KvCache {
    blocks: Vec<(Tensor, Tensor)>,
    slots: usize,
}

impl KvCache {
    /// Room for `slots` tokens of `width` key and value columns in each of `blocks` blocks.
    ///
    /// # Errors
    /// More than one binding may hold, or no memory.
    pub fn new(gpu: &Gpu, blocks: usize, slots: usize, width: usize) -> Result<Self> {
        let one = |name| Tensor::zeros(gpu, name, [slots, width]);
        let blocks = (0..blocks)
            .map(|_| Ok((one("k cache")?, one("v cache")?)))
            .collect::<Result<_>>()?;
        Ok(Self { blocks, slots })
    }

    /// The number of tokens there is room for.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Keys and values of a block, `[slots, width]` each.
    pub fn block(&self, n: usize) -> (&Tensor, &Tensor) {
        let (k, v) = &self.blocks[n];
        (k, v)
    }
}
