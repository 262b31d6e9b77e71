//! Instructions as the language model writes them, for the training to read: `make instructions`.
//!
//! Every structure and side in every MR contrast, through the engine's own prompt; the answers are greedy, and a
//! scan of another size changes none of them. One JSON object a line: structure, side, modality and text,
//! where `<view>` stands for the view. Answers that the engine would replace are left out.

use keraunos::Result;
use keraunos::pipeline::instruct::{Author, Request};
use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::prepare::View;
use keraunos::pipeline::structures::Target;
use keraunos::pipeline::{Options, Segmenter};
use serde_json::json;

const MODALITIES: [Modality; 4] = [Modality::T1, Modality::T2, Modality::Flair, Modality::Pd];

fn main() -> Result<()> {
    let segmenter = Segmenter::open(&Options::default())?;
    let writer = segmenter.writer()?;
    let targets = Target::all();
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
        let written = writer.instruct(gpu, &requests, &facts, &View::ALL, &mut |_| ())?;
        let own = written.iter().filter(|i| i.author == Author::Llm);
        for instruction in own.clone() {
            let target = Target::find(&instruction.structure)?;
            let line = json!({
                "structure": target.name_without_side(),
                "side": target.side.map_or("", |side| side.name()),
                "modality": modality,
                "text": instruction.text,
            });
            println!("{line}");
        }
        eprintln!(
            "{}: {} of {}",
            modality.phrase(),
            own.count(),
            targets.len()
        );
    }
    Ok(())
}
