//! `keraunos inspect`: what is in a model file.

use serde_json::json;

use super::args::InspectArgs;
use super::console::{Console, size, table};
use crate::error::Result;
use crate::tensor::{Checkpoint, Container};

/// The longest text of metadata that the table shows whole.
const MAX_TEXT: usize = 100;

pub(super) fn run(args: &InspectArgs, console: &Console) -> Result<()> {
    let checkpoint = Checkpoint::open(&args.file)?;
    let format = match checkpoint.container() {
        Container::Safetensors { .. } => "safetensors".to_owned(),
        Container::Gguf(gguf) => format!("GGUF version {}", gguf.version()),
    };
    if args.json {
        let tensors: Vec<_> = checkpoint
            .tensors()
            .map(|tensor| {
                json!({
                    "name": tensor.name,
                    "encoding": tensor.encoding.to_string(),
                    "shape": tensor.shape,
                    "bytes": tensor.bytes.len(),
                })
            })
            .collect();
        return console.json(&json!({
            "path": checkpoint.path(),
            "format": format,
            "bytes": checkpoint.byte_len(),
            "sha256": checkpoint.sha256(),
            "metadata": checkpoint.metadata(),
            "tensors": tensors,
        }));
    }
    let short = |text: &str| {
        let line = text.replace('\n', "\\n");
        match line.char_indices().nth(MAX_TEXT) {
            Some((at, _)) => format!("{}…", &line[..at]),
            None => line,
        }
    };
    let metadata: Vec<Vec<String>> = checkpoint
        .metadata()
        .iter()
        .map(|(key, value)| vec![key.clone(), short(value)])
        .collect();
    let tensors: Vec<Vec<String>> = checkpoint
        .tensors()
        .map(|tensor| {
            vec![
                tensor.name.to_owned(),
                tensor.encoding.to_string(),
                format!("{:?}", tensor.shape),
                tensor.bytes.len().to_string(),
            ]
        })
        .collect();
    let parameters: usize = checkpoint.tensors().map(|tensor| tensor.elements()).sum();
    let mut text = format!(
        "{}: {format}, {}, {} tensors, {parameters} elements\nsha256 {}\n\n",
        checkpoint.path().display(),
        size(checkpoint.byte_len() as u64),
        tensors.len(),
        checkpoint.sha256(),
    );
    if !metadata.is_empty() {
        text += &table(&["metadata", ""], &metadata);
        text.push('\n');
    }
    text += &table(&["tensor", "encoding", "shape", ">bytes"], &tensors);
    console.print(&text)
}
