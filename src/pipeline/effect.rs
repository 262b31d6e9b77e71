//! What instructions are worth: a labelled scan segmented with good ones, bad ones and wrong ones.
//!
//! Every structure of the truth is asked for in several ways at once, so that the scan is encoded once. A model that obeys words
//! draws the same for every good instruction, and nothing that is right for the wrong ones.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::pipeline::evaluate::{Agreement, LabelSet, Pair, check_grids};
use crate::pipeline::instruct::{Author, Instruction};
use crate::pipeline::modality::Modality;
use crate::pipeline::structures::{Side, Target};
use crate::pipeline::volume::{Labels, read_grid};
use crate::pipeline::{DrawnMask, Input, Instruct, Observer, Request, Segmenter};

/// What no head contains, in turn.
const ABSENT: [&str; 6] = [
    "liver",
    "left kidney",
    "prostate",
    "spleen",
    "right lung",
    "urinary bladder",
];
/// Less than this is not drawn, in millilitres.
const DRAWN_ML: f64 = 0.5;

/// A way to ask for a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wording {
    /// The built-in sentence.
    Stock,
    /// The language model's.
    Llm,
    /// The language model's after looking at the scan.
    Lvlm,
    /// The structure's name alone.
    Name,
    /// The built-in sentence's words in reverse order.
    Shuffled,
    /// Nothing.
    Empty,
    /// The built-in sentence of the other side, judged by this side's truth.
    WrongSide,
    /// The built-in sentence of what no head contains, judged by this structure's truth.
    Absent,
}

impl Wording {
    /// All, good ones first.
    pub const ALL: [Self; 8] = [
        Self::Stock,
        Self::Llm,
        Self::Lvlm,
        Self::Name,
        Self::Shuffled,
        Self::Empty,
        Self::WrongSide,
        Self::Absent,
    ];

    /// How it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Llm => "llm",
            Self::Lvlm => "lvlm",
            Self::Name => "name",
            Self::Shuffled => "shuffled",
            Self::Empty => "empty",
            Self::WrongSide => "wrong side",
            Self::Absent => "absent",
        }
    }
}

/// What one instruction drew, beside the truth of the structure it is held against.
#[derive(Clone, Debug, Serialize)]
pub struct Drawn {
    /// The structure.
    pub structure: String,
    /// How it was asked for.
    pub wording: Wording,
    /// The words; `<view>` stands for the view.
    pub instruction: String,
    /// `2 |A ∩ B| / (|A| + |B|)`.
    pub dice: f64,
    /// `|A ∩ B| / |A ∪ B|`.
    pub iou: f64,
    /// What was drawn.
    pub volume_ml: f64,
    /// The model's own estimate.
    pub predicted_dice: Option<f32>,
}

/// One way to ask, over all structures.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// How structures were asked for.
    pub wording: Wording,
    /// How many.
    pub structures: usize,
    /// The mean Dice.
    pub mean_dice: f64,
    /// The mean intersection over union.
    pub mean_iou: f64,
    /// The mean Dice of the built-in sentences of the same structures, less this one: what the instruction does.
    pub effect: f64,
    /// Of how many at least 0.5 ml was drawn.
    pub drawn: usize,
}

/// The experiment's outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
    /// A row for each way to ask.
    pub rows: Vec<Row>,
    /// Every instruction.
    pub drawn: Vec<Drawn>,
    /// What was odd.
    pub warnings: Vec<String>,
}

/// Segments `input` with instructions of every [`Wording`] for each structure of the label map `truth` on the same grid, or for those
/// of `pairs`. The language model's are left out, with a warning, where it was not pulled, and those after looking where weights or
/// language model are not those that learned to look.
///
/// # Errors
/// Those of a segmentation, a truth that is on another grid or has no structure that is known, and a pair whose first label is
/// no structure's.
pub fn instruction_effect(
    segmenter: &Segmenter,
    input: Input,
    truth: &Path,
    pairs: &[Pair],
    observer: &mut dyn Observer,
) -> Result<Effect> {
    let labels = Labels::read(truth)?;
    let structures = structures(&labels, pairs)?;
    // Before anything is written or drawn.
    check_grids(truth, &read_grid(&input.path)?, &labels.grid())?;
    let targets: Vec<Target> = structures
        .iter()
        .map(|(target, _)| target.clone())
        .collect();
    let mut request = Request::new(vec![input]);
    request.targets = targets.clone();
    request.instructions = vec![None; targets.len()];
    // What the language model and the template say tells the modality, too.
    request.instruct = Instruct::Auto;
    let (written, mut warnings) = segmenter.instruct(&request, observer)?;
    let modality = written
        .first()
        .map_or(Modality::T1, |instruction| instruction.modality);
    let by_model = written.iter().any(|w| w.author == Author::Llm);
    let looked = match by_model {
        true => {
            request.instruct = Instruct::Lvlm;
            match segmenter.instruct(&request, observer) {
                // Other weights, or another language model, than those that learned to look.
                Err(error @ (Error::Argument(_) | Error::Weights { .. })) => {
                    warnings.push(format!("without instructions of `lvlm`: {error}"));
                    Vec::new()
                }
                written => written?.0,
            }
        }
        false => Vec::new(),
    };

    let stock = |target: &Target| Instruction::stock(target, modality).text;
    let mut asked: Vec<(usize, Wording, Target, String)> = Vec::new();
    for (n, target) in targets.iter().enumerate() {
        for wording in Wording::ALL {
            let (target, text) = match wording {
                Wording::Stock => (target.clone(), stock(target)),
                Wording::Llm if by_model => (target.clone(), written[n].text.clone()),
                Wording::Lvlm if !looked.is_empty() => (target.clone(), looked[n].text.clone()),
                Wording::Llm | Wording::Lvlm => continue,
                Wording::Name => (target.clone(), target.name.clone()),
                Wording::Shuffled => {
                    let text = stock(target);
                    let words: Vec<&str> = text.split_whitespace().rev().collect();
                    (target.clone(), words.join(" "))
                }
                Wording::Empty => (target.clone(), String::new()),
                Wording::WrongSide => match other_side(target) {
                    Some(other) => (other.clone(), stock(&other)),
                    None => continue,
                },
                Wording::Absent => {
                    let organ = Target::free(ABSENT[n % ABSENT.len()], 0);
                    (organ.clone(), stock(&organ))
                }
            };
            asked.push((n, wording, target, text));
        }
    }
    // One structure is asked for in several ways, and every target needs a label of its own.
    request.targets = (1..)
        .zip(&asked)
        .map(|(label, (_, _, target, _))| Target {
            label,
            ..target.clone()
        })
        .collect();
    request.instructions = asked.iter().map(|(.., text)| Some(text.clone())).collect();
    let mut judge = Judge {
        truth: &labels,
        sets: asked.iter().map(|(n, ..)| &structures[*n].1).collect(),
        counts: Vec::new(),
        observer,
    };
    let result = segmenter.segment(&request, &mut judge)?;
    let counts = judge.counts;
    warnings.extend(result.report.warnings.iter().cloned());
    warnings.dedup();
    let millilitres = labels.grid().voxel_volume() / 1000.0;
    let found = asked.iter().zip(counts).zip(&result.structures);
    let drawn: Vec<Drawn> = found
        .map(|(((n, wording, _, text), counts), found)| {
            let target = &targets[*n];
            let agreement = Agreement::new(target.label.into(), target.name.clone(), counts);
            Drawn {
                structure: agreement.name,
                wording: *wording,
                instruction: text.clone(),
                // The truth has voxels of every structure that is asked for.
                dice: agreement.dice.unwrap_or(0.0),
                iou: agreement.iou.unwrap_or(0.0),
                volume_ml: counts[0] as f64 * millilitres,
                predicted_dice: found.predicted_dice,
            }
        })
        .collect();
    Ok(Effect {
        rows: Wording::ALL
            .iter()
            .filter_map(|w| row(*w, &drawn))
            .collect(),
        drawn,
        warnings,
    })
}

fn row(wording: Wording, all: &[Drawn]) -> Option<Row> {
    let own: Vec<&Drawn> = all
        .iter()
        .filter(|drawn| drawn.wording == wording)
        .collect();
    let names: BTreeSet<&str> = own.iter().map(|drawn| drawn.structure.as_str()).collect();
    let stock = all.iter().filter(|drawn| {
        drawn.wording == Wording::Stock && names.contains(drawn.structure.as_str())
    });
    let count = own.len() as f64;
    let mean = |of: fn(&Drawn) -> f64| own.iter().map(|drawn| of(drawn)).sum::<f64>() / count;
    (!own.is_empty()).then(|| Row {
        wording,
        structures: own.len(),
        mean_dice: mean(|drawn| drawn.dice),
        mean_iou: mean(|drawn| drawn.iou),
        effect: stock.map(|drawn| drawn.dice).sum::<f64>() / count - mean(|drawn| drawn.dice),
        drawn: own
            .iter()
            .filter(|drawn| drawn.volume_ml >= DRAWN_ML)
            .count(),
    })
}

/// The structures to ask for, and their labels in the truth.
fn structures(truth: &Labels, pairs: &[Pair]) -> Result<Vec<(Target, LabelSet)>> {
    let present: BTreeSet<u32> = truth
        .data
        .chunk_by(|a, b| a == b)
        .map(|run| run[0])
        .collect();
    let all = Target::all();
    let known = |label: u32| all.iter().find(|target| u32::from(target.label) == label);
    let mut found = Vec::new();
    if pairs.is_empty() {
        for target in present.iter().filter_map(|label| known(*label)) {
            found.push((target.clone(), target.label.to_string().parse()?));
        }
    }
    for pair in pairs {
        let target = known(pair.prediction.first()).ok_or_else(|| {
            Error::Argument(format!("`{}` is no structure's label or name", pair.name))
        })?;
        if !present.iter().any(|label| pair.truth.contains(*label)) {
            return Err(Error::Argument(format!(
                "`{}` has no voxel of `{}`",
                truth.path.display(),
                pair.name
            )));
        }
        found.push((target.clone(), pair.truth.clone()));
    }
    match found.is_empty() {
        true => Err(Error::Argument(format!(
            "no label of `{}` is a known structure's; say by --pair which is what",
            truth.path.display()
        ))),
        false => Ok(found),
    }
}

/// The same structure on the other side.
fn other_side(target: &Target) -> Option<Target> {
    let other = match target.side? {
        Side::Left => Side::Right,
        Side::Right => Side::Left,
    };
    Target::find(&format!("{} {}", other.name(), target.name_without_side())).ok()
}

/// Counts each mask beside its truth as it comes: drawn, true, both.
struct Judge<'a> {
    truth: &'a Labels,
    sets: Vec<&'a LabelSet>,
    counts: Vec<[u64; 3]>,
    observer: &'a mut dyn Observer,
}

impl Observer for Judge<'_> {
    fn progress(&mut self, stage: &'static str, done: f64) {
        self.observer.progress(stage, done);
    }

    fn drawn(&mut self, drawn: &DrawnMask) -> Result<()> {
        let set = self.sets[self.counts.len()];
        let mut counts = [0u64; 3];
        for (drawn, label) in drawn.voxels().zip(&self.truth.data) {
            let truly = set.contains(*label);
            counts[0] += u64::from(drawn);
            counts[1] += u64::from(truly);
            counts[2] += u64::from(drawn && truly);
        }
        self.counts.push(counts);
        Ok(())
    }
}

impl fmt::Display for Effect {
    /// The rows as a table.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<12}{:>11}{:>10}{:>10}{:>9}{:>13}",
            "instruction", "structures", "Dice", "IoU", "effect", "over 0.5 ml"
        )?;
        for row in &self.rows {
            write!(
                f,
                "\n{:<12}{:>11}{:>10.3}{:>10.3}{:>9.3}{:>13}",
                row.wording.name(),
                row.structures,
                row.mean_dice,
                row.mean_iou,
                row.effect,
                row.drawn
            )?;
        }
        Ok(())
    }
}
