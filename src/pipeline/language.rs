//! A language model with its tokenizer and its chat template: prompts in, texts out.
//!
//! Prompts are answered side by side. What all have in common at the start is computed once; each step then decodes one token
//! of every answer that has not ended.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::gpu::{Bind, Gpu};
use crate::layers::KvCache;
use crate::models::llama::{Batch, Llama, LlamaConfig};
use crate::ops::{argmax, cross_entropy, gather_rows};
use crate::pipeline::chat::{ChatTemplate, Message, Part};
use crate::pipeline::memory::{available, gigabytes};
use crate::pipeline::prompt::Prompt;
use crate::pipeline::sampling::{Sampler, Sampling, Stops};
use crate::pipeline::tokenizer::{ChatTokenizer, Decoder};
use crate::tensor::{Checkpoint, Precision, Tensor};

/// Answers written side by side: bounds the memory of their keys and values.
const AT_ONCE: usize = 32;
/// Prompt tokens computed at once.
const PREFILL_AT_ONCE: usize = 512;
/// Rows of logits computed at once for a perplexity: bounds their memory.
const LOGITS_AT_ONCE: usize = 64;

/// A language model ready to write.
pub struct LanguageModel {
    path: PathBuf,
    llama: Llama,
    tokenizer: ChatTokenizer,
    template: Option<ChatTemplate>,
    /// The checkpoint's hash, for reports.
    pub sha256: String,
    /// How wide keys and values are kept: [`KvCache::is_half`].
    pub kv_cache: Precision,
}

/// A generated text.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The text.
    pub text: String,
    /// Its tokens, without the one that ended it.
    pub tokens: Vec<u32>,
    /// Tokens of the prompt, template included.
    pub prompt_tokens: usize,
    /// Whether it came to an end: by the model, a stop text or a choice.
    pub ended: bool,
}

/// What happens while texts are written.
pub enum Progress<'a> {
    /// A piece of the text of the prompt of this number.
    Text(usize, &'a str),
    /// All prompts of a batch are computed: their tokens but for the last of each, and the time.
    Prefilled(usize, Duration),
    /// The share done, 0 to 1, for a progress bar.
    Share(f64),
}

/// A perplexity and what it was measured on.
#[derive(Clone, Copy, Debug)]
pub struct Perplexity {
    /// `exp` of the mean negative logarithm of each token's probability.
    pub value: f64,
    /// The standard error of that mean, times the perplexity.
    pub error: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
}

/// One answer in the making.
struct Answer<'a> {
    /// Its number among all prompts.
    number: usize,
    sampler: Sampler<'a>,
    decoder: Decoder<'a>,
    stops: Stops<'a>,
    text: String,
    tokens: Vec<u32>,
    ended: bool,
}

impl Answer<'_> {
    /// Takes a token; tells what can be shown.
    fn push(&mut self, id: u32, is_stop: bool, tell: &mut dyn FnMut(Progress)) {
        if is_stop {
            self.ended = true;
            return;
        }
        self.tokens.push(id);
        self.sampler.push(id);
        let (text, stopped) = self.stops.push(&self.decoder.push(id));
        self.ended = stopped || self.sampler.is_complete();
        if stopped {
            // Nothing that follows belongs to it.
            self.stops = Stops::new(&[]);
        }
        tell(Progress::Text(self.number, &text));
        self.text.push_str(&text);
    }

    fn finish(mut self, prompt_tokens: usize, tell: &mut dyn FnMut(Progress)) -> Generation {
        let (mut rest, stopped) = self.stops.push(&self.decoder.finish());
        if !stopped {
            rest.push_str(&self.stops.finish());
        }
        tell(Progress::Text(self.number, &rest));
        self.text.push_str(&rest);
        Generation {
            text: self.text,
            tokens: self.tokens,
            prompt_tokens,
            ended: self.ended,
        }
    }
}

impl LanguageModel {
    /// Loads a GGUF file, or a folder of Hugging Face's (`config.json`, `tokenizer.json`, `model.safetensors` or shards);
    /// `path` may also be the weights in such a folder.
    ///
    /// # Errors
    /// Files that are damaged, of another architecture or do not fit together, or no memory.
    pub fn open(gpu: &Gpu, path: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        expect_room(gpu, path, weight_bytes(&checkpoint))?;
        // Of a model of another kind nothing else need be said.
        LlamaConfig::of(&checkpoint)?;
        let words = Self::words(&checkpoint)?;
        let llama = Llama::new(gpu, &checkpoint, Precision::Auto)?;
        Self::of(path, &checkpoint, words, llama)
    }

    /// The tokenizer of a checkpoint, and its chat template if there is one.
    ///
    /// # Errors
    /// Files that are missing or damaged.
    pub(super) fn words(checkpoint: &Checkpoint) -> Result<(ChatTokenizer, Option<ChatTemplate>)> {
        let (tokenizer, template) = match checkpoint.gguf() {
            Some(gguf) => (
                ChatTokenizer::from_gguf(gguf)?,
                match gguf.has("tokenizer.chat_template") {
                    true => Some(ChatTemplate::from_gguf(gguf)?),
                    false => None,
                },
            ),
            None => (
                ChatTokenizer::from_folder(checkpoint.folder())?,
                ChatTemplate::from_folder(checkpoint.folder())?,
            ),
        };
        let [bos, eos] = tokenizer.marks().map(str::to_owned);
        let template = template.map(|template| template.with_marks(bos, eos));
        Ok((tokenizer, template))
    }

    /// A loaded model, which may be a part of the checkpoint, and the checkpoint's [`words`](Self::words).
    ///
    /// # Errors
    /// More tokens than the model knows.
    pub(super) fn of(
        path: &Path,
        checkpoint: &Checkpoint,
        (tokenizer, template): (ChatTokenizer, Option<ChatTemplate>),
        llama: Llama,
    ) -> Result<Self> {
        if tokenizer.vocab_size() > llama.config().vocab_size {
            let problem = format!(
                "its tokenizer has {} tokens, its table {}",
                tokenizer.vocab_size(),
                llama.config().vocab_size
            );
            return Err(Error::weights(path, problem));
        }
        Ok(Self {
            path: path.into(),
            llama,
            tokenizer,
            template,
            sha256: checkpoint.sha256(),
            kv_cache: Precision::Auto,
        })
    }

    /// The tokens of a conversation up to where the assistant's answer begins. Text from outside must have gone through
    /// [`LanguageModel::outside`].
    ///
    /// # Errors
    /// A model without a chat template, or one that refuses the conversation.
    pub fn chat(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.tokenizer.encode(&self.conversation(messages)?)
    }

    /// As [`LanguageModel::chat`], the tokens before and after a `mark` that stands once in the text and is left out.
    ///
    /// # Errors
    /// As [`LanguageModel::chat`], or a text in which the mark does not stand once.
    pub(super) fn chat_around(&self, messages: &[Message], mark: &str) -> Result<[Vec<u32>; 2]> {
        let text = self.conversation(messages)?;
        let places = text.matches(mark).count();
        match text.split_once(mark) {
            Some((before, after)) if places == 1 => Ok([
                self.tokenizer.encode(before)?,
                self.tokenizer.encode(after)?,
            ]),
            _ => Err(Error::Argument(format!(
                "the model's chat template writes `{mark}` {places} times, expected once"
            ))),
        }
    }

    /// The text of a conversation up to where the assistant's answer begins.
    fn conversation(&self, messages: &[Message]) -> Result<String> {
        let template = self.template.as_ref().ok_or_else(|| {
            Error::Argument("the model has no chat template; give it text to continue".into())
        })?;
        template.render(messages, true)
    }

    /// The text of a conversation of one turn in parts, as the model's template writes it.
    ///
    /// # Errors
    /// A model without a chat template, or one that refuses the conversation.
    pub(super) fn render_parts(&self, parts: &[Part]) -> Result<String> {
        let template = self.template.as_ref().ok_or_else(|| {
            Error::weights(&self.path, "its folder has no chat template".to_owned())
        })?;
        template.render_parts(parts, true)
    }

    /// The tokens of a text that is to be continued as it is.
    ///
    /// # Errors
    /// A vocabulary that lacks a byte of it.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode_plain(text)
    }

    /// Text from outside, which must not end its own message.
    pub fn outside(&self, text: &str) -> String {
        self.tokenizer.without_controls(text)
    }

    /// Continues each prompt by at most `max_tokens`.
    ///
    /// # Errors
    /// A prompt that is empty or leaves no room in the context, numbers that make no sense, or an adapter that fails.
    pub fn generate(
        &self,
        gpu: &Gpu,
        prompts: &[Prompt],
        how: &Sampling,
        max_tokens: usize,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Generation>> {
        how.check()?;
        let context = self.llama.config().context_length;
        for prompt in prompts {
            if prompt.is_empty() {
                return Err(Error::Argument("an empty prompt".into()));
            }
            if prompt.len() + 1 > context {
                let problem = format!(
                    "the prompt has {} tokens; the context of {context} has no room for an answer",
                    prompt.len()
                );
                return Err(Error::Argument(problem));
            }
        }
        let longest = prompts.iter().map(Prompt::len).max().unwrap_or(0);
        let max = max_tokens.min(context - longest.min(context));
        // Rows that do not see a whole prefix cannot share it.
        let windows = self.llama.config().windows.iter().flatten();
        let alone = windows.min().is_some_and(|window| longest + max > *window);
        let at_once = if alone { 1 } else { AT_ONCE };
        // The last token of each prompt begins its decoding, so what is common ends before it.
        let shared = prompts.iter().map(|p| p.len() - 1).min().unwrap_or(0);
        let common = prompts.iter().map(|p| p.common(&prompts[0]));
        let common = common.min().unwrap_or(0).min(shared);
        let slots = |batch: &[Prompt]| {
            batch
                .iter()
                .map(|prompt| prompt.len() - common + max)
                .sum::<usize>()
        };
        let most = prompts.chunks(at_once).map(slots).max().unwrap_or(0);
        expect_room(gpu, &self.path, self.cache_bytes(gpu, common + most))?;
        let cache = self
            .llama
            .cache(gpu, (common + most).max(1), self.kv_cache)?;
        let start = Instant::now();
        if common > 0 {
            let prefix = Batch {
                given: prompts[0].given(0..common, 0).collect(),
                ..Batch::sequence(&prompts[0].ids()[..common], 0)
            };
            self.prefill(gpu, &prefix, &cache)?;
        }
        let mut written: Vec<Generation> = Vec::new();
        let mut began = Some((common, start));
        for batch in prompts.chunks(at_once) {
            let (before, all) = (written.len(), prompts.len() as f64);
            written.extend(self.generate_batch(
                gpu,
                (batch, before),
                common,
                (how, max),
                &cache,
                &mut began,
                &mut |progress| match progress {
                    Progress::Share(share) => {
                        let share = (before as f64 + share * batch.len() as f64) / all;
                        tell(Progress::Share(share));
                    }
                    other => tell(other),
                },
            )?);
        }
        Ok(written)
    }

    /// Continues prompts side by side, the first of which has this number, after the `common` tokens that the cache holds.
    #[expect(
        clippy::too_many_arguments,
        reason = "what `generate` has worked out for all batches"
    )]
    fn generate_batch(
        &self,
        gpu: &Gpu,
        (prompts, number): (&[Prompt], usize),
        common: usize,
        (how, max): (&Sampling, usize),
        cache: &KvCache,
        began: &mut Option<(usize, Instant)>,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Vec<Generation>> {
        let starts: Vec<usize> = prompts
            .iter()
            .scan(common, |next, prompt| {
                let start = *next;
                *next += prompt.len() - common + max;
                Some(start)
            })
            .collect();
        let (tokens, start) = began.take().unwrap_or((0, Instant::now()));
        let mut own = Batch {
            prefix: common,
            ..Batch::default()
        };
        for (prompt, start) in prompts.iter().zip(&starts) {
            let rest = common..prompt.len() - 1;
            own.given.extend(prompt.given(rest.clone(), own.ids.len()));
            for (n, id) in prompt.ids()[rest].iter().enumerate() {
                own.ids.push(*id);
                own.positions.push((common + n) as u32);
                own.slots.push((start + n) as u32);
                own.spans.push([*start as u32, n as u32 + 1]);
            }
        }
        if !own.is_empty() {
            self.prefill(gpu, &own, cache)?;
        }
        gpu.wait()?;
        tell(Progress::Prefilled(tokens + own.len(), start.elapsed()));
        let mut answers: Vec<Answer> = (number..)
            .zip(prompts)
            .map(|(number, prompt)| Answer {
                number,
                sampler: Sampler::new(how, &self.tokenizer, prompt.ids(), number),
                decoder: self.tokenizer.decoder(),
                stops: Stops::new(&how.stop),
                text: String::new(),
                tokens: Vec::new(),
                ended: false,
            })
            .collect();
        for round in 0..max {
            let active: Vec<usize> = (0..prompts.len()).filter(|n| !answers[*n].ended).collect();
            if active.is_empty() {
                break;
            }
            let mut batch = Batch {
                prefix: common,
                ..Batch::default()
            };
            for n in &active {
                let (prompt, own) = (&prompts[*n], prompts[*n].len() - 1 - common + round);
                let end = prompt.len() - 1;
                if round == 0 {
                    let last = prompt.given(end..end + 1, batch.ids.len());
                    batch.given.extend(last);
                }
                let last = answers[*n].tokens.last();
                batch.ids.push(*last.unwrap_or(&prompt.ids()[end]));
                batch.positions.push((end + round) as u32);
                batch.slots.push((starts[*n] + own) as u32);
                batch.spans.push([starts[*n] as u32, own as u32 + 1]);
            }
            let rec = gpu.record("decode");
            let hidden = self.llama.forward(&rec, &batch, cache, |_, _| ())?;
            let logits = self.llama.logits(&rec, &hidden);
            let vocab = self.llama.config().vocab_size;
            let next: Vec<u32> = if how.is_argmax() {
                let best = argmax(&rec, &logits, vocab);
                rec.read::<u32>(&[(&best, batch.len())])?.swap_remove(0)
            } else {
                let padded = logits.matrix()[1];
                let mut all = logits.read(rec)?;
                let rows = all.chunks_exact_mut(padded).zip(&active);
                rows.map(|(row, n)| answers[*n].sampler.choose(&mut row[..vocab]))
                    .collect()
            };
            for (n, id) in active.iter().zip(next) {
                answers[*n].push(id, self.tokenizer.is_stop(id), tell);
            }
            // Answers are about a third of the limit long; the share is for a progress bar only.
            let done = answers.iter().filter(|answer| answer.ended).count();
            let done = done as f64 / answers.len() as f64;
            tell(Progress::Share(
                done.max((round as f64 * 3.0 / max as f64).min(0.95)),
            ));
        }
        let finished = answers.into_iter().zip(prompts);
        Ok(finished
            .map(|(answer, prompt)| answer.finish(prompt.len(), tell))
            .collect())
    }

    /// Fills the cache with the tokens of a batch, in parts.
    fn prefill(&self, gpu: &Gpu, batch: &Batch, cache: &KvCache) -> Result<()> {
        // Of one text what was computed before is a prefix of the next part.
        let one = batch
            .spans
            .iter()
            .zip(0u32..)
            .all(|([first, count], n)| *first as usize == batch.prefix && *count == n + 1)
            && batch
                .slots
                .iter()
                .zip(batch.prefix as u32..)
                .all(|(slot, n)| *slot == n);
        for start in (0..batch.len()).step_by(PREFILL_AT_ONCE) {
            let range = start..batch.len().min(start + PREFILL_AT_ONCE);
            let mut part = batch.part(range);
            if one {
                part = Batch {
                    given: part.given,
                    ..Batch::sequence(&part.ids, batch.prefix + start)
                };
            }
            let rec = gpu.record("prefill");
            self.llama.forward(&rec, &part, cache, |_, _| ())?;
            rec.submit()?;
        }
        Ok(())
    }

    /// How surprised the model is by a text. As llama.cpp measures it: the text's tokens are cut into pieces of `context`,
    /// the last one dropped if it is shorter; each piece begins anew (with the model's first token, if it has one) and
    /// only its second half counts, where every token has half a context before it.
    ///
    /// # Errors
    /// A text shorter than one piece, a context that is too small or larger than the model's, or an adapter that fails.
    pub fn perplexity(
        &self,
        gpu: &Gpu,
        text: &str,
        context: usize,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Perplexity> {
        let config = self.llama.config();
        if context < 8 || context > config.context_length {
            return Err(Error::Argument(format!(
                "a context of {context}, expected 8 to {}",
                config.context_length
            )));
        }
        let ids = self.tokens(text)?;
        let bos = self.tokenizer.first();
        if ids.len() < context {
            return Err(Error::Argument(format!(
                "the text has {} tokens, expected at least a context of {context}",
                ids.len()
            )));
        }
        let cache = self.llama.cache(gpu, context, self.kv_cache)?;
        let half = context / 2;
        let pieces = ids.len() / context;
        let mut losses: Vec<f64> = Vec::new();
        for (n, piece) in ids.chunks_exact(context).enumerate() {
            let mut piece = piece.to_vec();
            if let Some(bos) = bos {
                piece[0] = bos;
            }
            for start in (0..context).step_by(PREFILL_AT_ONCE) {
                let end = context.min(start + PREFILL_AT_ONCE);
                let rec = gpu.record("perplexity");
                let batch = Batch::sequence(&piece[start..end], start);
                let hidden = self.llama.forward(&rec, &batch, &cache, |_, _| ())?;
                // A row predicts the token after it, so the last of a piece predicts nothing.
                let first = half.max(start).min(end);
                let last = end.min(context - 1).max(first);
                let mut read = Vec::new();
                for from in (first..last).step_by(LOGITS_AT_ONCE) {
                    let rows = LOGITS_AT_ONCE.min(last - from);
                    let states = gather_rows(&rec, &hidden, rows, from - start, 1);
                    let logits = self.llama.logits(&rec, &states);
                    let next = &piece[from + 1..from + 1 + rows];
                    let next = Tensor::upload(gpu, "next tokens", rows, next)?;
                    read.push(cross_entropy(&rec, &logits, &next, config.vocab_size));
                }
                let wanted: Vec<(&dyn Bind, usize)> =
                    read.iter().map(|y| (y as &dyn Bind, y.len())).collect();
                if wanted.is_empty() {
                    rec.submit()?;
                } else {
                    let values = rec.read::<f32>(&wanted)?.concat();
                    losses.extend(values.into_iter().map(f64::from));
                }
            }
            tell(Progress::Share((n + 1) as f64 / pieces as f64));
        }
        let count = losses.len() as f64;
        let mean = losses.iter().sum::<f64>() / count;
        let square = losses.iter().map(|loss| (loss - mean).powi(2)).sum::<f64>();
        Ok(Perplexity {
            value: mean.exp(),
            error: mean.exp() * (square / (count * (count - 1.0).max(1.0))).sqrt(),
            tokens: losses.len(),
        })
    }

    /// Bytes of the keys and values of so many tokens.
    fn cache_bytes(&self, gpu: &Gpu, tokens: usize) -> u64 {
        let config = self.llama.config();
        let width = config.heads.kv * config.heads.width;
        let each = match KvCache::is_half(gpu, width, self.kv_cache) {
            true => 2,
            false => 4,
        };
        (each * 2 * config.block_count() * width) as u64 * tokens as u64
    }

    /// The model, for tests and benches.
    pub fn llama(&self) -> &Llama {
        &self.llama
    }

    /// The file or folder that it was loaded from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }
}

/// Bytes that a checkpoint takes on the adapter: quantised and half matrices as in the file, anything wider as f32, and a
/// twentieth for the padding of panels and scales.
pub(super) fn weight_bytes(checkpoint: &Checkpoint) -> u64 {
    let stored = checkpoint.tensors().map(|entry| {
        let narrow = entry.encoding.is_quantised() || entry.encoding.block().1 == 2;
        let wide = 4 * entry.elements();
        (if narrow { entry.bytes.len() } else { wide }) as u64
    });
    stored.sum::<u64>() / 20 * 21
}

/// Tells what is needed, and refuses more than a machine has whose processor is the adapter; a graphics card does not say
/// what it has.
pub(super) fn expect_room(gpu: &Gpu, path: &Path, bytes: u64) -> Result<()> {
    let needs = gigabytes(bytes);
    tracing::info!("`{}` needs {needs} of memory", path.display());
    match available().filter(|has| gpu.is_cpu() && *has < bytes) {
        Some(has) => Err(Error::Memory {
            path: path.into(),
            needs,
            has: gigabytes(has),
        }),
        None => Ok(()),
    }
}
