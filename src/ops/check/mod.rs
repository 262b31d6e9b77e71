//! Every kernel once on the adapter at hand, beside its plain-loop twin: what `doctor` prints.
//!
//! `tests/ops/` proves the kernels; this finds the adapter or the driver that gets one wrong.

mod cases;
pub(super) mod inputs;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use crate::error::Result;
use crate::gpu::{Bind, Gpu, Recorder};
use crate::tensor::Tensor;

/// How one kernel did.
#[derive(Clone, Debug, serde::Serialize)]
pub struct KernelCheck {
    /// The kernel, with the storage format of its weights where it reads any.
    pub name: String,
    /// The kernel alone.
    pub kernel: &'static str,
    /// The largest `|got − want| / (1 + |want|)`; none if the kernel did not run.
    pub error: Option<f64>,
    /// The largest error that passes.
    pub tolerance: f64,
    /// Seconds of one small run, submission and reading included.
    pub seconds: f64,
    /// Why the kernel must not be trusted on this adapter.
    pub fault: Option<String>,
}

/// A kernel on a small case.
struct Case {
    name: &'static str,
    /// The storage format, empty for kernels that read no weights.
    format: &'static str,
    tolerance: f64,
    run: fn(&Gpu, &'static str) -> Result<Ran>,
}

/// What a kernel should have written, and did.
pub(super) struct Ran {
    pub(super) want: Vec<f32>,
    pub(super) got: Vec<f32>,
    pub(super) seconds: f64,
}

/// Runs every kernel in every storage format on a small case of awkward sizes. Where `gpus` are several devices of one
/// adapter they share the cases, since nearly all of the time is the driver's compiler, which has one thread a device;
/// the `seconds` are then those of a busy machine.
///
/// # Panics
/// Without a device.
pub fn self_check(gpus: &[Gpu]) -> Vec<KernelCheck> {
    let first = gpus.first().expect("a device");
    // What an adapter without subgroups never runs it cannot get wrong, nor a GPU an attention for CPU adapters, nor one of those a norm for GPUs.
    let runs = |name: &str| match name {
        "attention_broadcast" => super::broadcasts(first).is_some(),
        name if name.ends_with("_broadcast") => super::shared_lanes(first).is_some(),
        name if name.ends_with("_subgroup") => super::team_lanes(first).is_some(),
        name if name.ends_with("_coop") => first.coop_tile().is_some(),
        _ => true,
    };
    let cases: Vec<&Case> = cases::ALL.iter().filter(|case| runs(case.name)).collect();
    shared(gpus, &cases, |gpu, case| case.check(gpu))
}

impl Case {
    /// Runs it and judges what came.
    fn check(&self, gpu: &Gpu) -> KernelCheck {
        let name = match self.format {
            "" => self.name.to_owned(),
            format => format!("{} {format}", self.name),
        };
        let tolerance = tolerance(gpu, self.name, self.tolerance);
        let (error, seconds, fault) = match (self.run)(gpu, self.format) {
            Err(refused) => (None, 0.0, Some(refused.to_string())),
            Ok(ran) => {
                let (error, fault) = judge(&ran, tolerance);
                (Some(error), ran.seconds, fault)
            }
        };
        KernelCheck {
            name,
            kernel: self.name,
            error,
            tolerance,
            seconds,
            fault,
        }
    }
}

/// What comes of each item, in their order; a worker takes the next item when it is done with one.
fn shared<W: Sync, T: Sync, R: Send>(
    workers: &[W],
    items: &[T],
    work: impl Fn(&W, &T) -> R + Sync,
) -> Vec<R> {
    let (next, work) = (AtomicUsize::new(0), &work);
    let take = || {
        let at = next.fetch_add(1, Ordering::Relaxed);
        items.get(at).map(|item| (at, item))
    };
    let each = |worker| std::iter::from_fn(take).map(move |(at, item)| (at, work(worker, item)));
    let mut done: Vec<(usize, R)> = workers
        .par_iter()
        .with_max_len(1)
        .flat_map_iter(each)
        .collect();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// The largest error that passes: what is multiplied on cooperative matrices is rounded to f16, and tiles that sum in f16
/// keep three digits.
pub(super) fn tolerance(gpu: &Gpu, kernel: &str, plain: f64) -> f64 {
    match (kernel.ends_with("_coop"), gpu.coop_tile()) {
        (false, _) => plain,
        (true, Some("f16_8")) => 3e-2,
        (true, _) => 4e-3,
    }
}

/// The largest error, and what is wrong with it.
pub(super) fn judge(ran: &Ran, tolerance: f64) -> (f64, Option<String>) {
    if ran.got.len() != ran.want.len() {
        let fault = format!("wrote {} values of {}", ran.got.len(), ran.want.len());
        return (f64::INFINITY, Some(fault));
    }
    let error = |(got, want): (&f32, &f32)| {
        let (got, want) = (f64::from(*got), f64::from(*want));
        let error = (got - want).abs() / (1.0 + want.abs());
        // A value that is none is as wrong as can be.
        if error.is_nan() { f64::INFINITY } else { error }
    };
    let errors: Vec<f64> = ran.got.iter().zip(&ran.want).map(error).collect();
    let worst = (0..errors.len())
        .max_by(|a, b| errors[*a].total_cmp(&errors[*b]))
        .unwrap_or(0);
    let fault = (errors[worst] > tolerance).then(|| {
        let wrong = errors.iter().filter(|error| **error > tolerance).count();
        format!(
            "{wrong} of {} values are wrong; value {worst} is {}, expected {}",
            errors.len(),
            ran.got[worst],
            ran.want[worst]
        )
    });
    (errors[worst], fault)
}

/// Runs an op twice, first to compile its kernel, and reads the 32-bit words of its results.
fn words(gpu: &Gpu, op: impl Fn(&Recorder) -> Vec<Tensor>) -> Result<(Vec<u32>, f64)> {
    let rec = gpu.record("self-check");
    drop(op(&rec));
    rec.submit()?;
    gpu.wait()?;
    let start = Instant::now();
    let rec = gpu.record("self-check");
    let results = op(&rec);
    let wanted: Vec<(&dyn Bind, usize)> = results
        .iter()
        .map(|tensor| (tensor as &dyn Bind, tensor.len()))
        .collect();
    let words = rec.read::<u32>(&wanted)?.concat();
    Ok((words, start.elapsed().as_secs_f64()))
}

/// An op whose results are numbers.
fn values(gpu: &Gpu, want: Vec<f32>, op: impl Fn(&Recorder) -> Vec<Tensor>) -> Result<Ran> {
    let (words, seconds) = words(gpu, op)?;
    let got = words.into_iter().map(f32::from_bits).collect();
    Ok(Ran { want, got, seconds })
}

/// An op whose results are words, compared as two numbers each so that every bit counts.
fn bits(gpu: &Gpu, want: &[u32], op: impl Fn(&Recorder) -> Vec<Tensor>) -> Result<Ran> {
    let (words, seconds) = words(gpu, op)?;
    let halves = |words: &[u32]| -> Vec<f32> {
        words
            .iter()
            .flat_map(|word| [(word & 0xffff) as f32, (word >> 16) as f32])
            .collect()
    };
    let (want, got) = (halves(want), halves(&words));
    Ok(Ran { want, got, seconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::KERNELS;

    #[test]
    fn every_kernel_has_a_case_in_every_format() {
        let cases: Vec<(&str, &str)> = cases::ALL.iter().map(|c| (c.name, c.format)).collect();
        for kernel in KERNELS {
            let plain = [("", "")];
            let formats = if kernel.formats.is_empty() {
                &plain[..]
            } else {
                kernel.formats
            };
            for (format, _) in formats {
                assert!(
                    cases.contains(&(kernel.name, format)),
                    "{} {format}",
                    kernel.name
                );
            }
        }
        assert!(
            cases
                .iter()
                .all(|(name, _)| KERNELS.iter().any(|k| k.name == *name))
        );
    }

    #[test]
    fn each_item_is_worked_on_once_and_results_keep_their_order() {
        let items: Vec<usize> = (0..100).collect();
        for workers in [1, 3] {
            let workers: Vec<_> = (0..workers).map(|_| AtomicUsize::new(0)).collect();
            let squares = shared(&workers, &items, |worker, item| {
                worker.fetch_add(1, Ordering::Relaxed);
                item * item
            });
            assert_eq!(squares, items.iter().map(|i| i * i).collect::<Vec<_>>());
            let worked = workers.iter().map(|worker| worker.load(Ordering::Relaxed));
            assert_eq!(worked.sum::<usize>(), items.len());
        }
    }

    #[test]
    fn a_wrong_value_is_named() {
        let ran = |got: &[f32]| Ran {
            want: vec![1.0, 3.0],
            got: got.to_vec(),
            seconds: 0.0,
        };
        assert_eq!(judge(&ran(&[1.0, 3.0]), 0.0), (0.0, None));
        let (error, fault) = judge(&ran(&[1.0, 3.4]), 1e-3);
        assert!((error - 0.1).abs() < 1e-6);
        assert_eq!(
            fault.as_deref(),
            Some("1 of 2 values are wrong; value 1 is 3.4, expected 3")
        );
        assert!(judge(&ran(&[f32::NAN, 3.0]), 1e-3).1.is_some());
        assert!(judge(&ran(&[1.0]), 1e-3).1.is_some());
    }
}
