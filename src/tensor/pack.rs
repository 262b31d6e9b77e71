//! Weight matrices in the order the kernels read them.
//!
//! A matrix `w[out, in]` is cut into panels of 8 outputs and steps of 4 inputs; eight panels (64
//! outputs) lie interleaved, so that neighbouring threads read neighbouring 16-byte words. What one
//! step of one panel looks like is the storage format's business: see `kernels/weight/*.wgsl`, which
//! read exactly what this file writes. Outputs are padded with zeros to 64, inputs to 4 (quantised
//! formats come in blocks of 32 or 256).
//!
//! Quants and scales are moved, never computed: what a kernel unpacks is what the checkpoint holds. The
//! bits of a quant beyond four lie apart, so that five and six of them take no room of eight; the six-bit scales
//! of `Q4_K` and `Q5_K` get a byte each, 3 % of the matrix.

use half::{bf16, f16};
use rayon::prelude::*;

use crate::error::Result;
use crate::gpu::{Bind, Buffer, Gpu};
use crate::tensor::Encoding;
use crate::tensor::encoding::six_bits;

/// Outputs that lie interleaved.
const GROUP: usize = 64;
/// Outputs of a panel.
const PANEL: usize = 8;
/// Inputs of a step.
const STEP: usize = 4;

/// A packed weight matrix in adapter memory.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The number of outputs as the checkpoint has them.
    pub outputs: usize,
    /// The number of inputs, padded to a multiple of 4.
    pub inputs: usize,
    /// The name of the linked storage format.
    pub format: &'static str,
    /// The packed values or quants, of wider quants the low four bits.
    pub weight: Buffer,
    /// The packed scales of a quantised format.
    pub scale: Option<Buffer>,
    /// The bits of quants beyond four.
    pub high: Option<Buffer>,
    /// Whether an output has two rows, a gate and what it gates: a panel holds those of 4 outputs, first
    /// the gates. What a product makes of them is `activate(gate) · up`.
    pub gated: bool,
}

impl Matrix {
    /// The outputs an op computes: `outputs` padded to a multiple of 4.
    pub fn width(&self) -> usize {
        self.outputs.next_multiple_of(4)
    }

    /// The rows of the matrix.
    pub fn rows(&self) -> usize {
        if self.gated {
            2 * self.width()
        } else {
            self.outputs
        }
    }

    /// The panels of 8 rows.
    pub fn panels(&self) -> usize {
        self.rows().div_ceil(PANEL)
    }

    /// The steps of 4 inputs.
    pub fn steps(&self) -> usize {
        self.inputs / STEP
    }

    /// The bytes it takes.
    pub fn bytes(&self) -> u64 {
        self.bindings().map(|(_, part)| part.buffer().bytes()).sum()
    }

    /// The buffers under the names the kernels give them.
    pub fn bindings(&self) -> impl Iterator<Item = (&'static str, &dyn Bind)> {
        let parts = [
            ("weight", Some(&self.weight)),
            ("scale", self.scale.as_ref()),
            ("high", self.high.as_ref()),
        ];
        parts
            .into_iter()
            .filter_map(|(name, part)| Some((name, part? as &dyn Bind)))
    }

    /// The same memory read as gates and what they gate, if the rows are `[4 gates, 4 ups]` again and again.
    ///
    /// # Panics
    /// If the rows do not come by 8.
    #[must_use]
    pub fn gated(self) -> Self {
        assert!(
            !self.gated && self.outputs.is_multiple_of(PANEL),
            "{} rows of gates and ups",
            self.outputs
        );
        Self {
            outputs: self.outputs / 2,
            gated: true,
            ..self
        }
    }

    /// Packs `values[out, in]` as f16, the storage of an f16 checkpoint.
    ///
    /// # Errors
    /// More bytes than one binding may hold, or no memory.
    ///
    /// # Panics
    /// If `values` does not fill the matrix.
    pub fn f16(gpu: &Gpu, label: &str, shape: [usize; 2], values: &[f32]) -> Result<Self> {
        let bits = |v| f16::from_f32(v).to_bits();
        Self::two_bytes(gpu, label, shape, values, "f16", bits)
    }

    /// Packs `values[out, in]` as bf16, the storage of a bf16 checkpoint.
    ///
    /// # Errors
    /// As [`Matrix::f16`].
    ///
    /// # Panics
    /// As [`Matrix::f16`].
    pub fn bf16(gpu: &Gpu, label: &str, shape: [usize; 2], values: &[f32]) -> Result<Self> {
        let bits = |v| bf16::from_f32(v).to_bits();
        Self::two_bytes(gpu, label, shape, values, "bf16", bits)
    }

    fn two_bytes(
        gpu: &Gpu,
        label: &str,
        [outputs, inputs]: [usize; 2],
        values: &[f32],
        format: &'static str,
        bits: impl Fn(f32) -> u16,
    ) -> Result<Self> {
        assert_eq!(values.len(), outputs * inputs, "values of `{label}`");
        let steps = inputs.div_ceil(STEP);
        let mut packed = vec![0u16; outputs.div_ceil(GROUP) * steps * GROUP * STEP];
        for (o, row) in values.chunks_exact(inputs).enumerate() {
            let (group, panel, column) = (o / GROUP, o % GROUP / PANEL, o % PANEL);
            for (i, value) in row.iter().enumerate() {
                let at = (((group * steps + i / STEP) * STEP + i % STEP) * PANEL + panel) * PANEL
                    + column;
                packed[at] = bits(*value);
            }
        }
        let weight = gpu.upload(label, &packed)?;
        Ok(Self::plain([outputs, steps * STEP], format, weight))
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
        let weight = gpu.upload(label, &packed)?;
        Ok(Self::plain([outputs, steps * STEP], "f32", weight))
    }

    fn plain([outputs, inputs]: [usize; 2], format: &'static str, weight: Buffer) -> Self {
        Self {
            outputs,
            inputs,
            format,
            weight,
            scale: None,
            high: None,
            gated: false,
        }
    }

    /// Packs rows of ggml's blocks of a quantised encoding.
    ///
    /// # Errors
    /// As [`Matrix::f16`].
    ///
    /// # Panics
    /// If `encoding` is not quantised, `inputs` not a multiple of its blocks, or `bytes` has not the right
    /// length.
    pub fn quantised(
        gpu: &Gpu,
        label: &str,
        [outputs, inputs]: [usize; 2],
        encoding: Encoding,
        bytes: &[u8],
    ) -> Result<Self> {
        let (per_block, block_bytes) = encoding.block();
        assert!(
            inputs.is_multiple_of(per_block),
            "{encoding} rows of {inputs} inputs"
        );
        let per_row = inputs / per_block;
        assert_eq!(
            bytes.len(),
            outputs * per_row * block_bytes,
            "bytes of a {encoding} matrix"
        );
        // Bits of a quant, and bytes that its block has beside the quants.
        let (format, bits, scale_bytes) = match encoding {
            Encoding::Q8_0 => ("q8_0", 8, 2),
            Encoding::Q4_0 => ("q4_0", 4, 2),
            Encoding::Q4_1 => ("q4_1", 4, 4),
            Encoding::Q5_0 => ("q5_0", 5, 2),
            Encoding::Q5_1 => ("q5_1", 5, 4),
            Encoding::Q4_K => ("q4_k", 4, 4 + 8 * 2),
            Encoding::Q5_K => ("q5_k", 5, 4 + 8 * 2),
            Encoding::Q6_K => ("q6_k", 6, 2 + 16),
            other => panic!("{other} is not quantised"),
        };
        let (groups, steps) = (outputs.div_ceil(GROUP), inputs / STEP);
        // Bytes of a tile.
        let (low_bytes, high_bytes) = match bits {
            8 => (PANEL * STEP, 0),
            bits => (PANEL * STEP / 2, PANEL * STEP * (bits - 4) / 8),
        };
        let mut low = vec![0u8; groups * steps * PANEL * low_bytes];
        let mut high = vec![0u8; groups * steps * PANEL * high_bytes];
        let mut scales = vec![0u8; groups * per_row * GROUP * scale_bytes];
        // A group of outputs is a piece of each of them.
        let piece = |per_panel: usize| steps * PANEL * per_panel;
        let highs: Vec<&mut [u8]> = match high_bytes {
            0 => (0..groups).map(|_| Default::default()).collect(),
            _ => high.chunks_mut(piece(high_bytes)).collect(),
        };
        low.par_chunks_mut(piece(low_bytes))
            .zip(highs)
            .zip(scales.par_chunks_mut(per_row * GROUP * scale_bytes))
            .zip(bytes.par_chunks(GROUP * per_row * block_bytes))
            .for_each(|(((low, high), scales), bytes)| {
                for (n, block) in bytes.chunks_exact(block_bytes).enumerate() {
                    let (o, b) = (n / per_row, n % per_row);
                    let (panel, column) = (o / PANEL, o % PANEL);
                    let quants = encoding.quants(block);
                    for (i, q) in quants[..per_block].iter().enumerate() {
                        let (step, k) = ((b * per_block + i) / STEP, i % STEP);
                        let tile = step * PANEL + panel;
                        match bits {
                            8 => {
                                let word = (step * 2 + column / 4) * PANEL + panel;
                                low[word * 16 + k * 4 + column % 4] = *q;
                            }
                            _ => {
                                low[tile * 16 + k * 4 + column / 2] |=
                                    (q & 15) << (4 * (column % 2));
                            }
                        }
                        match bits {
                            5 => high[tile * 4 + k] |= (q >> 4) << column,
                            6 => {
                                high[tile * 8 + k * 2 + column / 4] |=
                                    (q >> 4) << (2 * (column % 4));
                            }
                            _ => {}
                        }
                    }
                    let scales = &mut scales[b * GROUP * scale_bytes..];
                    let mut put = |at: usize, bytes: &[u8]| {
                        scales[at..at + bytes.len()].copy_from_slice(bytes)
                    };
                    let pair = ((column / 4 * PANEL + panel) * 4 + column % 4) * 4;
                    let single = (panel * PANEL + column) * 2;
                    match encoding {
                        Encoding::Q8_0 | Encoding::Q4_0 | Encoding::Q5_0 => {
                            put(single, &block[..2])
                        }
                        Encoding::Q4_1 | Encoding::Q5_1 => put(pair, &block[..4]),
                        Encoding::Q4_K | Encoding::Q5_K => {
                            put(pair, &block[..4]);
                            for part in 0..8 {
                                let [scale, min] = six_bits(&block[4..16], part);
                                let at = GROUP * 4 + (part * PANEL + panel) * 16 + column;
                                put(at, &[scale]);
                                put(at + 8, &[min]);
                            }
                        }
                        _ => {
                            put(single, &block[208..]);
                            for part in 0..16 {
                                let at = (part / 2 * PANEL + panel) * 16 + part % 2 * 8 + column;
                                put(GROUP * 2 + at, &block[192 + part..][..1]);
                            }
                        }
                    }
                }
            });
        let weight = gpu.upload(label, &low)?;
        Ok(Self {
            scale: Some(gpu.upload(label, &scales)?),
            high: match bits {
                5 | 6 => Some(gpu.upload(label, &high)?),
                _ => None,
            },
            ..Self::plain([outputs, inputs], format, weight)
        })
    }
}
