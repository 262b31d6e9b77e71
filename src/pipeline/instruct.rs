//! Instructions: what is said to the segmentation model of each structure.
//!
//! As in Zeus a language model gets a designed prompt with the structure (`<instance>`), the modality,
//! the view and facts measured from the volume, and answers with an instruction. All structures are
//! written at once: their prompts share a prefix that is computed once, and each step decodes one token
//! of every answer. An answer that is empty, endless or off its topic is replaced by the stock one.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::layers::KvCache;
use crate::models::llama::{Batch, Llama};
use crate::ops::argmax;
use crate::pipeline::chat::{ChatTemplate, Message};
use crate::pipeline::home::{Home, LANGUAGE_MODEL};
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::View;
use crate::pipeline::structures::Target;
use crate::pipeline::tokenizer::ChatTokenizer;
use crate::tensor::{Checkpoint, Precision};

/// The most tokens of a generated instruction.
pub const MAX_TOKENS: usize = 96;
/// Stands for the view in an instruction that is used for several.
pub const VIEW: &str = "<view>";
/// Answers written side by side: bounds the memory of their keys and values.
const AT_ONCE: usize = 32;
/// Prompt tokens computed at once.
const PREFILL_AT_ONCE: usize = 512;

/// Who wrote an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Author {
    /// The language model.
    Llm,
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
    /// The template: `Segment the left hippocampus in this T1-weighted axial MRI.`
    pub fn stock(target: &Target, modality: Modality) -> Self {
        let text = match modality {
            Modality::Ct => format!("Segment the {} in this {VIEW} CT.", target.name),
            _ => format!(
                "Segment the {} in this {} {VIEW} MRI.",
                target.name,
                modality.phrase()
            ),
        };
        Self {
            structure: target.name.clone(),
            modality,
            text,
            author: Author::Stock,
            replaced: None,
        }
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

/// The designed prompt, `weights/prompts/instruction.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prompt {
    system: String,
    ask: String,
    examples: Vec<Example>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Example {
    ask: String,
    answer: String,
}

/// One instruction to be written.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The structure.
    pub target: &'a Target,
    /// The modality.
    pub modality: Modality,
}

/// An answer of the language model.
#[derive(Clone, Debug)]
struct Answer {
    text: String,
    /// Whether it ended by itself.
    ended: bool,
}

/// A language model that writes instructions and other texts.
pub struct Writer {
    llama: Llama,
    tokenizer: ChatTokenizer,
    template: ChatTemplate,
    /// The checkpoint's hash, for reports.
    pub sha256: String,
}

impl Writer {
    /// Loads the language model from where models live.
    ///
    /// # Errors
    /// A model that was not pulled, or a file that does not fit.
    pub fn open(gpu: &Gpu, home: &Home) -> Result<Self> {
        Self::from_file(gpu, &home.locate(LANGUAGE_MODEL)?)
    }

    /// Loads a GGUF file.
    ///
    /// # Errors
    /// A file that is damaged or of another architecture, or no memory.
    pub fn from_file(gpu: &Gpu, path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let gguf = checkpoint.expect_gguf()?;
        let (tokenizer, template) = (
            ChatTokenizer::from_gguf(gguf)?,
            ChatTemplate::from_gguf(gguf)?,
        );
        let llama = Llama::new(gpu, &checkpoint, Precision::Auto)?;
        if tokenizer.vocab_size() > llama.config().vocab_size {
            let problem = format!(
                "its tokenizer has {} tokens, its table {}",
                tokenizer.vocab_size(),
                llama.config().vocab_size
            );
            return Err(Error::weights(path, problem));
        }
        Ok(Self {
            llama,
            tokenizer,
            template,
            sha256: checkpoint.sha256(),
        })
    }

    /// Writes an instruction for each request. `facts` are measured from the volume; `views` are
    /// those that the instruction will be used for. `progress` is called with the share done, 0 to 1.
    ///
    /// # Errors
    /// A prompt that does not fit the context, or an adapter that fails.
    pub fn instruct(
        &self,
        gpu: &Gpu,
        requests: &[Request],
        facts: &str,
        views: &[View],
        progress: &mut dyn FnMut(f64),
    ) -> Result<Vec<Instruction>> {
        let prompt: Prompt =
            serde_json::from_str(include_str!("../../weights/prompts/instruction.json"))
                .expect("the embedded prompt is well-formed; a test parses it");
        // Several views share one text: the model writes for the first, the word is then replaced.
        let view = views[0];
        let fill = |text: &str, request: &Request| {
            let structure = request.target.structure;
            let place = structure
                .and_then(|s| s.places.first())
                .map_or("in the head", String::as_str);
            let tissue = structure.map_or("", |s| s.tissue.as_str());
            let (modality, kind) = match request.modality {
                Modality::Ct => ("", "CT"),
                modality => (modality.phrase(), "MRI"),
            };
            let text = text
                .replace("<instance>", request.target.name_without_side())
                .replace("<look>", look(request.modality, tissue))
                .replace("<place>", place)
                .replace("<modality>", modality)
                .replace("<view>", view.name())
                .replace("<kind>", kind)
                .replace("<facts>", facts);
            text.split_whitespace().collect::<Vec<_>>().join(" ")
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
            let mut messages = vec![Message::new(
                "system",
                self.outside(&fill(&prompt.system, subject)),
            )];
            for example in &prompt.examples {
                messages.push(Message::new("user", &*example.ask));
                messages.push(Message::new("assistant", &*example.answer));
            }
            messages.push(Message::new(
                "user",
                self.outside(&fill(&prompt.ask, subject)),
            ));
            prompts.push(
                self.tokenizer
                    .encode(&self.template.render(&messages, true)?)?,
            );
        }
        let answers = self.answer(gpu, &prompts, MAX_TOKENS, progress)?;
        let judged = requests.iter().map(|request| {
            let stock = Instruction::stock(request.target, request.modality);
            let about = subjects
                .iter()
                .position(|subject| subject.is_about(request));
            let Some(answer) = about.map(|n| &answers[n]) else {
                return stock;
            };
            match judge(answer, request.target) {
                Err(why) => Instruction {
                    replaced: Some(format!("{why}: \"{}\"", answer.text)),
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
        self.tokenizer.without_controls(text)
    }

    /// Continues a chat of one user message, greedily; `show` is given each piece of text.
    ///
    /// # Errors
    /// A prompt that does not fit the context, or an adapter that fails.
    pub fn generate(
        &self,
        gpu: &Gpu,
        system: Option<&str>,
        prompt: &str,
        max_tokens: usize,
        show: &mut dyn FnMut(&str),
    ) -> Result<Generation> {
        let system = system.map(|system| Message::new("system", self.outside(system)));
        let messages: Vec<Message> = system
            .into_iter()
            .chain([Message::new("user", self.outside(prompt))])
            .collect();
        let ids = self
            .tokenizer
            .encode(&self.template.render(&messages, true)?)?;
        let context = self.llama.config().context_length;
        if ids.len() + 1 > context {
            let problem = format!(
                "the prompt has {} tokens; the context of {context} has no room for an answer",
                ids.len()
            );
            return Err(Error::Argument(problem));
        }
        let max_tokens = max_tokens.min(context - ids.len());
        let cache = self.llama.cache(gpu, ids.len() + max_tokens)?;
        let start = std::time::Instant::now();
        self.prefill(gpu, &Batch::sequence(&ids[..ids.len() - 1], 0), &cache)?;
        gpu.wait()?;
        let prefill = start.elapsed();
        let mut decoder = self.tokenizer.decoder();
        let (mut last, mut tokens, mut ended) = (ids[ids.len() - 1], Vec::new(), false);
        let start = std::time::Instant::now();
        while tokens.len() < max_tokens {
            let batch = Batch::sequence(&[last], ids.len() - 1 + tokens.len());
            last = self.step(gpu, &batch, &cache)?[0];
            if self.tokenizer.is_stop(last) {
                ended = true;
                break;
            }
            tokens.push(last);
            show(&decoder.push(last));
        }
        show(&decoder.finish());
        let decode = start.elapsed();
        Ok(Generation {
            text: self.tokenizer.decode(&tokens),
            prompt_tokens: ids.len(),
            tokens,
            ended,
            prefill,
            decode,
        })
    }

    /// Fills the cache with the tokens of a batch, in parts.
    fn prefill(&self, gpu: &Gpu, batch: &Batch, cache: &KvCache) -> Result<()> {
        for start in (0..batch.len()).step_by(PREFILL_AT_ONCE) {
            let range = start..batch.len().min(start + PREFILL_AT_ONCE);
            let part = Batch {
                ids: batch.ids[range.clone()].to_vec(),
                positions: batch.positions[range.clone()].to_vec(),
                slots: batch.slots[range.clone()].to_vec(),
                spans: batch.spans[range].to_vec(),
                prefix: batch.prefix,
            };
            let rec = gpu.record("prefill");
            self.llama.forward(&rec, &part, cache, |_, _| ())?;
            rec.submit()?;
        }
        Ok(())
    }

    /// Computes a batch and returns each row's likeliest next token.
    fn step(&self, gpu: &Gpu, batch: &Batch, cache: &KvCache) -> Result<Vec<u32>> {
        let rec = gpu.record("decode");
        let hidden = self.llama.forward(&rec, batch, cache, |_, _| ())?;
        let logits = self.llama.logits(&rec, &hidden);
        let best = argmax(&rec, &logits, self.llama.config().vocab_size);
        Ok(rec.read::<u32>(&[(&best, batch.len())])?.swap_remove(0))
    }

    /// Greedy answers to several prompts, many at once. What all have in common at the start is
    /// computed once. `progress` is called with the share done.
    fn answer(
        &self,
        gpu: &Gpu,
        prompts: &[Vec<u32>],
        max: usize,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Vec<Answer>> {
        // The last token of each prompt begins its decoding, so the common part ends before it.
        let shortest = prompts.iter().map(Vec::len).min().unwrap_or(0);
        if shortest == 0 {
            return Err(Error::Argument("an empty prompt".into()));
        }
        let common = (0..shortest - 1)
            .take_while(|n| prompts.iter().all(|p| p[*n] == prompts[0][*n]))
            .count();
        let slots = |batch: &[Vec<u32>]| {
            batch
                .iter()
                .map(|prompt| prompt.len() - common + max)
                .sum::<usize>()
        };
        let most = prompts.chunks(AT_ONCE).map(slots).max().unwrap_or(0);
        let cache = self.llama.cache(gpu, common + most)?;
        if common > 0 {
            self.prefill(gpu, &Batch::sequence(&prompts[0][..common], 0), &cache)?;
        }
        let mut answers = Vec::new();
        for batch in prompts.chunks(AT_ONCE) {
            let before = answers.len() as f64;
            answers.extend(
                self.answer_batch(gpu, batch, common, max, &cache, &mut |share| {
                    progress((before + share * batch.len() as f64) / prompts.len() as f64);
                })?,
            );
        }
        Ok(answers)
    }

    /// Answers side by side, after the `common` tokens that the cache holds already.
    fn answer_batch(
        &self,
        gpu: &Gpu,
        prompts: &[Vec<u32>],
        common: usize,
        max: usize,
        cache: &KvCache,
        progress: &mut dyn FnMut(f64),
    ) -> Result<Vec<Answer>> {
        let starts: Vec<usize> = prompts
            .iter()
            .scan(common, |next, prompt| {
                let start = *next;
                *next += prompt.len() - common + max;
                Some(start)
            })
            .collect();
        let mut own = Batch {
            prefix: common,
            ..Batch::default()
        };
        for (prompt, start) in prompts.iter().zip(&starts) {
            for (n, id) in prompt[common..prompt.len() - 1].iter().enumerate() {
                own.ids.push(*id);
                own.positions.push((common + n) as u32);
                own.slots.push((start + n) as u32);
                own.spans.push([*start as u32, n as u32 + 1]);
            }
        }
        if !own.is_empty() {
            self.prefill(gpu, &own, cache)?;
        }
        let mut tokens: Vec<Vec<u32>> = vec![Vec::new(); prompts.len()];
        let mut ended = vec![false; prompts.len()];
        for round in 0..max {
            let active: Vec<usize> = (0..prompts.len()).filter(|n| !ended[*n]).collect();
            if active.is_empty() {
                break;
            }
            let mut batch = Batch {
                prefix: common,
                ..Batch::default()
            };
            for n in &active {
                let (prompt, own) = (&prompts[*n], prompts[*n].len() - 1 - common + round);
                batch.ids.push(
                    tokens[*n]
                        .last()
                        .copied()
                        .unwrap_or(prompt[prompt.len() - 1]),
                );
                batch.positions.push((prompt.len() - 1 + round) as u32);
                batch.slots.push((starts[*n] + own) as u32);
                batch.spans.push([starts[*n] as u32, own as u32 + 1]);
            }
            for (n, id) in active.iter().zip(self.step(gpu, &batch, cache)?) {
                if self.tokenizer.is_stop(id) {
                    ended[*n] = true;
                } else {
                    tokens[*n].push(id);
                }
            }
            // Answers are about a third of the limit long; the share is for a progress bar only.
            let done = ended.iter().filter(|ended| **ended).count() as f64 / ended.len() as f64;
            progress(done.max((round as f64 * 3.0 / max as f64).min(0.95)));
        }
        let text = |tokens: &Vec<u32>| self.tokenizer.decode(tokens).trim().to_owned();
        Ok(tokens
            .iter()
            .zip(ended)
            .map(|(tokens, ended)| Answer {
                text: text(tokens),
                ended,
            })
            .collect())
    }

    /// The model, for tests and benches.
    pub fn llama(&self) -> &Llama {
        &self.llama
    }

    /// The tokenizer, for tests and benches.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }
}

/// A generated text.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The text.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt, template included.
    pub prompt_tokens: usize,
    /// Whether the model ended it.
    pub ended: bool,
    /// Time to compute the prompt.
    pub prefill: std::time::Duration,
    /// Time to write the text.
    pub decode: std::time::Duration,
}

/// How a tissue looks in a modality.
fn look(modality: Modality, tissue: &str) -> &'static str {
    match (modality, tissue) {
        (Modality::T1, "csf") | (Modality::Flair, "csf") | (Modality::Ct, "csf") => "dark",
        (Modality::T2, "csf") | (Modality::Pd, "csf") | (Modality::T1, "wm") => "bright",
        (Modality::T1, "gm") => "gray",
        (Modality::T2 | Modality::Flair | Modality::Pd, "wm") => "dark gray",
        (Modality::T2 | Modality::Flair | Modality::Pd, "gm") => "light gray",
        _ => "well visible",
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
fn judge(answer: &Answer, target: &Target) -> Result<String, &'static str> {
    if answer.text.is_empty() {
        return Err("empty");
    }
    if !answer.ended {
        return Err("endless");
    }
    let Some(structure) = target.structure else {
        return Ok(answer.text.clone());
    };
    // ASCII only, so that places in the lower-case copy are places in the text.
    let lower = answer.text.to_ascii_lowercase();
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
        Some(side) => format!(
            "{}{} {}",
            &answer.text[..place],
            side.name(),
            &answer.text[place..]
        ),
        None => answer.text.clone(),
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
            &Answer {
                text: text.into(),
                ended,
            },
            &target(name),
        )
    }

    #[test]
    fn the_prompt_parses() {
        let prompt: Prompt =
            serde_json::from_str(include_str!("../../weights/prompts/instruction.json"))
                .expect("JSON");
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
