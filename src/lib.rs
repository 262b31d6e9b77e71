//! keraunos
#![deny(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]
pub mod error;
pub mod gpu;
pub mod layers;
pub mod models;
pub mod ops;
pub mod pipeline;
pub mod tensor;
pub use error::{Error, Result};
