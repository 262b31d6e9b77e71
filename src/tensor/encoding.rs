//! How the numbers of a tensor lie in a model file, and how to read them on the CPU.
//!
//! The names are the ones printed by the safetensors and GGUF formats. A block-quantised
//! encoding stores runs of 32 or 256 numbers as small integers beside their scale; the arithmetic here
//! rounds exactly as the reference readers do, so that decoded values are bit-equal to theirs.

use std::fmt;

use half::{bf16, f16};
use safetensors::Dtype;

/// The largest number of elements that any encoding stores as one block.
pub(super) const LARGEST_BLOCK: usize = 256;

/// How the elements of a tensor are stored, always little-endian.
#[expect(non_camel_case_types, reason = "the formats' own names")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// IEEE double.
    F64,
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of an IEEE single.
    BF16,
    /// Blocks of 32: a half scale `d` and 32 signed bytes `q`; the value is `q d`.
    Q8_0,
    /// Blocks of 32: a half scale `d` and 32 nibbles `q`; the value is `(q - 8) d`.
    Q4_0,
    /// Blocks of 32: a half scale `d`, a half offset `m` and 32 nibbles `q`; the value is `q d + m`.
    Q4_1,
    /// Blocks of 32: a half scale `d` and 32 five-bit `q`; the value is `(q - 16) d`.
    Q5_0,
    /// Blocks of 32: a half scale `d`, a half offset `m` and 32 five-bit `q`; the value is `q d + m`.
    Q5_1,
    /// Blocks of 256: half factors `d` and `e`, for each 32 of them six-bit `s` and `m`, and 256 nibbles
    /// `q`; the value is `q s d - m e`.
    Q4_K,
    /// As `Q4_K` with five-bit `q`.
    Q5_K,
    /// Blocks of 256: a half factor `d`, for each 16 of them a signed byte `s`, and 256 six-bit `q`; the
    /// value is `(q - 32) s d`.
    Q6_K,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Signed 16-bit integer.
    I16,
    /// Signed byte.
    I8,
    /// Unsigned 64-bit integer.
    U64,
    /// Unsigned 32-bit integer.
    U32,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned byte.
    U8,
    /// One byte per truth value.
    Bool,
}

/// The types that ggml numbers but that are not read here, by number, for error messages.
const UNREAD_GGML: &[(u32, &str)] = &[
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
];

impl Encoding {
    /// The encoding behind ggml's type number.
    ///
    /// # Errors
    ///
    /// The name of the type where ggml has one, else its number, when it is not read here.
    pub fn from_ggml(number: u32) -> Result<Self, String> {
        Ok(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            24 => Self::I8,
            25 => Self::I16,
            26 => Self::I32,
            27 => Self::I64,
            28 => Self::F64,
            30 => Self::BF16,
            _ => {
                return Err(
                    match UNREAD_GGML.iter().find(|(known, _)| *known == number) {
                        Some((_, name)) => (*name).into(),
                        None => format!("ggml type {number}"),
                    },
                );
            }
        })
    }

    /// The encoding behind a safetensors dtype.
    ///
    /// # Errors
    ///
    /// The name of the dtype when it is not read here.
    pub fn from_safetensors(dtype: Dtype) -> Result<Self, String> {
        Ok(match dtype {
            Dtype::F64 => Self::F64,
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::BF16,
            Dtype::I64 => Self::I64,
            Dtype::I32 => Self::I32,
            Dtype::I16 => Self::I16,
            Dtype::I8 => Self::I8,
            Dtype::U64 => Self::U64,
            Dtype::U32 => Self::U32,
            Dtype::U16 => Self::U16,
            Dtype::U8 => Self::U8,
            Dtype::BOOL => Self::Bool,
            other => return Err(other.to_string()),
        })
    }

    /// What safetensors calls it; `None` for what it does not have.
    pub(super) fn safetensors(self) -> Option<Dtype> {
        Some(match self {
            Self::F64 => Dtype::F64,
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::BF16 => Dtype::BF16,
            Self::I64 => Dtype::I64,
            Self::I32 => Dtype::I32,
            Self::I16 => Dtype::I16,
            Self::I8 => Dtype::I8,
            Self::U64 => Dtype::U64,
            Self::U32 => Dtype::U32,
            Self::U16 => Dtype::U16,
            Self::U8 => Dtype::U8,
            Self::Bool => Dtype::BOOL,
            _ => return None,
        })
    }

    /// Elements per block and bytes per block; a plain encoding has blocks of one element.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F64 | Self::I64 | Self::U64 => (1, 8),
            Self::F32 | Self::I32 | Self::U32 => (1, 4),
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => (1, 2),
            Self::I8 | Self::U8 | Self::Bool => (1, 1),
            Self::Q8_0 => (32, 2 + 32),
            Self::Q4_0 => (32, 2 + 16),
            Self::Q4_1 => (32, 2 + 2 + 16),
            Self::Q5_0 => (32, 2 + 4 + 16),
            Self::Q5_1 => (32, 2 + 2 + 4 + 16),
            Self::Q4_K => (256, 2 + 2 + 12 + 128),
            Self::Q5_K => (256, 2 + 2 + 12 + 32 + 128),
            Self::Q6_K => (256, 128 + 64 + 16 + 2),
        }
    }

    /// Bytes taken by `elements` numbers; `None` when they do not fill whole blocks or the size
    /// overflows.
    pub fn byte_len(self, elements: u64) -> Option<u64> {
        let (per_block, bytes) = self.block();
        let blocks = elements / per_block as u64;
        (elements.is_multiple_of(per_block as u64)).then_some(())?;
        blocks.checked_mul(bytes as u64)
    }

    /// Whether the elements are real numbers, so that [`decode`](Self::decode) reads them.
    pub fn is_real(self) -> bool {
        self.is_quantised() || matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// Whether the elements are integers.
    pub fn is_integer(self) -> bool {
        !self.is_real() && self != Self::Bool
    }

    /// Whether it stores blocks of small integers beside their scales.
    pub fn is_quantised(self) -> bool {
        self.block().0 > 1
    }

    /// Decodes whole blocks into single precision, in storage order; doubles are rounded.
    ///
    /// `None` for integers and truth values.
    ///
    /// # Panics
    ///
    /// If `bytes` does not hold whole blocks.
    #[track_caller]
    pub fn decode(self, bytes: &[u8]) -> Option<Vec<f32>> {
        let (per_block, block_bytes) = self.block();
        let mut values = Vec::with_capacity(bytes.len() / block_bytes * per_block);
        self.for_each_block(bytes, |block| {
            values.extend_from_slice(block);
            true
        })?;
        Some(values)
    }

    /// The first number that is infinite or not a number, as (element index, value).
    ///
    /// `None` when all are finite, and for integers and truth values, which always are.
    ///
    /// # Panics
    ///
    /// If `bytes` does not hold whole blocks.
    #[track_caller]
    pub fn first_non_finite(self, bytes: &[u8]) -> Option<(usize, f32)> {
        let mut start = 0;
        let mut found = None;
        self.for_each_block(bytes, |block| {
            found = block
                .iter()
                .position(|v| !v.is_finite())
                .map(|at| (start + at, block[at]));
            start += block.len();
            found.is_none()
        });
        found
    }

    /// Hands the decoded blocks to `visit`, one after the other, until it returns false.
    #[track_caller]
    fn for_each_block(self, bytes: &[u8], mut visit: impl FnMut(&[f32]) -> bool) -> Option<()> {
        let (per_block, block_bytes) = self.block();
        assert!(
            bytes.len().is_multiple_of(block_bytes),
            "{} bytes are no whole {self} blocks",
            bytes.len()
        );
        if !self.is_real() {
            return None;
        }
        let mut values = [0.0; LARGEST_BLOCK];
        for block in bytes.chunks_exact(block_bytes) {
            self.decode_block(block, &mut values);
            if !visit(&values[..per_block]) {
                break;
            }
        }
        Some(())
    }

    /// The integers of one block as they are stored, before any offset is taken off, in the order of the
    /// elements.
    pub(super) fn quants(self, block: &[u8]) -> [u8; LARGEST_BLOCK] {
        let mut quants = [0; LARGEST_BLOCK];
        let all = quants.iter_mut().enumerate();
        // of 32: the low nibbles of 16 bytes are the first half, the high nibbles the second
        let nibble = |low: &[u8], i: usize| low[i % 16] >> (4 * (i / 16)) & 15;
        let fifth = |high: &[u8], i: usize| (high[i / 8] >> (i % 8) & 1) << 4;
        // of 256: the same with 32 bytes for each 64
        let long_nibble =
            |low: &[u8], i: usize| low[i / 64 * 32 + i % 32] >> (4 * (i / 32 % 2)) & 15;
        match self {
            Self::Q8_0 => quants[..32].copy_from_slice(&block[2..]),
            Self::Q4_0 => (all.take(32)).for_each(|(i, q)| *q = nibble(&block[2..], i)),
            Self::Q4_1 => (all.take(32)).for_each(|(i, q)| *q = nibble(&block[4..], i)),
            Self::Q5_0 => {
                let (high, low) = block[2..].split_at(4);
                (all.take(32)).for_each(|(i, q)| *q = nibble(low, i) | fifth(high, i));
            }
            Self::Q5_1 => {
                let (high, low) = block[4..].split_at(4);
                (all.take(32)).for_each(|(i, q)| *q = nibble(low, i) | fifth(high, i));
            }
            Self::Q4_K => all.for_each(|(i, q)| *q = long_nibble(&block[16..], i)),
            Self::Q5_K => {
                let (high, low) = block[16..].split_at(32);
                all.for_each(|(i, q)| {
                    *q = long_nibble(low, i) | (high[i % 32] >> (i / 32) & 1) << 4
                });
            }
            Self::Q6_K => {
                // each half of 128 has 64 bytes of nibbles and 32 of pairs of bits, 32 elements to a plane
                let (low, high) = block.split_at(128);
                all.for_each(|(i, q)| {
                    let (half, plane, at) = (i / 128, i / 32 % 4, i % 32);
                    let low = low[half * 64 + plane % 2 * 32 + at] >> (4 * (plane / 2)) & 15;
                    *q = low | (high[half * 32 + at] >> (2 * plane) & 3) << 4;
                });
            }
            _ => unreachable!("{self} has no quants"),
        }
        quants
    }

    /// Decodes one block into the front of `values`.
    fn decode_block(self, block: &[u8], values: &mut [f32; LARGEST_BLOCK]) {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        match self {
            Self::F64 => {
                let bytes = block.try_into().expect("a double has eight bytes");
                values[0] = f64::from_le_bytes(bytes) as f32;
            }
            Self::F32 => values[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
            Self::F16 => values[0] = half(0),
            Self::BF16 => values[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
            _ => {
                let quants = self.quants(block);
                let numbers = values.iter_mut().zip(quants);
                self.scale_block(block, numbers);
            }
        }
    }

    /// Sets each value of a block to its quant with the scales applied. Two roundings, never a fused one: the
    /// reference readers multiply, then add.
    fn scale_block<'v>(self, block: &[u8], numbers: impl Iterator<Item = (&'v mut f32, u8)>) {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        match self {
            Self::Q8_0 => {
                let d = half(0);
                numbers.for_each(|(v, q)| *v = f32::from(q.cast_signed()) * d);
            }
            Self::Q4_0 => {
                let d = half(0);
                numbers.for_each(|(v, q)| *v = (f32::from(q) - 8.0) * d);
            }
            Self::Q5_0 => {
                let d = half(0);
                numbers.for_each(|(v, q)| *v = (f32::from(q) - 16.0) * d);
            }
            Self::Q4_1 | Self::Q5_1 => {
                let (d, m) = (half(0), half(2));
                numbers.for_each(|(v, q)| *v = f32::from(q) * d + m);
            }
            Self::Q4_K | Self::Q5_K => {
                let (d, e) = (half(0), half(2));
                let parts: [(f32, f32); 8] = std::array::from_fn(|n| {
                    let [s, m] = six_bits(&block[4..16], n);
                    (d * f32::from(s), e * f32::from(m))
                });
                for (i, (v, q)) in numbers.enumerate() {
                    let (scale, min) = parts[i / 32];
                    *v = scale * f32::from(q) - min;
                }
            }
            Self::Q6_K => {
                let d = half(208);
                for (i, (v, q)) in numbers.enumerate() {
                    let s = block[192 + i / 16].cast_signed();
                    *v = d * f32::from(s) * (f32::from(q) - 32.0);
                }
            }
            _ => unreachable!("{self} is not a real encoding"),
        }
    }
}

/// The scale and the minimum of the `n`th 32 elements of a `Q4_K` or `Q5_K` block, from the 12 bytes that
/// hold eight of each: the first four whole in the low six bits of 8 bytes, the last four as nibbles,
/// with their upper two bits in the upper two of those.
pub(super) fn six_bits(packed: &[u8], n: usize) -> [u8; 2] {
    match n {
        0..4 => [packed[n] & 63, packed[n + 4] & 63],
        _ => [
            packed[n + 4] & 15 | packed[n - 4] >> 6 << 4,
            packed[n + 4] >> 4 | packed[n] >> 6 << 4,
        ],
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.pad("BOOL"),
            other => f.pad(&format!("{other:?}")),
        }
    }
}
