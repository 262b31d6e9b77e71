//! Attentions on shares of the keys put together.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// The mean of what shares of the keys gave, by the weight of each share.
    ATTENTION_MERGE = "attention_merge" + "shared/flat"; { splits: u32, units: u32, width: u32 }
}

/// What each share of the keys gave, `[splits, rows, heads · width]`, and where its softmax stood, `[splits, rows, heads, 2]`
/// (maximum and sum): the attention on all of them, `[rows, heads · width]`.
#[track_caller]
pub fn attention_merge(rec: &Recorder, part: &Tensor, state: &Tensor) -> Tensor {
    let [splits, rows, cols] = part.dims();
    let [_, _, heads, _] = state.dims();
    state.expect([splits, rows, heads, 2]);
    assert!(
        cols.is_multiple_of(4 * heads),
        "{cols} columns of {heads} heads"
    );
    let y = Tensor::empty(rec, [rows, cols]);
    let params = Params {
        splits: splits as u32,
        units: (rows * heads) as u32,
        width: (cols / heads / 4) as u32,
    };
    rec.dispatch(
        &ATTENTION_MERGE,
        params,
        &[("part", part), ("state", state), ("y", &y)],
        groups(rows * cols / 4),
    );
    y
}
