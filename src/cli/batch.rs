//! `keraunos segment FOLDER`: many cases in one run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Map, json};

use super::args::{Cases, SegmentArgs};
use super::console::{Console, Progress};
use crate::error::{Error, Result};
use crate::pipeline::Observer;
use crate::pipeline::batch::{self, Batch, Outcome, Status, Watch};
use crate::pipeline::card::DISCLAIMER;
use crate::pipeline::cases::{self, Case, Layout};
use crate::pipeline::{Request, files, finish};

/// Draws bars, and tells of each case as it ends.
pub(super) struct Told<'a> {
    console: &'a Console,
    progress: Progress,
    /// Whether stdout is kept for one JSON object.
    json: bool,
    ended: usize,
}

impl Observer for Told<'_> {
    fn progress(&mut self, stage: &'static str, done: f64) {
        self.progress.progress(stage, done);
    }
}

impl Watch for Told<'_> {
    fn ended(&mut self, outcome: &Outcome, of: usize) -> Result<()> {
        self.progress.finish();
        self.ended += 1;
        for warning in &outcome.warnings {
            self.console.warn(&format!("{}: {warning}", outcome.case));
        }
        if self.json {
            return Ok(());
        }
        let what = match (outcome.status, &outcome.map) {
            (Status::Failed, _) => "failed".to_owned(),
            (Status::Skipped, _) => "done before".to_owned(),
            (Status::Done, map) => {
                let map = map.as_deref().unwrap_or(Path::new(""));
                format!("{:.1} s  {}", outcome.seconds, map.display())
            }
        };
        let place = format!("{}/{of}", self.ended);
        self.console
            .tell(&format!("{place:>9}  {}  {what}\n", outcome.case))
    }
}

/// Lets `work` segment the cases, each as `request` asks, and says what became of them.
pub(super) fn run(
    args: &SegmentArgs,
    from: &Cases,
    request: Request,
    console: &Console,
    work: impl FnOnce(&Batch, &[Case], &mut Told) -> Result<Vec<Outcome>>,
) -> Result<ExitCode> {
    let batch = args.batch(request)?;
    let (part, parts) = args.part()?;
    let (all, layout) = found(args, from, &batch.folder)?;
    let total = all.len();
    let cases: Vec<Case> = all.into_iter().skip(part).step_by(parts).collect();
    tracing::info!("{} of {total} cases", cases.len());
    let is_new = !batch.folder.exists();
    finish::prepare_folder(&batch.folder)?;
    let mut told = Told {
        console,
        progress: console.progress(),
        json: args.json,
        ended: 0,
    };
    let outcomes = match work(&batch, &cases, &mut told) {
        Ok(outcomes) => outcomes,
        Err(error) => {
            if is_new {
                // Only an empty folder is removed.
                let _ = std::fs::remove_dir(&batch.folder);
            }
            return Err(error);
        }
    };
    if let (Cases::Folder(raw, _), Some(Layout::Bids)) = (from, layout) {
        batch::write_description(&batch.folder, raw)?;
    }
    let summary = batch::write_summary(&batch.folder, &outcomes)?;
    report(args, console, &outcomes, &summary)
}

/// The cases of a folder or a list.
fn found(args: &SegmentArgs, from: &Cases, out: &Path) -> Result<(Vec<Case>, Option<Layout>)> {
    match from {
        Cases::List(list) => Ok((cases::of_list(list)?, None)),
        Cases::Folder(folder, layout) => {
            let layout = match layout {
                Some(layout) => *layout,
                None => Layout::of(folder)?,
            };
            check_apart(folder, out, layout)?;
            let cases = cases::in_folder(folder, layout, &args.modalities())?;
            Ok((cases, Some(layout)))
        }
    }
}

/// Refuses to mix results with what they are made of.
fn check_apart(folder: &Path, out: &Path, layout: Layout) -> Result<()> {
    if files::same_file(folder, out) {
        let problem = format!(
            "the output folder is the input `{}`; the next run would take results for cases",
            folder.display()
        );
        return Err(Error::Argument(problem));
    }
    let whole = std::path::absolute(out).map_err(Error::write(out))?;
    let inside = whole.ancestors().find(|above| {
        let in_folder = |parent: &Path| files::same_file(parent, folder);
        above.parent().is_some_and(in_folder)
    });
    let subject = inside.and_then(Path::file_name).filter(|name| {
        let name = name.to_string_lossy();
        layout == Layout::Bids && name.starts_with("sub-")
    });
    match subject {
        Some(name) => Err(Error::Argument(format!(
            "the output folder lies in the input's `{}`; give one beside it, such as `{}`",
            name.to_string_lossy(),
            folder.join("derivatives/keraunos").display()
        ))),
        None => Ok(()),
    }
}

fn report(
    args: &SegmentArgs,
    console: &Console,
    outcomes: &[Outcome],
    summary: &[PathBuf; 2],
) -> Result<ExitCode> {
    let count = |status| outcomes.iter().filter(|o| o.status == status).count();
    let failed = count(Status::Failed);
    if args.json {
        let mut cases = Map::new();
        for outcome in outcomes {
            cases.insert(outcome.case.clone(), json!(outcome));
        }
        console.json(&json!({
            "paths": { "summary": summary[0], "volumes": summary[1] },
            "done": count(Status::Done),
            "skipped": count(Status::Skipped),
            "failed": failed,
            "cases": cases,
        }))?;
    } else {
        console.tell(&format!(
            "\n{} done, {} done before, {failed} failed\n\nsummary  {}\nvolumes  {}\n\n{DISCLAIMER}\n",
            count(Status::Done),
            count(Status::Skipped),
            summary[0].display(),
            summary[1].display()
        ))?;
    }
    for outcome in outcomes {
        if let Some(problem) = &outcome.problem {
            console.failure(&format!("{}: {problem}", outcome.case));
        }
    }
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
