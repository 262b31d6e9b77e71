//! `x · wᵀ + b` for one row or two: decoding, bound by the bytes of the weights.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Activation, Product, check_linear, light_groups, light_threads};
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// A panel of 8 columns per thread and slice of the inputs.
    LINEAR_VEC = "linear_vec" + "shared/tile" + "shared/activation", weight; {
        rows: u32, cols: u32, steps: u32, panels: u32, first: u32,
    }
}

/// As [`crate::ops::linear`], which calls it for few rows.
#[track_caller]
pub fn linear_vec(
    rec: &Recorder,
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
    let rows = check_linear(x, weight, bias, residual);
    let y = Tensor::empty(rec, [rows, weight.width()]);
    // A CPU adapter needs no more threads than panels; a GPU splits the inputs to get them.
    let split = if rec.gpu().is_cpu() { 1 } else { 8 };
    let params = Params {
        rows: rows as u32,
        cols: weight.width() as u32,
        steps: weight.steps() as u32,
        panels: weight.panels() as u32,
        first: 0,
    };
    let product = Product {
        x,
        weight,
        bias,
        activation,
        residual,
    };
    let variant = product
        .variant(&LINEAR_VEC)
        .set("SPLIT", split)
        .set("WG", light_threads(rec));
    product.dispatch(
        rec,
        variant,
        params,
        &y,
        [light_groups(rec, weight.panels() * split as usize), rows],
    );
    y
}
