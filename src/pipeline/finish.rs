//! The files of a result.
//!
//! For an input `scan.nii.gz`: `scan_seg-keraunos_dseg.nii.gz` and `.tsv`, `_stats.json`, `_preview.png` and
//! `_report.json` under the same stem. In a BIDS derivative the stem is the input's without its suffix, and the map has a
//! JSON sidecar.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::pipeline::card::DISCLAIMER;
use crate::pipeline::request::VERSION;
use crate::pipeline::result::Segmentation;
use crate::pipeline::segmenter::DrawnMask;
use crate::pipeline::threshold::sigmoid;
use crate::pipeline::volume::{self, LabelTable, write_labels, write_map, write_names};
use crate::pipeline::{files, preview};

/// The input's name without its folder and its suffix: `sub-01_T1w` of `x/sub-01_T1w.nii.gz`.
pub fn stem(input: &Path) -> String {
    let name = input
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let lower = name.to_ascii_lowercase();
    let bare = || lower.ends_with(".gz").then_some(".gz");
    let cut = volume::suffix(input).or_else(bare).map_or(0, str::len);
    let stem = name[..name.len() - cut].trim_matches('.').to_owned();
    if stem.is_empty() {
        "volume".to_owned()
    } else {
        stem
    }
}

/// The path of one result in `folder`, after checking that it is none of the inputs.
fn place(folder: &Path, name: &str, inputs: &[PathBuf]) -> Result<PathBuf> {
    let path = folder.join(name);
    match inputs.iter().find(|input| files::same_file(input, &path)) {
        Some(input) => Err(overwrites(input)),
        None => Ok(path),
    }
}

/// Makes `folder` and says whether files can be written there: asked before a long run.
///
/// # Errors
/// A path that is a file, or a folder that cannot be made or written.
pub fn prepare_folder(folder: &Path) -> Result<()> {
    files::make_folder(folder)?;
    files::Staging::new(folder).map(drop)
}

/// Where the results of `inputs` go in `folder` when they are called `stem`: the map, its table, the
/// statistics, the preview and the report.
///
/// # Errors
/// A result that would overwrite an input, or a folder that is one.
pub fn places(folder: &Path, stem: &str, inputs: &[PathBuf]) -> Result<[PathBuf; 5]> {
    if let Some(input) = inputs.iter().find(|input| files::same_file(input, folder)) {
        let problem = format!("the output folder is the input `{}`", input.display());
        return Err(Error::Argument(problem));
    }
    let at = |suffix: &str| place(folder, &format!("{stem}_{suffix}"), inputs);
    Ok([
        at("seg-keraunos_dseg.nii.gz")?,
        at("seg-keraunos_dseg.tsv")?,
        at("stats.json")?,
        at("preview.png")?,
        at("report.json")?,
    ])
}

/// Where the tables of labels for other programs go.
///
/// # Errors
/// A table that would overwrite an input.
pub fn table_places(
    folder: &Path,
    stem: &str,
    tables: &[LabelTable],
    inputs: &[PathBuf],
) -> Result<Vec<PathBuf>> {
    let names = tables
        .iter()
        .map(|table| format!("{stem}_{}", table.suffix()));
    names.map(|name| place(folder, &name, inputs)).collect()
}

/// Where the JSON sidecar of a map goes in a BIDS derivative.
pub fn sidecar_place(folder: &Path, stem: &str) -> PathBuf {
    folder.join(format!("{stem}_seg-keraunos_dseg.json"))
}

/// The JSON sidecar of maps or probabilities that were made of `sources`, the first of which gives the grid.
fn sidecar(what: &str, sources: &[String]) -> Value {
    json!({
        "Description": format!("{what} by {VERSION}. {DISCLAIMER}"),
        "Sources": sources,
        "SpatialReference": sources.first(),
    })
}

/// Writes the JSON sidecar of all probabilities of a case in a BIDS derivative.
///
/// # Errors
/// A file that cannot be written.
pub fn write_probabilities_sidecar(folder: &Path, stem: &str, sources: &[String]) -> Result<()> {
    let path = folder.join(format!("{stem}_seg-keraunos_probseg.json"));
    write_json(&path, &sidecar("Probabilities of one structure", sources))
}

/// Writes all files of a result; returns their paths in the order of [`places`], then those of
/// [`table_places`], then that of the sidecar if there is one. They appear together, the report last: where a report is, the files are its own.
///
/// # Errors
/// A folder that cannot be written, or a result that would overwrite an input.
pub fn write(result: &Segmentation, folder: &Path) -> Result<Vec<PathBuf>> {
    let inputs: Vec<PathBuf> = result
        .report
        .inputs
        .iter()
        .map(|input| input.path.clone())
        .collect();
    let paths = places(folder, &result.name, &inputs)?;
    let tables = table_places(folder, &result.name, &result.tables, &inputs)?;
    prepare_folder(folder)?;
    let staging = files::Staging::new(folder)?;
    let staged = |path: &PathBuf| staging.path().join(path.file_name().unwrap_or_default());
    let written = write_to(result, &paths.each_ref().map(staged)).and_then(|()| {
        let pairs = result.tables.iter().zip(&tables);
        pairs.into_iter().try_for_each(|(table, path)| {
            let text = table.text(&result.names);
            files::atomic_write(&staged(path), |out| out.write_all(text.as_bytes()))
        })
    });
    let mut tables = tables;
    let written = written.and_then(|()| {
        if result.sources.is_empty() {
            return Ok(());
        }
        let path = sidecar_place(folder, &result.name);
        let sidecar = sidecar("Structures segmented", &result.sources);
        write_json(&staged(&path), &sidecar)?;
        tables.push(path);
        Ok(())
    });
    // A message names the file that the user asked for.
    written.map_err(|error| match error {
        Error::Write { path, source } => Error::Write {
            path: folder.join(path.file_name().unwrap_or_default()),
            source,
        },
        error => error,
    })?;
    let [others @ .., report] = &paths;
    let report = std::slice::from_ref(report);
    staging.commit(&[&others[..], &tables, report].concat())?;
    Ok([&paths, tables.as_slice()].concat())
}

fn write_to(result: &Segmentation, paths: &[PathBuf; 5]) -> Result<()> {
    let [labels, _, stats, picture, report] = paths;
    write_labels(labels, &result.reference, &result.labels, &result.names)?;
    write_names(labels, &result.names)?;
    write_json(stats, &result.structures)?;
    preview::write_preview(
        picture,
        &result.reference,
        &result.labels,
        &result.names,
        result.preview,
    )?;
    write_json(report, &result.report)
}

/// Where one target's probabilities go: `<stem>_seg-keraunos_label-<name>_probseg.nii.gz`.
pub fn probabilities_place(folder: &Path, stem: &str, label: u16, name: &str) -> PathBuf {
    let words = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let camel = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or(String::new(), |first| {
            first.to_uppercase().chain(letters).collect()
        })
    };
    let short: String = words
        .map(camel)
        .collect::<String>()
        .chars()
        .take(60)
        .collect();
    // A name in another script is none in BIDS.
    let short = match short.is_empty() {
        true => label.to_string(),
        false => short,
    };
    folder.join(format!("{stem}_seg-keraunos_label-{short}_probseg.nii.gz"))
}

/// Writes one target's probabilities and returns their path.
///
/// # Errors
/// A file that cannot be written, or that is the input.
pub fn write_probabilities(folder: &Path, stem: &str, drawn: &DrawnMask) -> Result<PathBuf> {
    let DrawnMask {
        target,
        logits,
        reference,
        ..
    } = *drawn;
    let path = probabilities_place(folder, stem, target.label, &target.name);
    if files::same_file(&path, &reference.path) {
        return Err(overwrites(&reference.path));
    }
    let probabilities: Vec<f32> = logits.iter().map(|logit| sigmoid(*logit)).collect();
    write_map(&path, reference, &probabilities)?;
    Ok(path)
}

fn overwrites(input: &Path) -> Error {
    Error::Argument(format!(
        "the result would overwrite the input `{}`",
        input.display()
    ))
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    files::atomic_write(path, |out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn stems_keep_everything_but_the_suffix() {
        for (name, want) in [
            ("a/sub-01_T1w.nii.gz", "sub-01_T1w"),
            ("case.01.NII.GZ", "case.01"),
            ("x.nii", "x"),
            ("x.mgz", "x"),
            ("x.seg.nrrd", "x.seg"),
            ("x.nhdr", "x"),
            ("plain", "plain"),
            (".nii.gz", "volume"),
        ] {
            assert_eq!(stem(name.as_ref()), want);
        }
    }
}
