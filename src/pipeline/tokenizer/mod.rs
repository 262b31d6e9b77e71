//! Words to token ids and back, for the text encoder and the language model.
//!
//! [`SentenceTokenizer`] is the WordPiece of a BERT sentence encoder, read from `tokenizer.json`.
//! [`ChatTokenizer`] is the BPE of a language model, over bytes or over SentencePiece's characters, read from the metadata
//! of its GGUF file or from `tokenizer.json`. Both stand on the `tokenizers` crate, which panics on some malformed
//! inputs, so loading runs inside `catch_unwind`.

mod chat;
mod gguf;
mod sentence;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::{Error, Result};

pub use chat::{ChatTokenizer, Decoder};
pub use sentence::{Sentence, SentenceTokenizer};

/// The largest `tokenizer.json` that is read, in bytes; the largest in common use takes 40 MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// The bytes of a regular file that is not too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let found = std::fs::metadata(path).map_err(Error::read(path))?;
    if !found.is_file() || found.len() > MAX_TOKENIZER_BYTES {
        let problem = format!("is not a regular file of at most {MAX_TOKENIZER_BYTES} bytes");
        return Err(Error::config(path, problem));
    }
    std::fs::read(path).map_err(Error::read(path))
}

/// Runs a loader of the `tokenizers` crate and turns its panics and errors into [`Error::Config`].
fn guarded<T>(path: &Path, load: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(load)) {
        Ok(Ok(tokenizer)) => Ok(tokenizer),
        Ok(Err(e)) => Err(Error::config(path, format!("tokenizer: {e}"))),
        Err(_) => Err(Error::config(
            path,
            "tokenizer: its definition makes the tokenizers library panic",
        )),
    }
}
