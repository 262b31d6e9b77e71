//! `x · wᵀ + b` for one row or two: decoding, bound by the bytes of the weights.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Activation, Product, light_groups, light_threads};
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// A panel of 8 columns per thread and slice of the inputs.
    LINEAR_VEC = "linear_vec" + "shared/tile" + "shared/activation" + "shared/store", weight; {
        rows: u32, cols: u32, steps: u32, panels: u32, y_cols: u32, y_first: u32,
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
    Product {
        x,
        weight,
        bias,
        activation,
        residual,
    }
    .alone(rec, vec_into)
}

/// As [`crate::ops::linear_into`].
#[track_caller]
pub(super) fn vec_into(rec: &Recorder, product: &Product, y: &Tensor, first: usize) {
    let rows = product.check(y, first);
    // A CPU adapter needs no more threads than panels; a GPU splits the inputs to get them.
    let split = if rec.gpu().is_cpu() { 1 } else { 8 };
    let weight = product.weight;
    let params = Params {
        rows: rows as u32,
        cols: weight.width() as u32,
        steps: weight.steps() as u32,
        panels: weight.panels() as u32,
        y_cols: y.matrix()[1] as u32,
        y_first: first as u32,
    };
    let variant = product
        .linear_variant(&LINEAR_VEC)
        .set("SPLIT", split)
        .set("WG", light_threads(rec));
    let groups = [light_groups(rec, weight.panels() * split as usize), rows];
    product.dispatch(rec, variant, params, (y, rows), groups);
}
