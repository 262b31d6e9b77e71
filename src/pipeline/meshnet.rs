//! A volume into the classes of a MeshNet: conformed, scaled, classified, and back on its own grid.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::meshnet::{MeshNet, SLAB_BYTES};
use crate::pipeline::batch::{self, Model};
use crate::pipeline::card::MESHNET_CITATION;
use crate::pipeline::conform::{Conformed, Part, restore};
use crate::pipeline::geometry::Grid;
use crate::pipeline::inputs::{ReportedInput, read_input};
use crate::pipeline::memory::{self, Needs};
use crate::pipeline::prepare::View;
use crate::pipeline::request::{Asked, Fusion, Instruct, Request};
use crate::pipeline::result::{Report, Segmentation, StructureResult};
use crate::pipeline::segmenter::Observer;
use crate::pipeline::stages::Clock;
use crate::pipeline::statistics;
use crate::pipeline::volume::{Names, Volume};
use crate::tensor::{Checkpoint, Precision};

/// A MeshNet on an open adapter.
pub struct MeshSegmenter {
    gpu: Gpu,
    model: MeshNet,
    sha256: String,
    precision: Precision,
}

/// A volume as the network is to see it.
pub struct Loaded {
    reference: Volume,
    input: ReportedInput,
    /// The conformed grid, and the part of it that is looked at.
    grid: Grid,
    part: Part,
    /// Its intensities as 0 … 1.
    values: Vec<f32>,
    needs: Needs,
    warnings: Vec<String>,
    seconds: Vec<(&'static str, f64)>,
}

impl MeshSegmenter {
    /// Loads a network that `keraunos convert` wrote.
    ///
    /// # Errors
    /// Metadata or tensors that do not fit.
    pub fn on(gpu: Gpu, checkpoint: &Checkpoint, precision: Precision) -> Result<Self> {
        Ok(Self {
            model: MeshNet::new(&gpu, checkpoint, precision)?,
            sha256: checkpoint.sha256(),
            precision,
            gpu,
        })
    }

    /// Refuses what a network of fixed classes cannot be asked for, whatever the volume.
    ///
    /// # Errors
    /// [`Error::Argument`].
    pub fn check(request: &Request) -> Result<()> {
        let refused = [
            (
                !request.targets.is_empty(),
                "structures by name or instruction",
            ),
            (request.instruct != Instruct::Auto, "instructions"),
            (request.fast || request.views != View::ALL, "views"),
            (request.fusion != Fusion::Late, "fusion"),
            (request.inputs.len() > 1, "several volumes"),
        ];
        match refused.iter().find(|(asked, _)| *asked) {
            None => Ok(()),
            Some((_, what)) => Err(Error::Argument(format!(
                "a MeshNet labels one volume with its own classes; {what} are not for it"
            ))),
        }
    }

    /// Labels every voxel of the request's one volume with the network's class.
    ///
    /// # Errors
    /// More than one volume, a request for what only words can say, a volume that cannot be used, too little memory, or an
    /// adapter that fails.
    pub fn segment(&self, request: &Request, observer: &mut dyn Observer) -> Result<Segmentation> {
        let loaded = self.load(request)?;
        observer.needs(&loaded.needs);
        self.segment_loaded(request, loaded, observer)
    }

    fn run(
        &self,
        request: &Request,
        loaded: Loaded,
        observer: &mut dyn Observer,
    ) -> Result<Segmentation> {
        let Loaded {
            reference,
            input,
            grid,
            part,
            values,
            mut warnings,
            seconds,
            ..
        } = loaded;
        let mut clock = Clock::after(seconds);
        warnings.extend(self.gpu.distrusted());
        let classes = self.model.forward(
            &self.gpu,
            &values,
            part.size,
            SLAB_BYTES,
            |_, _| Ok(()),
            &mut |done| observer.progress("classifying voxels", done),
        );
        let classes = classes?;
        clock.lap("network");
        let labels = restore(&classes, part, &grid, &reference.grid());
        let names = self.names();
        let structures = structures(&labels, &reference, &names);
        clock.lap("own grid");
        if !structures.iter().any(|structure| structure.present) {
            let count = structures.len();
            warnings.push(format!(
                "none of the {count} classes was found: the map is empty"
            ));
        }
        let report = Report {
            citation: MESHNET_CITATION,
            weights: BTreeMap::from([("segmentation", self.sha256.clone())]),
            inputs: vec![input],
            fusion: request.fusion,
            seconds: clock.seconds,
            warnings,
            ..Report::new(&self.gpu, self.asked(request))
        };
        Ok(Segmentation {
            name: request.stem(),
            labels,
            reference,
            names,
            tables: request.tables.clone(),
            sources: Vec::new(),
            preview: request.preview,
            structures,
            report,
        })
    }

    /// The conformed volume, the part of it that the network looks at, and its intensities as 0 … 1.
    ///
    /// # Errors
    /// A volume of one intensity.
    pub fn prepare(&self, reference: &Volume) -> Result<(Conformed, Part, Vec<f32>)> {
        let conformed = Conformed::new(reference);
        let config = self.model.config();
        let between = conformed.quantiles(config.quantiles);
        if between[0] >= between[1] {
            let problem = format!(
                "are {} nearly everywhere: there is nothing to see",
                between[0]
            );
            return Err(Error::volume(&reference.path, "intensities", problem));
        }
        let part = match config.needs_whole() {
            true => Conformed::whole(),
            false => conformed.head(),
        };
        let values = conformed.scaled(part, between);
        Ok((conformed, part, values))
    }

    /// Two layers at a time at the most, and what the host keeps beside them.
    fn needs(&self, reference: &Volume, part: Part) -> Needs {
        let voxels: usize = part.size.iter().product();
        let layer = voxels * self.model.config().widest() * 4;
        Needs {
            host: 14 * reference.data.len() as u64 + 22 * voxels as u64,
            adapter: 2 * layer as u64 + 6 * SLAB_BYTES as u64,
        }
    }

    fn names(&self) -> Names {
        let classes = self.model.config().classes.iter().enumerate().skip(1);
        classes
            .map(|(class, name)| (class as u32, name.clone()))
            .collect()
    }

    fn asked(&self, request: &Request) -> Asked {
        let names = self.names().into_iter();
        Asked {
            structures: names.map(|(label, name)| (label as u16, name)).collect(),
            instruct: request.instruct,
            modalities: request.inputs.iter().map(|input| input.modality).collect(),
            fusion: request.fusion,
            ..Asked::new(&self.gpu, self.precision)
        }
    }
}

impl batch::Model for MeshSegmenter {
    type Loaded = Loaded;

    fn asked(&self, request: &Request) -> Result<Asked> {
        Self::check(request)?;
        Ok(self.asked(request))
    }

    fn load(&self, request: &Request) -> Result<Loaded> {
        Self::check(request)?;
        let Some(volume) = request.inputs.first() else {
            return Err(Error::Argument("no volume to segment".into()));
        };
        let mut clock = Clock::new();
        let mut warnings = Vec::new();
        let (reference, input, _) = read_input(volume, &mut warnings)?;
        clock.lap("read");
        let (conformed, part, values) = self.prepare(&reference)?;
        clock.lap("conform");
        let needs = self.needs(&reference, part);
        memory::check(&volume.path, needs.of_machine(self.gpu.is_cpu()))?;
        Ok(Loaded {
            reference,
            input,
            grid: conformed.grid.clone(),
            part,
            values,
            needs,
            warnings,
            seconds: clock.seconds,
        })
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
        Ok((role == "segmentation").then(|| self.sha256.clone()))
    }
}

fn structures(labels: &[u16], reference: &Volume, names: &Names) -> Vec<StructureResult> {
    let measured = statistics::measure(labels, &reference.data, &reference.grid(), names);
    let row = |structure: statistics::Structure| {
        let present = structure.voxels > 0;
        StructureResult {
            label: structure.label as u16,
            name: structure.name,
            present,
            volume_ml: structure.volume_ml,
            mean_intensity: structure.mean,
            median_intensity: structure.median,
            touches_border: present.then_some(structure.touches_border),
            predicted_dice: None,
            threshold: None,
            labelled_voxels: structure.voxels,
        }
    };
    measured.into_iter().map(row).collect()
}
