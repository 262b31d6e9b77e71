//! The Llama family beside transformers: every architecture and every way to stretch the positions, from a folder of
//! Hugging Face's and from GGUF.

#[path = "support/model_files.rs"]
mod model_files;
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use keraunos::gpu::{Gpu, GpuOptions, Profile};
use keraunos::models::llama::{Architecture, Batch, Given, Llama, LlamaConfig};
use keraunos::tensor::{Checkpoint, Precision, Tensor};
use model_files::{GgufFile, TempFile, hashed, leak, safetensors, temp_file};
use serde_json::Value;
use support::{close, gpu};

/// One case of `llama.json`.
struct Case {
    config: Value,
    tensors: BTreeMap<String, Vec<usize>>,
    ids: Vec<u32>,
    logits: Vec<f32>,
}

impl Case {
    fn all() -> Vec<(String, Self)> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/llama.json");
        let text = std::fs::read_to_string(path).expect("the goldens");
        let cases: BTreeMap<String, Value> = serde_json::from_str(&text).expect("JSON");
        let read = |case: &Value, key: &str| case[key].clone();
        cases
            .into_iter()
            .filter(|(name, _)| name != "made with")
            .map(|(name, case)| {
                let of = |key: &str| read(&case, key);
                let this = Self {
                    config: of("config"),
                    tensors: serde_json::from_value(of("tensors")).expect("shapes"),
                    ids: serde_json::from_value(of("ids")).expect("ids"),
                    logits: serde_json::from_value(of("logits")).expect("logits"),
                };
                (name, this)
            })
            .collect()
    }

    fn get(name: &str) -> Self {
        let found = Self::all().into_iter().find(|(other, _)| other == name);
        found.expect("a case").1
    }

    fn kind(&self) -> &str {
        self.config["model_type"].as_str().expect("a type")
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.config[key].as_f64()
    }

    fn size(&self, key: &str) -> usize {
        self.number(key).expect(key) as usize
    }

    /// The values of a tensor under Hugging Face's name.
    fn values(&self, name: &str) -> Vec<f32> {
        let shape = &self.tensors[name];
        let around_one = self.kind() != "gemma3_text" && name.contains("norm");
        let scale = |v: f32| match shape[..] {
            [_, columns] => v * 2.0 / (columns as f32).sqrt(),
            _ => v * 0.25 + f32::from(u8::from(around_one)),
        };
        let count = shape.iter().product();
        hashed(name, count).into_iter().map(scale).collect()
    }

    /// A safetensors file of some of the tensors.
    fn safetensors(&self, keep: impl Fn(&str) -> bool) -> Vec<u8> {
        let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
        for (name, shape) in self.tensors.iter().filter(|(name, _)| keep(name)) {
            let start = data.len();
            data.extend(bytemuck::pod_collect_to_vec::<f32, u8>(&self.values(name)));
            let entry = serde_json::json!({
                "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()],
            });
            header.insert(name.clone(), entry);
        }
        safetensors(&Value::Object(header).to_string(), &data)
    }

    /// A folder as Hugging Face has it: `config.json` and `model.safetensors`.
    fn folder(&self) -> TempFile {
        let weights = temp_file("model.safetensors", &self.safetensors(|_| true));
        self.config_beside(&weights);
        weights
    }

    fn config_beside(&self, file: &TempFile) {
        std::fs::write(
            file.path().with_file_name("config.json"),
            self.config.to_string(),
        )
        .expect("a configuration");
    }

    /// The same model as llama.cpp's converter writes it.
    fn gguf(&self) -> Vec<u8> {
        let architecture = match self.kind() {
            "mistral" => "llama",
            "gemma3_text" => "gemma3",
            other => other,
        };
        let key = |key: &str| format!("{architecture}.{key}");
        let (dim, heads) = (self.size("hidden_size"), self.size("num_attention_heads"));
        let width = self.number("head_dim").map_or(dim / heads, |w| w as usize);
        let mut file = GgufFile::default()
            .str("general.architecture", architecture)
            .u32(&key("embedding_length"), dim as u32)
            .u32(&key("block_count"), self.size("num_hidden_layers") as u32)
            .u32(&key("attention.head_count"), heads as u32)
            .u32(
                &key("attention.head_count_kv"),
                self.size("num_key_value_heads") as u32,
            )
            .u32(&key("attention.key_length"), width as u32)
            .u32(
                &key("feed_forward_length"),
                self.size("intermediate_size") as u32,
            )
            .u32(&key("context_length"), 256)
            .f32(
                &key("rope.freq_base"),
                self.number("rope_theta").expect("theta") as f32,
            )
            .f32(&key("attention.layer_norm_rms_epsilon"), 1e-5);
        if self.kind() == "mistral" || self.kind() == "gemma3_text" {
            file = file.u32(
                &key("attention.sliding_window"),
                self.size("sliding_window") as u32,
            );
        }
        let scaling = &self.config["rope_scaling"];
        let kind = scaling["rope_type"].as_str().or(scaling["type"].as_str());
        if let Some(kind @ ("linear" | "yarn")) = kind {
            file = file.str(&key("rope.scaling.type"), kind).f32(
                &key("rope.scaling.factor"),
                scaling["factor"].as_f64().unwrap() as f32,
            );
        }
        if kind == Some("yarn") {
            file = file.u32(&key("rope.scaling.original_context_length"), 64);
        }
        if kind == Some("llama3") {
            let factors = llama3_factors(width, self.number("rope_theta").unwrap(), scaling);
            let bytes: Vec<u8> = bytemuck::pod_collect_to_vec(&factors);
            file = file.tensor("rope_freqs.weight", &[factors.len() as i64], 0, &bytes);
        }
        for (name, shape) in &self.tensors {
            let mut values = self.values(name);
            if self.kind() == "gemma3_text" && name.contains("norm") {
                values.iter_mut().for_each(|v| *v += 1.0);
            }
            if architecture == "llama" && (name.contains("q_proj") || name.contains("k_proj")) {
                values = by_neighbours(&values, width, shape[1]);
            }
            let dims: Vec<i64> = shape.iter().rev().map(|n| *n as i64).collect();
            let bytes: Vec<u8> = bytemuck::pod_collect_to_vec(&values);
            file = file.tensor(&in_gguf(name, self.kind()), &dims, 0, &bytes);
        }
        file.bytes()
    }
}

/// GGUF's name of a tensor.
fn in_gguf(name: &str, kind: &str) -> String {
    let whole = [
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
    ];
    if let Some((old, new)) = whole.iter().find(|(old, _)| name.starts_with(old)) {
        return name.replacen(old, new, 1);
    }
    let mlp = if kind == "gemma3_text" {
        "post_attention_norm"
    } else {
        "ffn_norm"
    };
    [
        ("model.layers", "blk"),
        ("input_layernorm", "attn_norm"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.q_norm", "attn_q_norm"),
        ("self_attn.k_norm", "attn_k_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("post_attention_layernorm", mlp),
        ("pre_feedforward_layernorm", "ffn_norm"),
        ("post_feedforward_layernorm", "post_ffw_norm"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
    ]
    .iter()
    .fold(name.to_owned(), |name, (old, new)| name.replace(old, new))
}

/// The rows of q or k so that what was column i and i + width / 2 of a head become neighbours.
fn by_neighbours(values: &[f32], width: usize, inputs: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = values.chunks_exact(inputs).collect();
    (0..rows.len())
        .flat_map(|row| {
            let (head, column) = (row / width * width, row % width);
            rows[head + column / 2 + column % 2 * width / 2]
        })
        .copied()
        .collect()
}

/// What a converter writes for Llama 3.1: by how much each frequency is divided.
fn llama3_factors(width: usize, theta: f64, scaling: &Value) -> Vec<f32> {
    let of = |key: &str| scaling[key].as_f64().expect(key);
    let (context, factor) = (of("original_max_position_embeddings"), of("factor"));
    let (low, high) = (of("low_freq_factor"), of("high_freq_factor"));
    (0..width / 2)
        .map(|i| {
            let wave = std::f64::consts::TAU * theta.powf(2.0 * i as f64 / width as f64);
            if wave < context / high {
                1.0
            } else if wave > context / low {
                factor as f32
            } else {
                let smooth = (context / wave - low) / (high - low);
                (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
            }
        })
        .collect()
}

/// The logits of all tokens, computed in runs of so many, with keys and values kept so wide.
fn logits(gpu: &Gpu, llama: &Llama, ids: &[u32], runs: &[usize], kept: Precision) -> Vec<f32> {
    let vocab = llama.config().vocab_size;
    let cache = llama.cache(gpu, ids.len(), kept).expect("a cache");
    let (mut at, mut all) = (0, Vec::new());
    for run in runs {
        let rec = gpu.record("llama");
        let batch = Batch::sequence(&ids[at..at + run], at);
        let hidden = llama
            .forward(&rec, &batch, &cache, |_, _| ())
            .expect("a pass");
        let y = llama.logits(&rec, &hidden).read(rec).expect("a pass");
        let padded = vocab.next_multiple_of(4);
        all.extend(y.chunks_exact(padded).flat_map(|row| row[..vocab].to_vec()));
        at += run;
    }
    assert_eq!(at, ids.len());
    all
}

#[track_caller]
fn equal(name: &str, case: &Case, checkpoint: &Checkpoint, runs: &[usize]) {
    equal_on(gpu(), name, case, checkpoint, runs);
}

#[track_caller]
fn equal_on(gpu: &Gpu, name: &str, case: &Case, checkpoint: &Checkpoint, runs: &[usize]) {
    let llama = Llama::new(gpu, checkpoint, Precision::Auto)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let logits = |kept| -> Vec<f32> {
        let all = logits(gpu, &llama, &case.ids, runs, kept);
        all.into_iter().step_by(5).collect()
    };
    let got = logits(Precision::F32);
    // Seven blocks of f32 sums and angles against float64; 1e-3 of the scale is asked for.
    close(&got, &case.logits, 1e-4, 1e-4);
    // Keys and values of eleven bits; 1e-2 of the scale is asked for.
    let scale = case.logits.iter().fold(0.0f32, |a, v| a.max(v.abs()));
    let half = logits(Precision::F16);
    close(&half, &case.logits, f64::from(3e-3 * scale), 0.0);
    assert_ne!(half, got, "{name}: keys and values of f16 change nothing");
}

#[test]
fn every_architecture_equals_transformers_from_its_folder() {
    for (name, case) in Case::all() {
        let file = case.folder();
        let folder = file.path().parent().expect("a folder");
        let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
        equal(&name, &case, &checkpoint, &[41]);
        // A prompt in two parts, then a token at a time.
        equal(&name, &case, &checkpoint, &[19, 16, 1, 1, 1, 1, 1, 1]);
    }
}

#[test]
fn every_architecture_equals_transformers_from_gguf() {
    for (name, case) in Case::all() {
        // Their numbers have no place in GGUF.
        if ["llama_parameters", "qwen2_windows"].contains(&&*name) {
            continue;
        }
        let checkpoint = Checkpoint::from_bytes(leak(case.gguf()), "small.gguf").expect("a file");
        equal(&name, &case, &checkpoint, &[40, 1]);
    }
}

/// What a graphics card runs, on this adapter: norms and shares of the keys are folded into the products that read them, and
/// a block without norms of its own takes six dispatches to decode a token.
#[test]
fn as_on_a_graphics_card_every_architecture_equals_transformers() {
    let profile = Arc::new(Profile::default());
    let gpu = Gpu::open(&GpuOptions {
        checked: true,
        as_card: true,
        profile: Some(profile.clone()),
        ..GpuOptions::default()
    })
    .expect("an adapter");
    let mut counted = 0;
    for (name, case) in Case::all() {
        let file = case.folder();
        let folder = file.path().parent().expect("a folder");
        let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
        equal_on(&gpu, &name, &case, &checkpoint, &[19, 16, 1, 1, 2, 2]);
        let plain = LlamaConfig::of(&checkpoint).expect("a configuration");
        if plain.architecture != Architecture::Llama {
            continue;
        }
        let before = profile.timings().len();
        equal_on(&gpu, &name, &case, &checkpoint, &[40, 1]);
        let timings = profile.timings().split_off(before);
        let decoded = timings
            .iter()
            .rposition(|timing| timing.label.starts_with("embed"));
        let decoded = &timings[decoded.expect("an embedding")..];
        // Embedding, last norm and output layer are not of a block.
        let labels: Vec<&str> = decoded.iter().map(|timing| &*timing.label).collect();
        assert!(
            labels.len() <= 6 * plain.block_count() + 3,
            "{name}: {labels:#?}"
        );
        counted += 1;
    }
    assert!(counted > 0, "no configuration without norms of its own");
}

#[test]
fn shards_equal_one_file_and_a_wrong_index_is_named() {
    let case = Case::get("qwen2");
    let first = |name: &str| name.contains("layers.0");
    let file = temp_file("a.safetensors", &case.safetensors(first));
    let folder = file.path().parent().expect("a folder");
    std::fs::write(
        folder.join("b.safetensors"),
        case.safetensors(|name| !first(name)),
    )
    .expect("a shard");
    case.config_beside(&file);
    let index = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let mut map = serde_json::Map::new();
        for name in case.tensors.keys() {
            let shard = if first(name) {
                "a.safetensors"
            } else {
                "b.safetensors"
            };
            map.insert(name.clone(), shard.into());
        }
        change(&mut map);
        let text = serde_json::json!({ "metadata": {}, "weight_map": map }).to_string();
        std::fs::write(folder.join("model.safetensors.index.json"), text).expect("an index");
    };
    index(&|_| ());
    let checkpoint = Checkpoint::open(folder).expect("a checkpoint");
    equal("shards", &case, &checkpoint, &[41]);

    let fault = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        index(change);
        Checkpoint::open(folder)
            .expect_err("a wrong index")
            .to_string()
    };
    let moved = fault(&|map| drop(map.insert("model.norm.weight".into(), "a.safetensors".into())));
    assert!(
        moved.contains("`model.norm.weight`") && moved.contains("b.safetensors"),
        "{moved}"
    );
    let lacking = fault(&|map| drop(map.insert("more.weight".into(), "a.safetensors".into())));
    assert!(
        lacking.contains("`more.weight`") && lacking.contains("a.safetensors"),
        "{lacking}"
    );
    let outside = fault(&|map| drop(map.insert("more.weight".into(), "../a.safetensors".into())));
    assert!(outside.contains("../a.safetensors"), "{outside}");
    std::fs::remove_file(folder.join("model.safetensors.index.json")).expect("removed");
    let neither = Checkpoint::open(folder)
        .expect_err("no weights")
        .to_string();
    assert!(
        neither.contains("model.safetensors.index.json"),
        "{neither}"
    );
}

#[test]
fn configurations_that_do_not_fit_are_named() {
    let case = Case::get("qwen3");
    for (key, value, wanted) in [
        ("model_type", Value::from("gpt2"), "gpt2"),
        ("hidden_act", "relu".into(), "relu"),
        ("head_dim", 20.into(), "20"),
        ("head_dim", 512.into(), "512"),
        ("num_key_value_heads", 3.into(), "3"),
        ("num_hidden_layers", 0.into(), "block count"),
        ("num_attention_heads", u64::MAX.into(), "head count"),
        (
            "rope_scaling",
            serde_json::json!({"rope_type": "longrope"}),
            "longrope",
        ),
        (
            "rope_scaling",
            serde_json::json!({"rope_type": "linear"}),
            "factor",
        ),
        (
            "layer_types",
            serde_json::json!(["full_attention"]),
            "layer_types",
        ),
        (
            "final_logit_softcapping",
            30.0.into(),
            "final_logit_softcapping",
        ),
        ("partial", Value::Null, ""),
    ] {
        let file = case.folder();
        let mut config = case.config.clone();
        config[key] = value;
        let path = file.path().with_file_name("config.json");
        std::fs::write(&path, config.to_string()).expect("a configuration");
        let checkpoint = Checkpoint::open(file.path()).expect("a checkpoint");
        let opened = Llama::new(gpu(), &checkpoint, Precision::Auto);
        match wanted {
            // What is not known is not read.
            "" => drop(opened.expect("a model")),
            wanted => {
                let error = opened
                    .expect_err("a configuration that does not fit")
                    .to_string();
                assert!(
                    error.contains(wanted) && error.contains("config.json"),
                    "{error}"
                );
            }
        }
    }
    let alone = temp_file("alone.safetensors", &case.safetensors(|_| true));
    let checkpoint = Checkpoint::open(alone.path()).expect("a checkpoint");
    let error = Llama::new(gpu(), &checkpoint, Precision::Auto).expect_err("no configuration");
    assert!(error.to_string().contains("config.json"), "{error}");
}

/// Rows of the batch that are given, in two pieces of one tensor, among others that the table has.
#[test]
fn given_rows_equal_to_the_tables_change_no_bit() {
    let case = Case::get("llama3");
    let file = case.folder();
    let checkpoint = Checkpoint::open(file.path()).expect("a checkpoint");
    let llama = Llama::new(gpu(), &checkpoint, Precision::Auto).expect("a model");
    let run = |batch: &Batch| {
        let cache = llama
            .cache(gpu(), batch.len(), Precision::F32)
            .expect("a cache");
        let rec = gpu().record("given");
        let mut table = None;
        let hidden = llama.forward(&rec, batch, &cache, |name, x| {
            if name == "embedding" {
                table = Some(x.clone());
            }
        });
        let (hidden, table) = (hidden.expect("a pass"), table.expect("an embedding"));
        let read = rec.read::<f32>(&[(&hidden, hidden.len()), (&table, table.len())]);
        let [hidden, table] = <[Vec<f32>; 2]>::try_from(read.expect("a pass")).expect("both");
        (hidden, table)
    };
    let plain = Batch::sequence(&case.ids, 0);
    let (want, table) = run(&plain);
    let tokens = Tensor::upload(gpu(), "tokens", [41, 64], &table).expect("memory");
    let mut given = Batch::sequence(&case.ids, 0);
    for (row, count) in [(3, 9), (12, 1), (30, 11)] {
        given.ids[row..row + count].fill(0);
        given.given.push(Given {
            row,
            count,
            tokens: tokens.clone(),
            first: row,
        });
    }
    assert_eq!(run(&given).0, want);
    // They are no rows of their own ids, and parts take theirs along.
    let mut other = given.clone();
    other.given[1].first = 20;
    assert_ne!(run(&other).0, want);
    let part = given.part(8..35);
    let places: Vec<_> = part
        .given
        .iter()
        .map(|g| (g.row, g.count, g.first))
        .collect();
    assert_eq!(places, [(0, 4, 8), (4, 1, 12), (22, 5, 30)]);
    given.given.clear();
    assert_ne!(run(&given).0, want);
}

/// Heads and rows beyond what the other kernels take.
#[test]
fn texts_longer_than_one_kernel_takes_are_computed_alike() {
    let mut case = Case::get("llama2");
    case.config["max_position_embeddings"] = 4096.into();
    let file = case.folder();
    let checkpoint = Checkpoint::open(Path::new(file.path())).expect("a checkpoint");
    let llama = Llama::new(gpu(), &checkpoint, Precision::Auto).expect("a model");
    let ids: Vec<u32> = hashed("long", 2100)
        .iter()
        .map(|v| (v.abs() * 131.0) as u32)
        .collect();
    let last = |runs: &[usize]| {
        let all = logits(gpu(), &llama, &ids, runs, Precision::F32);
        all[all.len() - 131..].to_vec()
    };
    // In one run every row sees its keys by itself; in parts most of them are a prefix.
    let want = last(&[2100]);
    close(&last(&[512, 512, 512, 512, 51, 1]), &want, 1e-4, 1e-4);
    assert!(
        want.iter().any(|v| v.abs() > 0.5),
        "logits that say something"
    );
}
