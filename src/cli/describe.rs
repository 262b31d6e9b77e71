//! `keraunos describe`: what a model that sees says of a volume's slices.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::args::{ModelArgs, ViewArg};
use super::console::Console;
use crate::error::{Error, Result};
use crate::pipeline::describe::Describer;
use crate::pipeline::describe::findings::Summary;
use crate::pipeline::describe::slices::{pictures, places};
use crate::pipeline::modality::{Modality, estimate};
use crate::pipeline::prepare::{Prepared, View};
use crate::pipeline::sampling::Sampling;
use crate::pipeline::volume::Volume;

pub(super) const DESCRIBE_EXAMPLES: &str = "\
Examples:
  keraunos describe t1.nii.gz
  keraunos describe t1.nii.gz --slices 9 --view axial --json
  keraunos describe t1.nii.gz --model SmolVLM-256M-Instruct/
  keraunos describe t1.nii.gz --model llava-1.5-7b-hf/ --view axial --slices 3 \\
      --prompt \"Is there a lesion?\"

Without --model the built-in model states sequence, view, level and structures of MRI of heads, by the language
model that `keraunos pull` gets. --model takes a folder of Hugging Face's (config.json, tokenizer.json,
preprocessor_config.json, chat template, safetensors) with Idefics3, SmolVLM or LLaVA 1.5; none is fetched. What
either says is not checked: not a medical device.";

#[derive(Debug, Args)]
pub(super) struct DescribeArgs {
    /// The volume
    scan: PathBuf,
    /// Another model that sees than the built-in one: a folder of Hugging Face's
    #[arg(long, value_name = "DIR", conflicts_with_all = ["weights", "llm", "model_dir", "precision"])]
    model: Option<PathBuf>,
    /// The view that is looked at; repeatable [default: all]
    #[arg(long, value_enum)]
    view: Vec<ViewArg>,
    /// How many slices of each view; one is the middle
    #[arg(long, value_name = "N", default_value_t = 1)]
    slices: usize,
    /// What --model is asked of each slice
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "Describe the findings in this image.",
        requires = "model"
    )]
    prompt: String,
    /// The most tokens of an answer of --model
    #[arg(long, value_name = "N", default_value_t = 128, requires = "model")]
    max_tokens: usize,
    /// Prints everything as one JSON object
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) models: ModelArgs,
}

pub(super) fn run(args: &DescribeArgs, console: &Console) -> Result<()> {
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
    match &args.model {
        Some(folder) => ask(args, folder, &prepared, console),
        None => state(args, &volume, &prepared, console),
    }
}

/// What the built-in model states.
fn state(
    args: &DescribeArgs,
    volume: &Volume,
    prepared: &Prepared,
    console: &Console,
) -> Result<()> {
    let estimated = estimate(volume);
    if estimated.modality == Modality::Ct {
        console.warn(&format!(
            "`{}` looks like CT, of which the built-in model knows nothing: {}",
            args.scan.display(),
            estimated.reason
        ));
    }
    let views = ViewArg::views(&args.view);
    let looked: Vec<(View, usize)> = views
        .into_iter()
        .flat_map(|view| places(prepared, view, args.slices).map(move |index| (view, index)))
        .collect();
    let segmenter = args.models.segmenter(console, "describe")?;
    let mut progress = console.progress();
    let findings = segmenter.findings(prepared, &looked, &mut progress)?;
    progress.finish();
    let summary = Summary::of(&findings);
    if args.json {
        let slices: Vec<_> = looked
            .iter()
            .zip(&findings)
            .map(|((view, index), stated)| json!({ "view": view, "slice": index, "text": stated.text, "stated": stated }))
            .collect();
        return console.json(&json!({
            "scan": args.scan, "model": "zeus-mini", "sha256": segmenter.weights_sha256("segmentation")?,
            "findings": slices, "summary": summary,
        }));
    }
    for ((view, index), stated) in looked.iter().zip(&findings) {
        console.print(&format!("{} {index}: {}\n", view.name(), stated.text))?;
    }
    if findings.len() > 1 {
        let counts = |all: &[(String, usize)]| {
            let each = all.iter().map(|(words, count)| format!("{words} {count}"));
            each.collect::<Vec<_>>().join(", ")
        };
        console.print(&format!(
            "of {} slices: {}; {}\n",
            summary.slices,
            counts(&summary.sequences),
            counts(&summary.structures)
        ))?;
    }
    Ok(())
}

/// What a user's model answers.
fn ask(args: &DescribeArgs, folder: &Path, prepared: &Prepared, console: &Console) -> Result<()> {
    let (mut places, mut asked) = (Vec::new(), Vec::new());
    for view in ViewArg::views(&args.view) {
        for (index, picture) in pictures(prepared, view, args.slices) {
            places.push((view, index));
            asked.push((picture, args.prompt.clone()));
        }
    }
    let gpu = args.models.gpu.open(console, "describe")?;
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
