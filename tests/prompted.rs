//! Boxes and points in slices of volumes, beside transformers' processor for SAM.

#[path = "support/model_files.rs"]
mod model_files;
#[path = "support/nifti.rs"]
mod nifti;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keraunos::gpu::GpuOptions;
use keraunos::models::sam::Prompt;
use keraunos::pipeline::geometry::Grid;
use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::prepare::{Slice, View};
use keraunos::pipeline::preview::Style;
use keraunos::pipeline::prompted::{
    Corners, Frame, LEAST_IOU, Picture, Point, Preprocessing, PromptedRequest, PromptedSegmenter,
    levels,
};
use keraunos::pipeline::structures::Target;
use keraunos::pipeline::volume::Volume;
use keraunos::pipeline::{DrawnMask, Input, Observer, Segmentation};
use keraunos::tensor::Precision;
use model_files::{hashed, model_folder};
use nifti::Made;
use serde_json::Value;
use support::close;

fn golden(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let text = std::fs::read_to_string(path.join(file)).expect("the goldens");
    serde_json::from_str(&text).expect("JSON")
}

fn numbers<T: serde::de::DeserializeOwned>(value: &Value) -> Vec<T> {
    serde_json::from_value(value.clone()).expect("numbers")
}

/// Compares every so-manyth value with a golden's.
#[track_caller]
fn sampled(what: &Value, got: &[f32], abs: f64) {
    let stride = what[0].as_u64().expect("a stride") as usize;
    let got: Vec<f32> = got.iter().step_by(stride).copied().collect();
    close(&got, &numbers::<f32>(&what[1]), abs, 1e-5);
}

#[test]
fn pictures_and_masks_equal_the_models_own_processors() {
    for (n, case) in golden("sam_slices.json")["pictures"]
        .as_array()
        .expect("pictures")
        .iter()
        .enumerate()
    {
        let number = |key: &str| case[key].as_u64().expect("a number") as usize;
        let (size, rows, cols) = (number("size"), number("rows"), number("cols"));
        let grey = hashed(&format!("picture{n}"), rows * cols);
        let slice = Slice {
            rows,
            cols,
            data: grey.iter().map(|v| ((v + 1.0) * 128.0) as u8).collect(),
        };
        let logits: Vec<f32> = hashed(&format!("logits{n}"), 256)
            .iter()
            .map(|v| 8.0 * v)
            .collect();
        let rgb = |picture: &Picture| -> Vec<f32> {
            let pixels = picture.pixels.chunks_exact(4);
            pixels.flat_map(|pixel| pixel[..3].to_vec()).collect()
        };
        let sam = Picture::new(&slice, size, Preprocessing::Sam);
        sampled(&case["sam"], &rgb(&sam), 1e-5);
        sampled(&case["sam_back"], &sam.restored(&logits, 16), 1e-5);
        let prompt = Prompt {
            points: vec![([cols as f32 * 0.25, rows as f32 * 0.5], true)],
            corners: None,
        };
        let at = sam.scaled(&prompt).points[0].0;
        close(&at, &numbers::<f32>(&case["at"]), 1e-5, 1e-6);
        let medsam = Picture::new(&slice, size, Preprocessing::MedSam);
        // A sum that lies on a whole level may be cut to the one below, of at least 250.
        sampled(&case["medsam"], &rgb(&medsam), 1.01 / 250.0);
        sampled(&case["medsam_back"], &medsam.restored(&logits, 16), 1e-6);
    }
}

/// A volume in a file of its own.
fn file(folder: &Path, shape: [usize; 3], rows: [[f64; 4]; 3], data: &[f64]) -> PathBuf {
    let mut made = Made::new(shape, 16);
    made.rows.1 = rows;
    let path = folder.join("scan_T1w.nii");
    std::fs::write(&path, made.file(data)).expect("a volume");
    path
}

#[test]
fn levels_equal_medsams_preparation() {
    let wanted = golden("sam_slices.json");
    let mut values: Vec<f64> = hashed("intensities", 120)
        .iter()
        .map(|v| f64::from((v * 300.0).round_ties_even()))
        .collect();
    values.iter_mut().step_by(7).for_each(|v| *v = 0.0);
    let folder = tempfile::tempdir().expect("a folder");
    let unit = [[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.]];
    let volume = Volume::read(&file(folder.path(), [4, 5, 6], unit, &values)).expect("a volume");
    for (name, modality) in [("mr", Modality::T2), ("ct", Modality::Ct)] {
        let want: Vec<u8> = numbers(&wanted["levels"][name]);
        let got = levels(&volume, modality);
        // A product that lies on a whole number may be cut to the one below.
        let off = want.iter().zip(&got).filter(|(a, b)| a.abs_diff(**b) > 1);
        assert_eq!(off.count(), 0, "{name}: {want:?}, {got:?}");
        let other = want.iter().zip(&got).filter(|(a, b)| a != b).count();
        assert!(other < 3, "{name}: {other} differ");
    }
}

/// The logits of each object, and the segmentation.
#[derive(Default)]
struct Kept(BTreeMap<String, Vec<f32>>);

impl Observer for Kept {
    fn drawn(&mut self, drawn: &DrawnMask) -> keraunos::Result<()> {
        let name = drawn.target.name.clone();
        self.0.insert(name, drawn.logits.to_vec());
        Ok(())
    }
}

/// The small model of the goldens; `iou`, if given, is what it believes of every mask.
fn small(folder_name: &str, iou: Option<f32>) -> (tempfile::TempDir, PathBuf) {
    let case = &golden("sam.json")["small"];
    let tensors: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(case["tensors"].clone()).expect("tensors");
    let made = model_folder(&case["config"], &tensors, str::to_owned);
    let weights = made.path().join("model.safetensors");
    if let Some(iou) = iou {
        let mut bytes = std::fs::read(&weights).expect("weights");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("a length")) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
        for (part, value) in [("weight", 0.0), ("bias", iou)] {
            let name = format!("mask_decoder.iou_prediction_head.proj_out.{part}");
            let at: Vec<usize> = numbers(&header[name]["data_offsets"]);
            for place in (at[0]..at[1]).step_by(4) {
                bytes[8 + length + place..][..4].copy_from_slice(&value.to_le_bytes());
            }
        }
        std::fs::write(&weights, bytes).expect("weights");
    }
    let path = made.path().join(folder_name);
    std::fs::create_dir(&path).expect("a folder");
    for name in ["config.json", "model.safetensors"] {
        std::fs::rename(made.path().join(name), path.join(name)).expect("moved");
    }
    (made, path)
}

fn segmenter(model: &Path) -> PromptedSegmenter {
    let options = GpuOptions {
        checked: true,
        ..GpuOptions::default()
    };
    let gpu = keraunos::gpu::Gpu::open(&options).expect("an adapter");
    PromptedSegmenter::on(gpu, model, Precision::Auto).expect("a model")
}

fn request(path: PathBuf) -> PromptedRequest {
    PromptedRequest {
        input: Input::new(path),
        view: View::Axial,
        corners: Vec::new(),
        points: Vec::new(),
        millimetres: false,
        targets: Vec::new(),
        reach: None,
        tables: Vec::new(),
        preview: Style::default(),
    }
}

/// The golden's volume, which runs left, inferior, anterior.
fn volume(folder: &Path) -> (PathBuf, [usize; 3], Value) {
    let slice = golden("sam_slices.json")["slice"].clone();
    let shape: Vec<usize> = numbers(&slice["shape"]);
    let shape: [usize; 3] = shape.try_into().expect("three");
    let rows: [[f64; 4]; 3] = serde_json::from_value(slice["affine"].clone()).expect("an affine");
    let mut data: Vec<f64> = hashed("volume", shape.iter().product())
        .iter()
        .map(|v| f64::from((v.abs() * 400.0).floor()))
        .collect();
    for z in 0..shape[2] {
        data[shape[0] * shape[1] * z..][..4].fill(0.0);
    }
    (file(folder, shape, rows, &data), shape, slice)
}

#[test]
fn a_slice_of_a_turned_volume_equals_transformers() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, shape, slice) = volume(folder.path());
    let given: Vec<f64> = numbers(&slice["box"]);
    let (_made, model) = small("sam", None);
    let segmenter = segmenter(&model);
    let j = given[4] as usize;
    let in_millimetres = |at: [f64; 3]| -> [f64; 3] {
        let rows: [[f64; 4]; 3] =
            serde_json::from_value(slice["affine"].clone()).expect("an affine");
        rows.map(|row| row[0] * at[0] + row[1] * at[1] + row[2] * at[2] + row[3])
    };
    let low = in_millimetres([given[0], given[4], given[1]]);
    let high = in_millimetres([given[2], given[4], given[3]]);
    for (millimetres, corners, through) in [
        (
            false,
            [[given[0], given[1]], [given[2], given[3]]],
            given[4],
        ),
        // Whichever corners are given.
        (
            false,
            [[given[2], given[1]], [given[0], given[3]]],
            given[4],
        ),
        (true, [[low[0], low[1]], [high[0], high[1]]], low[2]),
    ] {
        let request = PromptedRequest {
            corners: vec![Corners {
                corners,
                slice: Some(through),
            }],
            millimetres,
            reach: Some(0),
            ..request(path.clone())
        };
        let mut kept = Kept::default();
        let found = segmenter.segment(&request, &mut kept).expect("a mask");
        let values = &kept.0["object 1"];
        let want: Vec<f32> = numbers(&slice["values"]);
        let at = |x: usize, y: usize, z: usize| x + shape[0] * (y + shape[1] * z);
        let mut got = Vec::new();
        for z in 0..shape[2] {
            got.extend((0..shape[0]).map(|x| values[at(x, j, z)]));
        }
        let scale = want.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
        close(&got, &want, f64::from(scale) * 1e-3, 0.0);
        // The map has the mask in that slice and nothing elsewhere.
        let label = found.structures[0].label;
        for (n, value) in found.labels.iter().enumerate() {
            let inside = n / shape[0] % shape[1] == j && values[n] > 0.0;
            assert_eq!(*value == label, inside, "voxel {n}");
        }
        let followed = &found.report.followed[0];
        assert_eq!((followed.slice, followed.slices.len()), (j, 1));
        let iou = slice["iou"].as_f64().expect("a number") as f32;
        close(&[followed.slices[0].predicted_iou], &[iou], 2e-3, 0.0);
        assert_eq!(followed.ended, ["as far as was asked"; 2]);
    }
}

/// What a request finds, and the slices of its objects as the file counts them.
fn slices(segmentation: &Segmentation) -> Vec<Vec<usize>> {
    let each = segmentation.report.followed.iter();
    each.map(|object| {
        let mut slices: Vec<usize> = object.slices.iter().map(|found| found.slice).collect();
        slices.sort_unstable();
        slices
    })
    .collect()
}

#[test]
fn objects_are_followed_while_the_model_believes_in_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, shape, _) = volume(folder.path());
    let corners = |text: &str| text.parse::<Corners>().expect("a box");
    let (_sure, model) = small("sam", Some(0.9));
    let sure = segmenter(&model);
    let (_unsure, model) = small("sam", Some(LEAST_IOU - 0.01));
    let unsure = segmenter(&model);
    let two = PromptedRequest {
        corners: vec![corners("6,4,19,17,3"), corners("10,8,24,20,1")],
        ..request(path.clone())
    };
    let found = sure.segment(&two, &mut ()).expect("masks");
    let all: Vec<usize> = (0..shape[1]).collect();
    assert_eq!(slices(&found), [all.clone(), all]);
    for object in &found.report.followed {
        assert_eq!(object.ended, ["the volume ends"; 2]);
    }
    let names: Vec<&str> = found.structures.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["object 1", "object 2"]);
    assert_eq!(found.report.preprocessing, Some(Preprocessing::Sam));
    // The same objects one by one are the same masks.
    let alone = PromptedRequest {
        corners: vec![corners("10,8,24,20,1")],
        ..request(path.clone())
    };
    let (mut both, mut one) = (Kept::default(), Kept::default());
    sure.segment(&two, &mut both).expect("masks");
    sure.segment(&alone, &mut one).expect("a mask");
    assert_eq!(both.0["object 2"], one.0["object 1"]);
    // No farther than is asked, or than the model believes.
    let near = PromptedRequest {
        reach: Some(1),
        ..two.clone()
    };
    let found = sure.segment(&near, &mut ()).expect("masks");
    assert_eq!(slices(&found), [vec![2, 3, 4], vec![0, 1, 2]]);
    let found = unsure.segment(&two, &mut ()).expect("masks");
    assert_eq!(slices(&found), [[3], [1]]);
    for object in &found.report.followed {
        assert_eq!(object.ended, ["the predicted IoU is too low"; 2]);
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, ..) = volume(folder.path());
    let (_made, model) = small("MedSAM-small", None);
    let segmenter = segmenter(&model);
    assert_eq!(segmenter.preprocessing(), Preprocessing::MedSam);
    let refused = |boxes: &[&str], points: &[&str], names: &[&str], wanted: &str| {
        let request = PromptedRequest {
            corners: boxes.iter().map(|text| text.parse().expect(text)).collect(),
            points: points
                .iter()
                .map(|text| text.parse().expect(text))
                .collect(),
            targets: names
                .iter()
                .map(|name| Target::find(name).expect(name))
                .collect(),
            ..request(path.clone())
        };
        let error = segmenter.segment(&request, &mut ()).expect_err(wanted);
        assert!(error.to_string().contains(wanted), "{wanted}: {error}");
    };
    refused(&[], &[], &[], "neither --box nor --point");
    refused(&[], &["3,4,5,-"], &[], "no --point lies in the object");
    refused(
        &["1,1,5,5", "2,2,6,6"],
        &["3,4"],
        &[],
        "--point with several --box",
    );
    refused(
        &["1,1,30,5,2"],
        &[],
        &[],
        "--box 1,1,30,5,2 lies outside the volume of 30 x 5 x 24",
    );
    refused(&["1,1,5,5,5"], &[], &[], "voxels 0,0,0 to 29,4,23");
    refused(
        &[],
        &["3,4,5", "3,3,5"],
        &[],
        "--point 3,4,5,+ and --point 3,3,5,+ lie in two axial",
    );
    refused(&["1,1,5,5,2"], &["3,1,5"], &[], "lie in two axial slices");
    refused(
        &["1,1,5,5"],
        &[],
        &["thalamus", "putamen"],
        "2 times --find for 1 objects",
    );
    refused(
        &["1,1,5,5", "2,2,6,6"],
        &[],
        &["thalamus", "thalamus"],
        "asked for twice",
    );
    for (text, wanted) in [
        ("1,2,3", "3 numbers, expected 4 or 5"),
        ("1,2,3,x", "`x` is no number"),
        ("1,2,3,inf", "`inf` is no number"),
        ("", "1 numbers, expected 4 or 5"),
    ] {
        let error = text.parse::<Corners>().expect_err(text);
        assert!(error.contains(wanted), "{text}: {error}");
    }
    for (text, wanted) in [
        ("1", "expected 2 or 3"),
        ("1,2,3,4", "4 numbers"),
        ("1,+,3", "`+`"),
    ] {
        let error = text.parse::<Point>().expect_err(text);
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn places_are_those_of_the_file_in_every_orientation() {
    let shape = [12, 10, 8];
    for orientation in keraunos::pipeline::geometry::Orientation::all() {
        let mut affine = [[0.0; 4]; 3];
        for axis in 0..3 {
            let sign = if orientation.flips[axis] { -1.0 } else { 1.0 };
            affine[orientation.axes[axis]][axis] = sign * [1.5, 2.0, 0.8][axis];
        }
        (0..3).for_each(|world| affine[world][3] = [-3.0, 11.0, 7.0][world]);
        let grid = Grid { shape, affine };
        for view in View::ALL {
            let voxel = [7.0, 3.0, 5.0];
            let place = |at: [f64; 3], millimetres| {
                let point = Point {
                    at: [at[0], at[1]],
                    third: Some(at[2]),
                    inside: true,
                };
                let frame = Frame::new(&grid, view, millimetres);
                (frame.place(None, &[point]).expect("inside"), frame)
            };
            let (placed, frame) = place(voxel, false);
            let world: [f64; 3] = keraunos::pipeline::geometry::apply(&affine, voxel);
            assert_eq!(place(world, true).0.slice, placed.slice);
            // The voxel that the pixel shows is the one that was meant.
            let canonical = frame.canonical();
            let mut marked = vec![0_u8; shape.iter().product()];
            marked[7 + 12 * (3 + 10 * 5)] = 1;
            let marked = keraunos::pipeline::geometry::reorient(&marked, shape, orientation);
            let shown = view.slice(&marked, canonical, placed.slice);
            let [col, row] = placed.prompt.points[0].0;
            assert_eq!(shown.data[row as usize * shown.cols + col as usize], 1);
            let along = (0..3)
                .find(|n| orientation.axes[*n] == view.axis())
                .expect("an axis");
            assert_eq!(frame.native_slice(placed.slice), voxel[along] as usize);
        }
    }
}
