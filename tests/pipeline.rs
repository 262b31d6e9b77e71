//! The whole way, on real scans where they are at hand and on made ones everywhere.
//!
//! Real volumes are read from the folder in `KERAUNOS_SHARED`, else from `../shared` beside the project;
//! a test that needs one says so where it is absent and ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keraunos::Error;
use keraunos::gpu::GpuOptions;
use keraunos::pipeline::effect::{Wording, instruction_effect};
use keraunos::pipeline::evaluate::Pair;
use keraunos::pipeline::instruct::Author;
use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::prepare::View;
use keraunos::pipeline::volume::Labels;
use keraunos::pipeline::{
    DrawnMask, Fusion, Input, Instruct, Observer, Options, Request, Segmentation, Segmenter,
};

#[path = "support/nifti.rs"]
mod nifti;

fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("KERAUNOS_SHARED").map(PathBuf::from);
    let root = root.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let path = root.join("data").join(path);
    if path.exists() {
        return Some(path);
    }
    println!(
        "not checked: `{}` is absent; set KERAUNOS_SHARED to the folder of real volumes",
        path.display()
    );
    None
}

fn segmenter() -> Segmenter {
    let gpu = GpuOptions {
        checked: true,
        ..GpuOptions::default()
    };
    Segmenter::open(&Options {
        gpu,
        ..Options::default()
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

/// Keeps every mask.
#[derive(Default)]
struct Masks(BTreeMap<String, Vec<bool>>);

impl Observer for Masks {
    fn drawn(&mut self, drawn: &DrawnMask) -> Result<(), Error> {
        let name = drawn.target.name.clone();
        self.0.insert(name, drawn.voxels().collect());
        Ok(())
    }
}

fn dice(a: &[bool], b: &[bool]) -> f64 {
    let both = a.iter().zip(b).filter(|(a, b)| **a && **b).count();
    let sum = a.iter().chain(b).filter(|v| **v).count();
    2.0 * both as f64 / sum as f64
}

/// A request for structures by their built-in instructions, T1.
fn stock(path: &Path, names: &[&str]) -> Request {
    let input = Input {
        path: path.into(),
        modality: Some(Modality::T1),
    };
    let mut request = Request::new(vec![input]);
    for name in names {
        request = request.find(name).expect("a known structure");
    }
    request.instruct = Instruct::Stock;
    request
}

fn fast(mut request: Request) -> Request {
    request.fast = true;
    request.views = vec![View::Axial];
    request
}

const AAL: [(&str, [u32; 2]); 13] = [
    ("left hippocampus", [37, 37]),
    ("right hippocampus", [38, 38]),
    ("left amygdala", [41, 41]),
    ("right amygdala", [42, 42]),
    ("left caudate nucleus", [71, 71]),
    ("right caudate nucleus", [72, 72]),
    ("left putamen", [73, 73]),
    ("right putamen", [74, 74]),
    ("left pallidum", [75, 75]),
    ("right pallidum", [76, 76]),
    ("left thalamus", [77, 77]),
    ("right thalamus", [78, 78]),
    ("cerebellum", [91, 116]),
];

/// The Dice that PyTorch reaches with the same weights, `tests/goldens/volumes.json`.
fn reference(volume: &str, way: &str) -> BTreeMap<String, f64> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/volumes.json");
    let text = std::fs::read_to_string(path).expect("a golden file");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let targets = json[volume]["targets"].as_object().expect("targets");
    targets
        .iter()
        .map(|(name, t)| (name.clone(), t[way]["dice"].as_f64().expect("a Dice")))
        .collect()
}

/// Segments Colin27 and compares each structure's Dice against AAL with PyTorch's, to 0.002.
fn equals_pytorch(volume: &str, way: &str, request: impl Fn(Request) -> Request) -> Option<Masks> {
    let path = shared(&format!("colin27/{volume}.nii.gz"))?;
    let atlas = Labels::read(&shared("colin27/aal.nii.gz")?).expect("the atlas");
    let names: Vec<&str> = AAL.iter().map(|(name, _)| *name).collect();
    let mut masks = Masks::default();
    segmenter()
        .segment(&request(stock(&path, &names)), &mut masks)
        .expect("a segmentation");
    let reference = reference(volume, way);
    for (name, [low, high]) in AAL {
        let truth: Vec<bool> = atlas
            .data
            .iter()
            .map(|label| (low..=high).contains(label))
            .collect();
        let (got, want) = (dice(&masks.0[name], &truth), reference[name]);
        assert!(
            (got - want).abs() <= 0.002,
            "{volume} {way} {name}: Dice {got:.4}, PyTorch's {want:.4}"
        );
    }
    Some(masks)
}

#[test]
fn a_fast_run_on_colin27_equals_pytorch_voxel_by_voxel() {
    let Some(masks) = equals_pytorch("ch2", "axial2", fast) else {
        return;
    };
    // Bit i of a voxel is target i of PyTorch's masks.
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/volumes_ch2_axial2.nii.gz");
    let reference = Labels::read(&path).expect("the masks");
    for (n, (name, _)) in AAL.iter().enumerate() {
        let want: Vec<bool> = reference
            .data
            .iter()
            .map(|bits| bits >> n & 1 == 1)
            .collect();
        if want.iter().any(|v| *v) {
            let dice = dice(&masks.0[*name], &want);
            assert!(dice >= 0.99, "{name}: Dice {dice} with PyTorch's mask");
        } else {
            assert!(
                !masks.0[*name].contains(&true),
                "{name} is empty in PyTorch"
            );
        }
    }
}

#[test]
fn three_views_fused_on_stripped_colin27_equal_pytorch() {
    equals_pytorch("ch2bet", "fused", |request| request);
}

#[test]
fn two_modalities_on_different_grids_are_fused_on_the_first() {
    let (Some(t1), Some(pd)) = (
        shared("chris/chris_t1.nii.gz"),
        shared("chris/chris_PD.nii.gz"),
    ) else {
        return;
    };
    let segmenter = segmenter();
    let mut request = fast(stock(&t1, &["whole brain", "white matter"]));
    request.inputs.push(Input::new(&pd));
    let mut alone = Masks::default();
    segmenter
        .segment(
            &fast(stock(&t1, &["whole brain", "white matter"])),
            &mut alone,
        )
        .expect("a segmentation");
    for fusion in [Fusion::Late, Fusion::Hybrid] {
        request.fusion = fusion;
        let mut masks = Masks::default();
        let result = segmenter
            .segment(&request, &mut masks)
            .expect("a segmentation");
        assert_eq!(result.labels.len(), result.reference.data.len());
        assert_eq!(result.report.inputs[1].modality, Modality::Pd);
        let same = dice(&masks.0["whole brain"], &alone.0["whole brain"]);
        assert!(
            same > 0.8,
            "{fusion:?}: the brain has Dice {same} with the T1's alone"
        );
        assert!(
            same < 1.0,
            "{fusion:?}: the second modality changes nothing"
        );
        let spoken = if fusion == Fusion::Late { 4 } else { 2 };
        assert_eq!(result.report.instructions.len(), spoken);
    }
    request.fusion = Fusion::Early;
    let error = segmenter
        .segment(&request, &mut ())
        .expect_err("weights of one channel")
        .to_string();
    assert!(
        error.contains("early fusion of 2 modalities; these weights take 1"),
        "{error}"
    );
}

/// A head of a kind: a bright ellipsoid with a darker shell, off centre in every axis.
fn phantom(shape: [usize; 3]) -> Vec<f32> {
    let mut values = Vec::new();
    for z in 0..shape[2] {
        for y in 0..shape[1] {
            for x in 0..shape[0] {
                let part = |v: usize, n: usize, c: f32| (v as f32 / n as f32 - c) / 0.42;
                let r = part(x, shape[0], 0.48).powi(2)
                    + part(y, shape[1], 0.51).powi(2)
                    + part(z, shape[2], 0.53).powi(2);
                let texture = ((x * 7 + y * 13 + z * 29) % 17) as f32;
                values.push(match r {
                    r if r < 0.15 => 40.0 + texture,
                    r if r < 0.7 => 200.0 + texture,
                    r if r < 1.0 => 120.0 + texture,
                    _ => 0.0,
                });
            }
        }
    }
    values
}

/// Writes values as int16 with an sform.
fn write(path: &Path, shape: [usize; 3], rows: [[f64; 4]; 3], values: &[f32]) {
    let mut made = nifti::Made::new(shape, 4);
    made.rows = (1, rows);
    let voxels: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    std::fs::write(path, made.file(&voxels)).expect("a temporary file");
}

const RAS: [[f64; 4]; 3] = [
    [1.0, 0.0, 0.0, -30.0],
    [0.0, 1.0, 0.0, -40.0],
    [0.0, 0.0, 1.0, -20.0],
];

#[test]
fn ten_runs_give_identical_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("head_T1w.nii");
    write(&path, [60, 72, 40], RAS, &phantom([60, 72, 40]));
    let segmenter = segmenter();
    let request = fast(stock(
        &path,
        &["whole brain", "white matter", "left thalamus", "ventricles"],
    ));
    let mut first: Option<(Segmentation, Vec<Vec<u8>>)> = None;
    for run in 0..10 {
        let result = segmenter
            .segment(&request, &mut ())
            .expect("a segmentation");
        let out = folder.path().join(format!("out{run}"));
        let paths = result.write(&out).expect("the files");
        // The report holds timings; all else must not change.
        let files: Vec<Vec<u8>> = paths[..4]
            .iter()
            .map(|path| std::fs::read(path).expect("a result"))
            .collect();
        match &first {
            None => {
                assert!(
                    result.labels.iter().any(|label| *label != 0),
                    "something is found"
                );
                first = Some((result, files));
            }
            Some((before, same)) => {
                assert_eq!(before.labels, result.labels, "run {run}");
                assert_eq!(*same, files, "run {run}");
            }
        }
    }
}

#[test]
fn a_turned_copy_of_a_head_gives_the_same_mask_in_space() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let shape = [50, 60, 44];
    let values = phantom(shape);
    let straight = folder.path().join("straight_T1w.nii");
    write(&straight, shape, RAS, &values);
    // The same voxels with axes z, -x, y.
    let turned_shape = [shape[2], shape[0], shape[1]];
    let at = |x: usize, y: usize, z: usize| x + shape[0] * (y + shape[1] * z);
    let mut turned = Vec::new();
    for c in 0..turned_shape[2] {
        for b in 0..turned_shape[1] {
            for a in 0..turned_shape[0] {
                turned.push(values[at(shape[0] - 1 - b, c, a)]);
            }
        }
    }
    let x = f64::from(shape[0] as u32 - 1);
    let rows = [
        [0.0, -1.0, 0.0, -30.0 + x],
        [0.0, 0.0, 1.0, -40.0],
        [1.0, 0.0, 0.0, -20.0],
    ];
    let other = folder.path().join("turned_T1w.nii");
    write(&other, turned_shape, rows, &turned);
    let segmenter = segmenter();
    let names = ["whole brain", "left cerebral hemisphere", "right putamen"];
    let request = |path: &Path| {
        let mut request = stock(path, &names);
        request.views = vec![View::Axial, View::Sagittal];
        request
    };
    let one = segmenter
        .segment(&request(&straight), &mut ())
        .expect("a segmentation");
    let two = segmenter
        .segment(&request(&other), &mut ())
        .expect("a segmentation");
    assert!(
        one.labels.iter().any(|label| *label != 0),
        "something is found"
    );
    let mut n = 0;
    for c in 0..turned_shape[2] {
        for b in 0..turned_shape[1] {
            for a in 0..turned_shape[0] {
                assert_eq!(two.labels[n], one.labels[at(shape[0] - 1 - b, c, a)]);
                n += 1;
            }
        }
    }
}

#[test]
fn volumes_that_cannot_go_together_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (here, there) = (
        folder.path().join("here_T1w.nii"),
        folder.path().join("there_T2w.nii"),
    );
    let shape = [40, 40, 40];
    write(&here, shape, RAS, &phantom(shape));
    let mut far = RAS;
    far[2][3] = 500.0;
    write(&there, shape, far, &phantom(shape));
    let segmenter = segmenter();
    let mut request = fast(stock(&here, &["whole brain"]));
    request.inputs.push(Input::new(&there));
    let error = segmenter
        .segment(&request, &mut ())
        .expect_err("no overlap")
        .to_string();
    assert!(
        error.contains("there_T2w.nii") && error.contains("field of view"),
        "{error}"
    );
    request.inputs[1] = Input::new(&here);
    let error = segmenter
        .segment(&request, &mut ())
        .expect_err("the same file")
        .to_string();
    assert!(error.contains("given twice"), "{error}");
    let mut request = stock(&here, &["whole brain"]);
    request.fast = true;
    assert!(
        matches!(
            segmenter.segment(&request, &mut ()),
            Err(Error::Argument(_))
        ),
        "fast with three views"
    );
}

#[test]
fn without_a_language_model_the_built_in_instructions_serve_and_it_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("head_T1w.nii");
    write(&path, [40, 40, 40], RAS, &phantom([40, 40, 40]));
    let options = Options {
        gpu: GpuOptions {
            checked: true,
            ..GpuOptions::default()
        },
        // A model folder that holds nothing, and a checkpoint that is not there.
        model_dir: Some(folder.path().join("nothing")),
        language_model: None,
        ..Options::default()
    };
    let segmenter = Segmenter::open(&options).expect("a segmenter");
    let mut request = fast(stock(&path, &["whole brain"]));
    if segmenter.writer().is_ok() {
        println!("not checked: the Hugging Face cache of this machine holds the language model");
        return;
    }
    request.instruct = Instruct::Auto;
    let result = segmenter
        .segment(&request, &mut ())
        .expect("a segmentation");
    assert_eq!(result.report.instructions[0].author, Author::Stock);
    assert!(
        result
            .report
            .warnings
            .iter()
            .any(|w| w.contains("keraunos pull")),
        "{:?}",
        result.report.warnings
    );
    request.instruct = Instruct::Llm;
    assert!(matches!(
        segmenter.segment(&request, &mut ()),
        Err(Error::MissingModel { .. })
    ));
}

/// The language model writes, what it writes is used and reported; the user's own words go first.
#[test]
fn instructions_are_written_reported_and_may_be_given() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("head_T1w.nii");
    write(&path, [48, 48, 40], RAS, &phantom([48, 48, 40]));
    let segmenter = segmenter();
    let mut request = fast(stock(
        &path,
        &["left putamen", "fourth ventricle", "thalamus"],
    ));
    request.instructions[2] = Some("Outline both thalami on this <view> slice.".into());
    request.instruct = Instruct::Llm;
    let run = || match segmenter.segment(&request, &mut ()) {
        Err(error @ Error::MissingModel { .. }) => {
            panic!("{error}; or `make models`, which `make test` does")
        }
        result => result.expect("a segmentation").report,
    };
    let report = run();
    let texts: Vec<&str> = report
        .instructions
        .iter()
        .map(|i| i.text.as_str())
        .collect();
    for (instruction, words) in report
        .instructions
        .iter()
        .zip([["left", "putamen"], ["fourth", "ventricle"]])
    {
        let text = instruction.text.to_lowercase();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
        assert!(
            instruction.author == Author::Llm || instruction.replaced.is_some(),
            "{instruction:?}"
        );
    }
    assert_eq!(
        (texts[2], report.instructions[2].author),
        ("Outline both thalami on this <view> slice.", Author::User)
    );
    assert_eq!(report.weights.len(), 3, "hashes of all three models");
    let again = run();
    assert!(
        again.instructions.iter().map(|i| i.text.as_str()).eq(texts),
        "greedy decoding repeats itself"
    );
}

/// A map of boxes: label 17 (left hippocampus) in the left half, 53 in the right, 214 (whole brain) between.
fn boxes(shape: [usize; 3]) -> Vec<f32> {
    let [nx, ny, nz] = shape;
    let voxel = |x: usize, y: usize, z: usize| {
        let inside = (ny / 3..ny / 2).contains(&y) && (nz / 3..nz / 2).contains(&z);
        match x * 6 / nx {
            1 if inside => 17.0,
            3 if inside => 214.0,
            4 if inside => 53.0,
            _ => 0.0,
        }
    };
    let rows = (0..nz).flat_map(|z| (0..ny).map(move |y| (y, z)));
    rows.flat_map(|(y, z)| (0..nx).map(move |x| voxel(x, y, z)))
        .collect()
}

#[test]
fn every_wording_is_judged_by_the_truth_of_its_structure() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scan, truth) = (
        folder.path().join("a_T1w.nii"),
        folder.path().join("truth.nii"),
    );
    let shape = [36, 36, 24];
    write(&scan, shape, RAS, &phantom(shape));
    write(&truth, shape, RAS, &boxes(shape));
    // Its kernels are checked by the other tests; here a language model writes much.
    let segmenter = Segmenter::open(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let effect = |truth: &Path, pairs: &[Pair]| {
        instruction_effect(&segmenter, Input::new(&scan), truth, pairs, &mut ())
    };
    let found = effect(&truth, &[]).expect("an outcome");
    let counts: Vec<(Wording, usize)> = found
        .rows
        .iter()
        .map(|r| (r.wording, r.structures))
        .collect();
    let want = Wording::ALL.map(|w| (w, if w == Wording::WrongSide { 2 } else { 3 }));
    assert_eq!(counts, want);
    assert_eq!(found.rows[0].effect, 0.0);
    // The masks are those of an ordinary segmentation.
    let mut masks = Masks::default();
    let names = ["whole brain", "left hippocampus", "right hippocampus"];
    segmenter
        .segment(&stock(&scan, &names), &mut masks)
        .expect("masks");
    let map = boxes(shape);
    let mut drawn = 0;
    for (name, label, other) in [
        ("left hippocampus", 17.0, "right hippocampus"),
        ("right hippocampus", 53.0, "left hippocampus"),
        ("whole brain", 214.0, ""),
    ] {
        let truly: Vec<bool> = map.iter().map(|v| *v == label).collect();
        let of = |wording: Wording| {
            let mut own = found
                .drawn
                .iter()
                .filter(|d| d.structure == name && d.wording == wording);
            own.next().expect("an outcome").clone()
        };
        let expected = |mask: &[bool]| {
            if mask.contains(&true) {
                dice(mask, &truly)
            } else {
                0.0
            }
        };
        assert!(
            (of(Wording::Stock).dice - expected(&masks.0[name])).abs() < 1e-9,
            "{name}"
        );
        drawn += masks.0[name].iter().filter(|v| **v).count();
        if !other.is_empty() {
            let wrong = of(Wording::WrongSide);
            assert!(
                (wrong.dice - expected(&masks.0[other])).abs() < 1e-9,
                "{name}"
            );
            assert!(wrong.instruction.contains(other), "{}", wrong.instruction);
        }
        let (dice, iou) = (of(Wording::Stock).dice, of(Wording::Stock).iou);
        assert!((dice - 2.0 * iou / (1.0 + iou)).abs() < 1e-9);
        assert_eq!(of(Wording::Empty).instruction, "");
    }
    assert!(drawn > 0, "nothing was drawn");

    let pair = |text: &str| text.parse::<Pair>().expect("a pair");
    let paired = effect(&truth, &[pair("left putamen=17")]).expect("an outcome");
    assert_eq!(paired.rows[0].structures, 1);
    let refuse = |truth: &Path, pairs: &[Pair], wanted: &str| {
        let error = effect(truth, pairs).expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{error}");
    };
    refuse(
        &truth,
        &[pair("left putamen=99")],
        "has no voxel of `left putamen`",
    );
    refuse(&truth, &[pair("999=17")], "`999` is no structure's label");
    let nothing = folder.path().join("nothing.nii");
    write(&nothing, shape, RAS, &vec![0.0; shape.iter().product()]);
    refuse(&nothing, &[], "no label of");
    let elsewhere = folder.path().join("elsewhere.nii");
    let mut moved = RAS;
    moved[0][3] += 5.0;
    write(&elsewhere, shape, moved, &boxes(shape));
    refuse(&elsewhere, &[], "not one grid");
}

/// A volume of more bytes than the adapter binds, as a whole body is on a small adapter, comes out as on a large one.
#[test]
fn a_volume_larger_than_a_binding_is_fused_in_parts() {
    let large = segmenter();
    let small = Segmenter::open(&Options {
        gpu: GpuOptions {
            checked: true,
            max_binding_bytes: Some(32 << 20),
            ..GpuOptions::default()
        },
        ..Options::default()
    })
    .unwrap_or_else(|error| panic!("{error}"));
    let folder = tempfile::tempdir().expect("a folder");
    // 40 MB each: of few axial slices, and of few sagittal ones.
    for (shape, view) in [
        ([500, 500, 40], View::Axial),
        ([40, 500, 500], View::Sagittal),
    ] {
        let made = nifti::Made::new(shape, 2);
        let [nx, ny, _] = shape;
        let values = (0..made.voxels()).map(|v| {
            let at = [v % nx, v / nx % ny, v / (nx * ny)];
            let part =
                |axis: usize| (2.0 * at[axis] as f64 / (shape[axis] - 1) as f64 - 1.0).powi(2);
            match part(0) + part(1) + part(2) {
                r if r < 0.2 => 60.0,
                r if r < 1.0 => 110.0 + (v % 13) as f64,
                _ => 5.0,
            }
        });
        let path = folder.path().join("large.nii");
        std::fs::write(&path, made.file(&values.collect::<Vec<_>>())).expect("a volume");
        let mut request = Request::new(vec![Input {
            path,
            modality: Some(Modality::T1),
        }]);
        for name in ["whole brain", "left thalamus"] {
            request = request.find(name).expect("a known structure");
        }
        (request.instruct, request.views) = (Instruct::Stock, vec![view]);
        let [(whole, masks), (parts, part_masks)] = [&large, &small].map(|segmenter| {
            let mut masks = Masks::default();
            let done = segmenter.segment(&request, &mut masks);
            (done.unwrap_or_else(|error| panic!("{error}")), masks)
        });
        assert_eq!(whole.labels, parts.labels, "{view:?}");
        assert_eq!(masks.0, part_masks.0, "{view:?}");
        assert!(
            masks.0["whole brain"].iter().any(|inside| *inside),
            "{view:?}"
        );
        for (a, b) in whole.structures.iter().zip(&parts.structures) {
            assert_eq!(a.predicted_dice, b.predicted_dice, "{view:?}");
        }
    }
}
