//! `x · wᵀ + b` where a load is dear and a subgroup can share it: CPU adapters.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Activation, Product, broadcasts, check_linear, groups};
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// A register tile of 16 rows by 8 columns per thread, the rows handed round by a subgroup.
    LINEAR_BROADCAST = "linear_broadcast" + "shared/tile" + "shared/activation", weight; {
        rows: u32, cols: u32, steps: u32, panels: u32,
    }
}

/// As [`crate::ops::linear`], which calls it on adapters where it is the faster one.
///
/// # Panics
/// If the adapter's subgroups cannot share loads (`broadcasts`).
#[track_caller]
pub fn linear_broadcast(
    rec: &Recorder,
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
    let rows = check_linear(x, weight, bias, residual);
    let lanes = broadcasts(rec.gpu()).expect("subgroups of a CPU adapter");
    let y = Tensor::empty(rec, [rows, weight.width()]);
    let params = Params {
        rows: rows as u32,
        cols: weight.width() as u32,
        steps: weight.steps() as u32,
        panels: weight.panels() as u32,
    };
    let tall = rows > 8;
    let product = Product {
        x,
        weight,
        bias,
        activation,
        residual,
    };
    let variant = product
        .variant(&LINEAR_BROADCAST)
        .set("LANES", lanes)
        .set("TALL", u32::from(tall));
    let blocks = rows.div_ceil(if tall { 16 } else { 8 });
    let threads = blocks * weight.panels().next_multiple_of(lanes as usize);
    product.dispatch(rec, variant, params, &y, [groups(threads), 1]);
    y
}
