//! `keraunos convert`: other programs' checkpoints as safetensors.

use std::path::PathBuf;

use clap::Args;

use super::console::{Console, size};
use crate::error::Result;
use crate::pipeline::convert::convert;

/// Names that are shown of what is left out.
const SHOWN: usize = 5;

#[derive(Debug, Args)]
pub(super) struct ConvertArgs {
    /// A PyTorch checkpoint (.pth, .pt, .bin), or TensorFlow.js's model.json or its folder
    input: PathBuf,
    /// The safetensors file to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Prints everything as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &ConvertArgs, console: &Console) -> Result<()> {
    let done = convert(&args.input, &args.output)?;
    if args.json {
        return console.json(&serde_json::json!({
            "path": done.path,
            "from": done.from,
            "tensors": done.tensors,
            "bytes": done.bytes,
            "left_out": done.left_out,
        }));
    }
    let mut text = format!(
        "{}: {} tensors from {}, {}\n",
        done.path.display(),
        done.tensors,
        done.from,
        size(done.bytes)
    );
    if !done.left_out.is_empty() {
        let names: Vec<String> = done
            .left_out
            .iter()
            .take(SHOWN)
            .map(|name| format!("`{}`", name.escape_debug()))
            .collect();
        let more = done.left_out.len().saturating_sub(SHOWN);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        text += &format!("no tensors, left out: {}{more}\n", names.join(", "));
    }
    console.print(&text)
}
