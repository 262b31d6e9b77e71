//! `x · wᵀ + b` where a load is dear and a subgroup can share it: CPU adapters.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Activation, Product, broadcasts, groups};
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// A register tile of 16 rows by 8 columns per thread, the rows handed round by a subgroup.
    LINEAR_BROADCAST = "linear_broadcast" + "shared/tile" + "shared/activation" + "shared/store", weight; {
        rows: u32, cols: u32, steps: u32, panels: u32, y_cols: u32, y_first: u32,
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
    Product {
        x,
        weight,
        bias,
        activation,
        residual,
    }
    .alone(rec, broadcast_into)
}

/// As [`crate::ops::linear_into`].
#[track_caller]
pub(super) fn broadcast_into(rec: &Recorder, product: &Product, y: &Tensor, first: usize) {
    let rows = product.check(y, first);
    let lanes = broadcasts(rec.gpu()).expect("subgroups of a CPU adapter");
    let weight = product.weight;
    let params = Params {
        rows: rows as u32,
        cols: weight.width() as u32,
        steps: weight.steps() as u32,
        panels: weight.panels() as u32,
        y_cols: y.matrix()[1] as u32,
        y_first: first as u32,
    };
    let tall = rows > 8;
    let variant = product
        .linear_variant(&LINEAR_BROADCAST)
        .set("LANES", lanes)
        .set("TALL", u32::from(tall));
    let blocks = rows.div_ceil(if tall { 16 } else { 8 });
    let threads = blocks * weight.panels().next_multiple_of(lanes as usize);
    product.dispatch(rec, variant, params, (y, rows), [groups(threads), 1]);
}
