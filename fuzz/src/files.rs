//! Readers take paths, so bytes become files: in memory where the system has a folder there.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder that is gone when it is dropped.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let made = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        Self(made.expect("a temporary folder"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, bytes).expect("a temporary file");
        path
    }
}

/// Several files in one input, so that it can be read and mutated as a text: each begins with a line `== name`. Names that are
/// not among `names` are passed over.
pub fn parts<'b, 'n>(bytes: &'b [u8], names: &[&'n str]) -> Vec<(&'n str, &'b [u8])> {
    const MARK: &[u8] = b"== ";
    let begins =
        |at: &usize| bytes[*at..].starts_with(MARK) && (*at == 0 || bytes[at - 1] == b'\n');
    let starts: Vec<usize> = (0..bytes.len()).filter(begins).collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let parts = starts.iter().zip(ends).filter_map(|(start, end)| {
        let part = &bytes[start + MARK.len()..end];
        let line = part.iter().position(|byte| *byte == b'\n')?;
        let name = names.iter().find(|name| name.as_bytes() == &part[..line])?;
        Some((*name, &part[line + 1..]))
    });
    parts.collect()
}
