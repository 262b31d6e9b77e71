//! What a model that sees says of pictures, such as slices of a volume: each as image tokens in a prompt, answered side by side.
//!
//! A [`Describer`] is a language model and an eye, out of a folder of the user's, and answers questions. Another kind of eye is
//! another variant of `eye::Eye`: it makes image tokens of a slice, and the text that stands around them. [`lvlm::Lvlm`] is the
//! built-in one: it states findings in one form, which `findings` reads back.

mod eye;
pub mod findings;
pub mod lvlm;
pub mod processor;
pub mod resample;
pub mod slices;

use std::path::Path;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::pipeline::Observer;
use crate::pipeline::chat::Part;
use crate::pipeline::language::{Generation, LanguageModel, Progress, expect_room, weight_bytes};
use crate::pipeline::prepare::Slice;
use crate::pipeline::prompt::Prompt;
use crate::pipeline::sampling::Sampling;
use crate::tensor::Checkpoint;

use eye::{Eye, IMAGE};

/// A language model that sees.
pub struct Describer {
    language: LanguageModel,
    eye: Eye,
}

impl Describer {
    /// Opens a folder of Hugging Face's: Idefics3, SmolVLM or LLaVA.
    ///
    /// # Errors
    /// Files that are missing, damaged, of another kind of model or do not fit together, or no memory.
    pub fn open(gpu: &Gpu, folder: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(folder)?;
        if checkpoint.gguf().is_some() {
            let problem = "is a GGUF file, expected a folder of Hugging Face's";
            return Err(Error::weights(folder, problem));
        }
        // Of a model of another kind nothing else need be said.
        Eye::check(&checkpoint)?;
        expect_room(gpu, folder, weight_bytes(&checkpoint))?;
        let words = LanguageModel::words(&checkpoint)?;
        let (eye, llama) = Eye::open(gpu, &checkpoint)?;
        Ok(Self {
            language: LanguageModel::of(folder, &checkpoint, words, llama)?,
            eye,
        })
    }

    /// The model's hash, for reports.
    pub fn sha256(&self) -> &str {
        &self.language.sha256
    }

    /// Answers questions, each about a picture of grey levels.
    ///
    /// # Errors
    /// A question that leaves no room in the context, numbers that make no sense, or an adapter that fails.
    pub fn answer(
        &self,
        gpu: &Gpu,
        asked: &[(Slice<u8>, String)],
        how: &Sampling,
        max_tokens: usize,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Generation>> {
        let mut prompts = Vec::new();
        for (n, (picture, question)) in asked.iter().enumerate() {
            observer.progress("looking", n as f64 / asked.len() as f64);
            prompts.push(self.prompt(gpu, picture, question)?);
        }
        let tell = &mut |progress: Progress| {
            if let Progress::Share(share) = progress {
                observer.progress("writing", share);
            }
        };
        self.language.generate(gpu, &prompts, how, max_tokens, tell)
    }

    /// A question about a picture of grey levels, as the model's template puts it.
    ///
    /// # Errors
    /// A template that has no place for a picture, or an adapter that fails.
    pub fn prompt(&self, gpu: &Gpu, picture: &Slice<u8>, question: &str) -> Result<Prompt> {
        let seen = self.eye.look(gpu, picture)?;
        let mut question = self.language.outside(question);
        // Some tokenizers do not call it a control token.
        while question.contains(IMAGE) {
            question = question.replace(IMAGE, "");
        }
        let text = self
            .language
            .render_parts(&[Part::Image, Part::Text(question)])?;
        let places = text.matches(IMAGE).count();
        if places != 1 {
            return Err(Error::Argument(format!(
                "the model's chat template has {places} places for a picture (`{IMAGE}`), expected 1"
            )));
        }
        let ids = self
            .language
            .tokenizer()
            .encode(&text.replace(IMAGE, &seen.text))?;
        Prompt::with_images(ids, self.eye.image_token_id(), &seen.tokens)
    }
}
