//! The second half of a transposed convolution whose stride is its kernel, with its skip connection.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Activation, groups, volume, volume_shape};
use crate::tensor::Tensor;

kernel! {
    /// Pixels side by side moved to their places, a skip added, activated.
    PIXEL_SHUFFLE = "pixel_shuffle" + "shared/flat" + "shared/activation"; {
        images: u32, depth: u32, height: u32, width: u32, quads: u32,
    }
}

/// `activate(shuffle(x) + skip)`: x `[images, height, width, parts · channels]` or `[images, depth, height, width,
/// parts · channels]`, its parts in row-major order of the `factors` slices, rows and columns that each pixel becomes;
/// skip and result are so many times larger, with `channels`.
#[track_caller]
pub fn pixel_shuffle(
    rec: &Recorder,
    x: &Tensor,
    factors: [usize; 3],
    skip: Option<&Tensor>,
    activation: Activation,
) -> Tensor {
    let [images, depth, height, width, values] = volume(x);
    let [deep, high, wide] = factors;
    let parts = deep * high * wide;
    assert!(
        values.is_multiple_of(4 * parts),
        "{values} values a pixel for {parts} pixels"
    );
    let size = [
        images,
        deep * depth,
        high * height,
        wide * width,
        values / parts,
    ];
    let shape = volume_shape(x, size);
    if let Some(skip) = skip {
        skip.expect(shape);
    }
    let y = Tensor::empty(rec, shape);
    let params = Params {
        images: images as u32,
        depth: depth as u32,
        height: height as u32,
        width: width as u32,
        quads: (values / parts / 4) as u32,
    };
    let variant = PIXEL_SHUFFLE
        .set("ACTIVATION", activation as u32)
        .set("DEEP", deep as u32)
        .set("HIGH", high as u32)
        .set("WIDE", wide as u32)
        .set("SKIP", u32::from(skip.is_some()));
    rec.dispatch(
        variant,
        params,
        // Without a skip any readable buffer fills its place.
        &[("x", x), ("skip", skip.unwrap_or(x)), ("y", &y)],
        groups(y.len() / 4),
    );
    y
}
