//! `x · wᵀ + b` on cooperative matrices: GPUs with tensor cores, where precision allows f16 products.

use crate::gpu::{Gpu, Recorder, kernel};
use crate::ops::{Activation, Product};
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// A block of 8 by 4 tiles for each workgroup of four subgroups, fed from workgroup memory.
    LINEAR_COOP = "linear_coop" + "shared/tile" + "shared/activation" + "shared/store", weight, coop; {
        rows: u32, cols: u32, steps: u32, panels: u32, y_cols: u32, y_first: u32,
    }
}

/// Rows from which it is taken: fewer leave most of a block idle.
const MANY_ROWS: usize = 32;

/// Whether [`linear_coop`] can be run on so many rows, and is wanted.
pub(super) fn coop_pays(gpu: &Gpu, rows: usize) -> bool {
    rows >= MANY_ROWS && gpu.coop_tile().is_some() && gpu.trusts(&LINEAR_COOP)
}

/// The rows and columns of a cooperative matrix.
pub(super) fn tile_side(tile: &str) -> usize {
    if tile.ends_with("16") { 16 } else { 8 }
}

/// As [`crate::ops::linear`], which calls it where the adapter was opened for it.
///
/// # Panics
/// If the adapter was opened without cooperative matrices.
#[track_caller]
pub fn linear_coop(
    rec: &Recorder,
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
    Product::new(x.into(), weight, bias, activation, residual).alone(rec, coop_into)
}

/// As [`crate::ops::linear_into`].
#[track_caller]
pub(super) fn coop_into(rec: &Recorder, product: &Product, y: &Tensor, first: usize) {
    let rows = product.check(y, first);
    let gpu = rec.gpu();
    let tile = gpu.coop_tile().expect("cooperative matrices");
    let lanes = gpu
        .subgroup_lanes()
        .expect("subgroups of one size, as cooperative matrices need");
    let side = tile_side(tile);
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
        .linear_variant(&(&LINEAR_COOP).into())
        .tile(tile)
        .set("LANES", lanes)
        .set("WG", 4 * lanes);
    let groups = [
        (8 * weight.panels()).div_ceil(4 * side),
        rows.div_ceil(8 * side),
    ];
    product.dispatch(rec, variant, params, (y, rows), groups, &[]);
}
