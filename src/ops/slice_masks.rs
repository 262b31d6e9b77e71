//! Some prompts' masks on the kept pixels of many slices.

use std::ops::Range;

use crate::gpu::{Recorder, kernel};
use crate::ops::WG;
use crate::tensor::Tensor;

kernel! {
    /// Hypernetwork weights times f16 pixels, slice by slice.
    SLICE_MASKS = "slice_masks"; {
        slices: u32, pixels: u32, eighths: u32, prompts: u32, prompt: u32, stride: u32, first: u32,
    }
}

/// The most prompts of one dispatch.
pub const MOST_MASKS: usize = 4;

/// Mask logits of neighbouring `prompts`, at most [`MOST_MASKS`], on a run of slices, written to `y`
/// (`[prompts.len(), all slices, pixels]`) from slice `first` on. `hyper` is `[run, all prompts, stride]`: per
/// prompt `channels` weights and a bias; `pixels` holds `[run, pixels, channels]` as f16, two a word.
#[track_caller]
pub fn slice_masks(
    rec: &Recorder,
    hyper: &Tensor,
    pixels: &Tensor,
    channels: usize,
    prompts: Range<usize>,
    y: &Tensor,
    first: usize,
) {
    let [run, all, stride] = hyper.dims();
    let [masks, slices, count] = y.dims();
    assert!(
        channels.is_multiple_of(8) && stride > channels && stride.is_multiple_of(4),
        "{channels} of {stride} weights"
    );
    assert!(
        pixels.len() * 2 >= run * count * channels && count.is_multiple_of(4),
        "kept pixels"
    );
    assert!(
        (1..=MOST_MASKS).contains(&masks) && masks == prompts.len() && prompts.end <= all,
        "{prompts:?} of {all} prompts in {masks} masks"
    );
    assert!(first + run <= slices, "slice {first} + {run} of {slices}");
    let params = Params {
        slices: slices as u32,
        pixels: count as u32,
        eighths: (channels / 8) as u32,
        prompts: all as u32,
        prompt: prompts.start as u32,
        stride: (stride / 4) as u32,
        first: first as u32,
    };
    rec.dispatch(
        SLICE_MASKS
            .set("MASKS", masks as u32)
            .flops(2 * masks * run * count * channels),
        params,
        &[("hyper", hyper), ("pixels", pixels), ("y", y)],
        [(count / 4).div_ceil(WG), run],
    );
}
