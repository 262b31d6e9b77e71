//! Pictures at twice their size.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// Bilinear × 2, align_corners false.
    RESAMPLE = "resample" + "shared/flat" + "shared/doubled"; { images: u32, height: u32, width: u32 }
}

/// Doubles `x` (`[images, height, width]`) bilinearly, as PyTorch with `align_corners=False`.
#[track_caller]
pub fn resample(rec: &Recorder, x: &Tensor) -> Tensor {
    let [images, height, width] = x.dims();
    let y = Tensor::empty(rec, [images, 2 * height, 2 * width]);
    let params = Params {
        images: images as u32,
        height: height as u32,
        width: width as u32,
    };
    rec.dispatch(&RESAMPLE, params, &[("x", x), ("y", &y)], groups(y.len()));
    y
}
