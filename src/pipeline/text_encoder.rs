//! Instructions to token states: tokenizer and BERT.

use std::path::Path;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::models::bert::{Bert, BertConfig, Pooling, Sentences};
use crate::pipeline::files::read_bounded;
use crate::pipeline::home::{Home, TEXT_ENCODER};
use crate::pipeline::tokenizer::SentenceTokenizer;
use crate::tensor::{Checkpoint, Precision, Tensor};

/// The longest sentence of all-MiniLM-L6-v2 in tokens, as its own `sentence_bert_config.json` says, which is not fetched.
const MAX_LEN: usize = 256;
/// What sentence-transformers keeps beside a model.
const SENTENCES: &str = "sentence_bert_config.json";
/// The largest `config.json` that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Tokens computed at once: enough to fill an adapter, few enough for little memory.
const TOKENS_AT_ONCE: usize = 2048;

/// A BERT with its tokenizer, ready: all-MiniLM-L6-v2, or another from a folder.
pub struct TextEncoder {
    tokenizer: SentenceTokenizer,
    bert: Bert,
    /// The checkpoint's hash, for reports.
    pub sha256: String,
}

impl TextEncoder {
    /// Loads all-MiniLM-L6-v2 from where models live.
    ///
    /// # Errors
    /// A model that was not pulled, or files that do not fit.
    pub fn open(gpu: &Gpu, home: &Home) -> Result<Self> {
        Self::known(gpu, home, TEXT_ENCODER)
    }

    /// Loads a model that `keraunos pull` fetches.
    ///
    /// # Errors
    /// As [`TextEncoder::open`], or a name that is not known.
    pub fn known(gpu: &Gpu, home: &Home, name: &str) -> Result<Self> {
        let folder = home.locate(name)?;
        // What it says of itself is looked at before its weights are.
        let config = config_of(&folder)?;
        let checkpoint = Checkpoint::open(&folder.join("model.safetensors"))?;
        Self::load(gpu, &checkpoint, config, MAX_LEN)
    }

    /// Loads `model.safetensors`, `tokenizer.json` or `vocab.txt` and, if they are there, `config.json` (without which it is
    /// taken for all-MiniLM-L6-v2), `tokenizer_config.json` and `sentence_bert_config.json` of a folder. Sentences are cut to as
    /// many tokens as the latter says, or as the model has positions.
    ///
    /// # Errors
    /// Files that are missing or do not fit each other.
    pub fn from_folder(gpu: &Gpu, folder: &Path) -> Result<Self> {
        let (config, most) = (config_of(folder)?, longest_of(folder)?);
        let checkpoint = Checkpoint::open(&folder.join("model.safetensors"))?;
        Self::load(gpu, &checkpoint, config, most)
    }

    /// The same of a checkpoint, with what else it needs beside it.
    ///
    /// # Errors
    /// As [`TextEncoder::from_folder`].
    pub fn of(gpu: &Gpu, checkpoint: &Checkpoint) -> Result<Self> {
        let folder = checkpoint.folder();
        let (config, most) = (config_of(folder)?, longest_of(folder)?);
        Self::load(gpu, checkpoint, config, most)
    }

    fn load(gpu: &Gpu, checkpoint: &Checkpoint, config: BertConfig, most: usize) -> Result<Self> {
        let most = most.min(config.longest());
        let tokenizer = SentenceTokenizer::from_folder(checkpoint.folder(), most)?;
        if tokenizer.vocab_size() > config.vocab_size {
            let problem = format!(
                "has {} tokens, the model {}",
                tokenizer.vocab_size(),
                config.vocab_size
            );
            return Err(Error::config(tokenizer.path(), problem));
        }
        let sha256 = checkpoint.sha256();
        Ok(Self {
            tokenizer,
            bert: Bert::new(gpu, checkpoint, config, Precision::Auto)?,
            sha256,
        })
    }

    /// The number of values of a state, and of an embedding.
    pub fn dim(&self) -> usize {
        self.bert.config().hidden_size
    }

    /// Embeddings of unit length, `dim` values for each text in turn, and whether any text was cut.
    ///
    /// # Errors
    /// An adapter that fails.
    pub fn embed(&self, gpu: &Gpu, texts: &[&str]) -> Result<(Vec<f32>, bool)> {
        self.embed_by(gpu, texts, Pooling::Mean)
    }

    /// The same of another pooling than the mean.
    ///
    /// # Errors
    /// The pooler of a model that has none, or an adapter that fails.
    pub fn embed_by(
        &self,
        gpu: &Gpu,
        texts: &[&str],
        pooling: Pooling,
    ) -> Result<(Vec<f32>, bool)> {
        self.read(gpu, texts, |rec, sentences| {
            self.bert.embeddings(rec, sentences, pooling)
        })
    }

    /// Encodes texts and reads what `finish` makes of their token states, rows of one length for each
    /// text in turn; and whether any text was cut.
    ///
    /// # Errors
    /// What `finish` fails with, or an adapter that fails.
    pub fn read(
        &self,
        gpu: &Gpu,
        texts: &[&str],
        finish: impl Fn(&Recorder, &Sentences) -> Result<Tensor>,
    ) -> Result<(Vec<f32>, bool)> {
        let sentences = texts
            .iter()
            .map(|text| self.tokenizer.encode(text))
            .collect::<Result<Vec<_>>>()?;
        let cut = sentences.iter().any(|sentence| sentence.truncated);
        let mut ids: Vec<Vec<u32>> = sentences.into_iter().map(|sentence| sentence.ids).collect();
        let mut values = Vec::new();
        while !ids.is_empty() {
            let mut tokens = 0;
            let within = |ids: &&Vec<u32>| {
                tokens += ids.len();
                tokens <= TOKENS_AT_ONCE
            };
            let count = ids.iter().take_while(within).count().max(1);
            let rest = ids.split_off(count);
            let rec = gpu.record("text encoder");
            let encoded = self.bert.forward(&rec, &ids, |_, _| ())?;
            let rows = finish(&rec, &encoded)?;
            values.extend(rows.read(rec)?);
            ids = rest;
        }
        Ok((values, cut))
    }
}

/// What a BERT's folder says of its sizes; all-MiniLM-L6-v2's where it says nothing.
fn config_of(folder: &Path) -> Result<BertConfig> {
    let path = folder.join("config.json");
    if !path.is_file() {
        return Ok(BertConfig::mini_lm());
    }
    let text = read_bounded(&path, MAX_CONFIG_BYTES)?;
    let json = serde_json::from_slice(&text).map_err(|e| Error::config(&path, e.to_string()))?;
    BertConfig::of(&json).map_err(|problem| Error::config(&path, problem))
}

/// The tokens of a sentence at most, as sentence-transformers' file says.
fn longest_of(folder: &Path) -> Result<usize> {
    let path = folder.join(SENTENCES);
    if !path.is_file() {
        return Ok(usize::MAX);
    }
    let text = read_bounded(&path, MAX_CONFIG_BYTES)?;
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| Error::config(&path, e.to_string()))?;
    let said = &json["max_seq_length"];
    let count = said.as_u64().and_then(|most| usize::try_from(most).ok());
    match (said, count) {
        (serde_json::Value::Null, _) => Ok(usize::MAX),
        (_, Some(count)) => Ok(count),
        (said, None) => {
            let problem = format!("`max_seq_length` is {said}, expected a whole number");
            Err(Error::config(&path, problem))
        }
    }
}
