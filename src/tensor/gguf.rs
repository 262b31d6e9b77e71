//! GGUF versions 2 and 3: the header of a llama.cpp model file, read without trusting it.
//!
//! A GGUF file is a magic word, a table of typed metadata, a table of tensors and the tensors'
//! bytes. Its writers are many and its sizes are whatever the file claims, so every length is
//! compared with the bytes that are left before anything is allocated, every product is checked,
//! and every tensor's range is proved to lie inside the file and outside the others. What comes
//! out of [`Gguf::parse`] can be used without looking back.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::tensor::Encoding;

/// The four bytes a GGUF file starts with.
pub(super) const MAGIC: &[u8] = b"GGUF";

/// Arrays inside arrays are followed this deep; no known writer nests at all.
const MAX_DEPTH: usize = 4;
/// The most dimensions that ggml knows.
const MAX_DIMS: u32 = 4;
/// The longest metadata key the format allows, in bytes.
const MAX_KEY: u64 = 65_535;
/// The longest tensor name, in bytes; ggml itself stops at 63.
const MAX_NAME: u64 = 255;
/// A metadata entry takes at least a length, one byte of key, a type and one byte of value.
const MIN_ENTRY_BYTES: u64 = 8 + 1 + 4 + 1;
/// A tensor entry takes at least a length, one byte of name, one dimension, a type and an offset.
const MIN_TENSOR_BYTES: u64 = 8 + 1 + 4 + 8 + 4 + 8;

/// One value of a GGUF file's metadata.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Unsigned byte.
    U8(u8),
    /// Signed byte.
    I8(i8),
    /// Unsigned 16-bit integer.
    U16(u16),
    /// Signed 16-bit integer.
    I16(i16),
    /// Unsigned 32-bit integer.
    U32(u32),
    /// Signed 32-bit integer.
    I32(i32),
    /// Unsigned 64-bit integer.
    U64(u64),
    /// Signed 64-bit integer.
    I64(i64),
    /// Single-precision number.
    F32(f32),
    /// Double-precision number.
    F64(f64),
    /// Truth value.
    Bool(bool),
    /// UTF-8 text.
    Str(String),
    /// Values of one type.
    Array(Array),
}

/// An array of a GGUF file's metadata, all of one type.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Unsigned bytes.
    U8(Vec<u8>),
    /// Signed bytes.
    I8(Vec<i8>),
    /// Unsigned 16-bit integers.
    U16(Vec<u16>),
    /// Signed 16-bit integers.
    I16(Vec<i16>),
    /// Unsigned 32-bit integers.
    U32(Vec<u32>),
    /// Signed 32-bit integers.
    I32(Vec<i32>),
    /// Unsigned 64-bit integers.
    U64(Vec<u64>),
    /// Signed 64-bit integers.
    I64(Vec<i64>),
    /// Single-precision numbers.
    F32(Vec<f32>),
    /// Double-precision numbers.
    F64(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// UTF-8 texts.
    Str(Vec<String>),
    /// Arrays.
    Array(Vec<Array>),
}

impl Array {
    /// How many items the array has and what they are called.
    fn kind(&self) -> (usize, &'static str) {
        match self {
            Self::U8(items) => (items.len(), "u8"),
            Self::I8(items) => (items.len(), "i8"),
            Self::U16(items) => (items.len(), "u16"),
            Self::I16(items) => (items.len(), "i16"),
            Self::U32(items) => (items.len(), "u32"),
            Self::I32(items) => (items.len(), "i32"),
            Self::U64(items) => (items.len(), "u64"),
            Self::I64(items) => (items.len(), "i64"),
            Self::F32(items) => (items.len(), "f32"),
            Self::F64(items) => (items.len(), "f64"),
            Self::Bool(items) => (items.len(), "bool"),
            Self::Str(items) => (items.len(), "string"),
            Self::Array(items) => (items.len(), "array"),
        }
    }
}

impl Value {
    /// The value's type in words, for example `u32` or `array of 3 string`.
    pub fn kind(&self) -> String {
        match self {
            Self::U8(_) => "u8".into(),
            Self::I8(_) => "i8".into(),
            Self::U16(_) => "u16".into(),
            Self::I16(_) => "i16".into(),
            Self::U32(_) => "u32".into(),
            Self::I32(_) => "i32".into(),
            Self::U64(_) => "u64".into(),
            Self::I64(_) => "i64".into(),
            Self::F32(_) => "f32".into(),
            Self::F64(_) => "f64".into(),
            Self::Bool(_) => "bool".into(),
            Self::Str(_) => "string".into(),
            Self::Array(array) => {
                let (len, item) = array.kind();
                format!("array of {len} {item}")
            }
        }
    }

    /// The value as an integer, whatever its width; `None` for anything else.
    fn integer(&self) -> Option<i128> {
        Some(match self {
            Self::U8(v) => (*v).into(),
            Self::I8(v) => (*v).into(),
            Self::U16(v) => (*v).into(),
            Self::I16(v) => (*v).into(),
            Self::U32(v) => (*v).into(),
            Self::I32(v) => (*v).into(),
            Self::U64(v) => (*v).into(),
            Self::I64(v) => (*v).into(),
            _ => return None,
        })
    }
}

impl fmt::Display for Value {
    /// Numbers and texts as they are; arrays by type and length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32(v) => write!(f, "{v}"),
            Self::F64(v) => write!(f, "{v}"),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Str(v) => write!(f, "{v}"),
            Self::Array(_) => write!(f, "{}", self.kind()),
            _ => write!(f, "{}", self.integer().unwrap_or_default()),
        }
    }
}

/// One tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name, unique in the file.
    pub name: String,
    /// Its dimensions in GGUF order, innermost first; one to four, none zero.
    pub dims: Vec<usize>,
    /// How its elements are stored.
    pub encoding: Encoding,
    /// Where its bytes lie, from the start of the file; proved to be inside it.
    pub range: Range<usize>,
}

/// The parsed and checked header of a GGUF file.
#[derive(Debug, Clone)]
pub struct Gguf {
    path: PathBuf,
    version: u32,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
}

impl Gguf {
    /// Parses the whole file `bytes`; `path` only names it in errors.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] with the entry at fault when the file is truncated, its counts or
    /// lengths exceed it, a key or tensor name is repeated or malformed, an array nests too
    /// deeply, or a tensor is empty, of a type not read here, misaligned, outside the file or
    /// overlapping another.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader { path, bytes, at: 0 };
        if reader.take(4, "the magic word")? != MAGIC {
            return Err(reader.fail("does not start with `GGUF`"));
        }
        let version = reader.u32("the version")?;
        match version {
            2 | 3 => {}
            _ if matches!(version.swap_bytes(), 2 | 3) => {
                return Err(reader.fail("is a big-endian GGUF file, expected little-endian"));
            }
            _ => return Err(reader.fail(format!("is GGUF version {version}, expected 2 or 3"))),
        }
        let tensor_count = reader.u64("the tensor count")?;
        let entry_count = reader.u64("the metadata count")?;
        reader.expect_room(entry_count, MIN_ENTRY_BYTES, "metadata entries")?;
        let metadata = reader.metadata(entry_count)?;
        reader.expect_room(tensor_count, MIN_TENSOR_BYTES, "tensors")?;
        let stated = reader.tensors(tensor_count)?;

        let mut gguf = Self {
            path: path.into(),
            version,
            metadata,
            tensors: Vec::new(),
        };
        let alignment = gguf.alignment()?;
        gguf.tensors = place(path, stated, reader.at as u64, alignment, bytes.len())?;
        Ok(gguf)
    }

    /// The file's name, as given to [`parse`](Self::parse).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format's version, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All metadata, by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// All tensors, in the order of the file's table.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Whether the metadata has `key`.
    pub fn has(&self, key: &str) -> bool {
        self.metadata.contains_key(key)
    }

    /// The integer at `key`, of any stored width, if it fits 32 bits.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] naming the key, `u32` and what was found instead.
    pub fn u32(&self, key: &str) -> Result<u32> {
        self.typed(key, "u32", |value| u32::try_from(value.integer()?).ok())
    }

    /// The integer at `key`, of any stored width, if it is not negative.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] naming the key, `u64` and what was found instead.
    pub fn u64(&self, key: &str) -> Result<u64> {
        self.typed(key, "u64", |value| u64::try_from(value.integer()?).ok())
    }

    /// The single-precision number at `key`.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] naming the key, `f32` and what was found instead.
    pub fn f32(&self, key: &str) -> Result<f32> {
        self.typed(key, "f32", |value| match value {
            Value::F32(v) => Some(*v),
            _ => None,
        })
    }

    /// The truth value at `key`.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] naming the key, `bool` and what was found instead.
    pub fn bool(&self, key: &str) -> Result<bool> {
        self.typed(key, "bool", |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// The text at `key`.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] naming the key, `string` and what was found instead.
    pub fn str(&self, key: &str) -> Result<&str> {
        self.typed(key, "string", |value| match value {
            Value::Str(v) => Some(v.as_str()),
            _ => None,
        })
    }

    /// The texts at `key`.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] naming the key, `array of string` and what was found instead.
    pub fn strings(&self, key: &str) -> Result<&[String]> {
        self.typed(key, "array of string", |value| match value {
            Value::Array(Array::Str(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// The signed integers at `key`.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] naming the key, `array of i32` and what was found instead.
    pub fn i32s(&self, key: &str) -> Result<&[i32]> {
        self.typed(key, "array of i32", |value| match value {
            Value::Array(Array::I32(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// The single-precision numbers at `key`.
    ///
    /// # Errors
    ///
    /// [`Error::Weights`] naming the key, `array of f32` and what was found instead.
    pub fn f32s(&self, key: &str) -> Result<&[f32]> {
        self.typed(key, "array of f32", |value| match value {
            Value::Array(Array::F32(v)) => Some(v.as_slice()),
            _ => None,
        })
    }

    /// The value at `key` as `read` understands it, or an error that says what was expected.
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<T> {
        let value = self.metadata.get(key).ok_or_else(|| {
            Error::weights(
                &self.path,
                format!("metadata `{key}` is missing, expected {expected}"),
            )
        })?;
        read(value).ok_or_else(|| {
            let found = match value.integer() {
                Some(number) => format!("{} {number}", value.kind()),
                None => value.kind(),
            };
            Error::weights(
                &self.path,
                format!("metadata `{key}` is {found}, expected {expected}"),
            )
        })
    }

    /// The multiple, in bytes, that every tensor's offset must be of.
    fn alignment(&self) -> Result<u64> {
        const KEY: &str = "general.alignment";
        if !self.has(KEY) {
            return Ok(32);
        }
        let alignment = self.u32(KEY)?;
        if !alignment.is_power_of_two() {
            let problem = format!("metadata `{KEY}` is {alignment}, expected a power of two");
            return Err(Error::weights(&self.path, problem));
        }
        Ok(alignment.into())
    }
}

/// A tensor as the table states it, before its place is checked.
struct Stated {
    name: String,
    dims: Vec<u64>,
    encoding: Encoding,
    /// From the start of the data section.
    offset: u64,
}

/// Proves that every stated tensor lies aligned inside a file of `file_len` bytes whose header
/// ends at `header_end`, and that no two share a byte.
fn place(
    path: &Path,
    stated: Vec<Stated>,
    header_end: u64,
    alignment: u64,
    file_len: usize,
) -> Result<Vec<TensorInfo>> {
    let data_start = header_end.checked_next_multiple_of(alignment);
    let mut tensors = Vec::with_capacity(stated.len());
    for Stated {
        name,
        dims,
        encoding,
        offset,
    } in stated
    {
        let fail = |problem: String| Error::weights(path, format!("tensor `{name}` {problem}"));
        let (per_block, _) = encoding.block();
        if !dims[0].is_multiple_of(per_block as u64) {
            return Err(fail(format!(
                "has rows of {}, expected a multiple of {per_block} for {encoding}",
                dims[0]
            )));
        }
        if !offset.is_multiple_of(alignment) {
            return Err(fail(format!(
                "starts at offset {offset}, expected a multiple of {alignment}"
            )));
        }
        let elements = dims
            .iter()
            .try_fold(1_u64, |product, dim| product.checked_mul(*dim));
        let len = elements.and_then(|elements| encoding.byte_len(elements));
        let Some(len) = len else {
            return Err(fail(format!("has shape {dims:?}, whose size overflows")));
        };
        let start = data_start.and_then(|start| start.checked_add(offset));
        let end = start.and_then(|start| start.checked_add(len));
        let range = start.zip(end).filter(|(_, end)| *end <= file_len as u64);
        let Some((start, end)) = range else {
            let problem = format!(
                "takes {len} bytes from offset {offset}, past the end of the file ({file_len} bytes)"
            );
            return Err(fail(problem));
        };
        // both ends are at most `file_len`, and no dimension exceeds the bytes it describes
        // by more than a block, so they all fit `usize`
        let dims = dims
            .iter()
            .map(|dim| usize::try_from(*dim))
            .collect::<Result<_, _>>();
        let dims = dims.map_err(|_| fail("is too large for this machine".into()))?;
        tensors.push(TensorInfo {
            name,
            dims,
            encoding,
            range: start as usize..end as usize,
        });
    }
    refuse_overlap(path, &tensors)?;
    Ok(tensors)
}

/// Fails if two tensors share a byte.
fn refuse_overlap(path: &Path, tensors: &[TensorInfo]) -> Result<()> {
    let mut by_start: Vec<_> = tensors.iter().collect();
    by_start.sort_by_key(|tensor| tensor.range.start);
    for pair in by_start.windows(2) {
        if pair[1].range.start < pair[0].range.end {
            let problem = format!("tensors `{}` and `{}` overlap", pair[0].name, pair[1].name);
            return Err(Error::weights(path, problem));
        }
    }
    Ok(())
}

/// A cursor over the file that never reads past its end.
struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn fail(&self, problem: impl Into<String>) -> Error {
        Error::weights(self.path, problem)
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }

    /// The next `len` bytes, which hold `what`.
    fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8]> {
        let left = self.left();
        if len > left {
            let problem = format!(
                "{what} at byte {} takes {len} bytes, but only {left} are left",
                self.at
            );
            return Err(self.fail(problem));
        }
        let taken = &self.bytes[self.at..][..len as usize];
        self.at += taken.len();
        Ok(taken)
    }

    /// Fails unless `count` things of at least `least` bytes each can follow.
    fn expect_room(&self, count: u64, least: u64, what: &str) -> Result<()> {
        if count > self.left() / least {
            let problem = format!(
                "claims {count} {what}, but only {} bytes are left",
                self.left()
            );
            return Err(self.fail(problem));
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let taken = self.take(N as u64, what)?;
        Ok(taken
            .try_into()
            .expect("`take` returns as many bytes as asked for"))
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A length-prefixed text of at most `longest` bytes.
    fn text(&mut self, longest: u64, what: &str) -> Result<&'a str> {
        let len = self.u64(what)?;
        if len > longest.min(self.left()) {
            let problem = format!(
                "{what} claims {len} bytes of text, expected at most {}",
                longest.min(self.left())
            );
            return Err(self.fail(problem));
        }
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes).map_err(|_| self.fail(format!("{what} is not UTF-8")))
    }

    /// A key or a name: a text that is not empty and has no control characters.
    fn name(&mut self, longest: u64, what: &str) -> Result<&'a str> {
        let name = self.text(longest, what)?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(self.fail(format!("{what} is {name:?}, expected a printable name")));
        }
        Ok(name)
    }

    fn metadata(&mut self, count: u64) -> Result<BTreeMap<String, Value>> {
        let mut metadata = BTreeMap::new();
        for _ in 0..count {
            let key = self.name(MAX_KEY, "a metadata key")?;
            let what = format!("metadata `{key}`");
            let kind = self.u32(&what)?;
            let value = self.value(kind, &what)?;
            if metadata.insert(key.to_owned(), value).is_some() {
                return Err(self.fail(format!("{what} appears twice")));
            }
        }
        Ok(metadata)
    }

    fn value(&mut self, kind: u32, what: &str) -> Result<Value> {
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array(what)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(what)?)),
            4 => Value::U32(u32::from_le_bytes(self.array(what)?)),
            5 => Value::I32(i32::from_le_bytes(self.array(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(what)?)),
            7 => Value::Bool(self.truth(what)?),
            8 => Value::Str(self.text(u64::MAX, what)?.into()),
            9 => Value::Array(self.items(what, 1)?),
            10 => Value::U64(u64::from_le_bytes(self.array(what)?)),
            11 => Value::I64(i64::from_le_bytes(self.array(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(what)?)),
            _ => return Err(self.fail(format!("{what} has the unknown type {kind}"))),
        })
    }

    fn truth(&mut self, what: &str) -> Result<bool> {
        match self.array(what)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [byte] => Err(self.fail(format!("{what} is {byte}, expected a bool of 0 or 1"))),
        }
    }

    /// The items of an array that is itself `depth` arrays deep.
    fn items(&mut self, what: &str, depth: usize) -> Result<Array> {
        if depth > MAX_DEPTH {
            return Err(self.fail(format!("{what} nests arrays more than {MAX_DEPTH} deep")));
        }
        let kind = self.u32(what)?;
        let count = self.u64(what)?;
        Ok(match kind {
            0 => Array::U8(self.numbers(count, what, u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(count, what, i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(count, what, u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(count, what, i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(count, what, u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(count, what, i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(count, what, f32::from_le_bytes)?),
            7 => Array::Bool(self.each(count, 1, what, |reader| reader.truth(what))?),
            8 => Array::Str(self.each(count, 8, what, |reader| {
                Ok(reader.text(u64::MAX, what)?.into())
            })?),
            9 => Array::Array(self.each(count, 12, what, |reader| reader.items(what, depth + 1))?),
            10 => Array::U64(self.numbers(count, what, u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(count, what, i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(count, what, f64::from_le_bytes)?),
            _ => return Err(self.fail(format!("{what} is an array of the unknown type {kind}"))),
        })
    }

    /// `count` numbers of `N` bytes each.
    fn numbers<const N: usize, T>(
        &mut self,
        count: u64,
        what: &str,
        read: fn([u8; N]) -> T,
    ) -> Result<Vec<T>> {
        self.expect_room(count, N as u64, &format!("items in {what}"))?;
        let bytes = self.take(count * N as u64, what)?;
        Ok(bytes
            .as_chunks()
            .0
            .iter()
            .map(|chunk| read(*chunk))
            .collect())
    }

    /// `count` items of at least `least` bytes each, read one by one.
    fn each<T>(
        &mut self,
        count: u64,
        least: u64,
        what: &str,
        mut read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.expect_room(count, least, &format!("items in {what}"))?;
        (0..count).map(|_| read(self)).collect()
    }

    fn tensors(&mut self, count: u64) -> Result<Vec<Stated>> {
        let mut tensors = Vec::new();
        let mut names = HashSet::new();
        for _ in 0..count {
            let name = self.name(MAX_NAME, "a tensor name")?;
            let what = format!("tensor `{name}`");
            if !names.insert(name) {
                return Err(self.fail(format!("{what} appears twice")));
            }
            let rank = self.u32(&what)?;
            if !(1..=MAX_DIMS).contains(&rank) {
                return Err(self.fail(format!(
                    "{what} has {rank} dimensions, expected 1 to {MAX_DIMS}"
                )));
            }
            let dims = self.numbers(rank.into(), &what, i64::from_le_bytes)?;
            if dims.iter().any(|dim| *dim <= 0) {
                return Err(self.fail(format!(
                    "{what} has shape {dims:?}, expected positive dimensions"
                )));
            }
            let number = self.u32(&what)?;
            let encoding = Encoding::from_ggml(number).map_err(|kind| {
                self.fail(format!(
                    "{what} is {kind}, expected one of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K"
                ))
            })?;
            let offset = self.u64(&what)?;
            let dims = dims.iter().map(|dim| dim.unsigned_abs()).collect();
            tensors.push(Stated {
                name: name.into(),
                dims,
                encoding,
                offset,
            });
        }
        Ok(tensors)
    }
}
