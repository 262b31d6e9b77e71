//! The candidates of each class side by side on the adapter at hand, and which of them is to be taken.

use std::time::Instant;

use super::{Class, Format, Rows};
use crate::error::Result;
use crate::gpu::{Gpu, Recorder, Variant};
use crate::ops::check::inputs::{bias, random, upload, weights};
use crate::ops::{Activation, Residual, Window, conv, linear};
use crate::tensor::Tensor;

/// Seconds that one submit of a candidate should take: enough for its time to stand out of what a submit costs.
const SUBMIT_SECONDS: f64 = 2e-3;
/// The most dispatches of one submit.
const MOST_DISPATCHES: usize = 512;
/// Rounds in which every candidate of every class has a turn: what disturbs the machine for a moment disturbs one round.
const ROUNDS: usize = 9;
/// A challenger must need less than this share of the first candidate's time, by the least of all rounds and in all
/// rounds but [`LOST`]: what wins by less may be noise.
const MARGIN: f64 = 0.9;
/// Rounds that a challenger may lose.
const LOST: usize = 2;

/// The candidates of a class as they were measured.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Measured {
    /// The class.
    pub class: &'static str,
    /// What was computed.
    pub case: String,
    /// What it was computed by, first what is taken without a measurement.
    pub candidates: Vec<Timed>,
    /// The label of the one that is taken from now on.
    pub chosen: String,
}

/// One candidate.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Timed {
    /// The kernel and its overrides.
    pub label: String,
    /// Seconds of one dispatch: the least of the rounds.
    pub least: f64,
    /// The median of the rounds.
    pub median: f64,
    /// Whether its result is that of the first to the bit; none else is ever taken.
    pub same_bits: bool,
}

/// Something to compute, by whatever plan the adapter has for its class.
type Op = Box<dyn Fn(&Recorder) -> Tensor>;

/// Measures the candidates of every class and takes the fastest from now on, in a second or two.
///
/// # Errors
/// Those of the adapter.
pub fn measure(gpu: &Gpu) -> Result<Vec<Measured>> {
    let start = Instant::now();
    let mut contests = Class::ALL
        .into_iter()
        .map(|class| Contest::begin(gpu, class))
        .collect::<Result<Vec<_>>>()?;
    tracing::debug!("compiled the candidates in {:.1?}", start.elapsed());
    for _ in 0..ROUNDS {
        for contest in &mut contests {
            contest.round(gpu)?;
        }
    }
    tracing::debug!("timed the candidates by {:.1?}", start.elapsed());
    let decided = contests.into_iter().map(|contest| contest.decide(gpu));
    Ok(decided.collect())
}

/// A class whose candidates take turns.
struct Contest {
    class: Class,
    case: String,
    op: Op,
    candidates: Vec<Candidate>,
}

struct Candidate {
    variant: Variant,
    same_bits: bool,
    /// Dispatches of one submit.
    count: usize,
    /// Seconds of one dispatch in each round.
    rounds: Vec<f64>,
}

impl Contest {
    /// Compiles the candidates and compares their results.
    fn begin(gpu: &Gpu, class: Class) -> Result<Self> {
        let (case, op) = sample(gpu, class)?;
        let mut first: Option<Vec<u32>> = None;
        let mut candidates = Vec::new();
        for variant in class.candidates(gpu) {
            gpu.choose(class.name(), variant.clone());
            let rec = gpu.record("choice");
            let y = op(&rec);
            let bits = rec.read::<u32>(&[(&y, y.len())])?.concat();
            let same_bits = first.get_or_insert_with(|| bits.clone()) == &bits;
            let count = (SUBMIT_SECONDS / submit(gpu, &op, 1)?) as usize;
            candidates.push(Candidate {
                variant,
                same_bits,
                count: count.clamp(1, MOST_DISPATCHES),
                rounds: Vec::new(),
            });
        }
        Ok(Self {
            class,
            case,
            op,
            candidates,
        })
    }

    /// A turn for each candidate.
    fn round(&mut self, gpu: &Gpu) -> Result<()> {
        for candidate in &mut self.candidates {
            gpu.choose(self.class.name(), candidate.variant.clone());
            let seconds = submit(gpu, &self.op, candidate.count)?;
            candidate.rounds.push(seconds / candidate.count as f64);
        }
        Ok(())
    }

    /// Takes the fastest.
    fn decide(self, gpu: &Gpu) -> Measured {
        let chosen = &self.candidates[fastest(&self.candidates)].variant;
        gpu.choose(self.class.name(), chosen.clone());
        Measured {
            class: self.class.name(),
            case: self.case,
            chosen: chosen.label(),
            candidates: self.candidates.iter().map(Candidate::timed).collect(),
        }
    }
}

impl Candidate {
    fn least(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Whether it is clearly faster than `first` and gives the same bits.
    fn beats(&self, first: &Self) -> bool {
        let pairs = self.rounds.iter().zip(&first.rounds);
        let lost = pairs
            .filter(|(own, first)| **own >= MARGIN * **first)
            .count();
        self.same_bits && lost <= LOST && self.least() < MARGIN * first.least()
    }

    fn timed(&self) -> Timed {
        let mut rounds = self.rounds.clone();
        rounds.sort_by(f64::total_cmp);
        Timed {
            label: self.variant.label(),
            least: self.least(),
            median: rounds[rounds.len() / 2],
            same_bits: self.same_bits,
        }
    }
}

/// The candidate to take: the first, unless others beat it.
fn fastest(candidates: &[Candidate]) -> usize {
    (1..candidates.len())
        .filter(|n| candidates[*n].beats(&candidates[0]))
        .min_by(|a, b| candidates[*a].least().total_cmp(&candidates[*b].least()))
        .unwrap_or(0)
}

/// Seconds until so many calls of `op` are done.
fn submit(gpu: &Gpu, op: &Op, count: usize) -> Result<f64> {
    let rec = gpu.record("choice");
    for _ in 0..count {
        drop(op(&rec));
    }
    let start = Instant::now();
    rec.submit()?;
    gpu.wait()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Pixels along a side and channels of the convolutions that stand for their classes.
const NARROW: [usize; 2] = [56, 24];
const WIDE: [usize; 2] = [28, 96];

/// The format, and the rows, inputs and outputs, of the linear layer that stands for its class.
fn linear_case(rows: Rows, format: Format) -> (&'static str, [usize; 3]) {
    let format = match format {
        Format::Float => "f16",
        Format::Quants => "q4_1",
    };
    let shape = match rows {
        Rows::One => [1, 576, 3072],
        Rows::Four => [4, 576, 1536],
        Rows::Eight => [8, 576, 1536],
        Rows::Small => [196, 192, 576],
        Rows::Large => [1024, 128, 512],
    };
    (format, shape)
}

/// What stands for a class, and its description.
fn sample(gpu: &Gpu, class: Class) -> Result<(String, Op)> {
    match class {
        Class::Linear(rows, format) => {
            let (format, shape) = linear_case(rows, format);
            let case = format!("{format} {} x {} -> {}", shape[0], shape[1], shape[2]);
            Ok((case, linear_sample(gpu, format, shape)?))
        }
        Class::ConvNarrow => conv_sample(gpu, NARROW),
        Class::ConvWide => conv_sample(gpu, WIDE),
    }
}

fn linear_sample(
    gpu: &Gpu,
    format: &'static str,
    [rows, inputs, outputs]: [usize; 3],
) -> Result<Op> {
    let (matrix, _) = weights(gpu, format, [outputs, inputs])?;
    let x = upload(gpu, [rows, inputs], &random(1, rows * inputs))?;
    let offset = bias(gpu, &random(2, outputs))?;
    Ok(Box::new(move |rec| {
        linear(rec, &x, &matrix, &offset, Activation::None, None)
    }))
}

/// A convolution of 3 × 3 that keeps its channels.
fn conv_sample(gpu: &Gpu, [side, channels]: [usize; 2]) -> Result<(String, Op)> {
    let window = Window::square(3, 1, 1);
    let (matrix, _) = weights(gpu, "f16", [channels, 9 * channels])?;
    let x = random(1, side * side * channels);
    let x = upload(gpu, [1, side, side, channels], &x)?;
    let offset = bias(gpu, &random(2, channels))?;
    let op: Op = Box::new(move |rec| {
        let (activation, residual) = (Activation::None, Residual::None);
        conv(rec, &x, &window, &matrix, &offset, activation, residual)
    });
    Ok((format!("f16 {channels} -> {channels} at {side}"), op))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(rounds: [f64; ROUNDS], same_bits: bool) -> Candidate {
        Candidate {
            variant: (&crate::ops::LINEAR).into(),
            same_bits,
            count: 1,
            rounds: rounds.to_vec(),
        }
    }

    #[test]
    fn the_first_stays_unless_it_is_clearly_beaten_bit_for_bit() {
        let first = || candidate([1.0; ROUNDS], true);
        assert_eq!(fastest(&[first()]), 0);
        let alone = |other| fastest(&[first(), other]);
        assert_eq!(alone(candidate([0.5; ROUNDS], true)), 1);
        assert_eq!(alone(candidate([0.5; ROUNDS], false)), 0);
        assert_eq!(alone(candidate([0.95; ROUNDS], true)), 0);
        // Rounds that something else disturbed.
        let mut rounds = [0.5; ROUNDS];
        rounds[..LOST].fill(9.0);
        assert_eq!(alone(candidate(rounds, true)), 1);
        rounds[LOST] = 9.0;
        assert_eq!(alone(candidate(rounds, true)), 0);
        // One lucky round is no win, nor one in which the first was unlucky.
        let mut lucky = [1.0; ROUNDS];
        lucky[3] = 0.1;
        assert_eq!(alone(candidate(lucky, true)), 0);
        let mut unlucky = first();
        unlucky.rounds[3] = 9.0;
        assert_eq!(fastest(&[unlucky, first()]), 0);
        let better = [0.8, 0.7].map(|seconds| candidate([seconds; ROUNDS], true));
        let [slow, fast] = better;
        assert_eq!(fastest(&[first(), slow, fast]), 2);
    }

    #[test]
    fn samples_are_of_their_class() {
        for class in Class::ALL {
            match class {
                Class::Linear(rows, format) => {
                    let (name, [rows, _, outputs]) = linear_case(rows, format);
                    let few = rows <= 2;
                    assert_eq!(Class::linear(rows, outputs / 8, name, few), class);
                }
                Class::ConvNarrow => assert_eq!(Class::conv(NARROW[1] / 8), class),
                Class::ConvWide => assert_eq!(Class::conv(WIDE[1] / 8), class),
            }
        }
    }
}
