//! Rows shifted and scaled to mean 0 and variance 1.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Activation, light_groups, light_threads, row_lanes};
use crate::tensor::Tensor;

kernel! {
    /// `y = activate((x − mean) / √(var + eps) · weight + bias)`, row by row.
    LAYER_NORM = "layer_norm" + "shared/flat" + "shared/activation"; { rows: u32, quads: u32, eps: f32 }
}

/// Layer norm over the last dimension.
#[track_caller]
pub fn layer_norm(rec: &Recorder, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Tensor {
    layer_norm_activated(rec, x, weight, bias, eps, Activation::None)
}

/// The same with an activation behind it.
#[track_caller]
pub fn layer_norm_activated(
    rec: &Recorder,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f32,
    activation: Activation,
) -> Tensor {
    let [rows, cols] = x.matrix();
    weight.expect(cols);
    bias.expect(cols);
    assert!(cols.is_multiple_of(4), "norm of {cols} columns");
    let y = Tensor::empty(rec, x.shape());
    let lanes = row_lanes(rec);
    let params = Params {
        rows: rows as u32,
        quads: (cols / 4) as u32,
        eps,
    };
    let variant = LAYER_NORM
        .set("LANES", lanes)
        .set("WG", light_threads(rec))
        .set("ACTIVATION", activation as u32);
    rec.dispatch(
        variant,
        params,
        &[("x", x), ("weight", weight), ("bias", bias), ("y", &y)],
        light_groups(rec, rows * lanes as usize),
    );
    y
}
