//! How well two label maps agree.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use super::geometry::Grid;
use super::structures::{Side, Target};
use super::volume::{Labels, Names, Volume};
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

/// Labels that count as one structure: `17`, `91-116`, `7+8+46+47`, or a structure's name.
///
/// A name stands for its label and, where it is asked for without a side, those of its sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSet(Vec<RangeInclusive<u32>>);

impl LabelSet {
    /// Whether a voxel of this label belongs to the structure.
    pub fn contains(&self, label: u32) -> bool {
        self.0.iter().any(|range| range.contains(&label))
    }

    /// The first of the labels.
    pub fn first(&self) -> u32 {
        self.0.first().map_or(0, |range| *range.start())
    }

    /// The label, if it is but one.
    pub fn single(&self) -> Option<u32> {
        match self.0.as_slice() {
            [range] if range.start() == range.end() => Some(*range.start()),
            _ => None,
        }
    }
}

impl FromStr for LabelSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut ranges = Vec::new();
        for part in text.split('+').map(str::trim) {
            let number = |digits: &str| digits.trim().parse::<u32>().ok();
            let range = match part.split_once('-') {
                Some((low, high)) => number(low).zip(number(high)),
                None => number(part).map(|label| (label, label)),
            };
            match range {
                Some((low, high)) if (1..=high).contains(&low) => ranges.push(low..=high),
                Some(_) => {
                    let problem = format!("`{part}` is no range of labels; they count from 1");
                    return Err(Error::Argument(problem));
                }
                None => {
                    let target = Target::find(part)?;
                    ranges.push(target.label.into()..=target.label.into());
                    let sided = target
                        .structure
                        .filter(|s| s.sided && target.side.is_none());
                    for side in sided.iter().flat_map(|_| [Side::Left, Side::Right]) {
                        let label =
                            Target::find(&format!("{} {}", side.name(), target.name))?.label;
                        ranges.push(label.into()..=label.into());
                    }
                }
            }
        }
        Ok(Self(ranges))
    }
}

/// A structure as the prediction's labels and the truth's: `17=37`, `7+8+46+47=91-116`, or `17` for the
/// same in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// How it was written.
    pub name: String,
    /// Its labels in the prediction.
    pub prediction: LabelSet,
    /// Its labels in the truth.
    pub truth: LabelSet,
}

impl FromStr for Pair {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (prediction, truth) = text.split_once('=').unwrap_or((text, text));
        Ok(Self {
            name: prediction.trim().to_owned(),
            prediction: prediction.parse()?,
            truth: truth.parse()?,
        })
    }
}

/// Compares two label files pair by pair. With `threshold` the truth is no label map but the map of one
/// structure, such as a tissue's probability: its voxels of at least that value are the structure.
///
/// # Errors
///
/// As [`evaluate_files`]; [`Error::Argument`] for a threshold and not exactly one pair.
pub fn evaluate_pairs(
    prediction: &Path,
    truth: &Path,
    pairs: &[Pair],
    threshold: Option<f32>,
) -> Result<Evaluation> {
    let prediction = Labels::read(prediction)?;
    let row = |pair: &Pair, is_true: &dyn Fn(usize) -> bool| {
        let mut counts = [0; 3];
        for (at, label) in prediction.data.iter().enumerate() {
            let (p, t) = (pair.prediction.contains(*label), is_true(at));
            for (count, hit) in counts.iter_mut().zip([p, t, p && t]) {
                *count += u64::from(hit);
            }
        }
        let known = pair
            .prediction
            .single()
            .and_then(|l| prediction.names.get(&l));
        let name = known.unwrap_or(&pair.name).clone();
        Agreement::new(pair.prediction.first(), name, counts)
    };
    let rows = match (threshold, pairs) {
        (None, pairs) => {
            let truth = Labels::read(truth)?;
            check_grids(&prediction.path, &prediction.grid(), &truth.grid())?;
            let rows = pairs
                .iter()
                .map(|pair| row(pair, &|at| pair.truth.contains(truth.data[at])));
            rows.collect()
        }
        (Some(threshold), [pair]) => {
            let truth = Volume::read(truth)?;
            check_grids(&prediction.path, &prediction.grid(), &truth.grid())?;
            vec![row(pair, &|at| truth.data[at] >= threshold)]
        }
        (Some(_), _) => {
            let problem = "a threshold makes the truth one structure; name it by one pair".into();
            return Err(Error::Argument(problem));
        }
    };
    Ok(Evaluation::new(rows))
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
    let rows = counts.into_iter().map(|(label, counts)| {
        let name = names.get(&label).cloned();
        Agreement::new(
            label,
            name.unwrap_or_else(|| format!("label {label}")),
            counts,
        )
    });
    Evaluation::new(rows.collect())
}

impl Agreement {
    /// From the voxels of the prediction, of the truth, and of both.
    fn new(label: u32, name: String, [predicted, truth, both]: [u64; 3]) -> Self {
        let ratio = |above: u64, below: u64| (below > 0).then(|| above as f64 / below as f64);
        Self {
            label,
            name,
            predicted_voxels: predicted,
            true_voxels: truth,
            dice: ratio(2 * both, predicted + truth),
            iou: ratio(both, predicted + truth - both),
        }
    }
}

impl Evaluation {
    fn new(labels: Vec<Agreement>) -> Self {
        let mean = |measure: fn(&Agreement) -> Option<f64>| {
            let values: Vec<f64> = labels.iter().filter_map(measure).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let (mean_dice, mean_iou) = (mean(|label| label.dice), mean(|label| label.iou));
        let left_out = labels.iter().filter(|label| label.dice.is_none()).count();
        Self {
            labels,
            mean_dice,
            mean_iou,
            left_out,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> Vec<u32> {
        let set: LabelSet = text.parse().expect("a set of labels");
        (0..300).filter(|label| set.contains(*label)).collect()
    }

    #[test]
    fn labels_are_numbers_ranges_sums_and_names() {
        assert_eq!(holds("17"), [17]);
        assert_eq!(holds("3-5"), [3, 4, 5]);
        assert_eq!(holds("7 + 46-47"), [7, 46, 47]);
        assert_eq!(holds("left hippocampus"), [17]);
        assert_eq!(holds("hippocampus"), [17, 53, 210]);
        assert_eq!(holds("brainstem+3"), [3, 16]);
        for wrong in ["0", "5-3", "0-2", "", "3+", "kidney", "-4"] {
            assert!(wrong.parse::<LabelSet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pair_has_two_sides_or_one_for_both() {
        let pair: Pair = "7+8=91-116".parse().expect("a pair");
        assert_eq!(pair.name, "7+8");
        assert!(pair.prediction.contains(8) && pair.truth.contains(100));
        let pair: Pair = "17".parse().expect("a pair");
        assert_eq!(pair.prediction, pair.truth);
    }
}
