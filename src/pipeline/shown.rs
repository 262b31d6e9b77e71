//! A written result as it is looked at: its files found and checked, and what a viewer says of each structure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::{Error, Result};
use crate::pipeline::files;
use crate::pipeline::finish;
use crate::pipeline::geometry::{self, Grid};
use crate::pipeline::result::StructureResult;
use crate::pipeline::volume::{self, Labels, colour, read_grid};

/// What the name of a report ends in.
const REPORT: &str = "_report.json";
/// The most bytes of a report or of statistics that are read.
const MAX_JSON: u64 = 64 << 20;
/// How far the numbers of two affines may differ that are one place, as when maps are judged.
const APART: f64 = 1e-3;
/// The share of its own mask that a structure must have kept in the map to be looked for there.
const MOSTLY: f64 = 0.5;
/// How many results a refusal names.
const NAMED: usize = 5;

/// A result whose files are all there.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The report.
    pub report: PathBuf,
    /// The statistics.
    pub statistics: PathBuf,
    /// The label map.
    pub map: PathBuf,
    /// The scans, the one with the map's grid first: one file each, or a header and its voxels.
    pub scans: Vec<Vec<PathBuf>>,
    /// What is said of it.
    pub page: Page,
}

/// What a viewer says of a result.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    /// What its files are called.
    pub title: String,
    /// The program and its version.
    pub version: String,
    /// What it is not.
    pub disclaimer: String,
    /// What computed it.
    pub adapter: String,
    /// What each scan is: its file's name and its modality.
    pub scans: Vec<ShownScan>,
    /// The structures in the map, the largest first, then those that it shows by their parts, then those that were
    /// not found.
    pub structures: Vec<ShownStructure>,
    /// What the user should know: the run's own warnings, and what is odd about the files.
    pub warnings: Vec<String>,
}

/// One scan.
#[derive(Clone, Debug, Serialize)]
pub struct ShownScan {
    /// Its file's name.
    pub name: String,
    /// Its modality.
    pub modality: String,
}

/// One structure.
#[derive(Clone, Debug, Serialize)]
pub struct ShownStructure {
    /// What was measured.
    #[serde(flatten)]
    pub measured: StructureResult,
    /// Its colour, RGB.
    pub colour: [u8; 3],
    /// Its voxel nearest to its middle, in mm; null if more specific structures have most of it in the map.
    pub centre: Option<[f64; 3]>,
    /// What was said of it to the model.
    pub instructions: Vec<Said>,
}

/// An instruction as the report has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Said {
    #[serde(skip_serializing)]
    structure: String,
    /// The modality it was said in.
    pub modality: String,
    /// The text.
    pub text: String,
    /// Who wrote it.
    pub author: String,
}

/// What is read of a report.
#[derive(Deserialize)]
struct Kept {
    version: String,
    disclaimer: String,
    adapter: KeptAdapter,
    inputs: Vec<KeptInput>,
    instructions: Vec<Said>,
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct KeptAdapter {
    name: String,
}

#[derive(Deserialize)]
struct KeptInput {
    path: PathBuf,
    sha256: String,
    modality: String,
}

impl Shown {
    /// Finds the files of the result at `path`, a report or a folder that holds one, and reads what is said of it.
    /// `scans` replace those that the report names, from the first on.
    ///
    /// # Errors
    /// [`Error::Argument`] for a folder without or with several results, and for a scan that is not where the report
    /// says; [`Error::Read`], [`Error::Config`] and [`Error::Volume`] for files that are missing, damaged or do not
    /// belong together.
    pub fn open(path: &Path, scans: &[PathBuf]) -> Result<Self> {
        let report = report_at(path)?;
        let name = report.file_name().unwrap_or_default().to_string_lossy();
        let Some(stem) = name.strip_suffix(REPORT) else {
            return Err(Error::Argument(format!(
                "`{}` is no report of `keraunos segment`; their names end in `{REPORT}`",
                report.display()
            )));
        };
        let folder = report.parent().unwrap_or(Path::new(""));
        let [map, _, statistics, ..] = finish::places(folder, stem, &[])?;
        let kept: Kept = read_json(&report)?;
        let measured: Vec<StructureResult> = read_json(&statistics)?;
        let labels = Labels::read(&map)?;
        let mut warnings = kept.warnings;
        warnings.extend(labels.warnings.iter().cloned());
        let found = found_scans(&kept.inputs, scans, folder)?;
        for (path, input) in found.iter().zip(&kept.inputs) {
            if volume::sha256(path)? != input.sha256 {
                warnings.push(format!(
                    "`{}` is not the file that was segmented: its content is another",
                    path.display()
                ));
            }
        }
        let Some(first) = found.first() else {
            return Err(Error::config(&report, "`inputs` is empty"));
        };
        check_grid(first, &map, &labels.grid())?;
        // What the report calls a scan is served: only a volume is.
        for other in &found[1..] {
            read_grid(other)?;
        }
        let scans = found.iter().zip(&kept.inputs).map(|(path, input)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            ShownScan {
                name: name.into_owned(),
                modality: input.modality.clone(),
            }
        });
        let page = Page {
            title: stem.to_owned(),
            version: kept.version,
            disclaimer: kept.disclaimer,
            adapter: kept.adapter.name,
            scans: scans.collect(),
            structures: structures(measured, &kept.instructions, &labels),
            warnings,
        };
        Ok(Self {
            statistics,
            map,
            scans: found.iter().map(|path| volume::files_of(path)).collect(),
            page,
            report,
        })
    }
}

/// The report that `path` is, or the only one in the folder.
fn report_at(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        // A file that is not there is found out when it is read.
        return Ok(path.to_path_buf());
    }
    let mut reports = files::files_under(path, &[REPORT])?;
    if reports.len() < 2 {
        return reports.pop().ok_or_else(|| {
            Error::Argument(format!(
                "no result of `keraunos segment` is in `{}` (no file `*{REPORT}`)",
                path.display()
            ))
        });
    }
    let names: Vec<String> = reports
        .iter()
        .take(NAMED)
        .map(|report| format!("`{}`", report.display()))
        .collect();
    let more = match reports.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(Error::Argument(format!(
        "`{}` has {} results; give the report of one: {}{more}",
        path.display(),
        reports.len(),
        names.join(", ")
    )))
}

/// Where the scans are: those given, else as the report says, seen from here or from the report.
fn found_scans(inputs: &[KeptInput], given: &[PathBuf], folder: &Path) -> Result<Vec<PathBuf>> {
    if given.len() > inputs.len() {
        return Err(Error::Argument(format!(
            "{} scans for a result of {}",
            given.len(),
            inputs.len()
        )));
    }
    let found = |(n, input): (usize, &KeptInput)| {
        if let Some(path) = given.get(n) {
            // A pipe would wait for a writer, a device never end.
            return match std::fs::metadata(path)
                .map_err(Error::read(path))?
                .is_file()
            {
                true => Ok(path.clone()),
                false => Err(Error::volume(path, "file", "is not a regular file")),
            };
        }
        let places = [input.path.clone(), folder.join(&input.path)];
        let there = places.into_iter().find(|path| path.is_file());
        there.ok_or_else(|| {
            Error::Argument(format!(
                "the scan `{}` is not where the report says; give it by --scan",
                input.path.display()
            ))
        })
    };
    inputs.iter().enumerate().map(found).collect()
}

/// Refuses a scan on which the map would be drawn in the wrong place.
fn check_grid(scan: &Path, map: &Path, grid: &Grid) -> Result<()> {
    let own = read_grid(scan)?;
    if own.matches(grid, APART) {
        return Ok(());
    }
    let problem = format!(
        "{:?} is not that of the map `{}`, {:?}, or lies elsewhere",
        own.shape,
        map.display(),
        grid.shape
    );
    Err(Error::volume(scan, "grid", problem))
}

/// What is said of each structure, sorted for a list.
fn structures(
    measured: Vec<StructureResult>,
    said: &[Said],
    labels: &Labels,
) -> Vec<ShownStructure> {
    let centres = centres(labels);
    let voxel_ml = labels.grid().voxel_volume() / 1000.0;
    let mut shown: Vec<ShownStructure> = measured
        .into_iter()
        .map(|measured| {
            let label = u32::from(measured.label);
            let own = measured.volume_ml.unwrap_or(0.0);
            let left = measured.labelled_voxels as f64 * voxel_ml;
            let centre = centres.get(&label).copied();
            ShownStructure {
                colour: colour(label),
                centre: centre.filter(|_| left >= MOSTLY * own),
                instructions: said
                    .iter()
                    .filter(|said| said.structure == measured.name)
                    .cloned()
                    .collect(),
                measured,
            }
        })
        .collect();
    shown.sort_by(|a, b| {
        let rank = |shown: &ShownStructure| (shown.centre.is_none(), !shown.measured.present);
        let size = |shown: &ShownStructure| shown.measured.volume_ml.unwrap_or(0.0);
        rank(a).cmp(&rank(b)).then(size(b).total_cmp(&size(a)))
    });
    shown
}

/// The voxel of each label that is nearest to the label's middle, in mm: the middle itself may lie outside.
fn centres(labels: &Labels) -> BTreeMap<u32, [f64; 3]> {
    let [nx, ny, _] = labels.shape;
    let place = |index: usize| [index % nx, index / nx % ny, index / (nx * ny)].map(|at| at as f64);
    let labelled = || {
        labels
            .data
            .iter()
            .enumerate()
            .filter(|(_, label)| **label > 0)
    };
    let mut sums: BTreeMap<u32, ([f64; 3], f64)> = BTreeMap::new();
    for (index, label) in labelled() {
        let (sum, count) = sums.entry(*label).or_default();
        place(index)
            .iter()
            .zip(sum)
            .for_each(|(at, sum)| *sum += at);
        *count += 1.0;
    }
    let sizes = labels.grid().voxel_sizes();
    let mut nearest: BTreeMap<u32, ([f64; 3], f64)> = BTreeMap::new();
    for (index, label) in labelled() {
        let (sum, count) = sums[label];
        let at = place(index);
        let off = |axis: usize| ((at[axis] - sum[axis] / count) * sizes[axis]).powi(2);
        let distance = off(0) + off(1) + off(2);
        let best = nearest.entry(*label).or_insert((at, f64::INFINITY));
        if distance < best.1 {
            *best = (at, distance);
        }
    }
    nearest
        .into_iter()
        .map(|(label, (at, _))| (label, geometry::apply(&labels.affine, at)))
        .collect()
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = files::read_bounded(path, MAX_JSON)?;
    serde_json::from_slice(&text)
        .map_err(|e| Error::config(path, format!("is not what `keraunos segment` writes: {e}")))
}
