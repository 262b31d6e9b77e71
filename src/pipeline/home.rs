//! Where models live on this machine, and which models there are.
//!
//! Keraunos keeps its models in one flat folder, its home: `--model-dir`, else `KERAUNOS_HOME`,
//! else the platform's folder for application data. A model that is not there is looked for in
//! the cache that the Hugging Face tools keep, so that nothing is fetched twice. What a model
//! consists of, and the hash of every file, is written in `weights/manifest.json`.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::pipeline::files;

/// The sentence encoder that reads the instruction; found as a folder.
pub const TEXT_ENCODER: &str = "all-MiniLM-L6-v2";
/// The language model that writes the instruction; found as a file.
pub const LANGUAGE_MODEL: &str = "SmolLM2-135M-Instruct-Q4_1";

/// The models that this version knows.
static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    Manifest::parse(include_str!("../../weights/manifest.json"))
        .expect("the embedded manifest is well-formed")
});

/// A list of models.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The models, in the order in which they are fetched.
    pub models: Vec<Model>,
}

/// A published model: its files, and where they can be had.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What the model is called in commands and reports.
    pub name: String,
    /// What it does here, in a word or two.
    pub role: String,
    /// Its licence, as an SPDX identifier.
    pub licence: String,
    /// Whether the program wants it for what it does by default; the others are fetched by name alone.
    #[serde(default)]
    pub needed: bool,
    /// Its folder inside the home; empty for a model of one file, which lies there directly.
    pub folder: String,
    /// Its files.
    pub files: Vec<ModelFile>,
    /// The safetensors file that is made of its one file, a PyTorch checkpoint, when that was fetched.
    #[serde(default)]
    pub converted: Option<String>,
    /// Where the Hugging Face hub has it, if it has.
    #[serde(default)]
    pub hub: Option<Hub>,
    /// The Python package that carries the same files, if there is one.
    #[serde(default)]
    pub package: Option<Package>,
}

/// One file of a model.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Its name in the home.
    pub name: String,
    /// Its name at the sources, which is accepted in the home as well.
    pub origin: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: String,
    /// Where its makers publish it, if that is not the hub.
    #[serde(default)]
    pub url: Option<String>,
}

/// A place on the Hugging Face hub.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hub {
    /// `organisation/name`.
    pub repo: String,
    /// The commit that the hashes are of.
    pub revision: String,
}

/// A published Python wheel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// The name that pip knows.
    pub name: String,
    /// The version that the hashes are of.
    pub version: String,
    /// The folder inside the wheel that holds the files.
    pub folder: String,
}

impl Model {
    /// The size of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

impl Manifest {
    /// The manifest that is part of the program.
    pub fn embedded() -> &'static Self {
        &MANIFEST
    }

    /// Reads a manifest.
    ///
    /// # Errors
    ///
    /// The JSON reader's words, with line and column.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The model called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] with the names there are.
    pub fn model(&self, name: &str) -> Result<&Model> {
        self.models
            .iter()
            .find(|model| model.name == name)
            .ok_or_else(|| {
                let known: Vec<_> = self
                    .models
                    .iter()
                    .map(|model| format!("`{}`", model.name))
                    .collect();
                Error::Argument(format!(
                    "no model is called `{name}`; known are {}",
                    known.join(", ")
                ))
            })
    }
}

/// The folders in which models are looked for.
#[derive(Debug, Clone)]
pub struct Home {
    root: PathBuf,
    hub_cache: Option<PathBuf>,
}

impl Home {
    /// The home at `model_dir` if given, else where the environment says, with the Hugging Face
    /// cache behind it.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if no folder is given and the user has no home folder.
    pub fn new(model_dir: Option<&Path>) -> Result<Self> {
        let root = model_dir
            .map(Path::to_path_buf)
            .or_else(|| variable("KERAUNOS_HOME"))
            .or_else(data_folder);
        let root = root.ok_or_else(|| {
            Error::Argument(
                "no folder for models is known; set KERAUNOS_HOME or give --model-dir".into(),
            )
        })?;
        Ok(Self {
            root,
            hub_cache: hub_cache_folder(),
        })
    }

    /// The home at `root`, with the Hugging Face cache at `hub_cache` or none.
    pub fn at(root: impl Into<PathBuf>, hub_cache: Option<PathBuf>) -> Self {
        Self {
            root: root.into(),
            hub_cache,
        }
    }

    /// The folder that models are kept in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the Hugging Face cache, if one is known.
    pub fn hub_cache(&self) -> Option<&Path> {
        self.hub_cache.as_deref()
    }

    /// The folder of a model's files in the home.
    pub fn folder(&self, model: &Model) -> PathBuf {
        // joining an empty path would add a slash
        if model.folder.is_empty() {
            self.root.clone()
        } else {
            self.root.join(&model.folder)
        }
    }

    /// The folder of a model's files in the Hugging Face cache, at the manifest's revision.
    pub fn hub_snapshot(&self, model: &Model) -> Option<PathBuf> {
        let revision = &model.hub.as_ref()?.revision;
        Some(self.hub_repo(model)?.join("snapshots").join(revision))
    }

    /// Where the model called `name` is: its folder, or the file if it has but one.
    ///
    /// Presence and size are checked, not the hash: that is [`pull`](super::pull)'s business.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] for an unknown name, [`Error::MissingModel`] with the folders looked in.
    pub fn locate(&self, name: &str) -> Result<PathBuf> {
        let model = Manifest::embedded().model(name)?;
        let places = self.places(model);
        let found = places.iter().find_map(|place| complete(model, place));
        found.ok_or_else(|| {
            let looked: Vec<_> = places
                .iter()
                .map(|place| format!("`{}`", place.display()))
                .collect();
            Error::MissingModel {
                model: name.into(),
                looked: looked.join(", "),
            }
        })
    }

    /// The files of a model on this machine whose content is not the manifest's; reads all of it.
    ///
    /// # Errors
    ///
    /// As [`locate`](Self::locate), and [`Error::Read`].
    pub fn altered(&self, name: &str) -> Result<Vec<PathBuf>> {
        let found = self.locate(name)?;
        let mut altered = Vec::new();
        for file in &Manifest::embedded().model(name)?.files {
            let path = match &Manifest::embedded().model(name)?.converted {
                Some(_) => found.with_file_name(&file.name),
                None if found.is_dir() => found.join(&file.name),
                None => found.clone(),
            };
            if files::sha256(&path)? != file.sha256 {
                altered.push(path);
            }
        }
        Ok(altered)
    }

    /// The folders that may hold the model, best first.
    fn places(&self, model: &Model) -> Vec<PathBuf> {
        let mut places = vec![self.folder(model)];
        places.extend(self.hub_snapshot(model));
        places.extend(self.hub_main(model));
        places.dedup();
        places
    }

    /// The snapshot that the hub's main branch was at when it was last asked.
    fn hub_main(&self, model: &Model) -> Option<PathBuf> {
        let repo = self.hub_repo(model)?;
        let commit = std::fs::read_to_string(repo.join("refs/main")).ok()?;
        let commit = commit.trim();
        let plain = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| repo.join("snapshots").join(commit))
    }

    fn hub_repo(&self, model: &Model) -> Option<PathBuf> {
        let repo = &model.hub.as_ref()?.repo;
        let folder = format!("models--{}", repo.replace('/', "--"));
        Some(self.hub_cache.as_ref()?.join(folder))
    }
}

/// The model at `folder`, if every file is there with its size: the folder, or its one file, or what was made of that.
fn complete(model: &Model, folder: &Path) -> Option<PathBuf> {
    let is_there = |path: &PathBuf, size: u64| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == size)
    };
    match model.files.as_slice() {
        [file] if let Some(converted) = &model.converted => {
            let made = folder.join(converted);
            let all = is_there(&folder.join(&file.name), file.size) && made.is_file();
            all.then_some(made)
        }
        [file] => {
            let names = [&file.name, &file.origin];
            names
                .map(|name| folder.join(name))
                .into_iter()
                .find(|path| is_there(path, file.size))
        }
        files => {
            let all = files
                .iter()
                .all(|file| is_there(&folder.join(&file.name), file.size));
            all.then(|| folder.to_path_buf())
        }
    }
}

/// The path in an environment variable, with a leading `~` replaced; `None` when unset or empty.
fn variable(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(name).filter(|value| !value.is_empty())?);
    match path.strip_prefix("~") {
        Ok(rest) => Some(user_folder()?.join(rest)),
        Err(_) => Some(path),
    }
}

/// The user's own folder.
fn user_folder() -> Option<PathBuf> {
    env::home_dir().filter(|path| !path.as_os_str().is_empty())
}

/// The platform's folder for this program's data.
fn data_folder() -> Option<PathBuf> {
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")?
    } else if let Some(base) = variable("XDG_DATA_HOME") {
        base
    } else if cfg!(target_os = "macos") {
        user_folder()?.join("Library/Application Support")
    } else {
        user_folder()?.join(".local/share")
    };
    Some(base.join("keraunos"))
}

/// The folder for what can be found out again: `KERAUNOS_CACHE`, else the platform's folder for caches.
pub fn cache_folder() -> Option<PathBuf> {
    if let Some(folder) = variable("KERAUNOS_CACHE") {
        return Some(folder);
    }
    if cfg!(windows) {
        return Some(variable("LOCALAPPDATA")?.join("keraunos/cache"));
    }
    let base = if let Some(base) = variable("XDG_CACHE_HOME") {
        base
    } else if cfg!(target_os = "macos") {
        user_folder()?.join("Library/Caches")
    } else {
        user_folder()?.join(".cache")
    };
    Some(base.join("keraunos"))
}

/// The folder in which the Hugging Face tools cache whole repositories.
fn hub_cache_folder() -> Option<PathBuf> {
    if let Some(cache) = variable("HF_HUB_CACHE").or_else(|| variable("HUGGINGFACE_HUB_CACHE")) {
        return Some(cache);
    }
    let home = variable("HF_HOME")
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("huggingface")))
        .or_else(|| Some(user_folder()?.join(".cache/huggingface")))?;
    Some(home.join("hub"))
}
