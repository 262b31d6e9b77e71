//! The models that draw what a phrase names, as one.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::models::biomedclipseg::BiomedClipSeg;
use crate::models::clipseg::ClipSeg;
use crate::models::cris::{self, Cris, Phrases};
use crate::ops::{copy_span, gather_rows};
use crate::pipeline::card::{BIOMED_CITATION, CRIS_CITATION, PHRASED_CITATION};
use crate::pipeline::describe::processor::Squaring;
use crate::pipeline::kind::{Kind, kind};
use crate::pipeline::threshold::logit;
use crate::pipeline::tokenizer::{ClipTokenizer, SentenceTokenizer};
use crate::tensor::{Checkpoint, Precision, Tensor};

/// The most tokens of a phrase for BiomedCLIP.
const BIOMED_LONGEST: usize = 256;

/// A model with its words.
pub(super) enum Model {
    ClipSeg(Box<ClipSeg>, ClipTokenizer),
    Biomed(Box<BiomedClipSeg>, SentenceTokenizer),
    Cris(Box<Cris>, ClipTokenizer),
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
            Ok(Kind::Cris) => {
                let processor = Squaring::stretching_to(folder, cris::USUAL_SIZE)?;
                let model = Cris::new(gpu, checkpoint, processor.square()?, precision)?;
                let tokenizer = ClipTokenizer::from_folder(folder)?;
                (Self::Cris(Box::new(model), tokenizer), processor)
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
            Self::Cris(model, tokenizer) => (
                tokenizer.path(),
                tokenizer.vocab_size(),
                model.config().clip.text.vocab_size,
            ),
        }
    }

    /// Rows and columns of a picture in pixels.
    pub(super) fn image_size(&self) -> usize {
        match self {
            Self::ClipSeg(model, _) => model.config().image_size,
            Self::Biomed(model, _) => model.config().vision.image_size,
            Self::Cris(model, _) => model.config().image_size,
        }
    }

    /// Numbers of the widest tensor of several phrases' decoders that one of them has in it; none where they are decoded one by
    /// one.
    pub(super) fn widest(&self) -> usize {
        match self {
            Self::ClipSeg(model, _) => model.config().decoder.widest(),
            Self::Biomed(model, _) => model.config().decoder.widest(),
            Self::Cris(..) => 0,
        }
    }

    /// Numbers that are kept of a slice.
    pub(super) fn kept(&self) -> usize {
        match self {
            Self::ClipSeg(model, _) => model.config().decoder.kept(),
            Self::Biomed(model, _) => model.config().decoder.kept(),
            Self::Cris(model, _) => model.config().kept(),
        }
    }

    /// The logit above which a pixel is what a phrase names.
    pub(super) fn threshold(&self) -> f32 {
        match self {
            Self::ClipSeg(..) | Self::Biomed(..) => 0.0,
            Self::Cris(..) => logit(cris::THRESHOLD),
        }
    }

    pub(super) fn citation(&self) -> [&'static str; 2] {
        match self {
            Self::ClipSeg(..) => PHRASED_CITATION,
            Self::Biomed(..) => BIOMED_CITATION,
            Self::Cris(..) => CRIS_CITATION,
        }
    }

    /// The tokens of a phrase.
    pub(super) fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let long = |problem: String| {
            let problem = format!("the phrase `{text}` is {problem}");
            Err(Error::Argument(problem))
        };
        let clip = |tokenizer: &ClipTokenizer, most: usize| match tokenizer.encode(text)? {
            ids if ids.len() > most => long(format!("{} tokens long; {most} fit", ids.len())),
            ids => Ok(ids),
        };
        match self {
            Self::ClipSeg(model, tokenizer) => {
                clip(tokenizer, model.config().clip.text.max_position_embeddings)
            }
            Self::Cris(model, tokenizer) => {
                clip(tokenizer, model.config().clip.text.max_position_embeddings)
            }
            Self::Biomed(_, tokenizer) => match tokenizer.encode(text)? {
                sentence if sentence.truncated => long("too long for the model".into()),
                sentence => Ok(sentence.ids),
            },
        }
    }

    /// Phrases as the decoder reads them; CLIPSeg's reads no words.
    pub(super) fn phrases(&self, rec: &Recorder, phrases: &[Vec<u32>]) -> Result<Phrases> {
        let vectors = match self {
            Self::ClipSeg(model, _) => model.conditions(rec, phrases, |_, _| ())?,
            Self::Biomed(model, _) => model.conditions(rec, phrases, |_, _| ())?,
            Self::Cris(model, _) => return model.phrases(rec, phrases, |_, _| ()),
        };
        let words = Vec::new();
        Ok(Phrases { vectors, words })
    }

    /// What the decoder reads of a picture.
    pub(super) fn encode(&self, rec: &Recorder, pixels: &Tensor) -> Vec<Tensor> {
        match self {
            Self::ClipSeg(model, _) => model.encode(rec, pixels, |_, _| ()),
            Self::Biomed(model, _) => model.encode(rec, pixels, |_, _| ()),
            Self::Cris(model, _) => model.encode(rec, pixels, |_, _| ()),
        }
    }

    /// Logits of some of the phrases, `[phrases, drawn, drawn]`; [`enlarged`](Self::enlarged) brings them to the picture's size.
    pub(super) fn decode(
        &self,
        rec: &Recorder,
        picture: &[Tensor],
        phrases: &Phrases,
        some: Range<usize>,
    ) -> Result<Tensor> {
        let (count, first) = (some.len(), some.start);
        let vectors = || gather_rows(rec, &phrases.vectors, count, first, 1);
        match self {
            Self::ClipSeg(model, _) => model.decode(rec, picture, &vectors(), |_, _| ()),
            Self::Biomed(model, _) => model.decode(rec, picture, &vectors(), |_, _| ()),
            Self::Cris(model, _) => {
                let side = self.drawn();
                let all = Tensor::empty(rec, [count * side, side]);
                for (n, phrase) in some.enumerate() {
                    let logits = model.decode(rec, picture, phrases, phrase, |_, _| ());
                    copy_span(rec, &logits, 0, &all, n * side, side);
                }
                Ok(all)
            }
        }
    }

    /// Rows and columns of what is drawn.
    pub(super) fn drawn(&self) -> usize {
        match self {
            Self::ClipSeg(..) | Self::Biomed(..) => self.image_size(),
            Self::Cris(model, _) => model.config().drawn(),
        }
    }

    /// The logits of a phrase at the size of a picture.
    pub(super) fn enlarged<'l>(&self, logits: &'l [f32]) -> Cow<'l, [f32]> {
        match self {
            Self::ClipSeg(..) | Self::Biomed(..) => logits.into(),
            Self::Cris(model, _) => model.enlarged(logits).into(),
        }
    }
}
