//! `keraunos evaluate`: how well maps agree with the truth.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::args::{EvaluateArgs, GpuArgs, ModelArgs};
use super::console::Console;
use crate::error::{Error, Result};
use crate::pipeline::Input;
use crate::pipeline::cohort::{Cohort, evaluate_folders, summary_path};
use crate::pipeline::effect::instruction_effect;
use crate::pipeline::evaluate::{Agreement, evaluate_files};
use crate::pipeline::files::same_file;
use crate::pipeline::{plot, schema};

/// What `--instructions` needs beside: it segments.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --instructions")]
pub(super) struct EffectArgs {
    /// PREDICTION is a scan: it is segmented with good, bad and wrong instructions for each structure of TRUTH, and what
    /// the words did is shown
    #[arg(long, conflicts_with_all = ["threshold", "csv", "plot"])]
    instructions: bool,
    #[command(flatten)]
    models: ModelArgs,
}

impl EffectArgs {
    pub(super) fn gpu(&self) -> &GpuArgs {
        &self.models.gpu
    }
}

fn effect(args: &EvaluateArgs, console: &Console) -> Result<ExitCode> {
    let segmenter = args.effect.models.segmenter(console, "evaluate")?;
    let mut bar = console.progress();
    let scan = Input::new(&args.prediction);
    let pairs = args.measures().pairs;
    let effect = instruction_effect(&segmenter, scan, &args.truth, &pairs, &mut bar)?;
    bar.finish();
    match args.json {
        true => console.json(&in_schema(&effect))?,
        false => console.print(&format!("{effect}\n"))?,
    }
    for warning in &effect.warnings {
        console.warn(warning);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn run(args: &EvaluateArgs, console: &Console) -> Result<ExitCode> {
    if args.effect.instructions {
        return effect(args, console);
    }
    let (prediction, truth) = (&args.prediction, &args.truth);
    let summary = args.csv.as_deref().map(summary_path);
    for out in [&args.csv, &summary, &args.plot].into_iter().flatten() {
        check_place(out, [prediction, truth])?;
    }
    match (prediction.is_dir(), truth.is_dir()) {
        (true, true) => folders(args, console),
        (false, false) => {
            let measures = args.measures();
            let evaluation = evaluate_files(prediction, truth, &measures)?;
            let tolerance = measures.tolerance_mm;
            write(
                args,
                &Cohort::of_one(prediction, truth, evaluation.clone(), tolerance),
            )?;
            match args.json {
                true => console.json(&in_schema(&evaluation))?,
                false => console.print(&format!("{evaluation}\n"))?,
            }
            let shared = |row: &Agreement| row.predicted_voxels > 0 && row.true_voxels > 0;
            let unpaired = measures.pairs.is_empty() && !evaluation.labels.is_empty();
            if unpaired && !evaluation.labels.iter().any(shared) {
                console.warn("no label is in both maps; --pair says which belong together");
            }
            Ok(ExitCode::SUCCESS)
        }
        (is_folder, _) => {
            let (folder, file) = match is_folder {
                true => (prediction, truth),
                false => (truth, prediction),
            };
            Err(Error::Argument(format!(
                "`{}` is a folder and `{}` is none; give two maps or two folders",
                folder.display(),
                file.display()
            )))
        }
    }
}

/// An outcome, with the schema that it follows.
fn in_schema<T: Serialize>(outcome: &T) -> InSchema<'_, T> {
    InSchema {
        schema: schema::EVALUATION.id,
        outcome,
    }
}

#[derive(Serialize)]
struct InSchema<'a, T> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    #[serde(flatten)]
    outcome: &'a T,
}

fn folders(args: &EvaluateArgs, console: &Console) -> Result<ExitCode> {
    let (prediction, truth) = (&args.prediction, &args.truth);
    let mut tell = |case: &str, n: usize, of: usize| tracing::info!("{} of {of}: {case}", n + 1);
    let cohort = evaluate_folders(prediction, truth, &args.measures(), &mut tell)?;
    write(args, &cohort)?;
    match args.json {
        true => console.json(&in_schema(&cohort))?,
        false => console.print(&format!("{cohort}\n"))?,
    }
    for path in &cohort.missing_predictions {
        console.warn(&format!("no prediction for `{}`", path.display()));
    }
    for path in &cohort.missing_truths {
        console.warn(&format!("no truth for `{}`", path.display()));
    }
    for failure in &cohort.failed {
        console.warn(&format!("{}: {}", failure.case, failure.problem));
    }
    Ok(match cohort.is_whole() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn write(args: &EvaluateArgs, cohort: &Cohort) -> Result<()> {
    if let Some(path) = &args.csv {
        cohort.write_csv(path)?;
    }
    if let Some(path) = &args.plot {
        plot::write_plot(path, cohort)?;
    }
    Ok(())
}

/// Refuses to write over a map that is judged, or into a folder that is not there: before the maps are read, so that of
/// several files none is written.
fn check_place(out: &Path, inputs: [&PathBuf; 2]) -> Result<()> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        std::fs::metadata(folder).map_err(Error::write(out))?;
    }
    match inputs.into_iter().find(|input| same_file(input, out)) {
        Some(input) => Err(Error::Argument(format!(
            "the result would overwrite the input `{}`",
            input.display()
        ))),
        None => Ok(()),
    }
}
