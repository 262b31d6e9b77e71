//! Whole forward passes on the adapter at hand, each beside what the first release promises of a
//! two-core software adapter: `cargo bench --bench models`.
//!
//! Times are the least of several runs, from recording to read-back. The language models are looked for
//! where the product looks; rows that need one which is absent say so.

#[path = "support/timing.rs"]
mod timing;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use keraunos::gpu::{Gpu, GpuOptions};
use keraunos::models::llama::Batch;
use keraunos::models::zeus::Zeus;
use keraunos::ops::{argmax, matmul};
use keraunos::pipeline::home::Home;
use keraunos::pipeline::instruct::Writer;
use keraunos::pipeline::text_encoder::TextEncoder;
use keraunos::pipeline::{adapter, ahead};
use keraunos::tensor::{Checkpoint, Precision, Tensor};
use timing::{least, row, seconds};

/// Prompts of a slice: every structure that the default model knows.
const PROMPTS: usize = 69;

/// Asks this program, run again, for nothing but the masks of one slice, with a cache folder.
const FIRST_MASK: &str = "--first-mask";
/// Asks it to make pipelines when they are needed and not before.
const ONE_BY_ONE: &str = "--one-by-one";

fn main() -> Result<(), keraunos::Error> {
    let words: Vec<String> = std::env::args().collect();
    if let Some(at) = words.iter().position(|word| word == FIRST_MASK) {
        let ahead = words[at + 2..].iter().all(|word| word != ONE_BY_ONE);
        return first_mask(Path::new(&words[at + 1]), ahead);
    }
    let gpu = Gpu::open(&GpuOptions::default())?;
    let adapter = gpu.summary();
    println!("{} ({}, {})", adapter.name, adapter.kind, adapter.driver);
    row("", "measured".to_owned(), "promised on 2 cores");
    cold_start()?;
    zeus(&gpu)?;
    let home = Home::new(None)?;
    match TextEncoder::open(&gpu, &home) {
        Ok(encoder) => sentences(&gpu, &encoder)?,
        Err(error) => println!("all-MiniLM-L6-v2: {error}"),
    }
    match Writer::open(&gpu, &home) {
        Ok(writer) => language(&gpu, &writer)?,
        Err(error) => println!("SmolLM2-135M: {error}"),
    }
    Ok(())
}

/// From the start of a process to the masks of one slice: the program, the adapter, the weights, the kernels as the
/// driver's cache has them, and the slice. Later starts with and without pipelines made ahead take turns.
fn cold_start() -> Result<(), keraunos::Error> {
    let failed = |problem: String| keraunos::Error::Gpu(format!("the first mask: {problem}"));
    let cache = tempfile::tempdir().map_err(|error| failed(error.to_string()))?;
    let run = |more: &[&str]| {
        let start = Instant::now();
        let program = std::env::current_exe().and_then(|me| {
            let mut program = Command::new(me);
            program.arg(FIRST_MASK).arg(cache.path()).args(more);
            program.status()
        });
        match program {
            Ok(status) if status.success() => Ok(start.elapsed()),
            Ok(status) => Err(failed(status.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    };
    let first = run(&[])?;
    let (mut ahead, mut needed) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        ahead.push(run(&[])?);
        needed.push(run(&[ONE_BY_ONE])?);
    }
    ahead.sort();
    needed.sort();
    row(
        "process start to first mask, adapter never met",
        seconds(first),
        "-",
    );
    row(
        "process start to first mask, then",
        seconds(ahead[0]),
        "4 s",
    );
    row("the same, median of 7", seconds(ahead[3]), "-");
    row(
        "the same without pipelines made ahead",
        seconds(needed[0]),
        "-",
    );
    row("the same, median of 7", seconds(needed[3]), "-");
    Ok(())
}

fn first_mask(cache: &Path, make_ahead: bool) -> Result<(), keraunos::Error> {
    let gpu = adapter::open(&GpuOptions::default(), Some(cache), &mut |_| ())?;
    if make_ahead {
        ahead::begin(&gpu, cache, "first-mask");
    }
    let (zeus, image, text) = slice(&gpu)?;
    let rec = gpu.record("slice");
    let masks = zeus.forward(&rec, &image, &text, |_, _| ());
    masks.low_res.read(rec).map(drop)
}

/// The embedded model, a slice, and a prompt token for each of its structures.
fn slice(gpu: &Gpu) -> Result<(Zeus, Tensor, Tensor), keraunos::Error> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/zeus-mini.safetensors");
    let zeus = Zeus::new(gpu, &Checkpoint::open(&path)?, Precision::Auto)?;
    let size = zeus.config().image_size;
    let image: Vec<f32> = (0..size * size * 4)
        .map(|n| {
            if n % 4 == 0 {
                (n % 251) as f32 / 250.0
            } else {
                0.0
            }
        })
        .collect();
    let image = Tensor::upload(gpu, "image", [1, size, size, 4], &image)?;
    let text: Vec<f32> = (0..PROMPTS * 128)
        .map(|n| ((n % 37) as f32 - 18.0) / 400.0)
        .collect();
    let text = Tensor::upload(gpu, "tokens", [PROMPTS, 128], &text)?;
    Ok((zeus, image, text))
}

fn zeus(gpu: &Gpu) -> Result<(), keraunos::Error> {
    let (zeus, image, text) = slice(gpu)?;
    let encode = least(7, || {
        let rec = gpu.record("encode");
        let embedding = zeus.encode(&rec, &image, |_, _| ());
        let pixels = zeus.upscale(&rec, &embedding, |_, _| ());
        rec.read::<f32>(&[(&pixels, 4)]).map(drop)
    })?;
    row(
        "zeus-mini: a slice encoded and upscaled",
        seconds(encode),
        "0.4 s",
    );
    let rec = gpu.record("encode");
    let embedding = zeus.encode(&rec, &image, |_, _| ());
    let pixels = zeus.upscale(&rec, &embedding, |_, _| ());
    rec.submit()?;
    let [_, side, _, channels] = pixels.dims();
    let prompts = least(7, || {
        let rec = gpu.record("prompts");
        let decoded = zeus.decode(&rec, &embedding.neck, &text, |_, _| ());
        let hyper = decoded.hyper.reshape([PROMPTS, decoded.hyper.matrix()[1]]);
        let masks = matmul(&rec, &hyper, &pixels.reshape([side * side, channels]), true);
        rec.read::<f32>(&[(&masks, 4)]).map(drop)
    })?;
    row(
        &format!("zeus-mini: its {PROMPTS} prompts together"),
        seconds(prompts),
        "0.1 s",
    );
    Ok(())
}

fn sentences(gpu: &Gpu, encoder: &TextEncoder) -> Result<(), keraunos::Error> {
    let texts: Vec<String> = (0..64)
        .map(|n| format!("Segment structure {n} of the brain in this T1-weighted axial MRI."))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let time = least(3, || encoder.embed(gpu, &texts).map(drop))?;
    row("all-MiniLM-L6-v2: 64 instructions", seconds(time), "-");
    Ok(())
}

fn language(gpu: &Gpu, writer: &Writer) -> Result<(), keraunos::Error> {
    let (llama, vocab) = (writer.llama(), writer.llama().config().vocab_size);
    let ids: Vec<u32> = (0..128).map(|n| 1000 + 37 * n).collect();
    let cache = llama.cache(gpu, 256, Precision::Auto)?;
    let prefill = least(3, || {
        let rec = gpu.record("prefill");
        let hidden = llama.forward(&rec, &Batch::sequence(&ids, 0), &cache, |_, _| ())?;
        rec.read::<f32>(&[(&hidden, 4)]).map(drop)
    })?;
    row(
        "SmolLM2-135M Q4_1: prefill of 128 tokens",
        format!("{:.1} tok/s", 128.0 / prefill.as_secs_f64()),
        "40 tok/s",
    );
    let decode = |batch: &Batch| {
        let rec = gpu.record("decode");
        let hidden = llama.forward(&rec, batch, &cache, |_, _| ())?;
        let best = argmax(&rec, &llama.logits(&rec, &hidden), vocab);
        rec.read::<u32>(&[(&best, batch.len())]).map(drop)
    };
    let one = Batch::sequence(&[1234], 128);
    let time = least(8, || decode(&one))?;
    row(
        "SmolLM2-135M Q4_1: decoding after 128",
        format!("{:.1} tok/s", 1.0 / time.as_secs_f64()),
        "10 tok/s",
    );
    let many = Batch {
        ids: vec![1234; 32],
        positions: vec![128; 32],
        slots: (128..160).collect(),
        spans: (128..160).map(|slot| [slot, 1]).collect(),
        prefix: 128,
        ..Batch::default()
    };
    let time = least(3, || decode(&many))?;
    row(
        "SmolLM2-135M Q4_1: decoding 32 at once",
        format!("{:.1} tok/s", 32.0 / time.as_secs_f64()),
        "-",
    );
    Ok(())
}
