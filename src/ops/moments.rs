//! Mean and variance of channels.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// Mean and biased variance of each channel over runs of rows.
    MOMENTS = "moments" + "shared/flat"; { runs: u32, rows: u32, quads: u32 }
}

/// Mean and biased variance of each channel over every `rows` rows of `x` `[runs · rows, channels]`: `[runs, 2, channels]`.
#[track_caller]
pub fn moments(rec: &Recorder, x: &Tensor, rows: usize) -> Tensor {
    let [all, channels] = x.matrix();
    run(rec, x, [all, rows, channels], 0)
}

/// The moments of all values whose moments over equally many are every `rows` of `parts` `[runs · rows, 2, channels]`:
/// `[runs, 2, channels]`.
#[track_caller]
pub fn merged_moments(rec: &Recorder, parts: &Tensor, rows: usize) -> Tensor {
    let [all, two, channels] = parts.dims();
    assert_eq!(two, 2, "moments {}", parts.shape());
    run(rec, parts, [all, rows, channels], 1)
}

#[track_caller]
fn run(rec: &Recorder, x: &Tensor, [all, rows, channels]: [usize; 3], merge: u32) -> Tensor {
    assert!(
        rows > 0 && all.is_multiple_of(rows) && channels.is_multiple_of(4),
        "moments of {} by {rows} rows",
        x.shape()
    );
    let runs = all / rows;
    let y = Tensor::empty(rec, [runs, 2, channels]);
    let params = Params {
        runs: runs as u32,
        rows: rows as u32,
        quads: (channels / 4) as u32,
    };
    rec.dispatch(
        MOMENTS.set("MERGE", merge),
        params,
        &[("x", x), ("y", &y)],
        groups(runs * channels / 4),
    );
    y
}
