//! Inputs by chance, the same ones on every run, for checks and benches.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::tensor::{Matrix, Shape, Tensor};

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

/// A packed matrix, and the values that it stands for.
pub(in crate::ops) fn weights(
    gpu: &Gpu,
    format: &str,
    shape: [usize; 2],
) -> Result<(Matrix, Vec<f32>)> {
    let [outputs, inputs] = shape;
    let label = "self-check";
    match format {
        "f32" | "f16" => {
            let values: Vec<f32> = random(91, outputs * inputs)
                .iter()
                .map(|v| v * 0.25)
                .collect();
            let matrix = match format {
                "f32" => Matrix::f32(gpu, label, shape, &values)?,
                _ => Matrix::f16(gpu, label, shape, &values)?,
            };
            Ok((matrix, values))
        }
        _ => {
            let four_bits = format == "q4_1";
            let (mut blocks, mut values) = (Vec::new(), Vec::new());
            for block in 0..(outputs * inputs / 32) as u64 {
                // Powers of two are f16s whose bits need no conversion.
                let exponent = (if four_bits { 6 } else { 10 }) + block as u16 % 3;
                let (scale, field) = (2f32.powi(-i32::from(exponent)), (15 - exponent) << 10);
                blocks.extend(field.to_le_bytes());
                let quants: Vec<u64> = numbers(block + 1, 32).collect();
                if four_bits {
                    let offset = -8.0 * scale;
                    blocks.extend((((15 - exponent + 3) << 10) | 0x8000).to_le_bytes());
                    let nibble = |j: usize| (quants[j] & 15) as u8;
                    blocks.extend((0..16).map(|j| nibble(j) | nibble(j + 16) << 4));
                    values.extend((0..32).map(|j| scale * f32::from(nibble(j)) + offset));
                } else {
                    blocks.extend(quants.iter().map(|q| *q as u8));
                    values.extend(quants.iter().map(|q| scale * f32::from(*q as u8 as i8)));
                }
            }
            let matrix = match four_bits {
                true => Matrix::q4_1(gpu, label, shape, &blocks)?,
                false => Matrix::q8_0(gpu, label, shape, &blocks)?,
            };
            Ok((matrix, values))
        }
    }
}
