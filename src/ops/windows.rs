//! Pictures cut into windows, and put together again.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// Window partition with padding and cyclic shift, and its inverse.
    WINDOWS = "windows" + "shared/flat"; {
        images: u32, height: u32, width: u32, quads: u32, side: u32, down: u32, across: u32, shift: u32,
    }
}

/// Cuts pictures `[images, height, width, channels]` into windows of `side` by `side` pixels:
/// `[images · windows, side · side, channels]`, so that windows are the batch of an attention. Lines and columns
/// that are missing in the last windows are zeros (so pad after the norm); `shift`, less than a side, rolls the
/// padded picture up and to the left first.
#[track_caller]
pub fn windows(rec: &Recorder, x: &Tensor, side: usize, shift: usize) -> Tensor {
    let [images, height, width, channels] = x.dims();
    let count = images * height.div_ceil(side) * width.div_ceil(side);
    let y = Tensor::empty(rec, [count, side * side, channels]);
    record(
        rec,
        x,
        &y,
        [images, height, width, channels],
        [side, shift],
        0,
    );
    y
}

/// Undoes [`windows`]: pictures of `size`, `[images, height, width]`, without the padding.
#[track_caller]
pub fn joined_windows(
    rec: &Recorder,
    x: &Tensor,
    [images, height, width]: [usize; 3],
    side: usize,
    shift: usize,
) -> Tensor {
    let [rows, channels] = x.matrix();
    let count = images * height.div_ceil(side) * width.div_ceil(side);
    assert_eq!(rows, count * side * side, "pixels of {count} windows");
    let y = Tensor::empty(rec, [images, height, width, channels]);
    record(
        rec,
        x,
        &y,
        [images, height, width, channels],
        [side, shift],
        1,
    );
    y
}

#[track_caller]
fn record(
    rec: &Recorder,
    x: &Tensor,
    y: &Tensor,
    [images, height, width, channels]: [usize; 4],
    [side, shift]: [usize; 2],
    back: u32,
) {
    assert!(
        channels.is_multiple_of(4) && shift < side,
        "{channels} channels, windows of {side} shifted by {shift}"
    );
    let params = Params {
        images: images as u32,
        height: height as u32,
        width: width as u32,
        quads: (channels / 4) as u32,
        side: side as u32,
        down: height.div_ceil(side) as u32,
        across: width.div_ceil(side) as u32,
        shift: shift as u32,
    };
    rec.dispatch(
        WINDOWS.set("BACK", back),
        params,
        &[("x", x), ("y", y)],
        groups(y.len() / 4),
    );
}
