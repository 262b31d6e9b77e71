//! The gate of a Llama MLP.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// `silu(gate) · up`, gate and up side by side.
    SILU_MUL = "silu_mul" + "shared/flat"; { rows: u32, cols: u32 }
}

/// `silu(x[:, :cols]) · x[:, cols:]`: x `[rows, 2 · cols]`, the result `[rows, cols]`.
#[track_caller]
pub fn silu_mul(rec: &Recorder, x: &Tensor) -> Tensor {
    let [rows, two] = x.matrix();
    assert!(two.is_multiple_of(8), "gate and up of {two} columns");
    let y = Tensor::empty(rec, [rows, two / 2]);
    let params = Params {
        rows: rows as u32,
        cols: (two / 8) as u32,
    };
    rec.dispatch(
        &SILU_MUL,
        params,
        &[("x", x), ("y", &y)],
        groups(rows * two / 8),
    );
    y
}
