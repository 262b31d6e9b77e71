//! Which models there are, and where: the one that is part of the program, and those that `keraunos pull` fetches.

use std::path::PathBuf;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::card::Card;
use super::describe::lvlm;
use super::home::{Home, Manifest};
use super::segmenter::ZEUS_MINI;
use crate::error::{Error, Result};

/// A model that this version knows.
#[derive(Clone, Debug, Serialize)]
pub struct KnownModel {
    /// What it is called, by `keraunos pull` too.
    pub name: &'static str,
    /// What it is for; reports name the hash of its weights by this word.
    pub role: &'static str,
    /// Its licence, as an SPDX expression.
    pub licence: &'static str,
    /// The size of its files.
    pub bytes: u64,
    /// Whether it is part of the program.
    pub embedded: bool,
    /// Where it is on this machine: its folder, or its file if it has but one. Null for what is part of the program, or not
    /// here.
    pub path: Option<PathBuf>,
    /// The command that fetches it; null where it is here.
    pub fetch: Option<String>,
    /// Its files.
    pub files: Vec<KnownFile>,
}

/// One file of a model.
#[derive(Clone, Debug, Serialize)]
pub struct KnownFile {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: String,
}

/// All models, the embedded ones first. Of those in `home` presence and size are looked at, not the content
/// ([`Home::altered`]).
///
/// # Errors
/// Those of [`Home::locate`], but for a model that is not there.
pub fn models(home: &Home) -> Result<Vec<KnownModel>> {
    let mut models = vec![embedded(), projector()?];
    for model in &Manifest::embedded().models {
        let path = match home.locate(&model.name) {
            Ok(path) => Some(path),
            Err(Error::MissingModel { .. }) => None,
            Err(error) => return Err(error),
        };
        let files = model.files.iter().map(|file| KnownFile {
            name: file.name.clone(),
            bytes: file.size,
            sha256: file.sha256.clone(),
        });
        models.push(KnownModel {
            name: &model.name,
            role: &model.role,
            licence: &model.licence,
            bytes: model.bytes(),
            embedded: false,
            fetch: path
                .is_none()
                .then(|| format!("keraunos pull {}", model.name)),
            path,
            files: files.collect(),
        });
    }
    Ok(models)
}

fn embedded() -> KnownModel {
    let card = Card::zeus_mini();
    let hash = Sha256::digest(ZEUS_MINI);
    let bytes = ZEUS_MINI.len() as u64;
    KnownModel {
        name: &card.name,
        role: &card.role,
        licence: &card.licence,
        bytes,
        embedded: true,
        path: None,
        fetch: None,
        files: vec![KnownFile {
            name: format!("{}.safetensors", card.name),
            bytes,
            sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
        }],
    }
}

/// What lets the language model see, of the same licence as the embedded model.
fn projector() -> Result<KnownModel> {
    let checkpoint = lvlm::projector()?;
    let bytes = checkpoint.byte_len() as u64;
    Ok(KnownModel {
        name: "zeus-mini-projector",
        role: "projector",
        bytes,
        files: vec![KnownFile {
            name: "zeus-mini-projector.safetensors".to_owned(),
            bytes,
            sha256: checkpoint.sha256(),
        }],
        ..embedded()
    })
}
