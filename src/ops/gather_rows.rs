//! Every n-th row.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// `y[r] = x[first + r · stride]`.
    GATHER_ROWS = "gather_rows" + "shared/flat"; { rows: u32, cols: u32, first: u32, stride: u32 }
}

/// `rows` rows of `x`, from `first` on and every `stride` after it: `[rows, cols]`.
#[track_caller]
pub fn gather_rows(rec: &Recorder, x: &Tensor, rows: usize, first: usize, stride: usize) -> Tensor {
    let [x_rows, cols] = x.matrix();
    assert!(
        rows > 0 && first + (rows - 1) * stride < x_rows && cols % 4 == 0,
        "row {first} + {rows} · {stride} of {x_rows}"
    );
    let y = Tensor::empty(rec, [rows, cols]);
    let params = Params {
        rows: rows as u32,
        cols: (cols / 4) as u32,
        first: first as u32,
        stride: stride as u32,
    };
    rec.dispatch(
        &GATHER_ROWS,
        params,
        &[("x", x), ("y", &y)],
        groups(rows * cols / 4),
    );
    y
}
