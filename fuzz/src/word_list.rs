//! A BERT's `vocab.txt` or `tokenizer.json`, and `tokenizer_config.json`.

use keraunos::Result;
use keraunos::pipeline::tokenizer::SentenceTokenizer;

use super::files::{Folder, parts};

/// The files that an input may hold.
const NAMES: [&str; 3] = ["vocab.txt", "tokenizer_config.json", "tokenizer.json"];
/// The most tokens of a sentence.
const MAX_LEN: usize = 32;

/// Reads them and splits words, the list's own among them.
pub fn read(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    for (name, bytes) in parts(bytes, &NAMES) {
        folder.file(name, bytes);
    }
    let tokenizer = SentenceTokenizer::from_folder(folder.path(), MAX_LEN)?;
    let size = tokenizer.vocab_size();
    let words = String::from_utf8_lossy(bytes);
    for text in ["", "The left hippocampus, É 中", "[MASK] ##s", &words] {
        let ids = tokenizer.encode(text)?.ids;
        assert!(ids.len() <= MAX_LEN, "{} ids", ids.len());
        assert!(
            ids.iter().all(|id| (*id as usize) < size),
            "{ids:?} of {size}"
        );
    }
    Ok(())
}
