//! What masks would be like if they were cut elsewhere.

use std::path::Path;

use keraunos::Result;
use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::structures::Target;
use keraunos::pipeline::threshold::Threshold;
use keraunos::pipeline::{DrawnMask, Observer, Segmenter};

use crate::{asking_for, request};

/// Where a mask may be cut; the first is what the program does.
pub const RULES: [&str; 3] = ["as it is", "at one half", "at half the predicted Dice"];
/// Steps of a probability.
const STEPS: usize = 400;

/// A mask beside the true one.
#[derive(Clone, Copy)]
pub struct Judged {
    pub dice: f64,
    /// As a share of the true one's.
    pub volume: f64,
}

impl Judged {
    /// Of so many voxels, so many of them true, where so many are; nothing of a structure that is not there.
    fn new(voxels: u64, both: u64, truly: u64) -> Option<Self> {
        (truly > 0).then(|| Self {
            dice: 2.0 * both as f64 / (voxels + truly) as f64,
            volume: voxels as f64 / truly as f64,
        })
    }
}

/// One target's voxels, and how many of them are true.
struct Counts {
    mask: [u64; 2],
    by_probability: Vec<[u64; 2]>,
}

impl Counts {
    fn judged(&self, predicted_dice: Option<f32>) -> [Option<Judged>; 3] {
        let sum = |counts: &[[u64; 2]]| {
            let sum = |n: usize| counts.iter().map(|count| count[n]).sum();
            [sum(0), sum(1)]
        };
        let [_, truly] = sum(&self.by_probability);
        let above = |probability: f32| {
            let first = (probability * STEPS as f32).round() as usize;
            sum(&self.by_probability[first..])
        };
        let half = Threshold::Half.probability(predicted_dice);
        let least = predicted_dice.map_or(half, |dice| dice / 2.0);
        [self.mask, above(half), above(least)]
            .map(|[voxels, both]| Judged::new(voxels, both, truly))
    }
}

struct Counted<'a> {
    truths: &'a [(Target, Vec<u8>)],
    counts: Vec<Counts>,
}

impl Observer for Counted<'_> {
    fn drawn(&mut self, drawn: &DrawnMask) -> Result<()> {
        let (_, truth) = &self.truths[self.counts.len()];
        let mut counts = Counts {
            mask: [0; 2],
            by_probability: vec![[0; 2]; STEPS + 1],
        };
        for ((logit, inside), truly) in drawn.logits.iter().zip(drawn.voxels()).zip(truth) {
            let probability = 1.0 / (1.0 + (-logit).exp());
            let seen = [1, u64::from(*truly)];
            let add = |to: &mut [u64; 2]| to.iter_mut().zip(seen).for_each(|(to, n)| *to += n);
            add(&mut counts.by_probability[(probability * STEPS as f32) as usize]);
            if inside {
                add(&mut counts.mask);
            }
        }
        self.counts.push(counts);
        Ok(())
    }
}

/// Every target asked for by its built-in instruction, all views, by each of the [`RULES`].
pub fn judge(
    segmenter: &Segmenter,
    scan: &Path,
    modality: Modality,
    truths: &[(Target, Vec<u8>)],
) -> Result<Vec<[Option<Judged>; 3]>> {
    let asking = asking_for(request(scan, modality), truths);
    let counts = Vec::new();
    let mut counted = Counted { truths, counts };
    let result = segmenter.segment(&asking, &mut counted)?;
    let pairs = result.structures.iter().zip(&counted.counts);
    let judged = pairs.map(|(structure, counts)| counts.judged(structure.predicted_dice));
    Ok(judged.collect())
}
