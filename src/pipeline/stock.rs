//! Prompt tokens of the built-in instructions, so that segmenting by name needs no text encoder and no
//! download.
//!
//! They come with the weights that made them: tensor `instruction_tokens` `[n, prompt_dim]`, and the n
//! texts as JSON under `instructions` in the metadata. The recipe's `stock.py` lists the texts; a test
//! compares the tokens with our own encoder's.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::models::zeus::INSTRUCTION_TOKENS;
use crate::tensor::Checkpoint;

/// Prompt tokens by text.
pub struct StockTokens(BTreeMap<String, Vec<f32>>);

impl StockTokens {
    /// Those of a Zeus checkpoint whose prompt tokens have `prompt_dim` values; none if it has none.
    ///
    /// # Errors
    /// Texts and tokens that do not fit each other, or tokens of another width.
    pub fn of(checkpoint: &Checkpoint, prompt_dim: usize) -> Result<Self> {
        let fault = |problem: &str| Error::weights(checkpoint.path(), problem);
        let metadata = checkpoint.metadata();
        let Some(texts) = metadata.get("instructions") else {
            return Ok(Self(BTreeMap::new()));
        };
        let texts: Vec<String> =
            serde_json::from_str(texts).map_err(|e| fault(&format!("`instructions`: {e}")))?;
        let entry = checkpoint
            .tensor(INSTRUCTION_TOKENS)
            .ok_or_else(|| fault("tensor `instruction_tokens` is missing"))?;
        if *entry.shape != [texts.len(), prompt_dim] {
            return Err(fault(&format!(
                "tensor `instruction_tokens` has shape {:?} for {} texts of {prompt_dim} values",
                entry.shape,
                texts.len()
            )));
        }
        let values = entry
            .decode()
            .ok_or_else(|| fault("tensor `instruction_tokens` does not hold numbers"))?;
        Ok(Self(
            texts
                .into_iter()
                .zip(values.chunks_exact(prompt_dim).map(<[f32]>::to_vec))
                .collect(),
        ))
    }

    /// The token of a built-in instruction.
    pub fn get(&self, text: &str) -> Option<&[f32]> {
        self.0.get(text).map(Vec::as_slice)
    }

    /// All texts.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
