//! Values kept at half the memory.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// f32 values as pairs of f16.
    PACK_HALF = "pack_half" + "shared/flat" + "shared/halves"; { len: u32, first: u32 }
}

/// Writes the values of `x` as f16 into `y` (a tensor of words, two values each) from word `first` on.
#[track_caller]
pub fn pack_half(rec: &Recorder, x: &Tensor, y: &Tensor, first: usize) {
    assert!(
        x.len().is_multiple_of(8) && first.is_multiple_of(4),
        "{} values at word {first}",
        x.len()
    );
    assert!(
        first + x.len() / 2 <= y.len(),
        "{} values at word {first} of {}",
        x.len(),
        y.len()
    );
    let params = Params {
        len: (x.len() / 8) as u32,
        first: (first / 4) as u32,
    };
    rec.dispatch(
        &PACK_HALF,
        params,
        &[("x", x), ("y", y)],
        groups(x.len() / 8),
    );
}
