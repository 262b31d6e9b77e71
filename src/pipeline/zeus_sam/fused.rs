//! Masks of slices, put together over views and modalities by their predicted quality.

use rayon::prelude::*;

use crate::error::Result;
use crate::gpu::{Bind, Reading};
use crate::ops::gather_rows;
use crate::pipeline::prepare::View;
use crate::pipeline::structures::{Side, Target};
use crate::pipeline::zeus_sam::ZeusSamSegmenter;
use crate::pipeline::zeus_sam::seen::Seen;
use crate::tensor::Tensor;

/// Logits beyond this are as good as certain; fusion must not let one slice outweigh the rest.
const LIMIT: f32 = 10.0;
/// What the weight of a mask has beside its predicted IoU, so that none is nothing.
const LEAST_WEIGHT: f32 = 1e-3;
/// The masks of a target as they are fused, on the canonical grid.
pub(super) struct Fused {
    sum: Vec<f32>,
    weight: Vec<f32>,
    /// Pixels of its masks, and the predicted Dice summed over them.
    area: (f64, f64),
}

impl Fused {
    fn new(voxels: usize) -> Self {
        Self {
            sum: vec![0.0; voxels],
            weight: vec![0.0; voxels],
            area: (0.0, 0.0),
        }
    }

    /// Adds the logits of a slice by how good they are predicted to be.
    fn add(&mut self, places: impl Iterator<Item = usize>, logits: &[f32], iou: f32) {
        let iou = iou.clamp(0.0, 1.0);
        let weight = iou + LEAST_WEIGHT;
        let mut area = 0_u32;
        for (place, logit) in places.zip(logits) {
            self.sum[place] += weight * logit.clamp(-LIMIT, LIMIT);
            self.weight[place] += weight;
            area += u32::from(*logit > 0.0);
        }
        let dice = 2.0 * iou / (1.0 + iou);
        self.area.0 += f64::from(area);
        self.area.1 += f64::from(area) * f64::from(dice);
    }

    /// Mean logits; nothing is there where no slice was looked at.
    pub(super) fn logits(&self) -> Vec<f32> {
        let mean = |(sum, weight): (&f32, &f32)| match *weight > 0.0 {
            true => sum / weight,
            false => f32::NEG_INFINITY,
        };
        self.sum.iter().zip(&self.weight).map(mean).collect()
    }

    /// The predicted Dice, averaged over slices by mask area; none where nothing was found.
    pub(super) fn quality(&self) -> Option<f32> {
        let (area, dice) = self.area;
        (area > 0.0).then(|| (dice / area) as f32)
    }
}

impl ZeusSamSegmenter {
    /// The masks of some targets, the first of which is the `first` of all, in all slices.
    #[expect(
        clippy::too_many_arguments,
        reason = "what was encoded, and how it is put together"
    )]
    pub(super) fn fuse(
        &self,
        targets: &[Target],
        first: usize,
        tokens: &[Vec<Tensor>],
        views: &[View],
        seen: &[Seen],
        shape: [usize; 3],
        progress: &mut dyn FnMut(f64),
    ) -> Result<Vec<Fused>> {
        let voxels = shape.iter().product();
        let mut all: Vec<Fused> = targets.iter().map(|_| Fused::new(voxels)).collect();
        let (mut running, slices): (Option<(Reading, &Seen)>, _) = (None, seen.len());
        for (n, next) in seen.iter().map(Some).chain([None]).enumerate() {
            let begun = match next {
                Some(seen) => {
                    let rec = self.gpu.record("mask decoder");
                    let mut results = Vec::new();
                    for (image, tokens) in seen.images.iter().zip(tokens) {
                        let some = gather_rows(&rec, &tokens[seen.view], targets.len(), first, 1);
                        let masks = self.model.decode(&rec, image, &some, |_, _| ())?;
                        let [prompts, each, rows, cols] = masks.low_res.dims();
                        // The one mask; the others are for prompts that may mean several things.
                        let low_res = masks.low_res.reshape([prompts * each, rows * cols]);
                        results.push(gather_rows(&rec, &low_res, prompts, 0, each));
                        results.push(masks.iou);
                    }
                    let wanted: Vec<(&dyn Bind, usize)> = results
                        .iter()
                        .map(|tensor| (tensor as &dyn Bind, tensor.len()))
                        .collect();
                    Some((rec.begin_read(&wanted)?, seen))
                }
                None => None,
            };
            // While masks are brought to their slice here, the adapter draws the next.
            let Some((reading, seen)) = std::mem::replace(&mut running, begun) else {
                continue;
            };
            let view = views[seen.view];
            let side = self.model.config().low_res();
            let read = reading.finish::<f32>()?;
            for masks in read.chunks_exact(2) {
                let width = masks[1].len() / targets.len();
                all.par_iter_mut()
                    .zip(targets)
                    .enumerate()
                    .for_each(|(n, (fused, target))| {
                        if shows(view, seen.slice, shape, target.side) {
                            let low_res = &masks[0][n * side * side..][..side * side];
                            let logits = seen.picture.logits(low_res, side);
                            let places = view.indices(shape, seen.slice);
                            fused.add(places, &logits, masks[1][n * width]);
                        }
                    });
            }
            progress(n as f64 / slices as f64);
        }
        Ok(all)
    }
}

/// Whether a slice speaks for a target of a side: a sagittal one does not show its side, and speaks for its own half alone.
fn shows(view: View, slice: usize, shape: [usize; 3], side: Option<Side>) -> bool {
    let slices = shape[View::Sagittal.axis()];
    match (view, side) {
        (View::Sagittal, Some(Side::Left)) => slice < slices.div_ceil(2),
        (View::Sagittal, Some(Side::Right)) => slice >= slices / 2,
        _ => true,
    }
}
