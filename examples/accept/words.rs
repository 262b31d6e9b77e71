//! Whether words are obeyed: the wrong side, what is not there, nonsense, other wordings.
//!
//! All on Colin27 with its skull, against AAL, three views. The wordings and the 200 sentences were
//! written for this measurement; none of them was in the training.

use std::path::Path;

use keraunos::Result;
use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::structures::Target;
use keraunos::pipeline::{Segmentation, Segmenter};

use crate::{Scores, mean, real, request, show, stock};

/// Ten ways to ask for a structure `{}`.
const WORDINGS: [&str; 10] = [
    "Could you trace the {} for me?",
    "I want a binary map of the {} from this scan.",
    "Please provide the outline for: {}.",
    "{} only, nothing else",
    "We need volumes of the {}; produce its mask from this view.",
    "Paint every pixel of the {}.",
    "Which part of this picture is the {}?",
    "Radiologist note: evaluate the {} and return its borders.",
    "The {} should be separated from everything around it.",
    "Help me to see the {} on this MR image.",
];

/// Off-topic sentences, one a line.
const NONSENSE: &str = include_str!("nonsense.txt");

/// What no head contains.
const ABSENT: [&str; 10] = [
    "liver",
    "left kidney",
    "right kidney",
    "prostate",
    "spleen",
    "heart",
    "left lung",
    "bladder",
    "pancreas",
    "uterus",
];

/// What a head contains but zeus-mini has no class for; none of these was in the training's sentences.
const WITHOUT_CLASS: [&str; 20] = [
    "claustrum",
    "precentral gyrus",
    "occipital lobe",
    "mammillary body",
    "habenula",
    "splenium of the corpus callosum",
    "red nucleus",
    "optic radiation",
    "angular gyrus",
    "supramarginal gyrus",
    "subiculum",
    "tegmentum",
    "inferior colliculus",
    "orbitofrontal cortex",
    "calvarium",
    "tentorium cerebelli",
    "multiple sclerosis plaque",
    "middle cerebral artery",
    "lingual gyrus",
    "olfactory tract",
];

/// Below these a mask counts as none.
const DRAWN_ML: f64 = 0.5;
const BELIEVED: f32 = 0.2;

/// A rank for each value; ties share their mean rank.
fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|v| *v < value).count() as f64;
        let same = values.iter().filter(|v| *v == value).count() as f64;
        below + (same - 1.0) / 2.0
    };
    values.iter().map(rank).collect()
}

/// Spearman's rank correlation.
fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let middle = (a.len() as f64 - 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| -> f64 {
        x.iter()
            .zip(y)
            .map(|(x, y)| (x - middle) * (y - middle))
            .sum()
    };
    product(&a, &b) / (product(&a, &a) * product(&b, &b)).sqrt()
}

/// Segments with prompts that each have an instruction of their own.
fn ask(
    segmenter: &Segmenter,
    scan: &Path,
    prompts: &[(Target, String)],
    scores: &mut Scores,
) -> Result<Segmentation> {
    let mut asking = request(scan, Modality::T1);
    // One structure is asked for in several ways, and every target needs a label of its own.
    asking.targets = (1..)
        .zip(prompts)
        .map(|(label, (target, _))| Target {
            label,
            ..target.clone()
        })
        .collect();
    asking.instructions = prompts.iter().map(|(_, text)| Some(text.clone())).collect();
    segmenter.segment(&asking, scores)
}

/// Prints the table.
pub fn accept(segmenter: &Segmenter, shared: &Path) -> Result<()> {
    let scan = shared.join("data/colin27/ch2.nii.gz");
    let truths = real::atlas(&shared.join("data/colin27/aal.nii.gz"))?;
    let mut prompts: Vec<(Target, String)> = Vec::new();
    let mut compared: Vec<Vec<&[u8]>> = Vec::new();
    // The built-in sentence: against its own side and the other.
    for (n, (target, truth)) in truths.iter().enumerate() {
        prompts.push((target.clone(), stock(target)));
        let mut with = vec![&truth[..]];
        with.extend(target.side.map(|_| &truths[n ^ 1].1[..]));
        compared.push(with);
    }
    for (target, truth) in &truths {
        for wording in WORDINGS {
            prompts.push((target.clone(), wording.replace("{}", &target.name)));
            compared.push(vec![&truth[..]]);
        }
    }
    let free = prompts.len();
    let named = |what: &str| format!("Segment the {what} in this T1-weighted MRI.");
    let absent = ABSENT.map(named);
    let nonsense: Vec<String> = NONSENSE.lines().map(str::to_owned).collect();
    let without_class = WITHOUT_CLASS.map(named);
    let rejectable = absent.iter().chain(&nonsense).chain(&without_class);
    for (n, text) in (0..).zip(rejectable) {
        prompts.push((Target::free(text, n), text.clone()));
        compared.push(Vec::new());
    }
    eprintln!("== words: {} prompts", prompts.len());
    let mut scores = Scores::new(compared);
    let result = ask(segmenter, &scan, &prompts, &mut scores)?;

    let other: Vec<f64> = scores.dice[..truths.len()]
        .iter()
        .filter_map(|dice| *dice.get(1)?)
        .collect();
    let spreads: Vec<f64> = scores.dice[truths.len()..free]
        .chunks(WORDINGS.len())
        .map(|group| {
            let values = group.iter().map(|dice| dice[0].unwrap_or(0.0));
            let (low, high) =
                values.fold((1.0f64, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
            high - low
        })
        .collect();
    println!(
        "| Colin27 with its skull | Dice | with the other side | over ten wordings: mean | spread |"
    );
    println!("|---|---|---|---|---|");
    for (n, (target, _)) in truths.iter().enumerate() {
        let wordings = &scores.dice[truths.len() + n * WORDINGS.len()..][..WORDINGS.len()];
        println!(
            "| {} | {} | {} | {} | {} |",
            target.name,
            show(scores.dice[n][0]),
            show(scores.dice[n].get(1).copied().flatten()),
            show(mean(wordings.iter().map(|dice| dice[0]))),
            show(Some(spreads[n])),
        );
    }
    let worst = |values: &[f64]| values.iter().fold(0.0f64, |a, b| a.max(*b));
    let drawn = |n: usize| {
        let structure = &result.structures[n];
        (
            structure.volume_ml.unwrap_or(0.0),
            structure.predicted_dice.unwrap_or(0.0),
        )
    };
    let most = (free..free + ABSENT.len())
        .map(|n| drawn(n).0)
        .fold(0.0f64, f64::max);
    let answered = |from: usize, count: usize| -> Vec<String> {
        (from..from + count)
            .filter(|n| drawn(*n).0 >= DRAWN_ML && drawn(*n).1 >= BELIEVED)
            .map(|n| {
                let (ml, quality) = drawn(n);
                format!("`{}` {ml:.1} ml ({quality:.2})", prompts[n].1)
            })
            .collect()
    };
    let off_topic = answered(free + ABSENT.len(), nonsense.len());
    let no_class = answered(prompts.len() - WITHOUT_CLASS.len(), WITHOUT_CLASS.len());
    let (mut predicted, mut true_dice) = (Vec::new(), Vec::new());
    for n in 0..free {
        predicted.push(f64::from(drawn(n).1));
        true_dice.push(scores.dice[n][0].unwrap_or(0.0));
    }
    println!("\n| | |\n|---|---|");
    println!("| the other side, worst Dice | {:.3} |", worst(&other));
    println!(
        "| {} organs that are absent, most drawn | {most:.2} ml |",
        ABSENT.len()
    );
    println!(
        "| of {} off-topic sentences rejected | {} |",
        nonsense.len(),
        nonsense.len() - off_topic.len()
    );
    println!(
        "| of {} parts of a head that it has no class for rejected | {} |",
        WITHOUT_CLASS.len(),
        WITHOUT_CLASS.len() - no_class.len()
    );
    println!(
        "| ten wordings, largest spread of the Dice | {:.3} |",
        worst(&spreads)
    );
    println!(
        "| predicted and true Dice, Spearman | {:.2} |",
        spearman(&predicted, &true_dice)
    );
    let all: Vec<String> = off_topic.into_iter().chain(no_class).collect();
    if !all.is_empty() {
        println!("\nAnswered all the same: {}.", all.join("; "));
    }
    println!();
    Ok(())
}
