//! The JSON files of a Hugging Face folder, beside weights that are sound.

use keraunos::Result;
use keraunos::models::bert::BertConfig;
use keraunos::models::clip::ClipConfig;
use keraunos::models::clipseg::ClipSegConfig;
use keraunos::models::idefics3::Idefics3Config;
use keraunos::models::llama::LlamaConfig;
use keraunos::models::llava::LlavaConfig;
use keraunos::models::swin::SwinConfig;
use keraunos::pipeline::chat::ChatTemplate;
use keraunos::pipeline::describe::processor::{Squaring, Tiling};
use keraunos::pipeline::prepare::Slice;
use keraunos::pipeline::tokenizer::ClipTokenizer;
use keraunos::tensor::Checkpoint;
use serde_json::json;

use super::files::{Folder, parts};
use super::gguf::turn;
use super::words::converse;

/// The files that an input may hold.
const NAMES: [&str; 10] = [
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "model.safetensors.index.json",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
];
/// The tensors whose places tell models apart, a row of four numbers each.
const TENSORS: [&str; 6] = [
    "model.embed_tokens.weight",
    "model.text_model.embed_tokens.weight",
    "model.language_model.embed_tokens.weight",
    "model.vision_tower.embeddings.class_embedding",
    "model.multi_modal_projector.linear_1.weight",
    "embeddings.word_embeddings.weight",
];
/// Slices as they come: upright, wide, and a sliver.
const SLICES: [[usize; 2]; 3] = [[24, 17], [9, 40], [2, 600]];

/// Reads it as `generate --llm`, `describe --model`, `segment --model` and the text encoder do, up to where weights are uploaded.
pub fn read(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    let given = parts(bytes, &NAMES);
    for (name, bytes) in &given {
        folder.file(name, bytes);
    }
    let sharded = given
        .iter()
        .any(|(name, _)| *name == "model.safetensors.index.json");
    let weights = match sharded {
        true => "model-00001-of-00001.safetensors",
        false => "model.safetensors",
    };
    folder.file(weights, &sound());
    let checkpoint = Checkpoint::open(folder.path())?;
    let chat = ChatTemplate::from_folder(folder.path()).and_then(|template| match template {
        Some(template) => converse(&template),
        None => Ok(()),
    });
    let mut read = Vec::new();
    read.push(LlamaConfig::of(&checkpoint).map(|config| turn(&config)));
    read.push(Idefics3Config::of(&checkpoint).and_then(|config| {
        turn(&config.text);
        let grain = config.vision.patch_size * config.scale_factor;
        Tiling::open(folder.path(), grain).map(|tiling| tile(&tiling))
    }));
    read.push(LlavaConfig::of(&checkpoint).and_then(|config| {
        turn(&config.text);
        square(&Squaring::open(folder.path())?, config.vision.image_size)
    }));
    read.push(ClipConfig::of(&checkpoint).map(drop));
    read.push(Squaring::stretching(folder.path()).and_then(|squaring| {
        let size = squaring.square()?;
        ClipSegConfig::of(&checkpoint, size)?;
        let tokenizer = ClipTokenizer::from_folder(folder.path())?;
        for text in ["", "The left hippocampus, 3 mm"] {
            tokenizer.encode(text)?;
        }
        let _ = tokenizer.vocab_size();
        square(&squaring, size)
    }));
    for (name, bytes) in &given {
        if *name == "config.json"
            && let Ok(json) = serde_json::from_slice(bytes)
            && (BertConfig::of(&json).is_ok() || SwinConfig::of(&json).is_ok())
        {
            read.push(Ok(()));
        }
    }
    // Each kind of model refuses the others' folders.
    let fault = read.iter().position(|read| read.is_ok()).unwrap_or(0);
    read.swap_remove(fault).and(chat)
}

/// A safetensors file of [`TENSORS`].
fn sound() -> Vec<u8> {
    let entry = |n: usize| json!({ "dtype": "F32", "shape": [1, 4], "data_offsets": [16 * n, 16 * n + 16] });
    let entries = TENSORS
        .iter()
        .enumerate()
        .map(|(n, name)| ((*name).to_owned(), entry(n)));
    let header = serde_json::Value::Object(entries.collect()).to_string();
    let data = vec![0; 16 * TENSORS.len()];
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &data,
    ]
    .concat()
}

fn slice([rows, cols]: [usize; 2]) -> Slice<u8> {
    let data = (0..rows * cols).map(|n| (n * 7) as u8).collect();
    Slice { rows, cols, data }
}

/// What holds of an accepted image processor: it makes as many pixels as it says. Pictures as large as the program takes
/// would only take longer.
fn tile(tiling: &Tiling) {
    if tiling.tile > 128 {
        return;
    }
    for size in SLICES {
        let seen = tiling.process(&slice(size));
        assert_eq!(
            seen.pixels.len(),
            seen.count * seen.size[0] * seen.size[1] * 4
        );
    }
}

fn square(squaring: &Squaring, image_size: usize) -> Result<()> {
    if image_size > 512 {
        return Ok(());
    }
    let mut read = Ok(());
    for size in SLICES {
        // A sliver is refused by some that take the others.
        read = squaring.process(&slice(size), image_size).map(|seen| {
            assert_eq!(
                seen.pixels.len(),
                seen.count * seen.size[0] * seen.size[1] * 4
            );
        });
        if read.is_ok() {
            break;
        }
    }
    read
}
