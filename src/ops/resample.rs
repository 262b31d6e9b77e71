//! Pictures at twice their size.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// Bilinear × 2, align_corners false.
    RESAMPLE = "resample" + "shared/flat"; { images: u32, height: u32, width: u32, quads: u32 }
}

/// Doubles the sides of `x` (`[images, height, width, channels]`) bilinearly, as PyTorch with `align_corners=False`.
#[track_caller]
pub fn resample(rec: &Recorder, x: &Tensor) -> Tensor {
    let [images, height, width, channels] = x.dims();
    assert!(channels.is_multiple_of(4), "{channels} channels");
    let y = Tensor::empty(rec, [images, 2 * height, 2 * width, channels]);
    let params = Params {
        images: images as u32,
        height: height as u32,
        width: width as u32,
        quads: (channels / 4) as u32,
    };
    // A thread for every two lines by two columns, which lie between those of x.
    let threads = images * (height + 1) * (width + 1) * channels / 4;
    rec.dispatch(&RESAMPLE, params, &[("x", x), ("y", &y)], groups(threads));
    y
}
