//! What turns a text into one row of numbers: the text tower of a MedCLIP, BiomedCLIP, CLIP or SigLIP, or a BERT.

use std::path::Path;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::models::bert::Pooling;
use crate::models::biomedclip::BiomedClip;
use crate::models::clip::Clip;
use crate::models::likely::likely;
use crate::models::medclip::MedClip;
use crate::models::siglip::Siglip;
use crate::models::unit_rows;
use crate::pipeline::text_encoder::TextEncoder;
use crate::pipeline::tokenizer::{ClipTokenizer, SentenceTokenizer};
use crate::tensor::{Checkpoint, Precision, Tensor};

/// The tokens of a text for MedCLIP, as its own processor cuts it.
const MEDCLIP_LONGEST: usize = 77;
/// Texts that are read together.
const AT_ONCE: usize = 64;

/// A text tower with its tokenizer, ready.
pub struct TextTower {
    tower: Tower,
    /// The checkpoint's hash, for reports.
    pub sha256: String,
}

enum Tower {
    Bert(Box<TextEncoder>, Pooling),
    Paired(Box<Paired>),
}

/// One that was trained beside an image tower, with its tokenizer.
enum Paired {
    MedClip(Box<MedClip>, SentenceTokenizer),
    BiomedClip(Box<BiomedClip>, SentenceTokenizer),
    Clip(Box<Clip>, ClipTokenizer),
    Siglip(Box<Siglip>, SentenceTokenizer),
}

impl TextTower {
    /// Loads a checkpoint, whichever it is, with the tokenizer beside it: a folder, or a file in one. `pooling` is for a BERT
    /// alone; the others have their own.
    ///
    /// # Errors
    /// A checkpoint of another kind, files that are missing or do not fit each other, or a pooling that is not the model's.
    pub fn open(gpu: &Gpu, path: &Path, pooling: Option<Pooling>) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let tower = match (Paired::open(gpu, &checkpoint)?, pooling) {
            (Some(paired), None) => Tower::Paired(Box::new(paired)),
            (Some(paired), Some(_)) => {
                let kind = paired.kind();
                let problem = format!("a pooling is for a BERT, and this is a {kind}");
                return Err(Error::weights(path, problem));
            }
            (None, pooling) => {
                let encoder = TextEncoder::of(gpu, &checkpoint)?;
                Tower::Bert(Box::new(encoder), pooling.unwrap_or_default())
            }
        };
        Ok(Self {
            tower,
            sha256: checkpoint.sha256(),
        })
    }

    /// What it is.
    pub fn kind(&self) -> &'static str {
        match &self.tower {
            Tower::Bert(..) => "BERT",
            Tower::Paired(paired) => paired.kind(),
        }
    }

    /// The number of values of an embedding.
    pub fn dim(&self) -> usize {
        match &self.tower {
            Tower::Bert(encoder, _) => encoder.dim(),
            Tower::Paired(paired) => paired.dim(),
        }
    }

    /// Embeddings of unit length, `dim` values for each text in turn, and whether any text was cut.
    ///
    /// # Errors
    /// The pooler of a BERT that has none, no memory, or an adapter that fails.
    pub fn embed(&self, gpu: &Gpu, texts: &[&str]) -> Result<(Vec<f32>, bool)> {
        let paired = match &self.tower {
            Tower::Bert(encoder, pooling) => return encoder.embed_by(gpu, texts, *pooling),
            Tower::Paired(paired) => paired,
        };
        let (mut values, mut any_cut) = (Vec::new(), false);
        for texts in texts.chunks(AT_ONCE) {
            let mut ids = Vec::new();
            for text in texts {
                let (tokens, cut) = paired.tokens(text)?;
                any_cut |= cut;
                ids.push(tokens);
            }
            let rec = gpu.record("text tower");
            let rows = paired.forward(&rec, &ids)?;
            values.extend(rows.read(rec)?);
        }
        Ok((values, any_cut))
    }
}

impl Paired {
    /// Loads a checkpoint of one, nothing if it is none.
    fn open(gpu: &Gpu, checkpoint: &Checkpoint) -> Result<Option<Self>> {
        let (folder, precision) = (checkpoint.folder(), Precision::Auto);
        let this = match likely(checkpoint) {
            Some("MedCLIP") => {
                let model = MedClip::new(gpu, checkpoint, precision)?;
                let longest = model.config().text.longest().min(MEDCLIP_LONGEST);
                let tokenizer = SentenceTokenizer::from_folder(folder, longest)?;
                Self::MedClip(Box::new(model), tokenizer)
            }
            Some("BiomedCLIP") => {
                let model = BiomedClip::new(gpu, checkpoint, precision)?;
                let config = model.config();
                let longest = config.text.longest().min(config.context_length);
                let tokenizer = SentenceTokenizer::from_folder(folder, longest)?;
                Self::BiomedClip(Box::new(model), tokenizer)
            }
            Some("CLIP or SigLIP") => {
                let model = Clip::new(gpu, checkpoint, precision)?;
                Self::Clip(Box::new(model), ClipTokenizer::from_folder(folder)?)
            }
            Some("SigLIP") => {
                let model = Siglip::new(gpu, checkpoint, precision)?;
                let longest = model.config().text.max_position_embeddings;
                let tokenizer = SentenceTokenizer::from_folder(folder, longest)?;
                Self::Siglip(Box::new(model), tokenizer)
            }
            _ => return Ok(None),
        };
        let (path, has, rows) = this.words();
        match has > rows {
            true => Err(Error::config(
                path,
                format!("has {has} tokens, the model {rows}"),
            )),
            false => Ok(Some(this)),
        }
    }

    /// Where its vocabulary is, how many tokens that has, and how many the model has.
    fn words(&self) -> (&Path, usize, usize) {
        match self {
            Self::MedClip(model, words) => {
                let rows = model.config().text.vocab_size;
                (words.path(), words.vocab_size(), rows)
            }
            Self::BiomedClip(model, words) => {
                let rows = model.config().text.vocab_size;
                (words.path(), words.vocab_size(), rows)
            }
            Self::Clip(model, words) => {
                let rows = model.config().text.vocab_size;
                (words.path(), words.vocab_size(), rows)
            }
            Self::Siglip(model, words) => {
                let rows = model.config().text.vocab_size;
                (words.path(), words.vocab_size(), rows)
            }
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::MedClip(..) => "MedCLIP",
            Self::BiomedClip(..) => "BiomedCLIP",
            Self::Clip(..) => "CLIP",
            Self::Siglip(..) => "SigLIP",
        }
    }

    fn dim(&self) -> usize {
        match self {
            Self::MedClip(model, _) => model.config().proj_dim,
            Self::BiomedClip(model, _) => model.config().embed_dim,
            Self::Clip(model, _) => model.config().projection_dim,
            Self::Siglip(model, _) => model.config().vision.hidden_size,
        }
    }

    /// The tokens of a text, and whether its end was left out.
    fn tokens(&self, text: &str) -> Result<(Vec<u32>, bool)> {
        match self {
            Self::MedClip(_, tokenizer) | Self::BiomedClip(_, tokenizer) => {
                let sentence = tokenizer.encode(text)?;
                Ok((sentence.ids, sentence.truncated))
            }
            Self::Siglip(model, tokenizer) => {
                let (config, sentence) = (model.config(), tokenizer.encode(text)?);
                let mut ids = sentence.ids;
                // It learned texts of one length, and reads the last token.
                ids.resize(config.text.max_position_embeddings, config.pad_token_id);
                Ok((ids, sentence.truncated))
            }
            Self::Clip(model, tokenizer) => {
                let most = model.config().text.max_position_embeddings;
                let mut ids = tokenizer.encode(text)?;
                let is_cut = ids.len() > most;
                if is_cut {
                    // The last token is the one that is read.
                    ids.drain(most - 1..ids.len() - 1);
                }
                Ok((ids, is_cut))
            }
        }
    }

    /// Embeddings of unit length, `[texts, dim]`.
    fn forward(&self, rec: &Recorder, texts: &[Vec<u32>]) -> Result<Tensor> {
        match self {
            Self::MedClip(model, _) => model.encode_text(rec, texts, |_, _| ()),
            Self::BiomedClip(model, _) => model.encode_text(rec, texts, |_, _| ()),
            Self::Clip(model, _) => unit_rows(rec, &model.texts(rec, texts, |_, _| ())?),
            Self::Siglip(model, _) => unit_rows(rec, &model.texts(rec, texts, |_, _| ())?),
        }
    }
}
