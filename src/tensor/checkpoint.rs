//! A model file opened for reading: safetensors or GGUF, told apart by content, checked whole.
//!
//! The two containers differ in everything but what the rest of the engine wants from them: named
//! tensors with a shape, an encoding and bytes. [`Checkpoint`] gives just that and refuses a file
//! that breaks its format's rules, including the three rules of safetensors that its own reader
//! lets pass (unique names, printable names, a header that starts with `{`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::tensor::Encoding;
use crate::tensor::gguf::{self, Gguf};

/// The longest header that the safetensors format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// How files that are often mistaken for weights begin, and what to call them.
const LOOKALIKES: &[(&[u8], &str)] = &[
    (
        b"PK\x03\x04",
        "a zip archive (a PyTorch checkpoint?), convert it to safetensors",
    ),
    (b"\x80\x02", "a Python pickle, convert it to safetensors"),
    (b"\x80\x04", "a Python pickle, convert it to safetensors"),
    (b"\x89HDF", "an HDF5 file, convert it to safetensors"),
    (
        b"version https://git-lfs",
        "a Git LFS pointer, fetch the file behind it",
    ),
    (b"<!DOCTYPE", "an HTML page, the download went wrong"),
    (b"<html", "an HTML page, the download went wrong"),
    (
        b"{",
        "a JSON text without the length that safetensors starts with",
    ),
    (b"lmgg", "a GGML file older than GGUF, convert it to GGUF"),
    (b"tjgg", "a GGML file older than GGUF, convert it to GGUF"),
];

/// An open model file whose every tensor is known to lie inside it.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    bytes: Bytes,
    container: Container,
    /// Sorted by name.
    tensors: Vec<Placed>,
}

/// What kind of file a checkpoint is, with what only that kind has.
#[derive(Debug)]
pub enum Container {
    /// A safetensors file and its free-form texts.
    Safetensors {
        /// The header's `__metadata__`.
        metadata: BTreeMap<String, String>,
    },
    /// A GGUF file and its typed metadata.
    Gguf(Gguf),
}

/// One tensor of a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct TensorEntry<'a> {
    /// The tensor's name, unique in the file.
    pub name: &'a str,
    /// How its elements are stored.
    pub encoding: Encoding,
    /// Its dimensions in PyTorch order, outermost first; empty for a scalar.
    pub shape: &'a [usize],
    /// Its elements as stored, without any promise of alignment.
    pub bytes: &'a [u8],
}

impl TensorEntry<'_> {
    /// How many elements the tensor has.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// All elements in single precision, outermost dimension slowest; `None` for integers.
    pub fn decode(&self) -> Option<Vec<f32>> {
        self.encoding.decode(self.bytes)
    }

    /// The first element that is infinite or not a number, as (element index, value).
    pub fn first_non_finite(&self) -> Option<(usize, f32)> {
        self.encoding.first_non_finite(self.bytes)
    }
}

/// A tensor and where its bytes lie in the file.
#[derive(Debug)]
struct Placed {
    name: String,
    encoding: Encoding,
    shape: Vec<usize>,
    range: Range<usize>,
}

/// Where the bytes of the file are kept.
#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Read(Vec<u8>),
    Embedded(&'static [u8]),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(bytes) => bytes,
            Self::Embedded(bytes) => bytes,
        }
    }
}

impl Checkpoint {
    /// Maps the file at `path` into memory and checks it.
    ///
    /// A file that another process shortens while it is mapped ends this process with a bus
    /// error; [`read`](Self::read) has no such hazard and costs a copy.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if the file cannot be opened, [`Error::Weights`] if it is no regular file
    /// or not a well-formed safetensors or GGUF file.
    pub fn open(path: &Path) -> Result<Self> {
        expect_regular(path)?;
        let file = File::open(path).map_err(Error::read(path))?;
        Self::new(path, Bytes::Mapped(map(&file).map_err(Error::read(path))?))
    }

    /// Reads the file at `path` into memory and checks it.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn read(path: &Path) -> Result<Self> {
        expect_regular(path)?;
        Self::new(
            path,
            Bytes::Read(std::fs::read(path).map_err(Error::read(path))?),
        )
    }

    /// Checks weights that are part of the program; `name` stands for the file in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] if `bytes` is not a well-formed safetensors or GGUF file.
    pub fn from_bytes(bytes: &'static [u8], name: &str) -> Result<Self> {
        Self::new(Path::new(name), Bytes::Embedded(bytes))
    }

    fn new(path: &Path, bytes: Bytes) -> Result<Self> {
        let (container, mut tensors) = if bytes.as_slice().starts_with(gguf::MAGIC) {
            read_gguf(path, bytes.as_slice())?
        } else {
            read_safetensors(path, bytes.as_slice())?
        };
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tracing::info!("weights `{}`: {} tensors", path.display(), tensors.len());
        Ok(Self {
            path: path.into(),
            bytes,
            container,
            tensors,
        })
    }

    /// The file, or the name given to embedded weights.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What kind of file it is.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The typed metadata of a GGUF file.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] if the file is a safetensors file.
    pub fn expect_gguf(&self) -> Result<&Gguf> {
        match &self.container {
            Container::Gguf(gguf) => Ok(gguf),
            Container::Safetensors { .. } => Err(Error::weights(
                &self.path,
                "is a safetensors file, expected GGUF",
            )),
        }
    }

    /// The metadata as (key, text), sorted by key; long GGUF arrays are shown by type and length.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        match &self.container {
            Container::Safetensors { metadata } => metadata.clone(),
            Container::Gguf(gguf) => gguf
                .metadata()
                .iter()
                .map(|(key, value)| (key.clone(), value.to_string()))
                .collect(),
        }
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = TensorEntry<'_>> {
        self.tensors.iter().map(|placed| self.entry(placed))
    }

    /// The tensor called `name`, if the file has it.
    pub fn tensor(&self, name: &str) -> Option<TensorEntry<'_>> {
        let at = self
            .tensors
            .binary_search_by(|placed| placed.name.as_str().cmp(name))
            .ok()?;
        Some(self.entry(&self.tensors[at]))
    }

    /// The size of the file, in bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes.as_slice().len()
    }

    /// The SHA-256 of the whole file, in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        hex(&Sha256::digest(self.bytes.as_slice()))
    }

    /// Fails on the first tensor that holds an infinity or a NaN; reads every byte of the file.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] naming the tensor, the element and its value.
    pub fn expect_finite(&self) -> Result<()> {
        for tensor in self.tensors() {
            if let Some((element, value)) = tensor.first_non_finite() {
                let problem = format!(
                    "tensor `{}` holds {value} at element {element}",
                    tensor.name
                );
                return Err(Error::weights(&self.path, problem));
            }
        }
        Ok(())
    }

    fn entry<'a>(&'a self, placed: &'a Placed) -> TensorEntry<'a> {
        TensorEntry {
            name: &placed.name,
            encoding: placed.encoding,
            shape: &placed.shape,
            bytes: &self.bytes.as_slice()[placed.range.clone()],
        }
    }
}

/// Lower-case hexadecimal of a digest.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Refuses folders, pipes and devices before they are opened: opening a pipe would block.
fn expect_regular(path: &Path) -> Result<()> {
    let kind = std::fs::metadata(path).map_err(Error::read(path))?;
    if kind.is_file() {
        Ok(())
    } else {
        Err(Error::weights(path, "is not a regular file"))
    }
}

#[expect(
    unsafe_code,
    reason = "mapping a file is the only way not to hold two copies of its weights"
)]
fn map(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the map is read-only and private to this value. Its bytes could still change if
    // another process writes to the file; they are only ever read as plain numbers, for which
    // every bit pattern is valid, and all offsets were copied out and checked before.
    unsafe { Mmap::map(file) }
}

fn read_gguf(path: &Path, bytes: &[u8]) -> Result<(Container, Vec<Placed>)> {
    let gguf = Gguf::parse(path, bytes)?;
    let place = |info: &gguf::TensorInfo| Placed {
        name: info.name.clone(),
        encoding: info.encoding,
        shape: info.dims.iter().rev().copied().collect(),
        range: info.range.clone(),
    };
    let tensors = gguf.tensors().iter().map(place).collect();
    Ok((Container::Gguf(gguf), tensors))
}

fn read_safetensors(path: &Path, bytes: &[u8]) -> Result<(Container, Vec<Placed>)> {
    check_header(path, bytes)?;
    let (header_len, header) =
        SafeTensors::read_metadata(bytes).map_err(|e| Error::weights(path, e.to_string()))?;
    // the reader proved that the tensors fill the file from the end of the header on
    let data = 8 + header_len;
    let mut tensors = Vec::new();
    for (name, info) in header.tensors() {
        let encoding = Encoding::from_safetensors(info.dtype).map_err(|dtype| {
            Error::weights(
                path,
                format!("tensor `{name}` is {dtype}, expected a float or an integer type"),
            )
        })?;
        let (start, end) = info.data_offsets;
        tensors.push(Placed {
            name,
            encoding,
            shape: info.shape.clone(),
            range: data + start..data + end,
        });
    }
    let metadata = header
        .metadata()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    Ok((Container::Safetensors { metadata }, tensors))
}

/// The checks that the safetensors reader leaves out: the header's first byte, names that repeat
/// or hold control characters, and offsets so large that its own sums would overflow.
fn check_header(path: &Path, bytes: &[u8]) -> Result<()> {
    // only a file that is certainly no safetensors may be called by another name: a header of
    // 640 bytes starts like a pickle
    let not_ours = |problem: String| match LOOKALIKES
        .iter()
        .find(|(start, _)| bytes.starts_with(start))
    {
        Some((_, what)) => Error::weights(path, format!("is {what}")),
        None => Error::weights(path, problem),
    };
    let Some((len, rest)) = bytes.split_first_chunk() else {
        return Err(not_ours(format!(
            "has {} bytes, expected a safetensors or GGUF header",
            bytes.len()
        )));
    };
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER.min(rest.len() as u64) {
        return Err(not_ours(format!(
            "claims a header of {len} bytes, of which {} are there; it is truncated, or neither safetensors nor GGUF",
            rest.len()
        )));
    }
    let (header, data) = rest.split_at(len as usize);
    if header.first() != Some(&b'{') {
        return Err(not_ours("has a header that does not start with `{`".into()));
    }
    let Header(spans) =
        serde_json::from_slice(header).map_err(|e| Error::weights(path, format!("header: {e}")))?;
    for (
        name,
        Span {
            data_offsets: (_, end),
        },
    ) in spans
    {
        if end > data.len() as u64 {
            let problem = format!(
                "tensor `{name}` ends at byte {end} of {} bytes of data",
                data.len()
            );
            return Err(Error::weights(path, problem));
        }
    }
    Ok(())
}

/// The tensors of a safetensors header, read so that a repeated or unprintable name is an error.
struct Header(Vec<(String, Span)>);

/// The part of a tensor's entry that is checked here.
#[derive(Deserialize)]
struct Span {
    data_offsets: (u64, u64),
}

/// The free-form texts of a header, read so that a repeated key is an error.
struct Texts;

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with one entry per tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut names = BTreeSet::new();
                let mut spans = Vec::new();
                while let Some(name) = next_key(&mut map, &mut names)? {
                    if name == "__metadata__" {
                        map.next_value::<Texts>()?;
                    } else {
                        spans.push((name, map.next_value()?));
                    }
                }
                Ok(Header(spans))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Texts;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts, A::Error> {
                let mut names = BTreeSet::new();
                while next_key(&mut map, &mut names)?.is_some() {
                    map.next_value::<String>()?;
                }
                Ok(Texts)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// The map's next key, which must be printable and not among `seen`.
fn next_key<'de, A: MapAccess<'de>>(
    map: &mut A,
    seen: &mut BTreeSet<String>,
) -> Result<Option<String>, A::Error> {
    let Some(key) = map.next_key::<String>()? else {
        return Ok(None);
    };
    if key.chars().any(char::is_control) {
        return Err(A::Error::custom(format_args!(
            "the name {key:?} holds a control character"
        )));
    }
    if !seen.insert(key.clone()) {
        return Err(A::Error::custom(format_args!(
            "the name `{key}` appears twice"
        )));
    }
    Ok(Some(key))
}
