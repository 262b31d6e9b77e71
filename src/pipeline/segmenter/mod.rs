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

mod spoken;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::zeus::Zeus;
use crate::pipeline::assembly::{Assembly, Place};
use crate::pipeline::batch;
use crate::pipeline::card::Card;
use crate::pipeline::describe::findings::Findings;
use crate::pipeline::describe::lvlm::{self, Lvlm};
use crate::pipeline::home::Home;
use crate::pipeline::inputs::{Loaded, facts, load};
use crate::pipeline::instruct::Writer;
use crate::pipeline::kept::Kept;
use crate::pipeline::memory::{self, Needs};
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::{Prepared, View};
use crate::pipeline::request::{Asked, Fusion, Instruct, Options, Request, slicing, targets};
use crate::pipeline::result::{LabelMap, Report, Segmentation};
use crate::pipeline::speaking::{Subject, Told};
use crate::pipeline::stages::{Clock, check_logits};
use crate::pipeline::stock::StockTokens;
use crate::pipeline::structures::Target;
use crate::pipeline::text_encoder::TextEncoder;
use crate::pipeline::volume::Volume;
use crate::pipeline::volume_embedding::{self, VolumeEmbedding};
use crate::tensor::{Checkpoint, Precision};

/// The default model, part of the program.
pub(super) static ZEUS_MINI: &[u8] = include_bytes!("../../../weights/zeus-mini.safetensors");

/// Watches a segmentation and may take its parts as they come. `()` watches nothing.
pub trait Observer {
    /// `stage` is `done` of 1.
    fn progress(&mut self, stage: &'static str, done: f64) {
        let _ = (stage, done);
    }

    /// The memory that the work will need; asked for before anything is read.
    fn needs(&mut self, needs: &Needs) {
        let _ = needs;
    }

    /// One target's mask and the logits that it is cut out of.
    ///
    /// # Errors
    /// What the observer fails with ends the segmentation.
    fn drawn(&mut self, drawn: &DrawnMask) -> Result<()> {
        let _ = drawn;
        Ok(())
    }
}

impl Observer for () {}

/// One target's mask, before it takes its place in the map.
#[derive(Clone, Copy, Debug)]
pub struct DrawnMask<'a> {
    /// The target.
    pub target: &'a Target,
    /// Mean logits on the first input's own grid, first axis fastest.
    pub logits: &'a [f32],
    /// The logit above which a voxel is in the mask.
    pub above: f32,
    /// The first input.
    pub reference: &'a Volume,
}

impl DrawnMask<'_> {
    /// Which voxels are in the mask, first axis fastest.
    pub fn voxels(&self) -> impl Iterator<Item = bool> + '_ {
        self.logits.iter().map(|logit| *logit > self.above)
    }
}

/// An open adapter with the models loaded.
pub struct Segmenter {
    gpu: Gpu,
    zeus: Zeus,
    zeus_sha256: String,
    /// What is known of the segmentation model; nothing of weights alone.
    card: Option<Card>,
    assembly: Arc<Assembly>,
    precision: Precision,
    stock: StockTokens,
    home: Home,
    language_model: Option<PathBuf>,
    writer: Kept<Writer>,
    text_encoder: Kept<TextEncoder>,
}

impl Segmenter {
    /// Opens an adapter and loads the segmentation model. The adapter's kernels are not checked:
    /// [`adapter::open`](crate::pipeline::adapter::open) and [`Segmenter::on`] do that too.
    ///
    /// # Errors
    /// No such adapter, or weights that do not fit.
    pub fn open(options: &Options) -> Result<Self> {
        Self::on(Gpu::open(&options.gpu)?, options)
    }

    /// Loads the segmentation model on an open adapter.
    ///
    /// # Errors
    /// Weights that do not fit.
    pub fn on(gpu: Gpu, options: &Options) -> Result<Self> {
        let checkpoint = match (&options.weights, &options.model) {
            (Some(path), _) => Checkpoint::open(path)?,
            (None, Some(model)) => Checkpoint::open(model.expect_whole()?)?,
            (None, None) => Checkpoint::from_bytes(ZEUS_MINI, "zeus-mini (embedded)")?,
        };
        let assembly = match &options.model {
            Some(model) => model.clone(),
            None => Arc::new(Assembly::embedded().clone()),
        };
        let zeus = Zeus::new(&gpu, &checkpoint, options.precision)?;
        Ok(Self {
            card: options.weights.is_none().then(|| assembly.card.clone()),
            assembly,
            stock: StockTokens::of(&checkpoint, zeus.config().prompt_dim)?,
            zeus,
            zeus_sha256: checkpoint.sha256(),
            precision: options.precision,
            home: Home::new(options.model_dir.as_deref())?,
            language_model: options.language_model.clone(),
            writer: Kept::new(options.keep_models),
            text_encoder: Kept::new(options.keep_models),
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
    /// [`crate::Error::MissingModel`] if it was not pulled, or a file that does not fit.
    pub fn writer(&self) -> Result<Writer> {
        let own = self.language_model.as_deref();
        self.assembly.writer(&self.gpu, &self.home, own)
    }

    /// The instruction encoder.
    ///
    /// # Errors
    /// [`crate::Error::MissingModel`] if it was not pulled, or files that do not fit.
    pub fn text_encoder(&self) -> Result<TextEncoder> {
        match &self.assembly.parts.text_encoder.place {
            Place::Path(path) => TextEncoder::from_folder(&self.gpu, path),
            Place::Known(name) => TextEncoder::known(&self.gpu, &self.home, name),
        }
    }

    /// States the findings of slices of a volume, with the language model that writes instructions.
    ///
    /// # Errors
    /// [`crate::Error::MissingModel`] if it was not pulled, weights or a language model that the built-in projector was not trained for,
    /// no memory, or an adapter that fails.
    pub fn findings(
        &self,
        volume: &Prepared,
        places: &[(View, usize)],
        observer: &mut dyn Observer,
    ) -> Result<Vec<Findings>> {
        let writer = self.some_writer()?;
        let lvlm = Lvlm::new(&self.gpu, &self.zeus, &self.zeus_sha256, writer.model())?;
        lvlm.findings(&self.gpu, volume, places, observer)
    }

    /// [`Segmenter::writer`], or the one that was kept.
    fn some_writer(&self) -> Result<Arc<Writer>> {
        self.writer.get(|| self.writer())
    }

    /// [`Segmenter::text_encoder`], or the one that was kept.
    fn some_text_encoder(&self) -> Result<Arc<TextEncoder>> {
        self.text_encoder.get(|| self.text_encoder())
    }

    /// The hash of the weights that play a role in reports: `segmentation`, `projector`, `language model` or `text encoder`.
    /// `None` for a role that nobody plays.
    ///
    /// # Errors
    /// As [`Segmenter::writer`] and [`Segmenter::text_encoder`].
    pub fn weights_sha256(&self, role: &str) -> Result<Option<String>> {
        Ok(match role {
            "segmentation" => Some(self.zeus_sha256.clone()),
            "projector" => Some(lvlm::projector()?.sha256()),
            "language model" => Some(self.some_writer()?.sha256().to_owned()),
            "text encoder" => Some(self.some_text_encoder()?.sha256.clone()),
            _ => None,
        })
    }

    /// What a request asks for, in the report's words.
    ///
    /// # Errors
    /// A request that makes no sense.
    pub fn asked(&self, request: &Request) -> Result<Asked> {
        let targets = targets(request)?;
        Ok(Asked {
            structures: targets.into_iter().map(|t| (t.label, t.name)).collect(),
            instructions: request.instructions.clone(),
            instruct: request.instruct,
            modalities: request.inputs.iter().map(|input| input.modality).collect(),
            views: slicing(request)?.views,
            fast: request.fast,
            fusion: request.fusion,
            ..Asked::new(&self.gpu, self.precision)
        })
    }

    /// The memory that a request needs, at most; refused if it is more than the machine has left.
    ///
    /// # Errors
    /// [`crate::Error::Argument`] as the request makes no sense, a header that cannot be used, or [`crate::Error::Memory`].
    pub fn check_memory(&self, request: &Request) -> Result<Needs> {
        let needs = Needs::of(request, self.zeus.config())?;
        tracing::info!(
            "needs about {} of memory, {} of it on the adapter",
            memory::gigabytes(needs.host.saturating_add(needs.adapter)),
            memory::gigabytes(needs.adapter)
        );
        memory::check(&request.inputs[0].path, needs.of_machine(self.gpu.is_cpu()))?;
        Ok(needs)
    }

    /// Segments the volumes of a request.
    ///
    /// # Errors
    /// A volume that cannot be used, modalities that do not overlap, a missing model, or an adapter
    /// that fails; nothing has been written then.
    pub fn segment(&self, request: &Request, observer: &mut dyn Observer) -> Result<Segmentation> {
        // What makes no sense or does not fit is said before anything is read.
        self.asked(request)?;
        observer.needs(&self.check_memory(request)?);
        self.segment_loaded(request, load(&request.inputs)?, observer)
    }

    /// [`Segmenter::segment`] of volumes that were read before, by [`load`].
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub fn segment_loaded(
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

    fn run(
        &self,
        request: &Request,
        loaded: Loaded,
        observer: &mut dyn Observer,
    ) -> Result<Segmentation> {
        let asked = self.asked(request)?;
        let slicing = slicing(request)?;
        let targets = targets(request)?;
        let Loaded {
            seconds,
            reference,
            images,
            mut inputs,
            mut warnings,
        } = loaded;
        tracing::info!("read: {seconds:.3} s");
        let mut clock = Clock::after(vec![("read", seconds)]);
        warnings.extend(self.gpu.distrusted());
        let mut weights = BTreeMap::from([("segmentation", self.zeus_sha256.clone())]);

        let seen = match request.instruct {
            Instruct::Lvlm => {
                let seen = self.see(&images, &mut inputs, &slicing.views, observer)?;
                weights.insert("projector", lvlm::projector()?.sha256());
                clock.lap("findings");
                Some(seen)
            }
            _ => None,
        };
        // Who says what of each target in each modality that is decoded on its own.
        let spoken: Vec<Modality> = match request.fusion {
            Fusion::Late => inputs.iter().map(|input| input.modality).collect(),
            Fusion::Hybrid | Fusion::Early => vec![inputs[0].modality],
        };
        let wording = &self.assembly.wording;
        let region = wording.region.as_deref();
        let subject = Subject {
            request,
            targets: &targets,
            modalities: &spoken,
            facts: &facts(&inputs[0], &reference, region, seen.as_deref()),
            views: &slicing.views,
            wording,
        };
        let mut told = Told {
            weights: &mut weights,
            warnings: &mut warnings,
        };
        let instructions = self.said(&subject, &mut told, observer)?;
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
        let mut begun = 0;
        let mut running = None;
        // While masks are restored and measured here, the adapter fuses the next.
        for together in targets.chunks(at_once).map(Some).chain([None]) {
            let next = match together {
                Some(together) => {
                    let sides: Vec<_> = together.iter().map(|target| target.side).collect();
                    let (gpu, zeus) = (&self.gpu, &self.zeus);
                    let fusing = volume_embedding::fuse(gpu, zeus, &decoded, begun, &sides)?;
                    begun += together.len();
                    Some((together, fusing))
                }
                None => None,
            };
            let Some((together, fusing)) = std::mem::replace(&mut running, next) else {
                continue;
            };
            for (target, fused) in together.iter().zip(fusing.finish()?) {
                warnings.extend(check_logits(&target.name, &fused.logits)?);
                let logits = images[0].restore_map(&fused.logits, f32::NEG_INFINITY);
                let drawn = DrawnMask {
                    target,
                    logits: &logits,
                    above: self.assembly.threshold.logit(fused.quality),
                    reference: &reference,
                };
                observer.drawn(&drawn)?;
                structures.push(map.add(&drawn, fused.quality));
                let done = structures.len() as f64 / targets.len() as f64;
                observer.progress("drawing masks", done);
            }
        }
        clock.lap("fusion");
        let names = map.finish(&targets, &mut structures);
        if !structures.iter().any(|structure| structure.present) {
            warnings.push(match structures.as_slice() {
                [one] => format!("`{}` was not found: the map is empty", one.name),
                all => format!(
                    "none of the {} structures was found: the map is empty",
                    all.len()
                ),
            });
        }
        let report = Report {
            model: self.card.clone(),
            weights,
            inputs,
            views: slicing.views.clone(),
            fast: request.fast,
            fusion: request.fusion,
            instructions,
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
}

impl batch::Model for Segmenter {
    type Loaded = Loaded;

    fn asked(&self, request: &Request) -> Result<Asked> {
        self.asked(request)
    }

    fn load(&self, request: &Request) -> Result<Loaded> {
        self.check_memory(request)?;
        load(&request.inputs)
    }

    fn segment_loaded(
        &self,
        request: &Request,
        loaded: Loaded,
        observer: &mut dyn Observer,
    ) -> Result<Segmentation> {
        self.segment_loaded(request, loaded, observer)
    }

    fn weights_sha256(&self, role: &str) -> Result<Option<String>> {
        self.weights_sha256(role)
    }
}
