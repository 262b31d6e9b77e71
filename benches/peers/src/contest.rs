//! Contenders in turns: checked, warmed up, timed.

use std::time::Instant;

use crate::Fallible;
use crate::cases::Case;

/// The largest difference, in terms of the largest value, up to which two engines computed the same: f32 sums of
/// thousands, and what twelve blocks make of their differences.
const TOLERANCE: f64 = 1e-3;
/// The same where keraunos stores weights as f16, as its own models do.
const TOLERANCE_HALF: f64 = 2e-2;
/// Seconds that a turn should take at least.
const TURN: f64 = 0.3;
/// Runs before a contender may be timed: burn tries out its kernels during the first.
const LEAST_WARM_UPS: usize = 3;
const MOST_WARM_UPS: usize = 12;
/// Seconds of one run from which two warm-ups are enough: what had to be compiled or tried was in the first.
const LONG_RUN: f64 = 3.0;

/// An engine with a case, ready to run.
pub trait Contender {
    fn name(&self) -> String;
    /// Whether its weights are f16.
    fn is_half(&self) -> bool {
        false
    }
    /// Computes it once; the values in keraunos' order (pixels and tokens outside, channels inside).
    fn result(&mut self) -> Fallible<Vec<f32>>;
    /// Computes it so many times, and waits.
    fn run(&mut self, times: usize) -> Fallible<()>;
}

/// Seconds of one computation among `times`.
pub fn seconds(contender: &mut dyn Contender, times: usize) -> Fallible<f64> {
    let start = Instant::now();
    contender.run(times)?;
    Ok(start.elapsed().as_secs_f64() / times as f64)
}

/// Runs until two turns agree, and says how many runs make a turn.
pub fn warm_up(contender: &mut dyn Contender) -> Fallible<usize> {
    let (mut last, mut times) = (f64::INFINITY, 1);
    for n in 1..=MOST_WARM_UPS {
        let now = seconds(contender, times)?;
        times = (TURN / now).ceil().clamp(1.0, 1000.0) as usize;
        let steady = n >= LEAST_WARM_UPS && (now / last - 1.0).abs() < 0.2;
        if steady || n >= 2 && now > LONG_RUN {
            break;
        }
        last = now;
    }
    Ok(times)
}

/// The largest difference in terms of the largest value.
pub fn difference(got: &[f32], want: &[f32]) -> Fallible<f64> {
    if got.len() != want.len() {
        return Err(format!("{} values instead of {}", got.len(), want.len()).into());
    }
    // Not `f64::max`, which would lose a NaN.
    let most = |most: f64, value: f64| if value <= most { most } else { value };
    let size = want.iter().map(|v| f64::from(v.abs())).fold(0.0, most);
    let apart = got
        .iter()
        .zip(want)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    Ok(apart.fold(0.0, most) / size)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

/// Prints a Markdown table, case by case.
pub struct Contest {
    rounds: usize,
}

impl Contest {
    pub fn new(rounds: usize) -> Self {
        println!(
            "| case | engine | ms, median | least | GFLOP/s | its time / keraunos' | differs by |"
        );
        println!("|---|---|---:|---:|---:|---:|---:|");
        Self { rounds }
    }

    /// The first contender is the one that the others are compared with.
    pub fn hold(&mut self, case: Case, contenders: &mut [Box<dyn Contender + '_>]) -> Fallible<()> {
        let mut apart = Vec::new();
        let want = contenders[0].result()?;
        for contender in contenders.iter_mut() {
            let by = difference(&contender.result()?, &want)?;
            let most = match contender.is_half() {
                true => TOLERANCE_HALF,
                false => TOLERANCE,
            };
            if !matches!(by.partial_cmp(&most), Some(order) if order.is_le()) {
                let (name, case) = (contender.name(), case.name());
                return Err(
                    format!("{name} computes something else at {case}: {by:.2e} apart").into(),
                );
            }
            apart.push(by);
        }
        let mut times = Vec::new();
        for contender in contenders.iter_mut() {
            times.push(warm_up(&mut **contender)?);
        }
        let mut rounds = vec![Vec::new(); contenders.len()];
        for round in 0..self.rounds {
            // Every round begins with another one: whoever is first meets a machine that rested.
            for turn in 0..contenders.len() {
                let n = (round + turn) % contenders.len();
                rounds[n].push(seconds(&mut *contenders[n], times[n])?);
            }
        }
        for (n, contender) in contenders.iter().enumerate() {
            let ratios: Vec<f64> = rounds[n]
                .iter()
                .zip(&rounds[0])
                .map(|(a, b)| a / b)
                .collect();
            let middle = median(&rounds[n]);
            println!(
                "| {} | {} | {:.2} | {:.2} | {:.1} | {:.2} | {:.1e} |",
                case.name(),
                contender.name(),
                middle * 1e3,
                rounds[n].iter().copied().fold(f64::INFINITY, f64::min) * 1e3,
                case.flops() / middle / 1e9,
                median(&ratios),
                apart[n],
            );
        }
        Ok(())
    }
}
