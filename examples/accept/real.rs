//! Colin27 with and without its skull against the AAL atlas, the MNI152 average against its tissue maps.
//!
//! Each structure is asked for with a generated instruction, with the built-in one, with words alone
//! (the pipeline is not told the side) and with the wrong side in the words; then come structures that
//! no head has, and nonsense. A volume is encoded once and all are prompts to it. Beside the Dice
//! stands what PyTorch makes of the same weights (`tests/goldens/volumes.json`).

use std::path::{Path, PathBuf};
use std::time::Instant;

use keraunos::pipeline::instruct::Author;
use keraunos::pipeline::instruct::Instruction;
use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::prepare::View;
use keraunos::pipeline::structures::Target;
use keraunos::pipeline::volume::{Labels, Volume};
use keraunos::pipeline::{Instruct, Segmenter};
use keraunos::{Error, Result};
use serde_json::Value;

use crate::{Scores, mean, request, show, stock};

/// How far a Dice may be from PyTorch's.
const TOLERANCE: f64 = 0.002;
/// AAL's labels, left and right, of the structures that zeus-mini knows by the same outline.
const AAL: [(&str, u32, u32); 6] = [
    ("hippocampus", 37, 38),
    ("amygdala", 41, 42),
    ("caudate nucleus", 71, 72),
    ("putamen", 73, 74),
    ("pallidum", 75, 76),
    ("thalamus", 77, 78),
];
/// What must come out empty: organs of elsewhere, and words that name nothing.
const NOTHING: [(&str, &str); 6] = [
    (
        "absent",
        "Segment the liver in this T1-weighted <view> MRI.",
    ),
    (
        "absent",
        "Segment the left kidney in this T1-weighted <view> MRI.",
    ),
    (
        "absent",
        "Segment the prostate in this T1-weighted <view> MRI.",
    ),
    ("nonsense", "Hello World"),
    (
        "nonsense",
        "purple umbrellas negotiate quietly with seven Tuesdays",
    ),
    ("nonsense", "qwx zzkr plomf vint"),
];

/// One volume with what is true of it.
struct Case {
    name: &'static str,
    scan: PathBuf,
    truths: Vec<(Target, Vec<u8>)>,
}

/// The ways in which a structure is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Llm,
    Stock,
    WordsOnly,
    WrongSide,
    Fast,
}

/// The truths on Colin27: AAL's structures by side, and its cerebellum.
pub fn atlas(path: &Path) -> Result<Vec<(Target, Vec<u8>)>> {
    let labels = Labels::read(path)?;
    let mask =
        |wanted: &dyn Fn(u32) -> bool| labels.data.iter().map(|l| u8::from(wanted(*l))).collect();
    let mut truths = Vec::new();
    for (name, left, right) in AAL {
        for (side, label) in [("left", left), ("right", right)] {
            truths.push((
                Target::find(&format!("{side} {name}"))?,
                mask(&|l| l == label),
            ));
        }
    }
    truths.push((
        Target::find("cerebellum")?,
        mask(&|l| (91..=116).contains(&l)),
    ));
    Ok(truths)
}

/// A file of the MNI152 average: `t1`, or a tissue map.
pub fn average(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!(
        "mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"
    ))
}

/// The truths on MNI152: its tissue maps, 0 to 255, at one half.
pub fn tissues(folder: &Path) -> Result<Vec<(Target, Vec<u8>)>> {
    let map = |name: &str| Volume::read(&average(folder, name));
    let (gray, white) = (map("gm")?.data, map("wm")?.data);
    let half = |values: &[f32]| values.iter().map(|v| u8::from(*v > 128.0)).collect();
    let both: Vec<f32> = gray.iter().zip(&white).map(|(g, w)| g + w).collect();
    Ok(vec![
        (Target::find("gray matter")?, half(&gray)),
        (Target::find("white matter")?, half(&white)),
        (Target::find("whole brain")?, half(&both)),
    ])
}

fn cases(shared: &Path) -> Result<Vec<Case>> {
    let (colin, mni) = (shared.join("data/colin27"), shared.join("data/mni152"));
    let aal = colin.join("aal.nii.gz");
    Ok(vec![
        Case {
            name: "ch2",
            scan: colin.join("ch2.nii.gz"),
            truths: atlas(&aal)?,
        },
        Case {
            name: "ch2bet",
            scan: colin.join("ch2bet.nii.gz"),
            truths: atlas(&aal)?,
        },
        Case {
            name: "mni152",
            scan: average(&mni, "t1"),
            truths: tissues(&mni)?,
        },
    ])
}

/// The sentence with left and right exchanged; none for a target without a side.
fn wrong_side(target: &Target) -> Option<String> {
    let text = stock(target);
    target.side.map(|side| match side.name() {
        "left" => text.replace("left", "right"),
        _ => text.replace("right", "left"),
    })
}

/// A structure's name, and its Dice by each way.
type Row = (String, Vec<(Way, Option<f64>)>);

/// A target, what is said of it, and the row and way that its score belongs to; none for [`NOTHING`].
type Prompt = (Target, String, Option<(usize, Way)>);

/// What the run learned of one volume.
struct Outcome {
    name: &'static str,
    rows: Vec<Row>,
    /// Of [`NOTHING`]: millilitres drawn and predicted Dice.
    nothing: Vec<(f64, Option<f32>)>,
    written: Vec<Instruction>,
    seconds: f64,
}

fn run(segmenter: &Segmenter, case: &Case) -> Result<Outcome> {
    let start = Instant::now();
    let targets: Vec<Target> = case
        .truths
        .iter()
        .map(|(target, _)| target.clone())
        .collect();
    let mut asking = request(&case.scan, Modality::T1);
    asking.targets = targets.clone();
    asking.instruct = Instruct::Llm;
    let (written, _) = segmenter.instruct(&asking, &mut ())?;

    let mut prompts: Vec<Prompt> = Vec::new();
    for (n, (target, written)) in targets.iter().zip(&written).enumerate() {
        let untold = Target {
            side: None,
            ..target.clone()
        };
        prompts.push((target.clone(), written.text.clone(), Some((n, Way::Llm))));
        prompts.push((target.clone(), stock(target), Some((n, Way::Stock))));
        prompts.push((untold.clone(), stock(target), Some((n, Way::WordsOnly))));
        prompts.extend(wrong_side(target).map(|text| (untold, text, Some((n, Way::WrongSide)))));
    }
    for (n, (_, text)) in (0..).zip(NOTHING) {
        prompts.push((Target::free(text, n), text.to_owned(), None));
    }

    let mut full = request(&case.scan, Modality::T1);
    // One structure is asked for in several ways, and every target needs a label of its own.
    let numbered = |(label, (target, ..)): (u16, &Prompt)| Target {
        label,
        ..target.clone()
    };
    full.targets = (1..).zip(&prompts).map(numbered).collect();
    full.instructions = prompts
        .iter()
        .map(|(_, text, _)| Some(text.clone()))
        .collect();
    let truth = |at: &Option<(usize, Way)>| {
        let truth = at.map(|(n, _)| case.truths[n].1.as_slice());
        truth.into_iter().collect()
    };
    let mut scores = Scores::new(prompts.iter().map(|(.., at)| truth(at)).collect());
    let result = segmenter.segment(&full, &mut scores)?;
    let mut rows: Vec<_> = targets
        .iter()
        .map(|target| (target.name.clone(), Vec::new()))
        .collect();
    for ((.., at), dice) in prompts.iter().zip(&scores.dice) {
        if let Some((n, way)) = at {
            rows[*n].1.push((*way, dice[0]));
        }
    }

    let mut fast = request(&case.scan, Modality::T1);
    fast.targets = targets;
    fast.instruct = Instruct::Stock;
    (fast.fast, fast.views) = (true, vec![View::Axial]);
    let truths = case.truths.iter().map(|(_, truth)| vec![truth.as_slice()]);
    let mut scores = Scores::new(truths.collect());
    segmenter.segment(&fast, &mut scores)?;
    for (row, dice) in rows.iter_mut().zip(scores.dice) {
        row.1.push((Way::Fast, dice[0]));
    }

    let nothing = &result.structures[result.structures.len() - NOTHING.len()..];
    Ok(Outcome {
        name: case.name,
        rows,
        nothing: nothing
            .iter()
            .map(|s| (s.volume_ml.unwrap_or(0.0), s.predicted_dice))
            .collect(),
        written,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// Prints the tables; returns how often a Dice is not PyTorch's.
fn print(outcomes: &[Outcome], golden: &Value) -> usize {
    // What is printed, and which of PyTorch's ways it must equal.
    let columns = [
        (Way::Llm, "llm", None),
        (Way::Stock, "stock", Some("fused")),
        (Way::Fast, "stock, `--fast`", Some("axial2")),
        (Way::WordsOnly, "words only", Some("unsided")),
        (Way::WrongSide, "wrong side", None),
    ];
    let mut off = 0;
    for outcome in outcomes {
        let mut head = vec![outcome.name];
        for (_, name, reference) in columns {
            head.push(name);
            head.extend(reference.map(|_| "PyTorch"));
        }
        println!(
            "| {} |\n|---|{}",
            head.join(" | "),
            "---|".repeat(head.len() - 1)
        );
        let cells = |row: &Row, off: &mut usize| {
            let mut cells = Vec::new();
            for (way, _, reference) in columns {
                let got = row
                    .1
                    .iter()
                    .find(|(w, _)| *w == way)
                    .and_then(|(_, dice)| *dice);
                cells.push(got);
                if let Some(reference) = reference {
                    let want = golden[outcome.name]["targets"][&row.0][reference]["dice"].as_f64();
                    *off += usize::from(
                        got.zip(want)
                            .is_none_or(|(got, want)| (got - want).abs() > TOLERANCE),
                    );
                    cells.push(want);
                }
            }
            cells
        };
        let table: Vec<_> = outcome
            .rows
            .iter()
            .map(|row| (row.0.clone(), cells(row, &mut off)))
            .collect();
        let count = head.len() - 1;
        let mean_of = |name: &str, rows: &[&(String, Vec<Option<f64>>)]| {
            let means: Vec<_> = (0..count)
                .map(|n| mean(rows.iter().map(|(_, row)| row[n])))
                .collect();
            (format!("**{name}**"), means)
        };
        let all: Vec<_> = table.iter().collect();
        let sided: Vec<_> = table
            .iter()
            .filter(|(_, row)| row[count - 1].is_some())
            .collect();
        let mut means = vec![mean_of("mean", &all)];
        if !sided.is_empty() {
            // Where the wrong side has no meaning, its column has no number to compare.
            means[0].1[count - 1] = None;
            means.push(mean_of("mean of the sided", &sided));
        }
        for (name, row) in table.iter().chain(&means) {
            println!(
                "| {name} | {} |",
                row.iter().map(|v| show(*v)).collect::<Vec<_>>().join(" | ")
            );
        }
        println!(
            "\nWhat the language model wrote ({:.0} s for the whole volume, all columns):\n",
            outcome.seconds
        );
        for instruction in &outcome.written {
            let replaced = if instruction.author == Author::Llm {
                ""
            } else {
                " (the built-in one instead)"
            };
            println!(
                "* {}: `{}`{replaced}",
                instruction.structure, instruction.text
            );
        }
        println!();
    }
    let names: Vec<&str> = outcomes.iter().map(|outcome| outcome.name).collect();
    println!(
        "| | instruction | {} |\n|---|---|{}",
        names.join(" | "),
        "---|".repeat(names.len())
    );
    for (n, (kind, text)) in NOTHING.iter().enumerate() {
        let drawn: Vec<String> = outcomes
            .iter()
            .map(|outcome| {
                let (ml, quality) = outcome.nothing[n];
                match quality {
                    Some(quality) if ml > 0.0 => format!("{ml:.1} ml ({quality:.2})"),
                    _ => "nothing".into(),
                }
            })
            .collect();
        println!(
            "| {kind} | {} | {} |",
            text.replace("<view> ", ""),
            drawn.join(" | ")
        );
    }
    off
}

/// Runs the real volumes and prints their tables.
///
/// # Errors
/// A score that is not PyTorch's, or anything that fails.
pub fn accept(segmenter: &Segmenter, shared: &Path) -> Result<()> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/volumes.json");
    let golden = std::fs::read_to_string(&golden).map_err(Error::read(&golden))?;
    let golden: Value =
        serde_json::from_str(&golden).map_err(|e| Error::Argument(e.to_string()))?;
    let mut outcomes = Vec::new();
    for case in cases(shared)? {
        eprintln!("== {}", case.name);
        outcomes.push(run(segmenter, &case)?);
    }
    match print(&outcomes, &golden) {
        0 => Ok(()),
        off => Err(Error::Argument(format!(
            "{off} of the scores are not PyTorch's to {TOLERANCE}"
        ))),
    }
}
