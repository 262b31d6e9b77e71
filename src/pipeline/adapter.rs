//! An adapter that computes right, and fast: its kernels are checked and timed once, and what was found is remembered.
//!
//! A driver that gets a kernel wrong draws wrong masks without a word. So the first time that this program meets an
//! adapter with a driver, every kernel runs beside its plain loop ([`self_check`]). What is wrong and only there for
//! speed is left out from then on; what is wrong and needed ends the program. Then the candidates of each class of
//! products take turns ([`choice::measure`]), and the fastest is taken from then on; they differ in nothing but time.
//! The answers are kept in the cache folder, one small file for each adapter, driver and set of kernels, but not that it
//! could not be used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::gpu::{COOP_TILES, Gpu, GpuOptions, Kernel, WEIGHT_FORMATS};
use crate::ops::choice::{self, Class, Measured};
use crate::ops::{KERNELS, KernelCheck, STAND_INS, self_check};
use crate::pipeline::files;
use crate::tensor::hex;

/// What was found out about an adapter.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    adapter: String,
    driver: String,
    backend: String,
    /// The cooperative matrices that it was opened for.
    tile: Option<String>,
    /// SHA-256 of this version's kernels.
    kernels: String,
    faults: Vec<Fault>,
    /// What was the fastest of each class; none if that was never measured.
    choices: Option<BTreeMap<String, String>>,
}

/// A kernel that gave wrong values, or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fault {
    kernel: String,
    problem: String,
}

/// Opens an adapter, keeps it from kernels that it gets wrong, and lets it take those that are the fastest on it. Where
/// it was not met before they are all run, which takes seconds, or a minute where compiling is slow; `tell` is given a
/// sentence then. Without a `cache` they are run every time.
///
/// # Errors
/// As [`Gpu::open`]; a kernel that is wrong and has no stand-in.
pub fn open(options: &GpuOptions, cache: Option<&Path>, tell: &mut dyn FnMut(&str)) -> Result<Gpu> {
    let gpu = Gpu::open(options)?;
    let mut known = Known::of(&gpu);
    let place = cache.map(|folder| folder.join(known.file_name()));
    let earlier = place.as_deref().and_then(|place| known.read(place));
    let met = earlier.is_some();
    known = earlier.unwrap_or(known);
    if !met {
        tell("checking this adapter's kernels; this is done once");
        // Without timings of its own: what a profile is for comes later.
        let plain = GpuOptions {
            profile: None,
            ..options.clone()
        };
        known.faults = faults(&self_check(&several(&plain)?));
    }
    // What ends the program is not remembered: memory that ran out in the check would lock the adapter for good.
    let usable = known.faults.iter().all(|fault| fault.stand_in().is_some());
    let unmeasured = usable && !options.untuned && known.choices.is_none();
    if unmeasured {
        match measured(options, &known.faults) {
            Ok(found) => known.choices = Some(chosen(&found)),
            Err(problem) => tell(&format!("warning: kernels could not be timed: {problem}")),
        }
    }
    if let Some(place) = place.filter(|_| usable && (!met || unmeasured))
        && let Err(problem) = known.write(&place)
    {
        tell(&format!("warning: {problem}; the check will be done again"));
    }
    for fault in &known.faults {
        avoid(&gpu, fault)?;
    }
    if !options.untuned {
        known.choose(&gpu);
    }
    Ok(gpu)
}

/// An adapter opened as often as there are cores, up to a few times: each device compiles kernels beside the others. One
/// is enough, if a driver opens no more.
fn several(options: &GpuOptions) -> Result<Vec<Gpu>> {
    const MOST: usize = 4;
    let mut gpus = vec![Gpu::open(options)?];
    let more = (1..rayon::current_num_threads().min(MOST)).into_par_iter();
    gpus.par_extend(more.filter_map(|_| Gpu::open(options).ok()));
    Ok(gpus)
}

/// Times the candidates of each class, whatever was known before, and remembers the fastest together with what `checks`
/// of this adapter found.
///
/// # Errors
/// As [`open()`], and a cache that cannot be written.
pub fn time_again(
    options: &GpuOptions,
    checks: &[KernelCheck],
    cache: Option<&Path>,
) -> Result<Vec<Measured>> {
    let mut known = Known::of(&Gpu::open(options)?);
    known.faults = faults(checks);
    let found = measured(options, &known.faults)?;
    known.choices = Some(chosen(&found));
    if let Some(folder) = cache {
        known.write(&folder.join(known.file_name()))?;
    }
    Ok(found)
}

/// The candidates of each class as they are on this adapter, without the kernels that it gets wrong.
fn measured(options: &GpuOptions, faults: &[Fault]) -> Result<Vec<Measured>> {
    let gpu = Gpu::open(&GpuOptions {
        // As users run it, whatever this run is for; cooperative matrices would take the place of what is measured.
        checked: false,
        cooperative: false,
        profile: None,
        ..options.clone()
    })?;
    for fault in faults {
        avoid(&gpu, fault)?;
    }
    choice::measure(&gpu)
}

/// The label of what is to be taken, by class.
fn chosen(found: &[Measured]) -> BTreeMap<String, String> {
    let pairs = found.iter().map(|m| (m.class.to_owned(), m.chosen.clone()));
    pairs.collect()
}

/// The kernels that an adapter gets wrong.
fn faults(checks: &[KernelCheck]) -> Vec<Fault> {
    let wrong = checks.iter().filter_map(|check| {
        Some(Fault {
            kernel: check.kernel.to_owned(),
            problem: format!("{}: {}", check.name, check.fault.as_ref()?),
        })
    });
    wrong.collect()
}

/// A name for this adapter with its driver, and for this version's kernels, in the cache folder.
pub(super) fn key(gpu: &Gpu) -> String {
    Known::of(gpu).key()
}

impl Fault {
    /// The kernel, and the plain one that takes its place.
    fn stand_in(&self) -> Option<(&'static Kernel, &'static Kernel)> {
        let mut pairs = STAND_INS.iter().copied();
        pairs.find(|(fast, _)| fast.name == self.kernel)
    }
}

/// Takes the stand-in of a kernel from now on.
fn avoid(gpu: &Gpu, fault: &Fault) -> Result<()> {
    let Fault { kernel, problem } = fault;
    match fault.stand_in() {
        Some((fast, plain)) => {
            let plain = plain.name;
            gpu.distrust(
                fast,
                format!(
                    "kernel `{kernel}` is wrong on this adapter and `{plain}` is used instead ({problem})"
                ),
            );
            Ok(())
        }
        None => Err(Error::Gpu(format!(
            "kernel `{kernel}` is wrong on adapter `{}` and nothing can stand in for it ({problem}); \
             see `keraunos doctor`, or take another adapter by --device",
            gpu.summary().name
        ))),
    }
}

impl Known {
    /// An adapter of which nothing bad is known.
    fn of(gpu: &Gpu) -> Self {
        let summary = gpu.summary();
        let mut kernels = Sha256::new();
        for kernel in KERNELS {
            kernels.update(kernel.source);
        }
        for (_, source) in WEIGHT_FORMATS.iter().chain(COOP_TILES) {
            kernels.update(source);
        }
        Self {
            adapter: summary.name.clone(),
            driver: summary.driver.clone(),
            backend: summary.backend.into(),
            tile: gpu.coop_tile().map(str::to_owned),
            kernels: hex(&kernels.finalize()),
            faults: Vec::new(),
            choices: None,
        }
    }

    /// Lets an adapter take what was the fastest; what is no candidate of this version is left as it begins.
    fn choose(&self, gpu: &Gpu) {
        let remembered = |class: Class| self.choices.as_ref()?.get(class.name());
        for class in Class::ALL {
            if let Some(label) = remembered(class) {
                class.choose(gpu, label);
            }
        }
    }

    /// One name for each adapter, driver and set of kernels.
    fn key(&self) -> String {
        let whole = format!(
            "{}\n{}\n{}\n{:?}\n{}",
            self.adapter, self.driver, self.backend, self.tile, self.kernels
        );
        hex(&Sha256::digest(whole))[..16].to_owned()
    }

    fn file_name(&self) -> PathBuf {
        format!("adapter-{}.json", self.key()).into()
    }

    /// What an earlier run found of this same adapter; a file that is anything else counts as none.
    fn read(&self, place: &Path) -> Option<Self> {
        let earlier: Self = serde_json::from_slice(&std::fs::read(place).ok()?).ok()?;
        let same = self.adapter == earlier.adapter
            && self.driver == earlier.driver
            && self.backend == earlier.backend
            && self.tile == earlier.tile
            && self.kernels == earlier.kernels;
        same.then_some(earlier)
    }

    fn write(&self, place: &Path) -> Result<()> {
        if let Some(folder) = place.parent() {
            std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
        }
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::write(place)(e.into()))?;
        files::atomic_write(place, |file| writeln!(file, "{text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(cache: &Path) -> (Result<Gpu>, Vec<String>) {
        let mut told = Vec::new();
        let gpu = open(&GpuOptions::default(), Some(cache), &mut |text| {
            told.push(text.to_owned());
        });
        (gpu, told)
    }

    /// The one file of a cache folder.
    fn file(cache: &Path) -> PathBuf {
        let mut files = std::fs::read_dir(cache).expect("a folder");
        let first = files.next().expect("a file").expect("an entry").path();
        assert!(files.next().is_none());
        first
    }

    fn record(place: &Path, kernel: &str) {
        let text = std::fs::read(place).expect("a file");
        let mut known: Known = serde_json::from_slice(&text).expect("what was found");
        known.faults = vec![Fault {
            kernel: kernel.into(),
            problem: "value 3 is NaN, expected 1".into(),
        }];
        known.write(place).expect("written");
    }

    #[test]
    fn an_adapter_is_checked_once_and_what_is_wrong_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("new");
        let (gpu, told) = opened(&cache);
        assert!(gpu.expect("an adapter").distrusted().is_empty());
        assert_eq!(told.len(), 1, "{told:?}");
        let (gpu, told) = opened(&cache);
        assert!(gpu.expect("an adapter").distrusted().is_empty());
        assert!(told.is_empty(), "{told:?}");

        // As if the check had found faults: first one that another kernel can stand in for.
        record(&file(&cache), "linear_vec");
        let (gpu, told) = opened(&cache);
        let why = gpu.expect("an adapter").distrusted();
        assert!(told.is_empty() && why.len() == 1, "{told:?} {why:?}");
        assert!(why[0].contains("`linear_vec`") && why[0].contains("`linear` is used"));
        assert!(why[0].contains("value 3 is NaN"), "{why:?}");
        record(&file(&cache), "layer_norm");
        let problem = opened(&cache).0.expect_err("no stand-in").to_string();
        assert!(problem.contains("`layer_norm`") && problem.contains("value 3 is NaN"));
    }

    #[test]
    fn the_fastest_is_remembered_and_taken_and_nothing_foreign() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path();
        let class = Class::ALL[6];
        let choice = |gpu: Result<Gpu>| gpu.expect("an adapter").choice(class.name());
        // Met without a measurement, and only then with one.
        let options = GpuOptions {
            untuned: true,
            ..GpuOptions::default()
        };
        let gpu = open(&options, Some(cache), &mut |_| ());
        assert!(choice(gpu).is_none());
        let written = || -> Known {
            let text = std::fs::read(file(cache)).expect("a file");
            serde_json::from_slice(&text).expect("what was found")
        };
        assert!(written().choices.is_none());
        let (gpu, told) = opened(cache);
        let taken = choice(gpu).expect("a choice").label();
        assert!(told.is_empty(), "{told:?}");
        let choices = written().choices.expect("choices");
        assert_eq!(choices.len(), Class::ALL.len());
        assert_eq!(choices[class.name()], taken);

        let remember = |label: &str| {
            let mut known = written();
            known.choices = Some(BTreeMap::from([
                (class.name().to_owned(), label.to_owned()),
                ("no class".to_owned(), taken.clone()),
            ]));
            known.write(&file(cache)).expect("written");
        };
        remember("linear WG=64 ROWS=4");
        let gpu = opened(cache).0;
        assert_eq!(
            choice(gpu).expect("a choice").label(),
            "linear WG=64 ROWS=4"
        );
        for foreign in ["linear WG=100000", "linear_vec WG=64", "", "no kernel"] {
            remember(foreign);
            assert!(choice(opened(cache).0).is_none(), "{foreign}");
        }
        remember("linear WG=64 ROWS=4");
        assert!(choice(open(&options, Some(cache), &mut |_| ())).is_none());
    }

    #[test]
    fn what_is_remembered_of_another_adapter_or_damaged_counts_as_nothing() {
        let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
        let folder = tempfile::tempdir().expect("a folder");
        let known = Known::of(&gpu);
        let place = folder.path().join(known.file_name());
        assert!(known.read(&place).is_none());
        known.write(&place).expect("written");
        assert!(known.read(&place).is_some());
        let other = Known {
            driver: "another".into(),
            ..Known::of(&gpu)
        };
        assert_ne!(other.file_name(), known.file_name());
        assert!(other.read(&place).is_none());
        std::fs::write(&place, b"{\"adapter\": 1").expect("written");
        assert!(known.read(&place).is_none());
    }

    #[test]
    fn every_stand_in_is_a_kernel_of_its_own() {
        for (fast, plain) in STAND_INS {
            assert!(KERNELS.iter().any(|kernel| kernel.name == fast.name));
            assert!(
                STAND_INS.iter().all(|(other, _)| other.name != plain.name),
                "{}",
                plain.name
            );
        }
    }
}
