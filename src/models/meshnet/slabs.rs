//! A volume of several channels in pieces that a binding holds.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::meshnet::SLAB_BYTES;
use crate::tensor::Tensor;

/// A volume of several channels on the adapter, in slabs of slices that need not be neighbours.
#[derive(Debug)]
pub struct Slabs {
    /// Slices, rows, columns, and channels padded to a multiple of 4.
    pub(super) shape: [usize; 4],
    /// `[1, slices, rows, columns, channels]` each; none when its last slice was used.
    pub(super) slabs: Vec<Option<Tensor>>,
    /// The slab of each slice, and which of its slices it is.
    places: Vec<(usize, usize)>,
    /// Slices of each slab that are still needed.
    needed: Vec<usize>,
    /// From one slice of a slab to the next.
    pub(super) step: usize,
}

impl Slabs {
    pub(super) fn new(shape: [usize; 4], step: usize) -> Self {
        Self {
            shape,
            step,
            slabs: Vec::new(),
            places: vec![(usize::MAX, 0); shape[0]],
            needed: Vec::new(),
        }
    }

    /// The intensities of a volume, one channel of four.
    pub(super) fn upload(
        gpu: &Gpu,
        values: &[f32],
        [depth, height, width]: [usize; 3],
    ) -> Result<Self> {
        let mut this = Self::new([depth, height, width, 4], 1);
        let at_once = (SLAB_BYTES / (height * width * 16)).clamp(1, depth);
        for (n, part) in values.chunks(at_once * height * width).enumerate() {
            let slices = part.len() / (height * width);
            let padded: Vec<f32> = part.iter().flat_map(|v| [*v, 0.0, 0.0, 0.0]).collect();
            let slab = Tensor::upload(gpu, "volume", [1, slices, height, width, 4], &padded)?;
            this.add(slab, (0..slices).map(|z| n * at_once + z));
        }
        Ok(this)
    }

    /// Adds a slab of these slices of the volume.
    pub(super) fn add(&mut self, slab: Tensor, slices: impl Iterator<Item = usize>) {
        let number = self.slabs.len();
        let mut count = 0;
        for (at, slice) in slices.enumerate() {
            self.places[slice] = (number, at);
            count += 1;
        }
        self.slabs.push(Some(slab));
        self.needed.push(count);
    }

    /// A slice's slab, and the row of it where the slice begins.
    pub(super) fn slice(&self, slice: usize) -> (&Tensor, usize) {
        let (slab, at) = self.places[slice];
        let slab = self.slabs[slab]
            .as_ref()
            .expect("a slice that was not used up");
        (slab, at * self.shape[1] * self.shape[2])
    }

    /// Gives a slice up; with the last of a slab its memory goes back to the pool.
    pub(super) fn used(&mut self, slice: usize) {
        let (slab, _) = self.places[slice];
        self.needed[slab] -= 1;
        if self.needed[slab] == 0 {
            self.slabs[slab] = None;
        }
    }

    /// All values, `[slices, rows, columns, channels]` with the channels padded to a multiple of 4.
    ///
    /// # Errors
    /// A lost adapter.
    pub fn read(&self, gpu: &Gpu) -> Result<Vec<f32>> {
        let own = self.shape[1..].iter().product::<usize>();
        let mut values = vec![0.0; self.shape[0] * own];
        for (number, slab) in self.slabs.iter().enumerate() {
            let Some(slab) = slab else { continue };
            let read = slab.read(gpu.record("slab"))?;
            for (slice, (_, at)) in self
                .places
                .iter()
                .enumerate()
                .filter(|(_, (n, _))| *n == number)
            {
                values[slice * own..(slice + 1) * own]
                    .copy_from_slice(&read[at * own..(at + 1) * own]);
            }
        }
        Ok(values)
    }
}
