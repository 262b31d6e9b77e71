//! Models that see beside transformers: Idefics3, SmolVLM and LLaVA, from the pixels to the logits.

#[path = "support/model_files.rs"]
mod model_files;
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use keraunos::gpu::Bind;
use keraunos::models::idefics3::Idefics3;
use keraunos::models::llama::{Batch, Given, Llama};
use keraunos::models::llava::Llava;
use keraunos::models::siglip_vision::Tiles;
use keraunos::tensor::{Checkpoint, Precision, Tensor};
use model_files::{hashed, model_folder};
use serde::Deserialize;
use serde_json::Value;
use support::{close, gpu};

/// One case of `vision.json` or `vision_whole.json`.
#[derive(Deserialize)]
struct Case {
    config: Value,
    tensors: BTreeMap<String, Vec<usize>>,
    /// Rows and columns of each picture.
    pictures: Vec<[usize; 2]>,
    /// Those of its pixels that count, where not all do.
    covered: Option<Vec<[usize; 2]>>,
    ids: Vec<u32>,
    /// The id of an image token.
    image: u32,
    /// Of each activation a stride and every so-manyth value.
    found: BTreeMap<String, (usize, Vec<f32>)>,
}

impl Case {
    fn all(file: &str) -> BTreeMap<String, Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
        let text = std::fs::read_to_string(path.join(file)).expect("the goldens");
        let mut cases: BTreeMap<String, Value> = serde_json::from_str(&text).expect("JSON");
        cases.remove("made with");
        let read = |case| serde_json::from_value(case).expect("a case");
        cases
            .into_iter()
            .map(|(name, case)| (name, read(case)))
            .collect()
    }

    fn small(name: &str) -> Self {
        Self::all("vision.json").remove(name).expect("a case")
    }

    /// A folder as Hugging Face has it, its tensors called by `rename`.
    fn folder(&self, rename: impl Fn(&str) -> String) -> tempfile::TempDir {
        model_folder(&self.config, &self.tensors, rename)
    }

    /// The pictures, `[images, rows, columns, 4]`.
    fn pixels(&self) -> Tensor {
        let [rows, columns] = self.pictures[0];
        let mut pixels = Vec::new();
        for n in 0..self.pictures.len() {
            let planes = hashed(&format!("pixels{n}"), 3 * rows * columns);
            for at in 0..rows * columns {
                pixels.extend((0..3).map(|plane| planes[plane * rows * columns + at]));
                pixels.push(0.0);
            }
        }
        let shape = [self.pictures.len(), rows, columns, 4];
        Tensor::upload(gpu(), "pixels", shape, &pixels).expect("memory")
    }

    /// The prompt with the images' tokens in it.
    fn batch(&self, tokens: &Tensor) -> Batch {
        let mut batch = Batch::sequence(&self.ids, 0);
        let mut first = 0;
        let mut row = 0;
        for run in self
            .ids
            .chunk_by(|a, b| (*a == self.image) == (*b == self.image))
        {
            if run[0] == self.image {
                batch.given.push(Given {
                    row,
                    count: run.len(),
                    tokens: tokens.clone(),
                    first,
                });
                first += run.len();
            }
            row += run.len();
        }
        assert_eq!(first, tokens.matrix()[0], "image tokens");
        batch
    }

    /// Compares what a recording kept and the logits with transformers'.
    fn compare(&self, name: &str, kept: &[(String, Vec<f32>)], logits: &[f32]) {
        let mut missing: Vec<&str> = self.found.keys().map(String::as_str).collect();
        let all = kept.iter().map(|(at, values)| (at.as_str(), &values[..]));
        for (at, values) in all.chain([("logits", logits)]) {
            let Some((stride, want)) = self.found.get(at) else {
                continue;
            };
            missing.retain(|other| *other != at);
            let got: Vec<f32> = values.iter().step_by(*stride).copied().collect();
            let (worst, scale) = got
                .iter()
                .zip(want)
                .fold((0.0_f32, 0.0_f32), |(w, s), (a, b)| {
                    (w.max((a - b).abs()), s.max(b.abs()))
                });
            println!("{name} {at}: {worst:.2e} of {scale:.2}");
            // Sums of f32 against float64, over up to 30 layers; 1e-3 of the scale is asked for.
            close(&got, want, f64::from(scale) * 2e-4, 0.0);
        }
        assert!(missing.is_empty(), "{name}: {missing:?} are not kept");
    }

    /// The model in a folder, from pictures to logits.
    fn check(&self, name: &str, folder: &Path) {
        let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
        let mut kept: Vec<(String, Tensor)> = Vec::new();
        let mut keep = |at: &str, x: &Tensor| {
            if self.found.contains_key(at) {
                kept.push((at.to_owned(), x.clone()));
            }
        };
        let rec = gpu().record("vision");
        let pixels = self.pixels();
        let (tokens, llama) = match self.config["model_type"].as_str() {
            Some("llava") => {
                let (llava, llama) =
                    Llava::new(gpu(), &checkpoint, Precision::Auto).expect("a model");
                assert_eq!(llava.image_token_id, self.image);
                (llava.forward(&rec, &pixels, &mut keep), llama)
            }
            _ => {
                let (idefics3, llama) =
                    Idefics3::new(gpu(), &checkpoint, Precision::Auto).expect("a model");
                assert_eq!(idefics3.image_token_id, self.image);
                let patch = idefics3.vision_model().config().patch_size;
                let covered = self.covered.as_ref().unwrap_or(&self.pictures);
                let tiles = Tiles {
                    pixels,
                    covered: covered.iter().map(|c| c.map(|n| n / patch)).collect(),
                };
                let tokens = idefics3.forward(&rec, &tiles, &mut keep).expect("a pass");
                (tokens, llama)
            }
        };
        let wanted: Vec<(&dyn Bind, usize)> = kept
            .iter()
            .map(|(_, x)| (x as &dyn Bind, x.len()))
            .collect();
        let values = rec.read::<f32>(&wanted).expect("a pass");
        let names = kept.iter().map(|(at, _)| at.clone());
        let kept: Vec<(String, Vec<f32>)> = names.zip(values).collect();
        let logits = logits(&llama, &self.batch(&tokens));
        self.compare(name, &kept, &logits);
    }
}

/// The logits of all tokens.
fn logits(llama: &Llama, batch: &Batch) -> Vec<f32> {
    let vocab = llama.config().vocab_size;
    let cache = llama
        .cache(gpu(), batch.len(), Precision::F32)
        .expect("a cache");
    let rec = gpu().record("llama");
    let hidden = llama
        .forward(&rec, batch, &cache, |_, _| ())
        .expect("a pass");
    let y = llama.logits(&rec, &hidden).read(rec).expect("a pass");
    let rows = y.chunks_exact(vocab.next_multiple_of(4));
    rows.flat_map(|row| row[..vocab].to_vec()).collect()
}

/// Names of tensors as releases of transformers before 4.52 write them, and as version 5 does.
fn by_release(name: &str, release: usize) -> String {
    let llava = name.contains("vision_tower") || name.contains("multi_modal_projector");
    let whole = name.replace("model.language_model.", "language_model.model.");
    match release {
        // 4.51
        0 if llava => whole
            .replace("model.vision_tower.", "vision_tower.vision_model.")
            .replace("model.multi_modal", "multi_modal"),
        0 if whole == "lm_head.weight" => "language_model.lm_head.weight".into(),
        0 => whole,
        // 4.52 to 4.57
        1 => name.replace("model.vision_tower.", "model.vision_tower.vision_model."),
        // 5
        2 if llava => whole
            .replace("model.vision", "vision")
            .replace("model.multi", "multi"),
        2 if whole == "lm_head.weight" => "language_model.lm_head.weight".into(),
        2 => whole,
        // As the modules of version 5 are called.
        _ => name.into(),
    }
}

#[test]
fn small_models_equal_transformers() {
    for (name, case) in Case::all("vision.json") {
        let llava = case.config["model_type"] == "llava";
        for release in if llava { 0..4 } else { 3..4 } {
            let folder = case.folder(|name| by_release(name, release));
            case.check(&name, folder.path());
        }
    }
}

/// Models of the true sizes: minutes, and 7 GB of memory. `cargo test --release --test vision -- --ignored --nocapture`.
#[test]
#[ignore = "makes and runs models of gigabytes"]
fn whole_models_equal_transformers() {
    for (name, case) in Case::all("vision_whole.json") {
        let folder = case.folder(str::to_owned);
        case.check(&name, folder.path());
    }
}

#[test]
fn configurations_that_do_not_fit_are_named() {
    let open = |case: &Case, folder: &Path| {
        let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
        match case.config["model_type"].as_str() {
            Some("llava") => Llava::new(gpu(), &checkpoint, Precision::Auto).map(drop),
            _ => Idefics3::new(gpu(), &checkpoint, Precision::Auto).map(drop),
        }
    };
    let (null, many) = (Value::Null, u64::MAX);
    for (name, place, value, wanted) in [
        (
            "idefics3",
            "/vision_config",
            null.clone(),
            "`vision_config`",
        ),
        ("idefics3", "/text_config", 3.into(), "`text_config`"),
        ("idefics3", "/text_config/model_type", "gpt2".into(), "gpt2"),
        (
            "idefics3",
            "/text_config/hidden_size",
            many.into(),
            "embedding length",
        ),
        ("idefics3", "/scale_factor", 4.into(), "`scale_factor` is 4"),
        ("idefics3", "/scale_factor", 0.into(), "`scale_factor` is 0"),
        (
            "idefics3",
            "/scale_factor",
            "2".into(),
            "`scale_factor` is \"2\"",
        ),
        (
            "idefics3",
            "/image_token_id",
            131.into(),
            "beyond the table of 131",
        ),
        (
            "idefics3",
            "/vision_config/patch_size",
            32.into(),
            "`patch_size` is 32",
        ),
        (
            "idefics3",
            "/vision_config/patch_size",
            0.into(),
            "`patch_size` is 0",
        ),
        (
            "idefics3",
            "/vision_config/image_size",
            many.into(),
            "`image_size`",
        ),
        (
            "idefics3",
            "/vision_config/image_size",
            40.into(),
            "`scale_factor` is 3",
        ),
        (
            "idefics3",
            "/vision_config/num_attention_heads",
            5.into(),
            "5 heads of 48",
        ),
        (
            "idefics3",
            "/vision_config/num_attention_heads",
            48.into(),
            "48 heads of 48",
        ),
        (
            "idefics3",
            "/vision_config/intermediate_size",
            81.into(),
            "`intermediate_size` is 81",
        ),
        (
            "idefics3",
            "/vision_config/hidden_act",
            "relu".into(),
            "relu",
        ),
        (
            "idefics3",
            "/vision_config/layer_norm_eps",
            0.0.into(),
            "`layer_norm_eps`",
        ),
        (
            "idefics3",
            "/vision_config/num_channels",
            1.into(),
            "`num_channels`",
        ),
        (
            "idefics3",
            "/vision_config/num_hidden_layers",
            3.into(),
            "layers.2.layer_norm1",
        ),
        (
            "idefics3",
            "/vision_config/num_hidden_layers",
            1.into(),
            "layers.1.",
        ),
        (
            "llava",
            "/vision_feature_layer",
            4.into(),
            "`vision_feature_layer` is 4",
        ),
        (
            "llava",
            "/vision_feature_layer",
            (-5).into(),
            "`vision_feature_layer` is -5",
        ),
        (
            "llava",
            "/vision_feature_layer",
            vec![1, 2].into(),
            "several layers",
        ),
        (
            "llava",
            "/vision_feature_select_strategy",
            "some".into(),
            "`some`",
        ),
        (
            "llava",
            "/vision_config/model_type",
            "siglip_vision_model".into(),
            "siglip_vision_model",
        ),
        (
            "llava",
            "/projector_hidden_act",
            "tanh".into(),
            "`projector_hidden_act`",
        ),
        (
            "llava",
            "/vision_config/image_size",
            28.into(),
            "position_embedding",
        ),
    ] {
        let mut case = Case::small(name);
        let (parent, key) = place.rsplit_once('/').expect("a place");
        case.config.pointer_mut(parent).expect(parent)[key] = value;
        let folder = case.folder(str::to_owned);
        let error = open(&case, folder.path()).expect_err(place).to_string();
        assert!(error.contains(wanted), "{place}: {error}");
    }
    // A folder of another kind of model lacks what these have.
    for (name, wanted) in [
        ("idefics3", "text_model.embed_tokens"),
        ("llava", "language_model.model.embed_tokens"),
    ] {
        let case = Case::small(name);
        let folder = case.folder(|name| name.replace("embed_tokens", "embeddings"));
        let error = open(&case, folder.path()).expect_err(name).to_string();
        assert!(
            error.contains(wanted) && error.contains("missing"),
            "{error}"
        );
    }
}
