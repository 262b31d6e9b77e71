//! `keraunos quantize`: a safetensors model in fewer bits.

use std::path::PathBuf;

use clap::Args;

use super::console::{Console, size};
use crate::error::Result;
use crate::pipeline::Observer;
use crate::pipeline::quantize::{format, quantize};

#[derive(Debug, Args)]
pub(super) struct QuantizeArgs {
    /// A safetensors file, or a folder of Hugging Face's
    input: PathBuf,
    /// The file to write, or the folder
    #[arg(short, long, value_name = "FILE|DIR")]
    output: PathBuf,
    /// Eight bits, or four without or with an offset
    #[arg(long, value_name = "q8_0|q4_0|q4_1")]
    format: String,
    /// Leaves tensors whose name contains this as they are; repeatable
    #[arg(long, value_name = "PART")]
    keep: Vec<String>,
    /// Prints everything as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &QuantizeArgs, console: &Console) -> Result<()> {
    let format = format(&args.format)?;
    let mut bar = console.progress();
    let done = quantize(
        &args.input,
        &args.output,
        format,
        &args.keep,
        &mut |share| {
            bar.progress("quantising", share);
        },
    )?;
    bar.finish();
    if args.json {
        return console.json(&serde_json::json!({
            "path": done.path,
            "format": args.format.to_lowercase(),
            "matrices": done.matrices,
            "kept": done.kept,
            "bytes": done.bytes,
            "relative_error": done.error,
        }));
    }
    console.print(&format!(
        "{}: {} matrices in {format}, {} tensors as they were; {} instead of {}, values off by {:.2} %\n",
        done.path.display(),
        done.matrices,
        done.kept,
        size(done.bytes[1]),
        size(done.bytes[0]),
        100.0 * done.error
    ))
}
