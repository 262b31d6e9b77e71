//! `model.json`: which parts a model is put together from, what it sees, what it can be asked for and in which words.
//!
//! The embedded model has one, `weights/zeus-mini.json`; a folder of a user's own checkpoints becomes a model by another.
//! `schema/model.schema.json` says what may stand in it.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::card::Card;
use super::designed::DesignedPrompt;
use super::files::read_text;
use super::home::{Home, LANGUAGE_MODEL};
use super::instruct::Writer;
use super::modality::Modality;
use super::prepare::View;
use super::prompted::Preprocessing;
use super::request::Fusion;
use super::schema;
use super::structures::{Catalogue, Structure};
use super::threshold::Threshold;
use super::wording::Wording;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::bert::Pooling;

/// The file that makes a folder a model.
pub const MODEL_JSON: &str = "model.json";
/// The largest of its files that is read, in bytes.
const MOST_BYTES: u64 = 1 << 20;
/// What every model does.
const ROLE: &str = "segmentation";
/// Most labels that a map of 16 bits can tell apart, those of free instructions aside.
const MOST_LABELS: usize = 1000;

static EMBEDDED: LazyLock<Assembly> = LazyLock::new(|| {
    let json = include_str!("../../weights/zeus-mini.json");
    let read = |path: &Path| match path.to_str() {
        Some("structures.json") => Ok(include_str!("../../weights/structures.json").to_owned()),
        Some("prompts/instruction.json") => {
            Ok(include_str!("../../weights/prompts/instruction.json").to_owned())
        }
        _ => Err(Error::config(path, "is not part of the program".to_owned())),
    };
    Assembly::parse(json, Path::new("zeus-mini.json"), &read)
        .expect("the embedded model is described well; a test parses it")
});

/// A model and its parts.
#[derive(Clone, Debug)]
pub struct Assembly {
    /// The file that says so.
    pub path: PathBuf,
    /// What is known of it.
    pub card: Card,
    /// Its checkpoints.
    pub parts: Parts,
    /// What it can be asked for by name; nothing where only instructions say it.
    pub structures: Vec<Structure>,
    /// How it is spoken to.
    pub wording: Wording,
    /// How several modalities are fused where nothing else is asked for.
    pub fusion: Option<Fusion>,
    /// The views whose slices it was trained on; all if it says nothing.
    pub views: Vec<View>,
    /// How its masks are cut out of probabilities; at one half if it says nothing.
    pub threshold: Threshold,
}

/// The checkpoints of a model.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What draws.
    pub drawing: Drawing,
    /// What reads the instruction.
    pub text_encoder: Part,
    /// What writes it, where something does.
    pub language_model: Option<Part>,
}

/// What draws the masks.
#[derive(Clone, Debug)]
pub enum Drawing {
    /// A Zeus in one checkpoint, such as the embedded one.
    Whole(PathBuf),
    /// SAM's encoder and decoder, and a projection of the text between them.
    Sam {
        /// A SAM for each modality that has its own.
        image_encoders: BTreeMap<Modality, PathBuf>,
        /// That of all others, if they have one.
        image_encoder: Option<PathBuf>,
        /// The SAM whose mask decoder draws.
        mask_decoder: PathBuf,
        /// A linear layer from the text encoder's embedding to the decoder's tokens.
        text_projection: PathBuf,
        /// How slices are shown to it.
        preprocessing: Preprocessing,
    },
}

/// A checkpoint: on this machine, or one that `keraunos pull` fetches.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it is.
    pub place: Place,
    /// How a BERT's states become one.
    pub pooling: Option<Pooling>,
}

/// Where a checkpoint is.
#[derive(Clone, Debug)]
pub enum Place {
    /// Among the models that this version knows, by name.
    Known(String),
    /// A file or folder.
    Path(PathBuf),
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    #[serde(rename = "$schema", default)]
    schema: Option<String>,
    card: Card,
    parts: JsonParts,
    #[serde(default)]
    labels: Option<InFile<Vec<Structure>>>,
    #[serde(default)]
    prompts: JsonPrompts,
    #[serde(default)]
    fusion: Option<Fusion>,
    #[serde(default)]
    views: Vec<View>,
    #[serde(default)]
    threshold: Threshold,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonParts {
    #[serde(default)]
    segmentation: Option<PathBuf>,
    #[serde(default)]
    image_encoder: Option<PathBuf>,
    #[serde(default)]
    image_encoders: BTreeMap<Modality, PathBuf>,
    #[serde(default)]
    mask_decoder: Option<PathBuf>,
    #[serde(default)]
    text_projection: Option<PathBuf>,
    #[serde(default)]
    preprocessing: Option<Preprocessing>,
    text_encoder: JsonPart,
    #[serde(default)]
    language_model: Option<JsonPart>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonPart {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    path: Option<PathBuf>,
    #[serde(default)]
    pooling: Option<Pooling>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonPrompts {
    #[serde(default)]
    stock: Option<String>,
    #[serde(default)]
    instruction: Option<InFile<DesignedPrompt>>,
    #[serde(default)]
    region: Option<String>,
}

/// What stands in the file itself or in another that it names: not looked at before it is known which.
#[derive(Deserialize)]
#[serde(transparent)]
struct InFile<T> {
    value: serde_json::Value,
    #[serde(skip)]
    of: PhantomData<T>,
}

impl<T: DeserializeOwned> InFile<T> {
    fn read(self, path: &Path, read: &dyn Fn(&Path) -> Result<String>) -> Result<T> {
        let (path, value) = match self.value {
            serde_json::Value::String(other) => {
                let (text, place) = (read(Path::new(&other))?, path.with_file_name(&other));
                (place, serde_json::from_str(&text))
            }
            value => (path.to_owned(), serde_json::from_value(value)),
        };
        value.map_err(|error| Error::config(&path, error.to_string()))
    }
}

impl Assembly {
    /// That of the embedded model.
    pub fn embedded() -> &'static Self {
        &EMBEDDED
    }

    /// The file that describes a model: a folder's `model.json`, or a file that ends in `.json`.
    pub fn at(path: &Path) -> Option<PathBuf> {
        let json = path.join(MODEL_JSON);
        let is_json = path.extension().is_some_and(|end| end == "json");
        match (json.is_file(), is_json) {
            (true, _) => Some(json),
            (false, true) => Some(path.to_owned()),
            (false, false) => None,
        }
    }

    /// Reads a `model.json` and the files of words that it names. Checkpoints are not opened.
    ///
    /// # Errors
    /// A file that cannot be read or says what makes no sense.
    pub fn open(path: &Path) -> Result<Self> {
        let json = read_text(path, MOST_BYTES)?;
        let read = |other: &Path| read_text(&path.with_file_name(other), MOST_BYTES);
        Self::parse(&json, path, &read)
    }

    /// The same of a text; `read` reads a file beside it.
    ///
    /// # Errors
    /// As [`Assembly::open`].
    pub fn parse(json: &str, path: &Path, read: &dyn Fn(&Path) -> Result<String>) -> Result<Self> {
        let fault = |problem: String| Error::config(path, problem);
        let json: Json = serde_json::from_str(json).map_err(|error| {
            // Theirs is called so too.
            fault(match json.contains("\"weightsManifest\"") {
                true => "is TensorFlow.js's; make safetensors of it by `keraunos convert`".into(),
                false => error.to_string(),
            })
        })?;
        if let Some(schema) = json.schema.filter(|schema| schema != schema::MODEL.id) {
            let known = schema::MODEL.id;
            return Err(fault(format!(
                "`$schema` is `{schema}`, this version reads `{known}`"
            )));
        }
        let role = &json.card.role;
        if role != ROLE {
            return Err(fault(format!("`card.role` is `{role}`, expected `{ROLE}`")));
        }
        let structures = match json.labels {
            Some(labels) => {
                let structures = labels.read(path, read)?;
                Catalogue::check(&structures)
                    .map_err(|problem| fault(format!("`labels`: {problem}")))?;
                structures
            }
            None => Vec::new(),
        };
        if structures.len() > MOST_LABELS {
            let count = structures.len();
            return Err(fault(format!(
                "`labels` has {count} structures, expected at most {MOST_LABELS}"
            )));
        }
        // Asked for only where nothing is said: the embedded model says it all.
        let usual = Wording::embedded;
        let wording = Wording {
            stock: json.prompts.stock.unwrap_or_else(|| usual().stock.clone()),
            instruction: match json.prompts.instruction {
                Some(prompt) => prompt.read(path, read)?,
                None => usual().instruction.clone(),
            },
            region: json.prompts.region,
        };
        if !wording.stock.contains("<instance>") {
            return Err(fault(
                "`prompts.stock` does not say `<instance>`, which stands for the structure".into(),
            ));
        }
        let mut views = json.views;
        for n in 1..views.len() {
            if views[..n].contains(&views[n]) {
                let view = views[n].name();
                return Err(fault(format!("`views` names `{view}` twice")));
            }
        }
        if views.is_empty() {
            views = View::ALL.to_vec();
        }
        Ok(Self {
            parts: json.parts.placed(path)?,
            path: path.to_owned(),
            card: json.card,
            structures,
            wording,
            fusion: json.fusion,
            views,
            threshold: json.threshold,
        })
    }

    /// The one checkpoint that draws.
    ///
    /// # Errors
    /// A model that has several.
    pub(super) fn expect_whole(&self) -> Result<&Path> {
        match &self.parts.drawing {
            Drawing::Whole(path) => Ok(path),
            Drawing::Sam { .. } => Err(Error::config(
                &self.path,
                "`parts` has no `segmentation`: the model is for `segment --model`".to_owned(),
            )),
        }
    }

    /// The language model: `own`, the user's choice, before its own.
    ///
    /// # Errors
    /// [`Error::MissingModel`] if there is none or it was not pulled, or a file that does not fit.
    pub(super) fn writer(&self, gpu: &Gpu, home: &Home, own: Option<&Path>) -> Result<Writer> {
        let place = self.parts.language_model.as_ref().map(|part| &part.place);
        let path = match (own, place) {
            (Some(path), _) => path.to_owned(),
            (None, Some(Place::Path(path))) => path.clone(),
            (None, Some(Place::Known(name))) => home.locate(name)?,
            (None, None) => home.locate(LANGUAGE_MODEL)?,
        };
        Writer::from_file(gpu, &path)
    }

    /// What it can be asked for by name, kept as long as the program runs; nothing if it has no labels.
    ///
    /// # Errors
    /// None of what [`Assembly::open`] gives.
    pub fn catalogue(&self) -> Result<Option<Catalogue>> {
        if self.structures.is_empty() {
            return Ok(None);
        }
        Catalogue::new(self.structures.clone())
            .map(Some)
            .map_err(|problem| Error::config(&self.path, problem))
    }
}

impl JsonParts {
    /// The same with paths as seen from where the file is.
    fn placed(self, file: &Path) -> Result<Parts> {
        let fault = |problem: &str| Error::config(file, format!("`parts` {problem}"));
        let at = |path: PathBuf| file.with_file_name(path);
        let part = |name: &str, part: JsonPart| {
            let place = match (part.id, part.path) {
                (Some(id), None) => Place::Known(id),
                (None, Some(path)) => Place::Path(at(path)),
                _ => {
                    let problem = format!("`parts.{name}` needs one of `id` and `path`");
                    return Err(Error::config(file, problem));
                }
            };
            let pooling = part.pooling;
            Ok(Part { place, pooling })
        };
        let drawing = match self.segmentation {
            Some(whole) => {
                let more = [
                    ("image_encoder", self.image_encoder.is_some()),
                    ("image_encoders", !self.image_encoders.is_empty()),
                    ("mask_decoder", self.mask_decoder.is_some()),
                    ("text_projection", self.text_projection.is_some()),
                    ("preprocessing", self.preprocessing.is_some()),
                ];
                if let Some((name, _)) = more.iter().find(|(_, given)| *given) {
                    return Err(fault(&format!(
                        "has `{name}` beside `segmentation`, which has all of it"
                    )));
                }
                Drawing::Whole(at(whole))
            }
            None => {
                let (one, each) = (self.image_encoder, self.image_encoders);
                let some = one.as_ref().or_else(|| each.values().next()).cloned();
                let Some(some) = some else {
                    return Err(fault(
                        "has no `segmentation`, and no `image_encoder` or `image_encoders`",
                    ));
                };
                let Some(projection) = self.text_projection else {
                    return Err(fault("has `image_encoder`, but no `text_projection`"));
                };
                Drawing::Sam {
                    image_encoders: each.into_iter().map(|(m, path)| (m, at(path))).collect(),
                    image_encoder: one.map(at),
                    mask_decoder: at(self.mask_decoder.unwrap_or(some)),
                    text_projection: at(projection),
                    preprocessing: self.preprocessing.unwrap_or(Preprocessing::Sam),
                }
            }
        };
        Ok(Parts {
            drawing,
            text_encoder: part("text_encoder", self.text_encoder)?,
            language_model: match self.language_model {
                Some(model) => Some(part("language_model", model)?),
                None => None,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Assembly> {
        let read = |path: &Path| Err(Error::config(path, "not here".to_owned()));
        Assembly::parse(json, Path::new("m/model.json"), &read)
    }

    #[test]
    fn the_embedded_model_is_described_by_the_same_kind_of_file() {
        let model = Assembly::embedded();
        assert!(
            matches!(&model.parts.drawing, Drawing::Whole(file) if file.ends_with("zeus-mini.safetensors"))
        );
        assert_eq!(
            model.structures.len(),
            Catalogue::embedded().structures().len()
        );
        assert_eq!(model.wording.region.as_deref(), Some("the head"));
        assert!(!model.wording.instruction.examples.is_empty());
        assert_eq!(model.views, View::ALL);
        for part in [
            Some(&model.parts.text_encoder),
            model.parts.language_model.as_ref(),
        ] {
            let Some(Place::Known(name)) = part.map(|part| &part.place) else {
                panic!("{part:?}");
            };
            super::super::home::Manifest::embedded()
                .model(name)
                .expect("a known model");
        }
    }

    #[test]
    fn paths_are_those_beside_the_file() {
        let model = parse(
            r#"{"card": {"name": "mine"}, "parts": {
                "image_encoders": {"t1": "a.safetensors", "t2": "/b/c.safetensors"}, "text_projection": "f.safetensors",
                "text_encoder": {"path": "medclip"}, "language_model": {"path": "vicuna.gguf"}},
                "labels": [{"name": "prostate", "labels": {"both": 1}}], "views": ["axial"]}"#,
        );
        let model = model.expect("a model");
        let Drawing::Sam {
            image_encoders,
            image_encoder: None,
            mask_decoder,
            ..
        } = model.parts.drawing
        else {
            panic!("{:?}", model.parts);
        };
        assert_eq!(image_encoders[&Modality::T1], Path::new("m/a.safetensors"));
        assert_eq!(image_encoders[&Modality::T2], Path::new("/b/c.safetensors"));
        assert_eq!(mask_decoder, Path::new("m/a.safetensors"));
    }
}
