//! How surprised a language model is.

use crate::gpu::{Recorder, kernel};
use crate::tensor::Tensor;

kernel! {
    /// `y[r] = log(Σ_c e^x[r, c]) − x[r, tokens[r]]`.
    CROSS_ENTROPY = "cross_entropy" + "shared/flat" + "shared/reduce"; { rows: u32, cols: u32, stride: u32 }
}

/// The negative logarithm of the probability that the first `cols` logits of each row of `x` give to the row's token
/// (`tokens` `[rows]` u32, below `cols`, which the caller sees to): `[rows]`, in nats.
#[track_caller]
pub fn cross_entropy(rec: &Recorder, x: &Tensor, tokens: &Tensor, cols: usize) -> Tensor {
    let [rows, stride] = x.matrix();
    assert!(
        cols <= stride && cols > 0,
        "cross entropy over {cols} of {stride} columns"
    );
    tokens.expect(rows);
    let y = Tensor::empty(rec, rows);
    let params = Params {
        rows: rows as u32,
        cols: cols as u32,
        stride: stride as u32,
    };
    let bindings: &[(&str, &dyn crate::gpu::Bind)] = &[("x", x), ("tokens", tokens), ("y", &y)];
    rec.dispatch(&CROSS_ENTROPY, params, bindings, rows);
    y
}
