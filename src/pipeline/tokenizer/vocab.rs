//! WordPiece out of a list of words: `vocab.txt` of a BERT, with what `tokenizer_config.json` says of case, accents and Chinese.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::read;
use crate::error::{Error, Result};

/// What BERT calls its special tokens where `tokenizer_config.json` does not say: their keys there, and the tokens.
const SPECIAL: [(&str, &str); 5] = [
    ("unk_token", "[UNK]"),
    ("sep_token", "[SEP]"),
    ("pad_token", "[PAD]"),
    ("cls_token", "[CLS]"),
    ("mask_token", "[MASK]"),
];
/// The most lines of a list: BERTs have 30,000.
const MOST_LINES: usize = 1 << 21;
/// The longest word, in characters, that is not unknown at once.
const LONGEST_WORD: u64 = 100;

/// The `tokenizer.json` that transformers makes of `vocab.txt` and, if it is there, `tokenizer_config.json` of a folder. As in
/// transformers, a folder that does not say so lowers case, also where the words were cased: BioClinicalBERT's.
///
/// # Errors
/// A file that cannot be read, a setting of another kind, or a word list without a special token.
pub(super) fn definition(folder: &Path) -> Result<Vec<u8>> {
    let settings = Settings::read(folder)?;
    let path = folder.join("vocab.txt");
    let text = read(&path)?;
    let text = str::from_utf8(&text).map_err(|e| Error::config(&path, e.to_string()))?;
    let lines = text.lines().count();
    if lines > MOST_LINES {
        let problem = format!("has {lines} lines, expected at most {MOST_LINES}");
        return Err(Error::config(&path, problem));
    }
    // A word that stands twice has its last place.
    let lines = text.lines().enumerate();
    let vocab: BTreeMap<&str, usize> = lines.map(|(id, word)| (word, id)).collect();
    let id = |token: &str| {
        let missing = || Error::config(&path, format!("has no line `{token}`"));
        vocab.get(token).copied().ok_or_else(missing)
    };
    let [unk, sep, _, cls, _] = &settings.special;
    let added = |token: &String| {
        Ok(json!({
            "id": id(token)?, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        }))
    };
    let added: Vec<Value> = settings.special.iter().map(added).collect::<Result<_>>()?;
    let special = |token: &str| json!({ "SpecialToken": { "id": token, "type_id": 0 } });
    let own = |token: &String| {
        Ok::<_, Error>(json!({ "id": token, "ids": [id(token)?], "tokens": [token] }))
    };
    let words = |name: &str| json!({ "Sequence": { "id": name, "type_id": 0 } });
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": settings.tokenize_chinese_chars.unwrap_or(true),
            "strip_accents": settings.strip_accents, "lowercase": settings.do_lower_case.unwrap_or(true),
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special(cls), words("A"), special(sep)],
            "pair": [special(cls), words("A"), special(sep), words("B"), special(sep)],
            "special_tokens": { cls: own(cls)?, sep: own(sep)? },
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##", "max_input_chars_per_word": LONGEST_WORD,
            "vocab": vocab,
        },
    });
    Ok(json.to_string().into_bytes())
}

/// A `tokenizer.json` with what `tokenizer_config.json` beside it says of case, accents and Chinese: where they contradict each
/// other, transformers goes by the latter.
///
/// # Errors
/// A `tokenizer_config.json` that cannot be read, or a setting of another kind.
pub(super) fn settled(folder: &Path, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let settings = Settings::read(folder)?;
    // What is no JSON is refused by who reads it.
    let Ok(mut json) = serde_json::from_slice::<Value>(&bytes) else {
        return Ok(bytes);
    };
    let Some(normalizer) = json.pointer_mut("/normalizer") else {
        return Ok(bytes);
    };
    if normalizer["type"] != "BertNormalizer" {
        return Ok(bytes);
    }
    let mut changed = false;
    for (key, said) in [
        ("lowercase", settings.do_lower_case),
        ("strip_accents", settings.strip_accents),
        ("handle_chinese_chars", settings.tokenize_chinese_chars),
    ] {
        if let Some(said) = said
            && normalizer[key] != said
        {
            normalizer[key] = said.into();
            changed = true;
        }
    }
    match changed {
        true => Ok(json.to_string().into_bytes()),
        false => Ok(bytes),
    }
}

/// What `tokenizer_config.json` says.
struct Settings {
    do_lower_case: Option<bool>,
    /// Nothing: where case is lowered.
    strip_accents: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
    /// In the order of [`SPECIAL`].
    special: [String; 5],
}

impl Settings {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer_config.json");
        let json: Value = match path.is_file() {
            true => serde_json::from_slice(&read(&path)?)
                .map_err(|e| Error::config(&path, e.to_string()))?,
            false => json!({}),
        };
        let fault = |key: &str, wanted: &str| {
            Error::config(
                &path,
                format!("`{key}` is {}, expected {wanted}", json[key]),
            )
        };
        if !json.is_object() {
            return Err(Error::config(&path, "is no object"));
        }
        let flag = |key: &str| match &json[key] {
            Value::Null => Ok(None),
            Value::Bool(value) => Ok(Some(*value)),
            _ => Err(fault(key, "true or false")),
        };
        let mut special = SPECIAL.map(|(_, token)| token.to_owned());
        for ((key, _), token) in SPECIAL.iter().zip(&mut special) {
            // A text, or an object with how it is matched.
            let said = match &json[key] {
                Value::Object(parts) => parts.get("content").unwrap_or(&Value::Null),
                said => said,
            };
            match said {
                Value::Null if json[key].is_null() => {}
                Value::String(said) => token.clone_from(said),
                _ => return Err(fault(key, "a token")),
            }
        }
        Ok(Self {
            do_lower_case: flag("do_lower_case")?,
            strip_accents: flag("strip_accents")?,
            tokenize_chinese_chars: flag("tokenize_chinese_chars")?,
            special,
        })
    }
}
