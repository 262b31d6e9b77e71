//! Weight matrices in the order the kernels read them.
//!
//! A matrix `w[out, in]` is cut into panels of 8 outputs and steps of 4 inputs; eight panels (64
//! outputs) lie interleaved, so that neighbouring threads read neighbouring 16-byte words. What one
//! step of one panel looks like is the storage format's business: see `kernels/weight/*.wgsl`, which
//! read exactly what this file writes. Outputs are padded with zeros to 64, inputs to 4 (quantised
//! formats come in blocks of 32).

use half::f16;

use crate::error::Result;
use crate::gpu::{Bind, Buffer, Gpu};

/// Outputs that lie interleaved.
const GROUP: usize = 64;
/// Outputs of a panel.
const PANEL: usize = 8;
/// Inputs of a step.
const STEP: usize = 4;
/// Inputs that share a scale in quantised formats.
const BLOCK: usize = 32;

/// A packed weight matrix in adapter memory.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The number of outputs as the checkpoint has them.
    pub outputs: usize,
    /// The number of inputs, padded to a multiple of 4.
    pub inputs: usize,
    /// The name of the linked storage format.
    pub format: &'static str,
    /// The packed values or quants.
    pub weight: Buffer,
    /// The packed scales of a quantised format.
    pub scale: Option<Buffer>,
}

impl Matrix {
    /// The outputs an op computes: `outputs` padded to a multiple of 4.
    pub fn width(&self) -> usize {
        self.outputs.next_multiple_of(4)
    }

    /// The panels of 8 outputs.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(PANEL)
    }

    /// The steps of 4 inputs.
    pub fn steps(&self) -> usize {
        self.inputs / STEP
    }

    /// The buffers under the names the kernels give them.
    pub fn bindings(&self) -> impl Iterator<Item = (&'static str, &dyn Bind)> {
        let weight: &dyn Bind = &self.weight;
        std::iter::once(("weight", weight))
            .chain(self.scale.iter().map(|scale| ("scale", scale as &dyn Bind)))
    }

    /// Packs `values[out, in]` as f16, the storage of an f16 checkpoint.
    ///
    /// # Errors
    /// More bytes than one binding may hold, or no memory.
    ///
    /// # Panics
    /// If `values` does not fill the matrix.
    pub fn f16(
        gpu: &Gpu,
        label: &str,
        [outputs, inputs]: [usize; 2],
        values: &[f32],
    ) -> Result<Self> {
        assert_eq!(values.len(), outputs * inputs, "values of `{label}`");
        let steps = inputs.div_ceil(STEP);
        let mut packed = vec![0u16; outputs.div_ceil(GROUP) * steps * GROUP * STEP];
        for (o, row) in values.chunks_exact(inputs).enumerate() {
            let (group, panel, column) = (o / GROUP, o % GROUP / PANEL, o % PANEL);
            for (i, value) in row.iter().enumerate() {
                let at = (((group * steps + i / STEP) * STEP + i % STEP) * PANEL + panel) * PANEL
                    + column;
                packed[at] = f16::from_f32(*value).to_bits();
            }
        }
        Self::upload(
            gpu,
            label,
            [outputs, steps * STEP],
            "f16",
            &packed,
            None::<&[u32]>,
        )
    }

    /// Packs `values[out, in]` as f32.
    ///
    /// # Errors
    /// As [`Matrix::f16`].
    ///
    /// # Panics
    /// As [`Matrix::f16`].
    pub fn f32(
        gpu: &Gpu,
        label: &str,
        [outputs, inputs]: [usize; 2],
        values: &[f32],
    ) -> Result<Self> {
        assert_eq!(values.len(), outputs * inputs, "values of `{label}`");
        let steps = inputs.div_ceil(STEP);
        let mut packed = vec![0f32; outputs.div_ceil(GROUP) * steps * GROUP * STEP];
        for (o, row) in values.chunks_exact(inputs).enumerate() {
            let (group, panel, half, column) = (o / GROUP, o % GROUP / PANEL, o % PANEL / 4, o % 4);
            for (i, value) in row.iter().enumerate() {
                let at = (((group * steps + i / STEP) * 8 + i % STEP * 2 + half) * PANEL + panel)
                    * 4
                    + column;
                packed[at] = *value;
            }
        }
        Self::upload(
            gpu,
            label,
            [outputs, steps * STEP],
            "f32",
            &packed,
            None::<&[u32]>,
        )
    }

    /// Packs rows of ggml `Q4_1` blocks: f16 scale, f16 minimum, 16 bytes of nibbles, the low ones
    /// for the first 16 inputs of a block.
    ///
    /// # Errors
    /// As [`Matrix::f16`].
    ///
    /// # Panics
    /// If `inputs` is not a multiple of 32 or `blocks` has not the right length.
    pub fn q4_1(
        gpu: &Gpu,
        label: &str,
        [outputs, inputs]: [usize; 2],
        blocks: &[u8],
    ) -> Result<Self> {
        const BYTES: usize = 20;
        let (steps, per_row) = Self::blocks([outputs, inputs], blocks.len(), BYTES);
        let groups = outputs.div_ceil(GROUP);
        let mut quants = vec![0u32; groups * steps * PANEL * STEP];
        let mut scales = vec![0u32; groups * per_row * GROUP];
        for (n, block) in blocks.chunks_exact(BYTES).enumerate() {
            let (o, b) = (n / per_row, n % per_row);
            let (group, panel, column) = (o / GROUP, o % GROUP / PANEL, o % PANEL);
            scales[(((group * per_row + b) * 2 + column / 4) * PANEL + panel) * 4 + column % 4] =
                u32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            for (j, byte) in block[4..].iter().enumerate() {
                for (i, nibble) in [(j, byte & 15), (j + 16, byte >> 4)] {
                    let step = b * (BLOCK / STEP) + i / STEP;
                    quants[((group * steps + step) * PANEL + panel) * STEP + i % STEP] |=
                        u32::from(nibble) << (4 * column);
                }
            }
        }
        Self::upload(
            gpu,
            label,
            [outputs, inputs],
            "q4_1",
            &quants,
            Some(&scales),
        )
    }

    /// Packs rows of ggml `Q8_0` blocks: f16 scale, 32 signed bytes.
    ///
    /// # Errors
    /// As [`Matrix::f16`].
    ///
    /// # Panics
    /// As [`Matrix::q4_1`].
    pub fn q8_0(
        gpu: &Gpu,
        label: &str,
        [outputs, inputs]: [usize; 2],
        blocks: &[u8],
    ) -> Result<Self> {
        const BYTES: usize = 34;
        let (steps, per_row) = Self::blocks([outputs, inputs], blocks.len(), BYTES);
        let groups = outputs.div_ceil(GROUP);
        let mut quants = vec![0u8; groups * steps * GROUP * STEP];
        let mut scales = vec![0u16; groups * per_row * GROUP];
        for (n, block) in blocks.chunks_exact(BYTES).enumerate() {
            let (o, b) = (n / per_row, n % per_row);
            let (group, panel, column) = (o / GROUP, o % GROUP / PANEL, o % PANEL);
            scales[((group * per_row + b) * PANEL + panel) * PANEL + column] =
                u16::from_le_bytes([block[0], block[1]]);
            for (i, byte) in block[2..].iter().enumerate() {
                let step = b * (BLOCK / STEP) + i / STEP;
                let word = ((group * steps + step) * 2 + column / 4) * PANEL + panel;
                quants[(word * STEP + i % STEP) * 4 + column % 4] = *byte;
            }
        }
        Self::upload(
            gpu,
            label,
            [outputs, inputs],
            "q8_0",
            &quants,
            Some(&scales),
        )
    }

    /// Steps and blocks per row of a quantised matrix, after checking its length.
    #[track_caller]
    fn blocks([outputs, inputs]: [usize; 2], bytes: usize, block_bytes: usize) -> (usize, usize) {
        assert!(
            inputs.is_multiple_of(BLOCK),
            "quantised rows of {inputs} inputs"
        );
        assert_eq!(
            bytes,
            outputs * inputs / BLOCK * block_bytes,
            "bytes of a quantised matrix"
        );
        (inputs / STEP, inputs / BLOCK)
    }

    fn upload<T: bytemuck::Pod, S: bytemuck::Pod>(
        gpu: &Gpu,
        label: &str,
        [outputs, inputs]: [usize; 2],
        format: &'static str,
        weight: &[T],
        scale: Option<&[S]>,
    ) -> Result<Self> {
        Ok(Self {
            outputs,
            inputs,
            format,
            weight: gpu.upload(label, weight)?,
            scale: scale.map(|scale| gpu.upload(label, scale)).transpose()?,
        })
    }
}
