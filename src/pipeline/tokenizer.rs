//! Words to token ids and back, for the text encoder and the language model.
//!
//! [`SentenceTokenizer`] is the WordPiece of a BERT sentence encoder, read from `tokenizer.json`.
//! [`ChatTokenizer`] is the byte-level BPE of a language model, read from the metadata of its GGUF
//! file. Both stand on the `tokenizers` crate, which panics on some malformed inputs, so loading
//! runs inside `catch_unwind`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PaddingParams, Tokenizer, TruncationParams};

use crate::error::{Error, Result};
use crate::tensor::Gguf;

/// The largest `tokenizer.json` that is read, in bytes; the largest in common use takes 40 MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// How GGUF marks a token that steers the model and is not text.
const CONTROL: i32 = 3;
/// How GGUF marks a token that is matched before the merges but is text.
const USER_DEFINED: i32 = 4;

/// Control tokens that end an answer in any model that has them, as llama.cpp knows them.
const END_TOKENS: [&str; 6] = [
    "<|im_end|>",
    "<|endoftext|>",
    "<|end|>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
];

/// The token ids of one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// The ids, with the model's own first and last token.
    pub ids: Vec<u32>,
    /// Whether words at the end were left out because the sentence is too long.
    pub truncated: bool,
}

/// The tokenizer of a sentence encoder.
#[derive(Debug)]
pub struct SentenceTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
}

impl SentenceTokenizer {
    /// Reads a `tokenizer.json`. Sentences will be cut to `max_len` tokens, the model's own first
    /// and last included, and not padded, whatever the file says; sentence-transformers does the
    /// same.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if the file cannot be read, [`Error::Config`] if it is too large or no
    /// tokenizer, or if `max_len` leaves no room for words.
    pub fn open(path: &Path, max_len: usize) -> Result<Self> {
        let found = std::fs::metadata(path).map_err(Error::read(path))?;
        if !found.is_file() || found.len() > MAX_TOKENIZER_BYTES {
            let problem = format!("is not a regular file of at most {MAX_TOKENIZER_BYTES} bytes");
            return Err(Error::config(path, problem));
        }
        Self::from_bytes(
            &std::fs::read(path).map_err(Error::read(path))?,
            path,
            max_len,
        )
    }

    /// Like [`open`](Self::open) for a tokenizer in memory; `path` only names it in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] as for [`open`](Self::open).
    pub fn from_bytes(bytes: &[u8], path: &Path, max_len: usize) -> Result<Self> {
        let tokenizer = guarded(path, || {
            let mut tokenizer = Tokenizer::from_bytes(bytes)?;
            let truncation = TruncationParams {
                max_length: max_len,
                ..TruncationParams::default()
            };
            tokenizer.with_truncation(Some(truncation))?;
            tokenizer.with_padding(None::<PaddingParams>);
            // an empty sentence shows how many tokens the model adds itself
            let own = tokenizer.encode("", true)?.len();
            if own >= max_len {
                return Err(format!(
                    "adds {own} tokens of its own to a sentence of at most {max_len}"
                )
                .into());
            }
            Ok(tokenizer)
        })?;
        Ok(Self {
            path: path.into(),
            tokenizer,
        })
    }

    /// The ids of `text`; a text like `[SEP]` becomes the special token.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a word can be split in no way and the vocabulary has no unknown token.
    pub fn encode(&self, text: &str) -> Result<Sentence> {
        let encoding = self.tokenizer.encode(text, true);
        let encoding = encoding
            .map_err(|e| Error::config(&self.path, format!("cannot split {text:?}: {e}")))?;
        Ok(Sentence {
            ids: encoding.get_ids().to_vec(),
            truncated: !encoding.get_overflowing().is_empty(),
        })
    }

    /// One more than the largest id: the rows that the model's embedding must have.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer
            .get_vocab(true)
            .values()
            .max()
            .map_or(0, |id| *id as usize + 1)
    }
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
    stops: Vec<u32>,
}

impl ChatTokenizer {
    /// Builds the tokenizer from a GGUF file's `tokenizer.ggml` metadata: byte-level BPE that
    /// first isolates every digit (`gpt2`, pre-tokenizer `smollm`).
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] naming a key that is missing or of the wrong type, [`Error::Config`] for
    /// another kind of tokenizer, or tokens, types, merges and special ids that do not fit
    /// together.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let path = gguf.path();
        for (key, expected) in [
            ("tokenizer.ggml.model", "gpt2"),
            ("tokenizer.ggml.pre", "smollm"),
        ] {
            let found = gguf.str(key)?;
            if found != expected {
                return Err(Error::config(
                    path,
                    format!("metadata `{key}` is `{found}`, expected `{expected}`"),
                ));
            }
        }
        let tokens = gguf.strings("tokenizer.ggml.tokens")?;
        let kinds = gguf.i32s("tokenizer.ggml.token_type")?;
        if kinds.len() != tokens.len() {
            let problem = format!(
                "has {} tokens, but {} token types",
                tokens.len(),
                kinds.len()
            );
            return Err(Error::config(path, problem));
        }
        let merges = gguf.strings("tokenizer.ggml.merges")?;
        let tokenizer = guarded(path, || byte_level_bpe(tokens, kinds, merges))?;

        let special = |key: &str| -> Result<Option<u32>> {
            if !gguf.has(key) {
                return Ok(None);
            }
            let id = gguf.u32(key)?;
            if id as usize >= tokens.len() {
                return Err(Error::config(
                    path,
                    format!("metadata `{key}` is {id} of {} tokens", tokens.len()),
                ));
            }
            Ok(Some(id))
        };
        const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
        let add_bos = gguf.has(ADD_BOS) && gguf.bool(ADD_BOS)?;
        let bos = special("tokenizer.ggml.bos_token_id")?.filter(|_| add_bos);
        let mut stops = Vec::new();
        stops.extend(special("tokenizer.ggml.eos_token_id")?);
        stops.extend(special("tokenizer.ggml.eot_token_id")?);
        let controls: Vec<_> = (0_u32..)
            .zip(tokens)
            .zip(kinds)
            .filter(|(_, kind)| **kind == CONTROL)
            .collect();
        stops.extend(
            controls
                .iter()
                .filter(|((_, t), _)| END_TOKENS.contains(&t.as_str()))
                .map(|((id, _), _)| id),
        );
        stops.sort_unstable();
        stops.dedup();
        if stops.is_empty() {
            return Err(Error::config(
                path,
                "names no token that ends an answer (`tokenizer.ggml.eos_token_id`)",
            ));
        }
        let piece = |(token, kind): (&String, &i32)| match *kind {
            CONTROL => Vec::new(),
            USER_DEFINED => token.as_bytes().to_vec(),
            _ => piece_bytes(token),
        };
        Ok(Self {
            path: path.into(),
            tokenizer,
            plain: OnceLock::new(),
            pieces: tokens.iter().zip(kinds).map(piece).collect(),
            controls: controls
                .into_iter()
                .map(|((_, token), _)| token.clone())
                .collect(),
            bos,
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
        let encoding = tokenizer.encode(text, false);
        let encoding = encoding
            .map_err(|e| Error::config(&self.path, format!("cannot split {text:?}: {e}")))?;
        Ok(self.bos.iter().chain(encoding.get_ids()).copied().collect())
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

/// Runs a loader of the `tokenizers` crate and turns its panics and errors into [`Error::Config`].
fn guarded(path: &Path, load: impl FnOnce() -> tokenizers::Result<Tokenizer>) -> Result<Tokenizer> {
    match catch_unwind(AssertUnwindSafe(load)) {
        Ok(Ok(tokenizer)) => Ok(tokenizer),
        Ok(Err(e)) => Err(Error::config(path, format!("tokenizer: {e}"))),
        Err(_) => Err(Error::config(
            path,
            "tokenizer: its definition makes the tokenizers library panic",
        )),
    }
}

/// The pipeline that SmolLM2 was trained with: single digits, GPT-2's words, bytes, merges.
fn byte_level_bpe(
    tokens: &[String],
    kinds: &[i32],
    merges: &[String],
) -> tokenizers::Result<Tokenizer> {
    let vocab: Vocab = tokens.iter().cloned().zip(0..).collect();
    if vocab.len() != tokens.len() {
        return Err(format!(
            "{} of {} tokens are repeated",
            tokens.len() - vocab.len(),
            tokens.len()
        )
        .into());
    }
    let pairs = merges.iter().map(|merge| match merge.split_once(' ') {
        Some((left, right)) => Ok((left.to_owned(), right.to_owned())),
        None => Err(format!("the merge {merge:?} is not a pair")),
    });
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    let mut tokenizer = Tokenizer::new(BPE::builder().vocab_and_merges(vocab, pairs).build()?);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::Digits(Digits::new(true)),
        PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, true)),
    ])));
    let added = |wanted: i32| {
        let of_kind = tokens
            .iter()
            .zip(kinds)
            .filter(move |(_, kind)| **kind == wanted);
        of_kind.map(move |(token, _)| {
            AddedToken::from(token.clone(), wanted == CONTROL).normalized(false)
        })
    };
    tokenizer.add_special_tokens(added(CONTROL))?;
    tokenizer.add_tokens(added(USER_DEFINED))?;
    Ok(tokenizer)
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
