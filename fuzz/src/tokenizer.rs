//! A `tokenizer.json`, of a text encoder, of a language model and of a CLIP.

use std::path::Path;

use keraunos::Result;
use keraunos::pipeline::tokenizer::{ChatTokenizer, ClipTokenizer, SentenceTokenizer};

use super::files::Folder;
use super::words::speak;

/// The most tokens of a sentence.
const MAX_LEN: usize = 32;

/// Reads it in each way and splits words.
pub fn read(bytes: &[u8]) -> Result<()> {
    let sentence = SentenceTokenizer::from_bytes(bytes, Path::new("tokenizer.json"), MAX_LEN);
    let sentence = sentence.and_then(|tokenizer| {
        for text in ["", "the left hippocampus", &"very long words ".repeat(20)] {
            let encoded = tokenizer.encode(text)?;
            assert!(encoded.ids.len() <= MAX_LEN, "{} ids", encoded.ids.len());
        }
        let _ = tokenizer.vocab_size();
        Ok(())
    });
    let folder = Folder::new();
    folder.file("tokenizer.json", bytes);
    folder.file("config.json", br#"{"eos_token_id": 0}"#);
    let chat = ChatTokenizer::from_folder(folder.path()).and_then(|tokenizer| speak(&tokenizer));
    // One that suits a sentence encoder or a language model seldom suits a CLIP.
    if let Ok(tokenizer) = ClipTokenizer::from_folder(folder.path()) {
        let ids = tokenizer.encode("the left hippocampus")?;
        assert!(ids.len() >= 2, "{ids:?}");
    }
    sentence.and(chat)
}
