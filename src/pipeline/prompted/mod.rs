//! Structures that are shown by boxes and points: SAM and its kin, slice by slice.
//!
//! What is shown in one slice is looked for in its neighbours with the box of the mask before, a little larger, until nothing
//! is found or the model no longer believes in what it finds. Slices are those of the volume's own grid, turned and mirrored
//! for display, never interpolated: a mask's voxels are the file's.

mod picture;
mod places;
mod spline;
mod sweep;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use picture::{Picture, Preprocessing, levels};
pub(in crate::pipeline) use picture::{levels_of, stretched};
pub use places::{Corners, Frame, Placed, Point};
pub use sweep::{LEAST_IOU, MARGIN};

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::sam::Sam;
use crate::pipeline::card::PROMPTED_CITATION;
use crate::pipeline::inputs::read_input;
use crate::pipeline::prepare::{View, check_extent};
use crate::pipeline::preview::Style;
use crate::pipeline::request::Asked;
use crate::pipeline::result::{LabelMap, Report, Segmentation};
use crate::pipeline::stages::{Clock, check_logits};
use crate::pipeline::structures::Target;
use crate::pipeline::volume::{LabelTable, read_grid};
use crate::pipeline::{DrawnMask, Input, Observer, finish, geometry, memory};
use crate::tensor::{Checkpoint, Precision};
use sweep::Sweep;

/// What to segment, and what shows it.
#[derive(Clone, Debug)]
pub struct PromptedRequest {
    /// The volume.
    pub input: Input,
    /// The view whose slices are looked at.
    pub view: View,
    /// A box for each object.
    pub corners: Vec<Corners>,
    /// Points in or outside the one object.
    pub points: Vec<Point>,
    /// Whether boxes and points are in millimetres of the volume's world (RAS), not in its voxels.
    pub millimetres: bool,
    /// What the objects are, one for each box or one for the points; `object 1` and so on if empty.
    pub targets: Vec<Target>,
    /// The most slices to either side of the one that is shown; as many as there are if nothing is said.
    pub reach: Option<usize>,
    /// Tables of the labels for other programs, written beside the map.
    pub tables: Vec<LabelTable>,
    /// How the preview draws the objects.
    pub preview: Style,
}

/// An object as it was shown and followed.
#[derive(Clone, Debug, Serialize)]
pub struct Followed {
    /// Its name.
    pub name: String,
    /// The boxes and points, as they are written.
    pub shown: Vec<String>,
    /// The slice that they lie in, as the file counts it.
    pub slice: usize,
    /// The slices in which it was found, as the file counts them, each with its predicted IoU and its pixels.
    pub slices: Vec<FoundIn>,
    /// Why it was followed no farther, below and above.
    pub ended: [&'static str; 2],
}

/// A slice in which an object was found.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FoundIn {
    /// As the file counts it.
    pub slice: usize,
    /// What the model believes of its mask.
    pub predicted_iou: f32,
    /// Pixels of the mask.
    pub pixels: usize,
}

impl PromptedRequest {
    /// What the files of the result are called.
    pub fn stem(&self) -> String {
        finish::stem(&self.input.path)
    }

    /// Whether boxes, points and names go together: asked for before a model is loaded.
    ///
    /// # Errors
    /// [`Error::Argument`] with what does not.
    pub fn check(&self) -> Result<()> {
        self.targets().map(drop)
    }

    /// The objects, each with a label of its own.
    fn targets(&self) -> Result<Vec<Target>> {
        let count = self.corners.len().max(1);
        if self.corners.len() > 1 && !self.points.is_empty() {
            let problem = "--point with several --box; points go with one box, or alone";
            return Err(Error::Argument(problem.into()));
        }
        if self.corners.is_empty() && !self.points.iter().any(|point| point.inside) {
            let problem = match self.points.is_empty() {
                true => "neither --box nor --point is given",
                false => "no --point lies in the object; give one without `-`, or a --box",
            };
            return Err(Error::Argument(problem.into()));
        }
        if self.targets.is_empty() {
            let name = |n| format!("object {}", n + 1);
            return Ok((0..count)
                .map(|n| Target::free(&name(n), n as u16))
                .collect());
        }
        if self.targets.len() != count {
            return Err(Error::Argument(format!(
                "{} times --find for {count} objects; a name for each --box in turn, one for points",
                self.targets.len()
            )));
        }
        for (n, target) in self.targets.iter().enumerate() {
            if self.targets[..n].iter().any(|t| t.label == target.label) {
                let name = &target.name;
                return Err(Error::Argument(format!("`{name}` is asked for twice")));
            }
        }
        Ok(self.targets.clone())
    }

    /// Boxes and points of the n-th object.
    fn of(&self, n: usize) -> (Option<&Corners>, &[Point]) {
        match self.corners.get(n) {
            Some(corners) if self.corners.len() > 1 => (Some(corners), &[]),
            corners => (corners, &self.points),
        }
    }
}

/// An open adapter with a SAM loaded.
pub struct PromptedSegmenter {
    gpu: Gpu,
    sam: Sam,
    sha256: String,
    path: PathBuf,
    precision: Precision,
    preprocessing: Preprocessing,
}

impl PromptedSegmenter {
    /// Loads a SAM on an open adapter: a folder as Hugging Face has it, or a safetensors file. One whose file or folder has
    /// `medsam` in its name is shown slices as MedSAM is; the tensors do not tell the two apart.
    ///
    /// # Errors
    /// A checkpoint that does not fit; what it seems to be is said.
    pub fn on(gpu: Gpu, path: &Path, precision: Precision) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let sam = Sam::new(&gpu, &checkpoint, precision)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let preprocessing = match name.to_lowercase().contains("medsam") {
            true => Preprocessing::MedSam,
            false => Preprocessing::Sam,
        };
        Ok(Self {
            gpu,
            sam,
            sha256: checkpoint.sha256(),
            path: path.into(),
            precision,
            preprocessing,
        })
    }

    /// How slices are shown to the model.
    pub fn preprocessing(&self) -> Preprocessing {
        self.preprocessing
    }

    /// Segments what a request shows.
    ///
    /// # Errors
    /// A request that makes no sense, a volume that cannot be used, or an adapter that fails; nothing has been written then.
    pub fn segment(
        &self,
        request: &PromptedRequest,
        observer: &mut dyn Observer,
    ) -> Result<Segmentation> {
        let targets = request.targets()?;
        let path = &request.input.path;
        // What lies outside or is too large is said before anything is read.
        let grid = read_grid(path)?;
        check_extent(path, &grid)?;
        let frame = Frame::new(&grid, request.view, request.millimetres);
        let placed = (0..targets.len()).map(|n| {
            let (corners, points) = request.of(n);
            frame.place(corners, points)
        });
        let placed = placed.collect::<Result<Vec<_>>>()?;
        self.check_memory(path, &grid)?;

        let mut clock = Clock::new();
        let mut warnings = self.gpu.distrusted();
        let (volume, input, _) = read_input(&request.input, &mut warnings)?;
        let orientation = grid.orientation();
        let levels = levels(&volume, input.modality);
        let levels = geometry::reorient(&levels, volume.shape, orientation);
        clock.lap("read");
        let mut sweep = Sweep::new(
            &self.gpu,
            &self.sam,
            self.preprocessing,
            &levels,
            frame.canonical(),
            request.view,
            request.reach,
        );
        let objects = sweep.run(&placed, observer)?;
        clock.lap("slices");

        let mut map = LabelMap::new(&volume);
        let (mut structures, mut followed) = (Vec::new(), Vec::new());
        for (n, (target, object)) in targets.iter().zip(objects).enumerate() {
            let canonical = frame.canonical();
            let mut values = vec![-1.0_f32; volume.data.len()];
            let mut slices: Vec<FoundIn> = Vec::new();
            for (slice, found) in &object.slices {
                request
                    .view
                    .put(&mut values, canonical, *slice, &found.values);
                slices.push(FoundIn {
                    slice: frame.native_slice(*slice),
                    predicted_iou: found.iou,
                    pixels: found.pixels,
                });
            }
            let values = geometry::restore(&values, volume.shape, orientation);
            warnings.extend(check_logits(&target.name, &values)?);
            let drawn = DrawnMask {
                target,
                logits: &values,
                above: 0.0,
                reference: &volume,
            };
            observer.drawn(&drawn)?;
            // An IoU as the Dice that goes with it.
            let best = object.slices.get(&placed[n].slice).map(|found| found.iou);
            let dice = best
                .map(|iou| iou.clamp(0.0, 1.0))
                .map(|iou| 2.0 * iou / (1.0 + iou));
            structures.push(map.add(&drawn, dice));
            if object.slices.is_empty() {
                let name = &target.name;
                warnings.push(format!("`{name}` was not found: the mask is empty"));
            }
            let (corners, points) = request.of(n);
            let shown = corners.iter().map(|corners| format!("box {corners}"));
            let points = points.iter().map(|point| format!("point {point}"));
            followed.push(Followed {
                name: target.name.clone(),
                shown: shown.chain(points).collect(),
                slice: frame.native_slice(placed[n].slice),
                slices,
                ended: object.ended,
            });
        }
        let names = map.finish(&targets, &mut structures);
        clock.lap("map");
        let report = Report {
            citation: PROMPTED_CITATION,
            weights: BTreeMap::from([("segmentation", self.sha256.clone())]),
            inputs: vec![input],
            views: vec![request.view],
            preprocessing: Some(self.preprocessing),
            followed,
            seconds: clock.seconds,
            warnings,
            ..Report::new(&self.gpu, self.asked(request, &targets))
        };
        Ok(Segmentation {
            name: request.stem(),
            labels: map.labels,
            reference: volume,
            names,
            tables: request.tables.clone(),
            sources: Vec::new(),
            preview: request.preview,
            structures,
            report,
        })
    }

    fn asked(&self, request: &PromptedRequest, targets: &[Target]) -> Asked {
        let targets = targets.iter();
        Asked {
            structures: targets.map(|t| (t.label, t.name.clone())).collect(),
            modalities: vec![request.input.modality],
            views: vec![request.view],
            ..Asked::new(&self.gpu, self.precision)
        }
    }

    /// The volume, its levels, an object's values and the map, beside a slice's pictures.
    fn check_memory(&self, path: &Path, grid: &geometry::Grid) -> Result<()> {
        let voxels: u64 = grid.shape.iter().map(|n| *n as u64).product();
        let side = self.sam.config().image_size as u64;
        let needs = voxels.saturating_mul(32).saturating_add(64 * side * side);
        memory::check(path, needs)
    }
}

impl std::fmt::Debug for PromptedSegmenter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PromptedSegmenter")
            .field("path", &self.path)
            .field("preprocessing", &self.preprocessing)
            .finish_non_exhaustive()
    }
}
