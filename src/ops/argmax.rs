//! The place of the largest value of each row.

use crate::gpu::{Recorder, kernel};
use crate::ops::WG;
use crate::tensor::Tensor;

kernel! {
    /// `y[r] = argmax_c x[r, c]`, the first of equals.
    ARGMAX = "argmax" + "shared/flat"; { rows: u32, cols: u32, stride: u32 }
}

/// Columns up to which one lane looks through a row: the classes of a voxel, not the words of a language.
const FEW: usize = 256;

/// The column of the largest of the first `cols` values of each row of `x`, as u32 in a `[rows]` tensor.
#[track_caller]
pub fn argmax(rec: &Recorder, x: &Tensor, cols: usize) -> Tensor {
    let [rows, stride] = x.matrix();
    assert!(
        cols <= stride && cols > 0,
        "argmax over {cols} of {stride} columns"
    );
    let y = Tensor::empty(rec, rows);
    let params = Params {
        rows: rows as u32,
        cols: cols as u32,
        stride: stride as u32,
    };
    let lanes = if cols <= FEW { 1 } else { WG };
    rec.dispatch(
        ARGMAX.set("LANES", lanes as u32),
        params,
        &[("x", x), ("y", &y)],
        (rows * lanes).div_ceil(WG),
    );
    y
}
