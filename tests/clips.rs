//! Swin, MedCLIP and BiomedCLIP beside transformers and timm, from the pixels and tokens to the embeddings.

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
use keraunos::models::biomedclip::BiomedClip;
use keraunos::models::medclip::MedClip;
use keraunos::models::sam::Sam;
use keraunos::models::swin::{Swin, SwinConfig};
use keraunos::pipeline::convert::convert;
use keraunos::tensor::{Checkpoint, Precision, Tensor};
use model_files::{hashed, model_folder};
use serde::Deserialize;
use serde_json::{Value, json};
use support::gpu;

type Shapes = BTreeMap<String, Vec<usize>>;

/// One case of `swin.json`, `clips.json` or of those of true sizes.
#[derive(Deserialize)]
struct Case {
    #[serde(default)]
    config: Value,
    #[serde(default)]
    tensors: Shapes,
    /// The contract that has them instead.
    names: Option<String>,
    pictures: Vec<[usize; 2]>,
    #[serde(default)]
    sentences: Vec<Vec<u32>>,
    found: BTreeMap<String, Found>,
    #[serde(default)]
    logit_scale: f32,
    #[serde(default)]
    logits: Vec<Vec<f32>>,
}

impl Case {
    fn folder(&self) -> tempfile::TempDir {
        let contract = self.names.as_deref().map(contract);
        let tensors = contract.as_ref().unwrap_or(&self.tensors);
        model_folder(&self.config, tensors, str::to_owned)
    }

    fn pixels(&self) -> Tensor {
        let [height, width] = self.pictures[0];
        let mut all = Vec::new();
        for n in 0..self.pictures.len() {
            let planes = hashed(&format!("pixels{n}"), 3 * height * width);
            let pixel = |at: usize| [0, 1, 2].map(|plane| planes[plane * height * width + at]);
            all.extend((0..height * width).flat_map(pixel));
        }
        let shape = [self.pictures.len(), height, width, 4];
        Tensor::upload(gpu(), "pixels", shape, &support::pad(&all, 3, 4)).expect("memory")
    }

    fn swin(&self, name: &str, folder: &Path, precision: Precision, share: f64) {
        let swin = swin(folder, &self.config, precision).unwrap_or_else(|error| panic!("{error}"));
        let rec = gpu().record("swin");
        let mut kept = Kept::of(&self.found);
        let keep = |at: &str, x: &Tensor| kept.keep(at, x);
        let features = swin.forward(&rec, &self.pixels(), keep).expect("a pass");
        kept.keep("pooled", &features.pooled);
        kept.compare(name, rec, &[], share);
    }

    /// The embeddings of a model with two towers, and the logits that they make.
    fn clip(&self, name: &str, folder: &Path, precision: Precision, share: f64) {
        let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
        let clip =
            Clip::new(name, &checkpoint, precision).unwrap_or_else(|error| panic!("{error}"));
        let mut kept = Kept::of(&self.found);
        let rec = gpu().record("clip");
        let mut keep = |at: &str, x: &Tensor| kept.keep(at, x);
        let (images, texts, scale) = match clip {
            Clip::Med(clip) => (
                clip.encode_image(&rec, &self.pixels(), &mut keep),
                clip.encode_text(&rec, &self.sentences, &mut keep),
                clip.logit_scale(),
            ),
            Clip::Biomed(clip) => (
                clip.encode_image(&rec, &self.pixels(), &mut keep),
                clip.encode_text(&rec, &self.sentences, &mut keep),
                clip.logit_scale(),
            ),
        };
        kept.keep("image", &images.expect("a pass"));
        kept.keep("text", &texts.expect("a pass"));
        let all = kept.compare(name, rec, &[], share);
        let off = (scale - self.logit_scale).abs();
        assert!(off <= 1e-6 * self.logit_scale, "{name}: {scale}");
        let dim = all["image"].len() / self.pictures.len();
        let images = all["image"].chunks_exact(dim);
        for (image, logits) in images.zip(&self.logits) {
            for (text, want) in all["text"].chunks_exact(dim).zip(logits) {
                let cosine: f32 = image.iter().zip(text).map(|(a, b)| a * b).sum();
                let off = f64::from((scale * cosine - want).abs());
                assert!(off <= share * f64::from(scale), "{name}: a logit of {want}");
            }
        }
    }
}

/// A model with two towers.
enum Clip {
    Med(MedClip),
    Biomed(BiomedClip),
}

impl Clip {
    fn new(name: &str, checkpoint: &Checkpoint, precision: Precision) -> Result<Self, String> {
        let clip = match name {
            "medclip" => MedClip::new(gpu(), checkpoint, precision).map(Self::Med),
            _ => BiomedClip::new(gpu(), checkpoint, precision).map(Self::Biomed),
        };
        clip.map_err(|error| error.to_string())
    }
}

fn swin(folder: &Path, config: &Value, precision: Precision) -> Result<Swin, String> {
    let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
    let config = SwinConfig::of(config)?;
    Swin::new(gpu(), &checkpoint, config, precision).map_err(|error| error.to_string())
}

#[test]
fn small_swins_equal_transformers() {
    for (name, case) in cases::<Case>("swin.json") {
        // Sums of f32 against float64; 1e-3 of the scale is asked for.
        case.swin(&name, case.folder().path(), Precision::Auto, 2e-5);
        case.swin(&name, case.folder().path(), Precision::F16, 1e-2);
    }
}

#[test]
fn small_towers_equal_transformers_and_timm() {
    for (name, case) in cases::<Case>("clips.json") {
        case.clip(&name, case.folder().path(), Precision::Auto, 2e-5);
        case.clip(&name, case.folder().path(), Precision::F16, 1e-2);
    }
}

/// What open_clip publishes of a BiomedCLIP, `open_clip_pytorch_model.bin`, becomes a checkpoint under the same names, to the bit.
#[test]
fn a_state_that_open_clip_publishes_is_converted() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let folder = tempfile::tempdir().expect("a folder");
    let made = folder.path().join("model.safetensors");
    let done = convert(&goldens.join("convert_open_clip.bin"), &made).expect("a checkpoint");
    assert!(done.left_out.is_empty(), "{:?}", done.left_out);
    let got = Checkpoint::open(&made).expect("a checkpoint");
    let shapes = got
        .tensors()
        .map(|entry| (entry.name.to_owned(), entry.shape.to_vec()));
    let shapes: BTreeMap<String, Vec<usize>> = shapes.collect();
    // Every name that the loader asks for, of whichever size.
    let contract = contract("BiomedCLIP-PubMedBERT_256-vit_base_patch16_224");
    let first = |name: &&String| !name.contains("blocks.1") && !name.contains("layer.1");
    let deeper = |name: &&String| {
        (2..12).any(|n| name.contains(&format!(".{n}.")) && !name.contains("proj.2"))
    };
    let asked = contract.keys().filter(first).filter(|name| !deeper(name));
    for name in asked {
        assert!(shapes.contains_key(name), "{name}");
    }
    let wanted = model_folder(&json!({}), &shapes, str::to_owned);
    let wanted = Checkpoint::open(wanted.path()).expect("a checkpoint");
    for entry in got
        .tensors()
        .filter(|entry| !entry.name.ends_with("position_ids"))
    {
        let other = wanted.tensor(entry.name).expect("a tensor");
        assert!(entry.bytes == other.bytes, "{}", entry.name);
    }
}

/// All at their true sizes: `cargo test --release --test clips -- --ignored --nocapture`.
#[test]
#[ignore = "two minutes on a software adapter, and 2 GB of memory"]
fn whole_models_equal_transformers_and_timm() {
    for (name, case) in cases::<Case>("swin_whole.json") {
        case.swin(&name, case.folder().path(), Precision::F32, 1e-4);
    }
    for (name, case) in cases::<Case>("clips_whole.json") {
        case.clip(&name, case.folder().path(), Precision::F32, 1e-4);
    }
}

/// Each picture is encoded as if it were alone.
#[test]
fn pictures_do_not_see_each_other() {
    let mut case = cases::<Case>("swin.json").remove("small").expect("a case");
    let folder = case.folder();
    let swin = swin(folder.path(), &case.config, Precision::Auto).expect("a model");
    let pooled = |case: &Case| {
        let rec = gpu().record("swin");
        let features = swin
            .forward(&rec, &case.pixels(), |_, _| ())
            .expect("a pass");
        features.pooled.read(rec).expect("values")
    };
    let both = pooled(&case);
    case.pictures.truncate(1);
    assert_eq!(pooled(&case), both[..both.len() / 2]);
}

#[test]
fn swins_that_do_not_fit_are_named() {
    let small = || cases::<Case>("swin.json").remove("small").expect("a case");
    for (key, value, wanted) in [
        (
            "model_type",
            json!("swinv2"),
            "`model_type` is \"swinv2\", expected `swin`",
        ),
        (
            "image_size",
            json!([224, 224]),
            "`image_size` is [224,224], expected a whole number",
        ),
        (
            "patch_size",
            json!(0),
            "`patch_size` is 0, expected 1 to 29",
        ),
        ("num_channels", json!(1), "`num_channels` is 1, expected 3"),
        (
            "depths",
            json!([2, 2]),
            "`depths` has 2 stages and `num_heads` 3",
        ),
        (
            "depths",
            json!("2222"),
            "`depths` is \"2222\", expected whole numbers",
        ),
        ("depths", json!([2, 0, 2]), "`depths` is 0"),
        ("num_heads", json!([4, 4, 2]), "4 heads of 16 columns"),
        ("window_size", json!(0), "`window_size` is 0"),
        ("mlp_ratio", json!(0), "`mlp_ratio` is 0, expected above 0"),
        ("mlp_ratio", json!(0.1), "an MLP of 1 columns"),
        (
            "use_absolute_embeddings",
            json!(true),
            "`use_absolute_embeddings` is true",
        ),
        (
            "qkv_bias",
            json!("yes"),
            "`qkv_bias` is \"yes\", expected true",
        ),
        ("hidden_act", json!("relu"), "`hidden_act` is `relu`"),
        ("layer_norm_eps", json!(-1), "`layer_norm_eps` is -1"),
        (
            "window_size",
            json!(5),
            "relative_position_bias_table` has shape [49, 2], expected [81, 2]",
        ),
        (
            "mlp_ratio",
            json!(4.0),
            "intermediate.dense.bias` has shape [32], expected [64]",
        ),
        (
            "depths",
            json!([2, 2, 1]),
            "encoder.layers.2.blocks.1.attention.output.dense.bias` [64] is not part of the model",
        ),
    ] {
        let mut case = small();
        case.config[key] = value;
        let error = swin(case.folder().path(), &case.config, Precision::Auto).expect_err(wanted);
        assert!(error.contains(wanted), "{error}");
    }
    let mut case = small();
    case.tensors
        .remove("encoder.layers.1.blocks.0.attention.self.key.bias");
    let error = swin(case.folder().path(), &case.config, Precision::Auto).expect_err("a fault");
    assert!(
        error.contains("`encoder.layers.1.blocks.0.attention.self.key.bias` is missing"),
        "{error}"
    );
    // A picture whose last stage would not fill a window.
    let case = Case {
        pictures: vec![[64, 44]],
        ..small()
    };
    let swin = swin(case.folder().path(), &case.config, Precision::Auto).expect("a model");
    let rec = gpu().record("swin");
    let error = swin.forward(&rec, &case.pixels(), |_, _| ()).map(drop);
    let wanted = "a picture of 64 × 44 pixels leaves 4 × 3 tokens in stage 2, which do not fill a window of 4";
    assert_eq!(error.expect_err(wanted).to_string(), wanted);
}

#[test]
fn towers_that_do_not_fit_are_named() {
    type Change = fn(&mut Shapes);
    let changes: [(&str, Change, &str); 11] = [
        (
            "medclip",
            |t| drop(t.remove("logit_scale")),
            "tensor `logit_scale` is missing",
        ),
        (
            "medclip",
            |t| drop(t.remove("vision_model.projection_head.weight")),
            "tensor `vision_model.projection_head.weight` is missing, which MedCLIP-ViT has; its tensors are called as those of MedCLIP",
        ),
        (
            "medclip",
            |t| drop(t.insert("text_model.projection_head.bias".into(), vec![32])),
            "has tensor `text_model.projection_head.bias`, expected none",
        ),
        (
            "medclip",
            |t| drop(t.insert("vision_model.model.fc.weight".into(), vec![512, 2048])),
            "its vision model is a ResNet",
        ),
        (
            "medclip",
            |t| drop(t.insert("text_model.projection_head.weight".into(), vec![32, 64])),
            "`text_model.projection_head.weight` has shape [32, 64], expected [32, 128]",
        ),
        (
            "medclip",
            |t| drop(t.insert("text_model.model.gate".into(), vec![3])),
            "`text_model.model.gate` [3] is not part of the model",
        ),
        (
            "biomedclip",
            |t| drop(t.remove("visual.trunk.cls_token")),
            "tensor `visual.trunk.cls_token` is missing",
        ),
        (
            "biomedclip",
            |t| drop(t.remove("visual.trunk.blocks.1.attn.qkv.bias")),
            "tensor `visual.trunk.blocks.1.attn.qkv.bias` is missing; its tensors are called as those of BiomedCLIP",
        ),
        (
            "biomedclip",
            |t| drop(t.insert("visual.trunk.pos_embed".into(), vec![1, 16, 128])),
            "`visual.trunk.pos_embed` has 16 tokens, expected those of a square and one",
        ),
        (
            "biomedclip",
            |t| {
                drop(t.insert(
                    "text.transformer.pooler.dense.weight".into(),
                    vec![128, 128],
                ))
            },
            "`text.transformer.pooler.dense.bias` is missing",
        ),
        (
            "biomedclip",
            |t| drop(t.insert("text.proj.1.weight".into(), vec![3])),
            "`text.proj.1.bias` is missing",
        ),
    ];
    let open = |name: &str, case: &Case, folder: &Path| {
        let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
        Clip::new(name, &checkpoint, Precision::Auto).map(|_| assert!(!case.found.is_empty()))
    };
    let case = |name: &str| cases::<Case>("clips.json").remove(name).expect("a case");
    for (name, change, wanted) in changes {
        let mut changed = case(name);
        change(&mut changed.tensors);
        let error = open(name, &changed, changed.folder().path()).expect_err(wanted);
        assert!(error.contains(wanted), "{error}");
    }
    for (mine, other) in [("medclip", "biomedclip"), ("biomedclip", "medclip")] {
        let other = case(other);
        let error = open(mine, &other, other.folder().path()).expect_err("another model");
        assert!(
            error.contains("its tensors are called as those of"),
            "{error}"
        );
    }
    // What open_clip writes beside its weights.
    let case = case("biomedclip");
    let folder = case.folder();
    let config = |place: &str, value: Value| {
        let mut json = json!({ "model_cfg": {
            "embed_dim": 32,
            "vision_cfg": { "timm_model_name": "vit_base_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 32 },
            "text_cfg": { "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler", "context_length": 40 },
        } });
        *json.pointer_mut(place).expect(place) = value;
        std::fs::write(
            folder.path().join("open_clip_config.json"),
            json.to_string(),
        )
        .expect("written");
    };
    config("/model_cfg/embed_dim", json!(32));
    open("biomedclip", &case, folder.path()).expect("a model");
    for (place, value, wanted) in [
        (
            "/model_cfg/embed_dim",
            json!(64),
            "`embed_dim` is 64, the tensors are those of 32",
        ),
        (
            "/model_cfg/vision_cfg/image_size",
            json!(224),
            "`image_size` is 224, the tensors are those of 32",
        ),
        (
            "/model_cfg/vision_cfg/timm_pool",
            json!("avg"),
            "`timm_pool` is \"avg\", expected ``",
        ),
        (
            "/model_cfg/text_cfg/hf_proj_type",
            json!("linear"),
            "`hf_proj_type` is \"linear\", expected `mlp`",
        ),
        (
            "/model_cfg/text_cfg/hf_pooler_type",
            json!("mean_pooler"),
            "`hf_pooler_type` is \"mean_pooler\"",
        ),
        (
            "/model_cfg/text_cfg/context_length",
            json!(256),
            "`context_length` is 256, expected 3 to 40",
        ),
    ] {
        config(place, value);
        let error = open("biomedclip", &case, folder.path()).expect_err(wanted);
        assert!(
            error.contains("open_clip_config.json") && error.contains(wanted),
            "{error}"
        );
    }
}

/// What is opened as a SAM and is none is told what it is.
#[test]
fn others_checkpoints_are_known_by_their_names() {
    let named = |tensors: &Shapes, rename: &dyn Fn(&str) -> String| {
        let folder = model_folder(&json!({}), tensors, rename);
        let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
        let sam = Sam::new(gpu(), &checkpoint, Precision::Auto);
        sam.map(drop).expect_err("no SAM").to_string()
    };
    let same = |name: &str| name.to_owned();
    let within = |name: &str| format!("encoder.{name}");
    let bare = |name: &str| name.replace("visual.trunk.", "");
    for (file, case, rename, wanted) in [
        (
            "bert.json",
            "plain",
            &same as &dyn Fn(&str) -> String,
            "BERT",
        ),
        ("bert.json", "legacy", &same, "BERT"),
        ("swin.json", "small", &same, "Swin"),
        ("swin.json", "other", &within, "Swin"),
        ("clips.json", "medclip", &same, "MedCLIP"),
        ("clips.json", "biomedclip", &same, "BiomedCLIP"),
        ("clips.json", "biomedclip", &bare, "a ViT of timm"),
    ] {
        let mut case = cases::<Value>(file).remove(case).expect("a case");
        let tensors = case["tensors"].take();
        let mut tensors: Shapes = serde_json::from_value(tensors).expect("shapes");
        if wanted == "a ViT of timm" {
            tensors.retain(|name, _| name.starts_with("visual.trunk."));
        }
        let error = named(&tensors, rename);
        assert!(
            error.ends_with(&format!("called as those of {wanted}")),
            "{error}"
        );
    }
}
