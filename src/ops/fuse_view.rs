//! Late fusion: one view's masks added to a volume, weighted by the predicted Dice.

use crate::gpu::{Recorder, kernel};
use crate::ops::WG;
use crate::tensor::Tensor;

kernel! {
    /// Weighted sums of clamped logits over the views, voxel by voxel.
    FUSE_VIEW = "fuse_view"; {
        size_x: u32, size_y: u32, size_z: u32, height: u32, width: u32, axis: u32, column_axis: u32,
        row_offset: i32, column_offset: i32, low: u32, high: u32, mask: u32, slices: u32,
        prompts: u32, prompt: u32, limit: f32,
    }
}

/// How the slices of a view lie in a volume.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The axis across the slices: 0 x, 1 y, 2 z.
    pub axis: usize,
    /// The axis along a slice's columns; the remaining one is along its rows. Both run downwards.
    pub column_axis: usize,
    /// Row of the window that shows the slice's first row.
    pub row_offset: i32,
    /// Column of the window that shows the slice's first column.
    pub column_offset: i32,
    /// The slices that take part.
    pub slices: std::ops::Range<usize>,
}

impl Placement {
    /// Workgroups for the blocks of two lines by two columns of all slices.
    fn grid(&self, size: [usize; 3]) -> [usize; 3] {
        // Block k is made of 2k - 1 and 2k, so position p is in block (p + 1) / 2, rounded down.
        let blocks = |offset: i32, count: usize| {
            let (first, last) = ((offset + 1) >> 1, (offset + count as i32) >> 1);
            (last - first + 1) as usize
        };
        let columns = blocks(self.column_offset, size[self.column_axis]);
        let lines = blocks(self.row_offset, size[3 - self.axis - self.column_axis]);
        let slices = size[self.axis];
        match self.axis {
            0 => [slices.div_ceil(WG), columns, lines],
            _ => [columns.div_ceil(WG), slices, lines],
        }
    }
}

/// Adds the logits of one prompt in one view to `sum` and `weight` (both `[z, y, x]`): they are mask `mask` of
/// `x`, `[masks, slices, height, width]`, shown at twice its size; `quality` is `[slices, prompts, 4]` with the
/// predicted Dice of `prompt` first. `first` starts the sums, `last` divides them into mean logits,
/// after which `weight` holds nothing of use.
#[track_caller]
pub fn fuse_view(
    rec: &Recorder,
    (x, mask): (&Tensor, usize),
    (quality, prompt): (&Tensor, usize),
    place: &Placement,
    limit: f32,
    (sum, weight): (&Tensor, &Tensor),
    (first, last): (bool, bool),
) {
    let [masks, slices, height, width] = x.dims();
    assert!(mask < masks, "mask {mask} of {masks}");
    let [size_z, size_y, size_x] = sum.dims();
    let [quality_slices, prompts, four] = quality.dims();
    assert!(
        quality_slices == slices && four == 4 && prompt < prompts,
        "quality {}",
        quality.shape()
    );
    assert_eq!(
        slices,
        [size_x, size_y, size_z][place.axis],
        "slices along axis {}",
        place.axis
    );
    weight.expect(sum.shape());
    let params = Params {
        size_x: size_x as u32,
        size_y: size_y as u32,
        size_z: size_z as u32,
        height: height as u32,
        width: width as u32,
        axis: place.axis as u32,
        column_axis: place.column_axis as u32,
        row_offset: place.row_offset,
        column_offset: place.column_offset,
        low: place.slices.start as u32,
        high: place.slices.end as u32,
        mask: mask as u32,
        slices: slices as u32,
        prompts: prompts as u32,
        prompt: prompt as u32,
        limit,
    };
    let variant = FUSE_VIEW
        .set("FIRST", u32::from(first))
        .set("LAST", u32::from(last));
    rec.dispatch(
        variant,
        params,
        &[
            ("x", x),
            ("quality", quality),
            ("sum", sum),
            ("weight", weight),
        ],
        place.grid([size_x, size_y, size_z]),
    );
}
