//! The slices of all views as the image encoders see them.

use crate::error::Result;
use crate::pipeline::Observer;
use crate::pipeline::modality::Modality;
use crate::pipeline::prompted::Picture;
use crate::pipeline::request::{Fusion, Request};
use crate::pipeline::zeus_sam::{COLOURS, ZeusSamSegmenter};
use crate::tensor::Tensor;

/// What the decoder reads of a slice that shows something.
pub(super) struct Seen {
    /// Which of the views.
    pub(super) view: usize,
    pub(super) slice: usize,
    /// How it lies in the square.
    pub(super) picture: Picture,
    /// Image tokens, of each modality or of all of them.
    pub(super) images: Vec<Tensor>,
}

impl ZeusSamSegmenter {
    /// Image tokens of every slice that shows something in any modality.
    pub(super) fn encode(
        &self,
        request: &Request,
        modalities: &[Modality],
        levels: &[Vec<u8>],
        shape: [usize; 3],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Seen>> {
        let all: usize = request.views.iter().map(|view| shape[view.axis()]).sum();
        let size = self.model.config().image_size;
        let (mut seen, mut running, mut done) = (Vec::new(), None, 0);
        for (n, view) in request.views.iter().enumerate() {
            for slice in 0..shape[view.axis()] {
                done += 1;
                observer.progress("encoding slices", done as f64 / all as f64);
                let slices = levels.iter().map(|levels| view.slice(levels, shape, slice));
                let slices: Vec<_> = slices.collect();
                let is_blank = |data: &[u8]| data.iter().all(|grey| *grey == data[0]);
                if slices.iter().all(|slice| is_blank(&slice.data)) {
                    continue;
                }
                let pictures = slices
                    .iter()
                    .map(|slice| Picture::new(slice, size, self.preprocessing));
                let mut pictures: Vec<Picture> = pictures.collect();
                let mut inputs: Vec<Vec<f32>> =
                    pictures.iter_mut().map(Picture::take_pixels).collect();
                if request.fusion == Fusion::Early {
                    inputs = vec![coloured(&inputs)];
                }
                let rec = self.gpu.record("image encoder");
                let mut images = Vec::new();
                for (pixels, modality) in inputs.iter().zip(modalities) {
                    // Every input was asked for when it was read.
                    let encoder = self.encoders.of(*modality).unwrap_or(0);
                    let pixels = Tensor::upload(&self.gpu, "slice", [1, size, size, 4], pixels)?;
                    images.push(self.model.encode(&rec, encoder, &pixels));
                }
                if request.fusion == Fusion::Hybrid {
                    images = vec![self.model.mean(&rec, &images)];
                }
                // Two in flight: the next is cut while the adapter works.
                if let Some(last) = running.replace(rec.submit()?) {
                    self.gpu.wait_for(&last)?;
                }
                seen.push(Seen {
                    view: n,
                    slice,
                    picture: pictures.swap_remove(0),
                    images,
                });
            }
        }
        Ok(seen)
    }
}

/// Several modalities as the colours of one picture; colours beyond them begin again with the first.
fn coloured(pictures: &[Vec<f32>]) -> Vec<f32> {
    let mut all = pictures[0].clone();
    for (n, pixel) in all.chunks_exact_mut(4).enumerate() {
        for (colour, value) in pixel.iter_mut().take(COLOURS).enumerate() {
            *value = pictures[colour % pictures.len()][4 * n + colour];
        }
    }
    all
}
