//! Networks that were published by others, at their true sizes, on the adapter at hand: `cargo bench --bench published`. Minutes
//! on a software adapter.
//!
//! Times are the least of several runs, from recording to read-back.

#[path = "../tests/support/contract.rs"]
mod contract;
#[path = "../tests/support/model_files.rs"]
mod model_files;
#[path = "support/timing.rs"]
mod timing;

use std::collections::BTreeMap;
use std::path::Path;

use keraunos::gpu::{Gpu, GpuOptions};
use keraunos::models::biomed_clip::BiomedClip;
use keraunos::models::med_clip::MedClip;
use keraunos::models::meshnet::{MeshNet, SLAB_BYTES, Slabs};
use keraunos::models::sam::{Prompt, Sam};
use keraunos::pipeline::convert::convert;
use keraunos::tensor::{Checkpoint, Precision, Tensor};
use timing::{least, row, seconds};

fn main() -> Result<(), keraunos::Error> {
    let gpu = Gpu::open(&GpuOptions::default())?;
    let adapter = gpu.summary();
    println!("{} ({}, {})", adapter.name, adapter.kind, adapter.driver);
    meshnet(&gpu)?;
    clips(&gpu)?;
    sam(&gpu)
}

/// MedCLIP (Swin-T, BioClinicalBERT) and BiomedCLIP (ViT-B/16, PubMedBERT) with numbers for weights, a picture and a text of 32
/// tokens each; what PyTorch takes is `peers/clips.py`'s to say.
fn clips(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let folder = |name: &str| {
        let tensors = contract::contract(name);
        model_files::model_folder(&serde_json::json!({}), &tensors, str::to_owned)
    };
    let pixels: Vec<f32> = (0..224 * 224 * 4)
        .map(|n| (n % 251) as f32 / 125.0 - 1.0)
        .collect();
    let pixels = Tensor::upload(gpu, "pixels", [1, 224, 224, 4], &pixels)?;
    let texts = [(0..32).map(|n| 101 + n).collect::<Vec<u32>>()];
    let place = folder("medclip-vit");
    let clip = MedClip::new(gpu, &Checkpoint::open(place.path())?, Precision::F32)?;
    let image = least(5, || {
        let rec = gpu.record("image");
        let image = clip.encode_image(&rec, &pixels, |_, _| ())?;
        image.read(rec).map(drop)
    })?;
    let text = least(5, || {
        let rec = gpu.record("text");
        let text = clip.encode_text(&rec, &texts, |_, _| ())?;
        text.read(rec).map(drop)
    })?;
    let name = "MedCLIP, f32: a picture of 224 x 224 by Swin-T";
    row(name, seconds(image), "");
    let name = "MedCLIP, f32: 32 tokens by BERT-base";
    row(name, seconds(text), "");
    let place = folder("BiomedCLIP-PubMedBERT_256-vit_base_patch16_224");
    let clip = BiomedClip::new(gpu, &Checkpoint::open(place.path())?, Precision::F32)?;
    let image = least(5, || {
        let rec = gpu.record("image");
        let image = clip.encode_image(&rec, &pixels, |_, _| ())?;
        image.read(rec).map(drop)
    })?;
    let name = "BiomedCLIP, f32: a picture of 224 x 224 by ViT-B/16";
    row(name, seconds(image), "");
    Ok(())
}

/// SAM ViT-B with numbers for weights, one slice and one box; what PyTorch takes is `peers/sam_vit_b.py`'s to say.
fn sam(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sam_whole.json");
    let text = std::fs::read_to_string(&goldens).map_err(keraunos::Error::read(&goldens))?;
    let fault = |error: serde_json::Error| keraunos::Error::config(&goldens, error.to_string());
    let goldens: serde_json::Value = serde_json::from_str(&text).map_err(fault)?;
    let case = &goldens["vit_b"];
    let tensors: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(case["tensors"].clone()).map_err(fault)?;
    let folder = model_files::model_folder(&case["config"], &tensors, str::to_owned);
    let sam = Sam::new(gpu, &Checkpoint::open(folder.path())?, Precision::F32)?;
    let size = sam.config().image_size;
    let pixels: Vec<f32> = (0..size * size * 4)
        .map(|n| (n % 251) as f32 / 125.0 - 1.0)
        .collect();
    let pixels = Tensor::upload(gpu, "pixels", [1, size, size, 4], &pixels)?;
    let time = least(3, || {
        let rec = gpu.record("encoder");
        let image = sam.encode(&rec, &pixels, |_, _| ());
        rec.read::<f32>(&[(&image, 4)]).map(drop)
    })?;
    row(
        "SAM ViT-B, f32: a slice of 1024 x 1024 encoded",
        seconds(time),
        "",
    );
    let rec = gpu.record("encoder");
    let image = sam.encode(&rec, &pixels, |_, _| ());
    rec.submit()?;
    let prompts = [Prompt::corners([[200.0, 300.0], [600.0, 700.0]])];
    let time = least(7, || {
        let rec = gpu.record("decoder");
        let masks = sam.decode(&rec, &image, &prompts, None, |_, _| ())?;
        rec.read::<f32>(&[(&masks.low_res, 4)]).map(drop)
    })?;
    row("SAM ViT-B, f32: a box decoded", seconds(time), "");
    Ok(())
}

/// brainchop's network of 30 channels out of the shared folder, on a part of a head's size cubed.
fn meshnet(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let shared = std::env::var_os("KERAUNOS_SHARED").unwrap_or_else(|| "../shared".into());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(shared);
    let folder = root.join("data/meshnet/model30chan18cls");
    if !folder.is_dir() {
        println!("MeshNet: {} is not there", folder.display());
        return Ok(());
    }
    let failed = |error: std::io::Error| keraunos::Error::Gpu(format!("MeshNet: {error}"));
    let place = tempfile::tempdir().map_err(failed)?;
    let path = place.path().join("meshnet.safetensors");
    convert(&folder, &path)?;
    let model = MeshNet::new(gpu, &Checkpoint::open(&path)?, Precision::Auto)?;
    let size = [96; 3];
    let values: Vec<f32> = (0..96 * 96 * 96)
        .map(|n| (n % 251) as f32 / 250.0)
        .collect();
    let time = least(2, || {
        let keep = |_: &str, _: &Slabs| Ok(());
        let classes = model.forward(gpu, &values, size, SLAB_BYTES, keep, &mut |_| ());
        classes.map(drop)
    })?;
    row(
        "MeshNet, 30 channels: 96 x 96 x 96 voxels",
        seconds(time),
        "",
    );
    Ok(())
}
