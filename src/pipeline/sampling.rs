//! Which token comes next: the likeliest, or one drawn from what the logits leave.
//!
//! The logits go through the same steps in the same order as in the `transformers` library: repetition penalty, temperature,
//! `top_k`, `top_p`, `min_p`. An answer may be bound to one of several texts, and may be ended by a text.

use fastrand::Rng;

use crate::error::{Error, Result};
use crate::pipeline::tokenizer::ChatTokenizer;

/// How tokens are chosen, and where an answer ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f32,
    /// Only so many of the likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that have this probability together.
    pub top_p: f32,
    /// Only tokens that are at least this share as likely as the likeliest.
    pub min_p: f32,
    /// What logits of tokens in the prompt and the answer are divided by, or multiplied with below zero
    /// (arXiv 1909.05858).
    pub repetition_penalty: f32,
    /// Where the drawing starts: one seed, one answer.
    pub seed: u64,
    /// Texts that end an answer and are no part of it.
    pub stop: Vec<String>,
    /// The only answers there are; any if empty.
    pub choices: Vec<String>,
}

impl Default for Sampling {
    /// Greedy.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
            choices: Vec::new(),
        }
    }
}

impl Sampling {
    /// Says that every number makes sense.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first that does not.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: f32, least: f32, most: f32| {
            if value >= least && value <= most {
                return Ok(());
            }
            let problem = match most {
                f32::MAX => format!("{name} is {value}, expected {least} or more"),
                most => format!("{name} is {value}, expected {least} to {most}"),
            };
            Err(Error::Argument(problem))
        };
        within("temperature", self.temperature, 0.0, f32::MAX)?;
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within(
            "repetition penalty",
            self.repetition_penalty,
            f32::MIN_POSITIVE,
            f32::MAX,
        )?;
        if self.stop.iter().chain(&self.choices).any(String::is_empty) {
            return Err(Error::Argument("a stop text or a choice is empty".into()));
        }
        Ok(())
    }

    /// Whether the likeliest token is always right, so that no logits need be read.
    pub fn is_argmax(&self) -> bool {
        self.temperature == 0.0 && self.repetition_penalty == 1.0 && self.choices.is_empty()
    }

    /// The tokens that may come next and their probabilities, likeliest first; `seen` are those of the prompt and the answer.
    /// At temperature 0 the likeliest alone, the first of equals.
    pub fn distribution(&self, logits: &[f32], seen: &[u32]) -> Vec<(u32, f64)> {
        let penalty = f64::from(self.repetition_penalty);
        let mut left: Vec<(u32, f64)> = (0..).zip(logits.iter().map(|v| f64::from(*v))).collect();
        if penalty != 1.0 {
            let mut done = vec![false; left.len()];
            for id in seen.iter().map(|id| *id as usize) {
                if id < left.len() && !std::mem::replace(&mut done[id], true) {
                    let logit = &mut left[id].1;
                    *logit = if *logit < 0.0 {
                        *logit * penalty
                    } else {
                        *logit / penalty
                    };
                }
            }
        }
        left.retain(|(_, logit)| logit.is_finite());
        // Stable: equals stay in the order of their ids.
        left.sort_by(|a, b| b.1.total_cmp(&a.1));
        if self.temperature == 0.0 {
            left.truncate(1);
        }
        let Some(&(_, highest)) = left.first() else {
            return left;
        };
        let temperature = f64::from(self.temperature).max(f64::MIN_POSITIVE);
        for (_, logit) in &mut left {
            *logit = ((*logit - highest) / temperature).exp();
        }
        if self.top_k > 0 && self.top_k < left.len() {
            let least = left[self.top_k - 1].1;
            left.retain(|(_, weight)| *weight >= least);
        }
        if self.top_p < 1.0 {
            // From the least likely on, as long as what is dropped stays within the rest.
            let all: f64 = left.iter().map(|(_, weight)| weight).sum();
            let (mut dropped, spare) = (0.0, (1.0 - f64::from(self.top_p)) * all);
            while left.len() > 1 {
                dropped += left[left.len() - 1].1;
                if dropped > spare {
                    break;
                }
                left.pop();
            }
        }
        let least = f64::from(self.min_p) * left[0].1;
        left.retain(|(_, weight)| *weight >= least);
        let all: f64 = left.iter().map(|(_, weight)| weight).sum();
        left.iter_mut().for_each(|(_, weight)| *weight /= all);
        left
    }
}

/// What chooses the tokens of one answer.
pub(super) struct Sampler<'a> {
    how: &'a Sampling,
    tokenizer: &'a ChatTokenizer,
    rng: Rng,
    /// Prompt and answer.
    seen: Vec<u32>,
    /// The bytes of the answer.
    written: Vec<u8>,
}

impl<'a> Sampler<'a> {
    /// One for the `nth` of several prompts.
    pub(super) fn new(
        how: &'a Sampling,
        tokenizer: &'a ChatTokenizer,
        prompt: &[u32],
        nth: usize,
    ) -> Self {
        let mut seeds = Rng::with_seed(how.seed);
        let seed = (0..=nth).map(|_| seeds.u64(..)).last().unwrap_or(0);
        Self {
            how,
            tokenizer,
            rng: Rng::with_seed(seed),
            seen: prompt.to_vec(),
            written: Vec::new(),
        }
    }

    /// The next token by its logits.
    pub(super) fn choose(&mut self, logits: &mut [f32]) -> u32 {
        if !self.how.choices.is_empty() {
            self.bind(logits);
        }
        let left = self.how.distribution(logits, &self.seen);
        let drawn = match left.len() {
            0 | 1 => 0.0,
            _ => self.rng.f64(),
        };
        let mut sum = 0.0;
        let found = left.iter().find(|(_, probability)| {
            sum += probability;
            drawn < sum
        });
        // A sum that rounding leaves just below 1 is the last token's.
        found
            .or(left.last())
            .map_or_else(|| self.stop(), |(id, _)| *id)
    }

    /// Notes a token that was chosen.
    pub(super) fn push(&mut self, id: u32) {
        self.seen.push(id);
        self.written.extend(self.tokenizer.piece(id));
    }

    /// Whether the answer is one of the choices and cannot become another.
    pub(super) fn is_complete(&self) -> bool {
        let choices = || self.how.choices.iter().map(String::as_bytes);
        choices().any(|choice| choice == self.written)
            && !choices().any(|choice| {
                choice.len() > self.written.len() && choice.starts_with(&self.written)
            })
    }

    fn stop(&self) -> u32 {
        self.tokenizer.stops()[0]
    }

    /// Leaves only tokens that go on towards a choice, or end at one.
    fn bind(&self, logits: &mut [f32]) {
        let rest: Vec<&[u8]> = self
            .how
            .choices
            .iter()
            .filter_map(|choice| choice.as_bytes().strip_prefix(self.written.as_slice()))
            .collect();
        let ended = rest.contains(&&[][..]);
        for (id, logit) in (0..).zip(logits) {
            let piece = self.tokenizer.piece(id);
            let leads = !piece.is_empty() && rest.iter().any(|rest| rest.starts_with(piece));
            if !(leads || ended && self.tokenizer.is_stop(id)) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

/// Passes text on until a stop text comes, and holds back what may be the beginning of one.
pub(super) struct Stops<'a> {
    stops: &'a [String],
    held: String,
}

impl<'a> Stops<'a> {
    pub(super) fn new(stops: &'a [String]) -> Self {
        Self {
            stops,
            held: String::new(),
        }
    }

    /// The text that may be shown now, and whether a stop text ended it.
    pub(super) fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()))
            .min();
        if let Some(at) = first {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let unfinished = |at: usize| {
            self.stops
                .iter()
                .any(|stop| stop.starts_with(&self.held[at..]))
        };
        let starts = self.held.char_indices().map(|(at, _)| at);
        let at = starts
            .into_iter()
            .find(|at| unfinished(*at))
            .unwrap_or(self.held.len());
        let kept = self.held.split_off(at);
        (std::mem::replace(&mut self.held, kept), false)
    }

    /// What was held back when the answer has ended otherwise.
    pub(super) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_texts_end_an_answer_wherever_tokens_break() {
        let stops = ["END".to_owned(), "\n\n".to_owned()];
        for pieces in [
            &["ab E", "N", "D cd"][..],
            &["ab END cd"],
            &["ab ", "E", "N", "D"],
        ] {
            let mut held = Stops::new(&stops);
            let mut shown = String::new();
            let ended = pieces.iter().any(|piece| {
                let (text, ended) = held.push(piece);
                shown.push_str(&text);
                ended
            });
            assert!(ended && shown == "ab ", "{pieces:?}: {shown:?}");
        }
        let mut held = Stops::new(&stops);
        assert_eq!(held.push("an E"), ("an ".into(), false));
        assert_eq!(held.push("NOUGH\n"), ("ENOUGH".into(), false));
        assert_eq!(held.finish(), "\n");
        // The earlier of two.
        assert_eq!(Stops::new(&stops).push("a\n\nEND"), ("a".into(), true));
    }

    #[test]
    fn draws_follow_the_distribution() {
        let how = Sampling {
            temperature: 1.0,
            ..Sampling::default()
        };
        let logits = [0.5f32, -1.0, 2.0, 0.0, -3.0];
        let want = how.distribution(&logits, &[]);
        let mut rng = Rng::with_seed(7);
        let mut counts = [0f64; 5];
        const DRAWS: usize = 20_000;
        for _ in 0..DRAWS {
            let (drawn, mut sum) = (rng.f64(), 0.0);
            let found = want.iter().find(|(_, p)| {
                sum += p;
                drawn < sum
            });
            counts[found.expect("below 1").0 as usize] += 1.0;
        }
        let surprise: f64 = want
            .iter()
            .map(|(id, p)| (counts[*id as usize] - p * DRAWS as f64).powi(2) / (p * DRAWS as f64))
            .sum();
        // Chi squared of four degrees of freedom: one in a thousand is beyond.
        assert!(surprise < 18.5, "{surprise}");
    }

    #[test]
    fn numbers_that_make_no_sense_are_named() {
        for (change, name) in [
            (
                Sampling {
                    temperature: -1.0,
                    ..Sampling::default()
                },
                "temperature is -1",
            ),
            (
                Sampling {
                    temperature: f32::NAN,
                    ..Sampling::default()
                },
                "temperature",
            ),
            (
                Sampling {
                    top_p: 1.5,
                    ..Sampling::default()
                },
                "top_p is 1.5, expected 0 to 1",
            ),
            (
                Sampling {
                    min_p: -0.1,
                    ..Sampling::default()
                },
                "min_p",
            ),
            (
                Sampling {
                    repetition_penalty: 0.0,
                    ..Sampling::default()
                },
                "repetition penalty",
            ),
            (
                Sampling {
                    stop: vec![String::new()],
                    ..Sampling::default()
                },
                "empty",
            ),
        ] {
            let error = change.check().expect_err("refused").to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
