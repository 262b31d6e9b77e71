//! Zeus put together from a user's own checkpoints: a SAM for each modality, a text tower, a language model.
//!
//! As in the embedded model each structure is told by an instruction and drawn in every slice of every view; masks of views and
//! modalities are fused by their predicted quality. Here slices are those of the first volume's own grid, turned for display,
//! and each prompt rewrites the image tokens, as SAM's decoder does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::gpu::{Bind, Gpu, Reading};
use crate::models::zeus_sam::ZeusSam;
use crate::ops::gather_rows;
use crate::pipeline::assembly::{Assembly, Drawing, Place};
use crate::pipeline::card::{CITATION, DISCLAIMER};
use crate::pipeline::home::Home;
use crate::pipeline::inputs::{ReportedInput, facts, read_inputs};
use crate::pipeline::instruct::Instruction;
use crate::pipeline::memory::{self, Needs};
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::{View, check_extent, check_overlap};
use crate::pipeline::prompted::{Picture, Preprocessing, levels_of};
use crate::pipeline::request::{Asked, Fusion, Instruct, Request, VERSION, targets};
use crate::pipeline::result::{LabelMap, Report, Segmentation, StructureResult};
use crate::pipeline::speaking::{Subject, Told};
use crate::pipeline::stages::{Clock, check_logits, precision_in_words};
use crate::pipeline::structures::{Side, Target};
use crate::pipeline::text_tower::TextTower;
use crate::pipeline::volume::{Volume, read_grid};
use crate::pipeline::{Observer, geometry, schema};
use crate::tensor::{Checkpoint, Precision, Tensor};

/// The most prompts that are decoded together, and whose masks are held.
const AT_ONCE: usize = 8;
/// Logits beyond this are as good as certain; fusion must not let one slice outweigh the rest.
const LIMIT: f32 = 10.0;
/// What the weight of a mask has beside its predicted IoU, so that none is nothing.
const LEAST_WEIGHT: f32 = 1e-3;
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
    precision: Precision,
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

/// What the decoder reads of a slice that shows something.
struct Seen {
    /// Which of the views.
    view: usize,
    slice: usize,
    /// How it lies in the square.
    picture: Picture,
    /// Image tokens, of each modality or of all of them.
    images: Vec<Tensor>,
}

/// The masks of a target as they are fused, on the canonical grid.
struct Fused {
    sum: Vec<f32>,
    weight: Vec<f32>,
    /// Pixels of its masks, and the predicted Dice summed over them.
    area: (f64, f64),
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
            precision,
        })
    }

    /// Segments the volumes of a request.
    ///
    /// # Errors
    /// A request that makes no sense, a modality that has no encoder, a volume that cannot be used, volumes that do not overlap,
    /// or an adapter that fails; nothing has been written then.
    pub fn segment(&self, request: &Request, observer: &mut dyn Observer) -> Result<Segmentation> {
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
        observer.needs(&self.check_memory(request)?);
        let result = self.run(request, observer);
        self.gpu.trim();
        result
    }

    fn run(&self, request: &Request, observer: &mut dyn Observer) -> Result<Segmentation> {
        let asked = self.asked(request)?;
        let targets = targets(request)?;
        let mut clock = Clock::new();
        let mut warnings = self.gpu.distrusted();
        let (reference, levels, inputs) = self.read(request, &mut warnings)?;
        clock.lap("read");

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
            let own = self.language_model.as_deref();
            let writer = || Ok(Arc::new(self.assembly.writer(&self.gpu, &self.home, own)?));
            subject.instructions(&self.gpu, writer, &mut told, observer)?
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
                observer.logits(target, &logits, &reference)?;
                structures.push(map.add(target, &logits, quality, &reference));
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
            schema: schema::REPORT.id,
            version: VERSION,
            disclaimer: DISCLAIMER,
            citation: CITATION,
            model: Some(self.assembly.card.clone()),
            adapter: self.gpu.summary().clone(),
            precision: precision_in_words(self.precision, &self.gpu),
            weights,
            asked,
            inputs,
            views: request.views.clone(),
            fast: false,
            fusion: request.fusion,
            instructions,
            preprocessing: Some(self.preprocessing),
            followed: Vec::new(),
            seconds: clock.seconds,
            warnings,
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

    /// The first volume, and the grey levels of each on its canonical grid.
    fn read(
        &self,
        request: &Request,
        warnings: &mut Vec<String>,
    ) -> Result<(Volume, Vec<Vec<u8>>, Vec<ReportedInput>)> {
        let (mut reference, mut all) = (None::<Volume>, Vec::new());
        let inputs = read_inputs(&request.inputs, warnings, |volume, input, warnings| {
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
        match reference {
            Some(reference) => Ok((reference, all, inputs)),
            None => Err(Error::Argument("no volume to segment".into())),
        }
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

    /// Image tokens of every slice that shows something in any modality.
    fn encode(
        &self,
        request: &Request,
        modalities: &[Modality],
        levels: &[Vec<u8>],
        shape: [usize; 3],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Seen>> {
        let all: usize = request.views.iter().map(|view| shape[view.axis()]).sum();
        let size = self.model.config().image_size;
        let (mut seen, mut running, mut done) = (Vec::new(), None, 0);
        for (n, view) in request.views.iter().enumerate() {
            for slice in 0..shape[view.axis()] {
                done += 1;
                observer.progress("encoding slices", done as f64 / all as f64);
                let slices = levels.iter().map(|levels| view.slice(levels, shape, slice));
                let slices: Vec<_> = slices.collect();
                let is_blank = |data: &[u8]| data.iter().all(|grey| *grey == data[0]);
                if slices.iter().all(|slice| is_blank(&slice.data)) {
                    continue;
                }
                let pictures = slices
                    .iter()
                    .map(|slice| Picture::new(slice, size, self.preprocessing));
                let mut pictures: Vec<Picture> = pictures.collect();
                let mut inputs: Vec<Vec<f32>> =
                    pictures.iter_mut().map(Picture::take_pixels).collect();
                if request.fusion == Fusion::Early {
                    inputs = vec![coloured(&inputs)];
                }
                let rec = self.gpu.record("image encoder");
                let mut images = Vec::new();
                for (pixels, modality) in inputs.iter().zip(modalities) {
                    // Every input was asked for when it was read.
                    let encoder = self.encoders.of(*modality).unwrap_or(0);
                    let pixels = Tensor::upload(&self.gpu, "slice", [1, size, size, 4], pixels)?;
                    images.push(self.model.encode(&rec, encoder, &pixels));
                }
                if request.fusion == Fusion::Hybrid {
                    images = vec![self.model.mean(&rec, &images)];
                }
                // Two in flight: the next is cut while the adapter works.
                if let Some(last) = running.replace(rec.submit()?) {
                    self.gpu.wait_for(&last)?;
                }
                seen.push(Seen {
                    view: n,
                    slice,
                    picture: pictures.swap_remove(0),
                    images,
                });
            }
        }
        Ok(seen)
    }

    /// The masks of some targets, the first of which is the `first` of all, in all slices.
    #[expect(
        clippy::too_many_arguments,
        reason = "what was encoded, and how it is put together"
    )]
    fn fuse(
        &self,
        targets: &[Target],
        first: usize,
        tokens: &[Vec<Tensor>],
        views: &[View],
        seen: &[Seen],
        shape: [usize; 3],
        progress: &mut dyn FnMut(f64),
    ) -> Result<Vec<Fused>> {
        let voxels = shape.iter().product();
        let mut all: Vec<Fused> = targets.iter().map(|_| Fused::new(voxels)).collect();
        let (mut running, slices): (Option<(Reading, &Seen)>, _) = (None, seen.len());
        for (n, next) in seen.iter().map(Some).chain([None]).enumerate() {
            let begun = match next {
                Some(seen) => {
                    let rec = self.gpu.record("mask decoder");
                    let mut results = Vec::new();
                    for (image, tokens) in seen.images.iter().zip(tokens) {
                        let some = gather_rows(&rec, &tokens[seen.view], targets.len(), first, 1);
                        let masks = self.model.decode(&rec, image, &some, |_, _| ())?;
                        let [prompts, each, rows, cols] = masks.low_res.dims();
                        // The one mask; the others are for prompts that may mean several things.
                        let low_res = masks.low_res.reshape([prompts * each, rows * cols]);
                        results.push(gather_rows(&rec, &low_res, prompts, 0, each));
                        results.push(masks.iou);
                    }
                    let wanted: Vec<(&dyn Bind, usize)> = results
                        .iter()
                        .map(|tensor| (tensor as &dyn Bind, tensor.len()))
                        .collect();
                    Some((rec.begin_read(&wanted)?, seen))
                }
                None => None,
            };
            // While masks are brought to their slice here, the adapter draws the next.
            let Some((reading, seen)) = std::mem::replace(&mut running, begun) else {
                continue;
            };
            let view = views[seen.view];
            let side = self.model.config().low_res();
            let read = reading.finish::<f32>()?;
            for masks in read.chunks_exact(2) {
                let width = masks[1].len() / targets.len();
                all.par_iter_mut()
                    .zip(targets)
                    .enumerate()
                    .for_each(|(n, (fused, target))| {
                        if shows(view, seen.slice, shape, target.side) {
                            let low_res = &masks[0][n * side * side..][..side * side];
                            let logits = seen.picture.logits(low_res, side);
                            let places = view.indices(shape, seen.slice);
                            fused.add(places, &logits, masks[1][n * width]);
                        }
                    });
            }
            progress(n as f64 / slices as f64);
        }
        Ok(all)
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
            fast: false,
            fusion: request.fusion,
            precision: self.precision,
            cooperative: self.gpu.coop_tile().is_some(),
            version: VERSION,
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
        let machine = needs.of_machine(self.gpu.is_cpu());
        match memory::available() {
            Some(has) if machine > has => Err(Error::Memory {
                path: first.path.clone(),
                needs: memory::gigabytes(machine),
                has: memory::gigabytes(has),
            }),
            _ => Ok(needs),
        }
    }
}

impl Fused {
    fn new(voxels: usize) -> Self {
        Self {
            sum: vec![0.0; voxels],
            weight: vec![0.0; voxels],
            area: (0.0, 0.0),
        }
    }

    /// Adds the logits of a slice by how good they are predicted to be.
    fn add(&mut self, places: impl Iterator<Item = usize>, logits: &[f32], iou: f32) {
        let iou = iou.clamp(0.0, 1.0);
        let weight = iou + LEAST_WEIGHT;
        let mut area = 0_u32;
        for (place, logit) in places.zip(logits) {
            self.sum[place] += weight * logit.clamp(-LIMIT, LIMIT);
            self.weight[place] += weight;
            area += u32::from(*logit > 0.0);
        }
        let dice = 2.0 * iou / (1.0 + iou);
        self.area.0 += f64::from(area);
        self.area.1 += f64::from(area) * f64::from(dice);
    }

    /// Mean logits; nothing is there where no slice was looked at.
    fn logits(&self) -> Vec<f32> {
        let mean = |(sum, weight): (&f32, &f32)| match *weight > 0.0 {
            true => sum / weight,
            false => f32::NEG_INFINITY,
        };
        self.sum.iter().zip(&self.weight).map(mean).collect()
    }

    /// The predicted Dice, averaged over slices by mask area; none where nothing was found.
    fn quality(&self) -> Option<f32> {
        let (area, dice) = self.area;
        (area > 0.0).then(|| (dice / area) as f32)
    }
}

/// Several modalities as the colours of one picture; colours beyond them begin again with the first.
fn coloured(pictures: &[Vec<f32>]) -> Vec<f32> {
    let mut all = pictures[0].clone();
    for (n, pixel) in all.chunks_exact_mut(4).enumerate() {
        for (colour, value) in pixel.iter_mut().take(COLOURS).enumerate() {
            *value = pictures[colour % pictures.len()][4 * n + colour];
        }
    }
    all
}

/// Whether a slice speaks for a target of a side: a sagittal one does not show its side, and speaks for its own half alone.
fn shows(view: View, slice: usize, shape: [usize; 3], side: Option<Side>) -> bool {
    let slices = shape[View::Sagittal.axis()];
    match (view, side) {
        (View::Sagittal, Some(Side::Left)) => slice < slices.div_ceil(2),
        (View::Sagittal, Some(Side::Right)) => slice >= slices / 2,
        _ => true,
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
