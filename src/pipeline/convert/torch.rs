//! PyTorch's checkpoints as `torch.save` writes them since version 1.6: a zip archive of stored files, `data.pkl` for the
//! names and `data/0`, `data/1` … for the numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;
use std::rc::Rc;

use zip::{CompressionMethod, ZipArchive};

use super::pickle::{self, Entries, Tensor, Value};
use super::{Found, Read};
use crate::error::{Error, Result};
use crate::tensor::Encoding;

/// The largest `data.pkl` that is read: names of a million tensors.
const MAX_PICKLE_BYTES: u64 = 256 << 20;
/// How files of PyTorch before 1.6 begin.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// Where training scripts put a state dict beside other things.
const WRAPPERS: [&str; 4] = ["state_dict", "model_state_dict", "model", "net"];
/// Dimensions that a tensor may have.
const MOST_DIMENSIONS: usize = 16;
/// How many times over the bytes of the file may be told: tensors may share their memory.
const MOST_SHARING: u64 = 4;

struct Archive<'a> {
    path: &'a Path,
    zip: ZipArchive<BufReader<File>>,
    /// `archive/` before every name.
    prefix: String,
    bytes: u64,
}

/// The tensors of a file.
pub(super) fn read(path: &Path) -> Result<Read> {
    let mut archive = Archive::open(path)?;
    let fault = |problem: String| Error::weights(path, format!("`data.pkl` {problem}"));
    let pickle = archive.file("data.pkl", MAX_PICKLE_BYTES)?;
    let order = archive.prefix.clone() + "byteorder";
    if archive.zip.index_for_name(&order).is_some() {
        let order = archive.file("byteorder", 16)?;
        if order != b"little" {
            let problem = "is written in the order of bytes of another kind of machine";
            return Err(Error::weights(path, problem));
        }
    }
    let value = pickle::read(&pickle).map_err(fault)?;
    let state = state_dict(value).map_err(fault)?;
    let mut storages: BTreeMap<Rc<str>, Vec<u8>> = BTreeMap::new();
    let (mut tensors, mut left_out) = (Vec::new(), Vec::new());
    let (mut names, mut told) = (BTreeSet::new(), 0);
    for (key, value) in state.borrow().iter() {
        let Value::Text(name) = key else {
            return Err(fault("has a name that is no text".into()));
        };
        let Value::Tensor(tensor) = value else {
            left_out.push(name.to_string());
            continue;
        };
        let wrong = |problem: String| Error::weights(path, format!("tensor `{name}` {problem}"));
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(fault(format!("has a tensor of the name {name:?}")));
        }
        if !names.insert(name.clone()) {
            return Err(wrong("is there twice".into()));
        }
        let encoding = encoding(&tensor.storage.kind).map_err(wrong)?;
        let layout = Layout::of(tensor).map_err(wrong)?;
        let size = encoding.block().1;
        told += (layout.elements * size) as u64;
        if told > MOST_SHARING * archive.bytes {
            return Err(wrong(format!(
                "and those before it tell {told} bytes, the file has {}",
                archive.bytes
            )));
        }
        let key = &tensor.storage.key;
        if !storages.contains_key(key) {
            let file = format!("data/{key}");
            let bytes = archive.file(&file, archive.bytes)?;
            storages.insert(key.clone(), bytes);
        }
        let storage = &storages[key];
        let wanted = layout.storage.checked_mul(size);
        if wanted != Some(storage.len()) {
            return Err(wrong(format!(
                "lies in {} elements of {}, `data/{key}` has {} bytes",
                layout.storage,
                tensor.storage.kind,
                storage.len()
            )));
        }
        tensors.push(Found {
            name: name.to_string(),
            encoding,
            bytes: layout.gather(storage, size),
            shape: layout.shape,
        });
    }
    if tensors.is_empty() {
        return Err(fault("has no tensor".into()));
    }
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(Read {
        tensors,
        metadata,
        left_out,
    })
}

impl<'a> Archive<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let found = std::fs::metadata(path).map_err(Error::read(path))?;
        if !found.is_file() {
            return Err(Error::weights(path, "is not a regular file"));
        }
        let mut file = File::open(path).map_err(Error::read(path))?;
        let mut start = Vec::new();
        file.by_ref()
            .take(LEGACY.len() as u64)
            .read_to_end(&mut start)
            .map_err(Error::read(path))?;
        if start == LEGACY {
            let problem = "is in PyTorch's format from before version 1.6, which is not read; load it there and `torch.save` it again";
            return Err(Error::weights(path, problem));
        }
        if !start.starts_with(b"PK\x03\x04") {
            let problem =
                "is neither a PyTorch checkpoint (a zip archive) nor TensorFlow.js's `model.json`";
            return Err(Error::weights(path, problem));
        }
        let damaged = |error: zip::result::ZipError| {
            Error::weights(path, format!("is a damaged zip archive: {error}"))
        };
        let mut zip = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
        if zip.has_duplicate_names() || zip.has_overlapping_files().map_err(damaged)? {
            let problem = "is a zip archive whose files repeat a name or overlap";
            return Err(Error::weights(path, problem));
        }
        let mut prefix = None;
        for name in zip.file_names() {
            let name = name.map_err(damaged)?;
            let folder = name.strip_suffix("data.pkl");
            prefix = folder
                .filter(|folder| folder.is_empty() || folder.ends_with('/'))
                .map(str::to_owned);
            if prefix.is_some() {
                break;
            }
        }
        let Some(prefix) = prefix else {
            let problem = "is a zip archive without `data.pkl`: no PyTorch checkpoint";
            return Err(Error::weights(path, problem));
        };
        Ok(Self {
            path,
            zip,
            prefix,
            bytes: found.len(),
        })
    }

    /// A file of the archive, its checksum compared.
    fn file(&mut self, name: &str, most: u64) -> Result<Vec<u8>> {
        let fault = |problem: String| Error::weights(self.path, format!("`{name}` {problem}"));
        let whole = format!("{}{name}", self.prefix);
        let Some(index) = self.zip.index_for_name(&whole) else {
            return Err(fault("is missing in the archive".into()));
        };
        let entry = self.zip.by_index(index);
        let mut entry = entry.map_err(|error| fault(format!("cannot be read: {error}")))?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(fault("is compressed, which `torch.save` never does".into()));
        }
        let size = entry.size();
        if size > most.min(self.bytes) {
            return Err(fault(format!(
                "claims {size} bytes, expected at most {}",
                most.min(self.bytes)
            )));
        }
        let mut bytes = Vec::with_capacity(size as usize);
        let read = entry.read_to_end(&mut bytes);
        read.map_err(|error| fault(format!("cannot be read: {error}")))?;
        Ok(bytes)
    }
}

/// The dict that has tensors, out of what scripts wrap it in.
fn state_dict(value: Value) -> std::result::Result<Rc<Entries>, String> {
    let Value::Dict(mut dict) = value else {
        return Err("holds no dict".into());
    };
    for _ in 0..WRAPPERS.len() {
        let has_tensor = |entries: &[(Value, Value)]| {
            entries
                .iter()
                .any(|(_, value)| matches!(value, Value::Tensor(_)))
        };
        if has_tensor(&dict.borrow()) {
            return Ok(dict);
        }
        let wrapped = WRAPPERS.iter().find_map(|wrapper| {
            dict.borrow()
                .iter()
                .find_map(|(key, value)| match (key, value) {
                    (Value::Text(key), Value::Dict(inner)) if **key == **wrapper => {
                        Some(inner.clone())
                    }
                    _ => None,
                })
        });
        match wrapped {
            Some(inner) => dict = inner,
            None => break,
        }
    }
    let names: Vec<String> = dict
        .borrow()
        .iter()
        .take(5)
        .map(|(key, _)| match key {
            Value::Text(key) => format!("`{}`", key.escape_debug()),
            _ => "a key that is no text".into(),
        })
        .collect();
    Err(format!(
        "has no tensor, neither in itself nor under `{}`; it has {}",
        WRAPPERS.join("`, `"),
        if names.is_empty() {
            "nothing".into()
        } else {
            names.join(", ")
        }
    ))
}

fn encoding(storage: &str) -> std::result::Result<Encoding, String> {
    Ok(match storage {
        "torch.DoubleStorage" => Encoding::F64,
        "torch.FloatStorage" => Encoding::F32,
        "torch.HalfStorage" => Encoding::F16,
        "torch.BFloat16Storage" => Encoding::BF16,
        "torch.LongStorage" => Encoding::I64,
        "torch.IntStorage" => Encoding::I32,
        "torch.ShortStorage" => Encoding::I16,
        "torch.CharStorage" => Encoding::I8,
        "torch.ByteStorage" => Encoding::U8,
        "torch.BoolStorage" => Encoding::Bool,
        other => {
            return Err(format!(
                "is stored as `{}`, which is not read",
                other.escape_debug()
            ));
        }
    })
}

/// A tensor's place in its storage, checked.
struct Layout {
    offset: usize,
    shape: Vec<usize>,
    stride: Vec<usize>,
    elements: usize,
    /// Elements of the storage.
    storage: usize,
}

impl Layout {
    fn of(tensor: &Tensor) -> std::result::Result<Self, String> {
        let Tensor {
            storage,
            offset,
            size,
            stride,
        } = tensor;
        let lies = || {
            format!(
                "has size {size:?}, stride {stride:?} and offset {offset} in a storage of {} elements",
                storage.count
            )
        };
        let plain = |values: &[i64]| {
            let values = values.iter().map(|n| usize::try_from(*n).ok());
            values.collect::<Option<Vec<usize>>>()
        };
        if size.len() != stride.len() || size.len() > MOST_DIMENSIONS {
            return Err(lies());
        }
        let places = || {
            let (shape, stride) = (plain(size)?, plain(stride)?);
            let offset = usize::try_from(*offset).ok()?;
            let storage = usize::try_from(storage.count).ok()?;
            let elements = shape
                .iter()
                .try_fold(1usize, |n, dim| n.checked_mul(*dim))?;
            let last = shape
                .iter()
                .zip(&stride)
                .try_fold(offset, |at, (dim, stride)| {
                    at.checked_add(dim.saturating_sub(1).checked_mul(*stride)?)
                })?;
            let inside = elements == 0 || last < storage && elements <= storage;
            inside.then_some(Self {
                offset,
                shape,
                stride,
                elements,
                storage,
            })
        };
        places().ok_or_else(lies)
    }

    /// The elements in order, each of `size` bytes.
    fn gather(&self, storage: &[u8], size: usize) -> Vec<u8> {
        if self.elements == 0 {
            return Vec::new();
        }
        let mut inner = 1;
        let contiguous = self
            .shape
            .iter()
            .zip(&self.stride)
            .rev()
            .all(|(dim, stride)| {
                let is_next = *dim == 1 || *stride == inner;
                inner *= dim;
                is_next
            });
        if contiguous {
            let from = self.offset * size;
            return storage[from..from + self.elements * size].to_vec();
        }
        let mut bytes = Vec::with_capacity(self.elements * size);
        for mut n in 0..self.elements {
            let mut at = self.offset;
            for (dim, stride) in self.shape.iter().zip(&self.stride).rev() {
                at += n % dim * stride;
                n /= dim;
            }
            bytes.extend_from_slice(&storage[at * size..(at + 1) * size]);
        }
        bytes
    }
}
