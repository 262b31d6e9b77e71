//! Networks that were published by others, at their true sizes, on the adapter at hand: `cargo bench --bench published`, or one of
//! them: `cargo bench --bench published -- sam`. Minutes on a software adapter. `meshnet_whole`, a MeshNet on 256³ voxels, runs only
//! where it is asked for.
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
use keraunos::models::biomedclip::BiomedClip;
use keraunos::models::biomedclipseg::BiomedClipSeg;
use keraunos::models::clip::Clip;
use keraunos::models::clipseg::ClipSeg;
use keraunos::models::cris::{Cris, USUAL_SIZE};
use keraunos::models::medclip::MedClip;
use keraunos::models::meshnet::{MeshNet, SLAB_BYTES, Slabs};
use keraunos::models::sam::{Prompt, Sam};
use keraunos::models::siglip::Siglip;
use keraunos::models::zeus_sam::ZeusSam;
use keraunos::pipeline::convert::convert;
use keraunos::tensor::{Checkpoint, Precision, Tensor};
use timing::{least, row, seconds};

/// What is run by its name only.
const LONG: &str = "meshnet_whole";

fn main() -> Result<(), keraunos::Error> {
    let gpu = Gpu::open(&GpuOptions::default())?;
    let adapter = gpu.summary();
    println!("{} ({}, {})", adapter.name, adapter.kind, adapter.driver);
    type Bench = fn(&Gpu) -> Result<(), keraunos::Error>;
    let all: [(&str, Bench); 10] = [
        ("meshnet", |gpu| meshnet(gpu, 96, 2)),
        (LONG, |gpu| meshnet(gpu, 256, 1)),
        ("clipseg", clipseg),
        ("biomedclipseg", biomedclipseg),
        ("clip", clip),
        ("cris", cris),
        ("clips", clips),
        ("siglip", siglip),
        ("sam", sam),
        ("zeus", zeus),
    ];
    // Cargo adds a flag of its own.
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let is_wanted = |name: &&str| match wanted.is_empty() {
        true => *name != LONG,
        false => wanted.iter().any(|some| some == name),
    };
    for (name, bench) in &all {
        if is_wanted(name) {
            bench(&gpu)?;
        }
    }
    Ok(())
}

/// A case of a file of goldens as a folder with a checkpoint, numbers for weights.
fn golden(file: &str, case: &str) -> Result<tempfile::TempDir, keraunos::Error> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let goldens = goldens.join(file);
    let text = std::fs::read_to_string(&goldens).map_err(keraunos::Error::read(&goldens))?;
    let fault = |error: serde_json::Error| keraunos::Error::config(&goldens, error.to_string());
    let cases: serde_json::Value = serde_json::from_str(&text).map_err(fault)?;
    let case = &cases[case];
    let tensors: BTreeMap<String, Vec<usize>> = match case["contract"].as_str() {
        Some(name) => contract::contract(name),
        None => serde_json::from_value(case["tensors"].clone()).map_err(fault)?,
    };
    Ok(model_files::model_folder(
        &case["config"],
        &tensors,
        str::to_owned,
    ))
}

/// The same of a contract.
fn contracted(name: &str) -> tempfile::TempDir {
    let tensors = contract::contract(name);
    model_files::model_folder(&serde_json::json!({}), &tensors, str::to_owned)
}

fn picture(gpu: &Gpu, size: usize) -> Result<Tensor, keraunos::Error> {
    let pixels: Vec<f32> = (0..size * size * 4)
        .map(|n| (n % 251) as f32 / 125.0 - 1.0)
        .collect();
    Tensor::upload(gpu, "pixels", [1, size, size, 4], &pixels)
}

/// CLIPSeg rd64-refined, one slice and one phrase or eight; what PyTorch takes is `peers/clipseg_rd64.py`'s to say.
fn clipseg(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let (folder, size) = (golden("clipseg_whole.json", "rd64_refined")?, 352);
    let checkpoint = Checkpoint::open(folder.path())?;
    let model = ClipSeg::new(gpu, &checkpoint, size, Precision::F32)?;
    let pixels = picture(gpu, size)?;
    let time = least(3, || {
        let rec = gpu.record("encoder");
        let reduced = model.encode(&rec, &pixels, |_, _| ());
        rec.read::<f32>(&[(&reduced[0], 4)]).map(drop)
    })?;
    // Ten blocks of 485 tokens of 768, patches, and what is reduced.
    let (tokens, dim) = (485.0, 768.0);
    let work = 10.0 * tokens * (24.0 * dim * dim + 4.0 * tokens * dim)
        + tokens * 2.0 * dim * (dim + 3.0 * 64.0);
    let rate = format!("{:.1} GFLOP/s", work / time.as_secs_f64() / 1e9);
    let what = "CLIPSeg rd64-refined, f32: a slice of 352 x 352 encoded";
    row(what, seconds(time), &rate);
    let rec = gpu.record("encoder");
    let reduced = model.encode(&rec, &pixels, |_, _| ());
    rec.submit()?;
    let phrases = vec![vec![49_406, 320, 1125, 539, 320, 2368, 49_407]; 8];
    let time = least(7, || {
        let rec = gpu.record("text");
        let conditions = model.conditions(&rec, &phrases, |_, _| ())?;
        rec.read::<f32>(&[(&conditions, 4)]).map(drop)
    })?;
    let what = "CLIPSeg rd64-refined, f32: eight phrases encoded";
    row(what, seconds(time), "");
    for count in [1, 8] {
        let rec = gpu.record("text");
        let conditions = model.conditions(&rec, &phrases[..count], |_, _| ())?;
        rec.submit()?;
        let time = least(7, || {
            let rec = gpu.record("decoder");
            let logits = model.decode(&rec, &reduced, &conditions, |_, _| ())?;
            rec.read::<f32>(&[(&logits, count * size * size)]).map(drop)
        })?;
        let what = format!("CLIPSeg rd64-refined, f32: {count} decoded");
        row(&what, seconds(time), "");
    }
    Ok(())
}

/// BiomedCLIPSeg-D with numbers for weights, one slice and one phrase of 32 tokens.
fn biomedclipseg(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let place = contracted("biomedclipseg-d");
    let model = BiomedClipSeg::new(gpu, &Checkpoint::open(place.path())?, Precision::F32)?;
    let pixels = picture(gpu, model.config().vision.image_size)?;
    let time = least(3, || {
        let rec = gpu.record("encoder");
        let reduced = model.encode(&rec, &pixels, |_, _| ());
        rec.read::<f32>(&[(&reduced[0], 4)]).map(drop)
    })?;
    let what = "BiomedCLIPSeg-D, f32: a slice of 224 x 224 encoded";
    row(what, seconds(time), "");
    let rec = gpu.record("encoder");
    let reduced = model.encode(&rec, &pixels, |_, _| ());
    rec.submit()?;
    let phrase = [(0..32).map(|n| 101 + n).collect::<Vec<u32>>()];
    let time = least(5, || {
        let rec = gpu.record("phrase");
        let conditions = model.conditions(&rec, &phrase, |_, _| ())?;
        let logits = model.decode(&rec, &reduced, &conditions, |_, _| ())?;
        logits.read(rec).map(drop)
    })?;
    let what = "BiomedCLIPSeg-D, f32: a phrase encoded and decoded";
    row(what, seconds(time), "");
    Ok(())
}

/// CLIP's three ViTs with numbers for weights, a picture of 224 x 224 and a text of 77 tokens.
fn clip(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let goldens = [
        ("B/32", "clip-vit-base-patch32"),
        ("B/16", "clip-vit-base-patch16"),
        ("L/14", "clip-vit-large-patch14"),
    ];
    for (short, name) in goldens {
        let place = golden("clip_whole.json", name)?;
        let model = Clip::new(gpu, &Checkpoint::open(place.path())?, Precision::F32)?;
        let (pixels, text) = (picture(gpu, 224)?, [vec![320_u32; 77]]);
        let image = least(5, || {
            let rec = gpu.record("image");
            let image = model.images(&rec, &pixels, |_, _| ());
            image.read(rec).map(drop)
        })?;
        let text = least(5, || {
            let rec = gpu.record("text");
            let text = model.texts(&rec, &text, |_, _| ())?;
            text.read(rec).map(drop)
        })?;
        let what = format!("CLIP ViT-{short}, f32: a picture of 224 x 224");
        row(&what, seconds(image), "");
        row(
            &format!("CLIP ViT-{short}, f32: 77 tokens"),
            seconds(text),
            "",
        );
    }
    Ok(())
}

/// CRIS on RN50 with numbers for weights, one slice and one phrase; what PyTorch takes is `peers/cris_r50.py`'s to say.
fn cris(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let tensors = contract::contract("cris-r50");
    let folder = model_files::model_folder(&serde_json::json!({}), &tensors, str::to_owned);
    let checkpoint = Checkpoint::open(folder.path())?;
    let model = Cris::new(gpu, &checkpoint, USUAL_SIZE, Precision::F32)?;
    let pixels = picture(gpu, USUAL_SIZE)?;
    let time = least(3, || {
        let rec = gpu.record("encoder");
        let maps = model.encode(&rec, &pixels, |_, _| ());
        rec.read::<f32>(&[(&maps[0], 4)]).map(drop)
    })?;
    let what = "CRIS R50, f32: a slice of 416 x 416 encoded";
    row(what, seconds(time), "");
    let phrases = vec![vec![49_406, 320, 1125, 539, 320, 2368, 49_407]; 8];
    let time = least(5, || {
        let rec = gpu.record("text");
        let phrases = model.phrases(&rec, &phrases, |_, _| ())?;
        phrases.vectors.read(rec).map(drop)
    })?;
    row("CRIS R50, f32: eight phrases encoded", seconds(time), "");
    let rec = gpu.record("both");
    let maps = model.encode(&rec, &pixels, |_, _| ());
    let phrases = model.phrases(&rec, &phrases[..1], |_, _| ())?;
    rec.submit()?;
    let time = least(3, || {
        let rec = gpu.record("decoder");
        let logits = model.decode(&rec, &maps, &phrases, 0, |_, _| ());
        logits.read(rec).map(drop)
    })?;
    row("CRIS R50, f32: a phrase decoded", seconds(time), "");
    Ok(())
}

/// MedCLIP (Swin-T, BioClinicalBERT) and BiomedCLIP (ViT-B/16, PubMedBERT) with numbers for weights, a picture and a text of 32
/// tokens each; what PyTorch takes is `peers/clips.py`'s to say.
fn clips(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let pixels: Vec<f32> = (0..224 * 224 * 4)
        .map(|n| (n % 251) as f32 / 125.0 - 1.0)
        .collect();
    let pixels = Tensor::upload(gpu, "pixels", [1, 224, 224, 4], &pixels)?;
    let texts = [(0..32).map(|n| 101 + n).collect::<Vec<u32>>()];
    let place = contracted("medclip-vit");
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
    let place = contracted("BiomedCLIP-PubMedBERT_256-vit_base_patch16_224");
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

/// SigLIP base with numbers for weights, a picture of 224 x 224 and a text of 64 tokens.
fn siglip(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let config = serde_json::json!({"model_type": "siglip", "vision_config": {"patch_size": 16}});
    let tensors = contract::contract("siglip-base-patch16-224");
    let place = model_files::model_folder(&config, &tensors, str::to_owned);
    let model = Siglip::new(gpu, &Checkpoint::open(place.path())?, Precision::F32)?;
    let (pixels, texts) = (picture(gpu, 224)?, [(2..66).collect::<Vec<u32>>()]);
    let image = least(5, || {
        let rec = gpu.record("image");
        let image = model.images(&rec, &pixels, |_, _| ())?;
        image.read(rec).map(drop)
    })?;
    let text = least(5, || {
        let rec = gpu.record("text");
        let text = model.texts(&rec, &texts, |_, _| ())?;
        text.read(rec).map(drop)
    })?;
    row(
        "SigLIP base, f32: a picture of 224 x 224",
        seconds(image),
        "",
    );
    row("SigLIP base, f32: 64 tokens", seconds(text), "");
    Ok(())
}

/// What a Zeus of SAM ViT-B adds to its encoder: eight instructions decoded on an encoded slice.
fn zeus(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let sam = golden("sam_whole.json", "vit_b")?;
    let projection = [
        ("weight".to_owned(), vec![256, 512]),
        ("bias".to_owned(), vec![256]),
    ];
    let none = serde_json::json!({});
    let projection = model_files::model_folder(&none, &projection.into(), str::to_owned);
    let (sam, projection) = (
        Checkpoint::open(sam.path())?,
        Checkpoint::open(projection.path())?,
    );
    let zeus = ZeusSam::new(gpu, &[sam], 0, &projection, Precision::F32)?;
    let grid: Vec<f32> = (0..64 * 64 * 256)
        .map(|n| (n % 251) as f32 / 125.0 - 1.0)
        .collect();
    let image = Tensor::upload(gpu, "image", [1, 64, 64, 256], &grid)?;
    let texts = Tensor::upload(gpu, "texts", [8, 512], &grid[..8 * 512])?;
    let time = least(5, || {
        let rec = gpu.record("decoder");
        let tokens = zeus.project(&rec, &texts);
        let masks = zeus.decode(&rec, &image, &tokens, |_, _| ())?;
        rec.read::<f32>(&[(&masks.low_res, 4)]).map(drop)
    })?;
    row(
        "Zeus on SAM ViT-B, f32: eight instructions decoded",
        seconds(time),
        "",
    );
    Ok(())
}

/// SAM ViT-B and MobileSAM with numbers for weights, one slice and one box; what PyTorch takes is `peers/sam_vit_b.py`'s and
/// `peers/mobilesam.py`'s to say.
fn sam(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let vit_b = golden("sam_whole.json", "vit_b")?;
    one_sam(gpu, "SAM ViT-B", vit_b.path())?;
    one_sam(gpu, "MobileSAM", contracted("mobile_sam").path())
}

fn one_sam(gpu: &Gpu, name: &str, folder: &Path) -> Result<(), keraunos::Error> {
    let sam = Sam::new(gpu, &Checkpoint::open(folder)?, Precision::F32)?;
    let size = sam.config().image_size;
    let pixels = picture(gpu, size)?;
    let time = least(3, || {
        let rec = gpu.record("encoder");
        let image = sam.encode(&rec, &pixels, |_, _| ());
        rec.read::<f32>(&[(&image, 4)]).map(drop)
    })?;
    let what = format!("{name}, f32: a slice of 1024 x 1024 encoded");
    row(&what, seconds(time), "");
    let rec = gpu.record("encoder");
    let image = sam.encode(&rec, &pixels, |_, _| ());
    rec.submit()?;
    let prompts = [Prompt::corners([[200.0, 300.0], [600.0, 700.0]])];
    let time = least(7, || {
        let rec = gpu.record("decoder");
        let masks = sam.decode(&rec, &image, &prompts, None, |_, _| ())?;
        rec.read::<f32>(&[(&masks.low_res, 4)]).map(drop)
    })?;
    row(&format!("{name}, f32: a box decoded"), seconds(time), "");
    Ok(())
}

/// brainchop's network of 30 channels out of the shared folder on a cube of so many voxels a side; what its rivals take is
/// `peers/published.py`'s to say.
fn meshnet(gpu: &Gpu, side: usize, runs: usize) -> Result<(), keraunos::Error> {
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
    let size = [side; 3];
    let values: Vec<f32> = (0..side * side * side)
        .map(|n| (n % 251) as f32 / 250.0)
        .collect();
    let time = least(runs, || {
        let keep = |_: &str, _: &Slabs| Ok(());
        let classes = model.forward(gpu, &values, size, SLAB_BYTES, keep, &mut |_| ());
        classes.map(drop)
    })?;
    let taps: usize = model
        .config()
        .layers
        .iter()
        .map(|layer| layer.in_channels * layer.out_channels * layer.kernel_size.pow(3))
        .sum();
    let work = 2.0 * taps as f64 * (side as f64).powi(3);
    let rate = format!("{:.1} GFLOP/s", work / time.as_secs_f64() / 1e9);
    let what = format!("MeshNet, 30 channels: {side} x {side} x {side} voxels");
    row(&what, seconds(time), &rate);
    Ok(())
}
