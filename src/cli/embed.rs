//! `keraunos embed`: sentence embeddings, one line a text.

use serde_json::json;

use super::args::EmbedArgs;
use super::console::Console;
use crate::error::Result;
use crate::pipeline::home::Home;
use crate::pipeline::text_encoder::TextEncoder;
use crate::pipeline::text_tower::TextTower;

pub(super) fn run(args: &EmbedArgs, console: &Console) -> Result<()> {
    let texts = args.texts()?;
    let gpu = args.gpu.open(console, "embed")?;
    let pooling = args.pooling.map(Into::into);
    let ((values, cut), dim) = match &args.model {
        Some(model) => {
            let tower = TextTower::open(&gpu, model, pooling)?;
            (tower.embed(&gpu, &texts)?, tower.dim())
        }
        None => {
            let encoder = TextEncoder::open(&gpu, &Home::new(args.model_dir.as_deref())?)?;
            let pooling = pooling.unwrap_or_default();
            (encoder.embed_by(&gpu, &texts, pooling)?, encoder.dim())
        }
    };
    if cut {
        console.warn("a text was longer than the encoder takes; its end was left out");
    }
    for (text, embedding) in texts.iter().zip(values.chunks_exact(dim)) {
        if args.json {
            console.json_line(&json!({ "text": text, "embedding": embedding }))?;
        } else {
            let values: Vec<String> = embedding.iter().map(f32::to_string).collect();
            console.print(&(values.join(" ") + "\n"))?;
        }
    }
    Ok(())
}
