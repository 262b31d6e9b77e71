//! How well two label maps agree.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use super::geometry::Grid;
use super::volume::{Labels, Names};
use crate::error::{Error, Result};

/// How far the affines of two maps may differ, in mm per element, and still be one grid.
const GRID_TOLERANCE: f64 = 1e-3;

/// The agreement on one label.
///
/// With TP the voxels that both maps give the label, FP those only the prediction gives it and
/// FN those only the truth does. Where both are empty the measures are null (0/0, not a score);
/// where only one is, they are 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The label.
    pub label: u32,
    /// Its name, or the label in words if it has none.
    pub name: String,
    /// Voxels of the prediction.
    pub predicted_voxels: u64,
    /// Voxels of the truth.
    pub true_voxels: u64,
    /// `2 TP / (2 TP + FP + FN)`, 0 to 1.
    pub dice: Option<f64>,
    /// Intersection over union, `TP / (TP + FP + FN)`, 0 to 1.
    pub iou: Option<f64>,
}

/// The agreement on all labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Every label that is in either map or was asked for, ascending, without the background.
    pub labels: Vec<Agreement>,
    /// The mean Dice over the labels that have one; null if none has.
    pub mean_dice: Option<f64>,
    /// The mean intersection over union over the labels that have one; null if none has.
    pub mean_iou: Option<f64>,
    /// How many labels the means leave out because both maps lack them.
    pub left_out: usize,
}

/// Compares two label files. Names come with the files ([`Labels::read`]), the prediction's
/// first.
///
/// A label that is only named, in neither map, is reported and left out of the means.
///
/// # Errors
///
/// Those of [`Labels::read`], and [`Error::Volume`] if the two are not on one grid.
pub fn evaluate_files(prediction: &Path, truth: &Path) -> Result<Evaluation> {
    let prediction = Labels::read(prediction)?;
    let truth = Labels::read(truth)?;
    check_grids(&prediction.path, &prediction.grid(), &truth.grid())?;
    let mut names = truth.names;
    names.extend(prediction.names);
    Ok(evaluate(&prediction.data, &truth.data, &names))
}

/// Whether two maps have one shape and affine.
fn check_grids(path: &Path, prediction: &Grid, truth: &Grid) -> Result<()> {
    if prediction.shape != truth.shape {
        let (found, want) = (prediction.shape, truth.shape);
        let problem = format!("is {found:?}, the other map's is {want:?}: not one grid");
        return Err(Error::volume(path, "shape", problem));
    }
    if !prediction.matches(truth, GRID_TOLERANCE) {
        let farthest = prediction
            .affine
            .iter()
            .flatten()
            .zip(truth.affine.iter().flatten());
        let farthest = farthest.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let problem = format!(
            "differs from the other map's by up to {farthest:.3} mm ({} and {}): not one grid",
            prediction.orientation().letters(),
            truth.orientation().letters()
        );
        return Err(Error::volume(path, "affine", problem));
    }
    Ok(())
}

/// Compares two label maps of one grid, voxel by voxel.
///
/// # Panics
///
/// If the maps differ in length.
pub fn evaluate<P, T>(prediction: &[P], truth: &[T], names: &Names) -> Evaluation
where
    P: Copy + Into<u32>,
    T: Copy + Into<u32>,
{
    assert_eq!(prediction.len(), truth.len(), "two maps of one grid");
    /// Voxels of the prediction, of the truth, and of both.
    type Counts = [u64; 3];
    let mut counts: BTreeMap<u32, Counts> = names
        .keys()
        .map(|&label| (label, Counts::default()))
        .collect();
    // Runs of equal pairs are long, so the tree is asked once a run.
    let mut pairs = prediction
        .iter()
        .zip(truth)
        .map(|(&p, &t)| (p.into(), t.into()))
        .peekable();
    while let Some((p, t)) = pairs.next() {
        let mut run = 1;
        while pairs.next_if_eq(&(p, t)).is_some() {
            run += 1;
        }
        counts.entry(p).or_default()[0] += run;
        let truth = counts.entry(t).or_default();
        truth[1] += run;
        if p == t {
            truth[2] += run;
        }
    }
    counts.remove(&0);
    let labels: Vec<Agreement> = counts
        .into_iter()
        .map(|(label, [predicted, truth, both])| {
            let ratio = |above: u64, below: u64| (below > 0).then(|| above as f64 / below as f64);
            Agreement {
                label,
                name: names
                    .get(&label)
                    .cloned()
                    .unwrap_or_else(|| format!("label {label}")),
                predicted_voxels: predicted,
                true_voxels: truth,
                dice: ratio(2 * both, predicted + truth),
                iou: ratio(both, predicted + truth - both),
            }
        })
        .collect();
    let mean = |measure: fn(&Agreement) -> Option<f64>| {
        let values: Vec<f64> = labels.iter().filter_map(measure).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let (mean_dice, mean_iou) = (mean(|label| label.dice), mean(|label| label.iou));
    let left_out = labels.iter().filter(|label| label.dice.is_none()).count();
    Evaluation {
        labels,
        mean_dice,
        mean_iou,
        left_out,
    }
}

/// A table, one label a row and the means last.
impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest = self
            .labels
            .iter()
            .map(|label| label.name.chars().count())
            .max();
        let wide = widest.unwrap_or(0).max("structure".len());
        let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let head = ("label", "structure", "dice", "iou", "predicted", "truth");
        writeln!(
            f,
            "{:>10}  {:wide$}  {:>6}  {:>6}  {:>10}  {:>10}",
            head.0, head.1, head.2, head.3, head.4, head.5
        )?;
        for label in &self.labels {
            writeln!(
                f,
                "{:>10}  {:wide$}  {:>6}  {:>6}  {:>10}  {:>10}",
                label.label,
                label.name,
                show(label.dice),
                show(label.iou),
                label.predicted_voxels,
                label.true_voxels
            )?;
        }
        let counted = self.labels.len() - self.left_out;
        write!(
            f,
            "{:>10}  {:wide$}  {:>6}  {:>6}  over {counted} of {} labels",
            "",
            "mean",
            show(self.mean_dice),
            show(self.mean_iou),
            self.labels.len()
        )
    }
}
