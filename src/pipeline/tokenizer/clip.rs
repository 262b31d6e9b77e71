//! The tokenizer of CLIP: BPE over bytes, in lower case, with a mark at the end of each word.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokenizers::{PaddingParams, Tokenizer};

use super::growth::loaded;
use super::{guarded, read};
use crate::error::{Error, Result};

/// What begins a text, and what ends it.
const MARKS: [&str; 2] = ["<|startoftext|>", "<|endoftext|>"];
/// Where words part, as CLIP's own program and transformers have it.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The tokenizer of a CLIP.
#[derive(Debug)]
pub struct ClipTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
}

impl ClipTokenizer {
    /// Reads the tokenizer of a Hugging Face folder: `tokenizer.json` or, where there is none, `vocab.json` and `merges.txt`.
    /// Texts will be neither cut nor padded, whatever the file says.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if a file cannot be read, [`Error::Config`] if it is too large or no tokenizer, or if it does not put
    /// something before a text and behind it.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let one = folder.join("tokenizer.json");
        let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        if one.is_file() || !vocab.is_file() {
            return Self::from_bytes(&read(&one)?, &one);
        }
        let json = described(&vocab, &merges)?;
        Self::from_bytes(json.to_string().as_bytes(), &vocab)
    }

    /// The same from the bytes of a `tokenizer.json`; `path` only names it in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] as for [`from_folder`](Self::from_folder).
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self> {
        let tokenizer = guarded(path, || {
            let mut tokenizer = loaded(bytes)?;
            tokenizer.with_truncation(None)?;
            tokenizer.with_padding(None::<PaddingParams>);
            // An empty text shows what the model adds itself.
            let own = tokenizer.encode("", true)?.len();
            match own {
                2 => Ok(tokenizer),
                own => Err(format!(
                    "adds {own} tokens to a text, expected 2: {}",
                    MARKS.join(" and ")
                )
                .into()),
            }
        })?;
        let path = path.into();
        Ok(Self { path, tokenizer })
    }

    /// The ids of a text, with what begins and ends it.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a word can be split in no way and the vocabulary has no unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded(&self.path, || self.tokenizer.encode(text, true))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The file that it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One more than the largest id: the rows that the model's embedding must have.
    pub fn vocab_size(&self) -> usize {
        let vocab = self.tokenizer.get_vocab(true);
        vocab.values().max().map_or(0, |id| *id as usize + 1)
    }

    /// The whole as a `tokenizer.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the library cannot write it.
    pub fn json(&self) -> Result<String> {
        guarded(&self.path, || self.tokenizer.to_string(false))
    }
}

/// A `tokenizer.json` of a vocabulary and its merges, with the steps that transformers gives them.
fn described(vocab_path: &Path, merges_path: &Path) -> Result<Value> {
    let vocab: BTreeMap<String, u32> = serde_json::from_slice(&read(vocab_path)?)
        .map_err(|e| Error::config(vocab_path, e.to_string()))?;
    let text = String::from_utf8(read(merges_path)?)
        .map_err(|e| Error::config(merges_path, e.to_string()))?;
    let mut merges = Vec::new();
    for (n, line) in text.lines().enumerate() {
        // The first line says the format's version.
        if line.is_empty() || n == 0 && line.starts_with("#version") {
            continue;
        }
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            [left, right] => merges.push([*left, *right].map(str::to_owned)),
            _ => {
                let problem = format!("line {} is {line:?}, expected two tokens", n + 1);
                return Err(Error::config(merges_path, problem));
            }
        }
    }
    let mark = |mark: &str| match vocab.get(mark) {
        Some(id) => Ok(json!([mark, id])),
        None => Err(Error::config(vocab_path, format!("has no token {mark}"))),
    };
    let [begin, end] = [mark(MARKS[0])?, mark(MARKS[1])?];
    let added = [&begin, &end].map(|mark| {
        json!({
            "id": mark[1], "content": mark[0], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        })
    });
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
            { "type": "Lowercase" },
        ] },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": WORDS }, "behavior": "Removed", "invert": true },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        ] },
        "post_processor": {
            "type": "RobertaProcessing", "sep": end, "cls": begin, "trim_offsets": false, "add_prefix_space": false,
        },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": MARKS[1], "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
            "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": merges,
        },
    }))
}
