//! A Zeus of several checkpoints beside its parts in transformers, from volumes and words to logits on the volume's grid.

#[path = "support/model_files.rs"]
mod model_files;
#[path = "support/nifti.rs"]
mod nifti;
mod support;
#[path = "support/zeus_files.rs"]
mod zeus_files;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use keraunos::gpu::{Gpu, GpuOptions};
use keraunos::pipeline::assembly::Assembly;
use keraunos::pipeline::home::Home;
use keraunos::pipeline::prepare::View;
use keraunos::pipeline::text_tower::TextTower;
use keraunos::pipeline::volume::Volume;
use keraunos::pipeline::zeus_sam::ZeusSamSegmenter;
use keraunos::pipeline::{DrawnMask, Fusion, Input, Instruct, Observer, Request, Segmentation};
use keraunos::tensor::Precision;
use serde_json::Value;
use support::close;
use zeus_files::{golden, model_json, volume, write_json, zeus};

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

fn gpu() -> Gpu {
    let options = GpuOptions {
        checked: true,
        ..GpuOptions::default()
    };
    Gpu::open(&options).expect("an adapter")
}

fn segmenter(folder: &Path, precision: Precision) -> keraunos::Result<ZeusSamSegmenter> {
    let assembly = Assembly::open(&Assembly::at(folder).expect("a model.json"))?;
    let home = Home::at(folder, None);
    ZeusSamSegmenter::on(gpu(), Arc::new(assembly), home, None, precision)
}

/// The ring and the left lump in volumes of some modalities, in the template's words.
fn request(folder: &Path, modalities: &[&str]) -> Request {
    let inputs = modalities
        .iter()
        .map(|modality| Input::new(volume(folder, modality)));
    let mut request = Request::new(inputs.collect());
    let model = Assembly::open(&folder.join("model.json")).expect("a model");
    let catalogue = model.catalogue().expect("structures").expect("some");
    for name in ["ring", "left bump"] {
        request
            .targets
            .push(catalogue.find(name).expect("a structure"));
        request.instructions.push(None);
    }
    request.instruct = Instruct::Stock;
    request
}

fn run(segmenter: &ZeusSamSegmenter, request: &Request) -> (Segmentation, Kept) {
    let mut kept = Kept::default();
    let result = segmenter.segment(request, &mut kept);
    (result.unwrap_or_else(|error| panic!("{error}")), kept)
}

/// Compares a case of the goldens; `share` of the largest logit is let pass.
fn equals(folder: &Path, segmenter: &ZeusSamSegmenter, name: &str, case: &Value, share: f32) {
    let texts =
        |key: &str| -> Vec<String> { serde_json::from_value(case[key].clone()).expect("texts") };
    let modalities = texts("modalities");
    let modalities: Vec<&str> = modalities.iter().map(String::as_str).collect();
    let mut request = request(folder, &modalities);
    request.views = serde_json::from_value(case["views"].clone()).expect("views");
    request.fusion = serde_json::from_value(case["fusion"].clone()).expect("a fusion");
    let (result, kept) = run(segmenter, &request);
    for (structure, target) in result.structures.iter().zip(["ring", "left lump"]) {
        let want = &case["found"][target];
        let stride = want["logits"][0].as_u64().expect("a stride") as usize;
        let logits: Vec<f32> = serde_json::from_value(want["logits"][1].clone()).expect("logits");
        // Nothing is there where no slice speaks.
        let of = |v: &f32| v.max(-1e30);
        let got: Vec<f32> = kept.0[target].iter().step_by(stride).map(of).collect();
        let scale = logits
            .iter()
            .filter(|v| **v > -1e29)
            .fold(0.0_f32, |m, v| m.max(v.abs()));
        let off = got
            .iter()
            .zip(&logits)
            .fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        println!("{name} {target}: {off:.2e} of {scale:.2}");
        assert!(
            off <= share * scale,
            "{name} {target}: off by {off:e} of {scale}"
        );
        let voxels = kept.0[target].iter().filter(|v| **v > 0.0).count();
        let wanted = want["voxels"].as_u64().expect("a number") as usize;
        assert!(
            wanted > 0 && wanted < kept.0[target].len(),
            "{name} {target}: {wanted}"
        );
        let some = (share * 100.0 * wanted as f32).ceil() as usize;
        assert!(
            voxels.abs_diff(wanted) <= some,
            "{name} {target}: {voxels} of {wanted}"
        );
        let dice: f32 = serde_json::from_value(want["dice"].clone()).expect("a Dice");
        close(
            &[structure.predicted_dice.expect("a Dice")],
            &[dice],
            f64::from(share),
            0.0,
        );
    }
    assert_eq!(result.report.fusion, request.fusion);
    assert_eq!(result.report.views, request.views);
}

#[test]
fn every_fusion_and_view_equals_the_parts_in_transformers() {
    let folder = zeus();
    let segmenter = segmenter(folder.path(), Precision::F32).expect("a model");
    for (name, case) in golden()["cases"].as_object().expect("cases") {
        equals(folder.path(), &segmenter, name, case, 2e-5);
    }
}

#[test]
fn half_precision_is_within_a_hundredth() {
    let folder = zeus();
    let segmenter = segmenter(folder.path(), Precision::F16).expect("a model");
    equals(
        folder.path(),
        &segmenter,
        "late",
        &golden()["cases"]["late"],
        1e-2,
    );
}

#[test]
fn words_become_the_same_tokens() {
    let folder = zeus();
    let tokenizer = keraunos::pipeline::tokenizer::SentenceTokenizer::from_folder(
        &folder.path().join("medclip"),
        40,
    );
    let tokenizer = tokenizer.expect("a tokenizer");
    let tokens = golden()["tokens"].clone();
    for (text, ids) in tokens.as_object().expect("texts") {
        let ids: Vec<u32> = serde_json::from_value(ids.clone()).expect("ids");
        assert_eq!(tokenizer.encode(text).expect("tokens").ids, ids, "{text}");
    }
}

#[test]
fn a_volume_that_lies_otherwise_gives_the_same_map() {
    let folder = zeus();
    let segmenter = segmenter(folder.path(), Precision::F32).expect("a model");
    let mut request = request(folder.path(), &["t1", "t2"]);
    request.views = vec![View::Axial];
    request.fusion = Fusion::Hybrid;
    let (_, wanted) = run(&segmenter, &request);
    // The second modality again, stored from left to right and from back to front.
    let shape: [usize; 3] = serde_json::from_value(golden()["shape"].clone()).expect("a shape");
    let (t2, [nx, ny, _]) = (
        Volume::read(&request.inputs[1].path).expect("a volume"),
        shape,
    );
    let mut made = nifti::Made::new(shape, 16);
    made.rows.1 = [
        [-1., 0., 0., nx as f64 - 1.],
        [0., -1., 0., ny as f64 - 1.],
        [0., 0., 1., 0.],
    ];
    let plane = nx * ny;
    let mirrored =
        (0..t2.data.len()).map(|n| f64::from(t2.data[n / plane * plane + plane - 1 - n % plane]));
    let other = folder.path().join("other_T2w.nii");
    std::fs::write(&other, made.file(&mirrored.collect::<Vec<_>>())).expect("a volume");
    request.inputs[1] = Input::new(&other);
    let (result, got) = run(&segmenter, &request);
    assert_eq!(result.report.inputs[1].orientation, "LPS");
    for (name, logits) in &wanted.0 {
        assert_eq!(&got.0[name], logits, "{name}");
    }
}

#[test]
fn embeddings_are_of_unit_length_and_long_texts_are_cut() {
    let folder = zeus();
    let gpu = gpu();
    let tower = TextTower::open(&gpu, &folder.path().join("medclip"), None).expect("a tower");
    assert_eq!((tower.kind(), tower.dim()), ("MedCLIP", 32));
    let long = "the ring ".repeat(60);
    let (values, cut) = tower.embed(&gpu, &["the ring", &long]).expect("embeddings");
    assert!(cut);
    for row in values.chunks_exact(32) {
        let length = row
            .iter()
            .map(|v| f64::from(*v).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    let (_, cut) = tower.embed(&gpu, &["the ring"]).expect("embeddings");
    assert!(!cut);
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let folder = zeus();
    let fails = |change: &dyn Fn(&mut Value), words: &[&str]| {
        let mut json = model_json();
        change(&mut json);
        write_json(folder.path(), &json);
        let error = match segmenter(folder.path(), Precision::F32) {
            Ok(_) => panic!("{json} is taken"),
            Err(error) => error.to_string(),
        };
        for word in words {
            assert!(error.contains(word), "{error} lacks {word}");
        }
    };
    fails(
        &|json| json["parts"]["text_encoder"]["pooling"] = "cls".into(),
        &["medclip", "pooling", "MedCLIP"],
    );
    fails(
        &|json| json["parts"]["mask_decoder"] = "nowhere".into(),
        &["nowhere"],
    );
    fails(
        &|json| json["parts"]["mask_decoder"] = "medclip".into(),
        &["medclip", "MedCLIP"],
    );
    fails(
        &|json| json["parts"]["text_projection"] = "sam-t1".into(),
        &["sam-t1", "`weight` is missing"],
    );
    // A projection from something else.
    let tensors = [("weight".to_owned(), vec![128, 64])].into();
    let made = model_files::model_folder(&serde_json::json!({}), &tensors, str::to_owned);
    let other = made.path().join("model.safetensors");
    fails(
        &|json| json["parts"]["text_projection"] = other.to_str().expect("a path").into(),
        &["takes 64 values", "MedCLIP, gives 32"],
    );
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let folder = zeus();
    let segmenter = segmenter(folder.path(), Precision::F32).expect("a model");
    let fails = |change: &dyn Fn(&mut Request), word: &str| {
        let mut request = request(folder.path(), &["t1"]);
        change(&mut request);
        let error = match segmenter.segment(&request, &mut ()) {
            Ok(_) => panic!("it is taken"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(word), "{error} lacks {word}");
    };
    fails(&|request| request.fast = true, "--fast");
    fails(&|request| request.instruct = Instruct::Lvlm, "lvlm");
    fails(&|request| request.targets.clear(), "nothing says what");
    fails(&|request| request.views.clear(), "no view");
    fails(&|request| request.inputs.clear(), "no volume");
    fails(
        &|request| request.inputs[0].modality = Some(keraunos::pipeline::modality::Modality::Pd),
        "has image encoders for T1, T2 alone",
    );
    fails(
        &|request| {
            request.fusion = Fusion::Early;
            request.inputs = vec![request.inputs[0].clone(); 4];
        },
        "early fusion of 4",
    );
}
