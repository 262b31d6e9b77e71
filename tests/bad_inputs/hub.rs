//! Folders as Hugging Face lays models out, with one fault each: configuration, tokenizer, index, template; and the text
//! encoder, whose files have the sizes of the real ones.

use serde_json::{Value, json};

use super::models::safetensors;
use super::*;

const DIM: usize = 32;
const WORDS: [&str; 4] = ["</s>", "[UNK]", "banana", "split"];

fn config() -> Value {
    json!({
        "model_type": "llama", "hidden_size": DIM, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "intermediate_size": DIM, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
        "vocab_size": WORDS.len(), "tie_word_embeddings": true, "eos_token_id": 0,
    })
}

fn tokenizer() -> Value {
    let vocab: serde_json::Map<_, _> = WORDS
        .iter()
        .enumerate()
        .map(|(id, word)| ((*word).to_owned(), json!(id)))
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null, "decoder": null,
        "added_tokens": [{
            "id": 0, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        }],
        "pre_tokenizer": { "type": "Whitespace" },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]" },
    })
}

/// The tensors whose names `keep` holds.
fn weights(keep: impl Fn(&str) -> bool) -> Vec<u8> {
    let block = "model.layers.0";
    let mut all = vec![
        (
            "model.embed_tokens.weight".to_owned(),
            vec![WORDS.len(), DIM],
        ),
        ("model.norm.weight".to_owned(), vec![DIM]),
    ];
    for norm in ["input_layernorm", "post_attention_layernorm"] {
        all.push((format!("{block}.{norm}.weight"), vec![DIM]));
    }
    for matrix in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        all.push((format!("{block}.self_attn.{matrix}.weight"), vec![DIM, DIM]));
    }
    for matrix in ["gate_proj", "up_proj", "down_proj"] {
        all.push((format!("{block}.mlp.{matrix}.weight"), vec![DIM, DIM]));
    }
    let (mut header, mut data) = (serde_json::Map::new(), Vec::<u8>::new());
    for (name, shape) in all.into_iter().filter(|(name, _)| keep(name)) {
        let start = data.len();
        let count: usize = shape.iter().product();
        data.extend((0..count).flat_map(|n| ((n * 37 % 64) as f32 / 64.0 - 0.5).to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name, entry);
    }
    safetensors(&Value::Object(header).to_string(), &data)
}

const LINE: &str = "generate --llm m --raw --max-tokens 3 banana";

/// A folder whose files are these, and otherwise sound.
fn folder(name: &str, says: &str, files: &[(&str, Vec<u8>)]) -> Row {
    let mut row = row(format!("folder: {name}"), LINE, says);
    for (name, bytes) in [
        ("config.json", config().to_string().into_bytes()),
        ("tokenizer.json", tokenizer().to_string().into_bytes()),
        ("model.safetensors", weights(|_| true)),
    ] {
        if files
            .iter()
            .all(|(other, _)| *other != name && *other != format!("-{name}"))
        {
            row = row.file(&format!("m/{name}"), bytes);
        }
    }
    for (name, bytes) in files.iter().filter(|(name, _)| !name.starts_with('-')) {
        row = row.file(&format!("m/{name}"), bytes.clone());
    }
    row
}

/// A folder with another value in its configuration.
fn configured(name: &str, key: &str, value: Value, says: &str) -> Row {
    let mut config = config();
    config[key] = value;
    let text = config.to_string().into_bytes();
    folder(
        name,
        &format!("`m/config.json`: {says}"),
        &[("config.json", text)],
    )
}

/// A folder whose tokenizer has another value in one place.
fn split(name: &str, place: &str, value: Value, says: &str) -> Row {
    let mut json = tokenizer();
    *json.pointer_mut(place).expect(place) = value;
    let text = json.to_string().into_bytes();
    folder(
        name,
        &format!("`m/tokenizer.json`: {says}"),
        &[("tokenizer.json", text)],
    )
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![Row {
        code: 0,
        ..folder("as it should be", "", &[])
    }];
    rows.extend(configurations());
    rows.extend(tokenizers());
    rows.extend(shards());
    rows.extend(encoders());
    rows
}

fn configurations() -> Vec<Row> {
    let text = |name: &str, text: &str, says: &str| {
        folder(
            name,
            &format!("`m/config.json`: {says}"),
            &[("config.json", text.into())],
        )
    };
    vec![
        folder(
            "no configuration",
            "cannot read `m/config.json`: *",
            &[("-config.json", vec![])],
        ),
        text("a configuration of nothing", "", "EOF *"),
        text("a configuration without end", &"[".repeat(99_999), "*"),
        text(
            "a configuration of a book's length",
            &" ".repeat(2 << 20),
            "is not a regular file of at most 1048576 bytes",
        ),
        text(
            "a configuration that says nothing",
            "{}",
            "missing field `model_type`*",
        ),
        configured(
            "an architecture of nobody",
            "model_type",
            "mamba".into(),
            "`model_type` is `mamba`, *",
        ),
        configured(
            "a width below nothing",
            "hidden_size",
            (-32).into(),
            "invalid value: integer `-32`, *",
        ),
        configured(
            "a width of nothing",
            "hidden_size",
            0.into(),
            "embedding length is 0, *",
        ),
        configured(
            "a width without measure",
            "hidden_size",
            u64::MAX.into(),
            "embedding length is 18446744073709551615, *",
        ),
        configured(
            "a width that is a text",
            "hidden_size",
            "32".into(),
            "invalid type: string *",
        ),
        configured(
            "blocks without end",
            "num_hidden_layers",
            10_000_000.into(),
            "block count is 10000000, *",
        ),
        configured(
            "no head",
            "num_attention_heads",
            0.into(),
            "head count is 0, *",
        ),
        configured(
            "heads without width",
            "head_dim",
            0.into(),
            "heads are 0 wide, *",
        ),
        configured(
            "an epsilon below nothing",
            "rms_norm_eps",
            json!(-1e-5),
            "`rms_norm_eps` is -0.00001, *",
        ),
        configured(
            "angles of nothing",
            "rope_theta",
            json!(0.0),
            "`rope_theta` is 0, *",
        ),
        configured(
            "windows of nobody's kind",
            "layer_types",
            json!(["banana"]),
            "`layer_types` has `banana`, *",
        ),
        configured(
            "positions stretched by nothing",
            "rope_scaling",
            json!({ "rope_type": "linear", "factor": 0 }),
            "`factor` is *",
        ),
        configured(
            "angles beyond any number",
            "rope_scaling",
            json!({ "rope_type": "linear", "factor": 1e-300 }),
            "positions of base 10000 scaled by Linear * turn by no finite angle",
        ),
        configured(
            "more rows than the table has",
            "vocab_size",
            1_000_000.into(),
            "*",
        ),
    ]
    .into_iter()
    // The table's own rows count; what the configuration says of them is not believed.
    .filter(|row| row.name != "folder: more rows than the table has")
    .collect()
}

fn tokenizers() -> Vec<Row> {
    let text = |name: &str, text: String, says: &str| {
        folder(
            name,
            &format!("`m/tokenizer.json`: {says}"),
            &[("tokenizer.json", text.into())],
        )
    };
    let template = |name: &str, file: &str, text: &str, says: &str| {
        folder(name, &format!("`m/{file}`: {says}"), &[(file, text.into())])
    };
    let mut stray = tokenizer();
    stray["model"]["vocab"]["stray"] = json!(4_000_000_000_u32);
    let mut far = tokenizer();
    far["model"]["vocab"]["far"] = json!(16_000_000);
    let mut wide = tokenizer();
    wide["model"]["vocab"]["wide"] = json!(100);
    vec![
        folder(
            "no tokenizer",
            "cannot read `m/tokenizer.json`: *",
            &[("-tokenizer.json", vec![])],
        ),
        text("a tokenizer of nothing", String::new(), "tokenizer: *"),
        text(
            "a tokenizer without end",
            "[".repeat(99_999),
            "tokenizer: *",
        ),
        split(
            "a tokenizer of nobody's kind",
            "/model/type",
            "Banana".into(),
            "tokenizer: *",
        ),
        split(
            "words of nobody's kind",
            "/pre_tokenizer/type",
            "Banana".into(),
            "tokenizer: *",
        ),
        split(
            "a pattern that is none",
            "/pre_tokenizer",
            json!({ "type": "Split", "pattern": { "Regex": "(" }, "behavior": "Isolated", "invert": false }),
            "tokenizer: *",
        ),
        split(
            "a map that makes the library panic",
            "/normalizer",
            json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" }),
            "tokenizer: its definition makes the tokenizers library panic",
        ),
        split(
            "words that double without end",
            "/normalizer",
            json!({ "type": "Sequence", "normalizers": vec![
                json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aa" });
                48
            ] }),
            "tokenizer: its steps can make a text 281474976710656 times as long, expected at most 65536",
        ),
        Row {
            code: 0,
            ..split(
                "words that are filled up to four billion",
                "/padding",
                json!({
                    "strategy": { "Fixed": 4_000_000_000_u32 }, "direction": "Right", "pad_to_multiple_of": null,
                    "pad_id": 0, "pad_type_id": 0, "pad_token": "</s>",
                }),
                "",
            )
        },
        split(
            "a vocabulary that is a list",
            "/model/vocab",
            json!([1, 2]),
            "tokenizer: *",
        ),
        split(
            "a token below nothing",
            "/model/vocab/split",
            json!(-3),
            "tokenizer: *",
        ),
        Row {
            words: "generate --llm m --raw coconut"
                .split(' ')
                .map(str::to_owned)
                .collect(),
            ..split(
                "no word for what is unknown",
                "/model/unk_token",
                "none".into(),
                "tokenizer: *",
            )
        },
        text(
            "a token beyond all tables",
            stray.to_string(),
            "has a token 4000000000*",
        ),
        text(
            "a token far beyond the others",
            far.to_string(),
            "has a token 16000000*",
        ),
        split(
            "a first token beyond all tables",
            "/post_processor",
            json!({
                "type": "TemplateProcessing", "pair": [],
                "single": [{ "SpecialToken": { "id": "x", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
                "special_tokens": { "x": { "id": "x", "ids": [4_000_000_000_u32], "tokens": ["x"] } },
            }),
            "begins a text with token 4000000000, expected at most 3",
        ),
        folder(
            "more tokens than rows",
            "weights `m`: its tokenizer has 101 tokens, its table 4",
            &[("tokenizer.json", wide.to_string().into_bytes())],
        ),
        folder(
            "an end that is no token",
            "`m/tokenizer.json`: names no token that ends an answer *",
            &[("config.json", {
                let mut c = config();
                c["eos_token_id"] = json!(77);
                c.to_string().into_bytes()
            })],
        ),
        template(
            "a template that is not finished",
            "chat_template.jinja",
            "{% for",
            "chat template: *",
        ),
        folder(
            "a template that is no text",
            "`m/chat_template.jinja`: chat template is not UTF-8 text",
            &[("chat_template.jinja", vec![255; 9])],
        ),
        template(
            "a tokenizer's settings that are no JSON",
            "tokenizer_config.json",
            "{",
            "*",
        ),
        template("an end that is no JSON", "generation_config.json", "{", "*"),
    ]
}

fn shards() -> Vec<Row> {
    let index = |map: Value| {
        (
            "model.safetensors.index.json",
            json!({ "weight_map": map }).to_string().into_bytes(),
        )
    };
    let none = ("-model.safetensors", vec![]);
    let says = |problem: &str| format!("weights `m/model.safetensors.index.json`: {problem}");
    let norm = ("a.safetensors", weights(|name| name == "model.norm.weight"));
    vec![
        folder(
            "no weights",
            "weights `m`: has neither `model.safetensors` nor *",
            std::slice::from_ref(&none),
        ),
        folder(
            "an index of nothing",
            &says("*"),
            &[none.clone(), ("model.safetensors.index.json", vec![])],
        ),
        folder(
            "an index without end",
            &says("*"),
            &[
                none.clone(),
                ("model.safetensors.index.json", b"[".repeat(99_999)),
            ],
        ),
        folder(
            "an index that leads elsewhere",
            &says("names shard \"../a.safetensors\", *"),
            &[none.clone(), index(json!({ "x": "../a.safetensors" }))],
        ),
        folder(
            "an index that leads to the root",
            &says("names shard \"/etc/passwd\", *"),
            &[none.clone(), index(json!({ "x": "/etc/passwd" }))],
        ),
        folder(
            "a shard that is not there",
            "cannot read `m/b.safetensors`: *",
            &[none.clone(), index(json!({ "x": "b.safetensors" }))],
        ),
        folder(
            "a shard without its tensor",
            &says("places tensor `x` in `a.safetensors`, which lacks it"),
            &[
                none.clone(),
                norm.clone(),
                index(json!({ "x": "a.safetensors", "model.norm.weight": "a.safetensors" })),
            ],
        ),
        folder(
            "a shard with another's tensor",
            "weights `m/a.safetensors`: holds tensor `model.norm.weight`, which *",
            &[
                none.clone(),
                norm.clone(),
                index(json!({ "x": "a.safetensors" })),
            ],
        ),
        folder(
            "a shard that is damaged",
            "weights `m/a.safetensors`: *",
            &[
                none.clone(),
                ("a.safetensors", norm.1[..norm.1.len() - 3].to_vec()),
                index(json!({ "model.norm.weight": "a.safetensors" })),
            ],
        ),
        folder(
            "weights that lack a tensor",
            "weights `m`: tensor `model.norm.weight` is missing*",
            &[(
                "model.safetensors",
                weights(|name| name != "model.norm.weight"),
            )],
        ),
    ]
    .into_iter()
    .map(|row| match row.name.as_str() {
        // One file is named as such.
        "folder: weights that lack a tensor" => Row {
            says: "weights `m/model.safetensors`: tensor `model.norm.weight` is missing*".into(),
            ..row
        },
        _ => row,
    })
    .collect()
}

/// Files of the text encoder, of the sizes that are looked for but with holes in them.
fn encoders() -> Vec<Row> {
    /// The encoder's files of their sizes: a configuration with so many heads, zeros for the rest.
    fn with_heads(here: &Path, heads: u64) {
        let manifest: Value =
            serde_json::from_str(include_str!("../../weights/manifest.json")).expect("a manifest");
        let models = manifest["models"].as_array().expect("models");
        let encoder = models
            .iter()
            .find(|model| model["name"] == "all-MiniLM-L6-v2");
        let encoder = encoder.expect("the text encoder");
        let folder = here.join("home").join("all-MiniLM-L6-v2");
        fs::create_dir_all(&folder).expect("a folder");
        for file in encoder["files"].as_array().expect("files") {
            let name = file["name"].as_str().expect("a name");
            let size = file["size"].as_u64().expect("a size");
            if name == "config.json" {
                let config = json!({
                    "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": heads, "intermediate_size": 1536,
                    "vocab_size": 30522, "max_position_embeddings": 512, "type_vocab_size": 2, "layer_norm_eps": 1e-12,
                });
                let text = format!("{config:#}{}", " ".repeat(size as usize));
                fs::write(folder.join(name), &text[..size as usize]).expect("a file");
            } else {
                let file = fs::File::create(folder.join(name)).expect("a file");
                file.set_len(size).expect("a file of holes");
            }
        }
    }
    vec![
        row(
            "text encoder: not there",
            "embed banana",
            "all-MiniLM-L6-v2 is not on this machine *",
        ),
        row(
            "text encoder: no head",
            "embed banana",
            "`*/config.json`: `num_attention_heads` is 0, expected 1 to 16777216",
        )
        .with(|here| with_heads(here, 0)),
        row(
            "text encoder: heads that do not divide",
            "embed banana",
            "`*/config.json`: 7 heads do not fit a width of 384: *",
        )
        .with(|here| with_heads(here, 7)),
        row(
            "text encoder: files of holes",
            "embed banana",
            "*home/all-MiniLM-L6-v2/*",
        )
        .with(|here| with_heads(here, 12)),
    ]
}
