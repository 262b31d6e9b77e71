//! Linear layers, the embedding and the plain product.

use crate::error::Result;
use crate::gpu::{Gpu, Recorder};
use crate::ops::check::inputs::{bias, numbers, random, upload, weights, whole_blocks};
use crate::ops::check::{Ran, values};
use crate::ops::{
    Activation, Operand, embed, linear_broadcast, linear_coop, linear_tile, linear_vec, matmul,
    naive,
};
use crate::tensor::{Matrix, Tensor};

/// A linear layer by one kernel or another.
type LinearOp = fn(&Recorder, &Tensor, &Matrix, &Tensor, Activation, Option<&Tensor>) -> Tensor;

pub(super) fn check_embed(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    let inputs = whole_blocks(format, 64);
    let (matrix, plain) = weights(gpu, format, [133, inputs])?;
    let ids: Vec<u32> = numbers(14, 67).map(|bits| (bits % 133) as u32).collect();
    let want = naive::embed(&ids, &plain, inputs);
    let ids = upload(gpu, ids.len(), &ids)?;
    values(gpu, want, |rec| vec![embed(rec, &ids, &matrix)])
}

pub(super) fn check_linear(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    check_linear_with(gpu, format, linear_tile)
}

pub(super) fn check_linear_coop(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    check_linear_with(gpu, format, linear_coop)
}

pub(super) fn check_linear_broadcast(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    check_linear_with(gpu, format, linear_broadcast)
}

fn check_linear_with(gpu: &Gpu, format: &'static str, op: LinearOp) -> Result<Ran> {
    let (rows, inputs, outputs) = (13, whole_blocks(format, 96), 68);
    let (matrix, plain) = weights(gpu, format, [outputs, inputs])?;
    let (x, b) = (random(23, rows * inputs), random(24, outputs));
    let residual = random(25, rows * outputs);
    let want = naive::linear(&x, &plain, &b, inputs, Activation::Gelu, Some(&residual));
    let (x, b) = (upload(gpu, [rows, inputs], &x)?, bias(gpu, &b)?);
    let residual = upload(gpu, [rows, outputs], &residual)?;
    values(gpu, want, |rec| {
        vec![op(rec, &x, &matrix, &b, Activation::Gelu, Some(&residual))]
    })
}

pub(super) fn check_linear_vec(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    let (rows, inputs, outputs) = (2, whole_blocks(format, 288), 196);
    let (matrix, plain) = weights(gpu, format, [outputs, inputs])?;
    let (x, b) = (random(26, rows * inputs), random(27, outputs));
    // As they are, after a norm, and as the shares of an attention with one head.
    let (own, state) = (random(31, inputs), random(32, 2 * 2 * rows));
    let state: Vec<f32> = state.into_iter().map(f32::abs).collect();
    let part = random(33, 2 * rows * inputs);
    let silu = Activation::Silu;
    let operands = [
        x.clone(),
        naive::rms_norm(&x, &own, 1e-5),
        naive::attention_merge(&part, &state, 2, inputs),
    ];
    let want = operands.map(|x| naive::linear_vec(&x, &plain, &b, inputs, silu, None));
    let (x, b) = (upload(gpu, [rows, inputs], &x)?, bias(gpu, &b)?);
    let own = upload(gpu, [inputs], &own)?;
    let part = upload(gpu, [2, rows, inputs], &part)?;
    let state = upload(gpu, [2, rows, 1, 2], &state)?;
    values(gpu, want.concat(), |rec| {
        let operands = [
            Operand::Rows(&x),
            Operand::Normed {
                x: &x,
                weight: &own,
                eps: 1e-5,
            },
            Operand::Shares {
                part: &part,
                state: &state,
            },
        ];
        let product = |x| linear_vec(rec, x, &matrix, &b, silu, None);
        operands.map(product).into()
    })
}

pub(super) fn check_matmul(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (a, b) = (random(28, 17 * 36), random(29, 68 * 32));
    let want = naive::matmul(&a, 36, &b, 32, true);
    let (a, b) = (upload(gpu, [17, 36], &a)?, upload(gpu, [68, 32], &b)?);
    values(gpu, want, |rec| vec![matmul(rec, &a, &b, true)])
}
