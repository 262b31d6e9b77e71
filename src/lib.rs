//! Segments radiology volumes by words. Every floating-point operation of the models runs in WGSL
//! kernels of our own, on any Vulkan, Metal or DirectX 12 adapter, a software one included.
//!
//! [`pipeline::Segmenter`] is the way in: open an adapter, name volumes and structures, get a labelled
//! map. The modules are the floors of the house, each of which names only those below it; the command
//! line ([`cli`]) is a thin skin over them.
#![deny(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod cli;
pub mod error;
pub mod gpu;
pub mod layers;
pub mod models;
pub mod ops;
pub mod pipeline;
pub mod tensor;

pub use error::{Error, Result};
