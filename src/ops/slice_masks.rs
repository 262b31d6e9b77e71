//! One prompt's masks on the kept pixels of many slices.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// Hypernetwork weights times f16 pixels, slice by slice.
    SLICE_MASKS = "slice_masks" + "shared/flat"; {
        slices: u32, pixels: u32, eighths: u32, prompts: u32, prompt: u32, stride: u32, first: u32,
    }
}

/// Mask logits of `prompt` on `slices` slices, written to `y` (`[all slices, pixels]`) from slice
/// `first` on. `hyper` is `[slices, prompts, stride]`: per prompt `channels` weights and a bias;
/// `pixels` holds `[slices, pixels, channels]` as f16, two a word.
#[track_caller]
pub fn slice_masks(
    rec: &Recorder,
    hyper: &Tensor,
    pixels: &Tensor,
    channels: usize,
    prompt: usize,
    y: &Tensor,
    first: usize,
) {
    let [slices, prompts, stride] = hyper.dims();
    let [y_slices, count] = y.matrix();
    assert!(
        channels.is_multiple_of(8) && stride > channels && stride.is_multiple_of(4),
        "{channels} of {stride} weights"
    );
    assert!(
        pixels.len() * 2 >= slices * count * channels && count.is_multiple_of(4),
        "kept pixels"
    );
    assert!(
        first + slices <= y_slices && prompt < prompts,
        "slice {first} + {slices} of {y_slices}"
    );
    let params = Params {
        slices: slices as u32,
        pixels: count as u32,
        eighths: (channels / 8) as u32,
        prompts: prompts as u32,
        prompt: prompt as u32,
        stride: (stride / 4) as u32,
        first: first as u32,
    };
    rec.dispatch(
        &SLICE_MASKS,
        params,
        &[("hyper", hyper), ("pixels", pixels), ("y", y)],
        groups(slices * count / 4),
    );
}
