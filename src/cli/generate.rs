//! `keraunos generate`: the raw language model, its answers as they come.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::args::{GpuArgs, KvCacheArgs};
use super::console::Console;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::pipeline::chat::Message;
use crate::pipeline::home::{Home, LANGUAGE_MODEL};
use crate::pipeline::language::{LanguageModel, Progress};
use crate::pipeline::prompt::Prompt;
use crate::pipeline::sampling::Sampling;

pub(super) const GENERATE_EXAMPLES: &str = "\
Examples:
  keraunos generate \"Which lobe holds the hippocampus?\"
  keraunos generate \"Is the putamen gray or white matter?\" --choice gray --choice white
  keraunos generate --raw \"The thalamus is\" --temperature 0.8 --top-p 0.95 --seed 1
  keraunos generate --llm Qwen2.5-0.5B-Instruct/ \"First question\" \"Second question\" --json

--llm takes a GGUF file, or a folder of Hugging Face's (config.json, tokenizer.json, safetensors), of the
architectures llama, mistral, qwen2, qwen3 and gemma3.";

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    /// What to answer; several are answered side by side
    prompts: Vec<String>,
    /// A system message before each
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,
    /// Continues the text as it is, without the model's chat template
    #[arg(long)]
    raw: bool,
    /// The most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: usize,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Prints a JSON object for each prompt, one a line
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) gpu: GpuArgs,
    #[command(flatten)]
    model: LlmArgs,
}

/// Which language model.
#[derive(Debug, Args)]
pub(super) struct LlmArgs {
    /// A language model instead of the known one: a GGUF file or a folder of Hugging Face's
    #[arg(long, value_name = "FILE|DIR")]
    llm: Option<PathBuf>,
    /// Where the language models are [default: $KERAUNOS_HOME, else the user's data folder]
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    #[command(flatten)]
    kept: KvCacheArgs,
}

impl LlmArgs {
    fn open(&self, gpu: &Gpu) -> Result<LanguageModel> {
        let path = match &self.llm {
            Some(path) => path.clone(),
            None => Home::new(self.model_dir.as_deref())?.locate(LANGUAGE_MODEL)?,
        };
        let mut model = LanguageModel::open(gpu, &path)?;
        model.kv_cache = self.kept.precision();
        Ok(model)
    }
}

/// How tokens are chosen.
#[derive(Debug, Args)]
pub(super) struct SamplingArgs {
    /// What logits are divided by before a token is drawn; 0 takes the likeliest
    #[arg(
        long,
        value_name = "T",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    temperature: f32,
    /// Draws from so many of the likeliest tokens only; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draws from the likeliest tokens that have this probability together
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Draws from tokens at least this share as likely as the likeliest
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Makes tokens that were there less likely, above 1
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Where the drawing starts: one seed, one answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// A text that ends the answer; repeatable
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// One of the only answers there are; repeatable
    #[arg(long, value_name = "TEXT")]
    choice: Vec<String>,
}

impl SamplingArgs {
    fn sampling(&self) -> Result<Sampling> {
        let sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            stop: self.stop.clone(),
            choices: self.choice.clone(),
        };
        sampling.check()?;
        Ok(sampling)
    }
}

pub(super) fn run(args: &GenerateArgs, console: &Console) -> Result<()> {
    if args.prompts.is_empty() {
        return Err(Error::Argument("no prompt is given; see --help".into()));
    }
    let sampling = args.sampling.sampling()?;
    let gpu = args.gpu.open(console, "generate")?;
    let model = args.model.open(&gpu)?;
    let system = args.system.as_deref();
    let prompt = |prompt: &String| match args.raw {
        true => model.tokens(prompt),
        false => {
            let system = system.map(|text| Message::new("system", model.outside(text)));
            let user = Message::new("user", model.outside(prompt));
            model.chat(&system.into_iter().chain([user]).collect::<Vec<_>>())
        }
    };
    let prompts = args
        .prompts
        .iter()
        .map(|text| prompt(text).map(Prompt::from))
        .collect::<Result<Vec<_>>>()?;
    // Only one answer can be shown as it comes.
    let streams = prompts.len() == 1 && !args.json;
    let (mut shown, mut prefill) = (Ok(()), (0, Duration::ZERO));
    let start = Instant::now();
    let tell = &mut |progress: Progress| match progress {
        Progress::Text(_, text) if streams && shown.is_ok() => shown = console.print(text),
        Progress::Prefilled(tokens, time) => prefill = (prefill.0 + tokens, prefill.1 + time),
        _ => (),
    };
    let answers = model.generate(&gpu, &prompts, &sampling, args.max_tokens, tell)?;
    let decode = start.elapsed().saturating_sub(prefill.1);
    shown?;
    for (n, (answer, prompt)) in answers.iter().zip(&args.prompts).enumerate() {
        if args.json {
            console.json_line(&serde_json::json!({
                "prompt": prompt,
                "text": answer.text,
                "ended": answer.ended,
                "prompt_tokens": answer.prompt_tokens,
                "tokens": answer.tokens.len(),
            }))?;
        } else if streams {
            console.print("\n")?;
        } else {
            let rule = if n == 0 { "" } else { "---\n" };
            console.print(&format!("{rule}{}\n", answer.text))?;
        }
    }
    let rate = |tokens: usize, time: Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
    let written: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
    let cut = answers.iter().filter(|answer| !answer.ended).count();
    console.note(&format!(
        "{written} tokens at {:.1} tokens/s; {} of prompts at {:.1} tokens/s{}",
        rate(written, decode),
        prefill.0,
        rate(prefill.0, prefill.1),
        match (cut, answers.len()) {
            (0, _) => String::new(),
            (1, 1) => "; cut at --max-tokens or the model's context".into(),
            (cut, all) => format!("; {cut} of {all} cut at --max-tokens or the model's context"),
        },
    ));
    Ok(())
}
