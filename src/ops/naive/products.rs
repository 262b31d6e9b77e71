//! Linear layers, the embedding and the plain product.

use super::activate;
use crate::ops::Activation;

/// x `[rows, inputs]`, weight `[bias.len(), inputs]`, the result `[rows, bias.len()]`.
pub fn linear(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    inputs: usize,
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f32> {
    let mut y = Vec::new();
    for row in x.chunks_exact(inputs) {
        for (w, b) in weight.chunks_exact(inputs).zip(bias) {
            let product: f64 = row
                .iter()
                .zip(w)
                .map(|(x, w)| f64::from(*x) * f64::from(*w))
                .sum();
            let mut v = activate(activation, product + f64::from(*b));
            if let Some(residual) = residual {
                v += f64::from(residual[y.len()]);
            }
            y.push(v as f32);
        }
    }
    y
}

/// The same product; only the kernel differs.
pub fn linear_vec(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    inputs: usize,
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f32> {
    linear(x, weight, bias, inputs, activation, residual)
}

/// The same product; only the kernel differs.
pub fn linear_broadcast(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    inputs: usize,
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f32> {
    linear(x, weight, bias, inputs, activation, residual)
}

/// The same product; only the kernel differs, which rounds `x` and `weight` to f16.
pub fn linear_coop(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    inputs: usize,
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f32> {
    linear(x, weight, bias, inputs, activation, residual)
}

/// Two products of the same rows, weights and biases one above the other, first the gates: what a gated matrix
/// computes at once.
pub fn linear_gated(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    inputs: usize,
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f32> {
    let outputs = bias.len() / 2;
    let mut y = Vec::new();
    for row in x.chunks_exact(inputs) {
        let dot = |o: usize| {
            let w = &weight[o * inputs..][..inputs];
            let products = row
                .iter()
                .zip(w)
                .map(|(x, w)| f64::from(*x) * f64::from(*w));
            products.sum::<f64>() + f64::from(bias[o])
        };
        for o in 0..outputs {
            let mut v = activate(activation, dot(o)) * dot(outputs + o);
            if let Some(residual) = residual {
                v += f64::from(residual[y.len()]);
            }
            y.push(v as f32);
        }
    }
    y
}

pub fn embed(ids: &[u32], weight: &[f32], cols: usize) -> Vec<f32> {
    ids.iter()
        .flat_map(|&id| weight[id as usize * cols..][..cols].to_vec())
        .collect()
}

/// a `[rows, stride]`, b `[cols, depth]`; with `bias` the value of a's row at `depth` is added.
pub fn matmul(a: &[f32], stride: usize, b: &[f32], depth: usize, bias: bool) -> Vec<f32> {
    let mut y = Vec::new();
    for row in a.chunks_exact(stride) {
        for column in b.chunks_exact(depth) {
            let mut sum: f64 = (0..depth)
                .map(|k| f64::from(row[k]) * f64::from(column[k]))
                .sum();
            if bias {
                sum += f64::from(row[depth]);
            }
            y.push(sum as f32);
        }
    }
    y
}
