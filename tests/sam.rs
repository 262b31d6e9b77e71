//! SAM beside transformers and segment-anything, from the pixels to the masks.

#[path = "support/found.rs"]
mod found;
#[path = "support/model_files.rs"]
mod model_files;
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use found::{Found, Kept, cases};
use keraunos::models::sam::{Prompt, Sam};
use keraunos::tensor::{Checkpoint, Precision, Tensor};
use model_files::{hashed, model_folder};
use serde::Deserialize;
use serde_json::Value;
use support::gpu;

/// A prompt as transformers takes it, and what becomes of it.
#[derive(Deserialize)]
struct Asked {
    points: Option<Vec<Vec<[f32; 2]>>>,
    labels: Option<Vec<Vec<u8>>>,
    boxes: Option<Vec<[f32; 4]>>,
    #[serde(default)]
    mask: bool,
    found: BTreeMap<String, Found>,
}

impl Asked {
    fn prompts(&self) -> Vec<Prompt> {
        let points = self.points.as_deref().unwrap_or_default();
        let labels = self.labels.as_deref().unwrap_or_default();
        let boxes = self.boxes.as_deref().unwrap_or_default();
        let point = |n: usize| {
            let both = points[n].iter().zip(&labels[n]);
            both.map(|(at, label)| (*at, *label == 1)).collect()
        };
        let count = points.len().max(boxes.len()).max(1);
        (0..count)
            .map(|n| Prompt {
                points: if points.is_empty() {
                    Vec::new()
                } else {
                    point(n)
                },
                corners: boxes.get(n).map(|[a, b, c, d]| [[*a, *b], [*c, *d]]),
            })
            .collect()
    }
}

/// One case of `sam.json` or `sam_whole.json`.
#[derive(Deserialize)]
struct Case {
    config: Value,
    tensors: BTreeMap<String, Vec<usize>>,
    /// What segment-anything calls them.
    names: Option<BTreeMap<String, String>>,
    found: BTreeMap<String, Found>,
    prompts: BTreeMap<String, Asked>,
}

impl Case {
    fn small() -> Self {
        cases::<Self>("sam.json").remove("small").expect("a case")
    }

    /// A folder with the model; with segment-anything's names, where the case has them, and nothing beside them.
    fn folder(&self) -> tempfile::TempDir {
        let Some(names) = &self.names else {
            return model_folder(&self.config, &self.tensors, str::to_owned);
        };
        let folder = model_folder(&self.config, &self.tensors, |name| names[name].clone());
        std::fs::remove_file(folder.path().join("config.json")).expect("removed");
        folder
    }

    /// Compares the model in a folder with what was found.
    fn check(&self, name: &str, folder: &Path, precision: Precision, share: f64) {
        let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
        let sam = match Sam::new(gpu(), &checkpoint, precision) {
            Ok(sam) => sam,
            Err(error) => panic!("{error}"),
        };
        let size = sam.config().image_size;
        let planes = hashed("pixels", 3 * size * size);
        let pixels: Vec<f32> = (0..size * size)
            .flat_map(|at| [0, 1, 2].map(|plane| planes[plane * size * size + at]))
            .collect();
        let pixels = support::pad(&pixels, 3, 4);
        let pixels = Tensor::upload(gpu(), "pixels", [1, size, size, 4], &pixels).expect("memory");
        let rec = gpu().record("encoder");
        let mut kept = Kept::of(&self.found);
        let image = sam.encode(&rec, &pixels, |at, x| kept.keep(at, x));
        kept.compare(name, rec, &[], share);
        for (prompt, asked) in &self.prompts {
            self.check_prompt(&format!("{name} {prompt}"), &sam, &image, asked, share);
        }
    }

    fn check_prompt(&self, name: &str, sam: &Sam, image: &Tensor, asked: &Asked, share: f64) {
        let side = sam.config().low_res();
        let mask = asked.mask.then(|| {
            let logits: Vec<f32> = hashed("mask", side * side)
                .iter()
                .map(|v| 8.0 * v)
                .collect();
            let logits = support::pad(&logits, 1, 4);
            Tensor::upload(gpu(), "mask", [1, side, side, 4], &logits).expect("memory")
        });
        let prompts = asked.prompts();
        let rec = gpu().record("decoder");
        let mut kept = Kept::of(&asked.found);
        let masks = sam
            .decode(&rec, image, &prompts, mask.as_ref(), |at, x| {
                kept.keep(at, x)
            })
            .expect("a pass");
        let [count, several, ..] = masks.low_res.dims::<4>();
        assert_eq!(count, prompts.len(), "{name}: prompts");
        assert_eq!(several, sam.config().mask_tokens, "{name}: masks");
        kept.keep("low_res", &masks.low_res);
        kept.keep("iou", &masks.iou);
        kept.compare(name, rec, &[("iou", several)], share);
    }
}

#[test]
fn small_models_equal_transformers_and_segment_anything() {
    for (name, case) in cases::<Case>("sam.json") {
        // Sums of f32 against float64; 1e-3 of the scale is asked for.
        case.check(&name, case.folder().path(), Precision::Auto, 2e-4);
    }
}

#[test]
fn small_models_in_half_precision_are_near_transformers() {
    for (name, case) in cases::<Case>("sam.json") {
        case.check(&name, case.folder().path(), Precision::F16, 1e-2);
    }
}

/// ViT-B at its true size: `cargo test --release --test sam -- --ignored --nocapture`.
#[test]
#[ignore = "a minute or two on a software adapter, and 1 GB of memory"]
fn vit_b_equals_transformers() {
    for (name, case) in cases::<Case>("sam_whole.json") {
        let folder = case.folder();
        case.check(&name, folder.path(), Precision::F32, 1e-3);
        case.check(&name, folder.path(), Precision::F16, 1e-2);
    }
}

#[test]
fn checkpoints_that_do_not_fit_are_named() {
    let open = |case: &Case| {
        let folder = case.folder();
        let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
        let opened = Sam::new(gpu(), &checkpoint, Precision::Auto).map(|_| "opened");
        let error = opened.expect_err("a fault");
        error.to_string()
    };
    // A field of `config.json` that the tensors contradict, or that is not known here.
    for (place, value, wanted) in [
        ("/model_type", "sam2".into(), "`model_type` is `sam2`"),
        (
            "/vision_config/image_size",
            128.into(),
            "`image_size` is 128",
        ),
        (
            "/vision_config/num_channels",
            1.into(),
            "`num_channels` is 1",
        ),
        (
            "/vision_config/hidden_act",
            "relu".into(),
            "`hidden_act` is \"relu\"",
        ),
        (
            "/vision_config/layer_norm_eps",
            0.0.into(),
            "`layer_norm_eps` is 0",
        ),
        (
            "/mask_decoder_config/iou_head_depth",
            2.into(),
            "`iou_head_depth` is 2",
        ),
        (
            "/mask_decoder_config/num_attention_heads",
            3.into(),
            "3 heads of 128",
        ),
        (
            "/mask_decoder_config/num_attention_heads",
            0.into(),
            "0 heads of 128",
        ),
        (
            "/mask_decoder_config/num_attention_heads",
            16.into(),
            "16 heads of 64",
        ),
    ] {
        let mut case = Case::small();
        let (parent, key) = place.rsplit_once('/').expect("a place");
        case.config.pointer_mut(parent).expect(parent)[key] = Value::clone(&value);
        let error = open(&case);
        assert!(error.contains(wanted), "{place}: {error}");
    }
    // A tensor that is missing, too many, or of another shape.
    type Change = fn(&mut BTreeMap<String, Vec<usize>>);
    let changes: [(Change, &[&str]); 7] = [
        (
            |t| drop(t.remove("vision_encoder.layers.1.mlp.lin2.bias")),
            &["`vision_encoder.layers.1.mlp.lin2.bias`", "is missing"],
        ),
        (
            |t| drop(t.remove("vision_encoder.pos_embed")),
            &["`vision_encoder.pos_embed` is missing"],
        ),
        (
            |t| drop(t.insert("vision_encoder.layers.4.mlp.gate".into(), vec![3])),
            &["`vision_encoder.layers.4.mlp.gate` [3] is not part of the model"],
        ),
        (
            |t| drop(t.insert("vision_encoder.layers.2.attn.rel_pos_w".into(), vec![7, 16])),
            &["`vision_encoder.layers.2.attn.rel_pos_w` has shape [7, 16], expected [5, 16]"],
        ),
        (
            |t| drop(t.insert("mask_decoder.mask_tokens.weight".into(), vec![4])),
            &["`mask_decoder.mask_tokens.weight` has shape [4], expected 2 dimensions"],
        ),
        (
            |t| {
                for n in 0..4 {
                    let table = |axis| format!("vision_encoder.layers.{n}.attn.rel_pos_{axis}");
                    t.insert(table("h"), vec![5, 12]);
                }
            },
            &["heads of 12 columns in 32"],
        ),
        (
            |t| {
                let old = std::mem::take(t);
                let new = |name: String| name.replace("vision_encoder.", "vision_model.encoder.");
                t.extend(old.into_iter().map(|(name, shape)| (new(name), shape)));
            },
            &["no SAM", "called as those of CLIP or SigLIP"],
        ),
    ];
    for (change, wanted) in changes {
        let mut case = Case::small();
        change(&mut case.tensors);
        let error = open(&case);
        for wanted in wanted {
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }
}
