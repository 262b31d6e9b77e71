//! Other programs' checkpoints as safetensors: what `keraunos convert` does.
//!
//! PyTorch's `.pth`, `.pt` and `.bin` are read without running anything that is in them, see `pickle`; a folder of
//! TensorFlow.js becomes a MeshNet, see `tfjs`.

mod pickle;
mod tfjs;
mod torch;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::pipeline::files::atomic_write;
use crate::tensor::quantised::{self, Stored};
use crate::tensor::{Encoding, TensorEntry};

/// A tensor that was read.
struct Found {
    name: String,
    encoding: Encoding,
    shape: Vec<usize>,
    /// Its elements, outermost dimension slowest, little-endian.
    bytes: Vec<u8>,
}

/// What was read of a checkpoint.
struct Read {
    tensors: Vec<Found>,
    metadata: BTreeMap<String, String>,
    /// Entries of the state that are no tensors.
    left_out: Vec<String>,
}

/// What became of a checkpoint.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The file that was written.
    pub path: PathBuf,
    /// What it was made of, in words.
    pub from: &'static str,
    /// Tensors in it.
    pub tensors: usize,
    /// Bytes of it.
    pub bytes: u64,
    /// Entries beside the tensors that it does not keep.
    pub left_out: Vec<String>,
}

/// Writes the checkpoint `input` to `output` as safetensors: a PyTorch file, or TensorFlow.js's `model.json` or the folder
/// that has one. Names, shapes and types stay, but that a TensorFlow.js kernel gets PyTorch's order of dimensions.
///
/// # Errors
/// A checkpoint of another kind, one that is damaged or asks for more than plain tensors, a file that cannot be written, or
/// an output that is the input.
pub fn convert(input: &Path, output: &Path) -> Result<Converted> {
    if let (Ok(a), Ok(b)) = (fs::canonicalize(input), fs::canonicalize(output))
        && a == b
    {
        let problem = format!("`{}` is the checkpoint itself", output.display());
        return Err(Error::Argument(problem));
    }
    let kind = fs::metadata(input).map_err(Error::read(input))?;
    let is_json = input
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let (from, read) = if kind.is_dir() {
        ("TensorFlow.js", tfjs::read(&input.join("model.json"))?)
    } else if is_json {
        ("TensorFlow.js", tfjs::read(input)?)
    } else {
        ("PyTorch", torch::read(input)?)
    };
    let entries: Vec<TensorEntry> = read.tensors.iter().map(Found::entry).collect();
    let stored = entries.iter().map(Stored::plain).collect();
    let file =
        quantised::file(stored, read.metadata).map_err(|problem| Error::weights(input, problem))?;
    atomic_write(output, |out| out.write_all(&file))?;
    Ok(Converted {
        path: output.to_path_buf(),
        from,
        tensors: read.tensors.len(),
        bytes: file.len() as u64,
        left_out: read.left_out,
    })
}

impl Found {
    fn entry(&self) -> TensorEntry<'_> {
        TensorEntry {
            name: &self.name,
            encoding: self.encoding,
            shape: &self.shape,
            bytes: &self.bytes,
        }
    }
}
