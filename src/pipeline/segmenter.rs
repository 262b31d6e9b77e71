//! The whole way: volumes and words in, a labelled map out.
//!
//! ```no_run
//! use keraunos::pipeline::{Input, Options, Request, Segmenter};
//!
//! let segmenter = Segmenter::open(&Options::default())?;
//! let request = Request::new(vec![Input::new("sub-01_T1w.nii.gz")]).find("left hippocampus")?;
//! let result = segmenter.segment(&request, &mut ())?;
//! for structure in &result.structures {
//!     println!("{}: {:?} ml", structure.name, structure.volume_ml);
//! }
//! result.write("out".as_ref())?;
//! # Ok::<(), keraunos::Error>(())
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::gpu::{AdapterSummary, Gpu, GpuOptions, Recorder};
use crate::models::bert::Sentences;
use crate::models::zeus::Zeus;
use crate::pipeline::home::Home;
use crate::pipeline::instruct::{self, Instruction, Writer};
use crate::pipeline::modality::{self, Modality};
use crate::pipeline::prepare::{Prepared, View};
use crate::pipeline::stock::StockTokens;
use crate::pipeline::structures::Target;
use crate::pipeline::text_encoder::TextEncoder;
use crate::pipeline::volume::{Names, Volume};
use crate::pipeline::volume_embedding::{self, Slicing, VolumeEmbedding};
use crate::pipeline::{files, statistics};
use crate::tensor::{Checkpoint, Precision, Tensor};

/// The default model, part of the program.
static ZEUS_MINI: &[u8] = include_bytes!("../../weights/zeus-mini.safetensors");

/// How to open a [`Segmenter`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The adapter.
    pub gpu: GpuOptions,
    /// How wide weights are stored.
    pub precision: Precision,
    /// A Zeus checkpoint instead of the embedded one.
    pub weights: Option<PathBuf>,
    /// Where the language models live instead of the default place.
    pub model_dir: Option<PathBuf>,
    /// A GGUF language model instead of the known one.
    pub language_model: Option<PathBuf>,
}

/// Who writes the instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instruct {
    /// The language model if it is on this machine, else the template, with a warning.
    #[default]
    Auto,
    /// The language model.
    Llm,
    /// The template.
    Stock,
}

/// How several modalities become one map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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
}

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
        }
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

/// Watches a segmentation and may take its parts as they come. `()` watches nothing.
pub trait Observer {
    /// `stage` is `done` of 1.
    fn progress(&mut self, stage: &'static str, done: f64) {
        let _ = (stage, done);
    }

    /// One target's mean logits on the first input's own grid.
    ///
    /// # Errors
    /// What the observer fails with ends the segmentation.
    fn logits(&mut self, target: &Target, logits: &[f32], reference: &Volume) -> Result<()> {
        let _ = (target, logits, reference);
        Ok(())
    }
}

impl Observer for () {}

/// One structure of the result.
#[derive(Clone, Debug, Serialize)]
pub struct StructureResult {
    /// The label in the map.
    pub label: u16,
    /// The structure's name.
    pub name: String,
    /// Whether anything was found.
    pub present: bool,
    /// The volume of its own mask, overlaps with other structures included, in millilitres.
    pub volume_ml: Option<f64>,
    /// The mean intensity in the first modality.
    pub mean_intensity: Option<f64>,
    /// The median intensity in the first modality.
    pub median_intensity: Option<f64>,
    /// Whether the mask reaches the border of the field of view.
    pub touches_border: Option<bool>,
    /// The predicted Dice.
    pub predicted_dice: Option<f32>,
    /// Voxels that bear its label in the map, after more specific structures took theirs.
    pub labelled_voxels: u64,
}

/// A file that was read.
#[derive(Clone, Debug, Serialize)]
pub struct ReportedInput {
    /// The path as given.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// The modality that was taken.
    pub modality: Modality,
    /// `flag`, `file name` or `estimate: …`.
    pub modality_from: String,
    /// Voxels.
    pub shape: [usize; 3],
    /// Millimetres.
    pub voxel_size: [f64; 3],
    /// The directions of its axes, such as `RAS`.
    pub orientation: String,
}

/// The run, in a form that machines read.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The program and its version.
    pub version: &'static str,
    /// What it is not.
    pub disclaimer: &'static str,
    /// The adapter.
    pub adapter: AdapterSummary,
    /// How weights are stored and sums are taken.
    pub precision: String,
    /// SHA-256 of every weight file that was used, by role.
    pub weights: BTreeMap<&'static str, String>,
    /// The volumes.
    pub inputs: Vec<ReportedInput>,
    /// The views.
    pub views: Vec<View>,
    /// Whether every second slice was taken.
    pub fast: bool,
    /// How modalities were fused.
    pub fusion: Fusion,
    /// Every instruction that was used.
    pub instructions: Vec<Instruction>,
    /// Seconds per stage, in order.
    pub seconds: Vec<(&'static str, f64)>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// A labelled map with everything that belongs to it.
#[derive(Clone, Debug)]
pub struct Segmentation {
    /// The first input, whose grid and header the results have.
    pub reference: Volume,
    /// A label for each voxel, 0 for none.
    pub labels: Vec<u16>,
    /// The labels' names.
    pub names: Names,
    /// A row for each target.
    pub structures: Vec<StructureResult>,
    /// The run.
    pub report: Report,
}

/// An open adapter with the models loaded.
pub struct Segmenter {
    gpu: Gpu,
    zeus: Zeus,
    zeus_sha256: String,
    precision: Precision,
    stock: StockTokens,
    home: Home,
    language_model: Option<PathBuf>,
}

/// Times stages.
struct Clock {
    last: Instant,
    seconds: Vec<(&'static str, f64)>,
}

impl Clock {
    fn lap(&mut self, stage: &'static str) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        tracing::info!("{stage}: {seconds:.3} s");
        self.seconds.push((stage, seconds));
        self.last = now;
    }
}

/// The volumes of a request, read and brought to one grid.
struct Loaded {
    reference: Volume,
    images: Vec<Prepared>,
    inputs: Vec<ReportedInput>,
    warnings: Vec<String>,
}

impl Segmenter {
    /// Opens an adapter and loads the segmentation model.
    ///
    /// # Errors
    /// No such adapter, or weights that do not fit.
    pub fn open(options: &Options) -> Result<Self> {
        let gpu = Gpu::open(&options.gpu)?;
        let checkpoint = match &options.weights {
            Some(path) => Checkpoint::open(path)?,
            None => Checkpoint::from_bytes(ZEUS_MINI, "zeus-mini (embedded)")?,
        };
        let zeus = Zeus::new(&gpu, &checkpoint, options.precision)?;
        Ok(Self {
            stock: StockTokens::of(&checkpoint, zeus.config().prompt_dim)?,
            zeus,
            zeus_sha256: checkpoint.sha256(),
            precision: options.precision,
            home: Home::new(options.model_dir.as_deref())?,
            language_model: options.language_model.clone(),
            gpu,
        })
    }

    /// The adapter.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The segmentation model.
    pub fn zeus(&self) -> &Zeus {
        &self.zeus
    }

    /// The language model.
    ///
    /// # Errors
    /// [`Error::MissingModel`] if it was not pulled, or a file that does not fit.
    pub fn writer(&self) -> Result<Writer> {
        match &self.language_model {
            Some(path) => Writer::from_file(&self.gpu, path),
            None => Writer::open(&self.gpu, &self.home),
        }
    }

    /// The instruction encoder.
    ///
    /// # Errors
    /// [`Error::MissingModel`] if it was not pulled, or files that do not fit.
    pub fn text_encoder(&self) -> Result<TextEncoder> {
        TextEncoder::open(&self.gpu, &self.home)
    }

    /// Segments the volumes of a request.
    ///
    /// # Errors
    /// A volume that cannot be used, modalities that do not overlap, a missing model, or an adapter
    /// that fails; nothing has been written then.
    pub fn segment(&self, request: &Request, observer: &mut dyn Observer) -> Result<Segmentation> {
        let mut clock = Clock {
            last: Instant::now(),
            seconds: Vec::new(),
        };
        let slicing = slicing(request)?;
        let targets = targets(request)?;
        let Loaded {
            reference,
            images,
            inputs,
            mut warnings,
        } = load(&request.inputs)?;
        clock.lap("read");
        let mut weights = BTreeMap::from([("segmentation", self.zeus_sha256.clone())]);

        // Who says what of each target in each modality that is decoded on its own.
        let spoken: Vec<Modality> = match request.fusion {
            Fusion::Late => inputs.iter().map(|input| input.modality).collect(),
            Fusion::Hybrid | Fusion::Early => vec![inputs[0].modality],
        };
        let facts = facts(&inputs[0], &reference);
        let instructions = self.instructions(
            request,
            &targets,
            &spoken,
            &facts,
            &slicing.views,
            &mut weights,
            &mut warnings,
            observer,
        )?;
        clock.lap("instructions");
        let texts = self.texts(
            &instructions,
            targets.len(),
            &slicing.views,
            &mut weights,
            &mut warnings,
        )?;
        clock.lap("text encoder");

        let groups: Vec<&[Prepared]> = match request.fusion {
            Fusion::Late => images.chunks(1).collect(),
            Fusion::Hybrid | Fusion::Early => vec![&images],
        };
        let early = request.fusion == Fusion::Early;
        let slices = VolumeEmbedding::slices(&images[0], &slicing);
        let mut embeddings = Vec::new();
        for (n, images) in groups.iter().enumerate() {
            embeddings.push(VolumeEmbedding::new(
                &self.gpu,
                &self.zeus,
                images,
                &slicing,
                early,
                &mut |done| {
                    observer.progress(
                        "encoding slices",
                        (n as f64 + done as f64 / slices as f64) / groups.len() as f64,
                    );
                },
            )?);
        }
        clock.lap("image encoder");
        let prompts = embeddings
            .iter()
            .zip(texts.chunks(slicing.views.len()))
            .map(|(embedding, texts)| embedding.decode(&self.gpu, &self.zeus, texts))
            .collect::<Result<Vec<_>>>()?;
        clock.lap("mask decoder");

        let decoded: Vec<_> = embeddings.iter().zip(&prompts).collect();
        let mut map = LabelMap::new(&reference);
        let mut structures = Vec::new();
        let at_once = volume_embedding::masks_at_once(&self.gpu, &self.zeus, &embeddings);
        for together in targets.chunks(at_once) {
            let first = structures.len();
            let sides: Vec<_> = together.iter().map(|target| target.side).collect();
            let fused = volume_embedding::fuse(&self.gpu, &self.zeus, &decoded, first, &sides)?;
            for (target, fused) in together.iter().zip(fused) {
                let logits = images[0].restore_map(&fused.logits, f32::NEG_INFINITY);
                observer.logits(target, &logits, &reference)?;
                structures.push(map.add(target, &logits, fused.quality, &reference));
                let done = structures.len() as f64 / targets.len() as f64;
                observer.progress("drawing masks", done);
            }
        }
        self.gpu.trim();
        clock.lap("fusion");
        let names = map.finish(&targets, &mut structures);
        let report = Report {
            version: concat!("keraunos ", env!("CARGO_PKG_VERSION")),
            disclaimer: "Not a medical device; not for clinical use.",
            adapter: self.gpu.summary().clone(),
            precision: match self.precision {
                Precision::Auto => "weights as stored, f32 sums".into(),
                Precision::F16 => "f16 weights, f32 sums".into(),
                Precision::F32 => "f32".into(),
            },
            weights,
            inputs,
            views: slicing.views.clone(),
            fast: request.fast,
            fusion: request.fusion,
            instructions,
            seconds: clock.seconds,
            warnings,
        };
        Ok(Segmentation {
            labels: map.labels,
            reference,
            names,
            structures,
            report,
        })
    }

    /// Only the instructions of a request.
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub fn instruct(
        &self,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<Instruction>, Vec<String>)> {
        let slicing = slicing(request)?;
        let Loaded {
            reference,
            inputs,
            mut warnings,
            ..
        } = load(&request.inputs)?;
        let spoken: Vec<Modality> = inputs.iter().map(|input| input.modality).collect();
        let (targets, facts) = (targets(request)?, facts(&inputs[0], &reference));
        let mut weights = BTreeMap::new();
        let views = &slicing.views;
        let instructions = self.instructions(
            request,
            &targets,
            &spoken,
            &facts,
            views,
            &mut weights,
            &mut warnings,
            observer,
        )?;
        Ok((instructions, warnings))
    }

    /// An instruction for each modality and target, targets fastest.
    #[expect(
        clippy::too_many_arguments,
        reason = "a station of `segment`, with its hashes and warnings"
    )]
    fn instructions(
        &self,
        request: &Request,
        targets: &[Target],
        modalities: &[Modality],
        facts: &str,
        views: &[View],
        weights: &mut BTreeMap<&'static str, String>,
        warnings: &mut Vec<String>,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Instruction>> {
        let own = |n: usize| request.instructions.get(n).and_then(Option::as_deref);
        let pairs = modalities
            .iter()
            .flat_map(|m| targets.iter().enumerate().map(move |(n, t)| (*m, n, t)));
        let mut instructions: Vec<Instruction> = pairs
            .clone()
            .map(|(modality, n, target)| match own(n) {
                Some(text) => Instruction::user(target, modality, text),
                None => Instruction::stock(target, modality),
            })
            .collect();
        let open: Vec<usize> = pairs
            .clone()
            .enumerate()
            .filter(|(_, (_, n, _))| own(*n).is_none())
            .map(|(at, _)| at)
            .collect();
        if open.is_empty() || request.instruct == Instruct::Stock {
            return Ok(instructions);
        }
        let writer = match self.writer() {
            Err(error @ Error::MissingModel { .. }) if request.instruct == Instruct::Auto => {
                warnings.push(format!("{error}; the instructions are the built-in ones"));
                return Ok(instructions);
            }
            writer => writer?,
        };
        weights.insert("language model", writer.sha256.clone());
        let pairs: Vec<_> = pairs.collect();
        let requests: Vec<instruct::Request> = open
            .iter()
            .map(|at| instruct::Request {
                target: pairs[*at].2,
                modality: pairs[*at].0,
            })
            .collect();
        let written = writer.instruct(&self.gpu, &requests, facts, views, &mut |done| {
            observer.progress("writing instructions", done);
        })?;
        drop(writer);
        self.gpu.trim();
        let replaced = written
            .iter()
            .filter(|instruction| instruction.replaced.is_some())
            .count();
        if replaced > 0 {
            let all = written.len();
            warnings.push(format!("{replaced} of {all} generated instructions missed their topic and were replaced by the built-in ones"));
        }
        for (at, instruction) in open.into_iter().zip(written) {
            instructions[at] = instruction;
        }
        Ok(instructions)
    }

    /// Prompt tokens of the instructions: per modality and view a tensor `[targets, prompt_dim]`.
    fn texts(
        &self,
        instructions: &[Instruction],
        targets: usize,
        views: &[View],
        weights: &mut BTreeMap<&'static str, String>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Tensor>> {
        let dim = self.zeus.config().prompt_dim;
        let mut known: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        for text in views
            .iter()
            .flat_map(|view| instructions.iter().map(|i| i.for_view(*view)))
        {
            match self.stock.get(&text) {
                Some(token) => drop(known.insert(text, token.to_vec())),
                None => drop(unknown.insert(text)),
            }
        }
        if !unknown.is_empty() {
            let encoder = self.text_encoder()?;
            let (has, wants) = (encoder.dim(), self.zeus.config().text_dim);
            if has != wants {
                return Err(Error::Argument(format!(
                    "the text encoder gives {has} values a token; these weights read {wants}"
                )));
            }
            weights.insert("text encoder", encoder.sha256.clone());
            let texts: Vec<&str> = unknown.iter().map(String::as_str).collect();
            let read = |rec: &Recorder, sentences: &Sentences| self.zeus.read(rec, sentences);
            let (values, cut) = encoder.read(&self.gpu, &texts, read)?;
            if cut {
                warnings.push(
                    "an instruction was longer than the text encoder takes; its end was left out"
                        .into(),
                );
            }
            let rows = values.chunks_exact(dim).map(<[f32]>::to_vec);
            known.extend(texts.iter().map(|text| (*text).to_owned()).zip(rows));
        }
        // Modalities outside, then views.
        let mut tensors = Vec::new();
        for instructions in instructions.chunks(targets) {
            for view in views {
                let values: Vec<f32> = instructions
                    .iter()
                    .flat_map(|i| known[&i.for_view(*view)].iter().copied())
                    .collect();
                tensors.push(Tensor::upload(
                    &self.gpu,
                    "instructions",
                    [instructions.len(), dim],
                    &values,
                )?);
            }
        }
        Ok(tensors)
    }
}

/// The views and the step of a request.
fn slicing(request: &Request) -> Result<Slicing> {
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
fn targets(request: &Request) -> Result<Vec<Target>> {
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

/// Reads the volumes and brings them to the first one's prepared grid.
fn load(inputs: &[Input]) -> Result<Loaded> {
    let Some(first) = inputs.first() else {
        return Err(Error::Argument("no volume to segment".into()));
    };
    let (mut images, mut reported, mut warnings) = (Vec::<Prepared>::new(), Vec::new(), Vec::new());
    let mut reference = None;
    for (n, input) in inputs.iter().enumerate() {
        if let Some(twin) = inputs[..n]
            .iter()
            .find(|other| files::same_file(&other.path, &input.path))
        {
            return Err(Error::Argument(format!(
                "`{}` is given twice (also as `{}`)",
                input.path.display(),
                twin.path.display()
            )));
        }
        let volume = Volume::read(&input.path)?;
        let (modality, modality_from) = match (input.modality, Modality::from_name(&input.path)) {
            (Some(modality), _) => (modality, "flag".to_owned()),
            (None, Some(modality)) => (modality, "file name".to_owned()),
            (None, None) => {
                let estimate = modality::estimate(&volume);
                let path = input.path.display();
                warnings.push(format!(
                    "`{path}` is taken for {}, an estimate: {}",
                    estimate.modality, estimate.reason
                ));
                (estimate.modality, format!("estimate: {}", estimate.reason))
            }
        };
        let measured = modality::estimate(&volume);
        if (modality == Modality::Ct) != (measured.modality == Modality::Ct) {
            let path = input.path.display();
            warnings.push(format!(
                "`{path}` is given as {modality}, but looks like {}: {}",
                measured.modality, measured.reason
            ));
        }
        if modality == Modality::Ct {
            warnings.push("the default model was not trained on CT; expect little of it".into());
        }
        warnings.extend(
            volume
                .warnings
                .iter()
                .map(|warning| format!("`{}`: {warning}", input.path.display())),
        );
        let grid = volume.grid();
        reported.push(ReportedInput {
            path: input.path.clone(),
            sha256: files::sha256(&input.path)?,
            modality,
            modality_from,
            shape: volume.shape,
            voxel_size: grid.voxel_sizes(),
            orientation: grid.orientation().letters(),
        });
        match images.first() {
            None => images.push(Prepared::new(&volume)?),
            Some(first) => {
                let (image, warning) = first.join(&volume)?;
                warnings.extend(warning);
                images.push(image);
            }
        }
        reference.get_or_insert(volume);
    }
    let Some(reference) = reference else {
        return Err(Error::Argument(format!(
            "`{}` is empty",
            first.path.display()
        )));
    };
    Ok(Loaded {
        reference,
        images,
        inputs: reported,
        warnings,
    })
}

/// What was measured from the first volume, in words for the language model.
fn facts(input: &ReportedInput, reference: &Volume) -> String {
    let grid = reference.grid();
    let [x, y, z] = grid.voxel_sizes();
    let extent: Vec<String> = (0..3)
        .map(|n| format!("{:.0}", grid.shape[n] as f64 * [x, y, z][n]))
        .collect();
    let kind = if input.modality == Modality::Ct {
        "CT"
    } else {
        "MRI"
    };
    let name = if input.modality == Modality::Ct {
        String::new()
    } else {
        format!("{} ", input.modality.phrase())
    };
    format!(
        "a {name}{kind} of the head, {} mm, voxels of {x:.1} x {y:.1} x {z:.1} mm",
        extent.join(" x ")
    )
}

/// The map as it grows, one target after the other.
struct LabelMap {
    labels: Vec<u16>,
    /// Parts of the target that holds the voxel, and its logit there.
    holder: Vec<(u32, f32)>,
}

impl LabelMap {
    fn new(reference: &Volume) -> Self {
        let voxels = reference.data.len();
        Self {
            labels: vec![0; voxels],
            holder: vec![(u32::MAX, 0.0); voxels],
        }
    }

    /// Draws a target's mask. Where masks overlap the more specific target holds the voxel; of two
    /// equals the one with the higher logit, of two equal logits the first.
    fn add(
        &mut self,
        target: &Target,
        logits: &[f32],
        quality: Option<f32>,
        reference: &Volume,
    ) -> StructureResult {
        let mask: Vec<u8> = logits.iter().map(|logit| u8::from(*logit > 0.0)).collect();
        for ((label, holder), logit) in self.labels.iter_mut().zip(&mut self.holder).zip(logits) {
            let (parts, held) = *holder;
            if *logit > 0.0 && (target.parts < parts || target.parts == parts && *logit > held) {
                *label = target.label;
                *holder = (target.parts, *logit);
            }
        }
        let names = Names::from([(1, target.name.clone())]);
        let measured =
            statistics::measure(&mask, &reference.data, &reference.grid(), &names).swap_remove(0);
        let present = measured.voxels > 0;
        StructureResult {
            label: target.label,
            name: target.name.clone(),
            present,
            volume_ml: measured.volume_ml,
            mean_intensity: measured.mean,
            median_intensity: measured.median,
            touches_border: present.then_some(measured.touches_border),
            predicted_dice: quality,
            labelled_voxels: 0,
        }
    }

    /// Counts the labels and names them.
    fn finish(&self, targets: &[Target], structures: &mut [StructureResult]) -> Names {
        let mut counts: BTreeMap<u16, u64> = BTreeMap::new();
        self.labels
            .iter()
            .for_each(|label| *counts.entry(*label).or_default() += 1);
        for structure in structures {
            structure.labelled_voxels = counts.get(&structure.label).copied().unwrap_or(0);
        }
        targets
            .iter()
            .map(|target| (u32::from(target.label), target.name.clone()))
            .collect()
    }
}

impl Segmentation {
    /// Writes the map, the table of its names, the statistics, the preview and the report into a folder,
    /// which is made if need be. Returns the paths. See [`crate::pipeline::finish`].
    ///
    /// # Errors
    /// A folder that cannot be written, or that holds an input under a result's name.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        crate::pipeline::finish::write(self, folder)
    }
}
