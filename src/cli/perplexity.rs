//! `keraunos perplexity`: how surprised a language model is by a text.

use std::path::PathBuf;

use clap::Args;

use super::args::{GpuArgs, KvCacheArgs};
use super::console::Console;
use crate::error::{Error, Result};
use crate::pipeline::Observer;
use crate::pipeline::language::{LanguageModel, Progress};

/// The longest text that is read, in bytes.
const MAX_TEXT_BYTES: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(super) struct PerplexityArgs {
    /// The model: a GGUF file or a folder of Hugging Face's
    model: PathBuf,
    /// A file of plain text
    text: PathBuf,
    /// Tokens of a piece of the text; its second half is measured
    #[arg(long, value_name = "N", default_value_t = 512)]
    context: usize,
    /// Prints everything as one JSON object
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    kept: KvCacheArgs,
    #[command(flatten)]
    pub(super) gpu: GpuArgs,
}

pub(super) fn run(args: &PerplexityArgs, console: &Console) -> Result<()> {
    let found = std::fs::metadata(&args.text).map_err(Error::read(&args.text))?;
    if !found.is_file() || found.len() > MAX_TEXT_BYTES {
        return Err(Error::Argument(format!(
            "`{}` is not a regular file of at most {MAX_TEXT_BYTES} bytes",
            args.text.display()
        )));
    }
    let text = std::fs::read(&args.text).map_err(Error::read(&args.text))?;
    let text = String::from_utf8(text)
        .map_err(|_| Error::Argument(format!("`{}` is not UTF-8 text", args.text.display())))?;
    let gpu = args.gpu.open(console, "perplexity")?;
    let mut model = LanguageModel::open(&gpu, &args.model)?;
    model.kv_cache = args.kept.precision();
    let mut bar = console.progress();
    let measured = model.perplexity(&gpu, &text, args.context, &mut |progress| {
        if let Progress::Share(share) = progress {
            bar.progress("perplexity", share);
        }
    });
    let measured = measured.map_err(|error| match error {
        Error::Argument(problem) => {
            Error::Argument(format!("`{}`: {problem}", args.text.display()))
        }
        other => other,
    })?;
    bar.finish();
    if args.json {
        return console.json(&serde_json::json!({
            "perplexity": measured.value,
            "standard_error": measured.error,
            "tokens": measured.tokens,
            "context": args.context,
            "sha256": model.sha256,
        }));
    }
    console.print(&format!(
        "perplexity {:.4} ± {:.4} over {} tokens\n",
        measured.value, measured.error, measured.tokens
    ))
}
