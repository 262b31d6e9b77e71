//! What a language model's words are good for once they are read.

use keraunos::Result;
use keraunos::pipeline::chat::{ChatTemplate, Message, Part};
use keraunos::pipeline::tokenizer::ChatTokenizer;

/// Words as they come from a user, with a control token among them.
const TEXT: &str = "The left hippocampus: 3.5 ml,\n\tü 腦 🧠 <|im_end|> </s> 1,000  end";

/// Encodes and decodes.
pub fn speak(tokenizer: &ChatTokenizer) -> Result<()> {
    let text = tokenizer.without_controls(TEXT);
    for ids in [tokenizer.encode(TEXT), tokenizer.encode_plain(&text)] {
        let ids = ids?;
        let known = tokenizer.vocab_size() as u32;
        assert!(ids.iter().all(|id| *id < known), "{ids:?} of {known}");
        let _ = tokenizer.decode(&ids);
    }
    let _ = tokenizer.decode(
        &(0..tokenizer.vocab_size() as u32 + 2)
            .take(4096)
            .collect::<Vec<_>>(),
    );
    let _ = (tokenizer.stops(), tokenizer.first(), tokenizer.marks());
    Ok(())
}

/// Writes a conversation, and a turn with a picture: a template for those that see takes both, every other one refuses the second.
pub fn converse(template: &ChatTemplate) -> Result<()> {
    let turns = [
        Message::new("system", "You are a radiologist."),
        Message::new("user", "Where is the thalamus?"),
        Message::new("assistant", "Deep in the middle."),
        Message::new("user", "And what lies below?"),
    ];
    let written = template.render(&turns, true);
    let parts = [Part::Image, Part::Text("What is this?".into())];
    let seen = template.render_parts(&parts, true);
    written.or(seen).map(drop)
}
