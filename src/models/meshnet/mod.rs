//! MeshNet (arXiv 1612.00940), as brainchop runs it: 3-D convolutions at full resolution whose dilations grow and
//! shrink again, each followed by an activation, some by an instance norm before it, and a class for every voxel.
//!
//! A layer of 256³ voxels and 30 channels is 2 GB, more than any binding holds, so a volume lies in **slabs** of
//! slices, and a layer is computed slab by slab. What a slice of a convolution of dilation `d` sees are the slices `d`,
//! `2 d` … before and after it and no others, so slices that are `d` apart are convolved together: a slab needs one
//! slice more on either side, whatever the dilation, and nothing is computed twice. Blocks with a halo of the whole
//! receptive field (46 voxels on either side) would do twice the work at blocks of 128³. Each value is the same sum in
//! the same order in slabs of any size. Activations stay f32: half of the memory would cost a conversion a layer.

mod block;
mod config;
mod slabs;

pub use config::{ARCHITECTURE, LayerConfig, MeshNetConfig};
pub use slabs::Slabs;

use block::{Block, Running};

use crate::error::Result;
use crate::gpu::Gpu;
use crate::tensor::{Checkpoint, Precision, Weights};

/// Bytes of a slab where nothing asks for less: many slices at once, and a quarter of a second's work for a slow card.
pub const SLAB_BYTES: usize = 64 << 20;

/// The network.
#[derive(Debug)]
pub struct MeshNet {
    config: MeshNetConfig,
    /// In the order of the checkpoint's `layers`.
    layers: Vec<Block>,
}

impl MeshNet {
    /// Loads a checkpoint, every tensor of it.
    ///
    /// # Errors
    /// Metadata or tensors that do not fit, a tensor too many, or no memory.
    pub fn new(gpu: &Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let config = MeshNetConfig::of(checkpoint)?;
        let w = Weights::new(gpu, checkpoint, precision);
        let layers = config.layers.iter();
        let layers = layers.map(|layer| Block::new(layer, &w.at(&layer.name)));
        let layers = layers.collect::<Result<_>>()?;
        w.finish(&[])?;
        Ok(Self { config, layers })
    }

    /// What the network is.
    pub fn config(&self) -> &MeshNetConfig {
        &self.config
    }

    /// The class of every voxel of a volume of these slices, rows and columns, in slabs of at most `slab_bytes` where
    /// that is enough. A slice goes along the file's second and third axis: the first axis of a kernel is that of a
    /// conformed volume's fastest index. Intensities are 0 … 1.
    ///
    /// `keep` is shown the values after each layer but the last, under its name, and what it fails with ends the work;
    /// `progress` is called with the share that is done.
    ///
    /// # Errors
    /// Slices of which too few fit into a binding, no memory, or a lost adapter.
    ///
    /// # Panics
    /// If `values` does not fill the size.
    pub fn forward(
        &self,
        gpu: &Gpu,
        values: &[f32],
        size: [usize; 3],
        slab_bytes: usize,
        mut keep: impl FnMut(&str, &Slabs) -> Result<()>,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Vec<u16>> {
        assert_eq!(
            values.len(),
            size.iter().product::<usize>(),
            "values of {size:?}"
        );
        let mut x = Slabs::upload(gpu, values, size)?;
        let mut running = Running { gpu, last: None };
        let all = self.layers.len() as f64;
        let mut classes = Vec::new();
        for (n, (layer, config)) in self.layers.iter().zip(&self.config.layers).enumerate() {
            let mut within = |share: f64| progress((n as f64 + share) / all);
            let slab_bytes = layer.slab_bytes(gpu, &x.shape, config.out_channels, slab_bytes)?;
            if n + 1 == self.layers.len() {
                classes = layer.classes(gpu, x, config.out_channels, slab_bytes, &mut within)?;
                break;
            }
            x = layer.forward(
                x,
                config.out_channels,
                slab_bytes,
                &mut running,
                &mut within,
            )?;
            keep(&config.name, &x)?;
        }
        Ok(classes)
    }
}
