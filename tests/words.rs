//! Tokenizers and chat templates: equal to the reference implementations on the goldens, and
//! proof against malformed definitions.
//!
//! Tests that need a published model look for it where the program does, and say so when it is
//! not there.

#[path = "support/model_files.rs"]
mod support;

use std::path::{Path, PathBuf};

use keraunos::pipeline::chat::{ChatTemplate, Message};
use keraunos::pipeline::home::{Home, LANGUAGE_MODEL, Manifest, TEXT_ENCODER};
use keraunos::pipeline::tokenizer::{ChatTokenizer, SentenceTokenizer};
use keraunos::tensor::Checkpoint;
use keraunos::tensor::Gguf;
use serde_json::Value;
use support::GgufFile;

/// Where the model called `name` is; says so and gives nothing when it has not been fetched.
fn model(name: &str) -> Option<PathBuf> {
    match Home::new(None).and_then(|home| home.locate(name)) {
        Ok(path) => Some(path),
        Err(error) => {
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn golden(name: &str) -> Value {
    let text = std::fs::read_to_string(Path::new("tests/goldens").join(name))
        .expect("the golden is there");
    serde_json::from_str(&text).expect("the golden is JSON")
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

fn messages(value: &Value) -> Vec<Message> {
    let text = |turn: &Value, key: &str| turn[key].as_str().unwrap().to_owned();
    let turns = value.as_array().unwrap().iter();
    turns
        .map(|turn| Message::new(text(turn, "role"), text(turn, "content")))
        .collect()
}

#[track_caller]
fn names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn the_published_files_are_those_of_the_manifest() {
    for (name, file) in [(TEXT_ENCODER, "model.safetensors"), (LANGUAGE_MODEL, "")] {
        let Some(place) = model(name) else { continue };
        let path = if file.is_empty() {
            place
        } else {
            place.join(file)
        };
        let checkpoint = Checkpoint::open(&path).unwrap();
        let known = &Manifest::embedded().model(name).unwrap().files[0];
        assert_eq!(
            (checkpoint.byte_len() as u64, checkpoint.sha256()),
            (known.size, known.sha256.clone())
        );
        checkpoint.expect_finite().unwrap();
    }
}

#[test]
fn sentences_have_the_reference_ids() {
    let Some(folder) = model(TEXT_ENCODER) else {
        return;
    };
    let tokenizer = SentenceTokenizer::open(&folder.join("tokenizer.json"), 256).unwrap();
    assert_eq!(tokenizer.vocab_size(), 30522);
    for case in golden("minilm_sentences.json").as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let sentence = tokenizer.encode(text).unwrap();
        assert_eq!(sentence.ids, ids(&case["ids"]), "{text:?}");
        assert_eq!(sentence.truncated, sentence.ids.len() == 256, "{text:?}");
    }
    // exactly full is not cut; one more word is
    assert_eq!(tokenizer.encode(&"a ".repeat(254)).unwrap().ids.len(), 256);
    assert!(!tokenizer.encode(&"a ".repeat(254)).unwrap().truncated);
    let cut = tokenizer.encode(&"a ".repeat(255)).unwrap();
    assert!(cut.truncated);
    assert_eq!((cut.ids.len(), cut.ids[0], cut.ids[255]), (256, 101, 102));
}

#[test]
fn a_bad_tokenizer_file_is_an_error_and_not_a_panic() {
    let open = |json: &str| {
        let error =
            SentenceTokenizer::from_bytes(json.as_bytes(), Path::new("tokenizer.json"), 256)
                .unwrap_err();
        names(&error.to_string(), &["`tokenizer.json`: tokenizer: "]);
    };
    open("");
    open("{}");
    open(&"[".repeat(1_000_000));
    // known to panic inside the library
    open(
        r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
        "normalizer":{"type":"Precompiled","precompiled_charsmap":"AAAA"},"pre_tokenizer":null,"post_processor":null,
        "decoder":null,"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"\u0023\u0023","max_input_chars_per_word":100,"vocab":{"[UNK]":0}}}"#,
    );
}

#[test]
fn a_tokenizer_must_leave_room_for_words() {
    let json = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":null,
        "post_processor":{"type":"BertProcessing","sep":["s",1],"cls":["c",0]},"decoder":null,
        "model":{"type":"WordLevel","unk_token":"u","vocab":{"c":0,"s":1,"u":2}}}"#;
    let open =
        |max_len| SentenceTokenizer::from_bytes(json.as_bytes(), Path::new("t.json"), max_len);
    assert_eq!(open(3).unwrap().encode("word").unwrap().ids, [0, 2, 1]);
    for max_len in [0, 1, 2] {
        assert!(open(max_len).is_err(), "{max_len}");
    }
}

#[test]
fn a_language_model_reads_like_llama_cpp() {
    let Some(path) = model(LANGUAGE_MODEL) else {
        return;
    };
    let checkpoint = Checkpoint::open(&path).unwrap();
    let tokenizer = ChatTokenizer::from_gguf(checkpoint.expect_gguf().unwrap()).unwrap();
    assert_eq!(tokenizer.vocab_size(), 49152);
    assert_eq!(tokenizer.stops(), [0, 2]);
    for case in golden("tokenizer_smollm2.json").as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let want = ids(&case["ids"]);
        let plain = case.get("plain").map_or(want.clone(), ids);
        assert_eq!(tokenizer.encode(text).unwrap(), want, "{text:?}");
        assert_eq!(
            tokenizer.encode_plain(text).unwrap(),
            plain,
            "{text:?} as plain text"
        );
        assert_eq!(tokenizer.decode(&plain), text);
    }
}

#[test]
fn a_language_model_is_prompted_like_llama_cpp() {
    let Some(path) = model(LANGUAGE_MODEL) else {
        return;
    };
    let checkpoint = Checkpoint::open(&path).unwrap();
    let gguf = checkpoint.expect_gguf().unwrap();
    let tokenizer = ChatTokenizer::from_gguf(gguf).unwrap();
    let template = ChatTemplate::from_gguf(gguf).unwrap();
    for chat in golden("smollm2.json")["chats"].as_array().unwrap() {
        let prompt = template.render(&messages(&chat["messages"]), true).unwrap();
        assert_eq!(prompt, chat["text"].as_str().unwrap());
        assert_eq!(tokenizer.encode(&prompt).unwrap(), ids(&chat["prompt"]));
        let answer = ids(&chat["reference"]);
        assert!(
            !answer[..answer.len() - 1]
                .iter()
                .any(|id| tokenizer.is_stop(*id))
        );
        assert_eq!(
            tokenizer.decode(&answer),
            chat["reference_text"].as_str().unwrap()
        );
    }
}

/// The words of other models by SmolLM2's vocabulary, which llama.cpp was given with another name in `pre`.
#[test]
fn words_are_split_as_llama_cpp_splits_them_for_each_model() {
    let Some(path) = model(LANGUAGE_MODEL) else {
        return;
    };
    let checkpoint = Checkpoint::open(&path).unwrap();
    let gguf = checkpoint.expect_gguf().unwrap();
    let texts = |key: &str| gguf.strings(key).unwrap().iter().map(String::as_str);
    let tokens: Vec<&str> = texts("tokenizer.ggml.tokens").collect();
    let merges: Vec<&str> = texts("tokenizer.ggml.merges").collect();
    for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2"] {
        let file = GgufFile::default()
            .str("tokenizer.ggml.model", "gpt2")
            .str("tokenizer.ggml.pre", pre)
            .strings("tokenizer.ggml.tokens", &tokens)
            .i32s(
                "tokenizer.ggml.token_type",
                gguf.i32s("tokenizer.ggml.token_type").unwrap(),
            )
            .strings("tokenizer.ggml.merges", &merges)
            .u32("tokenizer.ggml.eos_token_id", 2);
        let tokenizer = build(&file).unwrap();
        for case in golden("tokenizer_pre.json").as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            // Qwen's own tokenizer composes characters first, llama.cpp does not.
            if pre == "qwen2" && text.contains('\u{301}') {
                continue;
            }
            assert_eq!(
                tokenizer.encode_plain(text).unwrap(),
                ids(&case[pre]),
                "{pre}: {text:?}"
            );
        }
    }
}

/// SentencePiece's vocabulary: scores say which neighbours are joined first, bytes spell what has no token.
#[test]
fn sentencepiece_joins_by_score_and_falls_back_to_bytes() {
    let bytes: Vec<String> = (0..=255).map(|b| format!("<0x{b:02X}>")).collect();
    let mut tokens = vec!["<unk>", "<s>", "</s>", "<turn>"];
    tokens.extend(bytes.iter().map(String::as_str));
    let own = [
        "\u{2581}",
        "a",
        "b",
        "ab",
        "ba",
        "\u{2581}a",
        "aba",
        "\u{2581}ab",
    ];
    tokens.extend(own);
    let kinds: Vec<i32> = (0..tokens.len())
        .map(|n| match n {
            0 => 2,
            1 | 2 => 3,
            3 => 4,
            4..260 => 6,
            _ => 1,
        })
        .collect();
    // `ba` before `ab`, and what begins a word first of all.
    let scores = [
        [0.0; 260].as_slice(),
        &[-9.0, -9.0, -9.0, -3.0, -2.0, -1.0, -4.0, -5.0],
    ]
    .concat();
    let file = GgufFile::default()
        .str("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .f32s("tokenizer.ggml.scores", &scores)
        .u32("tokenizer.ggml.unknown_token_id", 0)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2);
    let tokenizer = build(&file).unwrap();
    let id = |text: &str| tokens.iter().position(|token| *token == text).unwrap() as u32;
    let encode = |text: &str| tokenizer.encode(text).unwrap();
    // A space is put before the text, and the first token before that, but not twice.
    assert_eq!(encode("aba"), [1, id("\u{2581}a"), id("ba")]);
    assert_eq!(encode("bab"), [1, id("\u{2581}"), id("ba"), id("b")]);
    assert_eq!(encode("<s>b"), encode("b"));
    let spelled = [1, id("\u{2581}"), id("<0xC3>"), id("<0xA9>")];
    assert_eq!(encode("é"), spelled);
    assert_eq!(tokenizer.decode(&encode("aba é<turn>b")), " aba é<turn> b");
    let file = file.bool("tokenizer.ggml.add_space_prefix", false);
    assert_eq!(build(&file).unwrap().encode("aba").unwrap(), [1, id("aba")]);
    let few = GgufFile::default()
        .str("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .f32s("tokenizer.ggml.scores", &[0.0]);
    names(
        &build(&few).unwrap_err().to_string(),
        &["268 tokens, but 1 scores"],
    );
}

/// A tokenizer of single bytes, two merges and one control token.
fn byte_tokenizer() -> GgufFile {
    let letters: Vec<String> = ('!'..='~')
        .chain('¡'..='¬')
        .chain('®'..='ÿ')
        .chain('Ā'..='Ń')
        .map(String::from)
        .collect();
    let mut tokens: Vec<&str> = vec!["<|im_end|>", "<user>"];
    tokens.extend(letters.iter().map(String::as_str));
    tokens.extend(["aa", "aaaa"]);
    let mut kinds = vec![1; tokens.len()];
    (kinds[0], kinds[1]) = (3, 4);
    GgufFile::default()
        .str("tokenizer.ggml.model", "gpt2")
        .str("tokenizer.ggml.pre", "smollm")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .strings("tokenizer.ggml.merges", &["a a", "aa aa"])
        .u32("tokenizer.ggml.eos_token_id", 0)
}

fn build(file: &GgufFile) -> keraunos::Result<ChatTokenizer> {
    ChatTokenizer::from_gguf(&Gguf::parse(Path::new("tiny.gguf"), &file.bytes()).unwrap())
}

#[test]
fn every_byte_goes_there_and_back() {
    let tokenizer = build(&byte_tokenizer()).unwrap();
    let all: String = (0..=0x2ff)
        .filter_map(char::from_u32)
        .chain("肝臓🧠\u{10ffff}".chars())
        .collect();
    assert_eq!(tokenizer.decode(&tokenizer.encode(&all).unwrap()), all);
    assert_eq!(tokenizer.encode("aaaaa").unwrap().len(), 2);
    assert_eq!(tokenizer.encode("a<user>a<|im_end|>").unwrap().len(), 4);
    assert_eq!(
        tokenizer.decode(&tokenizer.encode("a<user>a<|im_end|>").unwrap()),
        "a<user>a"
    );
}

#[test]
fn half_characters_are_held_back() {
    let tokenizer = build(&byte_tokenizer()).unwrap();
    let mut decoder = tokenizer.decoder();
    let shown: Vec<String> = tokenizer
        .encode("é🧠a")
        .unwrap()
        .into_iter()
        .map(|id| decoder.push(id))
        .collect();
    assert_eq!(shown, ["", "é", "", "", "", "🧠", "a"]);
    assert_eq!(decoder.finish(), "");

    let bytes = tokenizer.encode("🧠").unwrap();
    let mut decoder = tokenizer.decoder();
    assert_eq!(decoder.push(bytes[0]), "");
    // a second head spoils the first, and the end spoils the second
    assert_eq!(decoder.push(bytes[0]), "\u{fffd}");
    assert_eq!(decoder.push(bytes[1]), "");
    assert_eq!(decoder.finish(), "\u{fffd}");
    let a = tokenizer.encode("a").unwrap()[0];
    assert_eq!(
        tokenizer.decode(&[bytes[3], a, bytes[0], bytes[1], a, u32::MAX]),
        "\u{fffd}a\u{fffd}a"
    );
}

#[test]
fn a_begin_token_is_added_when_the_file_says_so() {
    let file = byte_tokenizer().u32("tokenizer.ggml.bos_token_id", 1);
    assert_eq!(build(&file).unwrap().encode("").unwrap(), [0_u32; 0]);
    let file = file.bool("tokenizer.ggml.add_bos_token", true);
    assert_eq!(build(&file).unwrap().encode("").unwrap(), [1]);
}

#[test]
fn text_from_outside_cannot_speak_in_control_tokens() {
    let tokenizer = build(&byte_tokenizer()).unwrap();
    assert_eq!(tokenizer.without_controls("a<|im_end|>b"), "ab");
    assert_eq!(tokenizer.without_controls("a<|im_<|im_end|>end|>b"), "ab");
    assert_eq!(tokenizer.without_controls("a <user> b"), "a <user> b");
}

#[test]
fn a_gguf_tokenizer_that_does_not_fit_together_is_refused() {
    let refuse = |file: GgufFile| build(&file).unwrap_err().to_string();
    let start = |model: &str, pre: &str| {
        GgufFile::default()
            .str("tokenizer.ggml.model", model)
            .str("tokenizer.ggml.pre", pre)
    };
    names(
        &refuse(GgufFile::default()),
        &["`tiny.gguf`", "`tokenizer.ggml.model` is missing"],
    );
    names(
        &refuse(start("bert", "default")),
        &["`tokenizer.ggml.model` is `bert`, expected `gpt2` or `llama`"],
    );
    names(
        &refuse(start("gpt2", "tekken")),
        &["`tokenizer.ggml.pre` is `tekken`, expected `smollm`"],
    );
    let parts = |tokens: &[&str], kinds: &[i32], merges: &[&str], eos: u32| {
        refuse(
            start("gpt2", "smollm")
                .strings("tokenizer.ggml.tokens", tokens)
                .i32s("tokenizer.ggml.token_type", kinds)
                .strings("tokenizer.ggml.merges", merges)
                .u32("tokenizer.ggml.eos_token_id", eos),
        )
    };
    names(
        &parts(&["a", "b"], &[1], &[], 0),
        &["2 tokens, but 1 token types"],
    );
    names(
        &parts(&["a", "a"], &[1, 1], &[], 0),
        &["1 of 2 tokens are repeated"],
    );
    names(
        &parts(&["a", "b"], &[1, 1], &["ab"], 0),
        &["the merge \"ab\" is not a pair"],
    );
    names(
        &parts(&["a", "b"], &[1, 1], &["a c"], 0),
        &["`tiny.gguf`: tokenizer: "],
    );
    names(
        &parts(&["a", "b"], &[1, 1], &["a b"], 0),
        &["`tiny.gguf`: tokenizer: "],
    );
    names(
        &parts(&["a", "b"], &[1, 1], &[], 2),
        &["`tokenizer.ggml.eos_token_id` is 2 of 2"],
    );
    names(&parts(&[], &[], &[], 0), &["is 0 of 0"]);
    let endless = start("gpt2", "smollm")
        .strings("tokenizer.ggml.tokens", &["a"])
        .i32s("tokenizer.ggml.token_type", &[1])
        .strings("tokenizer.ggml.merges", &[]);
    names(&refuse(endless), &["no token that ends an answer"]);
}

#[test]
fn templates_render_like_jinja() {
    let golden = golden("chat.json");
    for case in golden["cases"].as_array().unwrap() {
        let name = case["template"].as_str().unwrap();
        let template =
            ChatTemplate::new(Path::new(name), golden["templates"][name].as_str().unwrap())
                .unwrap();
        let got = template.render(
            &messages(&case["messages"]),
            case["add_generation_prompt"].as_bool().unwrap(),
        );
        match case.get("error") {
            Some(error) => names(
                &got.unwrap_err().to_string(),
                &[name, error.as_str().unwrap()],
            ),
            None => assert_eq!(
                got.unwrap(),
                case["text"].as_str().unwrap(),
                "{name} {}",
                case["messages"]
            ),
        }
    }
}

/// As `json.dumps(…, ensure_ascii=False)` of Python 3.11 writes them.
#[test]
fn templates_write_json_like_python() {
    let user = [Message::new("user", "<a> & 'b' \"c\" é\n")];
    let render = |source: &str| {
        let template = ChatTemplate::new(Path::new("t"), source).unwrap();
        template.render(&user, true).unwrap()
    };
    assert_eq!(
        render("{{ {'a': [1, 2.5, none, true], 'b': {}, 'c': []} | tojson }}"),
        r#"{"a": [1, 2.5, null, true], "b": {}, "c": []}"#
    );
    assert_eq!(
        render("{{ messages[0].content | tojson }}"),
        r#""<a> & 'b' \"c\" é\n""#
    );
    assert_eq!(
        render("{{ {'a': [1, {}]} | tojson(indent=2) }}"),
        "{\n  \"a\": [\n    1,\n    {}\n  ]\n}"
    );
    assert_eq!(render("{{ [1] | tojson(ensure_ascii=false) }}"), "[1]");
}

#[test]
fn templates_are_bounded() {
    let user = [Message::new("user", "x")];
    let compile = |source: &str| ChatTemplate::new(Path::new("t"), source);
    let render = |source: &str| {
        compile(source)
            .unwrap()
            .render(&user, true)
            .unwrap_err()
            .to_string()
    };
    names(
        &render("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"),
        &["does not end"],
    );
    names(
        &render("{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}"),
        &["writes more than"],
    );
    names(
        &render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
        &["chat template: "],
    );
    // What a template makes is paid for like instructions, before it is made.
    names(&render("{{ 'x' * 999999999 }}"), &["does not end within"]);
    names(
        &render("{{ messages[0].content.nope() }}"),
        &["chat template: "],
    );
    names(
        &render("{{ messages | tojson(indent=18175768422653099670) }}"),
        &["chat template: ", "0 to 64"],
    );
    // Two to the fortieth numbers of a list of two lists, each of two.
    names(
        &render(
            "{% set n = namespace(v=[1, 1]) %}{% for a in range(40) %}{% set n.v = [n.v, n.v] %}{% endfor %}{{ n.v | tojson }}",
        ),
        &["chat template: ", "too long"],
    );
    // No template names another. The third made the library's compiler panic.
    for source in [
        "{% include 'secret' %}",
        "{% import 'secret' as s %}",
        "{% import 'secret' as s % s %}",
        "{% from 'secret' import s %}",
        "{% extends 'secret' %}",
    ] {
        names(
            &compile(source).unwrap_err().to_string(),
            &["`t`: chat template: ", "unknown statement"],
        );
    }
    names(
        &compile("{% if %}").unwrap_err().to_string(),
        &["`t`: chat template: "],
    );
    names(
        &compile(&"x".repeat(300 << 10)).unwrap_err().to_string(),
        &["307200 bytes"],
    );
    assert!(compile(&"{% if x %}".repeat(10_000)).is_err());
    assert!(
        compile(&format!(
            "{{{{ {}1{} }}}}",
            "(".repeat(100_000),
            ")".repeat(100_000)
        ))
        .is_err()
    );
}
