//! What the built-in model states of slices, beside PyTorch and transformers.

use std::path::{Path, PathBuf};

use keraunos::Error;
use keraunos::pipeline::describe::lvlm::{Lvlm, projector};
use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::prepare::{Prepared, View};
use keraunos::pipeline::volume::Volume;
use keraunos::pipeline::{Input, Instruct, Options, Request, Segmenter};
use serde::Deserialize;
use serde_json::Value;

mod support;

/// `findings.json`.
#[derive(Deserialize)]
struct Goldens {
    stride: usize,
    scans: Vec<Scan>,
}

#[derive(Deserialize)]
struct Scan {
    scan: String,
    slices: Vec<Slice>,
}

#[derive(Deserialize)]
struct Slice {
    view: View,
    index: usize,
    /// The texts of the answer's tokens, and by how much each one's logit leads.
    pieces: Vec<(String, f32)>,
    tokens: Vec<f32>,
}

/// Two logits, of about 20, that are nearer than this tie: other orders of adding up swap them.
const TIE: f32 = 0.02;

fn golden() -> Goldens {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/findings.json");
    let text = std::fs::read_to_string(path).expect("the goldens");
    serde_json::from_str(&text).expect("JSON")
}

/// A scan of the goldens; one of the shared folder says so when it is not there.
fn located(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if name.starts_with("weights/") {
        return Some(root.join(name));
    }
    let shared = std::env::var_os("KERAUNOS_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| root.join("../shared"));
    let path = shared.join("data").join(name);
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
    Segmenter::on(support::open(true), &Options::default()).expect("the built-in weights")
}

#[test]
fn image_tokens_and_texts_equal_pytorch() {
    let (golden, segmenter) = (golden(), segmenter());
    let gpu = segmenter.gpu();
    let writer = segmenter.writer().expect("the language model");
    let hash = segmenter
        .weights_sha256("segmentation")
        .expect("a hash")
        .expect("weights");
    let lvlm = Lvlm::new(gpu, segmenter.zeus(), &hash, writer.model()).expect("the projector");
    let (mut texts, mut parted) = (0, 0);
    for scan in &golden.scans {
        let Some(path) = located(&scan.scan) else {
            continue;
        };
        let volume = Prepared::new(&Volume::read(&path).expect("a volume")).expect("a head");
        let places: Vec<(View, usize)> = scan.slices.iter().map(|s| (s.view, s.index)).collect();
        for (place, want) in places.iter().zip(&scan.slices) {
            let tokens = lvlm.look(gpu, &volume, &[*place]).expect("image tokens");
            let values = tokens.read(gpu.record("tokens")).expect("values");
            let got: Vec<f32> = values.iter().step_by(golden.stride).copied().collect();
            // Of the size of the tokens; the weights are f16 on both sides, sums f32.
            let scale = want.tokens.iter().fold(0.0f32, |a, v| a.max(v.abs()));
            support::close(&got, &want.tokens, f64::from(1e-3 * scale), 0.0);
        }
        let stated = lvlm
            .findings(gpu, &volume, &places, &mut ())
            .expect("findings");
        for (got, want) in stated.iter().zip(&scan.slices) {
            let place = format!("{} {:?} {}", scan.scan, want.view, want.index);
            texts += 1;
            parted += usize::from(!same_text(&got.text, &want.pieces, &place));
        }
    }
    assert!(
        6 * parted <= texts,
        "{parted} of {texts} texts part from PyTorch's"
    );
}

/// Whether a text is the one of these pieces. It may part from them where two tokens nearly tie, and says so.
fn same_text(text: &str, pieces: &[(String, f32)], place: &str) -> bool {
    let mut rest = text;
    for (piece, lead) in pieces {
        match rest.strip_prefix(piece.as_str()) {
            Some(after) => rest = after,
            None => {
                println!(
                    "{place}: parts from PyTorch's before `{piece}`, which leads by {lead}: `{rest}`"
                );
                assert!(
                    *lead < TIE,
                    "{place}: `{piece}` leads by {lead}, but it goes on with `{rest}`"
                );
                return false;
            }
        }
    }
    assert!(rest.is_empty(), "{place}: goes on with `{rest}`");
    true
}

#[test]
fn the_projector_belongs_to_the_built_in_weights() {
    let segmenter = segmenter();
    let hash = segmenter.weights_sha256("segmentation").expect("a hash");
    let metadata = projector().expect("the projector").metadata();
    // Whoever trains the weights anew trains the projector too: weights/recipe/README.md.
    assert_eq!(metadata.get("vision"), hash.as_ref());
    let writer = segmenter.writer().expect("the language model");
    let other = Lvlm::new(
        segmenter.gpu(),
        segmenter.zeus(),
        "other weights",
        writer.model(),
    );
    let Err(Error::Argument(problem)) = other else {
        panic!("taken for the built-in weights")
    };
    assert!(problem.contains("projector"), "{problem}");
}

#[test]
fn a_volume_of_unknown_kind_is_taken_for_what_is_stated() {
    let Some(path) = located("chris/chris_PD.nii.gz") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let unnamed = folder.path().join("scan.nii.gz");
    std::fs::copy(path, &unnamed).expect("copied");
    let segmenter = segmenter();
    let mut request = Request::new(vec![Input::new(&unnamed)]);
    request = request.find("left thalamus").expect("a structure");
    request.instruct = Instruct::Lvlm;
    let (instructions, _) = segmenter.instruct(&request, &mut ()).expect("instructions");
    assert_eq!(instructions[0].modality, Modality::Pd);
    assert!(
        instructions[0].text.contains("left thalamus"),
        "{}",
        instructions[0].text
    );
}

#[test]
fn the_command_states_each_slice_and_what_they_say_together() {
    let run = |more: &[&str], home: Option<&Path>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keraunos"));
        command.args(["describe", "weights/trial/scan.nii.gz", "--view", "axial"]);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).args(more);
        if let Some(home) = home {
            command.env("KERAUNOS_HOME", home).env("HF_HUB_CACHE", home);
        }
        command.output().expect("the program starts")
    };
    let out = run(&["--slices", "2", "--json"], None);
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{error}");
    let got: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let text = |n: usize| got["findings"][n]["text"].as_str().expect("a text");
    assert_eq!(got["findings"].as_array().map(Vec::len), Some(2));
    assert_eq!(got["findings"][1]["slice"], 12);
    assert_eq!(got["findings"][1]["stated"]["view"], "axial");
    assert_eq!(
        got["summary"]["sequences"],
        serde_json::json!([["T1-weighted MRI", 2]])
    );

    let out = run(&["--slices", "2"], None);
    let lines = String::from_utf8(out.stdout).expect("text");
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(
        lines[..2],
        [
            format!("axial 4: {}", text(0)),
            format!("axial 12: {}", text(1))
        ]
    );
    assert!(
        lines[2].starts_with("of 2 slices: T1-weighted MRI 2; "),
        "{}",
        lines[2]
    );

    let nowhere = tempfile::tempdir().expect("a folder");
    let out = run(&[], Some(nowhere.path()));
    let error = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{error}");
    assert!(error.contains("keraunos pull"), "{error}");
}
