//! A small segmentation whose result is known: a slab of a painted head that comes with the program, from the file to the
//! masks, beside those that PyTorch drew (`tests/goldens/trial.py`).

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gpu::GpuOptions;
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::View;
use crate::pipeline::request::{Input, Instruct, Options, Request};
use crate::pipeline::segmenter::{DrawnMask, Observer, Segmenter};
use crate::pipeline::volume::Labels;
use crate::tensor::Precision;

/// 16 axial slices of 1 mm, T1.
const SCAN: &[u8] = include_bytes!("../../weights/trial/scan.nii.gz");
/// PyTorch's masks of it in float32, bit i of a voxel for target i.
const MASKS: &[u8] = include_bytes!("../../weights/trial/masks.nii.gz");
/// In the order of the bits.
const TARGETS: [&str; 8] = [
    "left thalamus",
    "right thalamus",
    "left putamen",
    "right putamen",
    "left caudate nucleus",
    "right caudate nucleus",
    "left lateral ventricle",
    "right lateral ventricle",
];
/// The least Dice with PyTorch's mask that passes.
pub const LEAST_DICE: f64 = 0.995;

/// How a way of computing did.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// `f32`, `f16`, or `coop` on cooperative matrices.
    pub precision: &'static str,
    /// Voxels of all masks that PyTorch draws otherwise.
    pub differing: usize,
    /// Voxels of PyTorch's masks.
    pub voxels: usize,
    /// The lowest Dice of a structure with PyTorch's mask, and which.
    pub lowest: (f64, &'static str),
    /// From the file to the masks.
    pub seconds: f64,
}

impl Trial {
    /// What is wrong, if anything is.
    pub fn fault(&self) -> Option<String> {
        let (dice, name) = self.lowest;
        (dice < LEAST_DICE).then(|| {
            format!("`{name}` has a Dice of {dice:.4} with PyTorch's mask, expected at least {LEAST_DICE}")
        })
    }
}

/// Segments the slab in each precision that the adapter has: weights in f32 and in f16, and cooperative matrices if
/// `cooperative` says that there are some.
///
/// # Errors
/// No such adapter, or one that fails.
pub fn trials(gpu: &GpuOptions, cooperative: bool) -> Result<Vec<Trial>> {
    let folder = tempfile::tempdir().map_err(Error::write(&std::env::temp_dir()))?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).map_err(Error::write(&path))?;
        Ok::<PathBuf, Error>(path)
    };
    let (scan, masks) = (
        write("scan_T1w.nii.gz", SCAN)?,
        write("masks.nii.gz", MASKS)?,
    );
    let want = Labels::read(&masks)?;
    let mut ways = vec![
        ("f32", Precision::F32, false),
        ("f16", Precision::F16, false),
    ];
    if cooperative {
        ways.push(("coop", Precision::F16, true));
    }
    let trial = |(name, precision, cooperative)| {
        let options = Options {
            gpu: GpuOptions {
                cooperative,
                ..gpu.clone()
            },
            precision,
            ..Options::default()
        };
        run(name, &options, &scan, &want)
    };
    ways.into_iter().map(trial).collect()
}

fn run(precision: &'static str, options: &Options, scan: &Path, want: &Labels) -> Result<Trial> {
    let segmenter = Segmenter::open(options)?;
    let mut request = Request::new(vec![Input {
        path: scan.into(),
        modality: Some(Modality::T1),
    }]);
    for name in TARGETS {
        request = request.find(name)?;
    }
    request.instruct = Instruct::Stock;
    request.views = vec![View::Axial];
    let mut seen = Compared {
        want,
        found: Vec::new(),
    };
    let began = Instant::now();
    segmenter.segment(&request, &mut seen)?;
    let Compared { found, .. } = seen;
    let lowest = found.iter().map(|one| (one.dice(), one.name));
    Ok(Trial {
        precision,
        differing: found
            .iter()
            .map(|one| one.ours + one.theirs - 2 * one.both)
            .sum(),
        voxels: found.iter().map(|one| one.theirs).sum(),
        lowest: lowest
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap_or((0.0, TARGETS[0])),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// Voxels of one structure.
struct Counts {
    name: &'static str,
    ours: usize,
    theirs: usize,
    both: usize,
}

impl Counts {
    fn dice(&self) -> f64 {
        2.0 * self.both as f64 / (self.ours + self.theirs).max(1) as f64
    }
}

/// Compares each mask as it comes.
struct Compared<'a> {
    want: &'a Labels,
    found: Vec<Counts>,
}

impl Observer for Compared<'_> {
    fn drawn(&mut self, drawn: &DrawnMask) -> Result<()> {
        let Some(bit) = TARGETS.iter().position(|name| *name == drawn.target.name) else {
            return Ok(());
        };
        let mut counts = Counts {
            name: TARGETS[bit],
            ours: 0,
            theirs: 0,
            both: 0,
        };
        for (ours, bits) in drawn.voxels().zip(&self.want.data) {
            let theirs = bits >> bit & 1 == 1;
            counts.ours += usize::from(ours);
            counts.theirs += usize::from(theirs);
            counts.both += usize::from(ours && theirs);
        }
        self.found.push(counts);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::structures::Target;
    use crate::pipeline::volume::Volume;

    #[test]
    fn masks_that_differ_are_a_fault() {
        let mut trial = Trial {
            precision: "f32",
            differing: 3,
            voxels: 48_732,
            lowest: (0.9991, "left putamen"),
            seconds: 1.0,
        };
        assert_eq!(trial.fault(), None);
        trial.lowest.0 = 0.9;
        let fault = trial.fault().expect("a fault");
        assert!(
            fault.contains("`left putamen`") && fault.contains("0.9000"),
            "{fault}"
        );
    }

    /// A mask that is moved by a voxel counts as other voxels, and lowers the Dice.
    #[test]
    fn masks_are_compared_voxel_by_voxel() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("masks.nii.gz");
        std::fs::write(&path, MASKS).expect("a file");
        let want = Labels::read(&path).expect("the masks");
        let volume = Volume::read(&path).expect("the masks");
        let target = Target::find("left putamen").expect("a target");
        let bit = TARGETS
            .iter()
            .position(|name| *name == target.name)
            .expect("a bit");
        let mut logits: Vec<f32> = want
            .data
            .iter()
            .map(|bits| if bits >> bit & 1 == 1 { 2.0 } else { -2.0 })
            .collect();
        let compare = |logits: &[f32]| {
            let mut seen = Compared {
                want: &want,
                found: Vec::new(),
            };
            let drawn = DrawnMask {
                target: &target,
                logits,
                above: 0.0,
                reference: &volume,
            };
            seen.drawn(&drawn).expect("a comparison");
            let one = &seen.found[0];
            (one.dice(), one.ours + one.theirs - 2 * one.both)
        };
        assert_eq!(compare(&logits), (1.0, 0));
        logits.rotate_right(1);
        let (dice, differing) = compare(&logits);
        assert!(dice < LEAST_DICE && differing > 100, "{dice}, {differing}");
    }
}
