//! How fast every op is on the adapter at hand, beside the ceiling that binds it: `keraunos bench`.
//!
//! The ceilings are measured first. Every case is compared with its plain-loop twin before it is timed; a
//! time is the least of several submits of many dispatches each, divided by their number. Small cases live in
//! the caches and may beat a ceiling that was measured in memory.

mod attentions;
mod ceilings;
mod pictures;
mod products;
mod rows;

use std::time::Instant;

pub use ceilings::{Bound, CEILINGS, Ceilings};

use super::check::{Ran, judge, tolerance};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::tensor::Tensor;

/// The least time that one measured submit should take.
const SUBMIT_SECONDS: f64 = 0.03;
/// The most dispatches of one submit.
const MOST_DISPATCHES: usize = 4096;
const SUBMITS: usize = 5;
/// `|got − want| / (1 + |want|)` up to which a case counts as right: sums of thousands in f32.
const TOLERANCE: f64 = 1e-4;
/// Cases beyond this are left out on a CPU adapter unless all are asked for.
const MOST_CPU_FLOPS: usize = 4_000_000_000;

/// What a case has to do at least: a multiply-add counts two, memory is touched once.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Floating-point operations.
    pub flops: usize,
    /// Bytes read and written.
    pub bytes: usize,
}

/// One case, ready to run.
struct Trial {
    run: Box<dyn Fn(&Recorder) -> Tensor>,
    /// What the result holds from `first` on.
    first: usize,
    want: Want,
    tolerance: f64,
}

/// A sample of a result, from the twin.
enum Want {
    Values(Vec<f32>),
    Words(Vec<u32>),
}

impl Trial {
    /// A trial whose result is `want` from its `first` value on.
    fn new(first: usize, want: Vec<f32>, run: impl Fn(&Recorder) -> Tensor + 'static) -> Self {
        Self {
            run: Box::new(run),
            first,
            want: Want::Values(want),
            tolerance: TOLERANCE,
        }
    }

    /// A trial whose result is these words to the bit.
    fn words(want: Vec<u32>, run: impl Fn(&Recorder) -> Tensor + 'static) -> Self {
        Self {
            run: Box::new(run),
            first: 0,
            want: Want::Words(want),
            tolerance: 0.0,
        }
    }

    /// The same with another `|got − want| / (1 + |want|)`.
    fn within(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// Runs once and compares; the fault is a sentence.
    fn check(&self, gpu: &Gpu, kernel: &str) -> Result<Option<String>> {
        let rec = gpu.record("bench");
        let y = (self.run)(&rec);
        let words = rec.read::<u32>(&[(&y, y.len())])?.concat();
        let got = &words[self.first.min(words.len())..];
        Ok(match &self.want {
            Want::Words(want) => (got != want).then(|| "its words are wrong".to_owned()),
            Want::Values(want) => {
                let got = got.iter().take(want.len());
                let ran = Ran {
                    want: want.clone(),
                    got: got.map(|word| f32::from_bits(*word)).collect(),
                    seconds: 0.0,
                };
                judge(&ran, tolerance(gpu, kernel, self.tolerance)).1
            }
        })
    }
}

/// One case as it was measured.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Row {
    /// The kernel's name.
    pub kernel: String,
    /// Format, sizes and what follows the product.
    pub case: String,
    /// Of one dispatch, or of the few that the op needs.
    pub seconds: f64,
    /// Floating-point operations, a multiply-add counting two.
    pub flops: usize,
    /// Bytes that are read or written at least once.
    pub bytes: usize,
    /// Which ceiling binds it.
    pub bound: Bound,
    /// The ceiling's time over the measured one: 1 is at the ceiling.
    pub share: f64,
}

/// All of it, as `keraunos bench --json` prints and `--compare` reads it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Report {
    /// keraunos' version.
    pub version: String,
    /// The adapter's name.
    pub adapter: String,
    /// The name and version of its driver.
    pub driver: String,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// Whether kernels were compiled with bounds checks.
    pub checked: bool,
    /// What the adapter can do at best.
    pub ceilings: Ceilings,
    /// The cases, in the order they were run.
    pub rows: Vec<Row>,
}

impl Report {
    /// Seconds of a case.
    pub fn seconds(&self, kernel: &str, case: &str) -> Option<f64> {
        let row = self
            .rows
            .iter()
            .find(|row| row.kernel == kernel && row.case == case)?;
        Some(row.seconds)
    }
}

/// What is to be measured.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only cases whose kernel or description contains this.
    pub filter: String,
    /// Those too that take a CPU adapter long.
    pub all: bool,
}

/// Told of the ceilings, then of each row as it is measured.
pub trait Watcher {
    /// The ceilings are known.
    fn ceilings(&mut self, _: &Ceilings) -> Result<()> {
        Ok(())
    }
    /// A case was measured.
    fn row(&mut self, _: &Row) -> Result<()> {
        Ok(())
    }
}

impl Watcher for () {}

/// Measures the ceilings, then checks and measures every case that is wanted, and at last those products once more that
/// `coop`, the same adapter opened for its cooperative matrices, computes on them.
///
/// # Errors
///
/// [`Error::Gpu`] if a case is not what its twin says: a rate of wrong numbers is none; and those of the adapter.
pub fn bench(
    gpu: &Gpu,
    coop: Option<&Gpu>,
    wanted: &Wanted,
    watcher: &mut dyn Watcher,
) -> Result<Report> {
    let ceilings = Ceilings::measure(coop.unwrap_or(gpu))?;
    watcher.ceilings(&ceilings)?;
    let mut bench = Bench {
        gpu,
        only: None,
        wanted,
        ceilings,
        rows: Vec::new(),
        watcher,
    };
    products::measure(&mut bench)?;
    pictures::measure(&mut bench)?;
    attentions::measure(&mut bench)?;
    rows::measure(&mut bench)?;
    if let Some(coop) = coop {
        bench.gpu = coop;
        bench.only = Some("linear_coop");
        products::measure(&mut bench)?;
    }
    let adapter = gpu.summary();
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        adapter: adapter.name.clone(),
        driver: adapter.driver.clone(),
        backend: adapter.backend.to_owned(),
        checked: gpu.is_checked(),
        ceilings,
        rows: bench.rows,
    })
}

/// The adapter, what it can do at best, and what was measured.
struct Bench<'a> {
    gpu: &'a Gpu,
    /// The one kernel whose rows are measured, if not all are.
    only: Option<&'static str>,
    wanted: &'a Wanted,
    ceilings: Ceilings,
    rows: Vec<Row>,
    watcher: &'a mut dyn Watcher,
}

impl Bench<'_> {
    /// Whether layers of billions of parameters are wanted: their matrices alone take a CPU adapter long.
    fn takes_big(&self) -> bool {
        !self.gpu.is_cpu() || self.wanted.all
    }

    /// Checks and measures one case, if it is wanted.
    fn row(
        &mut self,
        kernel: &str,
        case: String,
        work: Work,
        prepare: impl FnOnce(&Gpu) -> Result<Trial>,
    ) -> Result<()> {
        let filter = &self.wanted.filter;
        let long = self.gpu.is_cpu() && work.flops > MOST_CPU_FLOPS && !self.wanted.all;
        let other = self.only.is_some_and(|only| only != kernel);
        if long || other || !kernel.contains(filter) && !case.contains(filter) {
            return Ok(());
        }
        let trial = prepare(self.gpu)?;
        if let Some(fault) = trial.check(self.gpu, kernel)? {
            return Err(Error::Gpu(format!("{kernel} {case}: {fault}")));
        }
        let seconds = least_seconds(self.gpu, &*trial.run)?;
        let (least, bound) = self.ceilings.bound(kernel, work);
        let row = Row {
            kernel: kernel.to_owned(),
            case,
            seconds,
            flops: work.flops,
            bytes: work.bytes,
            bound,
            share: least / seconds,
        };
        self.watcher.row(&row)?;
        self.rows.push(row);
        Ok(())
    }
}

/// Seconds of one call of `run` among many: the least of several submits.
fn least_seconds(gpu: &Gpu, run: &dyn Fn(&Recorder) -> Tensor) -> Result<f64> {
    let submit = |count: usize| -> Result<f64> {
        let rec = gpu.record("bench");
        for _ in 0..count {
            drop(run(&rec));
        }
        let start = Instant::now();
        rec.submit()?;
        gpu.wait()?;
        Ok(start.elapsed().as_secs_f64())
    };
    let mut count = 1;
    let mut least = submit(count)?;
    while least < SUBMIT_SECONDS && count < MOST_DISPATCHES {
        let more = (SUBMIT_SECONDS / least.max(1e-6) * 1.2) as usize;
        count = (count * more.clamp(2, 16)).min(MOST_DISPATCHES);
        least = submit(count)?;
    }
    for _ in 1..SUBMITS {
        least = least.min(submit(count)?);
    }
    Ok(least / count as f64)
}
