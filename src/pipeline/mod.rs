//! Floor 6: volumes and words in, a labelled map out. The only floor that says `nifti` and
//! `tokenizers`.
//!
//! [`Segmenter`] is the whole way, from a [`Request`] to a [`Segmentation`]; the modules are its stations.

pub mod adapter;
pub mod ahead;
pub mod chat;
pub mod evaluate;
pub mod files;
pub mod finish;
pub mod geometry;
pub mod home;
pub mod inputs;
pub mod instruct;
pub mod modality;
pub mod prepare;
pub mod preview;
pub mod pull;
pub mod request;
pub mod result;
pub mod segmenter;
pub mod statistics;
pub mod stock;
pub mod structures;
pub mod text_encoder;
pub mod tokenizer;
pub mod volume;
pub mod volume_embedding;

pub use request::{Fusion, Input, Instruct, Options, Request};
pub use result::{Report, Segmentation, StructureResult};
pub use segmenter::{Observer, Segmenter};
