//! `keraunos instruct`: only the texts, to be read, edited and given back.

use std::fmt::Write;

use serde_json::json;

use super::args::InstructArgs;
use super::console::Console;
use crate::error::Result;

pub(super) fn run(args: InstructArgs, console: &Console) -> Result<()> {
    let request = args.volumes.request()?;
    let mut progress = console.progress();
    let segmenter = args.models.segmenter(console, "instruct")?;
    let (instructions, warnings) = segmenter.instruct(&request, &mut progress)?;
    progress.finish();
    for warning in &warnings {
        console.warn(warning);
    }
    if args.json {
        return console.json(&json!({ "instructions": instructions, "warnings": warnings }));
    }
    let mut text = String::new();
    for instruction in &instructions {
        let _ = writeln!(
            text,
            "{}\t{}\t{}",
            instruction.structure, instruction.modality, instruction.text
        );
    }
    console.print(&text)
}
