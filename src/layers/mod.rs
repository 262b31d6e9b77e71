//! Floor 4: what models are built of. A layer holds its weights, named as the checkpoint names them,
//! and its `forward` records ops.

mod conv;
mod embedding;
mod kv_cache;
mod linear;
mod mlp;
mod norm;

pub use conv::{Conv, ConvTranspose};
pub use embedding::Embedding;
pub use kv_cache::KvCache;
pub use linear::Linear;
pub use mlp::{Mlp, Mlp3};
pub use norm::{BatchNorm, LayerNorm, RmsNorm};
