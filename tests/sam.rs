//! SAM beside transformers and segment-anything, and MobileSAM beside its own code, from the pixels to the masks.

#[path = "support/contract.rs"]
mod contract;
#[path = "support/found.rs"]
mod found;
#[path = "support/model_files.rs"]
mod model_files;
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use contract::contract;
use found::{Found, Kept, cases};
use keraunos::models::sam::{EncoderConfig, Prompt, Sam};
use keraunos::pipeline::quantize::quantize;
use keraunos::tensor::{Checkpoint, Encoding, Precision, Tensor};
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

/// One case of `sam.json`, `mobile_sam.json`, or of those of true sizes.
#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    config: Value,
    #[serde(default)]
    tensors: BTreeMap<String, Vec<usize>>,
    /// The contract that has them instead.
    contract: Option<String>,
    /// What segment-anything calls them.
    names: Option<BTreeMap<String, String>>,
    found: BTreeMap<String, Found>,
    prompts: BTreeMap<String, Asked>,
}

impl Case {
    fn small() -> Self {
        cases::<Self>("sam.json").remove("small").expect("a case")
    }

    fn mobile() -> Self {
        cases::<Self>("mobile_sam.json")
            .remove("small")
            .expect("a case")
    }

    /// A folder with the model; with segment-anything's names, where the case has them, and nothing beside them.
    fn folder(&self) -> tempfile::TempDir {
        let contract = self.contract.as_deref().map(contract);
        let tensors = contract.as_ref().unwrap_or(&self.tensors);
        let folder = model_folder(&self.config, tensors, |name| match &self.names {
            Some(names) => names[name].clone(),
            None => name.to_owned(),
        });
        if self.names.is_some() || self.config.is_null() {
            std::fs::remove_file(folder.path().join("config.json")).expect("removed");
        }
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

/// ViT-L and ViT-H at their true sizes: `cargo test --release --test sam large -- --ignored --nocapture`.
#[test]
#[ignore = "many minutes on a software adapter, and the weights of ViT-H in f32"]
fn large_and_huge_equal_transformers() {
    for (name, case) in cases::<Case>("sam_large.json") {
        let folder = case.folder();
        case.check(&name, folder.path(), Precision::F32, 1e-3);
        case.check(&name, folder.path(), Precision::F16, 1e-2);
    }
}

#[test]
fn a_small_mobile_sam_equals_its_own_code() {
    let case = Case::mobile();
    // Sums of f32 against float64, as above.
    case.check("mobile", case.folder().path(), Precision::Auto, 2e-4);
    case.check("mobile f16", case.folder().path(), Precision::F16, 1e-2);
}

/// Rows of q, k and v are brought into their order in blocks too.
#[test]
fn a_small_mobile_sam_in_eight_bits_is_near_its_own_code() {
    let case = Case::mobile();
    let (folder, out) = (case.folder(), tempfile::tempdir().expect("a folder"));
    let keep = ["mask_decoder".to_owned()];
    let done = quantize(
        folder.path(),
        out.path(),
        Encoding::Q8_0,
        &keep,
        &mut |_| (),
    );
    assert!(done.expect("quantised").matrices >= 4);
    case.check("mobile q8_0", out.path(), Precision::Auto, 2e-2);
}

/// MobileSAM at its true size: `cargo test --release --test sam mobile -- --ignored --nocapture`.
#[test]
#[ignore = "half a minute on a software adapter"]
fn mobile_sam_equals_its_own_code() {
    for (name, case) in cases::<Case>("mobile_sam_whole.json") {
        let folder = case.folder();
        case.check(&name, folder.path(), Precision::F32, 2e-4);
        case.check(&name, folder.path(), Precision::F16, 1e-2);
    }
}

/// The sizes of the published file are read from its shapes: those that MobileSAM's code builds it with.
#[test]
fn mobile_sam_is_read_as_it_is_published() {
    let tensors = contract("mobile_sam");
    let folder = model_folder(&Value::Null, &tensors, str::to_owned);
    let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
    let sam = Sam::new(gpu(), &checkpoint, Precision::Auto).expect("a model");
    let config = sam.config();
    let EncoderConfig::TinyVit(tiny) = &config.encoder else {
        panic!("{config:?}");
    };
    assert_eq!((config.image_size, config.grid()), (1024, 64));
    assert_eq!((tiny.embed_dim, tiny.depth, tiny.hidden_dim), (64, 2, 256));
    let stages = tiny.stages.iter();
    let stages = stages.map(|s| [s.dim, s.depth, s.heads.q, s.window, s.mlp_dim]);
    assert_eq!(
        stages.collect::<Vec<_>>(),
        [
            [128, 2, 4, 7, 512],
            [160, 6, 5, 14, 640],
            [320, 2, 10, 7, 1280]
        ]
    );
}

/// What opening a case's checkpoint says.
fn refused(case: &Case) -> String {
    let folder = case.folder();
    let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
    let opened = Sam::new(gpu(), &checkpoint, Precision::Auto).map(|_| "opened");
    opened.expect_err("a fault").to_string()
}

#[test]
fn mobile_sams_that_do_not_fit_are_named() {
    const BLOCK: &str = "image_encoder.layers.2.blocks.0";
    type Change = fn(&mut BTreeMap<String, Vec<usize>>);
    let changes: [(Change, &[&str]); 10] = [
        (
            |t| drop(t.remove(&format!("{BLOCK}.mlp.fc2.weight"))),
            &["blocks.0.mlp.fc2.weight` is missing", "those of MobileSAM"],
        ),
        (
            |t| drop(t.remove(&format!("{BLOCK}.attn.qkv.bias"))),
            &["blocks.0.attn.qkv.bias` is missing"],
        ),
        (
            |t| drop(t.remove(&format!("{BLOCK}.local_conv.bn.running_var"))),
            &["blocks.0.local_conv.bn.running_var` is missing"],
        ),
        (
            |t| drop(t.remove(&format!("{BLOCK}.attn.attention_biases"))),
            &["blocks.0.attn.attention_biases` is missing, which MobileSAM has"],
        ),
        (
            |t| drop(t.insert(format!("{BLOCK}.attn.attention_biases"), vec![3, 197])),
            &["blocks.0.attn.attention_biases` has shape [3, 197], expected [3, 196]"],
        ),
        (
            |t| drop(t.insert(format!("{BLOCK}.attn.attention_biases"), vec![3, 33 * 33])),
            &["windows of 33 tokens a side, expected 1 to 32"],
        ),
        (
            |t| drop(t.insert(format!("{BLOCK}.attn.attention_biases"), vec![6, 196])),
            &["heads of 4 columns in 24"],
        ),
        (
            |t| drop(t.insert("image_encoder.layers.4.blocks.0.mlp.gate".into(), vec![3])),
            &["`image_encoder.layers.4.blocks.0.mlp.gate` [3] is not part of the model"],
        ),
        (
            // LiteMedSAM's patches.
            |t| {
                let first = "image_encoder.patch_embed.seq.0.c.weight";
                t.insert(first.into(), vec![4, 3, 1, 1]);
            },
            &[
                "`image_encoder.patch_embed.seq.0.c.weight` has shape [4, 3, 1, 1], expected [4, 3, 3, 3]",
            ],
        ),
        (
            |t| drop(t.remove("image_encoder.patch_embed.seq.0.c.weight")),
            &["image_encoder.patch_embed.seq.0.c.weight` or", "no SAM"],
        ),
    ];
    for (change, wanted) in changes {
        let mut case = Case::mobile();
        change(&mut case.tensors);
        let error = refused(&case);
        for wanted in wanted {
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }
}

/// In a batch norm's place nothing is drawn from a square root of a negative number.
#[test]
fn a_variance_below_0_is_named() {
    const NAME: &str = "image_encoder.layers.0.downsample.conv2.bn.running_var";
    let case = Case::mobile();
    let folder = case.folder();
    let path = folder.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("weights");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("a length")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let first = header[NAME]["data_offsets"][0].as_u64().expect("an offset") as usize;
    bytes[8 + length + first + 4 * 3..][..4].copy_from_slice(&(-0.5_f32).to_le_bytes());
    std::fs::write(&path, bytes).expect("weights");
    let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
    let opened = Sam::new(gpu(), &checkpoint, Precision::Auto).map(|_| "opened");
    let error = opened.expect_err("a fault").to_string();
    let wanted = format!("tensor `{NAME}` holds -0.5 at element 3, expected 0 or more");
    assert!(error.contains(&wanted), "{error}");
}

#[test]
fn checkpoints_that_do_not_fit_are_named() {
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
        let error = refused(&case);
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
        let error = refused(&case);
        for wanted in wanted {
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }
}
