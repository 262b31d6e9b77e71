//! A chat template: a Jinja program from a stranger.

use std::path::Path;

use keraunos::Result;
use keraunos::error::Error;
use keraunos::pipeline::chat::ChatTemplate;

use super::words::converse;

/// Compiles it and writes a conversation.
pub fn read(bytes: &[u8]) -> Result<()> {
    let path = Path::new("chat_template.jinja");
    let source = std::str::from_utf8(bytes).map_err(|e| Error::config(path, e.to_string()))?;
    let template = ChatTemplate::new(path, source)?;
    converse(&template.with_marks("<s>".into(), "</s>".into()))
}
