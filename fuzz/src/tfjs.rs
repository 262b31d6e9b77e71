//! A network of brainchop's: TensorFlow.js' `model.json` and its weights.

use keraunos::Result;
use keraunos::models::meshnet::MeshNetConfig;
use keraunos::pipeline::convert::convert;
use keraunos::tensor::Checkpoint;

use super::files::{Folder, parts};
use super::safetensors::weigh;

/// The files that an input may hold.
const NAMES: [&str; 3] = ["model.json", "colormap.json", "weights.bin"];

/// Converts it, and reads what came of it as `segment --model` does.
pub fn read(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    for (name, bytes) in parts(bytes, &NAMES) {
        folder.file(name, bytes);
    }
    let output = folder.path().join("model.safetensors");
    convert(folder.path(), &output)?;
    let checkpoint = Checkpoint::read(&output).expect("what was written is sound");
    weigh(&checkpoint);
    MeshNetConfig::of(&checkpoint).map(drop)
}
