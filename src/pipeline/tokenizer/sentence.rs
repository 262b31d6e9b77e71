//! The tokenizer of a sentence encoder.

use std::path::{Path, PathBuf};

use tokenizers::{PaddingParams, Tokenizer, TruncationParams};

use super::growth::loaded;
use super::vocab::{definition, settled};
use super::{guarded, read};
use crate::error::Result;

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
    /// [`Error::Read`](crate::error::Error::Read) if the file cannot be read, [`Error::Config`](crate::error::Error::Config) if it is too large or no
    /// tokenizer, or if `max_len` leaves no room for words.
    pub fn open(path: &Path, max_len: usize) -> Result<Self> {
        Self::from_bytes(&read(path)?, path, max_len)
    }

    /// Reads the `tokenizer.json` of a folder, or its `vocab.txt`, and what `tokenizer_config.json` says of case, accents and
    /// Chinese.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open); also if the list lacks a special token or a setting is of another kind.
    pub fn from_folder(folder: &Path, max_len: usize) -> Result<Self> {
        let (whole, vocab) = (folder.join("tokenizer.json"), folder.join("vocab.txt"));
        match !whole.is_file() && vocab.is_file() {
            true => Self::from_bytes(&definition(folder)?, &vocab, max_len),
            false => Self::from_bytes(&settled(folder, read(&whole)?)?, &whole, max_len),
        }
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Like [`open`](Self::open) for a tokenizer in memory; `path` only names it in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::error::Error::Config) as for [`open`](Self::open).
    pub fn from_bytes(bytes: &[u8], path: &Path, max_len: usize) -> Result<Self> {
        let tokenizer = guarded(path, || {
            let mut tokenizer = loaded(bytes)?;
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
    /// [`Error::Config`](crate::error::Error::Config) if a word can be split in no way and the vocabulary has no unknown token.
    pub fn encode(&self, text: &str) -> Result<Sentence> {
        let encoding = guarded(&self.path, || self.tokenizer.encode(text, true))?;
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
