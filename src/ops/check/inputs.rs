//! Inputs by chance, the same ones on every run, for checks and benches.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::tensor::{Encoding, Matrix, Shape, Tensor};

/// Whole numbers without a pattern, the same ones on every run (splitmix64).
pub(in crate::ops) fn numbers(seed: u64, count: usize) -> impl Iterator<Item = u64> {
    (1..=count as u64).map(move |n| {
        let z = (seed << 32).wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Values between -1 and 1 that f16 holds exactly: multiples of 1/1024.
pub(in crate::ops) fn random(seed: u64, count: usize) -> Vec<f32> {
    numbers(seed, count)
        .map(|bits| (bits % 2047) as f32 / 1024.0 - 1.0)
        .collect()
}

pub(in crate::ops) fn upload<T: bytemuck::Pod>(
    gpu: &Gpu,
    shape: impl Into<Shape>,
    values: &[T],
) -> Result<Tensor> {
    Tensor::upload(gpu, "self-check", shape, values)
}

/// A bias padded to whole panels of 8.
pub(in crate::ops) fn bias(gpu: &Gpu, values: &[f32]) -> Result<Tensor> {
    let mut padded = values.to_vec();
    padded.resize(values.len().next_multiple_of(8), 0.0);
    upload(gpu, padded.len(), &padded)
}

/// At least so many inputs, whole blocks of the formats that have long ones.
pub(in crate::ops) fn whole_blocks(format: &str, inputs: usize) -> usize {
    inputs.next_multiple_of(if format.ends_with("_k") { 256 } else { 4 })
}

/// A packed matrix, and the values that it stands for.
pub(in crate::ops) fn weights(
    gpu: &Gpu,
    format: &str,
    shape: [usize; 2],
) -> Result<(Matrix, Vec<f32>)> {
    let [outputs, inputs] = shape;
    let label = "self-check";
    let encoding = match format {
        "f32" | "f16" | "bf16" => {
            let values: Vec<f32> = random(91, outputs * inputs)
                .iter()
                .map(|v| v * 0.25)
                .collect();
            return match format {
                "f32" => Ok((Matrix::f32(gpu, label, shape, &values)?, values)),
                "f16" => Ok((Matrix::f16(gpu, label, shape, &values)?, values)),
                _ => {
                    let short = |v: &f32| f32::from_bits(v.to_bits() & 0xffff_0000);
                    let values: Vec<f32> = values.iter().map(short).collect();
                    Ok((Matrix::bf16(gpu, label, shape, &values)?, values))
                }
            };
        }
        "q8_0" => Encoding::Q8_0,
        "q4_0" => Encoding::Q4_0,
        "q4_1" => Encoding::Q4_1,
        "q5_0" => Encoding::Q5_0,
        "q5_1" => Encoding::Q5_1,
        "q4_k" => Encoding::Q4_K,
        "q5_k" => Encoding::Q5_K,
        "q6_k" => Encoding::Q6_K,
        other => panic!("no format {other}"),
    };
    // Where a block's factor is, its exponent so that values stay below one, and that of its offset.
    let (at, exponent, offset) = match encoding {
        Encoding::Q8_0 => (0, 9, None),
        Encoding::Q4_0 => (0, 5, None),
        Encoding::Q5_0 => (0, 6, None),
        Encoding::Q4_1 => (0, 5, Some(1)),
        Encoding::Q5_1 => (0, 6, Some(1)),
        Encoding::Q4_K => (0, 11, Some(7)),
        Encoding::Q5_K => (0, 12, Some(7)),
        _ => (208, 13, None),
    };
    let (per_block, bytes) = encoding.block();
    let mut blocks = Vec::new();
    for block in 0..(outputs * inputs / per_block) as u64 {
        let mut drawn: Vec<u8> = numbers(block + 1, bytes).map(|n| n as u8).collect();
        // Powers of two are f16s whose bits need no conversion.
        let mut factor = |at: usize, exponent: u16, sign: u16| {
            let bits = (15 - exponent) << 10 | sign;
            drawn[at..at + 2].copy_from_slice(&bits.to_le_bytes());
        };
        factor(at, exponent + block as u16 % 2, 0);
        if let Some(offset) = offset {
            // An offset is added or, of a K-format, taken off.
            let sign = if per_block == 32 { 0x8000 } else { 0 };
            factor(at + 2, offset + block as u16 % 3, sign);
        }
        blocks.extend(drawn);
    }
    let values = encoding.decode(&blocks).expect("real numbers");
    Ok((
        Matrix::quantised(gpu, label, shape, encoding, &blocks)?,
        values,
    ))
}
