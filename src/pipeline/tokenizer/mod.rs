//! Words to token ids and back, for the text encoder and the language model.
//!
//! [`SentenceTokenizer`] is the WordPiece of a BERT, read from `tokenizer.json` or `vocab.txt`.
//! [`ChatTokenizer`] is the BPE of a language model, over bytes or over SentencePiece's characters, read from the metadata
//! of its GGUF file or from `tokenizer.json`. [`ClipTokenizer`] is the BPE of a CLIP. All stand on the `tokenizers` crate, which panics on some malformed
//! inputs, so all run inside `catch_unwind`.

mod chat;
mod clip;
mod gguf;
mod growth;
mod sentence;
mod vocab;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::error::{Error, Result};
use crate::pipeline::files::read_bounded;

pub use chat::{ChatTokenizer, Decoder};
pub use clip::ClipTokenizer;
pub use sentence::{Sentence, SentenceTokenizer};

/// The largest `tokenizer.json` that is read, in bytes; the largest in common use takes 40 MB.
const MAX_TOKENIZER_BYTES: u64 = 256 << 20;

/// The bytes of a regular file that is not too large.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    read_bounded(path, MAX_TOKENIZER_BYTES)
}

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread will become an error, so that nobody need be told of it.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// Runs a part of the `tokenizers` crate and turns its panics and errors into [`Error::Config`].
fn guarded<T>(path: &Path, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(before);
    match done {
        Ok(Ok(tokenizer)) => Ok(tokenizer),
        Ok(Err(e)) => Err(Error::config(path, format!("tokenizer: {e}"))),
        Err(_) => Err(Error::config(
            path,
            "tokenizer: its definition makes the tokenizers library panic",
        )),
    }
}
