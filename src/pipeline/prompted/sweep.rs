//! An object followed from the slice that shows it to its neighbours, upwards and then downwards.

use std::collections::BTreeMap;

use super::picture::{Picture, Preprocessing};
use super::places::Placed;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::sam::{Prompt, Sam};
use crate::pipeline::Observer;
use crate::pipeline::prepare::View;
use crate::tensor::Tensor;

/// How much larger than the mask before a box is at each side, as a share of its width or height; a pixel at least.
pub const MARGIN: f32 = 0.05;
/// The predicted IoU below which an object is followed no farther.
pub const LEAST_IOU: f32 = 0.5;

/// A mask of a slice.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Above 0 in the object, a value for each pixel.
    pub values: Vec<f32>,
    pub iou: f32,
    pub pixels: usize,
    /// Columns and rows of its first and last pixels.
    corners: [[f32; 2]; 2],
}

/// An object in all slices in which it was found.
#[derive(Debug)]
pub(super) struct Object {
    pub slices: BTreeMap<usize, Found>,
    /// Why it ends, below and above.
    pub ended: [&'static str; 2],
}

/// What all slices have in common.
pub(super) struct Sweep<'a> {
    gpu: &'a Gpu,
    sam: &'a Sam,
    preprocessing: Preprocessing,
    /// Grey levels in canonical axes.
    levels: &'a [u8],
    shape: [usize; 3],
    view: View,
    reach: usize,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        gpu: &'a Gpu,
        sam: &'a Sam,
        preprocessing: Preprocessing,
        levels: &'a [u8],
        shape: [usize; 3],
        view: View,
        reach: Option<usize>,
    ) -> Self {
        Self {
            gpu,
            sam,
            preprocessing,
            levels,
            shape,
            view,
            reach: reach.unwrap_or(usize::MAX),
        }
    }

    /// Follows all objects. A slice is encoded once for all that are looked for in it.
    pub(super) fn run(
        &mut self,
        placed: &[Placed],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Object>> {
        let count = self.shape[self.view.axis()];
        let mut objects: Vec<Object> = placed
            .iter()
            .map(|_| Object {
                slices: BTreeMap::new(),
                ended: ["", ""],
            })
            .collect();
        let first = placed.iter().map(|p| p.slice).min().unwrap_or(0);
        let last = placed.iter().map(|p| p.slice).max().unwrap_or(0);
        for slice in first..count {
            self.step(placed, &mut objects, slice, true)?;
            let open = |(p, o): (&Placed, &Object)| p.slice > slice || o.ended[1].is_empty();
            observer.progress("following upwards", share(slice - first, count - first));
            if !placed.iter().zip(&objects).any(open) {
                break;
            }
        }
        close(&mut objects, 1);
        for slice in (0..last).rev() {
            self.step(placed, &mut objects, slice, false)?;
            let open = |(p, o): (&Placed, &Object)| p.slice < slice || o.ended[0].is_empty();
            observer.progress("following downwards", share(last - slice, last));
            if !placed.iter().zip(&objects).any(open) {
                break;
            }
        }
        close(&mut objects, 0);
        Ok(objects)
    }

    /// Looks for the objects of one slice: those that it shows, on the way up, and those of the slice before.
    fn step(
        &self,
        placed: &[Placed],
        objects: &mut [Object],
        slice: usize,
        up: bool,
    ) -> Result<()> {
        let end = usize::from(up);
        let mut wanted: Vec<(usize, Prompt)> = Vec::new();
        for (n, (placed, object)) in placed.iter().zip(objects.iter_mut()).enumerate() {
            let passed = match up {
                true => slice < placed.slice,
                false => slice >= placed.slice,
            };
            if passed || !object.ended[end].is_empty() {
                continue;
            }
            if slice == placed.slice {
                wanted.push((n, placed.prompt.clone()));
                continue;
            }
            let before = if up { slice - 1 } else { slice + 1 };
            match object.slices.get(&before) {
                _ if slice.abs_diff(placed.slice) > self.reach => {
                    object.ended[end] = "as far as was asked";
                }
                Some(found) => wanted.push((n, Prompt::corners(self.grown(found.corners)))),
                None => object.ended[end] = "the mask is empty",
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let slice_levels = self.view.slice(self.levels, self.shape, slice);
        let size = self.sam.config().image_size;
        let picture = Picture::new(&slice_levels, size, self.preprocessing);
        let image = self.encode(&picture)?;
        for (n, prompt) in wanted {
            let shown = slice == placed[n].slice;
            let object = &mut objects[n];
            match self.decode(&picture, &image, &prompt, slice_levels.cols)? {
                None => object.ended[end] = "the mask is empty",
                Some(found) if !shown && found.iou < LEAST_IOU => {
                    object.ended[end] = "the predicted IoU is too low";
                }
                Some(found) => drop(object.slices.insert(slice, found)),
            }
        }
        Ok(())
    }

    fn encode(&self, picture: &Picture) -> Result<Tensor> {
        let size = self.sam.config().image_size;
        let pixels = &picture.pixels;
        let pixels = Tensor::upload(self.gpu, "slice", [1, size, size, 4], pixels)?;
        let rec = self.gpu.record("SAM's image encoder");
        let image = self.sam.encode(&rec, &pixels, |_, _| ());
        rec.submit()?;
        Ok(image)
    }

    /// The mask of a prompt; nothing if it is empty. A point alone may mean several things: of the masks to choose from it is
    /// the one that the model believes in most.
    fn decode(
        &self,
        picture: &Picture,
        image: &Tensor,
        prompt: &Prompt,
        cols: usize,
    ) -> Result<Option<Found>> {
        let prompts = [picture.scaled(prompt)];
        let rec = self.gpu.record("SAM's mask decoder");
        let masks = self.sam.decode(&rec, image, &prompts, None, |_, _| ())?;
        let (low_res, iou) = (&masks.low_res, &masks.iou);
        let values = rec.read::<f32>(&[(low_res, low_res.len()), (iou, iou.len())])?;
        let [_, count, side, _] = low_res.dims();
        let ious = &values[1][..count];
        let chosen = match (prompt.points.len(), prompt.corners) {
            (1, None) => (1..count).max_by(|a, b| ious[*a].total_cmp(&ious[*b])),
            _ => None,
        };
        let chosen = chosen.unwrap_or(0);
        let logits = &values[0][chosen * side * side..][..side * side];
        if logits.iter().chain(ious).any(|v| v.is_nan()) {
            let problem = "a mask's values are no numbers; `keraunos doctor` checks the adapter";
            return Err(Error::Gpu(problem.into()));
        }
        let values = picture.restored(logits, side);
        let mut low = [f32::INFINITY; 2];
        let mut high = [f32::NEG_INFINITY; 2];
        let mut pixels = 0;
        for (at, _) in values.iter().enumerate().filter(|(_, v)| **v > 0.0) {
            pixels += 1;
            for (axis, place) in [at % cols, at / cols].into_iter().enumerate() {
                low[axis] = low[axis].min(place as f32);
                high[axis] = high[axis].max(place as f32);
            }
        }
        Ok((pixels > 0).then_some(Found {
            values,
            iou: ious[chosen],
            pixels,
            corners: [low, high],
        }))
    }

    /// A mask's box with a margin, within the slice.
    fn grown(&self, [low, high]: [[f32; 2]; 2]) -> [[f32; 2]; 2] {
        let (down, across) = self.view.plane();
        let last = [across, down].map(|axis| (self.shape[axis] - 1) as f32);
        let margin = [0, 1].map(|axis| (MARGIN * (high[axis] - low[axis])).max(1.0));
        [
            [0, 1].map(|axis| (low[axis] - margin[axis]).max(0.0)),
            [0, 1].map(|axis| (high[axis] + margin[axis]).min(last[axis])),
        ]
    }
}

/// Those that nothing ended were followed to the volume's end.
fn close(objects: &mut [Object], end: usize) {
    for object in objects {
        if object.ended[end].is_empty() {
            object.ended[end] = "the volume ends";
        }
    }
}

fn share(done: usize, all: usize) -> f64 {
    done as f64 / all.max(1) as f64
}
