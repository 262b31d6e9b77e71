//! A safetensors model in eight or four bits: what `keraunos quantize` does.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::pipeline::files::atomic_write;
use crate::tensor::quantised::{self, FORMATS, Stored};
use crate::tensor::{Checkpoint, Encoding};

/// Rows from which on a matrix is worth it.
const LEAST_ROWS: usize = 32;
/// Columns that share a scale.
const BLOCK: usize = 32;
/// What lies beside the weights in a folder of Hugging Face's, and belongs to the model.
const COMPANIONS: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.txt",
    "LICENSE",
];

/// What became of a model.
#[derive(Clone, Debug)]
pub struct Quantised {
    /// The file that was written.
    pub path: PathBuf,
    /// Matrices in fewer bits.
    pub matrices: usize,
    /// Tensors left as they were.
    pub kept: usize,
    /// Bytes of all tensors before and after.
    pub bytes: [u64; 2],
    /// The root of the mean square of what changed, over that of the values, of all quantised matrices.
    pub error: f64,
}

/// The format that a name like `q8_0` means.
///
/// # Errors
/// [`Error::Argument`] with the names there are.
pub fn format(name: &str) -> Result<Encoding> {
    let called = |format: &Encoding| format.to_string().eq_ignore_ascii_case(name);
    FORMATS.into_iter().find(called).ok_or_else(|| {
        Error::Argument(format!(
            "`{name}` is no format to quantise to, expected `q8_0`, `q4_0` or `q4_1`"
        ))
    })
}

/// Writes the model in `input`, a safetensors file or a folder of Hugging Face's, to `output`, a file or a folder as `input` is
/// one: every matrix called `…weight` that has at least 32 rows and whole blocks of 32 columns in `format`, unless its
/// name contains one of `keep`; everything else as it is. `progress` is called with the share done.
///
/// # Errors
/// A model that cannot be read or is quantised already, a value that does not fit, a file that cannot be written, or an
/// output that is the input.
pub fn quantize(
    input: &Path,
    output: &Path,
    format: Encoding,
    keep: &[String],
    progress: &mut dyn FnMut(f64),
) -> Result<Quantised> {
    let checkpoint = Checkpoint::open(input)?;
    if checkpoint.gguf().is_some() {
        return Err(Error::weights(
            input,
            "is a GGUF file, expected safetensors",
        ));
    }
    if let (Ok(a), Ok(b)) = (fs::canonicalize(input), fs::canonicalize(output))
        && a == b
    {
        let problem = format!("`{}` is the model itself", output.display());
        return Err(Error::Argument(problem));
    }
    let already = checkpoint
        .tensors()
        .find(|entry| entry.encoding.is_quantised());
    if let Some(entry) = already {
        let problem = format!("tensor `{}` is quantised already", entry.name);
        return Err(Error::weights(input, problem));
    }
    let all = checkpoint.tensors().len();
    let (mut stored, mut matrices) = (Vec::new(), 0);
    let (mut before, mut after) = (0, 0);
    let (mut lost, mut power) = (0.0, 0.0);
    for (n, entry) in checkpoint.tensors().enumerate() {
        before += entry.bytes.len() as u64;
        let whole = matches!(*entry.shape, [rows, columns] if rows >= LEAST_ROWS && columns.is_multiple_of(BLOCK));
        let wanted = whole
            && entry.encoding.is_real()
            && entry.name.ends_with("weight")
            && !keep.iter().any(|part| entry.name.contains(part.as_str()));
        if wanted {
            let values = entry.decode().unwrap_or_default();
            let blocks = quantised::quantise(&values, format).ok_or_else(|| {
                let problem = format!(
                    "tensor `{}` holds a value that is not finite or beyond the scales of {format}",
                    entry.name
                );
                Error::weights(input, problem)
            })?;
            let back = format.decode(&blocks).unwrap_or_default();
            for (value, back) in values.iter().zip(back) {
                lost += f64::from(value - back).powi(2);
                power += f64::from(*value).powi(2);
            }
            stored.extend(Stored::quantised(entry.name, entry.shape, &blocks, format));
            matrices += 1;
        } else {
            stored.push(Stored::plain(&entry));
        }
        progress((n + 1) as f64 / all as f64);
    }
    after += stored
        .iter()
        .map(|tensor| tensor.bytes.len() as u64)
        .sum::<u64>();
    let path = match input.is_dir() {
        true => {
            fs::create_dir_all(output).map_err(Error::write(output))?;
            for name in COMPANIONS {
                let from = input.join(name);
                if from.is_file() {
                    let text = fs::read(&from).map_err(Error::read(&from))?;
                    atomic_write(&output.join(name), |out| out.write_all(&text))?;
                }
            }
            output.join("model.safetensors")
        }
        false => output.to_path_buf(),
    };
    let file = quantised::file(stored, checkpoint.metadata())
        .map_err(|problem| Error::weights(input, problem))?;
    atomic_write(&path, |out| out.write_all(&file))?;
    Ok(Quantised {
        path,
        matrices,
        kept: all - matrices,
        bytes: [before, after],
        error: (lost / f64::max(power, f64::MIN_POSITIVE)).sqrt(),
    })
}
