//! A GGUF language model: header, tensors, configuration and chat template. Its tokens are `vocabulary`'s, which are slower to
//! read than all the rest.

use keraunos::Result;
use keraunos::models::llama::LlamaConfig;
use keraunos::pipeline::chat::ChatTemplate;
use keraunos::tensor::Checkpoint;

use super::files::Folder;
use super::safetensors::weigh;

/// Reads it as `keraunos generate --llm` does, up to the template, which `template` writes with.
pub fn read(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    let checkpoint = Checkpoint::read(&folder.file("model.gguf", bytes))?;
    weigh(&checkpoint);
    let gguf = checkpoint.expect_gguf()?;
    let config = LlamaConfig::of(&checkpoint).map(|config| turn(&config));
    let chat = match gguf.has("tokenizer.chat_template") {
        true => ChatTemplate::from_gguf(gguf).map(drop),
        false => Ok(()),
    };
    config.and(chat)
}

/// What an accepted configuration promises: positions turn by numbers.
pub fn turn(config: &LlamaConfig) {
    for rope in [Some(&config.rope), config.local_rope.as_ref()]
        .into_iter()
        .flatten()
    {
        let frequencies = rope.frequencies(config.heads.width);
        assert!(frequencies.iter().all(|f| f.is_finite()), "{rope:?}");
        assert!(rope.scale().is_finite(), "{rope:?}");
    }
    assert_eq!(config.windows.len(), config.block_count());
}
