//! `keraunos segment`: volumes and words, phrases, or boxes and points, in, a labelled map out.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;

use super::args::{Cases, SegmentArgs};
use super::batch::{self, Told};
use super::console::{Console, Progress, table};
use crate::error::{Error, Result};
use crate::pipeline::assembly::{Assembly, Drawing};
use crate::pipeline::batch::{Batch, Model};
use crate::pipeline::cases::Case;
use crate::pipeline::kind::{Kind, kind};
use crate::pipeline::memory::{Needs, gigabytes};
use crate::pipeline::meshnet::MeshSegmenter;
use crate::pipeline::phrased::{PhrasedCases, PhrasedSegmenter};
use crate::pipeline::prompted::PromptedRequest;
use crate::pipeline::zeus_sam::ZeusSamSegmenter;
use crate::pipeline::{DrawnMask, Observer, Request, Segmentation, Segmenter, finish};
use crate::tensor::Checkpoint;

/// Bytes of memory from which on they are told unasked.
const LARGE: u64 = 4_000_000_000;

/// Draws bars, and writes probabilities as they come.
struct Watch<'a> {
    console: &'a Console,
    progress: Progress,
    stem: &'a str,
    probabilities: Option<&'a Path>,
    written: Vec<PathBuf>,
}

impl Observer for Watch<'_> {
    fn needs(&mut self, needs: &Needs) {
        let all = needs.host.saturating_add(needs.adapter);
        if all > LARGE {
            let all = gigabytes(all);
            self.console.warn(&format!("needs about {all} of memory"));
        }
    }

    fn progress(&mut self, stage: &'static str, done: f64) {
        self.progress.progress(stage, done);
    }

    fn drawn(&mut self, drawn: &DrawnMask) -> Result<()> {
        if let Some(folder) = self.probabilities {
            let path = finish::write_probabilities(folder, self.stem, drawn)?;
            self.written.push(path);
        }
        Ok(())
    }
}

pub(super) fn run(args: SegmentArgs, console: &Console) -> Result<ExitCode> {
    let shown = args.shown()?;
    if args.model.is_none() || shown.is_some() {
        args.phrases.refuse()?;
    }
    let model = match &args.model {
        Some(model) => Some(args.models.locate(model)?),
        None => None,
    };
    let cases = args.cases()?;
    match (&model, shown) {
        (Some(model), Some(request)) => by_prompts(&args, model, &request, console),
        (Some(model), None) => by_model(&args, model, cases.as_ref(), console),
        (None, _) => {
            let open = |lasting: bool| match lasting {
                true => args.models.lasting_segmenter(console),
                false => args.models.segmenter(console, "segment"),
            };
            let request = args.request()?;
            one_or_many(&args, cases.as_ref(), request, console, open, by_words)
        }
    }
}

fn by_words(segmenter: &Segmenter, request: &Request, watch: &mut Watch) -> Result<Segmentation> {
    segmenter.segment(request, watch)
}

/// Segments the volumes of one case by `one`, or many cases, with a model that `open` opens: `true` is for many.
fn one_or_many<M: Model>(
    args: &SegmentArgs,
    cases: Option<&Cases>,
    request: Request,
    console: &Console,
    open: impl FnOnce(bool) -> Result<M>,
    one: impl FnOnce(&M, &Request, &mut Watch) -> Result<Segmentation>,
) -> Result<ExitCode> {
    if let Some(cases) = cases {
        let work = |batch: &Batch, cases: &[Case], told: &mut Told| {
            let model = open(true)?;
            batch.run(&model, cases, told)
        };
        return batch::run(args, cases, request, console, work);
    }
    let inputs: Vec<PathBuf> = request.inputs.iter().map(|i| i.path.clone()).collect();
    let segment = |watch: &mut Watch| one(&open(false)?, &request, watch);
    into_folder(args, &request.stem(), &inputs, console, segment)
}

fn by_prompts(
    args: &SegmentArgs,
    model: &Path,
    request: &PromptedRequest,
    console: &Console,
) -> Result<ExitCode> {
    let inputs = [request.input.path.clone()];
    if Assembly::at(model).is_some() {
        let problem = "--model is a Zeus: a box or point is not for it";
        return Err(Error::Argument(problem.into()));
    }
    if let Ok(other) = kind(&Checkpoint::open(model)?)
        && other != Kind::Sam
    {
        let problem = format!(
            "--model is a {}: a box or point is not for it",
            other.name()
        );
        return Err(Error::Argument(problem));
    }
    let segment = |watch: &mut Watch| {
        let segmenter = args.models.prompted(console, model)?;
        segmenter.segment(request, watch)
    };
    into_folder(args, &request.stem(), &inputs, console, segment)
}

/// Segments with a model that a `model.json` describes.
fn by_assembly(
    args: &SegmentArgs,
    model: Assembly,
    cases: Option<&Cases>,
    console: &Console,
) -> Result<ExitCode> {
    args.phrases.refuse()?;
    let request = args.request_to(&model)?;
    let model = Arc::new(model);
    match &model.parts.drawing {
        Drawing::Whole(_) => {
            let open = |lasting| args.models.assembled(model.clone(), lasting, console);
            one_or_many(args, cases, request, console, open, by_words)
        }
        Drawing::Sam { .. } => {
            ZeusSamSegmenter::check(&request)?;
            let open = |lasting| {
                let segmenter = args.models.zeus_sam(model.clone(), console)?;
                Ok(match lasting {
                    true => segmenter.lasting(),
                    false => segmenter,
                })
            };
            let one = |model: &ZeusSamSegmenter, request: &Request, watch: &mut Watch| {
                model.segment(request, watch)
            };
            one_or_many(args, cases, request, console, open, one)
        }
    }
}

/// Segments with the network of a file, whichever kind it is.
fn by_model(
    args: &SegmentArgs,
    model: &Path,
    cases: Option<&Cases>,
    console: &Console,
) -> Result<ExitCode> {
    if let Some(json) = Assembly::at(model) {
        return by_assembly(args, Assembly::open(&json)?, cases, console);
    }
    let checkpoint = Checkpoint::open(model)?;
    let kind = kind(&checkpoint)?;
    let phrased = matches!(kind, Kind::ClipSeg | Kind::BiomedClipSeg | Kind::Cris);
    if !phrased {
        args.phrases.refuse()?;
    }
    let request = args.request()?;
    match kind {
        Kind::Zeus => {
            let weights = model.to_path_buf();
            let open = |lasting| args.models.with_weights(weights, lasting, console);
            one_or_many(args, cases, request, console, open, by_words)
        }
        Kind::Sam => {
            let problem = "neither --box nor --point is given";
            Err(Error::Argument(problem.into()))
        }
        Kind::ClipSeg | Kind::BiomedClipSeg | Kind::Cris => {
            // What cannot be asked of it is said before it is loaded.
            let phrasing = args.phrasing()?;
            let open = |_| {
                let (gpu, precision) = args.models.adapter(console)?;
                Ok(PhrasedCases {
                    segmenter: PhrasedSegmenter::on(gpu, &checkpoint, precision)?,
                    phrasing,
                })
            };
            let one = |model: &PhrasedCases, request: &Request, watch: &mut Watch| {
                model.segmenter.segment(&model.request(request)?, watch)
            };
            one_or_many(args, cases, request, console, open, one)
        }
        Kind::MeshNet if args.save_probabilities => {
            let problem = "a MeshNet gives classes; --save-probabilities is not for it";
            Err(Error::Argument(problem.into()))
        }
        Kind::MeshNet => {
            MeshSegmenter::check(&request)?;
            let open = |_| {
                let (gpu, precision) = args.models.adapter(console)?;
                MeshSegmenter::on(gpu, &checkpoint, precision)
            };
            let one = |model: &MeshSegmenter, request: &Request, watch: &mut Watch| {
                model.segment(request, watch)
            };
            one_or_many(args, cases, request, console, open, one)
        }
    }
}

/// Segments, writes the results and says what they are. What cannot work is found out before the long run.
fn into_folder(
    args: &SegmentArgs,
    stem: &str,
    inputs: &[PathBuf],
    console: &Console,
    segment: impl FnOnce(&mut Watch) -> Result<Segmentation>,
) -> Result<ExitCode> {
    let folder = args.output()?;
    finish::places(folder, stem, inputs)?;
    let is_new = !folder.exists();
    finish::prepare_folder(folder)?;
    let mut watch = Watch {
        console,
        stem,
        progress: console.progress(),
        probabilities: args.save_probabilities.then_some(folder),
        written: Vec::new(),
    };
    let result = segment(&mut watch).and_then(|result| {
        watch.progress.finish();
        tell(args, &result, folder, &watch)
    });
    if result.is_err() && is_new {
        // Only an empty folder is removed.
        let _ = std::fs::remove_dir(folder);
    }
    result.map(|()| ExitCode::SUCCESS)
}

fn tell(args: &SegmentArgs, result: &Segmentation, folder: &Path, watch: &Watch) -> Result<()> {
    let console = watch.console;
    let paths = result.write(folder)?;
    for warning in &result.report.warnings {
        console.warn(warning);
    }
    if args.json {
        return console.json(&json!({
            "paths": {
                "labels": paths[0],
                "names": paths[1],
                "statistics": paths[2],
                "preview": paths[3],
                "report": paths[4],
                "tables": paths[5..],
                "probabilities": watch.written,
            },
            "structures": result.structures,
            "report": result.report,
        }));
    }
    console.tell(&summary(result, &paths))
}

/// The table of structures, the timings, the places of the files, and what else must be said.
fn summary(result: &Segmentation, paths: &[PathBuf]) -> String {
    let [x, y, z] = result.reference.grid().voxel_sizes();
    let millilitres = |voxels: u64| voxels as f64 * x * y * z / 1000.0;
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    let rows: Vec<Vec<String>> = result
        .structures
        .iter()
        .map(|structure| {
            let note = match (structure.present, structure.touches_border) {
                (false, _) => "not found",
                (true, Some(true)) => "touches the border of the field of view",
                (true, _) => "",
            };
            vec![
                structure.name.clone(),
                structure.label.to_string(),
                or_dash(structure.volume_ml.map(|ml| format!("{ml:.2}"))),
                format!("{:.2}", millilitres(structure.labelled_voxels)),
                or_dash(structure.predicted_dice.map(|dice| format!("{dice:.2}"))),
                note.into(),
            ]
        })
        .collect();
    // A structure's own mask, and what is left of it in the map after the parts that lie in it.
    let heads = [
        "structure",
        ">label",
        ">volume ml",
        ">in map ml",
        ">predicted Dice",
        "",
    ];
    let mut text = table(&heads, &rows);
    let report = &result.report;
    for object in &report.followed {
        let slices = object.slices.iter().map(|found| found.slice);
        if let (Some(first), Some(last)) = (slices.clone().min(), slices.max()) {
            let [below, above] = object.ended;
            let name = &object.name;
            let _ = write!(
                text,
                "\n{name}: slices {first} to {last} (below: {below}; above: {above})"
            );
        }
    }
    let total: f64 = report.seconds.iter().map(|(_, seconds)| seconds).sum();
    let stages: Vec<String> = report
        .seconds
        .iter()
        .map(|(stage, seconds)| format!("{stage} {seconds:.1}"))
        .collect();
    let own = report
        .model
        .as_ref()
        .and_then(|card| card.citation.as_deref());
    let cited: Vec<&str> = report.citation.into_iter().chain(own).collect();
    let _ = writeln!(
        text,
        "\n{total:.1} s on {} ({})\n\nmap      {}\npreview  {}\nreport   {}\nlook     keraunos view \"{}\" --open\n\n{}\nCite {}",
        report.adapter.name,
        stages.join(", "),
        paths[0].display(),
        paths[3].display(),
        paths[4].display(),
        paths[4].display(),
        report.disclaimer,
        cited.join("\n     "),
    );
    text
}
