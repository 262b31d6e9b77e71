//! `keraunos embed`: sentence embeddings, one line a text.

use serde_json::json;

use super::args::EmbedArgs;
use super::console::Console;
use crate::error::Result;
use crate::pipeline::home::Home;
use crate::pipeline::text_encoder::TextEncoder;

pub(super) fn run(args: &EmbedArgs, console: &Console) -> Result<()> {
    let texts = args.texts()?;
    let gpu = args.gpu.open(console, "embed")?;
    let encoder = match &args.model {
        Some(folder) => TextEncoder::from_folder(&gpu, folder)?,
        None => TextEncoder::open(&gpu, &Home::new(args.model_dir.as_deref())?)?,
    };
    let (values, cut) = encoder.embed_by(&gpu, &texts, args.pooling.into())?;
    if cut {
        console.warn("a text was longer than the encoder takes; its end was left out");
    }
    for (text, embedding) in texts.iter().zip(values.chunks_exact(encoder.dim())) {
        if args.json {
            console.json_line(&json!({ "text": text, "embedding": embedding }))?;
        } else {
            let values: Vec<String> = embedding.iter().map(f32::to_string).collect();
            console.print(&(values.join(" ") + "\n"))?;
        }
    }
    Ok(())
}
