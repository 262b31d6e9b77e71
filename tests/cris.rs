//! CRIS, and CLIP on a ResNet, beside open_clip and PyTorch.

#[path = "support/contract.rs"]
mod contract;
#[path = "support/found.rs"]
mod found;
#[path = "support/model_files.rs"]
mod model_files;
#[path = "support/pictures.rs"]
mod pictures;
mod support;

use std::collections::BTreeMap;

use found::{Found, Kept, cases};
use keraunos::models::clip_rn::ClipRn;
use keraunos::models::cris::Cris;
use keraunos::tensor::{Checkpoint, Precision};
use model_files::model_folder;
use pictures::pictures;
use serde::Deserialize;
use serde_json::json;
use support::gpu;

/// One case of `clip_resnet.json`, `cris.json` or `cris_whole.json`.
#[derive(Deserialize)]
struct Case {
    tensors: BTreeMap<String, Vec<usize>>,
    texts: Vec<Vec<u32>>,
    /// Pixels of a side.
    size: usize,
    /// What goes before all names.
    #[serde(default)]
    wrapper: String,
    found: BTreeMap<String, Found>,
    /// Of each phrase the logits at the size of the picture.
    #[serde(default)]
    enlarged: Vec<Found>,
}

impl Case {
    fn checkpoint(&self) -> (tempfile::TempDir, Checkpoint) {
        let wrapped = |name: &str| format!("{}{name}", self.wrapper);
        let folder = model_folder(&json!({}), &self.tensors, wrapped);
        let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
        (folder, checkpoint)
    }

    fn cris(&self, precision: Precision) -> keraunos::Result<Cris> {
        Cris::new(gpu(), &self.checkpoint().1, self.size, precision)
    }

    fn check_resnet(&self, name: &str, precision: Precision, share: f64) {
        let clip = ClipRn::new(gpu(), &self.checkpoint().1, precision);
        let clip = clip.unwrap_or_else(|e| panic!("{e}"));
        let mut kept = Kept::of(&self.found);
        let rec = gpu().record("clip");
        let texts = clip.texts(&rec, &self.texts, |_, _| ()).expect("texts");
        let pixels = pictures(self.size, 2);
        let images = clip.images(&rec, &pixels, |at, x| kept.keep(at, x));
        kept.keep("text_embeds", &texts);
        kept.keep("image_embeds", &images.expect("pictures"));
        kept.compare(name, rec, &[], share);
    }

    fn check(&self, name: &str, precision: Precision, share: f64) {
        let model = self.cris(precision).unwrap_or_else(|e| panic!("{e}"));
        let mut kept = Kept::of(&self.found);
        let rec = gpu().record("cris");
        let phrases = model.phrases(&rec, &self.texts, |_, _| ());
        let phrases = phrases.expect("phrases");
        kept.keep("vectors", &phrases.vectors);
        let pixels = pictures(self.size, 1);
        let picture = model.encode(&rec, &pixels, |at, x| kept.keep(at, x));
        for (n, words) in phrases.words.iter().enumerate() {
            kept.keep(&format!("{n}.words"), words);
            let shown = |at: &str, x: &_| kept.keep(&format!("{n}.{at}"), x);
            let logits = model.decode(&rec, &picture, &phrases, n, shown);
            kept.keep(&format!("{n}.logits"), &logits);
        }
        let all = kept.compare(name, rec, &[], share);
        for (n, want) in self.enlarged.iter().enumerate() {
            let values = model.enlarged(&all[&format!("{n}.logits")]);
            want.compare(&format!("{name} {n} enlarged"), &values, share);
        }
    }
}

#[test]
fn a_small_clip_on_a_resnet_equals_open_clip() {
    for (name, case) in cases::<Case>("clip_resnet.json") {
        // Sums of f32 against float64; 1e-3 of the scale is asked for.
        case.check_resnet(&name, Precision::Auto, 2e-4);
        case.check_resnet(&name, Precision::F16, 1e-2);
    }
}

#[test]
fn small_models_equal_pytorch() {
    for (name, case) in cases::<Case>("cris.json") {
        case.check(&name, Precision::Auto, 2e-4);
        case.check(&name, Precision::F16, 1e-2);
    }
}

/// CRIS on RN50 at its true size: `cargo test --release --test cris -- --ignored --nocapture`.
#[test]
#[ignore = "half a minute on a software adapter, and 2 GB of memory"]
fn cris_r50_equals_pytorch() {
    for (name, case) in cases::<Case>("cris_whole.json") {
        case.check(&name, Precision::F32, 1e-3);
        case.check(&name, Precision::F16, 1e-2);
    }
}

/// The contract is what the reference of the true size has; `cris_r50_equals_pytorch` loads just that.
#[test]
fn cris_r50_follows_its_contract() {
    let case = cases::<Case>("cris_whole.json").remove("r50");
    assert_eq!(
        case.expect("a case").tensors,
        contract::contract("cris-r50")
    );
}

/// A small model whose phrases are filled up is another without its wrapper, and one in PyTorch's wrapper is the same.
#[test]
fn what_is_before_all_names_says_how_phrases_are_read() {
    let case = |wrapper: &str| {
        let mut case = cases::<Case>("cris.json").remove("net").expect("a case");
        case.wrapper = wrapper.into();
        case.cris(Precision::Auto).unwrap_or_else(|e| panic!("{e}"))
    };
    for (wrapper, fills) in [
        ("", false),
        ("module.", false),
        ("net.", true),
        ("net.module.", true),
    ] {
        let model = case(wrapper);
        assert_eq!(model.config().fills_phrases, fills, "{wrapper}");
        let rec = gpu().record("cris");
        let phrases = model.phrases(&rec, &[vec![97, 5, 98]], |_, _| ());
        let [tokens, _] = phrases.expect("phrases").words[0].matrix();
        assert_eq!(tokens, if fills { 20 } else { 3 }, "{wrapper}");
    }
}

#[test]
fn models_that_do_not_fit_are_named() {
    type Change = fn(&mut Case);
    let changes: [(Change, &str); 12] = [
        (
            |c| drop(c.tensors.remove("neck.f2_cat.1.running_mean")),
            "`neck.f2_cat.1.running_mean` is missing, expected shape [64]; its tensors are called as those of CRIS",
        ),
        (
            |c| drop(c.tensors.remove("backbone.visual.layer2.1.bn2.weight")),
            "`backbone.visual.layer2.1.bn2.weight` is missing",
        ),
        (
            |c| drop(c.tensors.remove("backbone.visual.layer3.0.conv1.weight")),
            "`backbone.visual.layer3.0.conv1.weight` is missing",
        ),
        (
            |c| {
                drop(
                    c.tensors
                        .remove("backbone.visual.attnpool.connect.0.weight"),
                )
            },
            "`backbone.visual.attnpool.connect.0.weight` is missing, which CRIS has",
        ),
        (
            |c| drop(c.tensors.remove("decoder.layers.1.ffn.4.bias")),
            "`decoder.layers.1.ffn.4.bias` is missing",
        ),
        (
            |c| drop(c.tensors.remove("proj.vis.4.bias")),
            "`proj.vis.4.bias` is missing",
        ),
        (
            |c| {
                let shape = vec![290, 48];
                drop(c.tensors.insert("proj.txt.weight".into(), shape));
            },
            "`proj.txt.weight` has shape [290, 48], expected [289, 48]",
        ),
        (
            |c| {
                let shape = vec![11, 256];
                let name = "backbone.visual.attnpool.positional_embedding";
                drop(c.tensors.insert(name.into(), shape));
            },
            "`backbone.visual.attnpool.positional_embedding` has 11 rows, expected a square's and one more",
        ),
        (
            |c| drop(c.tensors.insert("decoder.layers.2.gate".into(), vec![3])),
            "`decoder.layers.2.gate` [3] is not part of the model",
        ),
        (
            |c| {
                let name = "neck.aggr.0.weight";
                drop(c.tensors.insert(name.into(), vec![72, 192, 1, 1]));
            },
            "the decoder has a width of 72, expected 8 heads",
        ),
        (
            |c| c.size = 100,
            "pictures of 100 pixels, expected a multiple of 32",
        ),
        (
            |c| c.tensors.retain(|name, _| !name.starts_with("neck.")),
            "`neck.txt_proj.0.weight` is missing, which CRIS has; its tensors are called as those of CLIP",
        ),
    ];
    for (change, wanted) in changes {
        let mut case = cases::<Case>("cris.json").remove("stretched");
        let case = case.as_mut().expect("a case");
        change(case);
        let opened = case.cris(Precision::Auto).map(|_| "opened");
        let error = opened.expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

#[test]
fn phrases_and_pictures_that_do_not_fit_are_refused() {
    let case = cases::<Case>("cris.json").remove("stretched");
    let model = case
        .expect("a case")
        .cris(Precision::Auto)
        .expect("a model");
    let rec = gpu().record("cris");
    let filled = cases::<Case>("cris.json").remove("net");
    let filled = filled.expect("a case").cris(Precision::Auto);
    for model in [model, filled.expect("a model")] {
        for (ids, wanted) in [
            (vec![], "a text of 0 tokens; 1 to 20 fit"),
            (vec![1; 21], "a text of 21 tokens"),
            (vec![99], "token 99 is beyond the table of 99"),
        ] {
            let error = model.phrases(&rec, &[ids], |_, _| ()).expect_err(wanted);
            assert!(error.to_string().contains(wanted), "{error}");
        }
    }
    let case = cases::<Case>("clip_resnet.json").remove("rn");
    let (_folder, checkpoint) = case.expect("a case").checkpoint();
    let clip = ClipRn::new(gpu(), &checkpoint, Precision::Auto).expect("a model");
    let error = clip.images(&rec, &pictures(64, 1), |_, _| ());
    let error = error.expect_err("a size").to_string();
    assert!(
        error.contains("64 × 64 pixels, expected 96 × 96"),
        "{error}"
    );
}
