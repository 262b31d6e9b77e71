//! Floor 5: the models, each a readable file whose fields bear the checkpoint's names.

pub mod bert;
mod bicubic;
pub mod biomedclip;
pub mod biomedclipseg;
pub mod clip;
pub mod clip_resnet;
pub mod clip_rn;
pub mod clip_text;
pub mod clip_vision;
pub mod clipseg;
pub mod cris;
pub mod idefics3;
pub mod image_encoder;
pub(crate) mod likely;
pub mod llama;
pub mod llava;
pub mod mask_decoder;
pub mod medclip;
pub mod meshnet;
pub mod projector;
pub mod prompt_encoder;
pub mod sam;
mod shapes;
pub mod siglip;
pub mod siglip_vision;
pub mod swin;
pub mod vision;
pub mod vit;
pub mod zeus;
pub mod zeus_sam;

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::gpu::Recorder;
use crate::ops::{add_scaled, matmul, mean_pool};
use crate::tensor::{Checkpoint, Tensor, TensorEntry, read_bounded};

/// The largest `config.json` that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The `config.json` beside a checkpoint, and where it is.
///
/// # Errors
/// A file that cannot be read, is too large or no JSON.
pub(crate) fn config_json(checkpoint: &Checkpoint) -> Result<(PathBuf, serde_json::Value)> {
    json_beside(checkpoint, "config.json")
}

/// A JSON file beside a checkpoint, and where it is.
///
/// # Errors
/// As [`config_json`].
fn json_beside(checkpoint: &Checkpoint, name: &str) -> Result<(PathBuf, serde_json::Value)> {
    let path = checkpoint.folder().join(name);
    let text = read_bounded(&path, MAX_CONFIG_BYTES)?;
    let json = serde_json::from_slice(&text).map_err(|e| Error::config(&path, e.to_string()))?;
    Ok((path, json))
}

/// What `config.json` beside a checkpoint calls its kind of model (`model_type`); empty if it says nothing.
///
/// # Errors
/// As [`config_json`].
pub(crate) fn kind(checkpoint: &Checkpoint) -> Result<String> {
    let (_, json) = config_json(checkpoint)?;
    Ok(json["model_type"].as_str().unwrap_or_default().to_owned())
}

/// A whole number of `config.json`, or what it usually is.
///
/// # Errors
/// Another value, in words that the file goes before.
fn number(json: &serde_json::Value, key: &str, usual: u64) -> std::result::Result<u64, String> {
    match &json[key] {
        serde_json::Value::Null => Ok(usual),
        value => value
            .as_u64()
            .ok_or_else(|| format!("`{key}` is {value}, expected a whole number")),
    }
}

/// Rows scaled to unit length.
///
/// # Errors
/// No memory.
pub(crate) fn unit_rows(rec: &Recorder, x: &Tensor) -> Result<Tensor> {
    unit_rows_to(rec, x, x.matrix()[0])
}

/// The same, the last once more until there are `count`.
///
/// # Errors
/// No memory.
fn unit_rows_to(rec: &Recorder, x: &Tensor, count: usize) -> Result<Tensor> {
    let [rows, _] = x.matrix();
    let span = |n: usize| [n.min(rows - 1) as u32, 1];
    let spans: Vec<[u32; 2]> = (0..count).map(span).collect();
    let spans = Tensor::upload(rec.gpu(), "rows", [count, 2], spans.as_flattened())?;
    Ok(mean_pool(rec, x, &spans))
}

/// How well each text describes each picture, `[images, texts padded to 4]`, of their vectors: their cosine, scaled, and a bias.
///
/// # Errors
/// No memory.
fn logits_per_image(
    rec: &Recorder,
    images: &Tensor,
    texts: &Tensor,
    [scale, bias]: [f32; 2],
) -> Result<Tensor> {
    let [count, _] = texts.matrix();
    let images = unit_rows(rec, images)?;
    let texts = unit_rows_to(rec, texts, count.next_multiple_of(4))?;
    let cosines = matmul(rec, &images, &texts, false);
    let bias = Tensor::upload(rec.gpu(), "logit bias", 4, &[bias / scale; 4])?;
    Ok(add_scaled(rec, &cosines, &bias, scale))
}

/// Whether an embedding of so many columns can be made.
///
/// # Errors
/// If not, in words.
fn check_embedding(columns: usize) -> std::result::Result<(), String> {
    match (1..=1 << 16).contains(&columns) && columns.is_multiple_of(4) {
        true => Ok(()),
        false => Err(format!(
            "embeddings of {columns} columns, expected a multiple of 4 up to {}",
            1 << 16
        )),
    }
}

/// A layer takes a bias that is missing for none. Here every layer has one but those that are `without`, by the names of their
/// weights less `.weight`.
///
/// # Errors
/// The first that is missing.
fn check_biases(checkpoint: &Checkpoint, without: impl Fn(&str) -> bool) -> Result<()> {
    for entry in checkpoint.tensors() {
        let Some(stem) = entry.name.strip_suffix(".weight") else {
            continue;
        };
        let bias = format!("{stem}.bias");
        if !without(stem) && checkpoint.tensor(&bias).is_none() {
            let problem = format!("tensor `{bias}` is missing");
            return Err(Error::weights(checkpoint.path(), problem));
        }
    }
    Ok(())
}

/// What the names of a model's tensors begin with, where it was kept inside another: `net.` of MedVLSM, `module.` of PyTorch's
/// `DistributedDataParallel`. It is what stands before `name`, with its last dot; nothing where there is no such tensor.
fn wrapper<'c>(checkpoint: &'c Checkpoint, name: &str) -> &'c str {
    let before = |entry: TensorEntry<'c>| {
        let before = entry.name.strip_suffix(name)?;
        (before.is_empty() || before.ends_with('.')).then_some(before)
    };
    checkpoint.tensors().find_map(before).unwrap_or_default()
}

/// The first of these places below which a checkpoint has a tensor: releases of transformers call them differently.
///
/// # Errors
/// None has it.
fn place<'n>(checkpoint: &Checkpoint, places: &[&'n str], tensor: &str) -> Result<&'n str> {
    let names = places.iter().map(|place| format!("{place}.{tensor}"));
    let found = places.iter().zip(names.clone());
    let mut found = found.filter(|(_, name)| checkpoint.tensor(name).is_some());
    found.next().map(|(place, _)| *place).ok_or_else(|| {
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        let problem = format!("tensor {} is missing", names.join(" or "));
        Error::weights(checkpoint.path(), problem)
    })
}

/// The rows of a token table, if a checkpoint has it.
fn table_rows(checkpoint: &Checkpoint, body: &str) -> Option<usize> {
    let table = checkpoint.tensor(&format!("{body}.embed_tokens.weight"))?;
    table.shape.first().copied()
}
