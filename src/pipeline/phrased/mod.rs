//! Structures that a phrase names, slice by slice: CLIPSeg, BiomedCLIPSeg and CRIS.
//!
//! Every slice of a view is read once, and every phrase segmented in it by itself. Slices are those of the volume's own grid,
//! turned and mirrored for display; a mask's logits are brought back to their pixels, which are the file's voxels.

mod model;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use words::PromptType;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::cris::Phrases;
use crate::pipeline::batch;
use crate::pipeline::describe::processor::Squaring;
use crate::pipeline::inputs::{ReportedInput, read_input};
use crate::pipeline::instruct::Instruction;
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::{Slice, View, check_extent};
use crate::pipeline::preview::Style;
use crate::pipeline::prompted::{levels, stretched};
use crate::pipeline::request::{Asked, Request};
use crate::pipeline::result::{LabelMap, Report, Segmentation};
use crate::pipeline::stages::{Clock, check_logits};
use crate::pipeline::structures::Target;
use crate::pipeline::volume::{LabelTable, Volume, read_grid};
use crate::pipeline::{DrawnMask, Input, Observer, finish, geometry, memory};
use crate::tensor::{Checkpoint, Precision, Tensor};
use model::Model;

/// The most phrases that are decoded together, and whose masks are held.
const AT_ONCE: usize = 8;

/// A volume, and what to segment in it.
#[derive(Clone, Debug)]
pub struct PhrasedRequest {
    /// The volume.
    pub input: Input,
    /// What the files of the result are called; else as the volume.
    pub name: Option<String>,
    /// What to segment.
    pub phrasing: Phrasing,
}

/// What to segment, in which words.
#[derive(Clone, Debug)]
pub struct Phrasing {
    /// The view whose slices are looked at.
    pub view: View,
    /// What to find.
    pub targets: Vec<Target>,
    /// The user's own phrase for each, where there is one.
    pub phrases: Vec<Option<String>>,
    /// How the others are put into words.
    pub prompt_type: PromptType,
    /// Tables of the labels for other programs, written beside the map.
    pub tables: Vec<LabelTable>,
    /// How the preview draws structures.
    pub preview: Style,
}

impl PhrasedRequest {
    /// What the files of the result are called.
    pub fn stem(&self) -> String {
        let own = self.name.clone();
        own.unwrap_or_else(|| finish::stem(&self.input.path))
    }
}

impl Phrasing {
    /// Whether there is something to find, and a label for each: asked for before a model is loaded.
    ///
    /// # Errors
    /// [`Error::Argument`] with what does not fit.
    pub fn check(&self) -> Result<()> {
        if self.targets.is_empty() {
            let problem = "nothing says what to segment; give --prompt, or --find with a structure";
            return Err(Error::Argument(problem.into()));
        }
        for (n, target) in self.targets.iter().enumerate() {
            let before = &self.targets[..n];
            if before.iter().any(|twin| twin.label == target.label) {
                let problem = format!("`{}` is asked for twice", target.name);
                return Err(Error::Argument(problem));
            }
        }
        Ok(())
    }

    /// The phrase of each target.
    fn instructions(&self, modality: Modality) -> Vec<Instruction> {
        let own = self.phrases.iter().map(Option::as_deref);
        let own = own.chain(std::iter::repeat(None));
        let pairs = self.targets.iter().zip(own);
        pairs
            .map(|(target, own)| match own {
                Some(text) => Instruction::user(target, modality, text),
                None => Instruction {
                    text: self.prompt_type.phrase(target, modality),
                    ..Instruction::stock(target, modality)
                },
            })
            .collect()
    }
}

/// A volume whose slices the image encoder is to see.
pub struct Loaded {
    volume: Volume,
    input: ReportedInput,
    /// Grey levels on the canonical grid.
    levels: Vec<u8>,
    warnings: Vec<String>,
    seconds: Vec<(&'static str, f64)>,
}

/// A model that finds the same in many cases.
pub struct PhrasedCases {
    /// The model.
    pub segmenter: PhrasedSegmenter,
    /// What to find.
    pub phrasing: Phrasing,
}

/// An open adapter with a model loaded.
pub struct PhrasedSegmenter {
    gpu: Gpu,
    model: Model,
    processor: Squaring,
    sha256: String,
    path: PathBuf,
    precision: Precision,
}

impl PhrasedSegmenter {
    /// Loads a folder of Hugging Face's `CLIPSegForImageSegmentation` with its tokenizer and image processor, of a BiomedCLIPSeg
    /// of MedVLSM's with PubMedBERT's tokenizer, or of a CRIS with CLIP's.
    ///
    /// # Errors
    /// Files that are missing, or that do not fit each other.
    pub fn on(gpu: Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        let (model, processor) = Model::open(&gpu, checkpoint, precision)?;
        Ok(Self {
            gpu,
            model,
            processor,
            sha256: checkpoint.sha256(),
            path: checkpoint.path().into(),
            precision,
        })
    }

    /// Segments what a request names.
    ///
    /// # Errors
    /// A request that makes no sense, a phrase that is too long, a volume that cannot be used, or an adapter that fails; nothing
    /// has been written then.
    pub fn segment(
        &self,
        request: &PhrasedRequest,
        observer: &mut dyn Observer,
    ) -> Result<Segmentation> {
        self.segment_loaded(request, self.load(request)?, observer)
    }

    fn segment_loaded(
        &self,
        request: &PhrasedRequest,
        loaded: Loaded,
        observer: &mut dyn Observer,
    ) -> Result<Segmentation> {
        let result = self.run(request, loaded, observer);
        // The next volume has other sizes: what this one left in the pool would not fit it.
        self.gpu.trim();
        result
    }

    fn load(&self, request: &PhrasedRequest) -> Result<Loaded> {
        request.phrasing.check()?;
        let path = &request.input.path;
        // What is too large is said before anything is read.
        let grid = read_grid(path)?;
        check_extent(path, &grid)?;
        let slices = grid.canonical().shape[request.phrasing.view.axis()];
        self.check_memory(path, &grid, slices)?;

        let mut clock = Clock::new();
        let mut warnings = Vec::new();
        let (volume, input, _) = read_input(&request.input, &mut warnings)?;
        let levels = levels(&volume, input.modality);
        let levels = geometry::reorient(&levels, volume.shape, grid.orientation());
        clock.lap("read");
        Ok(Loaded {
            volume,
            input,
            levels,
            warnings,
            seconds: clock.seconds,
        })
    }

    fn run(
        &self,
        request: &PhrasedRequest,
        loaded: Loaded,
        observer: &mut dyn Observer,
    ) -> Result<Segmentation> {
        let Loaded {
            volume,
            input,
            levels,
            mut warnings,
            seconds,
        } = loaded;
        let phrasing = &request.phrasing;
        let mut clock = Clock::after(seconds);
        warnings.extend(self.gpu.distrusted());
        let grid = volume.grid();
        let (orientation, canonical) = (grid.orientation(), grid.canonical().shape);
        let instructions = phrasing.instructions(input.modality);
        let phrases = self.phrases(&instructions)?;
        clock.lap("text encoder");
        let slices = self.encode(&levels, canonical, phrasing.view, observer)?;
        clock.lap("image encoder");

        let mut map = LabelMap::new(&volume);
        let mut structures = Vec::new();
        let at_once = self.at_once();
        let steps = phrasing.targets.len().div_ceil(at_once) * slices.len().max(1);
        let mut done = 0;
        for (n, targets) in phrasing.targets.chunks(at_once).enumerate() {
            let some = n * at_once..n * at_once + targets.len();
            // Slices that show nothing hold nothing.
            let mut masks = vec![vec![f32::NEG_INFINITY; volume.data.len()]; targets.len()];
            for seen in &slices {
                let rec = self.gpu.record("decoder");
                let picture = &seen.reduced;
                let logits = self.model.decode(&rec, picture, &phrases, some.clone())?;
                let all = logits.read(rec)?;
                let (size, drawn) = (self.model.image_size(), self.model.drawn());
                for (mask, logits) in masks.iter_mut().zip(all.chunks_exact(drawn * drawn)) {
                    let logits = self.model.enlarged(logits);
                    let values = stretched(&logits, [size; 2], seen.shape);
                    phrasing.view.put(mask, canonical, seen.slice, &values);
                }
                done += 1;
                observer.progress("drawing masks", done as f64 / steps as f64);
            }
            for (target, mask) in targets.iter().zip(masks) {
                let logits = geometry::restore(&mask, volume.shape, orientation);
                warnings.extend(check_logits(&target.name, &logits)?);
                // Where phrases overlap the more probable one holds the voxel, whatever is part of what.
                let equal = Target {
                    parts: 1,
                    ..target.clone()
                };
                let drawn = DrawnMask {
                    target: &equal,
                    logits: &logits,
                    above: self.model.threshold(),
                    reference: &volume,
                };
                observer.drawn(&drawn)?;
                structures.push(map.add(&drawn, None));
            }
        }
        let missing = structures.iter().filter(|structure| !structure.present);
        warnings.extend(missing.map(|structure| {
            let name = &structure.name;
            format!("`{name}` was not found: the mask is empty")
        }));
        let names = map.finish(&phrasing.targets, &mut structures);
        clock.lap("mask decoder");
        let report = Report {
            citation: self.model.citation(),
            weights: BTreeMap::from([("segmentation", self.sha256.clone())]),
            inputs: vec![input],
            views: vec![phrasing.view],
            instructions,
            seconds: clock.seconds,
            warnings,
            ..Report::new(&self.gpu, self.asked(request))
        };
        Ok(Segmentation {
            name: request.stem(),
            labels: map.labels,
            reference: volume,
            names,
            tables: phrasing.tables.clone(),
            sources: Vec::new(),
            preview: phrasing.preview,
            structures,
            report,
        })
    }

    /// The phrases as the decoder reads them.
    fn phrases(&self, instructions: &[Instruction]) -> Result<Phrases> {
        let ids = instructions
            .iter()
            .map(|instruction| self.model.tokens(&instruction.text))
            .collect::<Result<Vec<_>>>()?;
        let rec = self.gpu.record("text encoder");
        let phrases = self.model.phrases(&rec, &ids)?;
        rec.submit()?;
        Ok(phrases)
    }

    /// What the decoder reads of each slice that shows something.
    fn encode(
        &self,
        levels: &[u8],
        shape: [usize; 3],
        view: View,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Seen>> {
        let size = self.model.image_size();
        let count = shape[view.axis()];
        let (mut all, mut running) = (Vec::new(), None);
        for slice in 0..count {
            let picture: Slice<u8> = view.slice(levels, shape, slice);
            observer.progress("encoding slices", (slice + 1) as f64 / count as f64);
            if picture.data.iter().all(|grey| *grey == picture.data[0]) {
                continue;
            }
            let pixels = self.processor.process(&picture, size)?.pixels;
            let pixels = Tensor::upload(&self.gpu, "slice", [1, size, size, 4], &pixels)?;
            let rec = self.gpu.record("image encoder");
            let reduced = self.model.encode(&rec, &pixels);
            // Two in flight: the next is cut while the adapter works.
            if let Some(last) = running.replace(rec.submit()?) {
                self.gpu.wait_for(&last)?;
            }
            all.push(Seen {
                slice,
                shape: [picture.rows, picture.cols],
                reduced,
            });
        }
        Ok(all)
    }

    /// Phrases that are decoded together: as many as the widest of the decoder's tensors lets the adapter bind.
    fn at_once(&self) -> usize {
        let bytes = 4 * self.model.widest();
        (self.gpu.max_binding_bytes() as usize / bytes.max(1)).clamp(1, AT_ONCE)
    }

    fn asked(&self, request: &PhrasedRequest) -> Asked {
        let phrasing = &request.phrasing;
        let targets = phrasing.targets.iter();
        Asked {
            structures: targets.map(|t| (t.label, t.name.clone())).collect(),
            instructions: phrasing.phrases.clone(),
            modalities: vec![request.input.modality],
            views: vec![phrasing.view],
            prompt_type: Some(phrasing.prompt_type),
            ..Asked::new(&self.gpu, self.precision)
        }
    }

    /// The volume, its levels, the masks that are held and the map, beside what is kept of the slices.
    fn check_memory(&self, path: &Path, grid: &geometry::Grid, slices: usize) -> Result<()> {
        let voxels: u64 = grid.shape.iter().map(|n| *n as u64).product();
        let masks = 4 * (self.at_once() as u64 + 2);
        let kept = 4 * self.model.kept() as u64;
        let needs = voxels
            .saturating_mul(20 + masks)
            .saturating_add(kept * slices as u64);
        memory::check(path, needs)
    }
}

impl PhrasedCases {
    /// What is asked of a case.
    ///
    /// # Errors
    /// [`Error::Argument`] if it has more volumes than one.
    pub fn request(&self, request: &Request) -> Result<PhrasedRequest> {
        let [input] = request.inputs.as_slice() else {
            return Err(Error::Argument(format!(
                "{} volumes; phrases are about one",
                request.inputs.len()
            )));
        };
        Ok(PhrasedRequest {
            input: input.clone(),
            name: request.name.clone(),
            phrasing: self.phrasing.clone(),
        })
    }
}

impl batch::Model for PhrasedCases {
    type Loaded = Loaded;

    fn asked(&self, request: &Request) -> Result<Asked> {
        Ok(self.segmenter.asked(&self.request(request)?))
    }

    fn load(&self, request: &Request) -> Result<Loaded> {
        self.segmenter.load(&self.request(request)?)
    }

    fn segment_loaded(
        &self,
        request: &Request,
        loaded: Loaded,
        observer: &mut dyn Observer,
    ) -> Result<Segmentation> {
        let request = self.request(request)?;
        self.segmenter.segment_loaded(&request, loaded, observer)
    }

    fn weights_sha256(&self, role: &str) -> Result<Option<String>> {
        let own = &self.segmenter.sha256;
        Ok((role == "segmentation").then(|| own.clone()))
    }
}

/// A slice as the decoder reads it.
struct Seen {
    slice: usize,
    /// Rows and columns.
    shape: [usize; 2],
    reduced: Vec<Tensor>,
}

impl std::fmt::Debug for PhrasedSegmenter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PhrasedSegmenter")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
