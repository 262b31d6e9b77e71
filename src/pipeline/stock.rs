//! Sentence embeddings of the built-in instructions, so that segmenting by name needs no download.
//!
//! `weights/stock-instructions.safetensors` holds what the text encoder makes of every template; the
//! recipe's `stock.py` writes it, a test compares it with our own encoder.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::tensor::Checkpoint;

static STOCK: &[u8] = include_bytes!("../../weights/stock-instructions.safetensors");

/// Embeddings by text.
pub struct StockEmbeddings(BTreeMap<String, Vec<f32>>);

impl StockEmbeddings {
    /// Reads the embedded file.
    ///
    /// # Errors
    /// A file that is damaged.
    pub fn embedded() -> Result<Self> {
        let checkpoint = Checkpoint::from_bytes(STOCK, "stock-instructions (embedded)")?;
        let fault = |problem: &str| Error::weights(checkpoint.path(), problem);
        let metadata = checkpoint.metadata();
        let texts = metadata
            .get("texts")
            .ok_or_else(|| fault("no `texts` in its metadata"))?;
        let texts: Vec<String> =
            serde_json::from_str(texts).map_err(|e| fault(&format!("`texts`: {e}")))?;
        let entry = checkpoint
            .tensor("embeddings")
            .ok_or_else(|| fault("tensor `embeddings` is missing"))?;
        let (rows, dim) = match entry.shape {
            [rows, dim] if *rows == texts.len() && *dim > 0 => (*rows, *dim),
            shape => {
                return Err(fault(&format!(
                    "tensor `embeddings` has shape {shape:?} for {} texts",
                    texts.len()
                )));
            }
        };
        let values = entry.decode().filter(|values| values.len() == rows * dim);
        let values = values.ok_or_else(|| fault("tensor `embeddings` does not hold numbers"))?;
        Ok(Self(
            texts
                .into_iter()
                .zip(values.chunks_exact(dim).map(<[f32]>::to_vec))
                .collect(),
        ))
    }

    /// The embedding of a built-in instruction.
    pub fn get(&self, text: &str) -> Option<&[f32]> {
        self.0.get(text).map(Vec::as_slice)
    }

    /// All texts.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
