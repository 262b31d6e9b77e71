//! Many cases in one run: the next one is read and the last one written while one is computed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::card::{CITATION, DISCLAIMER};
use super::cases::{Case, RAW};
use super::request::{Asked, Instruct, Request, VERSION};
use super::segmenter::{DrawnMask, Observer};
use super::volume::{self, LabelTable};
use super::{Segmentation, StructureResult, files, finish};
use crate::error::{Error, Result};

/// The most bytes of a report, of statistics or of a summary that are read.
const MAX_JSON: u64 = 64 << 20;

/// What a run over many cases is told.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The structures, views and so on of every case; its inputs and name are the cases'.
    pub request: Request,
    /// The folder of all results.
    pub folder: PathBuf,
    /// Whether a case that is done already is passed over: its files are there, and its report's inputs, weights
    /// and options are the same.
    pub skip_existing: bool,
    /// Whether each structure's probabilities are written.
    pub probabilities: bool,
}

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its results are there.
    Done,
    /// They were there before.
    Skipped,
    /// It could not be segmented.
    Failed,
}

/// One case after the run.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The case.
    #[serde(skip)]
    pub case: String,
    /// What became of it.
    pub status: Status,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its volumes.
    pub inputs: Vec<PathBuf>,
    /// Its map and its report, unless it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub map: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// The report.
    pub report: Option<PathBuf>,
    /// The volume of each structure in ml; null where it was not found.
    pub volumes_ml: BTreeMap<String, Option<f64>>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// From the beginning of its computation to its last file.
    pub seconds: f64,
}

/// Watches a run over many cases.
pub trait Watch: Observer {
    /// A case has ended, one of `of`.
    ///
    /// # Errors
    /// What the watcher fails with ends the run.
    fn ended(&mut self, outcome: &Outcome, of: usize) -> Result<()> {
        let _ = (outcome, of);
        Ok(())
    }
}

impl Watch for () {}

/// A model that segments the cases of a batch.
pub trait Model: Sync {
    /// What is read of a case. Reading needs no adapter: one thread reads while another computes.
    type Loaded: Send;

    /// What a request asks for, in the report's words.
    ///
    /// # Errors
    /// A request that makes no sense.
    fn asked(&self, request: &Request) -> Result<Asked>;

    /// Reads the volumes of a request, if the machine has the memory that it needs.
    ///
    /// # Errors
    /// A request that the model does not take, a volume that cannot be used, or too little memory.
    fn load(&self, request: &Request) -> Result<Self::Loaded>;

    /// Segments what was read.
    ///
    /// # Errors
    /// Instructions that cannot be written, or an adapter that fails.
    fn segment_loaded(
        &self,
        request: &Request,
        loaded: Self::Loaded,
        observer: &mut dyn Observer,
    ) -> Result<Segmentation>;

    /// The hash of the weights that play a role in reports; none for a role that nobody plays.
    ///
    /// # Errors
    /// Weights that cannot be loaded.
    fn weights_sha256(&self, role: &str) -> Result<Option<String>>;
}

/// A case on its way to the adapter.
struct Ready<'a, L> {
    case: &'a Case,
    request: Request,
    loaded: L,
}

/// A case on its way to the disk.
struct Computed<'a> {
    case: &'a Case,
    result: Segmentation,
    began: Instant,
}

/// What the reader hands on.
enum Next<'a, L> {
    Ready(Box<Ready<'a, L>>),
    Ended(Box<Outcome>),
}

/// Gives a case's probabilities away as they come.
struct Parts<'a, 'b> {
    watch: &'a mut dyn Watch,
    probabilities: Option<(&'b Path, &'b str)>,
}

impl Observer for Parts<'_, '_> {
    fn progress(&mut self, stage: &'static str, done: f64) {
        self.watch.progress(stage, done);
    }

    fn drawn(&mut self, drawn: &DrawnMask) -> Result<()> {
        if let Some((folder, stem)) = self.probabilities {
            files::make_folder(folder)?;
            finish::write_probabilities(folder, stem, drawn)?;
        }
        self.watch.drawn(drawn)
    }
}

impl Batch {
    /// Segments the cases in turn and writes their results; a case that fails does not stop the others.
    /// At most three cases are in memory at a time.
    ///
    /// # Errors
    /// What `watch` fails with, and a folder for the results that cannot be written.
    pub fn run<M: Model>(
        &self,
        model: &M,
        cases: &[Case],
        watch: &mut dyn Watch,
    ) -> Result<Vec<Outcome>> {
        finish::prepare_folder(&self.folder)?;
        let mut outcomes = Vec::new();
        // Nothing waits in a channel: whoever has finished a case holds it until it is taken.
        let (to_adapter, from_reader) = sync_channel(0);
        let (to_writer, from_adapter) = sync_channel::<Computed>(0);
        let (written, from_writer) = channel();
        thread::scope(|scope| {
            scope.spawn(move || {
                for case in cases {
                    if to_adapter.send(self.next(model, case)).is_err() {
                        // The run has ended early.
                        return;
                    }
                }
            });
            scope.spawn(move || self.write(from_adapter, written));
            let mut keep = |outcome: Outcome, watch: &mut dyn Watch| {
                watch.ended(&outcome, cases.len())?;
                outcomes.push(outcome);
                Ok(())
            };
            for next in from_reader {
                match next {
                    Next::Ended(outcome) => keep(*outcome, watch)?,
                    Next::Ready(ready) => {
                        let began = Instant::now();
                        let case = ready.case;
                        match self.compute(model, *ready, watch) {
                            Ok(result) => {
                                let computed = Computed {
                                    case,
                                    result,
                                    began,
                                };
                                // The writer ends only after this sender.
                                let _ = to_writer.send(computed);
                            }
                            Err(error) => keep(failed(case, error.to_string(), began), watch)?,
                        }
                    }
                }
                for outcome in from_writer.try_iter() {
                    keep(outcome, watch)?;
                }
            }
            drop(to_writer);
            for outcome in from_writer {
                keep(outcome, watch)?;
            }
            Ok(())
        })?;
        outcomes.sort_by(|a, b| a.case.cmp(&b.case));
        Ok(outcomes)
    }

    /// Reads a case, or says what it has come to without an adapter.
    fn next<'a, M: Model>(&self, model: &M, case: &'a Case) -> Next<'a, M::Loaded> {
        let began = Instant::now();
        if let Some(fault) = &case.fault {
            return Next::Ended(Box::new(failed(case, fault.clone(), began)));
        }
        let request = Request {
            inputs: case.inputs.clone(),
            name: Some(case.stem.clone()),
            ..self.request.clone()
        };
        let read = || {
            let folder = self.folder.join(&case.folder);
            let inputs: Vec<PathBuf> = case.inputs.iter().map(|i| i.path.clone()).collect();
            let paths = finish::places(&folder, &case.stem, &inputs)?;
            if self.skip_existing {
                let asked = model.asked(&request)?;
                if let Some(structures) = self.done(model, case, &request, &asked, &paths)? {
                    let mut outcome = succeeded(case, &paths, &structures, Vec::new(), began);
                    outcome.status = Status::Skipped;
                    return Ok(Next::Ended(Box::new(outcome)));
                }
            }
            let loaded = model.load(&request)?;
            Ok(Next::Ready(Box::new(Ready {
                case,
                request: request.clone(),
                loaded,
            })))
        };
        read().unwrap_or_else(|error: Error| {
            Next::Ended(Box::new(failed(case, error.to_string(), began)))
        })
    }

    fn compute<M: Model>(
        &self,
        model: &M,
        ready: Ready<M::Loaded>,
        watch: &mut dyn Watch,
    ) -> Result<Segmentation> {
        let folder = self.folder.join(&ready.case.folder);
        let place = (folder.as_path(), ready.case.stem.as_str());
        let mut parts = Parts {
            watch,
            probabilities: self.probabilities.then_some(place),
        };
        model.segment_loaded(&ready.request, ready.loaded, &mut parts)
    }

    /// Writes what comes until nothing comes any more.
    fn write(&self, computed: Receiver<Computed>, outcomes: Sender<Outcome>) {
        for Computed {
            case,
            mut result,
            began,
        } in computed
        {
            result.report.warnings.extend(case.warnings.clone());
            result.sources.clone_from(&case.sources);
            let folder = self.folder.join(&case.folder);
            let sidecar = match self.probabilities && !case.sources.is_empty() {
                true => finish::write_probabilities_sidecar(&folder, &case.stem, &case.sources),
                false => Ok(()),
            };
            let outcome = match sidecar.and_then(|()| result.write(&folder)) {
                Ok(paths) => succeeded(
                    case,
                    &paths,
                    &volumes(&result.structures),
                    result.report.warnings,
                    began,
                ),
                Err(error) => failed(case, error.to_string(), began),
            };
            if outcomes.send(outcome).is_err() {
                return;
            }
        }
    }

    /// The volumes of a case that is done already: all its files are there, and its report says that they
    /// were made of these inputs by these weights as it is asked for now.
    fn done<M: Model>(
        &self,
        model: &M,
        case: &Case,
        request: &Request,
        asked: &Asked,
        paths: &[PathBuf; 5],
    ) -> Result<Option<Volumes>> {
        let [_, _, stats, _, report] = paths;
        let folder = self.folder.join(&case.folder);
        let mut tables = finish::table_places(&folder, &case.stem, &request.tables, &[])?;
        if !case.sources.is_empty() {
            tables.push(finish::sidecar_place(&folder, &case.stem));
        }
        if !paths.iter().chain(&tables).all(|path| path.is_file()) {
            return Ok(None);
        }
        let has_probabilities = |(label, name): &(u16, String)| {
            finish::probabilities_place(&folder, &case.stem, *label, name).is_file()
        };
        if self.probabilities && !asked.structures.iter().all(has_probabilities) {
            return Ok(None);
        }
        // A report that cannot be read is none: the case is done again.
        let (Some(report), Some(stats)) = (read_json(report), read_json(stats)) else {
            return Ok(None);
        };
        if serde_json::to_value(asked).ok().as_ref() != report.get("asked") {
            return Ok(None);
        }
        let hashes = report["inputs"].as_array().map(Vec::as_slice);
        let hashes = hashes.unwrap_or_default();
        if hashes.len() != case.inputs.len() {
            return Ok(None);
        }
        for (input, told) in case.inputs.iter().zip(hashes) {
            if told["sha256"] != volume::sha256(&input.path)? {
                return Ok(None);
            }
        }
        let Some(weights) = report["weights"].as_object() else {
            return Ok(None);
        };
        // A language model that has come since would write other instructions.
        let written = request.instruct != Instruct::Stock
            && request
                .instructions
                .iter()
                .filter(|own| own.is_some())
                .count()
                < asked.structures.len();
        let mut roles: BTreeSet<&str> = weights.keys().map(String::as_str).collect();
        roles.insert("segmentation");
        if written {
            roles.insert("language model");
        }
        for role in roles {
            let own = match model.weights_sha256(role) {
                Err(Error::MissingModel { .. }) => None,
                own => own?,
            };
            if own.as_deref() != weights.get(role).and_then(Value::as_str) {
                return Ok(None);
            }
        }
        let rows = stats.as_array().map(Vec::as_slice).unwrap_or_default();
        let volume =
            |row: &Value| Some((row["name"].as_str()?.to_owned(), row["volume_ml"].as_f64()));
        Ok(Some(rows.iter().filter_map(volume).collect()))
    }
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&files::read_bounded(path, MAX_JSON).ok()?).ok()
}

type Volumes = BTreeMap<String, Option<f64>>;

fn volumes(structures: &[StructureResult]) -> Volumes {
    let rows = structures.iter();
    rows.map(|row| (row.name.clone(), row.volume_ml)).collect()
}

fn succeeded(
    case: &Case,
    paths: &[PathBuf],
    volumes: &Volumes,
    warnings: Vec<String>,
    began: Instant,
) -> Outcome {
    Outcome {
        status: Status::Done,
        problem: None,
        map: paths.first().cloned(),
        report: paths.get(4).cloned(),
        volumes_ml: volumes.clone(),
        warnings,
        ..failed(case, String::new(), began)
    }
}

fn failed(case: &Case, problem: String, began: Instant) -> Outcome {
    Outcome {
        case: case.name.clone(),
        status: Status::Failed,
        problem: Some(problem),
        inputs: case.inputs.iter().map(|i| i.path.clone()).collect(),
        map: None,
        report: None,
        volumes_ml: Volumes::new(),
        warnings: case.warnings.clone(),
        seconds: began.elapsed().as_secs_f64(),
    }
}

/// The files of [`write_summary`].
pub const SUMMARY: [&str; 2] = ["keraunos_batch.json", "keraunos_volumes.tsv"];

/// Writes what became of the cases, and a table of volumes: a row for each case, a column for each structure, in
/// ml. What earlier runs and other parts wrote of other cases stays. Returns the two paths.
///
/// # Errors
/// Files that cannot be written, or an earlier summary that is damaged.
pub fn write_summary(folder: &Path, outcomes: &[Outcome]) -> Result<[PathBuf; 2]> {
    let [json, table] = SUMMARY.map(|name| folder.join(name));
    // Two processes at a time would lose each other's rows. Where a disk knows no locks the last one wins.
    #[cfg(unix)]
    let _lock = fs::File::open(folder).ok().filter(|f| f.lock().is_ok());
    let mut cases = match json.exists() {
        true => {
            let bytes = files::read_bounded(&json, MAX_JSON)?;
            let known: Value = serde_json::from_slice(&bytes)
                .map_err(|e| Error::config(&json, format!("is no summary of cases: {e}")))?;
            match known.get("cases").and_then(Value::as_object) {
                Some(cases) => cases.clone(),
                None => return Err(Error::config(&json, "is no summary: has no `cases`")),
            }
        }
        false => Map::new(),
    };
    for outcome in outcomes {
        let row = serde_json::to_value(outcome)
            .map_err(|e| Error::write(&json)(std::io::Error::other(e)))?;
        cases.insert(outcome.case.clone(), row);
    }
    let mut structures = BTreeSet::new();
    for volumes in cases
        .values()
        .filter_map(|case| case["volumes_ml"].as_object())
    {
        structures.extend(volumes.keys().cloned());
    }
    files::atomic_write(&table, |out| {
        let mut rows = csv::WriterBuilder::new().delimiter(b'\t').from_writer(out);
        let heads = ["case", "status"].map(str::to_owned);
        rows.write_record(heads.iter().chain(&structures))?;
        for (name, case) in &cases {
            let volume = |structure: &String| {
                let value = case["volumes_ml"][structure].as_f64();
                // As BIDS writes what is not there.
                value.map_or("n/a".to_owned(), |value| format!("{value}"))
            };
            let status = case["status"].as_str().unwrap_or_default();
            let begin = [name.clone(), status.to_owned()];
            rows.write_record(begin.into_iter().chain(structures.iter().map(volume)))?;
        }
        rows.flush()
    })?;
    finish::write_json(&json, &json!({ "version": VERSION, "cases": cases }))?;
    Ok([json, table])
}

/// The most bytes of a `.bidsignore` that is added to.
const MAX_IGNORED: u64 = 1 << 20;

/// Makes the folder of results a BIDS derivative of the dataset `raw`: `dataset_description.json` and `README.md`, unless
/// there are such, and `.bidsignore` for what BIDS has no name for.
///
/// # Errors
/// Files that cannot be written, or a `.bidsignore` that cannot be read.
pub fn write_description(folder: &Path, raw: &Path) -> Result<()> {
    let description = folder.join("dataset_description.json");
    if !description.exists() {
        let link = link(folder, raw)?;
        let value = json!({
            "Name": "keraunos segmentations",
            "BIDSVersion": "1.10.0",
            "DatasetType": "derivative",
            "GeneratedBy": [{
                "Name": "keraunos",
                "Version": env!("CARGO_PKG_VERSION"),
                "Description": format!("Segments volumes by words. {DISCLAIMER}"),
            }],
            "SourceDatasets": [{ "URL": link }],
            "DatasetLinks": { RAW: link },
        });
        finish::write_json(&description, &value)?;
    }
    let names = ["README", "README.md", "README.rst", "README.txt"];
    if !names.iter().any(|name| folder.join(name).exists()) {
        let cite = CITATION.join("\n* ");
        let text = format!(
            "# keraunos segmentations\n\nA label map of each subject and session, `*_dseg.nii.gz`, with the names of its labels \
             beside it. `*_report.json` says how\neach was made, `*_stats.json` has its volumes; `keraunos_batch.json` says what \
             became of each case. {DISCLAIMER}\n\nPlease cite:\n\n* {cite}\n"
        );
        files::atomic_write(&folder.join("README.md"), |out| {
            out.write_all(text.as_bytes())
        })?;
    }
    let ignored = folder.join(".bidsignore");
    let mut text = match ignored.exists() {
        true => files::read_text(&ignored, MAX_IGNORED)?,
        false => String::new(),
    };
    let own = [
        "*_stats.json",
        "*_preview.png",
        "*_report.json",
        "keraunos_*",
    ]
    .map(str::to_owned);
    let tables = LabelTable::ALL.map(|table| format!("*_{}", table.suffix()));
    let missing: Vec<&String> = own
        .iter()
        .chain(&tables)
        .filter(|line| !text.lines().any(|there| there == line.as_str()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for line in missing {
        text += line;
        text.push('\n');
    }
    files::atomic_write(&ignored, |out| out.write_all(text.as_bytes()))
}

/// Where `raw` is, seen from `folder`: the way up if it lies above, else its address on this machine.
fn link(folder: &Path, raw: &Path) -> Result<String> {
    let folder = fs::canonicalize(folder).map_err(Error::read(folder))?;
    let raw = fs::canonicalize(raw).map_err(Error::read(raw))?;
    Ok(match folder.strip_prefix(&raw) {
        Ok(below) => vec![".."; below.components().count()].join("/"),
        Err(_) => {
            let path = raw.to_string_lossy().replace('\\', "/");
            let path = path.replace('%', "%25").replace(' ', "%20");
            format!(
                "file://{}{path}",
                if path.starts_with('/') { "" } else { "/" }
            )
        }
    })
}
