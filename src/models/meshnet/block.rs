//! A layer of a MeshNet, slab by slab.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Reading, Recorder, Submission};
use crate::layers::Conv;
use crate::models::meshnet::{LayerConfig, Slabs};
use crate::ops::{Activation, Window, argmax, copy_span, instance_norm, merged_moments, moments};
use crate::tensor::{Tensor, Weights};

/// A layer's convolution and what follows it.
#[derive(Debug)]
pub(super) struct Block {
    conv: Conv,
    /// Taps before and after the middle one.
    reach: usize,
    dilation: usize,
    instance_norm: Option<f32>,
    activation: Activation,
}

/// Work that was submitted, at most two pieces of it at a time: more would only hold memory.
pub(super) struct Running<'g> {
    pub(super) gpu: &'g Gpu,
    pub(super) last: Option<Submission>,
}

impl Running<'_> {
    fn add(&mut self, next: Submission) -> Result<()> {
        match self.last.replace(next) {
            Some(before) => self.gpu.wait_for(&before),
            None => Ok(()),
        }
    }
}

/// Slices that are convolved together, and those of them that have neighbours on either side.
struct Span {
    /// The slices that are read, in order.
    reads: Vec<usize>,
    /// The slices that are written.
    writes: Vec<usize>,
    /// Slices of zeros before and after those that are read.
    padding: [usize; 2],
    /// Slices that no later span reads.
    done: Vec<usize>,
}

impl Block {
    /// A layer whose tensors lie at `w`.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or no memory.
    pub(super) fn new(layer: &LayerConfig, w: &Weights) -> Result<Self> {
        let (kernel, dilation) = (layer.kernel_size, layer.dilation);
        // Slices that are a dilation apart are neighbours in their block.
        let window = match kernel {
            1 => Window::new([1; 3]),
            _ => Window {
                dilation: [1, dilation, dilation],
                ..Window::cube(kernel, 1, 0)
            },
        };
        let channels = [layer.in_channels, layer.out_channels];
        Ok(Self {
            conv: Conv::new(channels, window, w)?,
            reach: kernel / 2,
            dilation,
            instance_norm: layer.instance_norm,
            activation: layer.activation().unwrap_or_default(),
        })
    }

    /// Bytes of a slab of the wider of what is read and what is written: no less than one slice and those that it
    /// sees need.
    pub(super) fn slab_bytes(
        &self,
        gpu: &Gpu,
        [_, height, width, channels]: &[usize; 4],
        out_channels: usize,
        wanted: usize,
    ) -> Result<usize> {
        let widest = (*channels).max(out_channels.next_multiple_of(4));
        let slice = height * width * widest * 4;
        let (least, limit) = ((2 * self.reach + 1) * slice, gpu.max_binding_bytes());
        if least as u64 > limit {
            return Err(Error::Gpu(format!(
                "slices of {height} x {width} voxels and {widest} channels need {least} bytes in one binding, the adapter allows {limit}"
            )));
        }
        let slices = (wanted.min(limit as usize) / slice).max(2 * self.reach + 1);
        Ok(slices * slice)
    }

    /// The spans of a layer, those of one rest by the dilation after the other: first the rests that share the slabs
    /// of the layer before, so that these are used up soon.
    fn spans(&self, depth: usize, before: usize, at_once: usize) -> Vec<Span> {
        let (reach, dilation) = (self.reach, self.dilation);
        let mut rests: Vec<usize> = (0..dilation.min(depth)).collect();
        rests.sort_by_key(|rest| (rest % before, *rest));
        let mut spans = Vec::new();
        for rest in rests {
            let all: Vec<usize> = (rest..depth).step_by(dilation).collect();
            let parts = all.len().div_ceil(at_once);
            let own = all.len().div_ceil(parts);
            let first_span = spans.len();
            for first in (0..all.len()).step_by(own) {
                let last = (first + own).min(all.len());
                let from = first.saturating_sub(reach);
                let to = (last + reach).min(all.len());
                spans.push(Span {
                    reads: all[from..to].to_vec(),
                    writes: all[first..last].to_vec(),
                    padding: [reach - (first - from), reach - (to - last)],
                    done: Vec::new(),
                });
            }
            for slice in all {
                let mut own = spans[first_span..].iter_mut();
                if let Some(last) = own.rfind(|span: &&mut Span| span.reads.contains(&slice)) {
                    last.done.push(slice);
                }
            }
        }
        spans
    }

    /// How many slices are written at once.
    fn at_once(&self, [_, height, width, channels]: [usize; 4], out: usize, bytes: usize) -> usize {
        let slice = height * width * channels.max(out) * 4;
        bytes / slice - 2 * self.reach
    }

    /// Records a span's slices side by side, convolved and activated.
    fn convolve(&self, rec: &Recorder, x: &Slabs, span: &Span, activation: Activation) -> Tensor {
        let [_, height, width, channels] = x.shape;
        let rows = height * width;
        let block = Tensor::empty(rec, [1, span.reads.len(), height, width, channels]);
        for (n, slice) in span.reads.iter().enumerate() {
            let (slab, from) = x.slice(*slice);
            copy_span(rec, slab, from, &block, n * rows, rows);
        }
        let beside = self.reach * self.dilation;
        let padding = [span.padding, [beside; 2], [beside; 2]];
        self.conv.on_block(rec, &block, padding, activation)
    }

    /// The layer of a volume.
    pub(super) fn forward(
        &self,
        mut x: Slabs,
        out_channels: usize,
        slab_bytes: usize,
        running: &mut Running<'_>,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Slabs> {
        let gpu = running.gpu;
        let [depth, height, width, _] = x.shape;
        let channels = out_channels.next_multiple_of(4);
        let mut y = Slabs::new([depth, height, width, channels], self.dilation);
        let activation = match self.instance_norm {
            None => self.activation,
            Some(_) => Activation::None,
        };
        let at_once = self.at_once(x.shape, channels, slab_bytes);
        let spans = self.spans(depth, x.step, at_once);
        let (all, mut parts) = (spans.len() as f64, Vec::new());
        for (n, span) in spans.into_iter().enumerate() {
            let rec = gpu.record("meshnet");
            let slab = self.convolve(&rec, &x, &span, activation);
            if self.instance_norm.is_some() {
                let lines = moments(&rec, &slab, width);
                parts.push(merged_moments(&rec, &lines, height));
            }
            y.add(slab, span.writes.into_iter());
            running.add(rec.submit()?)?;
            span.done.into_iter().for_each(|slice| x.used(slice));
            progress((n + 1) as f64 / all);
        }
        if let Some(eps) = self.instance_norm {
            self.normalize(&mut y, &parts, eps, running)?;
        }
        Ok(y)
    }

    /// Normalises every slab by the moments of all.
    fn normalize(
        &self,
        y: &mut Slabs,
        parts: &[Tensor],
        eps: f32,
        running: &mut Running,
    ) -> Result<()> {
        let gpu = running.gpu;
        let [depth, .., channels] = y.shape;
        let rec = gpu.record("meshnet norm");
        let slices = Tensor::empty(&rec, [depth, 2, channels]);
        let mut first = 0;
        for part in parts {
            let count = part.dims::<3>()[0];
            copy_span(&rec, part, 0, &slices, 2 * first, 2 * count);
            first += count;
        }
        let of_all = merged_moments(&rec, &slices, depth);
        running.add(rec.submit()?)?;
        for slab in y.slabs.iter_mut() {
            let Some(own) = slab.take() else { continue };
            let rec = gpu.record("meshnet norm");
            *slab = Some(instance_norm(&rec, &own, &of_all, eps, self.activation));
            running.add(rec.submit()?)?;
        }
        Ok(())
    }

    /// The last layer of a volume: the class of each voxel.
    pub(super) fn classes(
        &self,
        gpu: &Gpu,
        mut x: Slabs,
        classes: usize,
        slab_bytes: usize,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Vec<u16>> {
        let [depth, height, width, _] = x.shape;
        let rows = height * width;
        let mut labels = vec![0; depth * rows];
        let mut write = |slices: Vec<usize>, reading: Reading| -> Result<()> {
            let read = reading.finish::<u32>()?.swap_remove(0);
            for (slice, values) in slices.into_iter().zip(read.chunks(rows)) {
                let own = &mut labels[slice * rows..(slice + 1) * rows];
                own.iter_mut()
                    .zip(values)
                    .for_each(|(label, class)| *label = *class as u16);
            }
            Ok(())
        };
        let at_once = self.at_once(x.shape, classes.next_multiple_of(4), slab_bytes);
        let spans = self.spans(depth, x.step, at_once);
        let all = spans.len() as f64;
        let mut running: Option<(Vec<usize>, Reading)> = None;
        for (n, span) in spans.into_iter().enumerate() {
            let rec = gpu.record("meshnet classes");
            let logits = self.convolve(&rec, &x, &span, Activation::None);
            let best = argmax(&rec, &logits, classes);
            let reading = rec.begin_read(&[(&best, best.len())])?;
            if let Some((slices, before)) = running.replace((span.writes, reading)) {
                write(slices, before)?;
            }
            span.done.into_iter().for_each(|slice| x.used(slice));
            progress((n + 1) as f64 / all);
        }
        if let Some((slices, last)) = running {
            write(slices, last)?;
        }
        Ok(labels)
    }
}
