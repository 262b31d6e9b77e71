//! Reading and writing volumes: everything a file can get wrong, and what must survive.

mod affine;
mod atomic;
mod good;
mod labels;
mod nifti_crate;
mod refused;

use std::fs;
use std::path::{Path, PathBuf};

use keraunos::error::{Error, Result};
use keraunos::pipeline::volume::{Labels, Names, Volume, write_labels};
use tempfile::TempDir;

#[path = "../support/shared.rs"]
mod shared;
use shared::shared;
#[path = "../support/nifti.rs"]
mod made;
use made::{Made, gzip};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file in a temporary folder");
        path
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .expect("the folder")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }
}

fn read(name: &str, bytes: &[u8]) -> Result<Volume> {
    let folder = Folder::new();
    Volume::read(&folder.put(name, bytes))
}

/// The field and sentence of a refusal.
#[track_caller]
fn refusal<T>(result: Result<T>) -> String {
    match result {
        Err(Error::Volume { field, problem, .. }) => format!("{field} {problem}"),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[track_caller]
fn refused(name: &str, bytes: &[u8], words: &str) {
    let message = refusal(read(name, bytes));
    assert!(
        message.contains(words),
        "`{message}` does not say `{words}`"
    );
}

#[track_caller]
fn warned(volume: &Volume, words: &str) {
    assert!(
        volume
            .warnings
            .iter()
            .any(|warning| warning.contains(words)),
        "{:?} do not say `{words}`",
        volume.warnings
    );
}
