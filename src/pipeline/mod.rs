//! Floor 6: volumes and words in, a labelled map out. The only floor that says `nifti` and
//! `tokenizers`.
//!
//! [`Segmenter`] is the whole way, from a [`Request`] to a [`Segmentation`]; the modules are its stations.

pub mod adapter;
pub mod ahead;
pub mod assembly;
pub mod batch;
mod canvas;
pub mod card;
pub mod cases;
pub mod chat;
pub mod cohort;
pub mod conform;
pub mod convert;
pub mod describe;
pub mod designed;
pub mod distance;
pub mod effect;
pub mod evaluate;
pub mod files;
pub mod finish;
pub mod geometry;
pub mod guard;
pub mod home;
pub mod inputs;
pub mod instruct;
mod kept;
pub mod kind;
pub mod known;
pub mod language;
pub mod memory;
pub mod meshnet;
pub mod modality;
pub mod phrased;
pub mod plot;
pub mod prepare;
pub mod preview;
pub mod prompt;
pub mod prompted;
pub mod pull;
pub mod quantize;
pub mod request;
pub mod result;
pub mod sampling;
pub mod schema;
pub mod segmenter;
pub mod shown;
mod speaking;
mod stages;
pub mod statistics;
pub mod stock;
pub mod structures;
pub mod surface;
pub mod text_encoder;
pub mod text_tower;
pub mod threshold;
pub mod tokenizer;
pub mod trial;
pub mod volume;
pub mod volume_embedding;
pub mod wording;
pub mod zeus_sam;

pub use request::{Asked, Fusion, Input, Instruct, Options, Request};
pub use result::{Report, Segmentation, StructureResult};
pub use segmenter::{DrawnMask, Observer, Segmenter};
