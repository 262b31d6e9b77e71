//! Everything that can go wrong outside our own code, as one enum.
//!
//! A message is one lower-case sentence fragment that names the file, the field and the value.
//! Mistakes of our own (a shape that does not fit after the weights were checked) panic instead.

use std::path::{Path, PathBuf};

/// The result of every fallible function of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in words a user can act on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or read.
    #[error("cannot read `{path}`: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file could not be written; nothing is left under its final name.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A volume that is damaged, unsupported or implausible.
    #[error("`{path}`: {field} {problem}")]
    Volume {
        /// The volume's file.
        path: PathBuf,
        /// The header field or part of the file at fault.
        field: &'static str,
        /// What is wrong with it, with the value found.
        problem: String,
    },
    /// A checkpoint whose container or tensors are not what the model needs.
    #[error("weights `{path}`: {problem}")]
    Weights {
        /// The safetensors or GGUF file.
        path: PathBuf,
        /// The tensor or field, what was expected and what was found.
        problem: String,
    },
    /// A volume, or a model and what it is to write, that is too large for this machine.
    #[error("`{path}`: needs about {needs} of memory, this machine has {has} left")]
    Memory {
        /// The volume, the first of several, or the model.
        path: PathBuf,
        /// How much is needed.
        needs: String,
        /// How much there is.
        has: String,
    },
    /// A tokenizer, chat template or model configuration that cannot be used.
    #[error("`{path}`: {problem}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A model file that has not been fetched yet.
    #[error("{model} is not on this machine (looked in {looked}); run `keraunos pull {model}`")]
    MissingModel {
        /// The model's name.
        model: String,
        /// Where it was looked for.
        looked: String,
    },
    /// No graphics adapter at all.
    #[error("no graphics adapter found: {0}")]
    NoAdapter(String),
    /// `--device` names an adapter that does not exist.
    #[error("no adapter matches `{name}`; found: {found}")]
    UnknownDevice {
        /// What was asked for.
        name: String,
        /// The adapters there are.
        found: String,
    },
    /// A kernel that the adapter's driver refuses.
    #[error("kernel `{name}`: {problem}")]
    Kernel {
        /// The kernel's stem.
        name: String,
        /// The shader compiler's words.
        problem: String,
    },
    /// The adapter failed or is too small.
    #[error("gpu: {0}")]
    Gpu(String),
    /// `--find` names a structure that the model does not know.
    #[error("unknown structure `{name}`; the nearest names are {nearest}")]
    UnknownStructure {
        /// What was asked for.
        name: String,
        /// The nearest known names, quoted and joined.
        nearest: String,
    },
    /// An argument or a combination of arguments that makes no sense.
    #[error("{0}")]
    Argument(String),
    /// A download that failed or whose hash is wrong.
    #[error("cannot fetch `{url}`: {problem}")]
    Fetch {
        /// The address.
        url: String,
        /// What happened.
        problem: String,
    },
}

impl Error {
    /// A read error of `path`.
    pub fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Read {
            path: path.into(),
            source,
        }
    }

    /// A write error of `path`.
    pub fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Write {
            path: path.into(),
            source,
        }
    }

    /// A fault in `field` of the volume at `path`.
    pub fn volume(path: &Path, field: &'static str, problem: impl Into<String>) -> Self {
        Self::Volume {
            path: path.into(),
            field,
            problem: problem.into(),
        }
    }

    /// A fault of the checkpoint at `path`.
    pub fn weights(path: &Path, problem: impl Into<String>) -> Self {
        Self::Weights {
            path: path.into(),
            problem: problem.into(),
        }
    }

    /// A fault of the configuration file at `path`.
    pub fn config(path: &Path, problem: impl Into<String>) -> Self {
        Self::Config {
            path: path.into(),
            problem: problem.into(),
        }
    }
}
