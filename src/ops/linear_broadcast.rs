//! `x · wᵀ + b` where a load is dear and a subgroup can share it: CPU adapters.

use crate::gpu::{Recorder, Variant, kernel};
use crate::ops::{Activation, Product, shared_lanes, subgroup_groups};
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
/// If the adapter's subgroups cannot share loads (`shared_lanes`).
#[track_caller]
pub fn linear_broadcast(
    rec: &Recorder,
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
    let tall = u32::from(x.matrix()[0] > 8);
    let plan = LINEAR_BROADCAST.set("WG", 64).set("TALL", tall);
    let product = Product::new(x.into(), weight, bias, activation, residual);
    product.alone(rec, |rec, product, y, first| {
        broadcast_into(rec, &plan, product, y, first);
    })
}

/// As [`crate::ops::linear_into`], with this tile.
#[track_caller]
pub(super) fn broadcast_into(
    rec: &Recorder,
    plan: &Variant,
    product: &Product,
    y: &Tensor,
    first: usize,
) {
    let rows = product.check(y, first);
    let lanes = shared_lanes(rec.gpu()).expect("subgroups that share loads");
    let weight = product.weight;
    let params = Params {
        rows: rows as u32,
        cols: weight.width() as u32,
        steps: weight.steps() as u32,
        panels: weight.panels() as u32,
        y_cols: y.matrix()[1] as u32,
        y_first: first as u32,
    };
    let variant = product.linear_variant(plan).set("LANES", lanes);
    let blocks = rows.div_ceil(8 + 8 * plan.value("TALL") as usize);
    let subgroups = blocks * weight.panels().div_ceil(lanes as usize);
    let (variant, groups) = subgroup_groups(variant, lanes, subgroups);
    product.dispatch(rec, variant, params, (y, rows), [groups, 1], &[]);
}
