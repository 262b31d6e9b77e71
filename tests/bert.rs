//! BERT beside transformers: its activations, and how its tokenizer splits 1,000 texts.

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
use keraunos::models::bert::{Bert, BertConfig, Pooling};
use keraunos::pipeline::text_encoder::TextEncoder;
use keraunos::pipeline::tokenizer::SentenceTokenizer;
use keraunos::tensor::{Checkpoint, Precision, Tensor, hex};
use model_files::{hashed, model_folder};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::gpu;

/// One case of `bert.json` or `bert_whole.json`.
#[derive(Deserialize)]
struct Case {
    config: Value,
    #[serde(default)]
    tensors: BTreeMap<String, Vec<usize>>,
    /// The contract that has them instead.
    names: Option<String>,
    sentences: Vec<Vec<u32>>,
    found: BTreeMap<String, Found>,
}

impl Case {
    fn folder(&self) -> tempfile::TempDir {
        let contract = self.names.as_deref().map(contract);
        let tensors = contract.as_ref().unwrap_or(&self.tensors);
        model_folder(&self.config, tensors, str::to_owned)
    }

    fn check(&self, name: &str, folder: &Path, precision: Precision, share: f64) {
        let bert = open(folder, &self.config, precision).unwrap_or_else(|error| panic!("{error}"));
        let rec = gpu().record("bert");
        let mut kept = Kept::of(&self.found);
        let keep = |at: &str, x: &Tensor| kept.keep(at, x);
        let sentences = bert.forward(&rec, &self.sentences, keep).expect("a pass");
        for (at, pooling) in [
            ("mean", Pooling::Mean),
            ("cls", Pooling::Cls),
            ("pooler", Pooling::Pooler),
        ] {
            let pooled = bert.pooled(&rec, &sentences, pooling);
            assert_eq!(pooled.is_ok(), self.found.contains_key(at), "{name}: {at}");
            if let Ok(pooled) = pooled {
                kept.keep(at, &pooled);
            }
        }
        kept.compare(name, rec, &[], share);
    }
}

fn open(folder: &Path, config: &Value, precision: Precision) -> Result<Bert, String> {
    let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
    let config = BertConfig::of(config)?;
    Bert::new(gpu(), &checkpoint, config, precision).map_err(|error| error.to_string())
}

#[test]
fn small_models_equal_transformers() {
    for (name, case) in cases::<Case>("bert.json") {
        // Sums of f32 against float64; 1e-3 of the scale is asked for.
        case.check(&name, case.folder().path(), Precision::Auto, 1e-5);
        case.check(&name, case.folder().path(), Precision::F16, 5e-3);
    }
}

/// BERT-base at its true size: `cargo test --release --test bert -- --ignored --nocapture`.
#[test]
#[ignore = "a minute on a software adapter, and 1 GB of memory"]
fn bert_base_equals_transformers() {
    for (name, case) in cases::<Case>("bert_whole.json") {
        let folder = case.folder();
        case.check(&name, folder.path(), Precision::F32, 1e-4);
    }
}

#[test]
fn checkpoints_and_configurations_that_do_not_fit_are_named() {
    let case = |name: &str| cases::<Case>("bert.json").remove(name).expect("a case");
    for (key, value, wanted) in [
        (
            "model_type",
            json!("roberta"),
            "`model_type` is \"roberta\", expected `bert`",
        ),
        (
            "position_embedding_type",
            json!("relative_key"),
            "`position_embedding_type` is \"relative_key\"",
        ),
        ("is_decoder", json!(true), "`is_decoder` is true"),
        ("hidden_act", json!("mish"), "`hidden_act` is \"mish\""),
        (
            "hidden_size",
            json!(-3),
            "`hidden_size` is -3, expected a whole number",
        ),
        ("hidden_size", json!("64"), "`hidden_size` is \"64\""),
        ("num_hidden_layers", json!(0), "`num_hidden_layers` is 0"),
        (
            "num_attention_heads",
            json!(5),
            "5 heads do not fit a width of 64",
        ),
        (
            "layer_norm_eps",
            json!("small"),
            "`layer_norm_eps` is \"small\"",
        ),
        ("layer_norm_eps", json!(-1.0), "`layer_norm_eps` is -1"),
        (
            "vocab_size",
            json!(130),
            "`embeddings.word_embeddings.weight` has shape [131, 64], expected [130, 64]",
        ),
        (
            "max_position_embeddings",
            json!(41),
            "`embeddings.position_embeddings.weight` has shape [40, 64]",
        ),
        (
            "type_vocab_size",
            json!(1),
            "`embeddings.token_type_embeddings.weight` has shape [2, 64]",
        ),
        (
            "num_hidden_layers",
            json!(2),
            "`encoder.layer.2.attention.output.LayerNorm.bias` [64] is not part of the model",
        ),
    ] {
        let mut changed = case("plain");
        changed.config[key] = value;
        let error = open(changed.folder().path(), &changed.config, Precision::Auto);
        let error = error.expect_err(wanted);
        assert!(error.contains(wanted), "{error}");
    }
    assert_eq!(
        BertConfig::of(&json!([])).expect_err("no object"),
        "is no object"
    );
    type Change = fn(&mut BTreeMap<String, Vec<usize>>);
    let changes: [(&str, Change, &str); 4] = [
        (
            "plain",
            |t| drop(t.remove("encoder.layer.1.attention.self.key.bias")),
            "`encoder.layer.1.attention.self.key.bias` is missing",
        ),
        (
            "legacy",
            |t| drop(t.remove("bert.embeddings.LayerNorm.beta")),
            "`bert.embeddings.LayerNorm.beta` is missing",
        ),
        (
            "plain",
            |t| drop(t.insert("encoder.layer.0.adapter.weight".into(), vec![8])),
            "`encoder.layer.0.adapter.bias` is missing",
        ),
        (
            "plain",
            |t| {
                let old = std::mem::take(t);
                t.extend(
                    old.into_iter()
                        .map(|(name, shape)| (format!("vision_model.encoder.{name}"), shape)),
                );
            },
            "`embeddings.token_type_embeddings.weight` is missing, expected shape [2, 64]; its tensors are called as those of CLIP",
        ),
    ];
    for (name, change, wanted) in changes {
        let mut changed = case(name);
        change(&mut changed.tensors);
        let error = open(changed.folder().path(), &changed.config, Precision::Auto);
        let error = error.expect_err(wanted);
        assert!(error.contains(wanted), "{error}");
    }
    // Sentences that no BERT takes.
    let case = case("plain");
    let bert = open(case.folder().path(), &case.config, Precision::Auto).expect("a model");
    for (sentence, wanted) in [
        (vec![], "a sentence of 0 tokens; 1 to 40 fit"),
        (vec![1; 41], "a sentence of 41 tokens; 1 to 40 fit"),
        (vec![131], "token 131 is beyond the table of 131"),
    ] {
        let rec = gpu().record("bert");
        let error = bert.forward(&rec, &[sentence], |_, _| ());
        assert_eq!(error.map(drop).expect_err(wanted).to_string(), wanted);
    }
}

/// `bert_tokens.json`.
struct Tokens {
    vocab: Vec<String>,
    pieces: Vec<String>,
    some: BTreeMap<usize, String>,
    settings: BTreeMap<String, Setting>,
}

#[derive(Deserialize)]
struct Setting {
    /// `tokenizer_config.json`; none.
    setting: Option<Value>,
    some: BTreeMap<usize, Vec<u32>>,
    sha256: String,
}

impl Tokens {
    fn read() -> Self {
        let mut all = cases::<Value>("bert_tokens.json");
        let mut part = |name: &str| all.remove(name).expect("a part");
        Self {
            vocab: serde_json::from_value(part("vocab")).expect("words"),
            pieces: serde_json::from_value(part("pieces")).expect("pieces"),
            some: serde_json::from_value(part("some")).expect("texts"),
            settings: serde_json::from_value(part("settings")).expect("settings"),
        }
    }

    /// A text, as goldens/bert.py makes it.
    fn text(&self, n: usize) -> String {
        let v = hashed(&format!("text{n}"), 32);
        let scaled = |v: f32, by: usize| (v.abs() * by as f32) as usize;
        let many = (1 + scaled(v[0], 15)).min(15);
        let count = self.pieces.len();
        (0..many)
            .map(|i| {
                let piece = &self.pieces[scaled(v[1 + 2 * i], count).min(count - 1)];
                let space = if v[2 + 2 * i] > 0.0 { " " } else { "" };
                format!("{piece}{space}")
            })
            .collect()
    }

    /// A folder with the words and a `tokenizer_config.json`.
    fn folder(&self, setting: Option<&Value>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write("vocab.txt", self.vocab.join("\n") + "\n");
        if let Some(setting) = setting {
            write("tokenizer_config.json", setting.to_string());
        }
        folder
    }
}

#[test]
fn a_thousand_texts_are_split_as_by_transformers() {
    let tokens = Tokens::read();
    for (n, text) in &tokens.some {
        assert_eq!(tokens.text(*n), *text, "text {n}");
    }
    assert_eq!(tokens.settings.len(), 6);
    for (name, setting) in &tokens.settings {
        let folder = tokens.folder(setting.setting.as_ref());
        // So long that nothing is cut.
        let tokenizer = SentenceTokenizer::from_folder(folder.path(), 1 << 14);
        let tokenizer = tokenizer.expect("a tokenizer");
        assert_eq!(tokenizer.vocab_size(), tokens.vocab.len());
        let mut hasher = Sha256::new();
        for n in 0..1000 {
            let mut ids = tokenizer.encode(&tokens.text(n)).expect("ids").ids;
            if let Some(want) = setting.some.get(&n) {
                assert_eq!(ids, *want, "{name}: text {n}: {:?}", tokens.text(n));
            }
            ids.push(u32::MAX);
            hasher.update(bytemuck::pod_collect_to_vec::<u32, u8>(&ids));
        }
        assert_eq!(hex(&hasher.finalize()), setting.sha256, "{name}");
    }
}

/// `tokenizer_config.json` has the last word over the normaliser of a `tokenizer.json`, as in transformers; what it does not say
/// stays.
#[test]
fn settings_beside_a_tokenizer_have_the_last_word() {
    let tokens = Tokens::read();
    let ids: serde_json::Map<String, Value> = (0..)
        .zip(&tokens.vocab)
        .map(|(id, word)| (word.clone(), Value::from(id)))
        .collect();
    let added = |id: usize| {
        json!({
            "id": id, "content": tokens.vocab[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    let written = |lowercase: bool| {
        json!({
            "version": "1.0", "truncation": null, "padding": null, "decoder": null,
            "added_tokens": (0..5).map(added).collect::<Vec<_>>(),
            "normalizer": {
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
                "lowercase": lowercase,
            },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": { "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2] },
            "model": {
                "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": ids,
            },
        })
    };
    for (lowercase, setting, wanted) in [
        (true, None, "uncased"),
        (false, None, "cased"),
        (false, Some(json!({})), "cased"),
        (false, Some(json!({ "do_lower_case": true })), "uncased"),
        (true, Some(json!({ "do_lower_case": false })), "cased"),
        (
            true,
            Some(json!({ "strip_accents": false })),
            "accents kept",
        ),
        (
            false,
            Some(json!({ "strip_accents": true })),
            "accents alone",
        ),
        (
            true,
            Some(json!({ "tokenize_chinese_chars": false })),
            "chinese as words",
        ),
    ] {
        let folder = tokens.folder(setting.as_ref());
        let text = written(lowercase).to_string();
        std::fs::write(folder.path().join("tokenizer.json"), text).expect("written");
        let tokenizer =
            SentenceTokenizer::from_folder(folder.path(), 1 << 14).expect("a tokenizer");
        for (n, want) in &tokens.settings[wanted].some {
            let got = tokenizer.encode(&tokens.text(*n)).expect("ids").ids;
            assert_eq!(got, *want, "{lowercase}, {setting:?}: text {n}");
        }
    }
}

#[test]
fn word_lists_that_do_not_fit_are_named() {
    let tokens = Tokens::read();
    let open = |folder: &Path| {
        let opened = SentenceTokenizer::from_folder(folder, 64);
        opened.map(drop).expect_err("a fault").to_string()
    };
    for (setting, wanted) in [
        (json!([]), "tokenizer_config.json`: is no object"),
        (
            json!({ "do_lower_case": "yes" }),
            "`do_lower_case` is \"yes\", expected true or false",
        ),
        (
            json!({ "strip_accents": 1 }),
            "`strip_accents` is 1, expected true or false",
        ),
        (
            json!({ "cls_token": "<s>" }),
            "vocab.txt`: has no line `<s>`",
        ),
        (
            json!({ "sep_token": 3 }),
            "`sep_token` is 3, expected a token",
        ),
        (
            json!({ "sep_token": { "id": 3 } }),
            "`sep_token` is {\"id\":3}, expected a token",
        ),
    ] {
        let error = open(tokens.folder(Some(&setting)).path());
        assert!(error.contains(wanted), "{error}");
    }
    // A `tokenizer.json` of another shape beside settings.
    let folder = tokens.folder(Some(&json!({ "do_lower_case": true })));
    for text in [
        "[]",
        "3",
        "{",
        "{\"normalizer\": []}",
        "{\"normalizer\": \"BertNormalizer\"}",
    ] {
        std::fs::write(folder.path().join("tokenizer.json"), text).expect("written");
        assert!(
            open(folder.path()).contains("tokenizer.json`: tokenizer: "),
            "{text}"
        );
    }
    // A token may be an object, as older releases wrote it; lines may end as Windows' do; a word's last place counts.
    let folder = tokens.folder(Some(
        &json!({ "unk_token": { "content": "[UNK]", "lstrip": false } }),
    ));
    let text = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "lung", "##s", "lung",
    ]
    .join("\r\n");
    std::fs::write(folder.path().join("vocab.txt"), text).expect("written");
    let tokenizer = SentenceTokenizer::from_folder(folder.path(), 64).expect("a tokenizer");
    let ids = tokenizer
        .encode("Lungs lung heart [MASK]")
        .expect("ids")
        .ids;
    assert_eq!(ids, [2, 7, 6, 7, 1, 4, 3]);
    let bytes = [b"[PAD]\n\xff".as_slice(), b"\n"].concat();
    std::fs::write(folder.path().join("vocab.txt"), bytes).expect("written");
    assert!(
        open(folder.path()).contains("utf-8"),
        "{}",
        open(folder.path())
    );
    std::fs::remove_file(folder.path().join("vocab.txt")).expect("removed");
    assert!(open(folder.path()).contains("tokenizer.json"));
}

/// A folder as BERTs are published, with words in a list: its embeddings are the means of its states at unit length.
#[test]
fn a_folder_with_a_word_list_is_a_text_encoder() {
    let tokens = Tokens::read();
    let mut case = cases::<Case>("bert.json").remove("legacy").expect("a case");
    let words = tokens.folder(None);
    let open = |case: &Case| {
        let folder = case.folder();
        std::fs::copy(
            words.path().join("vocab.txt"),
            folder.path().join("vocab.txt"),
        )
        .expect("copied");
        TextEncoder::from_folder(gpu(), folder.path())
    };
    let error = open(&case)
        .map(drop)
        .expect_err("too many words")
        .to_string();
    let count = tokens.vocab.len();
    assert!(
        error.contains(&format!("has {count} tokens, the model 131")),
        "{error}"
    );
    let rows = [count, 64];
    case.config["vocab_size"] = count.into();
    case.tensors.insert(
        "bert.embeddings.word_embeddings.weight".into(),
        rows.to_vec(),
    );
    // As many tokens as sentence-transformers says, or as there are positions.
    let long = ["lung "; 50].concat();
    for (said, wanted) in [
        (json!(8), true),
        (json!(null), true),
        (json!(4), true),
        (json!("many"), false),
    ] {
        let folder = case.folder();
        let place = |name: &str| folder.path().join(name);
        std::fs::copy(words.path().join("vocab.txt"), place("vocab.txt")).expect("copied");
        let text = json!({ "max_seq_length": said }).to_string();
        std::fs::write(place("sentence_bert_config.json"), text).expect("written");
        match TextEncoder::from_folder(gpu(), folder.path()) {
            Ok(encoder) => {
                assert!(wanted, "{said}");
                let (rows, cut) = encoder.embed(gpu(), &[&long]).expect("embeddings");
                let most = said.as_u64().unwrap_or(40) as usize;
                let same = ["lung "; 50][..most - 2].concat();
                assert!(cut && rows == encoder.embed(gpu(), &[&same]).expect("embeddings").0);
            }
            Err(error) => {
                let error = error.to_string();
                assert!(
                    !wanted && error.contains("`max_seq_length` is \"many\""),
                    "{error}"
                );
            }
        }
    }
    let encoder = open(&case).expect("an encoder");
    let texts = ["the left lung", "Pneumothorax, right"];
    let by = |pooling| encoder.embed_by(gpu(), &texts, pooling);
    let error = by(Pooling::Pooler).map(drop);
    assert!(error.is_ok(), "`legacy` has a pooler");
    let (cls, _) = by(Pooling::Cls).expect("embeddings");
    let (rows, cut) = encoder.embed(gpu(), &texts).expect("embeddings");
    assert_ne!(cls, rows);
    assert!(!cut && rows.len() == 2 * 64 && encoder.dim() == 64);
    for row in rows.chunks_exact(64) {
        let length: f32 = row.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    assert_ne!(rows[..64], rows[64..]);
}
