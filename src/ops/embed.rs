//! Rows of a packed table by number.

use crate::gpu::{Bind, Recorder, kernel};
use crate::ops::groups;
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// `y[t] = scale · w[ids[t] - first]`.
    EMBED = "embed" + "shared/flat" + "shared/tile", weight; {
        tokens: u32, steps: u32, first: u32, rows: u32, scale: f32,
    }
}

/// The rows of `weight` that `ids` (`[tokens]`, u32) name: `[tokens, weight.inputs]`. The caller
/// checks the numbers, which live on the adapter.
pub fn embed(rec: &Recorder, ids: &Tensor, weight: &Matrix) -> Tensor {
    let y = Tensor::empty(rec, [ids.len(), weight.inputs]);
    embed_into(rec, ids, weight, 0, 1.0, &y);
    y
}

/// A part of a larger table: its rows from `first` on are those of `weight`. Writes, times `scale`, the rows of `y`
/// (`[tokens, weight.inputs]`) whose number in `ids` (`[tokens]`, u32) is of this part.
#[track_caller]
pub fn embed_into(
    rec: &Recorder,
    ids: &Tensor,
    weight: &Matrix,
    first: usize,
    scale: f32,
    y: &Tensor,
) {
    let tokens = ids.len();
    y.expect([tokens, weight.inputs]);
    let params = Params {
        tokens: tokens as u32,
        steps: weight.steps() as u32,
        first: first as u32,
        rows: weight.outputs as u32,
        scale,
    };
    let mut bindings: Vec<(&str, &dyn Bind)> = weight.bindings().collect();
    bindings.extend([("ids", ids as &dyn Bind), ("y", y)]);
    rec.dispatch(
        EMBED.format(weight.format),
        params,
        &bindings,
        groups(tokens * weight.steps()),
    );
}
