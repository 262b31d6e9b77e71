//! Rows scaled to mean square 1.

use crate::gpu::{Recorder, kernel};
use crate::ops::{light_groups, light_threads, row_lanes};
use crate::tensor::Tensor;

kernel! {
    /// `y = x / √(mean(x²) + eps) · weight`, row by row.
    RMS_NORM = "rms_norm" + "shared/flat"; { rows: u32, quads: u32, eps: f32 }
}

/// RMS norm over the last dimension.
#[track_caller]
pub fn rms_norm(rec: &Recorder, x: &Tensor, weight: &Tensor, eps: f32) -> Tensor {
    let [rows, cols] = x.matrix();
    weight.expect(cols);
    assert!(cols.is_multiple_of(4), "norm of {cols} columns");
    let y = Tensor::empty(rec, x.shape());
    let lanes = row_lanes(rec);
    let params = Params {
        rows: rows as u32,
        quads: (cols / 4) as u32,
        eps,
    };
    rec.dispatch(
        RMS_NORM.set("LANES", lanes).set("WG", light_threads(rec)),
        params,
        &[("x", x), ("weight", weight), ("y", &y)],
        light_groups(rec, rows * lanes as usize),
    );
    y
}
