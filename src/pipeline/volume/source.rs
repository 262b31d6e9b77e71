//! A file as a stream of bytes, inflated on the way, of which no more is believed than is there.

use std::fs::{self, File};
use std::io::{self, BufReader, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// Deflate cannot shrink data further than this factor.
const MAX_RATIO: u64 = 1032;
/// The most bytes that may follow the voxels.
const MAX_TAIL: u64 = 1 << 26;
/// The bytes read at a time; a multiple of every voxel's size.
pub(super) const CHUNK: usize = 1 << 18;

/// A file of bytes, inflated on the way if it is compressed.
pub(super) struct Source {
    pub(super) path: PathBuf,
    reader: Box<dyn Read>,
    pub(super) compressed: bool,
    /// The most bytes that can come out of it.
    pub(super) capacity: u64,
    /// The bytes that came out so far.
    pub(super) position: u64,
}

impl Source {
    /// Opens a regular file and inflates it if its first bytes are gzip's.
    pub(super) fn open(path: &Path, warnings: &mut Vec<String>) -> Result<Self> {
        let mut source = Self::plain(path)?;
        let magic = source.take(2)?;
        let compressed = magic == [0x1f, 0x8b];
        let name = path.to_string_lossy().to_ascii_lowercase();
        let named = name.ends_with(".gz") || name.ends_with(".mgz");
        match (compressed, named) {
            (true, false) => warnings.push("the file is gzip-compressed, unlike its name".into()),
            (false, true) => warnings.push("the file is not compressed, unlike its name".into()),
            _ => {}
        }
        let rest = std::mem::replace(&mut source.reader, Box::new(io::empty()));
        source.reader = Box::new(Cursor::new(magic).chain(rest));
        source.position = 0;
        if compressed {
            source.inflate();
        }
        Ok(source)
    }

    /// Opens a regular file as it is.
    pub(super) fn plain(path: &Path) -> Result<Self> {
        let found = fs::metadata(path).map_err(Error::read(path))?;
        let refused = |problem: &str| Err(Error::volume(path, "file", problem));
        if found.is_dir() {
            return refused("is a folder; give one volume");
        }
        if !found.is_file() {
            return refused("is not a regular file");
        }
        if found.len() == 0 {
            return refused("is empty");
        }
        let file = File::open(path).map_err(Error::read(path))?;
        Ok(Self {
            path: path.into(),
            reader: Box::new(BufReader::with_capacity(CHUNK, file)),
            compressed: false,
            capacity: found.len(),
            position: 0,
        })
    }

    /// Takes what follows for gzip, one member or several; positions count from here on.
    pub(super) fn inflate(&mut self) {
        let reader = std::mem::replace(&mut self.reader, Box::new(io::empty()));
        let reader = BufReader::with_capacity(CHUNK, reader);
        self.reader = Box::new(MultiGzDecoder::new(reader));
        self.compressed = true;
        let left = self.capacity.saturating_sub(self.position);
        self.capacity = left.saturating_mul(MAX_RATIO);
        self.position = 0;
    }

    /// What to say about a failed read.
    fn failed(&self, error: io::Error) -> Error {
        match error.kind() {
            ErrorKind::UnexpectedEof if self.compressed => Error::volume(
                &self.path,
                "gzip stream",
                "ends too early: the file is truncated",
            ),
            ErrorKind::InvalidInput | ErrorKind::InvalidData if self.compressed => {
                Error::volume(&self.path, "gzip stream", format!("is damaged: {error}"))
            }
            _ => Error::read(&self.path)(error),
        }
    }

    /// Up to `count` further bytes; fewer only at the end of the file.
    pub(super) fn take(&mut self, count: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(count).read_to_end(&mut bytes);
        read.map_err(|error| self.failed(error))?;
        self.position += bytes.len() as u64;
        Ok(bytes)
    }

    /// Reads `count` bytes and forgets them; the end of the file may come before.
    pub(super) fn skip(&mut self, count: u64) -> Result<()> {
        let copied = io::copy(&mut (&mut self.reader).take(count), &mut io::sink());
        self.position += copied.map_err(|error| self.failed(error))?;
        Ok(())
    }

    /// The bytes up to the next line feed, which is read too; nothing at the end of the file. No more than `most`
    /// are read: a line that has no end by then comes back with its line feed missing from the count.
    pub(super) fn line(&mut self, most: u64) -> Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut byte = [0];
        for _ in 0..most {
            let read = loop {
                match self.reader.read(&mut byte) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read.map_err(|error| self.failed(error))?,
                }
            };
            self.position += read as u64;
            match (read, byte[0]) {
                (0, _) if line.is_empty() => return Ok(None),
                (0, _) | (_, b'\n') => break,
                (_, other) => line.push(other),
            }
        }
        Ok(Some(line))
    }

    /// Fills `bytes`, of which `wanted` in all should be there.
    pub(super) fn fill(&mut self, bytes: &mut [u8], wanted: u64) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.reader.read(&mut bytes[done..]) {
                Ok(0) => {
                    let found = self.position + done as u64;
                    return Err(Error::volume(
                        &self.path,
                        "file",
                        format!(
                            "is truncated: it holds {found} bytes, the header asks for {wanted}"
                        ),
                    ));
                }
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// Reads and counts what is left, which makes a decoder check its checksum.
    pub(super) fn drain(&mut self) -> Result<u64> {
        let copied = io::copy(&mut (&mut self.reader).take(MAX_TAIL + 1), &mut io::sink());
        let rest = copied.map_err(|error| self.failed(error))?;
        if rest > MAX_TAIL {
            let problem = format!("goes on for more than {MAX_TAIL} bytes after the voxels");
            return Err(Error::volume(&self.path, "file", problem));
        }
        Ok(rest)
    }
}
