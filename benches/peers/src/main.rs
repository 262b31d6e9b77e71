//! keraunos' turns among its rivals: the same case, the same numbers, the same run.
//!
//!     cargo run --release --manifest-path benches/peers/Cargo.toml -- matmul conv attention decoder vit
//!
//! By itself it lets the ways in which keraunos computes a case take turns, and those rivals that are built in:
//! `--features burn,candle`. `serve` answers the scripts beside
//! this crate, which run PyTorch, onnxruntime, wonnx and llama.cpp, compare every result with keraunos' before it
//! is timed, and let keraunos take its turns among theirs.

#[cfg(feature = "burn")]
mod burn;
#[cfg(feature = "candle")]
mod candle;
mod cases;
mod contest;
mod decoder;
mod ours;
mod serve;

use std::error::Error;

use keraunos::gpu::{Gpu, GpuOptions};

use cases::Case;
use contest::{Contender, Contest};

pub type Fallible<T> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: peers [--long] [--rounds N] CASE…   or   peers serve
  CASE  matmul conv attention decoder vit, or one of its cases: matmul-1024 conv-64x56 attention-7x4096 vit-224
  --long       also the cases that take a software adapter minutes: matmul-4096, vit-1024
  --rounds N   turns of each contender, 9 by default";

struct Asked {
    cases: Vec<Case>,
    rounds: usize,
}

fn asked(words: impl Iterator<Item = String>, cpu: bool) -> Fallible<Asked> {
    let (mut names, mut long, mut rounds) = (Vec::new(), !cpu, 9);
    let mut words = words;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--long" => long = true,
            "--rounds" => rounds = words.next().ok_or(USAGE)?.parse()?,
            _ if word.starts_with('-') => return Err(USAGE.into()),
            _ => names.push(word),
        }
    }
    let mut cases = Vec::new();
    for name in &names {
        let family: Vec<Case> = Case::all().filter(|case| case.family() == *name).collect();
        match family.is_empty() {
            true => cases.push(Case::all().find(|case| case.name() == *name).ok_or(USAGE)?),
            false => cases.extend(family.into_iter().filter(|case| long || !case.is_long())),
        }
    }
    match cases.is_empty() || rounds == 0 {
        true => Err(USAGE.into()),
        false => Ok(Asked { cases, rounds }),
    }
}

fn main() -> Fallible<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let gpu = Gpu::open(&GpuOptions::default())?;
    if words == ["serve"] {
        return serve::serve(&gpu);
    }
    let asked = asked(words.into_iter(), gpu.is_cpu())?;
    let adapter = gpu.summary();
    println!(
        "{} ({}, {}), keraunos {}\n",
        adapter.name,
        adapter.backend,
        adapter.driver,
        env!("KERAUNOS_VERSION"),
    );
    let mut contest = Contest::new(asked.rounds);
    for case in asked.cases {
        let mut contenders: Vec<Box<dyn Contender + '_>> = ours::contenders(&gpu, case)?;
        #[cfg(feature = "burn")]
        contenders.extend(burn::contender(case, gpu.is_cpu()));
        #[cfg(feature = "candle")]
        contenders.extend(candle::contender(case)?);
        contest.hold(case, &mut contenders)?;
        drop(contenders);
        gpu.trim();
    }
    Ok(())
}
