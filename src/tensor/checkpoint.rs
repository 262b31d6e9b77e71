//! A model file opened for reading: safetensors or GGUF, told apart by content, checked whole.
//!
//! The two containers differ in everything but what the rest of the engine wants from them: named
//! tensors with a shape, an encoding and bytes. [`Checkpoint`] gives just that and refuses a file
//! that breaks its format's rules, including the three rules of safetensors that its own reader
//! lets pass (unique names, printable names, a header that starts with `{`).
//!
//! A folder as Hugging Face lays models out is a checkpoint too: `model.safetensors`, or the shards that
//! `model.safetensors.index.json` lists. And a safetensors file may hold quantised matrices, each as two or three
//! tensors (see [`crate::tensor::quantised`]); they are put together to one when the file is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::tensor::Encoding;
use crate::tensor::gguf::{self, Gguf};
use crate::tensor::quantised;

/// The longest header that the safetensors format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;
/// The weights of a folder that holds them in one file.
const SINGLE: &str = "model.safetensors";
/// What lists the shards of a folder that holds them in several.
const INDEX: &str = "model.safetensors.index.json";

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
    /// The file, or the shards of a folder by name; then what was put together in memory.
    pieces: Vec<Bytes>,
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
    /// Which of the checkpoint's pieces holds it.
    piece: usize,
    range: Range<usize>,
}

/// Where the bytes of the file are kept.
#[derive(Debug)]
enum Bytes {
    Mapped(Mmap),
    Read(Vec<u8>),
    /// Not a file: the blocks of a quantised matrix.
    Joined(Vec<u8>),
    Embedded(&'static [u8]),
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Read(bytes) | Self::Joined(bytes) => bytes,
            Self::Embedded(bytes) => bytes,
        }
    }
}

impl Checkpoint {
    /// Maps the file at `path` into memory and checks it; or the files of a folder.
    ///
    /// A file that another process shortens while it is mapped ends this process with a bus
    /// error; [`read`](Self::read) has no such hazard and costs a copy.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if the file cannot be opened, [`Error::Weights`] if it is no regular file
    /// or not a well-formed safetensors or GGUF file.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            return Self::open_folder(path);
        }
        Self::new(path, mapped(path)?)
    }

    /// The checkpoint in a folder: one safetensors file, or shards and their index.
    fn open_folder(path: &Path) -> Result<Self> {
        let (one, index) = (path.join(SINGLE), path.join(INDEX));
        if one.is_file() {
            return Self::new(&one, mapped(&one)?);
        }
        if !index.is_file() {
            let problem = format!("has neither `{SINGLE}` nor `{INDEX}`");
            return Err(Error::weights(path, problem));
        }
        let listed = Index::read(&index)?;
        let names: BTreeSet<&String> = listed.weight_map.values().collect();
        let (mut pieces, mut tensors) = (Vec::new(), Vec::new());
        for (piece, name) in names.into_iter().enumerate() {
            let shard = path.join(name);
            let bytes = mapped(&shard)?;
            let (_, found) = read_safetensors(&shard, bytes.as_slice())?;
            let stray = found
                .iter()
                .find(|t| listed.weight_map.get(&t.name) != Some(name));
            if let Some(stray) = stray {
                let problem = format!(
                    "holds tensor `{}`, which `{INDEX}` does not place there",
                    stray.name
                );
                return Err(Error::weights(&shard, problem));
            }
            tensors.extend(found.into_iter().map(|placed| Placed { piece, ..placed }));
            pieces.push(bytes);
        }
        if tensors.len() != listed.weight_map.len() {
            let held: BTreeSet<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
            let missing = listed
                .weight_map
                .iter()
                .find(|(t, _)| !held.contains(t.as_str()));
            let problem = missing.map_or_else(
                || "lists a tensor twice".to_owned(),
                |(tensor, shard)| format!("places tensor `{tensor}` in `{shard}`, which lacks it"),
            );
            return Err(Error::weights(&index, problem));
        }
        let container = Container::Safetensors {
            metadata: BTreeMap::new(),
        };
        Self::of(path, pieces, container, tensors)
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
        let (container, tensors) = if bytes.as_slice().starts_with(gguf::MAGIC) {
            read_gguf(path, bytes.as_slice())?
        } else {
            read_safetensors(path, bytes.as_slice())?
        };
        Self::of(path, vec![bytes], container, tensors)
    }

    fn of(
        path: &Path,
        pieces: Vec<Bytes>,
        container: Container,
        mut tensors: Vec<Placed>,
    ) -> Result<Self> {
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tracing::info!("weights `{}`: {} tensors", path.display(), tensors.len());
        let mut this = Self {
            path: path.into(),
            pieces,
            container,
            tensors,
        };
        this.join_quantised()?;
        Ok(this)
    }

    /// Puts the parts of quantised matrices together.
    fn join_quantised(&mut self) -> Result<()> {
        if matches!(self.container, Container::Gguf(_)) {
            return Ok(());
        }
        let mut joined = Vec::new();
        for scale in self.tensors() {
            let Some(name) = scale.name.strip_suffix(quantised::SCALE) else {
                continue;
            };
            let Some(weight) = self.tensor(name).filter(|w| w.encoding.is_integer()) else {
                continue;
            };
            let min = self.tensor(&format!("{name}{}", quantised::MIN));
            let matrix = quantised::join(weight, scale, min)
                .map_err(|problem| Error::weights(&self.path, problem))?;
            joined.push((name.to_owned(), matrix));
        }
        for (name, matrix) in joined {
            self.tensors.retain(|t| {
                t.name
                    .strip_prefix(&name)
                    .is_none_or(|rest| !["", quantised::SCALE, quantised::MIN].contains(&rest))
            });
            let at = self.tensors.partition_point(|t| t.name < name);
            let placed = Placed {
                name,
                encoding: matrix.encoding,
                shape: matrix.shape.to_vec(),
                piece: self.pieces.len(),
                range: 0..matrix.blocks.len(),
            };
            self.tensors.insert(at, placed);
            self.pieces.push(Bytes::Joined(matrix.blocks));
        }
        Ok(())
    }

    /// The file, or the name given to embedded weights.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that the file lies in, or the folder itself: where a configuration and a tokenizer are looked for.
    pub fn folder(&self) -> &Path {
        match self.path.is_dir() {
            true => &self.path,
            false => self.path.parent().unwrap_or(Path::new("")),
        }
    }

    /// What kind of file it is.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The typed metadata of a GGUF file; none of a safetensors file.
    pub fn gguf(&self) -> Option<&Gguf> {
        match &self.container {
            Container::Gguf(gguf) => Some(gguf),
            Container::Safetensors { .. } => None,
        }
    }

    /// The typed metadata of a GGUF file.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] if the file is a safetensors file.
    pub fn expect_gguf(&self) -> Result<&Gguf> {
        self.gguf()
            .ok_or_else(|| Error::weights(&self.path, "is a safetensors file, expected GGUF"))
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

    /// The files' bytes: all pieces but those that were put together.
    fn files(&self) -> impl Iterator<Item = &[u8]> {
        let own = |piece: &&Bytes| !matches!(piece, Bytes::Joined(_));
        self.pieces.iter().filter(own).map(Bytes::as_slice)
    }

    /// The size of the file, or of all shards, in bytes.
    pub fn byte_len(&self) -> usize {
        self.files().map(<[u8]>::len).sum()
    }

    /// The SHA-256 of the whole file, or of the shards one after the other in the order of their names, in lower-case
    /// hexadecimal.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        self.files().for_each(|bytes| hash.update(bytes));
        hex(&hash.finalize())
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
            bytes: &self.pieces[placed.piece].as_slice()[placed.range.clone()],
        }
    }
}

/// Lower-case hexadecimal of a digest.
pub fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of a regular file of at most `most` bytes. What is no file is refused before it is opened: a pipe would wait for
/// a writer, a device never end.
///
/// # Errors
/// [`Error::Read`], or [`Error::Config`] for what is no regular file or is larger.
pub fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>> {
    let found = std::fs::metadata(path).map_err(Error::read(path))?;
    if !found.is_file() || found.len() > most {
        let problem = format!("is not a regular file of at most {most} bytes");
        return Err(Error::config(path, problem));
    }
    std::fs::read(path).map_err(Error::read(path))
}

fn mapped(path: &Path) -> Result<Bytes> {
    expect_regular(path)?;
    let file = File::open(path).map_err(Error::read(path))?;
    Ok(Bytes::Mapped(map(&file).map_err(Error::read(path))?))
}

/// `model.safetensors.index.json`: which shard holds which tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    fn read(path: &Path) -> Result<Self> {
        let found = std::fs::metadata(path).map_err(Error::read(path))?;
        if found.len() > MAX_HEADER {
            let problem = format!("has {} bytes, expected at most {MAX_HEADER}", found.len());
            return Err(Error::weights(path, problem));
        }
        let text = std::fs::read(path).map_err(Error::read(path))?;
        let index: Self =
            serde_json::from_slice(&text).map_err(|e| Error::weights(path, e.to_string()))?;
        let plain = |name: &&String| {
            let mut parts = Path::new(name.as_str()).components();
            matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none()
        };
        match index.weight_map.values().find(|name| !plain(name)) {
            Some(name) => {
                let problem = format!("names shard {name:?}, expected a file beside it");
                Err(Error::weights(path, problem))
            }
            None => Ok(index),
        }
    }
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
        piece: 0,
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
            piece: 0,
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
