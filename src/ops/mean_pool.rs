//! Sentence embeddings from token vectors.

use crate::gpu::{Recorder, kernel};
use crate::tensor::Tensor;

kernel! {
    /// The mean of each span of rows, scaled to unit length where that is wanted.
    MEAN_POOL = "mean_pool" + "shared/flat" + "shared/reduce"; { sentences: u32, cols: u32 }
}

/// The mean of each `span` (`[sentences, 2]` u32: start and count, not zero) of the rows of `x`, scaled
/// to unit length: `[sentences, cols]`.
#[track_caller]
pub fn mean_pool(rec: &Recorder, x: &Tensor, span: &Tensor) -> Tensor {
    pool(rec, x, span, 1)
}

/// The same as it is, not scaled.
#[track_caller]
pub fn mean_rows(rec: &Recorder, x: &Tensor, span: &Tensor) -> Tensor {
    pool(rec, x, span, 0)
}

#[track_caller]
fn pool(rec: &Recorder, x: &Tensor, span: &Tensor, unit: u32) -> Tensor {
    let [_, cols] = x.matrix();
    let [sentences, two] = span.dims();
    assert!(
        two == 2 && cols.is_multiple_of(4),
        "spans {} over rows of {cols}",
        span.shape()
    );
    let y = Tensor::empty(rec, [sentences, cols]);
    let params = Params {
        sentences: sentences as u32,
        cols: (cols / 4) as u32,
    };
    rec.dispatch(
        MEAN_POOL.set("UNIT", unit),
        params,
        &[("x", x), ("span", span), ("y", &y)],
        sentences,
    );
    y
}
