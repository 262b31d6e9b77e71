//! Values kept at half the memory, as f32 again.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// Pairs of f16 as f32 values.
    UNPACK_HALF = "unpack_half" + "shared/flat" + "shared/halves"; { len: u32 }
}

/// The first `rows` rows of `x` (`[.., words]`, two f16 values each) as f32, `[rows, 2 · words]`.
#[track_caller]
pub fn unpack_half(rec: &Recorder, x: &Tensor, rows: usize) -> Tensor {
    let [all, words] = x.matrix();
    assert!(
        rows <= all && words.is_multiple_of(4),
        "{rows} of {all} rows of {words} words"
    );
    let y = Tensor::empty(rec, [rows, 2 * words]);
    let eights = rows * words / 4;
    let params = Params { len: eights as u32 };
    rec.dispatch(&UNPACK_HALF, params, &[("x", x), ("y", &y)], groups(eights));
    y
}
