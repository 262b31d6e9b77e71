//! `keraunos generate`: the raw language model, its answer as it comes.

use super::args::GenerateArgs;
use super::console::Console;
use crate::error::Result;
use crate::pipeline::home::Home;
use crate::pipeline::instruct::Writer;

pub(super) fn run(args: &GenerateArgs, console: &Console) -> Result<()> {
    let prompt = args.prompt()?;
    let gpu = args.gpu.open(console, "generate")?;
    let writer = match &args.llm {
        Some(path) => Writer::from_file(&gpu, path)?,
        None => Writer::open(&gpu, &Home::new(args.model_dir.as_deref())?)?,
    };
    let mut shown = Ok(());
    let system = args.system.as_deref();
    let generation = writer.generate(&gpu, system, prompt, args.max_tokens, &mut |piece| {
        if shown.is_ok() {
            shown = console.print(piece);
        }
    })?;
    shown?;
    console.print("\n")?;
    let rate =
        |tokens: usize, time: std::time::Duration| tokens as f64 / time.as_secs_f64().max(1e-9);
    console.note(&format!(
        "{} tokens at {:.1} tokens/s; prompt of {} tokens at {:.1} tokens/s{}",
        generation.tokens.len(),
        rate(generation.tokens.len(), generation.decode),
        generation.prompt_tokens,
        rate(generation.prompt_tokens, generation.prefill),
        if generation.ended {
            ""
        } else {
            "; cut at --max-tokens or the model's context"
        },
    ));
    Ok(())
}
