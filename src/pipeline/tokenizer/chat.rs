//! The tokenizer of a language model.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::Value;
use tokenizers::{PaddingParams, Tokenizer};

use super::growth::loaded;
use super::{gguf, guarded, read};
use crate::error::{Error, Result};
use crate::tensor::Gguf;

/// Control tokens that end an answer in any model that has them, as llama.cpp knows them.
const END_TOKENS: [&str; 6] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
];
/// The largest id of a token; the largest vocabulary in common use has 262,144.
const MAX_TOKEN: usize = (1 << 21) - 1;
/// What SentencePiece writes for a space.
pub(super) const SPACE: &str = "\u{2581}";

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, found by the merges.
    Normal,
    /// It steers the model and is no text.
    Control,
    /// Text that is matched before the merges.
    UserDefined,
    /// `<0x41>`, a byte that the vocabulary has no other token for.
    Byte,
}

/// How tokens spell bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// GPT-2's: a letter for each byte.
    ByteLevel,
    /// SentencePiece's: UTF-8 with [`SPACE`] for a space.
    SentencePiece,
}

/// What a file says of a tokenizer.
pub(super) struct Described {
    pub tokenizer: Tokenizer,
    /// The text and the kind of each token, in the order of their ids.
    pub tokens: Vec<(String, Kind)>,
    pub spelling: Spelling,
    /// Put before every text.
    pub bos: Option<u32>,
    /// What it is called, whether or not it is put there; and what ends a text.
    pub marks: [Option<u32>; 2],
    /// More that end an answer.
    pub stops: Vec<u32>,
}

/// The tokenizer of a language model.
#[derive(Debug)]
pub struct ChatTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
    /// A copy that reads control tokens as plain text, made when first asked for.
    plain: OnceLock<Tokenizer>,
    /// The bytes that each token stands for; none for control tokens.
    pieces: Vec<Vec<u8>>,
    /// The texts of the control tokens.
    controls: Vec<String>,
    /// What is put before every text.
    bos: Option<u32>,
    /// The texts of the tokens that begin and end one; empty where there is none.
    marks: [String; 2],
    stops: Vec<u32>,
}

impl ChatTokenizer {
    /// Builds the tokenizer from a GGUF file's `tokenizer.ggml` metadata: byte-level BPE (`gpt2`) as SmolLM2, GPT-2, Llama 3
    /// and Qwen 2 split words, or SentencePiece's (`llama`).
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] naming a key that is missing or of the wrong type, [`Error::Config`] for
    /// another kind of tokenizer, or tokens, types, merges and special ids that do not fit
    /// together.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        Self::new(
            gguf.path(),
            gguf::described(gguf)?,
            "`tokenizer.ggml.eos_token_id`",
        )
    }

    /// Reads the tokenizer of a Hugging Face folder: `tokenizer.json`, and the ids that end a text from
    /// `generation_config.json` or `config.json`.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if a file cannot be read, [`Error::Config`] if it is too large or no tokenizer.
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let path = folder.join("tokenizer.json");
        let bytes = read(&path)?;
        let tokenizer = guarded(&path, || {
            let mut tokenizer = loaded(&bytes)?;
            // A prompt is whole and nothing else, whatever the file says; transformers does the same.
            tokenizer.with_truncation(None)?;
            tokenizer.with_padding(None::<PaddingParams>);
            Ok(tokenizer)
        })?;
        let json: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::config(&path, e.to_string()))?;
        // The decoder undoes what the normalizer or the pre-tokenizer did to spaces.
        let spelling = match json["decoder"].to_string().contains("ByteLevel") {
            true => Spelling::ByteLevel,
            false => Spelling::SentencePiece,
        };
        let added = tokenizer.get_added_tokens_decoder();
        let vocab = tokenizer.get_vocab(true);
        let last = vocab.values().max().copied().unwrap_or(0) as usize;
        if last > MAX_TOKEN {
            let problem = format!("has a token {last}, expected at most {MAX_TOKEN}");
            return Err(Error::config(&path, problem));
        }
        let mut tokens = vec![(String::new(), Kind::Control); last + 1];
        for (text, id) in vocab {
            let kind = match added.get(&id) {
                Some(token) if token.special => Kind::Control,
                Some(_) => Kind::UserDefined,
                None if spelling == Spelling::SentencePiece && byte(&text).is_some() => Kind::Byte,
                None => Kind::Normal,
            };
            tokens[id as usize] = (text, kind);
        }
        let first = guarded(&path, || {
            let ids = tokenizer.encode("", true)?.get_ids().to_vec();
            Ok(ids.first().copied())
        })?;
        if let Some(id) = first.filter(|id| *id as usize > last) {
            let problem = format!("begins a text with token {id}, expected at most {last}");
            return Err(Error::config(&path, problem));
        }
        let mut stops = Vec::new();
        for name in ["generation_config.json", "config.json"] {
            let path = folder.join(name);
            if !path.is_file() {
                continue;
            }
            let json: Value = serde_json::from_slice(&read(&path)?)
                .map_err(|e| Error::config(&path, e.to_string()))?;
            // A model that sees keeps it with its language model.
            let eos = match &json["eos_token_id"] {
                Value::Null => &json["text_config"]["eos_token_id"],
                own => own,
            };
            let ids = match eos {
                Value::Array(ids) => ids.iter().collect(),
                other => vec![other],
            };
            let ids = ids.into_iter().filter_map(Value::as_u64);
            stops.extend(ids.filter(|id| *id <= last as u64).map(|id| id as u32));
            if !stops.is_empty() {
                break;
            }
        }
        let described = Described {
            marks: [first, stops.first().copied()],
            bos: first,
            tokenizer,
            tokens,
            spelling,
            stops,
        };
        Self::new(&path, described, "`eos_token_id` in `config.json`")
    }

    fn new(path: &Path, described: Described, where_stops_are: &str) -> Result<Self> {
        let Described {
            tokenizer,
            tokens,
            spelling,
            bos,
            marks,
            mut stops,
        } = described;
        let controls = (0_u32..)
            .zip(&tokens)
            .filter(|(_, (text, kind))| *kind == Kind::Control && !text.is_empty());
        stops.extend(
            controls
                .clone()
                .filter(|(_, (text, _))| END_TOKENS.contains(&text.as_str()))
                .map(|(id, _)| id),
        );
        stops.sort_unstable();
        stops.dedup();
        if stops.is_empty() {
            let problem = format!("names no token that ends an answer ({where_stops_are})");
            return Err(Error::config(path, problem));
        }
        let text = |id: Option<u32>| {
            let token = id.and_then(|id| tokens.get(id as usize));
            token.map_or_else(String::new, |(text, _)| text.clone())
        };
        let marks = marks.map(text);
        let controls = controls.map(|(_, (text, _))| text.clone()).collect();
        let piece = |(text, kind): &(String, Kind)| match (kind, spelling) {
            (Kind::Control, _) => Vec::new(),
            (Kind::Byte, _) => byte(text).into_iter().collect(),
            (Kind::UserDefined, Spelling::ByteLevel) => text.as_bytes().to_vec(),
            (Kind::Normal, Spelling::ByteLevel) => piece_bytes(text),
            (_, Spelling::SentencePiece) => text.replace(SPACE, " ").into_bytes(),
        };
        Ok(Self {
            path: path.into(),
            tokenizer,
            plain: OnceLock::new(),
            pieces: tokens.iter().map(piece).collect(),
            controls,
            bos,
            marks,
            stops,
        })
    }

    /// The ids of a rendered conversation, in which control tokens such as `<|im_end|>` count.
    ///
    /// Text from outside must have passed [`without_controls`](Self::without_controls) before it
    /// was put into the conversation, or it could end its own message.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the vocabulary lacks a byte of `text`.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_with(&self.tokenizer, text)
    }

    /// The ids of `text` read as mere text: control tokens in it are spelled out.
    ///
    /// # Errors
    ///
    /// As for [`encode`](Self::encode).
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        let plain = self.plain.get_or_init(|| {
            let mut plain = self.tokenizer.clone();
            plain.set_encode_special_tokens(true);
            plain
        });
        self.encode_with(plain, text)
    }

    fn encode_with(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
        let encoding = guarded(&self.path, || tokenizer.encode(text, false))?;
        // A template may have written the first token itself.
        let ids = encoding.get_ids();
        let bos = self.bos.filter(|bos| ids.first() != Some(bos));
        Ok(bos.iter().chain(ids).copied().collect())
    }

    /// `text` without the spellings of control tokens, for text that comes from outside.
    pub fn without_controls(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // taking one out may join the halves of another
        while let Some(control) = self
            .controls
            .iter()
            .find(|control| text.contains(control.as_str()))
        {
            text = text.replace(control.as_str(), "");
        }
        text
    }

    /// Whether `id` ends an answer.
    pub fn is_stop(&self, id: u32) -> bool {
        self.stops.contains(&id)
    }

    /// The ids that end an answer, ascending.
    pub fn stops(&self) -> &[u32] {
        &self.stops
    }

    /// The token that is put before every text, if one is.
    pub fn first(&self) -> Option<u32> {
        self.bos
    }

    /// What a chat template is told of the tokens that begin and end a text: `bos_token` and `eos_token`.
    pub fn marks(&self) -> [&str; 2] {
        [&self.marks[0], &self.marks[1]]
    }

    /// The bytes that token `id` stands for; none for control tokens.
    pub fn piece(&self, id: u32) -> &[u8] {
        self.pieces.get(id as usize).map_or(&[], Vec::as_slice)
    }

    /// How many tokens there are: the rows that the model's embedding must at least have.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The text of `ids`, without control tokens; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut decoder = self.decoder();
        let mut text: String = ids.iter().map(|id| decoder.push(*id)).collect();
        text.push_str(&decoder.finish());
        text
    }

    /// A decoder that takes one id at a time.
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder {
            tokenizer: self,
            held: Vec::new(),
        }
    }
}

/// Decodes a growing answer without ever showing half a character.
#[derive(Debug)]
pub struct Decoder<'a> {
    tokenizer: &'a ChatTokenizer,
    /// The start of a character whose other bytes are still to come; at most three bytes.
    held: Vec<u8>,
}

impl Decoder<'_> {
    /// The text that `id` completes, empty while a character is incomplete. Control tokens and
    /// ids beyond the vocabulary have no text.
    pub fn push(&mut self, id: u32) -> String {
        let Some(piece) = self.tokenizer.pieces.get(id as usize) else {
            return String::new();
        };
        self.held.extend(piece);
        let mut text = String::new();
        let mut taken = 0;
        for chunk in self.held.utf8_chunks() {
            text.push_str(chunk.valid());
            taken += chunk.valid().len();
            let invalid = chunk.invalid();
            let at_end = taken + invalid.len() == self.held.len();
            // what is missing its tail is held back, what no tail can mend is replaced
            if at_end && std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none()) {
                break;
            }
            taken += invalid.len();
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.held.drain(..taken);
        text
    }

    /// What is left when the answer has ended: U+FFFD if it ended inside a character.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.held).into_owned()
    }
}

/// The byte behind a token like `<0x41>`.
pub(super) fn byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    let plain = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| plain)
}

/// The bytes behind a token of byte-level BPE, whose characters each stand for one byte. A
/// character that stands for none is itself.
fn piece_bytes(token: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(token.len());
    for letter in token.chars() {
        match byte_of(letter) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(letter.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// The byte that GPT-2 spells as `letter`: printable Latin-1 is itself, the other 68 bytes follow
/// in ascending order from U+0100 on.
fn byte_of(letter: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u8::try_from(letter) {
        Ok(byte) => Some(byte).filter(printable),
        Err(_) => {
            let nth = (letter as usize).checked_sub(0x100)?;
            (0..=u8::MAX).filter(|byte| !printable(byte)).nth(nth)
        }
    }
}
