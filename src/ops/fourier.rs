//! Places of a picture as random Fourier features.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// `y = [sin 2πt, cos 2πt]`, `t = (2x − 1) · weight`.
    FOURIER = "fourier" + "shared/flat"; { rows: u32, quads: u32 }
}

/// Random Fourier features (arXiv 2006.10739) of places x `[rows, 2]`, column and line from 0 to 1, by frequencies
/// `weight` `[2, half]`: `[rows, 2 · half]`, all sines, then all cosines.
#[track_caller]
pub fn fourier(rec: &Recorder, x: &Tensor, weight: &Tensor) -> Tensor {
    let ([rows, axes], [two, half]) = (x.matrix(), weight.matrix());
    assert!(
        axes == 2 && two == 2 && half.is_multiple_of(4),
        "places {} by frequencies {}",
        x.shape(),
        weight.shape()
    );
    let y = Tensor::empty(rec, [rows, 2 * half]);
    let params = Params {
        rows: rows as u32,
        quads: (half / 4) as u32,
    };
    rec.dispatch(
        &FOURIER,
        params,
        &[("x", x), ("weight", weight), ("y", &y)],
        groups(rows * half / 4),
    );
    y
}
