//! Instructions as the language model writes them, for the training to read: `make instructions`.
//!
//! Every structure and side in every MR contrast, through the engine's own prompt; first greedily, then as often as the
//! argument says (8 times without) drawn at temperature 0.8 from the likeliest tokens of 0.95 together, by another seed each
//! time. One JSON object a line: structure, side, modality and text, where `<view>` stands for the view. Answers that the
//! engine would replace and repetitions are left out.

use std::collections::BTreeSet;

use keraunos::pipeline::instruct::{Author, Request};
use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::prepare::View;
use keraunos::pipeline::sampling::Sampling;
use keraunos::pipeline::structures::Target;
use keraunos::pipeline::wording::Wording;
use keraunos::pipeline::{Options, Segmenter};
use keraunos::{Error, Result};
use serde_json::json;

const MODALITIES: [Modality; 4] = [Modality::T1, Modality::T2, Modality::Flair, Modality::Pd];

fn main() -> Result<()> {
    let rounds = match std::env::args().nth(1) {
        None => 8,
        Some(count) => count
            .parse::<u64>()
            .map_err(|_| Error::Argument(format!("`{count}` is no number of rounds")))?,
    };
    let segmenter = Segmenter::open(&Options::default())?;
    let mut writer = segmenter.writer()?;
    let targets = Target::all();
    let mut lines = BTreeSet::new();
    for round in 0..=rounds {
        if round > 0 {
            writer.sampling = Sampling {
                temperature: 0.8,
                top_p: 0.95,
                seed: round,
                ..Sampling::default()
            };
        }
        for modality in MODALITIES {
            let requests: Vec<Request> = targets
                .iter()
                .map(|target| Request { target, modality })
                .collect();
            let facts = format!(
                "a {} MRI of the head, 181 x 217 x 181 mm, voxels of 1.0 x 1.0 x 1.0 mm",
                modality.phrase()
            );
            let gpu = segmenter.gpu();
            let written = writer.instruct(
                gpu,
                Wording::embedded(),
                &requests,
                &facts,
                &View::ALL,
                &mut |_| (),
            )?;
            let own = written.iter().filter(|i| i.author == Author::Llm);
            for instruction in own.clone() {
                let target = Target::find(&instruction.structure)?;
                let line = json!({
                    "structure": target.name_without_side(),
                    "side": target.side.map_or("", |side| side.name()),
                    "modality": modality,
                    "text": instruction.text,
                })
                .to_string();
                if !lines.contains(&line) {
                    println!("{line}");
                    lines.insert(line);
                }
            }
            eprintln!(
                "round {round} of {rounds}, {}: {} of {}, {} different in all",
                modality.phrase(),
                own.count(),
                targets.len(),
                lines.len()
            );
        }
    }
    Ok(())
}
