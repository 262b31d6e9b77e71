//! Zeus put together from a user's own checkpoints: a SAM for each modality, a text tower, a language model.
//!
//! As in the embedded model each structure is told by an instruction and drawn in every slice of every view; masks of views and
//! modalities are fused by their predicted quality. Here slices are those of the first volume's own grid, turned for display,
//! and each prompt rewrites the image tokens, as SAM's decoder does.

mod fused;
mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::zeus_sam::ZeusSam;
use crate::pipeline::assembly::{Assembly, Drawing, Place};
use crate::pipeline::batch::{self, Model};
use crate::pipeline::home::Home;
use crate::pipeline::inputs::{ReportedInput, facts, read_inputs};
use crate::pipeline::instruct::{Instruction, Writer};
use crate::pipeline::kept::Kept;
use crate::pipeline::memory::{self, Needs};
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::{View, check_extent, check_overlap};
use crate::pipeline::prompted::{Preprocessing, levels_of};
use crate::pipeline::request::{Asked, Fusion, Instruct, Request, targets};
use crate::pipeline::result::{LabelMap, Report, Segmentation, StructureResult};
use crate::pipeline::speaking::{Subject, Told};
use crate::pipeline::stages::{Clock, check_logits};
use crate::pipeline::text_tower::TextTower;
use crate::pipeline::volume::{Volume, read_grid};
use crate::pipeline::{DrawnMask, Observer, geometry};
use crate::tensor::{Checkpoint, Precision, Tensor};

/// The most prompts that are decoded together, and whose masks are held.
const AT_ONCE: usize = 8;
/// Colours of a picture, and so the most modalities that are fused early.
const COLOURS: usize = 3;
/// Weights, kernels and the activations of a slice, beside the checkpoints.
const ALWAYS: u64 = 500 << 20;

/// An open adapter with the parts of a model loaded.
pub struct ZeusSamSegmenter {
    gpu: Gpu,
    assembly: Arc<Assembly>,
    model: ZeusSam,
    encoders: Encoders,
    preprocessing: Preprocessing,
    tower: TextTower,
    weights: BTreeMap<&'static str, String>,
    /// The size of its files.
    bytes: u64,
    home: Home,
    language_model: Option<PathBuf>,
    writer: Kept<Writer>,
    precision: Precision,
}

/// The volumes of a request as the image encoders are to see them.
pub struct Loaded {
    reference: Volume,
    /// Grey levels of each on its canonical grid.
    levels: Vec<Vec<u8>>,
    inputs: Vec<ReportedInput>,
    warnings: Vec<String>,
    seconds: Vec<(&'static str, f64)>,
}

/// Which of the SAMs encodes which modality.
#[derive(Debug)]
struct Encoders {
    own: BTreeMap<Modality, usize>,
    others: Option<usize>,
}

impl Encoders {
    fn of(&self, modality: Modality) -> Option<usize> {
        self.own.get(&modality).copied().or(self.others)
    }
}

impl ZeusSamSegmenter {
    /// Loads the parts of a model on an open adapter. `language_model` is used instead of the model's own; `home` is where the
    /// known ones are.
    ///
    /// # Errors
    /// A part that is missing, or that does not fit the others.
    pub fn on(
        gpu: Gpu,
        assembly: Arc<Assembly>,
        home: Home,
        language_model: Option<PathBuf>,
        precision: Precision,
    ) -> Result<Self> {
        let Drawing::Sam {
            image_encoders,
            image_encoder,
            mask_decoder,
            text_projection,
            preprocessing,
        } = &assembly.parts.drawing
        else {
            let problem = "`parts` has no `image_encoder`".to_owned();
            return Err(Error::config(&assembly.path, problem));
        };
        // A file that several parts name is opened once.
        let mut paths: Vec<&Path> = Vec::new();
        let mut number = |path| match paths.iter().position(|known| *known == path) {
            Some(n) => n,
            None => {
                paths.push(path);
                paths.len() - 1
            }
        };
        let encoders = Encoders {
            own: image_encoders
                .iter()
                .map(|(m, path)| (*m, number(path)))
                .collect(),
            others: image_encoder.as_deref().map(&mut number),
        };
        let drawing = number(mask_decoder);
        let sams = paths.iter().map(|path| Checkpoint::open(path));
        let sams = sams.collect::<Result<Vec<_>>>()?;
        let projection = Checkpoint::open(text_projection)?;
        let model = ZeusSam::new(&gpu, &sams, drawing, &projection, precision)?;
        let part = &assembly.parts.text_encoder;
        let text = match &part.place {
            Place::Path(path) => path.clone(),
            Place::Known(name) => home.locate(name)?,
        };
        let tower = TextTower::open(&gpu, &text, part.pooling)?;
        if tower.dim() != model.text_dim() {
            let (kind, has) = (tower.kind(), tower.dim());
            let problem = format!(
                "tensor `weight` takes {} values, the text encoder, a {kind}, gives {has}",
                model.text_dim()
            );
            return Err(Error::weights(text_projection, problem));
        }
        let mut weights = BTreeMap::from([
            ("segmentation", sams[drawing].sha256()),
            ("text projection", projection.sha256()),
            ("text encoder", tower.sha256.clone()),
        ]);
        let own = encoders.own.iter().map(|(m, n)| (image_encoder_of(*m), *n));
        let others = encoders.others.map(|n| ("image encoder", n));
        weights.extend(own.chain(others).map(|(role, n)| (role, sams[n].sha256())));
        let bytes = sams.iter().map(|sam| sam.byte_len() as u64).sum();
        let preprocessing = *preprocessing;
        Ok(Self {
            gpu,
            assembly,
            model,
            encoders,
            preprocessing,
            tower,
            weights,
            bytes,
            home,
            language_model,
            writer: Kept::new(false),
            precision,
        })
    }

    /// The same for many requests: its language model stays.
    #[must_use]
    pub fn lasting(self) -> Self {
        Self {
            writer: Kept::new(true),
            ..self
        }
    }

    /// Refuses what such a model cannot be asked for.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(request: &Request) -> Result<()> {
        if request.fast {
            return Err(Error::Argument(
                "--fast is for the built-in model; name one --view instead".into(),
            ));
        }
        if request.instruct == Instruct::Lvlm {
            return Err(Error::Argument(
                "--instruct lvlm is for the built-in model".into(),
            ));
        }
        if request.views.is_empty() {
            return Err(Error::Argument("no view to segment in".into()));
        }
        if request.targets.is_empty() {
            return Err(Error::Argument(
                "nothing says what to segment; give --find or --instruction".into(),
            ));
        }
        let count = request.inputs.len();
        if request.fusion == Fusion::Early && count > COLOURS {
            return Err(Error::Argument(format!(
                "early fusion of {count} modalities; a picture has {COLOURS} colours"
            )));
        }
        Ok(())
    }

    /// Segments the volumes of a request.
    ///
    /// # Errors
    /// A request that makes no sense, a modality that has no encoder, a volume that cannot be used, volumes that do not overlap,
    /// or an adapter that fails; nothing has been written then.
    pub fn segment(&self, request: &Request, observer: &mut dyn Observer) -> Result<Segmentation> {
        Self::check(request)?;
        observer.needs(&self.check_memory(request)?);
        self.segment_loaded(request, self.read(request)?, observer)
    }

    fn run(
        &self,
        request: &Request,
        loaded: Loaded,
        observer: &mut dyn Observer,
    ) -> Result<Segmentation> {
        let asked = self.asked(request)?;
        let targets = targets(request)?;
        let Loaded {
            reference,
            levels,
            inputs,
            mut warnings,
            seconds,
        } = loaded;
        let mut clock = Clock::after(seconds);
        warnings.extend(self.gpu.distrusted());

        let modalities: Vec<Modality> = inputs.iter().map(|input| input.modality).collect();
        let spoken = match request.fusion {
            Fusion::Late => &modalities[..],
            Fusion::Hybrid | Fusion::Early => &modalities[..1],
        };
        let mut weights = self.weights.clone();
        let instructions = {
            let region = self.assembly.wording.region.as_deref();
            let facts = facts(&inputs[0], &reference, region, None);
            let subject = Subject {
                request,
                targets: &targets,
                modalities: spoken,
                facts: &facts,
                views: &request.views,
                wording: &self.assembly.wording,
            };
            let mut told = Told {
                weights: &mut weights,
                warnings: &mut warnings,
            };
            subject.instructions(&self.gpu, || self.writer(), &mut told, observer)?
        };
        clock.lap("instructions");
        let tokens = self.tokens(&instructions, targets.len(), &request.views, &mut warnings)?;
        clock.lap("text encoder");
        let canonical = reference.grid().canonical().shape;
        let seen = self.encode(request, &modalities, &levels, canonical, observer)?;
        drop(levels);
        clock.lap("image encoder");

        let orientation = reference.grid().orientation();
        let mut map = LabelMap::new(&reference);
        let mut structures: Vec<StructureResult> = Vec::new();
        let at_once = self.at_once();
        for (n, some) in targets.chunks(at_once).enumerate() {
            let done = |share: f64| {
                (structures.len() as f64 + share * some.len() as f64) / targets.len() as f64
            };
            let fused = self.fuse(
                some,
                n * at_once,
                &tokens,
                &request.views,
                &seen,
                canonical,
                &mut |share| observer.progress("drawing masks", done(share)),
            )?;
            for (target, fused) in some.iter().zip(fused) {
                let quality = fused.quality();
                let logits = geometry::restore(&fused.logits(), reference.shape, orientation);
                warnings.extend(check_logits(&target.name, &logits)?);
                let drawn = DrawnMask {
                    target,
                    logits: &logits,
                    above: self.assembly.threshold.logit(quality),
                    reference: &reference,
                };
                observer.drawn(&drawn)?;
                structures.push(map.add(&drawn, quality));
            }
        }
        let missing = structures.iter().filter(|structure| !structure.present);
        warnings.extend(missing.map(|structure| {
            let name = &structure.name;
            format!("`{name}` was not found: the mask is empty")
        }));
        let names = map.finish(&targets, &mut structures);
        clock.lap("mask decoder");
        let report = Report {
            model: Some(self.assembly.card.clone()),
            weights,
            inputs,
            views: request.views.clone(),
            fusion: request.fusion,
            instructions,
            preprocessing: Some(self.preprocessing),
            seconds: clock.seconds,
            warnings,
            ..Report::new(&self.gpu, asked)
        };
        Ok(Segmentation {
            name: request.stem(),
            labels: map.labels,
            reference,
            names,
            tables: request.tables.clone(),
            sources: Vec::new(),
            preview: request.preview,
            structures,
            report,
        })
    }

    /// The language model that writes instructions.
    fn writer(&self) -> Result<Arc<Writer>> {
        let own = self.language_model.as_deref();
        self.writer
            .get(|| self.assembly.writer(&self.gpu, &self.home, own))
    }

    /// Reads the volumes of a request.
    fn read(&self, request: &Request) -> Result<Loaded> {
        let mut clock = Clock::new();
        let (mut reference, mut all) = (None::<Volume>, Vec::new());
        let mut warnings = Vec::new();
        let inputs = read_inputs(&request.inputs, &mut warnings, |volume, input, warnings| {
            if self.encoders.of(input.modality).is_none() {
                let known: Vec<String> =
                    self.encoders.own.keys().map(Modality::to_string).collect();
                return Err(Error::Argument(format!(
                    "`{}` is {}, and the model has image encoders for {} alone",
                    input.path.display(),
                    input.modality,
                    known.join(", ")
                )));
            }
            let grid = volume.grid();
            check_extent(&volume.path, &grid)?;
            let data = geometry::reorient(&volume.data, volume.shape, grid.orientation());
            let data = match &reference {
                None => data,
                Some(first) => {
                    warnings.extend(check_overlap(&first.grid(), &volume)?);
                    let (from, to) = (grid.canonical(), first.grid().canonical());
                    match from.matches(&to, 1e-3) {
                        true => data,
                        false => {
                            let outside = data.iter().copied().fold(f32::INFINITY, f32::min);
                            geometry::resample(&data, &from, &to, outside)
                        }
                    }
                }
            };
            all.push(levels_of(&data, input.modality));
            reference.get_or_insert(volume);
            Ok(())
        })?;
        let Some(reference) = reference else {
            return Err(Error::Argument("no volume to segment".into()));
        };
        clock.lap("read");
        Ok(Loaded {
            reference,
            levels: all,
            inputs,
            warnings,
            seconds: clock.seconds,
        })
    }

    /// The decoder's tokens of the instructions: for each modality that is spoken of and each view `[targets, prompt_dim]`.
    fn tokens(
        &self,
        instructions: &[Instruction],
        targets: usize,
        views: &[View],
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Vec<Tensor>>> {
        let said = |view: &View| {
            instructions
                .iter()
                .map(|said| said.for_view(*view))
                .collect()
        };
        let said: Vec<Vec<String>> = views.iter().map(said).collect();
        let texts: BTreeSet<&str> = said.iter().flatten().map(String::as_str).collect();
        let texts: Vec<&str> = texts.into_iter().collect();
        let (values, cut) = self.tower.embed(&self.gpu, &texts)?;
        if cut {
            warnings.push(
                "an instruction was longer than the text encoder takes; its end was left out"
                    .into(),
            );
        }
        let dim = self.tower.dim();
        let rows = values.chunks_exact(dim);
        let known: BTreeMap<&str, &[f32]> = texts.iter().copied().zip(rows).collect();
        let of = |texts: &[String]| {
            let rows: Vec<f32> = texts
                .iter()
                .flat_map(|text| known[text.as_str()].iter().copied())
                .collect();
            let rows = Tensor::upload(&self.gpu, "instructions", [texts.len(), dim], &rows)?;
            let rec = self.gpu.record("text projection");
            let projected = self.model.project(&rec, &rows);
            rec.submit()?;
            Ok(projected)
        };
        (0..instructions.len() / targets)
            .map(|m| {
                let part = m * targets..(m + 1) * targets;
                said.iter().map(|texts| of(&texts[part.clone()])).collect()
            })
            .collect()
    }

    /// Prompts that are decoded together: as many as the widest of the decoder's tensors lets the adapter bind.
    fn at_once(&self) -> usize {
        let config = self.model.config();
        let grid = config.grid();
        // The image tokens of each, and its pixels of an eighth of their width.
        let tokens = grid * grid * config.prompt_dim;
        let pixels = config.low_res() * config.low_res() * config.prompt_dim / 8;
        let bytes = 4 * tokens.max(pixels);
        (self.gpu.max_binding_bytes() as usize / bytes.max(1)).clamp(1, AT_ONCE)
    }

    fn asked(&self, request: &Request) -> Result<Asked> {
        let targets = targets(request)?;
        Ok(Asked {
            structures: targets.into_iter().map(|t| (t.label, t.name)).collect(),
            instructions: request.instructions.clone(),
            instruct: request.instruct,
            modalities: request.inputs.iter().map(|input| input.modality).collect(),
            views: request.views.clone(),
            fusion: request.fusion,
            ..Asked::new(&self.gpu, self.precision)
        })
    }

    /// The memory that a request needs, at most; refused if it is more than the machine has left.
    fn check_memory(&self, request: &Request) -> Result<Needs> {
        let Some(first) = request.inputs.first() else {
            return Err(Error::Argument("no volume to segment".into()));
        };
        let times = |factors: &[u64]| factors.iter().fold(1_u64, |n, f| n.saturating_mul(*f));
        let voxels = |grid: &geometry::Grid| times(&grid.shape.map(|n| n as u64));
        let grids = request.inputs.iter().map(|input| {
            let grid = read_grid(&input.path)?;
            check_extent(&input.path, &grid)?;
            Ok(grid)
        });
        let grids = grids.collect::<Result<Vec<_>>>()?;
        let native = voxels(&grids[0]);
        let largest = grids.iter().map(voxels).max().unwrap_or(native);
        let (inputs, at_once) = (grids.len() as u64, self.at_once() as u64);
        // The first stays, each is a byte a voxel; of one there are two more while it is read. Then the map, and of each target
        // that is drawn a sum, its weight and, as it ends, logits twice.
        let reading = times(&[4 + inputs, native]).saturating_add(times(&[12, largest]));
        let drawing = times(&[4 + 10 + 9 + 8 * at_once, native]);
        let config = self.model.config();
        let [grid, dim, size] =
            [config.grid(), config.prompt_dim, config.image_size].map(|n| n as u64);
        let canonical = grids[0].canonical().shape;
        let slices: u64 = request
            .views
            .iter()
            .map(|view| canonical[view.axis()] as u64)
            .sum();
        let groups = match request.fusion {
            Fusion::Late => inputs,
            Fusion::Hybrid | Fusion::Early => 1,
        };
        let adapter =
            times(&[groups, slices, 4, grid, grid, dim]).saturating_add(ALWAYS + self.bytes);
        let pictures = times(&[inputs, 16, size, size]);
        let host = reading.max(drawing).saturating_add(pictures);
        let needs = Needs { host, adapter };
        memory::check(&first.path, needs.of_machine(self.gpu.is_cpu()))?;
        Ok(needs)
    }
}

impl batch::Model for ZeusSamSegmenter {
    type Loaded = Loaded;

    fn asked(&self, request: &Request) -> Result<Asked> {
        self.asked(request)
    }

    fn load(&self, request: &Request) -> Result<Loaded> {
        Self::check(request)?;
        self.check_memory(request)?;
        self.read(request)
    }

    fn segment_loaded(
        &self,
        request: &Request,
        loaded: Loaded,
        observer: &mut dyn Observer,
    ) -> Result<Segmentation> {
        let result = self.run(request, loaded, observer);
        // The next volume has other sizes: what this one left in the pool would not fit it.
        self.gpu.trim();
        result
    }

    fn weights_sha256(&self, role: &str) -> Result<Option<String>> {
        Ok(match role {
            "language model" => Some(self.writer()?.sha256().to_owned()),
            _ => self.weights.get(role).cloned(),
        })
    }
}

/// The role of a modality's own encoder, for reports.
fn image_encoder_of(modality: Modality) -> &'static str {
    match modality {
        Modality::T1 => "image encoder for T1",
        Modality::T2 => "image encoder for T2",
        Modality::Flair => "image encoder for FLAIR",
        Modality::Pd => "image encoder for PD",
        Modality::Ct => "image encoder for CT",
    }
}

impl std::fmt::Debug for ZeusSamSegmenter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ZeusSamSegmenter")
            .field("path", &self.assembly.path)
            .finish_non_exhaustive()
    }
}
