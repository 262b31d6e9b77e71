//! CLIP and CLIPSeg beside transformers: words, vectors, and the logits of phrases.

#[path = "support/clip_files.rs"]
mod clip_files;
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
use std::io::Read;
use std::path::PathBuf;

use clip_files::{Ids, Words, write_vocabulary};
use found::{Found, Kept, cases};
use keraunos::models::biomedclipseg::BiomedClipSeg;
use keraunos::models::clip::Clip;
use keraunos::models::clipseg::ClipSeg;
use keraunos::models::siglip::Siglip;
use keraunos::pipeline::tokenizer::ClipTokenizer;
use keraunos::tensor::{Checkpoint, Precision};
use model_files::{hashed, model_folder};
use pictures::pictures;
use serde::Deserialize;
use serde_json::{Value, json};
use support::gpu;

/// One case of `clip.json`, `clipseg.json` or `clipseg_whole.json`.
#[derive(Deserialize)]
struct Case {
    config: Value,
    #[serde(default)]
    tensors: BTreeMap<String, Vec<usize>>,
    /// Of a model of true size, the contract that has them.
    contract: Option<String>,
    texts: Vec<Vec<u32>>,
    /// Pixels of a side.
    size: usize,
    found: BTreeMap<String, Found>,
}

impl Case {
    fn folder(&self) -> tempfile::TempDir {
        let contract = self.contract.as_deref().map(contract::contract);
        let tensors = contract.as_ref().unwrap_or(&self.tensors);
        model_folder(&self.config, tensors, str::to_owned)
    }

    fn checkpoint(&self) -> (tempfile::TempDir, Checkpoint) {
        let folder = self.folder();
        let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
        (folder, checkpoint)
    }

    fn check_clip(&self, name: &str, precision: Precision, share: f64) {
        let (_folder, checkpoint) = self.checkpoint();
        let clip = Clip::new(gpu(), &checkpoint, precision).unwrap_or_else(|e| panic!("{e}"));
        let mut kept = Kept::of(&self.found);
        let rec = gpu().record("clip");
        let texts = clip
            .texts(&rec, &self.texts, |at, x| kept.keep(at, x))
            .expect("texts");
        let images = clip.images(&rec, &pictures(self.size, 2), |at, x| kept.keep(at, x));
        kept.keep("text_embeds", &texts);
        kept.keep("image_embeds", &images);
        let logits = clip
            .logits_per_image(&rec, &images, &texts)
            .expect("logits");
        kept.keep("logits_per_image", &logits);
        let cols = [("logits_per_image", self.texts.len())];
        kept.compare(name, rec, &cols, share);
    }

    fn check_siglip(&self, name: &str, precision: Precision, share: f64) {
        let (_folder, checkpoint) = self.checkpoint();
        let model = Siglip::new(gpu(), &checkpoint, precision).unwrap_or_else(|e| panic!("{e}"));
        let mut kept = Kept::of(&self.found);
        let rec = gpu().record("siglip");
        let texts = model
            .texts(&rec, &self.texts, |at, x| kept.keep(at, x))
            .expect("texts");
        let pixels = pictures(self.size, 2);
        let images = model.images(&rec, &pixels, |at, x| kept.keep(at, x));
        let images = images.expect("pictures");
        kept.keep("text_embeds", &texts);
        kept.keep("image_embeds", &images);
        let logits = model.logits_per_image(&rec, &images, &texts);
        kept.keep("logits_per_image", &logits.expect("logits"));
        let cols = [("logits_per_image", self.texts.len())];
        kept.compare(name, rec, &cols, share);
    }

    fn check_clipseg(&self, name: &str, precision: Precision, share: f64) {
        let (_folder, checkpoint) = self.checkpoint();
        let model = ClipSeg::new(gpu(), &checkpoint, self.size, precision);
        let model = model.unwrap_or_else(|e| panic!("{e}"));
        let mut kept = Kept::of(&self.found);
        let rec = gpu().record("clipseg");
        let conditions = model
            .conditions(&rec, &self.texts, |at, x| kept.keep(at, x))
            .expect("phrases");
        kept.keep("conditions", &conditions);
        let pixels = pictures(self.size, 1);
        let reduced = model.encode(&rec, &pixels, |at, x| kept.keep(at, x));
        let logits = model
            .decode(&rec, &reduced, &conditions, |at, x| kept.keep(at, x))
            .expect("logits");
        kept.keep("logits", &logits);
        kept.compare(name, rec, &[], share);
    }
}

/// One case of `biomedclipseg.json` or `biomedclipseg_whole.json`.
#[derive(Deserialize)]
struct Biomed {
    #[serde(default)]
    tensors: BTreeMap<String, Vec<usize>>,
    contract: Option<String>,
    size: usize,
    texts: Vec<Vec<u32>>,
    found: BTreeMap<String, Found>,
}

impl Biomed {
    fn open(&self, precision: Precision) -> keraunos::Result<BiomedClipSeg> {
        let contract = self.contract.as_deref().map(contract::contract);
        let tensors = contract.as_ref().unwrap_or(&self.tensors);
        let folder = model_folder(&json!({}), tensors, str::to_owned);
        let checkpoint = Checkpoint::open(folder.path()).expect("a checkpoint");
        BiomedClipSeg::new(gpu(), &checkpoint, precision)
    }

    fn check(&self, name: &str, precision: Precision, share: f64) {
        let model = self.open(precision).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(model.config().vision.image_size, self.size);
        let mut kept = Kept::of(&self.found);
        let rec = gpu().record("biomedclipseg");
        let conditions = model.conditions(&rec, &self.texts, |_, _| ());
        let conditions = conditions.expect("texts");
        kept.keep("conditions", &conditions);
        let pixels = pictures(self.size, 1);
        let reduced = model.encode(&rec, &pixels, |at, x| kept.keep(at, x));
        let logits = model
            .decode(&rec, &reduced, &conditions, |at, x| kept.keep(at, x))
            .expect("logits");
        kept.keep("logits", &logits);
        kept.compare(name, rec, &[], share);
    }
}

#[test]
fn small_biomedclipsegs_equal_timm_and_transformers() {
    for (name, case) in cases::<Biomed>("biomedclipseg.json") {
        case.check(&name, Precision::Auto, 2e-4);
        case.check(&name, Precision::F16, 1e-2);
    }
}

/// MedVLSM's training keeps its models below `net`: CLIPSeg in a module of that name, BiomedCLIPSeg as it is.
#[test]
fn what_medvlsm_trained_loads_as_it_was_kept() {
    let case = cases::<Case>("clipseg.json").remove("rd16");
    let Case {
        config,
        tensors,
        size,
        ..
    } = case.expect("a case");
    let named = |wrapper: &str, tensors: BTreeMap<String, Vec<usize>>| {
        let folder = model_folder(&config, &tensors, |name| format!("{wrapper}{name}"));
        (
            Checkpoint::open(folder.path()).expect("a checkpoint"),
            folder,
        )
    };
    let open = |wrapper: &str, tensors| {
        let (checkpoint, _folder) = named(wrapper, tensors);
        ClipSeg::new(gpu(), &checkpoint, size, Precision::Auto).map(drop)
    };
    open("net.clipseg.", tensors.clone()).expect("a model");
    let mut more = tensors;
    more.insert("decoder.more".into(), vec![3]);
    let error = open("net.clipseg.", more)
        .expect_err("a tensor")
        .to_string();
    let wanted = "`net.clipseg.decoder.more` [3] is not part of the model";
    assert!(error.contains(wanted), "{error}");
    let biomed = cases::<Biomed>("biomedclipseg.json").remove("plain");
    let (checkpoint, _folder) = named("net.", biomed.expect("a case").tensors);
    BiomedClipSeg::new(gpu(), &checkpoint, Precision::Auto).expect("a model");
}

#[test]
fn biomedclipsegs_that_do_not_fit_are_named() {
    type Change = fn(&mut BTreeMap<String, Vec<usize>>);
    let changes: [(Change, &str); 6] = [
        (
            |t| drop(t.remove("biomedclip.visual.trunk.blocks.7.attn.qkv.bias")),
            "`biomedclip.visual.trunk.blocks.7.attn.qkv.bias` is missing",
        ),
        (
            |t| drop(t.remove("decoder.film_mul.weight")),
            "`decoder.film_mul.weight` is missing, which BiomedCLIPSeg has; its tensors are called as those of BiomedCLIPSeg",
        ),
        (
            |t| drop(t.insert("biomedclip.visual.trunk.pos_embed".into(), vec![1, 9, 128])),
            "`biomedclip.visual.trunk.pos_embed` has 9 tokens",
        ),
        (
            |t| drop(t.insert("biomedclip.visual.trunk.reg_token".into(), vec![1, 4, 128])),
            "`biomedclip.visual.trunk.reg_token` [1, 4, 128] is not part of the model",
        ),
        (
            |t| {
                drop(t.insert(
                    "biomedclip.visual.trunk.patch_embed.proj.weight".into(),
                    vec![90, 3, 16, 16],
                ))
            },
            "tokens of 90 columns, expected a multiple of 64",
        ),
        (
            |t| drop(t.remove("biomedclip.text.proj.2.weight")),
            "`biomedclip.text.proj.2.weight` is missing",
        ),
    ];
    for (change, wanted) in changes {
        let mut case = cases::<Biomed>("biomedclipseg.json")
            .remove("refined")
            .expect("a case");
        change(&mut case.tensors);
        let error = case
            .open(Precision::Auto)
            .map(|_| "opened")
            .expect_err(wanted)
            .to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

#[test]
fn small_clips_equal_transformers() {
    for (name, case) in cases::<Case>("clip.json") {
        // Sums of f32 against float64; 1e-3 of the scale is asked for.
        case.check_clip(&name, Precision::Auto, 2e-4);
        case.check_clip(&name, Precision::F16, 1e-2);
    }
}

#[test]
fn small_siglips_equal_transformers() {
    for (name, case) in cases::<Case>("siglip.json") {
        case.check_siglip(&name, Precision::Auto, 2e-4);
        case.check_siglip(&name, Precision::F16, 1e-2);
    }
}

/// SigLIP base at its true size: `cargo test --release --test clip siglip -- --ignored --nocapture`.
#[test]
#[ignore = "half a minute on a software adapter, and 2 GB of memory"]
fn a_siglip_of_true_size_equals_transformers() {
    for (name, case) in cases::<Case>("siglip_whole.json") {
        case.check_siglip(&name, Precision::F32, 1e-3);
        case.check_siglip(&name, Precision::F16, 1e-2);
    }
}

#[test]
fn siglips_that_do_not_fit_are_named() {
    type Change = fn(&mut Case);
    let changes: [(Change, &str); 7] = [
        (
            |case| case.config["model_type"] = json!("clip"),
            "`model_type` is `clip`, expected `siglip`",
        ),
        (
            |case| case.config["vision_config"]["vision_use_head"] = json!(false),
            "`vision_use_head` is false",
        ),
        (
            |case| case.config["text_config"]["projection_size"] = json!(32),
            "texts become 32 values, pictures 48",
        ),
        (
            |case| case.config["text_config"]["pad_token_id"] = json!(99),
            "`pad_token_id` is 99, the table has 99 rows",
        ),
        (
            |case| drop(case.tensors.remove("vision_model.head.probe")),
            "tensor `vision_model.head.probe` is missing",
        ),
        (
            |case| {
                drop(case.tensors.insert(
                    "vision_model.head.attention.in_proj_weight".into(),
                    vec![48, 48],
                ))
            },
            "`vision_model.head.attention.in_proj_weight` has shape [48, 48], expected [144, 48]",
        ),
        (
            |case| drop(case.tensors.remove("text_model.head.bias")),
            "`text_model.head.bias` is missing; its tensors are called as those of SigLIP",
        ),
    ];
    for (change, wanted) in changes {
        let mut case = cases::<Case>("siglip.json")
            .remove("small")
            .expect("a case");
        change(&mut case);
        let (_folder, checkpoint) = case.checkpoint();
        let opened = Siglip::new(gpu(), &checkpoint, Precision::Auto).map(|_| "opened");
        let error = opened.expect_err(wanted).to_string();
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

#[test]
fn small_clipsegs_equal_transformers() {
    for (name, case) in cases::<Case>("clipseg.json") {
        case.check_clipseg(&name, Precision::Auto, 2e-4);
        case.check_clipseg(&name, Precision::F16, 1e-2);
    }
}

/// rd64-refined at its true size: `cargo test --release --test clip -- --ignored --nocapture`.
#[test]
#[ignore = "half a minute on a software adapter, and 2 GB of memory"]
fn rd64_refined_equals_transformers() {
    for (name, case) in cases::<Case>("clipseg_whole.json") {
        case.check_clipseg(&name, Precision::F32, 1e-3);
        case.check_clipseg(&name, Precision::F16, 1e-2);
    }
}

/// OpenAI's ViT-B/32, B/16 and L/14 at their true sizes: `cargo test --release --test clip openai -- --ignored --nocapture`.
#[test]
#[ignore = "three minutes on a software adapter"]
fn openai_clips_of_true_size_equal_transformers() {
    for (name, case) in cases::<Case>("clip_whole.json") {
        case.check_clip(&name, Precision::F32, 1e-3);
        case.check_clip(&name, Precision::F16, 1e-2);
    }
}

/// BiomedCLIPSeg-D at its true size: `cargo test --release --test clip biomedclipseg -- --ignored --nocapture`.
#[test]
#[ignore = "a minute or two on a software adapter"]
fn a_biomedclipseg_of_true_size_equals_timm_and_transformers() {
    for (name, case) in cases::<Biomed>("biomedclipseg_whole.json") {
        case.check(&name, Precision::F32, 1e-3);
        case.check(&name, Precision::F16, 1e-2);
    }
}

/// The contract is what transformers' model of the true size has; `rd64_refined_equals_transformers` loads just that.
#[test]
fn rd64_refined_follows_its_contract() {
    let case = cases::<Case>("clipseg_whole.json").remove("rd64_refined");
    let held = case.expect("a case").tensors.into_iter();
    let held: Vec<String> = held
        .map(|(name, shape)| format!("{name} {shape:?}"))
        .collect();
    let contract = include_str!("../weights/clipseg-rd64-refined.names");
    assert_eq!(held, contract.lines().collect::<Vec<_>>());
}

#[test]
fn clipseg_configurations_and_tensors_that_do_not_fit_are_named() {
    let open = |case: &Case, size: usize| {
        let (_folder, checkpoint) = case.checkpoint();
        let opened = ClipSeg::new(gpu(), &checkpoint, size, Precision::Auto).map(|_| "opened");
        opened.expect_err("a fault").to_string()
    };
    let case = || {
        cases::<Case>("clipseg.json")
            .remove("refined")
            .expect("a case")
    };
    for (place, value, wanted) in [
        (
            "/model_type",
            json!("clip"),
            "`model_type` is `clip`, expected `clipseg`",
        ),
        (
            "/extract_layers",
            json!([1, 5]),
            "`extract_layers` is [1,5], expected rising numbers below 5",
        ),
        (
            "/extract_layers",
            json!([2, 1]),
            "`extract_layers` is [2,1]",
        ),
        ("/extract_layers", json!([]), "`extract_layers` is []"),
        ("/reduce_dim", json!(36), "`reduce_dim` is 36 in 4 heads"),
        (
            "/decoder_num_attention_heads",
            json!(0),
            "`decoder_num_attention_heads` is 0",
        ),
        (
            "/decoder_intermediate_size",
            json!(66),
            "`decoder_intermediate_size` is 66",
        ),
        (
            "/conditional_layer",
            json!(3),
            "`conditional_layer` is 3, expected below 3",
        ),
        ("/projection_dim", json!(23), "`projection_dim` is 23"),
        (
            "/vision_config/patch_size",
            json!(12),
            "`patch_size` is 12, expected a multiple of 16",
        ),
        (
            "/vision_config/hidden_act",
            json!("relu"),
            "`vision_config`: `hidden_act` is `relu`",
        ),
        (
            "/text_config/max_position_embeddings",
            json!(0),
            "`text_config`: `max_position_embeddings` is 0",
        ),
        (
            "/text_config/num_attention_heads",
            json!(3),
            "`text_config`: 3 heads of 32",
        ),
        ("/text_config/eos_token_id", json!([2]), "`text_config`: "),
        ("/text_config", json!(7), "`text_config` is no object"),
    ] {
        let mut case = case();
        let (parent, key) = place.rsplit_once('/').expect("a place");
        case.config.pointer_mut(parent).expect(parent)[key] = value;
        let error = open(&case, 96);
        assert!(error.contains(wanted), "{place}: {error}");
    }
    let error = open(&case(), 100);
    assert!(
        error.contains("pictures of 100 pixels in patches of 16"),
        "{error}"
    );
    type Change = fn(&mut BTreeMap<String, Vec<usize>>);
    let changes: [(Change, &[&str]); 6] = [
        (
            |t| drop(t.remove("decoder.layers.1.self_attn.k_proj.bias")),
            &["`decoder.layers.1.self_attn.k_proj.bias` is missing"],
        ),
        (
            |t| drop(t.remove("decoder.film_add.weight")),
            &[
                "`decoder.film_add.weight` is missing, expected shape [32, 24]",
                "those of CLIPSeg",
            ],
        ),
        (
            |t| drop(t.insert("decoder.layers.3.mlp.gate".into(), vec![3])),
            &["`decoder.layers.3.mlp.gate` [3] is not part of the model"],
        ),
        (
            |t| {
                drop(t.insert(
                    "clip.vision_model.embeddings.position_embedding.weight".into(),
                    vec![18, 48],
                ))
            },
            &[
                "`clip.vision_model.embeddings.position_embedding.weight` has shape [18, 48], expected [17, 48]",
            ],
        ),
        (
            |t| {
                drop(t.insert(
                    "decoder.transposed_convolution.4.weight".into(),
                    vec![16, 2, 4, 4],
                ))
            },
            &[
                "`decoder.transposed_convolution.4.weight` has shape [16, 2, 4, 4], expected [16, 1, 4, 4]",
            ],
        ),
        (
            |t| t.retain(|name, _| !name.starts_with("decoder.")),
            &[
                "`decoder.film_mul.weight` is missing",
                "those of CLIP or SigLIP",
            ],
        ),
    ];
    for (change, wanted) in changes {
        let mut case = case();
        change(&mut case.tensors);
        let error = open(&case, 96);
        for wanted in wanted {
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }
}

#[test]
fn phrases_that_do_not_fit_are_refused() {
    let case = cases::<Case>("clipseg.json")
        .remove("rd16")
        .expect("a case");
    let (_folder, checkpoint) = case.checkpoint();
    let model = ClipSeg::new(gpu(), &checkpoint, 64, Precision::Auto).expect("a model");
    let rec = gpu().record("clipseg");
    for (ids, wanted) in [
        (vec![], "a text of 0 tokens; 1 to 20 fit"),
        (vec![1; 21], "a text of 21 tokens"),
        (vec![99], "token 99 is beyond the table of 99"),
    ] {
        let error = model.conditions(&rec, &[ids], |_, _| ()).expect_err(wanted);
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

/// Texts of one to eight pieces, by chance, as goldens/clip.py makes them.
fn strings(words: &Words) -> Vec<String> {
    let text = |n: usize| {
        let chances = hashed(&format!("string{n}"), 17);
        let mut chances = chances.iter().map(|v| (f64::from(*v) + 1.0) / 2.0);
        let mut chance = || chances.next().expect("a chance");
        let mut text = String::new();
        for _ in 0..=(chance() * 8.0) as usize {
            text += &words.pieces[(chance() * words.pieces.len() as f64) as usize];
            text += if chance() < 0.7 { " " } else { "" };
        }
        text
    };
    (0..1000).map(text).collect()
}

fn check_words(words: &Words, tokenizer: &ClipTokenizer, want: &Ids) {
    let strings = strings(words);
    let encode = |text: &String| tokenizer.encode(text).expect("ids");
    let ids: Vec<Vec<u32>> = strings.iter().map(encode).collect();
    for ((text, ids), want) in strings.iter().zip(&ids).zip(&want.first) {
        assert_eq!(ids, want, "{text:?}");
    }
    assert_eq!(ids.iter().map(Vec::len).sum::<usize>(), want.tokens);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for ids in ids {
        let length = [ids.len() as u64].into_iter();
        for n in length.chain(ids.iter().map(|id| u64::from(*id))) {
            hash = (hash ^ n).wrapping_mul(0x100_0000_01b3);
        }
    }
    assert_eq!(format!("{hash:016x}"), want.checksum);
}

#[test]
fn words_become_the_ids_of_transformers() {
    let words = Words::open();
    let folder = tempfile::tempdir().expect("a folder");
    write_vocabulary(folder.path(), &words.letters(), &words.merges);
    let tokenizer = ClipTokenizer::from_folder(folder.path()).expect("two files");
    check_words(&words, &tokenizer, &words.small);
    // The same as one file.
    let json = tokenizer.json().expect("JSON");
    std::fs::write(folder.path().join("tokenizer.json"), json).expect("written");
    std::fs::remove_file(folder.path().join("merges.txt")).expect("removed");
    let tokenizer = ClipTokenizer::from_folder(folder.path()).expect("one file");
    check_words(&words, &tokenizer, &words.small);
    assert_eq!(tokenizer.vocab_size(), words.merges.len() + 514);
}

/// CLIP's own vocabulary is not part of the repository: `KERAUNOS_CLIP_VOCABULARY` says where bpe_simple_vocab_16e6.txt.gz of the
/// package open_clip_torch is.
#[test]
fn words_become_the_ids_of_clip_itself() {
    let Some(path) = std::env::var_os("KERAUNOS_CLIP_VOCABULARY").map(PathBuf::from) else {
        println!("KERAUNOS_CLIP_VOCABULARY does not say where CLIP's vocabulary is");
        return;
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).expect("CLIP's vocabulary");
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("text");
    let merges: Vec<String> = text
        .lines()
        .skip(1)
        .take(48_894)
        .map(str::to_owned)
        .collect();
    // Bytes that print, then the others from 256 on.
    let mut letters: Vec<char> = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ').collect();
    letters.extend((256..).filter_map(char::from_u32).take(256 - letters.len()));
    let folder = tempfile::tempdir().expect("a folder");
    write_vocabulary(folder.path(), &letters, &merges);
    let tokenizer = ClipTokenizer::from_folder(folder.path()).expect("a tokenizer");
    assert_eq!(tokenizer.vocab_size(), 49_408);
    let words = Words::open();
    check_words(&words, &tokenizer, words.whole.as_ref().expect("ids"));
    assert_eq!(
        tokenizer.encode("a photo of a cat").expect("ids"),
        [49406, 320, 1125, 539, 320, 2368, 49407]
    );
}

#[test]
fn vocabularies_that_do_not_fit_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || {
        ClipTokenizer::from_folder(folder.path())
            .expect_err("a fault")
            .to_string()
    };
    assert!(open().contains("tokenizer.json"), "{}", open());
    let put =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    put("vocab.json", "{\"a\": 0, \"a</w>\": 1}");
    assert!(open().contains("merges.txt"), "{}", open());
    put("merges.txt", "#version: 0.2\n");
    assert!(open().contains("<|startoftext|>"), "{}", open());
    put(
        "vocab.json",
        "{\"a\": 0, \"<|startoftext|>\": 1, \"<|endoftext|>\": 2}",
    );
    put("merges.txt", "#version: 0.2\na b\n");
    assert!(
        open().contains("merges.txt") || open().contains("vocab.json"),
        "{}",
        open()
    );
    put("merges.txt", "#version: 0.2\na\n");
    assert!(open().contains("line 2"), "{}", open());
    put("vocab.json", "[]");
    assert!(open().contains("vocab.json"), "{}", open());
}
