//! Instructions: what is said to the segmentation model of each structure.
//!
//! As in Zeus a language model gets a designed prompt with the structure (`<instance>`), the modality,
//! the view and facts measured from the volume, and answers with an instruction. All structures are
//! written at once: their prompts share a prefix that is computed once, and each step decodes one token
//! of every answer. An answer that is empty, endless or off its topic is replaced by the stock one.

use std::path::Path;

use serde::Serialize;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::llama::Llama;
use crate::pipeline::home::{Home, LANGUAGE_MODEL};
use crate::pipeline::language::{Generation, LanguageModel, Progress};
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::View;
use crate::pipeline::sampling::Sampling;
use crate::pipeline::structures::Target;
use crate::pipeline::wording::{About, Wording};

/// The most tokens of a generated instruction.
pub const MAX_TOKENS: usize = 96;
/// Stands for the view in an instruction that is used for several.
pub const VIEW: &str = "<view>";

/// Who wrote an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Author {
    /// The language model.
    Llm,
    /// The language model, told what the volume shows by looking at it.
    Lvlm,
    /// The built-in template.
    Stock,
    /// The user.
    User,
}

/// What is said of one structure in one modality.
#[derive(Clone, Debug, Serialize)]
pub struct Instruction {
    /// The structure's name.
    pub structure: String,
    /// The modality it is asked for in.
    pub modality: Modality,
    /// The text; [`VIEW`] stands for the view.
    pub text: String,
    /// Who wrote it.
    pub author: Author,
    /// Why the language model's answer was not used, with the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
}

impl Instruction {
    /// The embedded model's template: `Segment the left hippocampus in this T1-weighted axial MRI.`
    pub fn stock(target: &Target, modality: Modality) -> Self {
        Wording::embedded().stock(target, modality)
    }

    /// The user's own words.
    pub fn user(target: &Target, modality: Modality, text: &str) -> Self {
        Self {
            structure: target.name.clone(),
            modality,
            text: text.to_owned(),
            author: Author::User,
            replaced: None,
        }
    }

    /// The text for one view.
    pub fn for_view(&self, view: View) -> String {
        self.text.replace(VIEW, view.name())
    }
}

/// One instruction to be written.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The structure.
    pub target: &'a Target,
    /// The modality.
    pub modality: Modality,
}

/// A language model that writes instructions.
pub struct Writer {
    model: LanguageModel,
    /// How the tokens of an instruction are chosen: greedily, unless set otherwise.
    pub sampling: Sampling,
}

impl Writer {
    /// Loads the language model from where models live.
    ///
    /// # Errors
    /// A model that was not pulled, or a file that does not fit.
    pub fn open(gpu: &Gpu, home: &Home) -> Result<Self> {
        Self::from_file(gpu, &home.locate(LANGUAGE_MODEL)?)
    }

    /// Loads a GGUF file or a folder of Hugging Face's, see [`LanguageModel::open`].
    ///
    /// # Errors
    /// A model that is damaged, of another architecture or without a chat template, or no memory.
    pub fn from_file(gpu: &Gpu, path: &Path) -> Result<Self> {
        Ok(Self {
            model: LanguageModel::open(gpu, path)?,
            sampling: Sampling::default(),
        })
    }

    /// Writes an instruction for each request, asked in a model's words. `facts` are measured from the volume; `views` are
    /// those that the instruction will be used for. `progress` is called with the share done, 0 to 1.
    ///
    /// # Errors
    /// A prompt that does not fit the context, or an adapter that fails.
    pub fn instruct(
        &self,
        gpu: &Gpu,
        wording: &Wording,
        requests: &[Request],
        facts: &str,
        views: &[View],
        progress: &mut dyn FnMut(f64),
    ) -> Result<Vec<Instruction>> {
        // Several views share one text: the model writes for the first, the word is then replaced.
        let view = views[0];
        let fill = |text: &str, request: &Request| {
            let about = About {
                target: request.target,
                name: request.target.name_without_side(),
                modality: request.modality,
                view: view.name(),
                facts,
            };
            wording.fill(text, &about)
        };
        // Left and right are spoken of alike: the model writes of the structure, the side is put in.
        let mut subjects: Vec<Request> = Vec::new();
        for request in requests {
            if !subjects.iter().any(|subject| subject.is_about(request)) {
                subjects.push(*request);
            }
        }
        let mut prompts = Vec::new();
        for subject in &subjects {
            let asked = &wording.instruction;
            let messages = asked.messages(|text| self.outside(&fill(text, subject)));
            prompts.push(self.model.chat(&messages)?.into());
        }
        let mut tell = |told: Progress| {
            if let Progress::Share(share) = told {
                progress(share);
            }
        };
        let answers = self
            .model
            .generate(gpu, &prompts, &self.sampling, MAX_TOKENS, &mut tell)?;
        let judged = requests.iter().map(|request| {
            let stock = wording.stock(request.target, request.modality);
            let about = subjects
                .iter()
                .position(|subject| subject.is_about(request));
            let Some(answer) = about.map(|n| &answers[n]) else {
                return stock;
            };
            match judge(answer, request.target) {
                Err(why) => Instruction {
                    replaced: Some(format!("{why}: \"{}\"", answer.text.trim())),
                    ..stock
                },
                Ok(text) => Instruction {
                    text: generic(&text, view),
                    author: Author::Llm,
                    ..stock
                },
            }
        });
        Ok(judged.collect())
    }

    /// Text from outside, which must not end its own message.
    fn outside(&self, text: &str) -> String {
        self.model.outside(text)
    }

    /// The model and what belongs to it.
    pub fn model(&self) -> &LanguageModel {
        &self.model
    }

    /// The checkpoint's hash, for reports.
    pub fn sha256(&self) -> &str {
        &self.model.sha256
    }

    /// The model, for tests and benches.
    pub fn llama(&self) -> &Llama {
        self.model.llama()
    }
}

impl Request<'_> {
    /// Whether one answer serves both: the same structure in the same modality.
    fn is_about(&self, other: &Self) -> bool {
        self.modality == other.modality
            && self.target.name_without_side() == other.target.name_without_side()
    }
}

/// The instruction that an answer about a structure makes for a target of it, or why it cannot serve.
fn judge(answer: &Generation, target: &Target) -> Result<String, &'static str> {
    let text = answer.text.trim();
    if text.is_empty() {
        return Err("empty");
    }
    if !answer.ended {
        return Err("endless");
    }
    let Some(structure) = target.structure else {
        return Ok(text.to_owned());
    };
    // ASCII only, so that places in the lower-case copy are places in the text.
    let lower = text.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_alphanumeric()).collect();
    if words.contains(&"left") || words.contains(&"right") {
        return Err("names a side of its own");
    }
    let names = std::iter::once(&structure.name).chain(&structure.synonyms);
    let place = names
        .map(|name| name.to_ascii_lowercase())
        .find_map(|name| {
            let whole = |at: usize| {
                let letter = |c: char| c.is_alphanumeric();
                !lower[..at].ends_with(letter)
                    && !lower[at + name.len()..].starts_with(|c: char| letter(c) && c != 's')
            };
            lower
                .match_indices(&name)
                .map(|(at, _)| at)
                .find(|at| whole(*at))
        });
    let Some(place) = place else {
        return Err("does not name the structure");
    };
    Ok(match target.side {
        Some(side) => format!("{}{} {}", &text[..place], side.name(), &text[place..]),
        None => text.to_owned(),
    })
}

/// The text with the view's name replaced by [`VIEW`], on one line.
fn generic(text: &str, view: View) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.replace(view.name(), VIEW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        Target::find(name).expect("a known structure")
    }

    fn judged(text: &str, ended: bool, name: &str) -> Result<String, &'static str> {
        judge(
            &Generation {
                text: text.into(),
                tokens: Vec::new(),
                prompt_tokens: 0,
                ended,
            },
            &target(name),
        )
    }

    #[test]
    fn the_prompt_parses() {
        let prompt = &Wording::embedded().instruction;
        assert!(
            prompt.ask.contains("<instance>")
                && prompt.ask.contains("<modality>")
                && !prompt.examples.is_empty()
        );
    }

    #[test]
    fn answers_that_miss_are_named() {
        let name = "left hippocampus";
        assert_eq!(
            judged("Outline the kidney.", true, name),
            Err("does not name the structure")
        );
        assert_eq!(
            judged("Outline the parahippocampus.", true, name),
            Err("does not name the structure")
        );
        assert_eq!(
            judged("Outline the right hippocampus.", true, name),
            Err("names a side of its own")
        );
        assert_eq!(
            judged("Outline the hippocampus", false, name),
            Err("endless")
        );
        assert_eq!(judged("", true, name), Err("empty"));
    }

    #[test]
    fn the_side_is_put_before_the_structure() {
        let text = "Outline the Hippocampus, gray, beside the lateral ventricle.";
        let left = "Outline the left Hippocampus, gray, beside the lateral ventricle.";
        assert_eq!(judged(text, true, "left hippocampus").as_deref(), Ok(left));
        assert_eq!(judged(text, true, "hippocampus").as_deref(), Ok(text));
        let synonym = judged("Trace the globus pallidus.", true, "right pallidum");
        assert_eq!(synonym.as_deref(), Ok("Trace the right globus pallidus."));
        assert!(judged("Fluid of the ventricles.", true, "ventricles").is_ok());
    }

    #[test]
    fn the_view_is_put_in_later() {
        let text = generic("Segment the pons\nin this axial MRI.", View::Axial);
        let stock = Instruction {
            text,
            ..Instruction::stock(&target("brainstem"), Modality::T1)
        };
        assert_eq!(
            stock.for_view(View::Coronal),
            "Segment the pons in this coronal MRI."
        );
        assert_eq!(
            Instruction::stock(&target("left putamen"), Modality::T1).for_view(View::Axial),
            "Segment the left putamen in this T1-weighted axial MRI."
        );
    }
}
