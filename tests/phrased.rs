//! Phrases in slices of volumes, beside transformers' processor and model.

#[path = "support/clip_files.rs"]
mod clip_files;
#[path = "support/model_files.rs"]
mod model_files;
#[path = "support/nifti.rs"]
mod nifti;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clip_files::{clipseg, cris, golden};
use keraunos::gpu::{Gpu, GpuOptions};
use keraunos::pipeline::phrased::{PhrasedRequest, PhrasedSegmenter, Phrasing, PromptType};
use keraunos::pipeline::prepare::View;
use keraunos::pipeline::preview::Style;
use keraunos::pipeline::structures::Target;
use keraunos::pipeline::{DrawnMask, Input, Observer};
use keraunos::tensor::{Checkpoint, Precision};
use model_files::hashed;
use nifti::Made;
use serde_json::Value;

/// The logits of each target.
#[derive(Default)]
struct Kept(BTreeMap<String, Vec<f32>>);

impl Observer for Kept {
    fn drawn(&mut self, drawn: &DrawnMask) -> keraunos::Result<()> {
        let name = drawn.target.name.clone();
        self.0.insert(name, drawn.logits.to_vec());
        Ok(())
    }
}

/// A volume that runs left, inferior, anterior, as goldens/clip.py makes it; `empty` is a slice along its second axis.
fn volume(folder: &Path, case: &Value, empty: Option<usize>) -> (PathBuf, [usize; 3]) {
    let shape: [usize; 3] = serde_json::from_value(case["shape"].clone()).expect("a shape");
    let rows: [[f64; 4]; 3] = serde_json::from_value(case["affine"].clone()).expect("an affine");
    let [nx, ny, _] = shape;
    let values = hashed("volume", shape.iter().product());
    let value = |(n, v): (usize, &f32)| {
        let (x, y) = (n % nx, n / nx % ny);
        let nothing = (x < 4 && y == 0) || Some(y) == empty;
        f64::from((v.abs() * 400.0).floor()) * f64::from(u8::from(!nothing))
    };
    let data: Vec<f64> = values.iter().enumerate().map(value).collect();
    let mut made = Made::new(shape, 16);
    made.rows.1 = rows;
    let path = folder.join("scan_T1w.nii");
    std::fs::write(&path, made.file(&data)).expect("a volume");
    (path, shape)
}

fn segmenter(model: &Path) -> keraunos::Result<PhrasedSegmenter> {
    let options = GpuOptions {
        checked: true,
        ..GpuOptions::default()
    };
    let checkpoint = Checkpoint::open(model)?;
    PhrasedSegmenter::on(Gpu::open(&options)?, &checkpoint, Precision::Auto)
}

fn request(path: &Path, phrases: &[&str]) -> PhrasedRequest {
    let free = |(n, text): (usize, &&str)| Target::free(text, n as u16);
    PhrasedRequest {
        input: Input::new(path),
        name: None,
        phrasing: Phrasing {
            view: View::Axial,
            targets: phrases.iter().enumerate().map(free).collect(),
            phrases: phrases.iter().map(|text| Some((*text).into())).collect(),
            prompt_type: PromptType::P1,
            tables: Vec::new(),
            preview: Style::Both,
        },
    }
}

#[test]
fn a_slice_of_a_turned_volume_equals_transformers() {
    check_slice("clipseg_slice.json", &clipseg(), 0.5);
}

#[test]
fn a_slice_by_cris_equals_pytorch() {
    // PyTorch's wrapper changes nothing.
    check_slice("cris_slice.json", &cris("module."), 0.35);
}

/// The probabilities of two phrases in a slice, and the map from `least` on.
fn check_slice(file: &str, model: &tempfile::TempDir, least: f32) {
    let case = golden(file)["slice"].clone();
    let folder = tempfile::tempdir().expect("a folder");
    let (path, shape) = volume(folder.path(), &case, None);
    let found: BTreeMap<String, Vec<f32>> =
        serde_json::from_value(case["found"].clone()).expect("probabilities");
    let phrases: Vec<&str> = found.keys().map(String::as_str).collect();
    let segmenter = segmenter(model.path()).unwrap_or_else(|e| panic!("{e}"));
    let mut kept = Kept::default();
    let request = request(&path, &phrases);
    let result = segmenter.segment(&request, &mut kept).expect("a result");
    let j = case["slice"].as_u64().expect("a slice") as usize;
    let [nx, ny, nz] = shape;
    for (phrase, want) in &found {
        let logits = &kept.0[phrase];
        let (mut worst, mut inside) = (0.0_f32, 0);
        for (n, want) in want.iter().enumerate() {
            let at = n % nx + nx * (j + ny * (n / nx));
            let share = 1.0 / (1.0 + (-logits[at]).exp());
            worst = worst.max((share - want).abs());
            inside += usize::from(*want > least);
        }
        println!("{phrase}: {worst:.2e}, {inside} of {} inside", nx * nz);
        assert!(worst < 2e-5, "{phrase}: {worst:.2e}");
        assert!(inside > 0 && inside < nx * nz, "{phrase}: {inside}");
    }
    // The more probable phrase holds the voxel, from the threshold on.
    let threshold = (least / (1.0 - least)).ln();
    for (at, label) in result.labels.iter().enumerate() {
        let of = |n: usize| kept.0[phrases[n]][at];
        let want = match (of(0).max(of(1)) > threshold, of(1) > of(0)) {
            (false, _) => 0,
            (true, second) => request.phrasing.targets[usize::from(second)].label,
        };
        assert_eq!(*label, want, "voxel {at}: {} and {}", of(0), of(1));
    }
    assert_eq!(result.report.instructions[0].text, phrases[0]);
}

#[test]
fn slices_that_show_nothing_hold_nothing() {
    let case = golden("clipseg_slice.json")["slice"].clone();
    let folder = tempfile::tempdir().expect("a folder");
    let (path, [nx, ny, _]) = volume(folder.path(), &case, Some(2));
    let model = clipseg();
    let segmenter = segmenter(model.path()).unwrap_or_else(|e| panic!("{e}"));
    let mut kept = Kept::default();
    // More than are decoded together.
    let names: Vec<String> = (0..9).map(|n| format!("part {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let result = segmenter
        .segment(&request(&path, &names), &mut kept)
        .expect("a result");
    assert_eq!(result.structures.len(), 9);
    for logits in kept.0.values() {
        for (at, logit) in logits.iter().enumerate() {
            let empty = at / nx % ny == 2;
            assert_eq!(logit.is_finite(), !empty, "voxel {at}: {logit}");
        }
    }
    // A phrase beside others is what it is alone.
    let mut alone = Kept::default();
    segmenter
        .segment(&request(&path, &names[8..]), &mut alone)
        .expect("a result");
    let (one, other) = (&alone.0["part 8"], &kept.0["part 8"]);
    let off = one.iter().zip(other).filter(|(a, _)| a.is_finite());
    let off = off.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5, "{off:.2e}");
}

#[test]
fn folders_and_requests_that_do_not_fit_are_named() {
    let case = golden("clipseg_slice.json")["slice"].clone();
    let folder = tempfile::tempdir().expect("a folder");
    let (path, _) = volume(folder.path(), &case, None);
    let model = clipseg();
    let opened = segmenter(model.path()).unwrap_or_else(|e| panic!("{e}"));
    let long = ["left hippocampus "; 20].concat();
    let mut twice = request(&path, &["a", "b"]);
    twice.phrasing.targets = vec![Target::free("a", 0), Target::free("b", 0)];
    for (request, wanted) in [
        (request(&path, &[]), "nothing says what to segment"),
        (twice, "`b` is asked for twice"),
        (request(&path, &[&long]), "tokens long; 40 fit"),
    ] {
        let error = opened.segment(&request, &mut ()).expect_err(wanted);
        assert!(error.to_string().contains(wanted), "{error}");
    }
    let processor = model.path().join("preprocessor_config.json");
    for (text, wanted) in [
        (
            r#"{"size": {"height": 64, "width": 48}}"#,
            "`size` is 64 × 48 pixels, expected a square",
        ),
        (r#"{"size": {"shortest_edge": 64}}"#, "`size` is"),
        (
            r#"{"size": 64, "do_center_crop": true, "crop_size": 64}"#,
            "cuts pictures",
        ),
        (r#"{"size": 70}"#, "pictures of 70 pixels in patches of 16"),
        (r#"{"size": 64, "resample": 0}"#, "`resample` is 0"),
        (
            r#"{"size": 64, "do_resize": false}"#,
            "`do_resize` is false",
        ),
    ] {
        std::fs::write(&processor, text).expect("written");
        let error = segmenter(model.path()).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
    std::fs::remove_file(&processor).expect("removed");
    let error = segmenter(model.path()).expect_err("a file").to_string();
    assert!(error.contains("preprocessor_config.json"), "{error}");
    // More words than the model has rows for.
    std::fs::write(&processor, r#"{"size": 64}"#).expect("written");
    let words = clip_files::Words::open();
    let mut merges = words.merges.clone();
    merges.push("q q".into());
    clip_files::write_vocabulary(model.path(), &words.letters(), &merges);
    let error = segmenter(model.path())
        .expect_err("a vocabulary")
        .to_string();
    assert!(error.contains("has 1085 tokens, the model 1084"), "{error}");
}
