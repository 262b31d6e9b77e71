//! The models that draw what a phrase names, as one.

use std::path::Path;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::models::biomedclipseg::BiomedClipSeg;
use crate::models::clipseg::{ClipSeg, ClipSegDecoderConfig};
use crate::pipeline::card::{BIOMED_CITATION, PHRASED_CITATION};
use crate::pipeline::describe::processor::Squaring;
use crate::pipeline::kind::{Kind, kind};
use crate::pipeline::tokenizer::{ClipTokenizer, SentenceTokenizer};
use crate::tensor::{Checkpoint, Precision, Tensor};

/// The most tokens of a phrase for BiomedCLIP.
const BIOMED_LONGEST: usize = 256;

/// A model with its words.
pub(super) enum Model {
    ClipSeg(Box<ClipSeg>, ClipTokenizer),
    Biomed(Box<BiomedClipSeg>, SentenceTokenizer),
}

impl Model {
    /// Loads whichever a checkpoint is, and how pictures are made for it.
    pub(super) fn open(
        gpu: &Gpu,
        checkpoint: &Checkpoint,
        precision: Precision,
    ) -> Result<(Self, Squaring)> {
        let folder = checkpoint.folder();
        let (model, processor) = match kind(checkpoint) {
            Ok(Kind::BiomedClipSeg) => {
                let model = BiomedClipSeg::new(gpu, checkpoint, precision)?;
                let config = model.config();
                let longest = config.text.longest().min(BIOMED_LONGEST);
                let processor = Squaring::stretching_to(folder, config.vision.image_size)?;
                let tokenizer = SentenceTokenizer::from_folder(folder, longest)?;
                (Self::Biomed(Box::new(model), tokenizer), processor)
            }
            _ => {
                let processor = Squaring::stretching(folder)?;
                let model = ClipSeg::new(gpu, checkpoint, processor.square()?, precision)?;
                let tokenizer = ClipTokenizer::from_folder(folder)?;
                (Self::ClipSeg(Box::new(model), tokenizer), processor)
            }
        };
        let (path, has, rows) = model.words();
        if has > rows {
            let problem = format!("has {has} tokens, the model {rows}");
            return Err(Error::config(path, problem));
        }
        Ok((model, processor))
    }

    /// Where its vocabulary is, how many tokens that has, and how many the model has.
    fn words(&self) -> (&Path, usize, usize) {
        match self {
            Self::ClipSeg(model, tokenizer) => (
                tokenizer.path(),
                tokenizer.vocab_size(),
                model.config().clip.text.vocab_size,
            ),
            Self::Biomed(model, tokenizer) => (
                tokenizer.path(),
                tokenizer.vocab_size(),
                model.config().text.vocab_size,
            ),
        }
    }

    pub(super) fn decoder(&self) -> &ClipSegDecoderConfig {
        match self {
            Self::ClipSeg(model, _) => &model.config().decoder,
            Self::Biomed(model, _) => &model.config().decoder,
        }
    }

    /// Rows and columns of a picture in pixels.
    pub(super) fn image_size(&self) -> usize {
        self.decoder().grid * self.decoder().patch_size
    }

    pub(super) fn citation(&self) -> [&'static str; 2] {
        match self {
            Self::ClipSeg(..) => PHRASED_CITATION,
            Self::Biomed(..) => BIOMED_CITATION,
        }
    }

    /// The tokens of a phrase.
    pub(super) fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let long = |problem: String| {
            let problem = format!("the phrase `{text}` is {problem}");
            Err(Error::Argument(problem))
        };
        match self {
            Self::ClipSeg(model, tokenizer) => {
                let most = model.config().clip.text.max_position_embeddings;
                let ids = tokenizer.encode(text)?;
                match ids.len() > most {
                    true => long(format!("{} tokens long; {most} fit", ids.len())),
                    false => Ok(ids),
                }
            }
            Self::Biomed(_, tokenizer) => match tokenizer.encode(text)? {
                sentence if sentence.truncated => long("too long for the model".into()),
                sentence => Ok(sentence.ids),
            },
        }
    }

    /// What phrases condition the decoder by.
    pub(super) fn conditions(&self, rec: &Recorder, phrases: &[Vec<u32>]) -> Result<Tensor> {
        match self {
            Self::ClipSeg(model, _) => model.conditions(rec, phrases, |_, _| ()),
            Self::Biomed(model, _) => model.conditions(rec, phrases, |_, _| ()),
        }
    }

    /// What the decoder reads of a picture.
    pub(super) fn encode(&self, rec: &Recorder, pixels: &Tensor) -> Vec<Tensor> {
        match self {
            Self::ClipSeg(model, _) => model.encode(rec, pixels, |_, _| ()),
            Self::Biomed(model, _) => model.encode(rec, pixels, |_, _| ()),
        }
    }

    /// Logits, `[phrases, image_size, image_size]`.
    pub(super) fn decode(
        &self,
        rec: &Recorder,
        reduced: &[Tensor],
        conditions: &Tensor,
    ) -> Result<Tensor> {
        match self {
            Self::ClipSeg(model, _) => model.decode(rec, reduced, conditions, |_, _| ()),
            Self::Biomed(model, _) => model.decode(rec, reduced, conditions, |_, _| ()),
        }
    }
}
