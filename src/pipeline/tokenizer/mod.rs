//! Words to token ids and back, for the text encoder and the language model.
//!
//! [`SentenceTokenizer`] is the WordPiece of a BERT, read from `tokenizer.json` or `vocab.txt`.
//! [`ChatTokenizer`] is the BPE of a language model, over bytes or over SentencePiece's characters, read from the metadata
//! of its GGUF file or from `tokenizer.json`. [`ClipTokenizer`] is the BPE of a CLIP. All stand on the `tokenizers` crate, which panics on some malformed
//! inputs, so all run guarded.

mod chat;
mod clip;
mod gguf;
mod growth;
mod sentence;
mod vocab;

use std::path::Path;

use crate::error::{Error, Result};
use crate::pipeline::files::read_bounded;
use crate::pipeline::guard;

pub use chat::{ChatTokenizer, Decoder};
pub use clip::ClipTokenizer;
pub use sentence::{Sentence, SentenceTokenizer};

/// The largest `tokenizer.json` that is read, in bytes; the largest in common use takes 40 MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// The bytes of a regular file that is not too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    read_bounded(path, MAX_TOKENIZER_BYTES)
}

/// Runs a part of the `tokenizers` crate and turns its panics and errors into [`Error::Config`].
fn guarded<T>(path: &Path, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match guard::guarded(run) {
        Some(Ok(tokenizer)) => Ok(tokenizer),
        Some(Err(e)) => Err(Error::config(path, format!("tokenizer: {e}"))),
        None => Err(Error::config(
            path,
            "tokenizer: its definition makes the tokenizers library panic",
        )),
    }
}
