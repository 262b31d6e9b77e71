//! How well the maps of many cases agree with their truths, and what that says of each label.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::evaluate::{
    Agreement, Evaluation, Measures, evaluate_files, finite_mean, or_infinity, shown,
};
use super::{files, finish};
use crate::error::{Error, Result};

/// The measures that are summed up over cases, under the names of their columns.
pub const SUMMED: [Measure; 8] = [
    ("dice", |row| row.dice),
    ("iou", |row| row.iou),
    ("surface_dice", |row| row.space.as_ref()?.surface_dice),
    ("hd_mm", |row| row.space.as_ref()?.hd_mm),
    ("hd95_mm", |row| row.space.as_ref()?.hd95_mm),
    ("assd_mm", |row| row.space.as_ref()?.assd_mm),
    ("volume_error_ml", |row| {
        Some(row.space.as_ref()?.volume_error_ml)
    }),
    ("relative_volume_error", |row| {
        row.space.as_ref()?.relative_volume_error
    }),
];

/// A measure's name, and how it is read from a row.
pub type Measure = (&'static str, fn(&Agreement) -> Option<f64>);

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct Case {
    /// What both files are called, without suffixes and without `_seg-…_dseg`.
    pub case: String,
    /// The map that was judged.
    pub prediction: PathBuf,
    /// What it was judged by.
    pub truth: PathBuf,
    /// The agreement.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

/// A case that could not be judged.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The case.
    pub case: String,
    /// Why.
    pub problem: String,
}

/// How a measure spreads over cases. Mean and deviation are of the finite values, all else is of
/// all values in order, infinities last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// How many cases have the measure.
    pub count: usize,
    /// How many of them are infinite: one of the maps lacks the label.
    pub infinite: usize,
    /// The mean of the finite ones; null if there is none.
    pub mean: Option<f64>,
    /// Their standard deviation, of a sample; null of fewer than two.
    pub std: Option<f64>,
    /// The least.
    #[serde(serialize_with = "or_infinity")]
    pub min: Option<f64>,
    /// A quarter lies below.
    #[serde(serialize_with = "or_infinity")]
    pub q25: Option<f64>,
    /// Half lies below.
    #[serde(serialize_with = "or_infinity")]
    pub median: Option<f64>,
    /// Three quarters lie below.
    #[serde(serialize_with = "or_infinity")]
    pub q75: Option<f64>,
    /// The greatest.
    #[serde(serialize_with = "or_infinity")]
    pub max: Option<f64>,
}

impl Spread {
    /// Of any values, in any order. Quantiles lie between two values in proportion, as numpy's do.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let finite = values.iter().filter(|value| value.is_finite());
        let finite: Vec<f64> = finite.copied().collect();
        let mean = finite_mean(finite.iter().map(|value| Some(*value)));
        let std = mean.filter(|_| finite.len() > 1).map(|mean| {
            let squares: f64 = finite.iter().map(|value| (value - mean).powi(2)).sum();
            (squares / (finite.len() - 1) as f64).sqrt()
        });
        let quantile = |share: f64| {
            let at = share * values.len().checked_sub(1)? as f64;
            let (below, above) = (values[at.floor() as usize], values[at.ceil() as usize]);
            // Between a number and infinity there is only infinity, and nothing between two.
            Some(match below == above {
                true => below,
                false => below + (above - below) * at.fract(),
            })
        };
        Self {
            count: values.len(),
            infinite: values.len() - finite.len(),
            mean,
            std,
            min: quantile(0.0),
            q25: quantile(0.25),
            median: quantile(0.5),
            q75: quantile(0.75),
            max: quantile(1.0),
        }
    }
}

/// One label over all cases.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The label.
    pub label: u32,
    /// Its name.
    pub name: String,
    /// The cases in which either map has it.
    pub cases: usize,
    /// Those in which only the truth has it.
    pub missed: usize,
    /// Those in which only the prediction has it.
    pub spurious: usize,
    /// The cases in which neither has it: they count for nothing.
    pub left_out: usize,
    /// How each of [`SUMMED`] spreads.
    #[serde(flatten)]
    pub spreads: BTreeMap<&'static str, Spread>,
}

/// Many cases.
#[derive(Clone, Debug, Serialize)]
pub struct Cohort {
    /// How far apart surfaces may lie and still agree, in mm.
    pub tolerance_mm: f64,
    /// The cases, by name.
    pub cases: Vec<Case>,
    /// The labels over all cases, ascending.
    pub labels: Vec<Summary>,
    /// The means of the labels' means, as nnU-Net's `foreground_mean`; null where no label has one.
    pub mean: BTreeMap<&'static str, Option<f64>>,
    /// The cases that could not be judged.
    pub failed: Vec<Failure>,
    /// Truths without a prediction. They count for nothing above.
    pub missing_predictions: Vec<PathBuf>,
    /// Predictions without a truth.
    pub missing_truths: Vec<PathBuf>,
}

/// Compares the maps of two folders. A case is what both call alike: the path in the folder, without suffix and
/// without `_seg-…` and `_dseg`. A case that fails is listed and does not stop the others; `tell` hears of each.
///
/// # Errors
///
/// A folder that cannot be read, two files of one name in a folder, no case that both folders have, or
/// [`Error::Argument`] for a threshold and not exactly one pair.
pub fn evaluate_folders(
    predictions: &Path,
    truths: &Path,
    measures: &Measures,
    tell: &mut dyn FnMut(&str, usize, usize),
) -> Result<Cohort> {
    let mut found = named_maps(predictions)?;
    let wanted = named_maps(truths)?;
    let mut cohort = Cohort::new(measures.tolerance_mm);
    let mut pairs = Vec::new();
    for (case, truth) in wanted {
        match found.remove(&case) {
            Some(prediction) => pairs.push((case, prediction, truth)),
            None => cohort.missing_predictions.push(truth),
        }
    }
    cohort.missing_truths = found.into_values().collect();
    if pairs.is_empty() {
        let (count, others) = (
            cohort.missing_truths.len(),
            cohort.missing_predictions.len(),
        );
        return Err(Error::Argument(format!(
            "no case is in both `{}` ({count} maps) and `{}` ({others}); they are matched by name",
            predictions.display(),
            truths.display()
        )));
    }
    let count = pairs.len();
    for (n, (case, prediction, truth)) in pairs.into_iter().enumerate() {
        tell(&case, n, count);
        match evaluate_files(&prediction, &truth, measures) {
            Ok(evaluation) => cohort.cases.push(Case {
                case,
                prediction,
                truth,
                evaluation,
            }),
            Err(error @ Error::Argument(_)) => return Err(error),
            Err(error) => {
                let problem = error.to_string();
                cohort.failed.push(Failure { case, problem });
            }
        }
    }
    cohort.sum_up();
    Ok(cohort)
}

/// The maps of a folder by case.
fn named_maps(folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut maps = BTreeMap::new();
    for path in files::volumes_under(folder)? {
        let inside = path.strip_prefix(folder).unwrap_or(&path);
        let case = case_name(inside);
        if case.ends_with("_probseg") {
            continue;
        }
        if let Some(twin) = maps.insert(case, path.clone()) {
            return Err(Error::Argument(format!(
                "`{}` and `{}` are maps of one case; leave one",
                twin.display(),
                path.display()
            )));
        }
    }
    Ok(maps)
}

/// What a map is a map of: `sub-01/anat/sub-01_T1w` of `sub-01/anat/sub-01_T1w_seg-keraunos_dseg.nii.gz`.
pub fn case_name(path: &Path) -> String {
    let stem = finish::stem(path);
    let stem = stem.strip_suffix("_dseg").unwrap_or(&stem);
    let parts: Vec<&str> = stem
        .split('_')
        .filter(|part| !part.starts_with("seg-"))
        .collect();
    let named = path.with_file_name(parts.join("_"));
    named.to_string_lossy().replace('\\', "/")
}

impl Cohort {
    fn new(tolerance_mm: f64) -> Self {
        Self {
            tolerance_mm,
            cases: Vec::new(),
            labels: Vec::new(),
            mean: BTreeMap::new(),
            failed: Vec::new(),
            missing_predictions: Vec::new(),
            missing_truths: Vec::new(),
        }
    }

    /// Two files as a cohort of one case.
    pub fn of_one(
        prediction: &Path,
        truth: &Path,
        evaluation: Evaluation,
        tolerance_mm: f64,
    ) -> Self {
        let mut cohort = Self::new(tolerance_mm);
        cohort.cases.push(Case {
            case: case_name(Path::new(prediction.file_name().unwrap_or_default())),
            prediction: prediction.into(),
            truth: truth.into(),
            evaluation,
        });
        cohort.sum_up();
        cohort
    }

    /// Whether every case of both folders was judged.
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty()
            && self.missing_predictions.is_empty()
            && self.missing_truths.is_empty()
    }

    /// The rows of one label, each with its case.
    pub fn rows(&self, label: u32) -> impl Iterator<Item = &Agreement> {
        let rows = self.cases.iter().flat_map(|case| &case.evaluation.labels);
        rows.filter(move |row| row.label == label)
    }

    fn sum_up(&mut self) {
        let mut names = BTreeMap::new();
        for row in self.cases.iter().flat_map(|case| &case.evaluation.labels) {
            names.entry(row.label).or_insert_with(|| row.name.clone());
        }
        let labels = names.into_iter().map(|(label, name)| {
            let count = |is: &dyn Fn(u64, u64) -> bool| {
                let rows = self.rows(label);
                rows.filter(|row| is(row.predicted_voxels, row.true_voxels))
                    .count()
            };
            let (missed, spurious) = (
                count(&|p, t| p == 0 && t > 0),
                count(&|p, t| p > 0 && t == 0),
            );
            let cases = count(&|p, t| p > 0 || t > 0);
            let spreads = SUMMED.map(|(name, measure)| {
                // The volume of what neither map has is right, and says nothing.
                let rows = self.rows(label).filter(|row| row.dice.is_some());
                (name, Spread::of(rows.filter_map(measure)))
            });
            Summary {
                label,
                name,
                cases,
                missed,
                spurious,
                left_out: self.cases.len() - cases,
                spreads: spreads.into(),
            }
        });
        self.labels = labels.collect();
        let mean = SUMMED.map(|(name, _)| {
            let means = self.labels.iter().map(|label| label.spreads[name].mean);
            (name, finite_mean(means))
        });
        self.mean = mean.into();
    }

    /// Writes a row for each case and label to `path`, and a row for each label to
    /// [`summary_path`]: an empty cell where there is no value, `inf` for infinity.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub fn write_csv(&self, path: &Path) -> Result<()> {
        let value = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let mut heads = vec!["case", "label", "name", "predicted_voxels", "true_voxels"];
        heads.extend(SUMMED.map(|(name, _)| name));
        heads.extend(["predicted_ml", "true_ml"]);
        let mut rows = vec![heads.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        for case in &self.cases {
            for row in &case.evaluation.labels {
                let space = row.space.as_ref();
                let mut cells = vec![
                    case.case.clone(),
                    row.label.to_string(),
                    row.name.clone(),
                    row.predicted_voxels.to_string(),
                    row.true_voxels.to_string(),
                ];
                cells.extend(SUMMED.map(|(_, measure)| value(measure(row))));
                cells.push(value(space.map(|space| space.predicted_ml)));
                cells.push(value(space.map(|space| space.true_ml)));
                rows.push(cells);
            }
        }
        write_rows(path, &rows)?;
        let heads = ["label", "name", "cases", "missed", "spurious", "left_out"];
        let mut heads: Vec<String> = heads.map(str::to_owned).into();
        for (name, _) in SUMMED {
            for of in [
                "mean", "std", "min", "q25", "median", "q75", "max", "infinite",
            ] {
                heads.push(format!("{name}_{of}"));
            }
        }
        let mut rows = vec![heads];
        for label in &self.labels {
            let counts = [label.cases, label.missed, label.spurious, label.left_out];
            let mut cells = vec![label.label.to_string(), label.name.clone()];
            cells.extend(counts.map(|count| count.to_string()));
            for (name, _) in SUMMED {
                let s = &label.spreads[name];
                cells.extend([s.mean, s.std, s.min, s.q25, s.median, s.q75, s.max].map(value));
                cells.push(s.infinite.to_string());
            }
            rows.push(cells);
        }
        write_rows(&summary_path(path), &rows)
    }
}

/// Where the rows of labels go beside the rows of cases: `scores_summary.csv` of `scores.csv`.
pub fn summary_path(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let suffix = path.extension().unwrap_or("csv".as_ref()).to_string_lossy();
    path.with_file_name(format!("{stem}_summary.{suffix}"))
}

fn write_rows(path: &Path, rows: &[Vec<String>]) -> Result<()> {
    files::atomic_write(path, |out| {
        let mut table = csv::Writer::from_writer(out);
        for row in rows {
            table.write_record(row)?;
        }
        table.flush()
    })
}

/// A table, one label a row with means over the cases, and what is missing.
impl fmt::Display for Cohort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.labels.iter().map(|label| label.name.chars().count());
        let wide = names.max().unwrap_or(0).max("structure".len());
        writeln!(
            f,
            "{:>10}  {:wide$}  {:>5}  {:>6}  {:>8}  {:>15}  {:>6}  {:>12}  {:>7}  {:>7}  {:>8}",
            "label",
            "structure",
            "cases",
            "missed",
            "spurious",
            "dice",
            "iou",
            "surface dice",
            "hd95 mm",
            "assd mm",
            "error ml"
        )?;
        for label in &self.labels {
            let mean = |name: &str, decimals| shown(label.spreads[name].mean, decimals);
            let dice = &label.spreads["dice"];
            let spread = dice.std.map_or(String::new(), |std| format!(" ± {std:.4}"));
            writeln!(
                f,
                "{:>10}  {:wide$}  {:>5}  {:>6}  {:>8}  {:>15}  {:>6}  {:>12}  {:>7}  {:>7}  {:>8}",
                label.label,
                label.name,
                label.cases,
                label.missed,
                label.spurious,
                shown(dice.mean, 4) + &spread,
                mean("iou", 4),
                mean("surface_dice", 4),
                mean("hd95_mm", 2),
                mean("assd_mm", 2),
                mean("volume_error_ml", 2)
            )?;
        }
        let mean = |name: &str, decimals| shown(self.mean[name], decimals);
        write!(
            f,
            "{:>10}  {:wide$}  {:>5}  {:>6}  {:>8}  {:>15}  {:>6}  {:>12}  {:>7}  {:>7}\nover {} cases, \
             surfaces within {} mm; infinite distances (missed, spurious) are in no mean",
            "",
            "mean",
            "",
            "",
            "",
            mean("dice", 4),
            mean("iou", 4),
            mean("surface_dice", 4),
            mean("hd95_mm", 2),
            mean("assd_mm", 2),
            self.cases.len(),
            self.tolerance_mm
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_called_after_its_case() {
        for (path, want) in [
            ("case_01.nii.gz", "case_01"),
            ("case_01_seg-keraunos_dseg.nii.gz", "case_01"),
            (
                "sub-1/anat/sub-1_seg-x_desc-y_dseg.nii",
                "sub-1/anat/sub-1_desc-y",
            ),
            ("a_dseg.nii", "a"),
        ] {
            assert_eq!(case_name(path.as_ref()), want);
        }
    }

    #[test]
    fn spreads_keep_infinities_out_of_the_mean_and_in_the_order() {
        let spread = Spread::of([4.0, f64::INFINITY, 1.0, 2.0]);
        assert_eq!((spread.count, spread.infinite), (4, 1));
        // numpy.quantile([1, 2, 4, inf], [0, .25, .5, .75, 1]) and numpy.std([1, 2, 4], ddof=1)
        assert_eq!(spread.mean, Some(7.0 / 3.0));
        assert!((spread.std.unwrap_or(0.0) - 1.527_525_231_651_946_8).abs() < 1e-15);
        let quantiles = [
            spread.min,
            spread.q25,
            spread.median,
            spread.q75,
            spread.max,
        ];
        let inf = f64::INFINITY;
        assert_eq!(quantiles, [1.0, 1.75, 3.0, inf, inf].map(Some));
        let two = Spread::of([inf, inf]);
        assert_eq!((two.mean, two.median, two.std), (None, Some(inf), None));
        let none = Spread::of([]);
        assert_eq!((none.count, none.mean, none.max), (0, None, None));
        let one = Spread::of([0.5]);
        assert_eq!((one.mean, one.std, one.q25), (Some(0.5), None, Some(0.5)));
    }
}
