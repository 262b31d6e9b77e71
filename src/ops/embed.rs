//! Rows of a packed table by number.

use crate::gpu::{Bind, Recorder, kernel};
use crate::ops::groups;
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// `y[t] = w[ids[t]]`.
    EMBED = "embed" + "shared/flat" + "shared/tile", weight; { tokens: u32, steps: u32 }
}

/// The rows of `weight` that `ids` (`[tokens]`, u32) name: `[tokens, weight.inputs]`. The caller
/// checks the numbers, which live on the adapter.
pub fn embed(rec: &Recorder, ids: &Tensor, weight: &Matrix) -> Tensor {
    let tokens = ids.len();
    let y = Tensor::empty(rec, [tokens, weight.inputs]);
    let params = Params {
        tokens: tokens as u32,
        steps: weight.steps() as u32,
    };
    let mut bindings: Vec<(&str, &dyn Bind)> = weight.bindings().collect();
    bindings.extend([("ids", ids as &dyn Bind), ("y", &y)]);
    rec.dispatch(
        EMBED.format(weight.format),
        params,
        &bindings,
        groups(tokens * weight.steps()),
    );
    y
}
