//! `keraunos describe`: what a model that sees says of a volume's slices.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::args::{GpuArgs, ViewArg};
use super::console::Console;
use crate::error::{Error, Result};
use crate::pipeline::describe::Describer;
use crate::pipeline::describe::slices::pictures;
use crate::pipeline::prepare::Prepared;
use crate::pipeline::sampling::Sampling;
use crate::pipeline::volume::Volume;

pub(super) const DESCRIBE_EXAMPLES: &str = "\
Examples:
  keraunos describe t1.nii.gz --model SmolVLM-256M-Instruct/
  keraunos describe t1.nii.gz --model llava-1.5-7b-hf/ --view axial --slices 3 --json \\
      --prompt \"Is there a lesion?\"

--model takes a folder of Hugging Face's (config.json, tokenizer.json, preprocessor_config.json, chat
template, safetensors) with Idefics3, SmolVLM or LLaVA 1.5. No such model is built in or fetched. What it
says is not checked: not a medical device.";

#[derive(Debug, Args)]
pub(super) struct DescribeArgs {
    /// The volume
    scan: PathBuf,
    /// The model that sees: a folder of Hugging Face's
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The view that is looked at; repeatable [default: all]
    #[arg(long, value_enum)]
    view: Vec<ViewArg>,
    /// How many slices of each view; one is the middle
    #[arg(long, value_name = "N", default_value_t = 1)]
    slices: usize,
    /// What is asked of each slice
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "Describe the findings in this image."
    )]
    prompt: String,
    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_tokens: usize,
    /// Prints everything as one JSON object
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) gpu: GpuArgs,
}

pub(super) fn run(args: &DescribeArgs, console: &Console) -> Result<()> {
    let Some(folder) = &args.model else {
        let problem = "no model that sees is given; name a folder of Hugging Face's by --model";
        return Err(Error::Argument(problem.into()));
    };
    if args.slices == 0 {
        return Err(Error::Argument(
            "--slices 0 leaves nothing to look at".into(),
        ));
    }
    let volume = Volume::read(&args.scan)?;
    for warning in &volume.warnings {
        console.warn(&format!("`{}`: {warning}", args.scan.display()));
    }
    let prepared = Prepared::new(&volume)?;
    let (mut places, mut asked) = (Vec::new(), Vec::new());
    for view in ViewArg::views(&args.view) {
        for (index, picture) in pictures(&prepared, view, args.slices) {
            places.push((view, index));
            asked.push((picture, args.prompt.clone()));
        }
    }
    let gpu = args.gpu.open(console, "describe")?;
    let describer = Describer::open(&gpu, folder)?;
    let mut progress = console.progress();
    let how = Sampling::default();
    let answers = describer.answer(&gpu, &asked, &how, args.max_tokens, &mut progress)?;
    progress.finish();
    if args.json {
        let findings: Vec<_> = places
            .iter()
            .zip(&answers)
            .map(|((view, index), answer)| {
                json!({ "view": view, "slice": index, "text": answer.text, "ended": answer.ended })
            })
            .collect();
        return console.json(&json!({
            "scan": args.scan, "model": folder, "sha256": describer.sha256(),
            "prompt": args.prompt, "findings": findings,
        }));
    }
    for ((view, index), answer) in places.iter().zip(&answers) {
        let text = answer.text.trim();
        console.print(&format!("{} {index}: {text}\n", view.name()))?;
    }
    Ok(())
}
