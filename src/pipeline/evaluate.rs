//! How well two label maps agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::geometry::Grid;
use super::structures::{Side, Target};
use super::surface::SurfaceDistances;
use super::volume::{Labels, Names, Volume};
use crate::error::{Error, Result};

/// How far the affines of two maps may differ, in mm per element, and still be one grid.
const GRID_TOLERANCE: f64 = 1e-3;

/// What is measured, and of what.
#[derive(Clone, Debug)]
pub struct Measures {
    /// How far apart two surfaces may lie and still agree, in mm, for the surface Dice.
    pub tolerance_mm: f64,
    /// The structures; every label of the maps if empty.
    pub pairs: Vec<Pair>,
    /// The truth is no label map but the map of one structure, such as a tissue's probability:
    /// its voxels of at least this value are the structure. Needs exactly one pair.
    pub threshold: Option<f32>,
}

impl Default for Measures {
    /// Every label, surfaces within 1 mm.
    fn default() -> Self {
        Self {
            tolerance_mm: 1.0,
            pairs: Vec::new(),
            threshold: None,
        }
    }
}

/// The agreement on one label.
///
/// With TP the voxels that both maps give the label, FP those only the prediction gives it and
/// FN those only the truth does. Where both are empty the measures are null (0/0, not a score);
/// where only one is, overlaps are 0 and distances infinite (`"inf"` in JSON).
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
    /// What the places of the voxels in space say; not in [`evaluate`], which knows no grid.
    #[serde(flatten)]
    pub space: Option<Space>,
}

/// The agreement on one label in millimetres and millilitres.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Space {
    /// The share of both surfaces within the tolerance of each other, 0 to 1
    /// ([`SurfaceDistances::dice`]).
    pub surface_dice: Option<f64>,
    /// The Hausdorff distance in mm ([`SurfaceDistances::hausdorff`]).
    #[serde(serialize_with = "or_infinity")]
    pub hd_mm: Option<f64>,
    /// That of the nearest 95 % of each surface.
    #[serde(serialize_with = "or_infinity")]
    pub hd95_mm: Option<f64>,
    /// The average symmetric surface distance in mm ([`SurfaceDistances::mean`]).
    #[serde(serialize_with = "or_infinity")]
    pub assd_mm: Option<f64>,
    /// The prediction's volume in ml.
    pub predicted_ml: f64,
    /// The truth's volume in ml.
    pub true_ml: f64,
    /// How much the prediction is larger than the truth, in ml.
    pub volume_error_ml: f64,
    /// That as a share of the truth's volume; null if the truth is empty.
    pub relative_volume_error: Option<f64>,
}

/// JSON has no infinity: it is written as the text `inf`, which Python's `float` reads.
pub(super) fn or_infinity<S: Serializer>(
    value: &Option<f64>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    match value {
        Some(value) if value.is_infinite() => serializer.serialize_str("inf"),
        value => value.serialize(serializer),
    }
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
    /// The mean surface Dice over the labels that have one; null if none has.
    pub mean_surface_dice: Option<f64>,
    /// The mean 95 % Hausdorff distance in mm over the labels where it is finite.
    pub mean_hd95_mm: Option<f64>,
    /// The mean average surface distance in mm over the labels where it is finite.
    pub mean_assd_mm: Option<f64>,
    /// How many labels the means leave out because both maps lack them.
    pub left_out: usize,
    /// How many labels only the truth has: their Dice is 0, their distances are infinite.
    pub missed: usize,
    /// How many labels only the prediction has: likewise.
    pub spurious: usize,
}

/// Compares two label files. Names come with the files ([`Labels::read`]), the prediction's
/// first.
///
/// A label that is only named, in neither map, is reported and left out of the means.
///
/// # Errors
///
/// Those of [`Labels::read`], [`Error::Volume`] if the two are not on one grid, and
/// [`Error::Argument`] for a threshold and not exactly one pair.
pub fn evaluate_files(prediction: &Path, truth: &Path, measures: &Measures) -> Result<Evaluation> {
    let prediction = Labels::read(prediction)?;
    let (truth, mut names) = read_truth(truth, &prediction, measures)?;
    names.extend(prediction.names.clone());
    let classes = match measures.pairs.as_slice() {
        [] => {
            let mut all: BTreeSet<u32> = names.keys().copied().collect();
            for data in [&prediction.data, &truth] {
                all.extend(data.chunk_by(|a, b| a == b).map(|run| run[0]));
            }
            all.remove(&0);
            let class = |label| Class {
                label,
                name: named(&names, label),
                prediction: LabelSet(vec![label..=label]),
                truth: LabelSet(vec![label..=label]),
            };
            all.into_iter().map(class).collect()
        }
        pairs => {
            let class = |pair: &Pair| Class {
                label: pair.prediction.first(),
                name: pair
                    .prediction
                    .single()
                    .and_then(|label| prediction.names.get(&label))
                    .unwrap_or(&pair.name)
                    .clone(),
                prediction: pair.prediction.clone(),
                truth: match measures.threshold {
                    Some(_) => LabelSet(vec![1..=1]),
                    None => pair.truth.clone(),
                },
            };
            pairs.iter().map(class).collect::<Vec<_>>()
        }
    };
    let grid = prediction.grid();
    let boxes = [&prediction.data, &truth].map(|data| boxes(data, grid.shape));
    let rows = classes.into_iter().map(|class| {
        let reach = |boxes: &BTreeMap<u32, Region>, set: &LabelSet| {
            let inside = boxes.iter().filter(|(label, _)| set.contains(**label));
            inside.map(|(_, region)| *region).reduce(Region::join)
        };
        let found = [
            reach(&boxes[0], &class.prediction),
            reach(&boxes[1], &class.truth),
        ];
        let region = found.into_iter().flatten().reduce(Region::join);
        let shape = region.map_or([0; 3], |region| region.shape());
        let cut = |data: &[u32], set: &LabelSet| {
            region.map_or(Vec::new(), |region| region.mask(data, grid.shape, set))
        };
        let predicted = cut(&prediction.data, &class.prediction);
        let truly = cut(&truth, &class.truth);
        let count = |mask: &[bool]| mask.iter().filter(|inside| **inside).count() as u64;
        let both = predicted.iter().zip(&truly).filter(|(p, t)| **p && **t);
        let counts = [count(&predicted), count(&truly), both.count() as u64];
        let surfaces = SurfaceDistances::new(&predicted, &truly, shape, grid.voxel_sizes());
        let mut row = Agreement::new(class.label, class.name, counts);
        row.space = Some(Space::new(&surfaces, measures.tolerance_mm, counts, &grid));
        row
    });
    Ok(Evaluation::new(rows.collect()))
}

/// The truth's labels, on the prediction's grid, and their names.
fn read_truth(path: &Path, prediction: &Labels, measures: &Measures) -> Result<(Vec<u32>, Names)> {
    let Some(threshold) = measures.threshold else {
        let truth = Labels::read(path)?;
        check_grids(&prediction.path, &prediction.grid(), &truth.grid())?;
        return Ok((truth.data, truth.names));
    };
    if measures.pairs.len() != 1 {
        let problem = "a threshold makes the truth one structure; name it by one pair".into();
        return Err(Error::Argument(problem));
    }
    let truth = Volume::read(path)?;
    check_grids(&prediction.path, &prediction.grid(), &truth.grid())?;
    let labels = truth
        .data
        .iter()
        .map(|value| u32::from(*value >= threshold));
    Ok((labels.collect(), Names::new()))
}

/// A row to be: what it is called and which labels it counts in each map.
struct Class {
    label: u32,
    name: String,
    prediction: LabelSet,
    truth: LabelSet,
}

fn named(names: &Names, label: u32) -> String {
    let name = names.get(&label).cloned();
    name.unwrap_or_else(|| format!("label {label}"))
}

/// A box of voxels: the lowest along each axis, and one beyond the highest.
#[derive(Clone, Copy)]
struct Region {
    low: [usize; 3],
    high: [usize; 3],
}

impl Region {
    fn join(self, other: Self) -> Self {
        Self {
            low: [0, 1, 2].map(|axis| self.low[axis].min(other.low[axis])),
            high: [0, 1, 2].map(|axis| self.high[axis].max(other.high[axis])),
        }
    }

    fn shape(&self) -> [usize; 3] {
        [0, 1, 2].map(|axis| self.high[axis] - self.low[axis])
    }

    /// Which voxels of the box have a label of the set.
    fn mask(&self, data: &[u32], [nx, ny, _]: [usize; 3], set: &LabelSet) -> Vec<bool> {
        let ([low_x, low_y, low_z], [high_x, high_y, high_z]) = (self.low, self.high);
        let lines = (low_z..high_z).flat_map(|z| (low_y..high_y).map(move |y| nx * (y + ny * z)));
        let voxels = lines.flat_map(|line| &data[line + low_x..line + high_x]);
        voxels.map(|label| set.contains(*label)).collect()
    }
}

/// The box of each label but the background.
fn boxes(data: &[u32], [nx, ny, _]: [usize; 3]) -> BTreeMap<u32, Region> {
    let mut boxes: BTreeMap<u32, Region> = BTreeMap::new();
    for (line, voxels) in data.chunks_exact(nx.max(1)).enumerate() {
        let mut x = 0;
        // Runs of equal labels are long, so the tree is asked once a run.
        for run in voxels.chunk_by(|a, b| a == b) {
            let low = [x, line % ny, line / ny];
            let high = [x + run.len(), low[1] + 1, low[2] + 1];
            x += run.len();
            if run[0] > 0 {
                let own = Region { low, high };
                let joined = boxes.get(&run[0]).map_or(own, |known| known.join(own));
                boxes.insert(run[0], joined);
            }
        }
    }
    boxes
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

/// Whether two maps have one shape and affine.
pub(super) fn check_grids(path: &Path, prediction: &Grid, truth: &Grid) -> Result<()> {
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

/// Compares two label maps of one grid, voxel by voxel: overlaps only.
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
    let rows = counts
        .into_iter()
        .map(|(label, counts)| Agreement::new(label, named(names, label), counts));
    Evaluation::new(rows.collect())
}

impl Agreement {
    /// From the voxels of the prediction, of the truth, and of both.
    pub(super) fn new(label: u32, name: String, [predicted, truth, both]: [u64; 3]) -> Self {
        let ratio = |above: u64, below: u64| (below > 0).then(|| above as f64 / below as f64);
        Self {
            label,
            name,
            predicted_voxels: predicted,
            true_voxels: truth,
            dice: ratio(2 * both, predicted + truth),
            iou: ratio(both, predicted + truth - both),
            space: None,
        }
    }

    /// A measure of [`Space`], where there is one.
    fn of_space(&self, measure: fn(&Space) -> Option<f64>) -> Option<f64> {
        self.space.as_ref().and_then(measure)
    }
}

impl Space {
    fn new(
        surfaces: &SurfaceDistances,
        tolerance: f64,
        [predicted, truth, _]: [u64; 3],
        grid: &Grid,
    ) -> Self {
        let millilitres = |voxels: u64| voxels as f64 * grid.voxel_volume() / 1000.0;
        let (predicted_ml, true_ml) = (millilitres(predicted), millilitres(truth));
        let volume_error_ml = predicted_ml - true_ml;
        Self {
            surface_dice: surfaces.dice(tolerance),
            hd_mm: surfaces.hausdorff(1.0),
            hd95_mm: surfaces.hausdorff(0.95),
            assd_mm: surfaces.mean(),
            predicted_ml,
            true_ml,
            volume_error_ml,
            relative_volume_error: (truth > 0).then(|| volume_error_ml / true_ml),
        }
    }
}

/// The mean of what is there and finite; nothing of nothing.
pub(super) fn finite_mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Vec<f64> = values.flatten().filter(|value| value.is_finite()).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

impl Evaluation {
    fn new(labels: Vec<Agreement>) -> Self {
        let mean =
            |measure: &dyn Fn(&Agreement) -> Option<f64>| finite_mean(labels.iter().map(measure));
        let count = |is: &dyn Fn(u64, u64) -> bool| {
            let rows = labels.iter();
            rows.filter(|row| is(row.predicted_voxels, row.true_voxels))
                .count()
        };
        Self {
            mean_dice: mean(&|label| label.dice),
            mean_iou: mean(&|label| label.iou),
            mean_surface_dice: mean(&|label| label.of_space(|space| space.surface_dice)),
            mean_hd95_mm: mean(&|label| label.of_space(|space| space.hd95_mm)),
            mean_assd_mm: mean(&|label| label.of_space(|space| space.assd_mm)),
            left_out: count(&|predicted, truth| predicted == 0 && truth == 0),
            missed: count(&|predicted, truth| predicted == 0 && truth > 0),
            spurious: count(&|predicted, truth| predicted > 0 && truth == 0),
            labels,
        }
    }
}

/// A table, one label a row and the means last.
impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.labels.iter().map(|label| label.name.chars().count());
        let wide = names.max().unwrap_or(0).max("structure".len());
        let row = |f: &mut fmt::Formatter<'_>, label: &str, name: &str, cells: [String; 7]| {
            write!(f, "{label:>10}  {name:wide$}")?;
            let widths = [6, 6, 12, 7, 7, 9, 9];
            for (cell, width) in cells.iter().zip(widths) {
                write!(f, "  {cell:>width$}")?;
            }
            Ok(())
        };
        let heads = [
            "dice",
            "iou",
            "surface dice",
            "hd95 mm",
            "assd mm",
            "ml",
            "truth ml",
        ];
        row(f, "label", "structure", heads.map(str::to_owned))?;
        writeln!(f)?;
        for label in &self.labels {
            let of = |measure: fn(&Space) -> Option<f64>| label.of_space(measure);
            let cells = [
                shown(label.dice, 4),
                shown(label.iou, 4),
                shown(of(|space| space.surface_dice), 4),
                shown(of(|space| space.hd95_mm), 2),
                shown(of(|space| space.assd_mm), 2),
                shown(of(|space| Some(space.predicted_ml)), 2),
                shown(of(|space| Some(space.true_ml)), 2),
            ];
            row(f, &label.label.to_string(), &label.name, cells)?;
            writeln!(f)?;
        }
        let cells = [
            shown(self.mean_dice, 4),
            shown(self.mean_iou, 4),
            shown(self.mean_surface_dice, 4),
            shown(self.mean_hd95_mm, 2),
            shown(self.mean_assd_mm, 2),
            String::new(),
            String::new(),
        ];
        row(f, "", "mean", cells)?;
        let counted = self.labels.len() - self.left_out;
        write!(f, "\nover {counted} of {} labels", self.labels.len())?;
        if self.missed + self.spurious > 0 {
            write!(
                f,
                ": {} in the truth only, {} in the prediction only; their overlaps are 0, and their \
                 distances, infinite, are in no mean",
                self.missed, self.spurious
            )?;
        }
        Ok(())
    }
}

/// A number with so many decimals, `inf`, or a dash for none.
pub(super) fn shown(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
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
