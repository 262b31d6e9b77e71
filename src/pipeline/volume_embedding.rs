//! A volume, encoded once: everything that prompts need of it stays on the adapter.
//!
//! For each slice of each view the decoder's image tokens are kept, and the upscaled pixels as f16. A
//! prompt then costs three tokens and a dot product per pixel, and its masks are fused into one
//! volume: late fusion of views and modalities, weighted by the predicted Dice (Zeus, section 3.4).

use std::ops::Range;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::gpu::{Bind, Gpu, Reading, Submission};
use crate::models::image_encoder::ImageEmbedding;
use crate::models::zeus::Zeus;
use crate::ops::{MOST_MASKS, Placement, add_scaled, copy_rows, fuse_view, pack_half, slice_masks};
use crate::pipeline::prepare::{Prepared, View};
use crate::pipeline::structures::Side;
use crate::tensor::Tensor;

/// Slices kept in one tensor: 26 MB of pixels for the default model, under any binding limit.
const CHUNK: usize = 32;
/// Logits beyond this are as good as certain; fusion must not let one slice outweigh the rest.
const LIMIT: f32 = 10.0;

/// Some slices of a view.
struct Chunk {
    slices: usize,
    /// `[slices, grid, grid, prompt_dim]`.
    neck: Tensor,
    /// `[slices, low_res², channels]` as f16, two a word.
    pixels: Tensor,
}

/// One view of one modality, or of several that were fused before.
struct EncodedView {
    view: View,
    slices: usize,
    chunks: Vec<Chunk>,
}

/// What the prompts say of one view.
struct DecodedView {
    /// Per chunk `[slices, prompts, channels + 1 padded]`.
    hyper: Vec<Tensor>,
    /// `[all slices, prompts, 4]`.
    quality: Tensor,
    /// Its first column, `[slices][prompts]`.
    predicted: Vec<f32>,
}

impl DecodedView {
    /// The quality of some slices alone.
    fn part(&self, gpu: &Gpu, prompts: usize, slices: Range<usize>) -> Result<Tensor> {
        let rows = &self.predicted[slices.start * prompts..slices.end * prompts];
        let rows: Vec<f32> = rows
            .iter()
            .flat_map(|dice| [*dice, 0.0, 0.0, 0.0])
            .collect();
        Tensor::upload(gpu, "quality", [slices.len(), prompts, 4], &rows)
    }
}

/// How slices are taken from a volume.
#[derive(Clone, Debug)]
pub struct Slicing {
    /// The views.
    pub views: Vec<View>,
    /// Voxels from slice to slice; more than 1 only for a single view.
    pub step: usize,
}

/// The encoded slices of one image: a modality, or several fused early or as embeddings.
pub struct VolumeEmbedding {
    shape: [usize; 3],
    slicing: Slicing,
    views: Vec<EncodedView>,
}

/// Prompts decoded on all slices of an embedding.
pub struct Prompts {
    views: Vec<DecodedView>,
    count: usize,
}

/// One prompt's fused mask.
pub struct FusedMask {
    /// Mean logits, first axis fastest, on the volume's prepared grid.
    pub logits: Vec<f32>,
    /// The predicted Dice, averaged over slices by mask area; none where nothing was found.
    pub quality: Option<f32>,
}

impl VolumeEmbedding {
    /// Encodes the slices of `images`, volumes on one prepared grid: one modality, or several that are
    /// fused here: as channels where the model has them (`early`), else by averaging their
    /// embeddings (hybrid). `progress` is called with the slices done.
    ///
    /// # Errors
    /// Channels that do not fit the model, an adapter that fails, no memory.
    pub fn new(
        gpu: &Gpu,
        zeus: &Zeus,
        images: &[Prepared],
        slicing: &Slicing,
        early: bool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        let channels = zeus.config().channels;
        if early && channels != images.len() {
            let problem = format!(
                "early fusion of {} modalities; these weights take {channels}",
                images.len()
            );
            return Err(Error::Argument(problem));
        }
        let mut views = Vec::new();
        let mut done = 0;
        for view in &slicing.views {
            views.push(EncodedView::new(
                gpu,
                zeus,
                images,
                *view,
                slicing.step,
                early,
                &mut |slices| {
                    done += slices;
                    progress(done);
                },
            )?);
        }
        Ok(Self {
            shape: images[0].grid.shape,
            slicing: slicing.clone(),
            views,
        })
    }

    /// The number of slices that [`VolumeEmbedding::new`] will encode.
    pub fn slices(image: &Prepared, slicing: &Slicing) -> usize {
        slicing
            .views
            .iter()
            .map(|view| image.slices(*view).div_ceil(slicing.step))
            .sum()
    }

    /// Decodes prompts on all slices: per view `[prompts, prompt_dim]` prompt tokens.
    ///
    /// # Errors
    /// An adapter that fails, no memory.
    pub fn decode(&self, gpu: &Gpu, zeus: &Zeus, texts: &[Tensor]) -> Result<Prompts> {
        let count = texts[0].matrix()[0];
        let views = self
            .views
            .iter()
            .zip(texts)
            .map(|(view, text)| view.decode(gpu, zeus, text))
            .collect::<Result<_>>()?;
        Ok(Prompts { views, count })
    }
}

impl EncodedView {
    fn new(
        gpu: &Gpu,
        zeus: &Zeus,
        images: &[Prepared],
        view: View,
        step: usize,
        early: bool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Self> {
        let config = zeus.config();
        let size = config.image_size;
        let pixels = config.low_res * config.low_res;
        let words = pixels * config.up_dims[2] / 2;
        let tokens = config.grid * config.grid;
        let slices = images[0].slices(view).div_ceil(step);
        // A CPU adapter is filled by one slice; a GPU wants several.
        let batch = if gpu.is_cpu() { 1 } else { 8 };
        let mut running: Option<Submission> = None;
        let mut chunks = Vec::new();
        for first in (0..slices).step_by(CHUNK) {
            let count = CHUNK.min(slices - first);
            let chunk = Chunk {
                slices: count,
                neck: Tensor::zeros(
                    gpu,
                    "image tokens",
                    [count, config.grid, config.grid, config.prompt_dim],
                )?,
                pixels: Tensor::zeros(gpu, "pixels", [count, words])?,
            };
            for start in (0..count).step_by(batch) {
                let part = batch.min(count - start);
                let indices: Vec<usize> = (0..part).map(|n| (first + start + n) * step).collect();
                // While the adapter works on the last slices, these are cut, scaled and recorded.
                let inputs = inputs(images, view, &indices, size, early);
                let rec = gpu.record("encode slices");
                let mut fused: Option<ImageEmbedding> = None;
                for (n, input) in inputs.iter().enumerate() {
                    let image = Tensor::upload(gpu, "slices", [part, size, size, 4], input)?;
                    let embedding = zeus.encode(&rec, &image, |_, _| ());
                    fused = Some(match fused {
                        None => embedding,
                        Some(sum) => {
                            let scale = if n + 1 == inputs.len() {
                                1.0 / inputs.len() as f32
                            } else {
                                1.0
                            };
                            let mean = |a: &Tensor, b: &Tensor| add_scaled(&rec, a, b, scale);
                            ImageEmbedding {
                                neck: mean(&sum.neck, &embedding.neck),
                                skips: [0, 1, 2].map(|s| mean(&sum.skips[s], &embedding.skips[s])),
                            }
                        }
                    });
                }
                let Some(embedding) = fused else {
                    return Err(Error::Argument("no image to encode".into()));
                };
                let upscaled = zeus.upscale(&rec, &embedding, |_, _| ());
                pack_half(&rec, &upscaled, &chunk.pixels, start * words);
                copy_rows(
                    &rec,
                    &embedding.neck,
                    &chunk.neck,
                    part * tokens,
                    start * tokens,
                    1,
                );
                let submitted = rec.submit()?;
                // It has the next to go on with; more ahead of it would only hold memory.
                if let Some(last) = running.replace(submitted) {
                    gpu.wait_for(&last)?;
                }
                progress(part);
            }
            chunks.push(chunk);
        }
        gpu.wait()?;
        Ok(Self {
            view,
            slices,
            chunks,
        })
    }

    fn decode(&self, gpu: &Gpu, zeus: &Zeus, text: &Tensor) -> Result<DecodedView> {
        let prompts = text.matrix()[0];
        let quality = Tensor::zeros(gpu, "quality", [self.slices, prompts, 4])?;
        let mut hyper = Vec::new();
        let mut first = 0;
        for chunk in &self.chunks {
            let rec = gpu.record("decode prompts");
            let decoded = zeus.decode(&rec, &chunk.neck, text, |_, _| ());
            copy_rows(
                &rec,
                &decoded.quality,
                &quality,
                chunk.slices * prompts,
                first * prompts,
                1,
            );
            rec.submit()?;
            hyper.push(decoded.hyper);
            first += chunk.slices;
        }
        let rows = quality.read(gpu.record("quality"))?;
        Ok(DecodedView {
            hyper,
            quality,
            predicted: rows.chunks_exact(4).map(|row| row[0]).collect(),
        })
    }
}

/// Slices as the encoder takes them, four values a pixel: one picture of all modalities (early), or one
/// for each.
fn inputs(
    images: &[Prepared],
    view: View,
    indices: &[usize],
    size: usize,
    early: bool,
) -> Vec<Vec<f32>> {
    let pictures = if early { 1 } else { images.len() };
    let mut inputs = vec![vec![0.0; indices.len() * size * size * 4]; pictures];
    for (n, index) in indices.iter().enumerate() {
        for (m, image) in images.iter().enumerate() {
            let (picture, channel) = if early { (0, m) } else { (m, 0) };
            let pixels = inputs[picture][n * size * size * 4..].chunks_exact_mut(4);
            pixels
                .zip(image.input(view, *index))
                .for_each(|(pixel, value)| pixel[channel] = value);
        }
    }
    inputs
}

/// Masks that the adapter is fusing.
#[must_use = "masks are read by `finish`"]
pub struct Fusing<'a> {
    reading: Reading<'a>,
    /// How many masks there are, each in the same parts.
    masks: usize,
    decoded: &'a [(&'a VolumeEmbedding, &'a Prompts)],
    /// The shape of what is fused: with a step one layer for each slice, to be filled in afterwards.
    coarse: [usize; 3],
    first_prompt: usize,
}

impl Fusing<'_> {
    /// Waits for the masks, and for nothing that was submitted later.
    ///
    /// # Errors
    /// An adapter that fails.
    pub fn finish(self) -> Result<Vec<FusedMask>> {
        // Part by part, each of them for every mask: z runs slowest, so parts follow one another.
        let parts = self.reading.finish::<f32>()?;
        let mut fused = vec![Vec::new(); self.masks];
        for (n, part) in parts.into_iter().enumerate() {
            match &mut fused[n % self.masks] {
                whole if whole.is_empty() => *whole = part,
                whole => whole.extend(part),
            }
        }
        let (embedding, _) = self.decoded[0];
        let (shape, slicing, coarse) = (embedding.shape, &embedding.slicing, self.coarse);
        let finish = |(mask, logits): (usize, Vec<f32>)| {
            let quality = quality(&logits, coarse, self.decoded, self.first_prompt + mask);
            let logits = match slicing.step > 1 {
                true => {
                    let axis = slicing.views[0].axis();
                    fill(&logits, coarse, shape, axis, slicing.step)
                }
                false => logits,
            };
            FusedMask { logits, quality }
        };
        Ok(fused.into_iter().enumerate().map(finish).collect())
    }
}

/// Begins to fuse the masks of neighbouring prompts, each with the side of its target, over the views of one or several
/// embeddings, each decoded. At most [`masks_at_once`] of them.
///
/// A sagittal slice does not show its side: for a target with a `side` it speaks for its own half of the
/// volume only.
///
/// # Errors
/// An adapter that fails, no memory.
pub fn fuse<'a>(
    gpu: &'a Gpu,
    zeus: &Zeus,
    decoded: &'a [(&'a VolumeEmbedding, &'a Prompts)],
    first_prompt: usize,
    sides: &[Option<Side>],
) -> Result<Fusing<'a>> {
    let (embedding, _) = decoded[0];
    let ([nx, ny, nz], slicing) = (embedding.shape, &embedding.slicing);
    let wanted = first_prompt..first_prompt + sides.len();
    let mut coarse = [nx, ny, nz];
    if slicing.step > 1 {
        let axis = slicing.views[0].axis();
        coarse[axis] = coarse[axis].div_ceil(slicing.step);
    }
    let [cx, cy, cz] = coarse;
    let size = zeus.config().low_res;
    let rec = gpu.record("fuse masks");
    let parts = parts(gpu, coarse);
    let sums: Vec<Vec<(Tensor, Tensor)>> = parts
        .iter()
        .map(|part| {
            let empty = || Tensor::empty(&rec, [part.len(), cy, cx]);
            sides.iter().map(|_| (empty(), empty())).collect()
        })
        .collect();
    let last = decoded.len() * slicing.views.len() - 1;
    let mut n = 0;
    for (embedding, prompts) in decoded {
        assert!(
            wanted.end <= prompts.count,
            "{wanted:?} of {} prompts",
            prompts.count
        );
        for (view, said) in embedding.views.iter().zip(&prompts.views) {
            let is_axial = view.view == View::Axial;
            let mut masks = None;
            for (part, sums) in parts.iter().zip(&sums) {
                // The axial slices of this part alone; of the other views all are in every part.
                let slices = match is_axial {
                    true => part.clone(),
                    false => 0..view.slices,
                };
                if masks.is_none() || is_axial {
                    let chunks = slices.start / CHUNK..slices.end.div_ceil(CHUNK);
                    let made = Tensor::empty(&rec, [sides.len(), slices.len(), size, size]);
                    let flat = made.reshape([sides.len(), slices.len(), size * size]);
                    let channels = zeus.config().up_dims[2];
                    let mut first = 0;
                    for (chunk, hyper) in
                        view.chunks[chunks.clone()].iter().zip(&said.hyper[chunks])
                    {
                        let pixels = &chunk.pixels;
                        slice_masks(&rec, hyper, pixels, channels, wanted.clone(), &flat, first);
                        first += chunk.slices;
                    }
                    masks = Some(made);
                }
                let Some(masks) = &masks else { continue };
                let own = match slices.len() == view.slices {
                    true => None,
                    false => Some(said.part(gpu, prompts.count, slices.clone())?),
                };
                let quality = own.as_ref().unwrap_or(&said.quality);
                for (mask, (side, (sum, weight))) in sides.iter().zip(sums).enumerate() {
                    let window = zeus.config().image_size;
                    let mut place = placement(view.view, [nx, ny, nz], slices.len(), window, *side);
                    if !is_axial {
                        // Rows run down the volume: what lies above the part is not in it.
                        place.row_offset += (cz - part.end) as i32;
                    }
                    fuse_view(
                        &rec,
                        (masks, mask),
                        (quality, first_prompt + mask),
                        &place,
                        LIMIT,
                        (sum, weight),
                        (n == 0, n == last),
                    );
                }
            }
            n += 1;
        }
    }
    let of_each: Vec<(&dyn Bind, usize)> = sums
        .iter()
        .flatten()
        .map(|(sum, _)| (sum as &dyn Bind, sum.len()))
        .collect();
    Ok(Fusing {
        reading: rec.begin_read(&of_each)?,
        masks: sides.len(),
        decoded,
        coarse,
        first_prompt,
    })
}

/// The layers of a volume `[x, y, z]`, in parts that fit into one binding each. They begin where chunks of axial slices
/// do.
fn parts(gpu: &Gpu, [cx, cy, cz]: [usize; 3]) -> Vec<Range<usize>> {
    let fitting = gpu.max_binding_bytes() / (4 * cx * cy).max(1) as u64;
    if fitting >= cz as u64 {
        return std::iter::once(0..cz).collect();
    }
    // A chunk that does not fit is refused where it is made.
    let layers = (fitting as usize / CHUNK * CHUNK).max(CHUNK);
    let starts = (0..cz).step_by(layers);
    starts.map(|z| z..(z + layers).min(cz)).collect()
}

/// How many prompts [`fuse`] may take together: as many as the kernel, if their masks fit into one binding.
pub fn masks_at_once(gpu: &Gpu, zeus: &Zeus, embeddings: &[VolumeEmbedding]) -> usize {
    let views = embeddings.iter().flat_map(|embedding| &embedding.views);
    let slices = views.map(|view| view.slices).max().unwrap_or(1);
    let bytes = (slices * zeus.config().low_res * zeus.config().low_res * 4) as u64;
    (gpu.max_binding_bytes() / bytes.max(1)).clamp(1, MOST_MASKS as u64) as usize
}

/// Where the slices of a view lie in the volume.
fn placement(
    view: View,
    shape: [usize; 3],
    slices: usize,
    size: usize,
    side: Option<Side>,
) -> Placement {
    let (row_axis, column_axis) = view.plane();
    // Slices larger than the window are cut: the offset rounds down, as in `Fit`.
    let offset = |axis: usize| (size as i32 - shape[axis] as i32).div_euclid(2);
    let range = match (view, side) {
        (View::Sagittal, Some(Side::Left)) => 0..slices.div_ceil(2),
        (View::Sagittal, Some(Side::Right)) => slices / 2..slices,
        _ => 0..slices,
    };
    Placement {
        axis: view.axis(),
        column_axis,
        row_offset: offset(row_axis),
        column_offset: offset(column_axis),
        slices: range,
    }
}

/// The predicted Dice of a fused mask: the mean over all slices of all views, by the mask's area there.
fn quality(
    logits: &[f32],
    shape: [usize; 3],
    decoded: &[(&VolumeEmbedding, &Prompts)],
    prompt: usize,
) -> Option<f32> {
    // The mask's voxels in each plane across x, y and z.
    let none = || shape.map(|n| vec![0u32; n]);
    let planes = logits.par_chunks((shape[0] * shape[1]).max(1)).enumerate();
    let areas = planes
        .fold(none, |mut areas, (z, plane)| {
            for (y, row) in plane.chunks(shape[0].max(1)).enumerate() {
                let inside = |(x, logit): (usize, &f32)| (*logit > 0.0).then_some(x);
                for x in row.iter().enumerate().filter_map(inside) {
                    areas[0][x] += 1;
                    areas[1][y] += 1;
                    areas[2][z] += 1;
                }
            }
            areas
        })
        .reduce(none, |mut sums, areas| {
            for (sum, area) in sums.iter_mut().flatten().zip(areas.iter().flatten()) {
                *sum += area;
            }
            sums
        });
    let (mut sum, mut total) = (0.0, 0.0);
    for (embedding, prompts) in decoded {
        for (view, said) in embedding.views.iter().zip(&prompts.views) {
            for (slice, area) in areas[view.view.axis()].iter().enumerate() {
                sum += f64::from(*area) * f64::from(said.predicted[slice * prompts.count + prompt]);
                total += f64::from(*area);
            }
        }
    }
    (total > 0.0).then(|| (sum / total) as f32)
}

/// A volume whose layers across `axis` are known every `step`: the ones between are interpolated
/// linearly, those after the last known one repeat it.
fn fill(coarse: &[f32], from: [usize; 3], to: [usize; 3], axis: usize, step: usize) -> Vec<f32> {
    let stride = [1, from[0], from[0] * from[1]][axis];
    let mut fine = Vec::with_capacity(to.iter().product());
    for z in 0..to[2] {
        for y in 0..to[1] {
            for x in 0..to[0] {
                let mut at = [x, y, z];
                let (layer, part) = (at[axis] / step, at[axis] % step);
                at[axis] = layer;
                let here = at[0] + from[0] * (at[1] + from[1] * at[2]);
                let value = coarse[here];
                fine.push(if part == 0 || layer + 1 == from[axis] {
                    value
                } else {
                    value + (coarse[here + stride] - value) * part as f32 / step as f32
                });
            }
        }
    }
    fine
}
