//! The second half of a 2 × 2 transposed convolution, with its skip connection.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Activation, groups};
use crate::tensor::Tensor;

kernel! {
    /// Four pixels side by side moved to their places, a skip added, activated.
    PIXEL_SHUFFLE = "pixel_shuffle" + "shared/flat" + "shared/activation"; {
        images: u32, height: u32, width: u32, quads: u32,
    }
}

/// `activate(shuffle(x) + skip)`: x `[images, height, width, 4 · channels]`, its four parts in row-major
/// order of the 2 × 2 pixels; skip and result `[images, 2 · height, 2 · width, channels]`.
#[track_caller]
pub fn pixel_shuffle(rec: &Recorder, x: &Tensor, skip: &Tensor, activation: Activation) -> Tensor {
    let [images, height, width, four] = x.dims();
    assert!(four.is_multiple_of(16), "{four} values a pixel");
    skip.expect([images, 2 * height, 2 * width, four / 4]);
    let y = Tensor::empty(rec, skip.shape());
    let params = Params {
        images: images as u32,
        height: height as u32,
        width: width as u32,
        quads: (four / 16) as u32,
    };
    let variant = PIXEL_SHUFFLE.set("ACTIVATION", activation as u32);
    rec.dispatch(
        variant,
        params,
        &[("x", x), ("skip", skip), ("y", &y)],
        groups(y.len() / 4),
    );
    y
}
