//! What a segmentation is asked for: volumes, structures, views, and by whose words.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuOptions};
use crate::pipeline::assembly::Assembly;
use crate::pipeline::finish;
use crate::pipeline::modality::Modality;
use crate::pipeline::phrased::PromptType;
use crate::pipeline::prepare::View;
use crate::pipeline::preview::Style;
use crate::pipeline::structures::Target;
use crate::pipeline::volume::LabelTable;
use crate::pipeline::volume_embedding::Slicing;
use crate::tensor::Precision;

/// How to open a [`Segmenter`](crate::pipeline::Segmenter).
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The adapter.
    pub gpu: GpuOptions,
    /// How wide weights are stored.
    pub precision: Precision,
    /// A Zeus checkpoint instead of the embedded one.
    pub weights: Option<PathBuf>,
    /// Another model than the embedded one, in one checkpoint.
    pub model: Option<Arc<Assembly>>,
    /// Where the language models live instead of the default place.
    pub model_dir: Option<PathBuf>,
    /// A GGUF language model instead of the known one.
    pub language_model: Option<PathBuf>,
    /// Whether the language model and the text encoder stay on the adapter from one request to the next: faster
    /// for many volumes, 0.2 GB more while slices are encoded.
    pub keep_models: bool,
}

/// Who writes the instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Instruct {
    /// The language model if it is on this machine, else the template, with a warning.
    #[default]
    Auto,
    /// The language model.
    Llm,
    /// The language model, after looking at the volume: it is told what the middle of it shows, and a modality that would be
    /// estimated is what it states.
    Lvlm,
    /// The template.
    Stock,
}

/// How several modalities become one map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fusion {
    /// Each modality's masks, weighted by their predicted Dice.
    #[default]
    Late,
    /// The mean of the modalities' embeddings.
    Hybrid,
    /// The modalities as channels of one image, where the weights have them.
    Early,
}

/// One volume to segment.
#[derive(Clone, Debug)]
pub struct Input {
    /// The NIfTI file.
    pub path: PathBuf,
    /// Its modality; else from the file's name, else estimated.
    pub modality: Option<Modality>,
}

impl Input {
    /// A file whose modality its name or its intensities tell.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            modality: None,
        }
    }
}

/// What to segment, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// One file per modality; the first gives the grid of the result.
    pub inputs: Vec<Input>,
    /// What to find; every structure that the model knows if empty.
    pub targets: Vec<Target>,
    /// The user's own instruction for each target, where there is one.
    pub instructions: Vec<Option<String>>,
    /// Who writes the others.
    pub instruct: Instruct,
    /// The views.
    pub views: Vec<View>,
    /// One view, every second slice.
    pub fast: bool,
    /// How modalities are fused.
    pub fusion: Fusion,
    /// What the files of the result are called; else as the first input.
    pub name: Option<String>,
    /// Tables of the labels for other programs, written beside the map.
    pub tables: Vec<LabelTable>,
    /// How the preview draws structures.
    pub preview: Style,
}

/// What a request asks for, as the report keeps it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// Labels and names of the structures.
    pub structures: Vec<(u16, String)>,
    /// The user's own instruction for each, where there is one.
    pub instructions: Vec<Option<String>>,
    /// Who writes the others.
    pub instruct: Instruct,
    /// The modalities that the user named, an input each.
    pub modalities: Vec<Option<Modality>>,
    /// The views.
    pub views: Vec<View>,
    /// Whether every second slice is taken.
    pub fast: bool,
    /// How modalities are fused.
    pub fusion: Fusion,
    /// How structures are put into phrases, by a model that reads phrases.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_type: Option<PromptType>,
    /// How weights are stored.
    pub precision: Precision,
    /// Whether products are those of cooperative matrices.
    pub cooperative: bool,
    /// The program and its version.
    pub version: &'static str,
}

impl Asked {
    /// Nothing, of weights on an adapter.
    pub(super) fn new(gpu: &Gpu, precision: Precision) -> Self {
        Self {
            structures: Vec::new(),
            instructions: Vec::new(),
            instruct: Instruct::Stock,
            modalities: Vec::new(),
            views: Vec::new(),
            fast: false,
            fusion: Fusion::Late,
            prompt_type: None,
            precision,
            cooperative: gpu.coop_tile().is_some(),
            version: VERSION,
        }
    }
}

/// The program and its version.
pub const VERSION: &str = concat!("keraunos ", env!("CARGO_PKG_VERSION"));

impl Request {
    /// Every known structure in all three views.
    pub fn new(inputs: Vec<Input>) -> Self {
        Self {
            inputs,
            targets: Vec::new(),
            instructions: Vec::new(),
            instruct: Instruct::Auto,
            views: View::ALL.to_vec(),
            fast: false,
            fusion: Fusion::Late,
            name: None,
            tables: Vec::new(),
            preview: Style::default(),
        }
    }

    /// What the files of the result are called.
    pub fn stem(&self) -> String {
        let first = self.inputs.first().map(|input| finish::stem(&input.path));
        self.name.clone().or(first).unwrap_or_default()
    }

    /// Adds a structure by name, such as "left hippocampus".
    ///
    /// # Errors
    /// [`Error::UnknownStructure`] with the nearest names.
    pub fn find(mut self, words: &str) -> Result<Self> {
        self.targets.push(Target::find(words)?);
        self.instructions.push(None);
        Ok(self)
    }

    /// Adds something that only an instruction describes.
    #[must_use]
    pub fn instruction(mut self, text: &str) -> Self {
        let free = self
            .targets
            .iter()
            .filter(|target| target.structure.is_none())
            .count();
        self.targets.push(Target::free(text, free as u16));
        self.instructions.push(Some(text.to_owned()));
        self
    }
}

/// The views and the step of a request.
pub(super) fn slicing(request: &Request) -> Result<Slicing> {
    match (request.fast, request.views.as_slice()) {
        (_, []) => Err(Error::Argument("no view to segment in".into())),
        (false, views) => Ok(Slicing {
            views: views.to_vec(),
            step: 1,
        }),
        (true, [view]) => Ok(Slicing {
            views: vec![*view],
            step: 2,
        }),
        (true, _) => Err(Error::Argument(
            "fast segmentation takes one view; name it".into(),
        )),
    }
}

/// The targets of a request, each with a label of its own.
pub(super) fn targets(request: &Request) -> Result<Vec<Target>> {
    if request.targets.is_empty() {
        return Ok(Target::all());
    }
    for (n, target) in request.targets.iter().enumerate() {
        let before = &request.targets[..n];
        if let Some(twin) = before.iter().find(|twin| twin.label == target.label) {
            return Err(Error::Argument(format!(
                "`{}` and `{}` would have one label, {}; ask for them one after the other",
                twin.name, target.name, target.label
            )));
        }
    }
    Ok(request.targets.clone())
}
