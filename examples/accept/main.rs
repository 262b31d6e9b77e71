//! What the weights can do, as Markdown for `weights/README.md`: `make accept`.
//!
//! ```text
//! KERAUNOS_SHARED=../shared cargo run --release --example accept [real] [words] [findings] [held-out] [fusion] [meshnet] [atlas] [tissues] > table.md
//! ```
//!
//! `real`, `words` and `findings` read the volumes of `KERAUNOS_SHARED`; `held-out` and `fusion` the phantoms, `meshnet`, `atlas` and `tissues`
//! the label maps that the recipe wrote to `KERAUNOS_HELD_OUT` (`weights/recipe/README.md`). Scores are those of
//! `keraunos evaluate`. Without a part all run for which there is something to read. `KERAUNOS_WEIGHTS` names other weights
//! than the built-in ones, to measure them before they take their place.

mod findings;
mod held_out;
mod real;
mod threshold;
mod tissues;
mod words;

use std::path::{Path, PathBuf};

use keraunos::pipeline::evaluate::evaluate;
use keraunos::pipeline::instruct::Instruction;
use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::structures::Target;
use keraunos::pipeline::volume::Names;
use keraunos::pipeline::{DrawnMask, Input, Instruct, Observer, Options, Request, Segmenter};
use keraunos::{Error, Result};

const PARTS: [&str; 8] = [
    "real", "words", "findings", "held-out", "fusion", "meshnet", "atlas", "tissues",
];

/// The Dice of each prompt with each of its truths, as its mask comes.
struct Scores<'a> {
    truths: Vec<Vec<&'a [u8]>>,
    dice: Vec<Vec<Option<f64>>>,
}

impl<'a> Scores<'a> {
    fn new(truths: Vec<Vec<&'a [u8]>>) -> Self {
        let dice = Vec::new();
        Self { truths, dice }
    }
}

impl Observer for Scores<'_> {
    fn drawn(&mut self, drawn: &DrawnMask) -> Result<()> {
        let mask: Vec<u8> = drawn.voxels().map(u8::from).collect();
        let truths = &self.truths[self.dice.len()];
        let scores = truths.iter().map(|truth| dice(&mask, truth)).collect();
        self.dice.push(scores);
        Ok(())
    }
}

/// The Dice of two masks of one grid; none if both are empty.
fn dice(mask: &[u8], truth: &[u8]) -> Option<f64> {
    let names = Names::from([(1, String::new())]);
    evaluate(mask, truth, &names).labels[0].dice
}

/// The built-in sentence.
fn stock(target: &Target) -> String {
    Instruction::stock(target, Modality::T1).text
}

/// A request for `scan`.
fn request(scan: &Path, modality: Modality) -> Request {
    let mut input = Input::new(scan);
    input.modality = Some(modality);
    Request::new(vec![input])
}

/// A request for each of the targets, by its built-in instruction.
fn asking_for(mut asking: Request, truths: &[(Target, Vec<u8>)]) -> Request {
    asking.targets = truths.iter().map(|(target, _)| target.clone()).collect();
    asking.instruct = Instruct::Stock;
    asking
}

fn show(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{value:.3}"))
}

fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.flatten().collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// A folder that an environment variable names.
fn folder(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| default.into(), PathBuf::from)
}

fn main() -> Result<()> {
    let shared = folder("KERAUNOS_SHARED", "../shared");
    let held_out = folder("KERAUNOS_HELD_OUT", "out/recipe");
    let mut parts: Vec<String> = std::env::args().skip(1).collect();
    if parts.is_empty() {
        // What the recipe did not write is left out, and only then.
        let written = |part: &str| match part {
            "held-out" | "fusion" => held_out.join("phantoms").is_dir(),
            "meshnet" | "atlas" => held_out.join("meshnet").is_dir(),
            "tissues" => held_out.join("meshnet/mni152.nii.gz").is_file(),
            _ => true,
        };
        parts = PARTS.map(String::from).into();
        parts.retain(|part| written(part));
    }
    let segmenter = Segmenter::open(&Options {
        weights: std::env::var_os("KERAUNOS_WEIGHTS").map(PathBuf::from),
        ..Options::default()
    })?;
    let adapter = segmenter.gpu().summary();
    println!("On {} ({}).\n", adapter.name, adapter.driver);
    for part in &parts {
        match part.as_str() {
            "real" => real::accept(&segmenter, &shared)?,
            "words" => words::accept(&segmenter, &shared)?,
            "findings" => findings::accept(&segmenter, &shared, &held_out.join("meshnet"))?,
            "held-out" => held_out::phantoms(&segmenter, &held_out.join("phantoms"))?,
            "fusion" => held_out::fusion(&segmenter, &held_out.join("phantoms"))?,
            "meshnet" => held_out::meshnet(&segmenter, &shared, &held_out.join("meshnet"))?,
            "atlas" => held_out::atlas(&segmenter, &shared, &held_out.join("meshnet"))?,
            "tissues" => tissues::accept(&segmenter, &shared, &held_out.join("meshnet"))?,
            other => {
                return Err(Error::Argument(format!(
                    "`{other}`: the parts are {}",
                    PARTS.join(", ")
                )));
            }
        }
    }
    Ok(())
}
