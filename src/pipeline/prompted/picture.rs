//! A slice as SAM takes it, and a mask as the slice has it.

use super::spline;
use crate::models::sam::Prompt;
use crate::pipeline::describe::resample::{Filter, resize};
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::{Slice, percentile};
use crate::pipeline::threshold::sigmoid;
use crate::pipeline::volume::Volume;

/// ImageNet's means and deviations of red, green and blue.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];
/// The Hounsfield units between which CT is shown: a window of 400 about 40, for soft tissue.
const SOFT_TISSUE: [f32; 2] = [-160.0, 240.0];

/// What a model was trained to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preprocessing {
    /// SAM's: the longer side fills the square, ImageNet's normalisation, zeros below or to the right.
    Sam,
    /// MedSAM's: both sides fill the square, grey levels from 0 to 1.
    MedSam,
}

/// A slice, ready for the image encoder, and how it lies in the square.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Red, green, blue and nothing of each pixel of the square, row by row.
    pub pixels: Vec<f32>,
    preprocessing: Preprocessing,
    /// Rows and columns of the square.
    size: usize,
    /// Rows and columns of the square that the slice covers.
    covered: [usize; 2],
    /// Rows and columns of the slice.
    shape: [usize; 2],
}

impl Picture {
    /// Grey levels in a square of `size` pixels a side.
    pub fn new(slice: &Slice<u8>, size: usize, preprocessing: Preprocessing) -> Self {
        let shape = [slice.rows, slice.cols];
        let mut pixels = vec![0.0; 4 * size * size];
        let covered = match preprocessing {
            Preprocessing::Sam => {
                let scale = size as f64 / slice.rows.max(slice.cols) as f64;
                shape.map(|n| ((n as f64 * scale + 0.5) as usize).max(1))
            }
            Preprocessing::MedSam => [size; 2],
        };
        let [rows, cols] = covered;
        match preprocessing {
            Preprocessing::Sam => {
                let resized = resize(slice, covered, Filter::Bilinear);
                // Products in double precision, then f32, as transformers computes them.
                let level = |level: u8| (f64::from(level) * (1.0 / 255.0)) as f32;
                for (row, line) in resized.data.chunks_exact(cols).enumerate() {
                    let to = pixels[4 * row * size..].chunks_exact_mut(4);
                    for (pixel, grey) in to.zip(line) {
                        for colour in 0..3 {
                            pixel[colour] = (level(*grey) - MEAN[colour]) / STD[colour];
                        }
                    }
                }
            }
            Preprocessing::MedSam => {
                let resized = spline::resize(slice, covered);
                let bounds = resized.data.iter().fold([u8::MAX, 0], |[low, high], grey| {
                    [low.min(*grey), high.max(*grey)]
                });
                let [low, high] = bounds.map(f32::from);
                let width = (high - low).max(1e-8);
                for (pixel, grey) in pixels.chunks_exact_mut(4).zip(&resized.data) {
                    pixel[..3].fill((f32::from(*grey) - low) / width);
                }
            }
        }
        debug_assert!(rows <= size && cols <= size);
        Self {
            pixels,
            preprocessing,
            size,
            covered,
            shape,
        }
    }

    /// A prompt in pixels of the slice, in pixels of the square.
    pub fn scaled(&self, prompt: &Prompt) -> Prompt {
        let [down, across] = [0, 1].map(|axis| self.covered[axis] as f64 / self.shape[axis] as f64);
        let scaled = |[column, line]: [f32; 2]| {
            [
                (f64::from(column) * across) as f32,
                (f64::from(line) * down) as f32,
            ]
        };
        let points = prompt.points.iter();
        Prompt {
            points: points.map(|(at, inside)| (scaled(*at), *inside)).collect(),
            corners: prompt.corners.map(|corners| corners.map(scaled)),
        }
    }

    /// A mask's logits `[low_res, low_res]` on the slice, bilinearly, by way of the square for SAM.
    pub fn logits(&self, logits: &[f32], low_res: usize) -> Vec<f32> {
        match self.preprocessing {
            Preprocessing::Sam => self.restored(logits, low_res),
            Preprocessing::MedSam => stretched(logits, [low_res; 2], self.shape),
        }
    }

    /// Takes the pixels away: what is left knows how the slice lies in the square.
    pub(in crate::pipeline) fn take_pixels(&mut self) -> Vec<f32> {
        std::mem::take(&mut self.pixels)
    }

    /// A mask's logits `[low_res, low_res]` on the slice: above 0 in the object. As the two models' own programs have it, by
    /// way of the square for SAM, as probabilities for MedSAM (less a half).
    pub fn restored(&self, logits: &[f32], low_res: usize) -> Vec<f32> {
        match self.preprocessing {
            Preprocessing::Sam => {
                let square = stretched(logits, [low_res; 2], [self.size; 2]);
                let [rows, cols] = self.covered;
                let lines = square.chunks_exact(self.size).take(rows);
                let covered: Vec<f32> = lines.flat_map(|line| &line[..cols]).copied().collect();
                stretched(&covered, self.covered, self.shape)
            }
            Preprocessing::MedSam => {
                let shares: Vec<f32> = logits.iter().map(|logit| sigmoid(*logit)).collect();
                let mut slice = stretched(&shares, [low_res; 2], self.shape);
                slice.iter_mut().for_each(|share| *share -= 0.5);
                slice
            }
        }
    }
}

/// A picture of `from` rows and columns in `to`, bilinearly, as PyTorch does without `align_corners`.
pub(in crate::pipeline) fn stretched(x: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    // The pixel before, the one after, and the share of that.
    let places = |axis: usize| -> Vec<(usize, usize, f32)> {
        let (count, last) = (to[axis], from[axis] - 1);
        let step = from[axis] as f32 / count as f32;
        let place = |n: usize| {
            let at = (step * (n as f32 + 0.5) - 0.5).max(0.0);
            let low = (at as usize).min(last);
            (low, (low + 1).min(last), at - low as f32)
        };
        (0..count).map(place).collect()
    };
    let (down, across) = (places(0), places(1));
    let mut y = Vec::with_capacity(to[0] * to[1]);
    for (above, below, low) in down {
        let [above, below] = [above, below].map(|row| &x[row * from[1]..][..from[1]]);
        y.extend(across.iter().map(|(left, right, far)| {
            let between = |row: &[f32]| (1.0 - far) * row[*left] + far * row[*right];
            (1.0 - low) * between(above) + low * between(below)
        }));
    }
    y
}

/// A volume's intensities as grey levels, as MedSAM's own preparation makes them: CT from -160 to 240 Hounsfield units, others
/// from the 0.5th to the 99.5th percentile of what is above 0, and 0 where they are 0.
pub fn levels(volume: &Volume, modality: Modality) -> Vec<u8> {
    levels_of(&volume.data, modality)
}

/// The same of intensities on whichever grid.
pub(in crate::pipeline) fn levels_of(data: &[f32], modality: Modality) -> Vec<u8> {
    let [low, high] = match modality {
        Modality::Ct => SOFT_TISSUE,
        _ => {
            let mut values: Vec<f32> = data.iter().copied().filter(|v| *v > 0.0).collect();
            if values.is_empty() {
                values.extend(data);
            }
            let low = percentile(&mut values, 0.5).unwrap_or(0.0);
            [low, percentile(&mut values, 99.5).unwrap_or(0.0)]
        }
    };
    let width = high - low;
    let level = |value: &f32| {
        if width <= 0.0 || (*value == 0.0 && modality != Modality::Ct) {
            return 0;
        }
        // A cast cuts, as numpy's does.
        ((value.clamp(low, high) - low) / width * 255.0) as u8
    };
    data.iter().map(level).collect()
}
