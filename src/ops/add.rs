//! Sums of tensors, repeating the shorter one.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// `y = scale · (a + b)`, b repeated.
    ADD = "add" + "shared/flat"; { len: u32, period: u32, scale: f32 }
}

/// `a + b`; `b` repeats along `a`'s outer dimensions.
#[track_caller]
pub fn add(rec: &Recorder, a: &Tensor, b: &Tensor) -> Tensor {
    add_scaled(rec, a, b, 1.0)
}

/// `scale · (a + b)`; with ½ the mean of two embeddings.
#[track_caller]
pub fn add_scaled(rec: &Recorder, a: &Tensor, b: &Tensor, scale: f32) -> Tensor {
    assert!(
        a.len().is_multiple_of(b.len()) && b.len().is_multiple_of(4),
        "{} + {}",
        a.shape(),
        b.shape()
    );
    let y = Tensor::empty(rec, a.shape());
    let len = a.len() / 4;
    let params = Params {
        len: len as u32,
        period: (b.len() / 4) as u32,
        scale,
    };
    rec.dispatch(&ADD, params, &[("a", a), ("b", b), ("y", &y)], groups(len));
    y
}
