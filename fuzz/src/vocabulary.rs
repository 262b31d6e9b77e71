//! The tokens of a GGUF language model.

use keraunos::Result;
use keraunos::pipeline::tokenizer::ChatTokenizer;
use keraunos::tensor::Checkpoint;

use super::files::Folder;
use super::words::speak;

/// Reads them as `keraunos generate --llm` does, and splits words.
pub fn read(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    let checkpoint = Checkpoint::read(&folder.file("model.gguf", bytes))?;
    ChatTokenizer::from_gguf(checkpoint.expect_gguf()?).and_then(|tokenizer| speak(&tokenizer))
}
