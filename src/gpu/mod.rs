//! Floor 1: the adapter, its kernels and its memory. The only floor that says `wgpu`.
//!
//! [`Gpu`] is one open adapter, shared by all threads. [`Recorder`] collects the dispatches of one
//! forward pass and submits them at once. [`Buffer`] is a piece of adapter memory: leased from the
//! pool while a tensor lives, or owned by a model's weights. [`Kernel`] is a WGSL program with its
//! parameter struct; [`Pipelines`] are made when a kernel is first dispatched, or ahead of it by threads, and kept by the [`Gpu`].

mod device;
mod kernel;
mod pipelines;
mod pool;
mod recorder;
mod timer;

pub use device::{AdapterSummary, Gpu, GpuOptions};
pub(crate) use kernel::own_kernel as kernel;
pub use kernel::{COOP_TILES, Kernel, Reflection, Variant, WEIGHT_FORMATS, reflect};
pub use pipelines::Pipelines;
pub use pool::{Bind, Buffer};
pub use recorder::{Groups, Reading, Recorder, Submission};
pub use timer::{Profile, Timing};
