//! Designed prompts: what a language model is told it is, a few turns that show how to answer, and what it is asked.

use serde::Deserialize;

use super::chat::Message;

/// A file of `weights/prompts/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesignedPrompt {
    /// What the model is told first.
    pub system: String,
    /// What it is asked; words in angle brackets stand for others.
    pub ask: String,
    /// Turns before.
    pub examples: Vec<Example>,
}

/// A question with a good answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// What is asked.
    pub ask: String,
    /// What is answered.
    pub answer: String,
}

impl DesignedPrompt {
    /// Reads a file that is part of the program.
    ///
    /// # Panics
    /// If it is not well-formed: tests read them all.
    pub(super) fn embedded(json: &str) -> Self {
        serde_json::from_str(json).expect("an embedded prompt is well-formed")
    }

    /// The conversation up to where the answer begins, `fill` applied to what is told and asked but not to the examples.
    pub(super) fn messages(&self, fill: impl Fn(&str) -> String) -> Vec<Message> {
        let mut messages = vec![Message::new("system", fill(&self.system))];
        for example in &self.examples {
            messages.push(Message::new("user", &*example.ask));
            messages.push(Message::new("assistant", &*example.answer));
        }
        messages.push(Message::new("user", fill(&self.ask)));
        messages
    }
}
