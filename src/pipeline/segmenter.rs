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
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Recorder};
use crate::models::bert::Sentences;
use crate::models::zeus::Zeus;
use crate::pipeline::card::{CITATION, Card, DISCLAIMER};
use crate::pipeline::describe::findings::{Findings, Summary};
use crate::pipeline::describe::lvlm::{self, Lvlm};
use crate::pipeline::describe::slices::places;
use crate::pipeline::home::Home;
use crate::pipeline::inputs::{Loaded, ReportedInput, facts, load};
use crate::pipeline::instruct::{self, Author, Instruction, Writer};
use crate::pipeline::memory::{self, Needs};
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::{Prepared, View};
use crate::pipeline::request::{
    Asked, Fusion, Instruct, Options, Request, VERSION, slicing, targets,
};
use crate::pipeline::result::{LabelMap, Report, Segmentation};
use crate::pipeline::schema;
use crate::pipeline::stock::StockTokens;
use crate::pipeline::structures::Target;
use crate::pipeline::text_encoder::TextEncoder;
use crate::pipeline::volume::Volume;
use crate::pipeline::volume_embedding::{self, VolumeEmbedding};
use crate::tensor::{Checkpoint, Precision, Tensor};

/// The default model, part of the program.
pub(super) static ZEUS_MINI: &[u8] = include_bytes!("../../weights/zeus-mini.safetensors");

/// Slices of each view that the LVLM looks at.
const LOOKED_AT: usize = 3;
/// The most structures that the language model is told are shown.
const NAMED: usize = 8;

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

/// An open adapter with the models loaded.
pub struct Segmenter {
    gpu: Gpu,
    zeus: Zeus,
    zeus_sha256: String,
    /// What is known of the segmentation model; nothing of a user's own.
    card: Option<&'static Card>,
    precision: Precision,
    stock: StockTokens,
    home: Home,
    language_model: Option<PathBuf>,
    keep_models: bool,
    kept: Mutex<Kept>,
}

/// The models that stay from one request to the next.
#[derive(Default)]
struct Kept {
    writer: Option<Arc<Writer>>,
    text_encoder: Option<Arc<TextEncoder>>,
}

/// Times stages.
pub(super) struct Clock {
    last: Instant,
    pub(super) seconds: Vec<(&'static str, f64)>,
}

impl Clock {
    /// From now on.
    pub(super) fn new() -> Self {
        Self {
            last: Instant::now(),
            seconds: Vec::new(),
        }
    }

    pub(super) fn lap(&mut self, stage: &'static str) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        tracing::info!("{stage}: {seconds:.3} s");
        self.seconds.push((stage, seconds));
        self.last = now;
    }
}

/// How weights are stored and sums are taken, for the report.
pub(super) fn precision_in_words(precision: Precision, gpu: &Gpu) -> String {
    match precision {
        Precision::Auto if gpu.coop_tile().is_some() => {
            "weights as stored, products of f16 on cooperative matrices".into()
        }
        Precision::Auto => "weights as stored, f32 sums".into(),
        Precision::F16 => "f16 weights, f32 sums".into(),
        Precision::F32 => "f32".into(),
    }
}

/// What logits say of the adapter that computed them: a warning if all are 0, which no model means.
///
/// # Errors
/// [`Error::Gpu`] if one is not a number.
pub(super) fn check_logits(name: &str, logits: &[f32]) -> Result<Option<String>> {
    let broken = logits.iter().filter(|logit| logit.is_nan()).count();
    if broken > 0 {
        return Err(Error::Gpu(format!(
            "{broken} of {} values of `{name}` are no numbers; `keraunos doctor` checks the adapter",
            logits.len()
        )));
    }
    let nothing = !logits.is_empty() && logits.iter().all(|logit| *logit == 0.0);
    Ok(nothing.then(|| {
        format!("all values of `{name}` are 0: the adapter may have computed nothing; `keraunos doctor` checks it")
    }))
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
        let checkpoint = match &options.weights {
            Some(path) => Checkpoint::open(path)?,
            None => Checkpoint::from_bytes(ZEUS_MINI, "zeus-mini (embedded)")?,
        };
        let zeus = Zeus::new(&gpu, &checkpoint, options.precision)?;
        Ok(Self {
            card: options.weights.is_none().then(Card::zeus_mini),
            stock: StockTokens::of(&checkpoint, zeus.config().prompt_dim)?,
            zeus,
            zeus_sha256: checkpoint.sha256(),
            precision: options.precision,
            home: Home::new(options.model_dir.as_deref())?,
            language_model: options.language_model.clone(),
            keep_models: options.keep_models,
            kept: Mutex::default(),
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

    /// States the findings of slices of a volume, with the language model that writes instructions.
    ///
    /// # Errors
    /// [`Error::MissingModel`] if it was not pulled, weights or a language model that the built-in projector was not trained for,
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
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = &kept.writer {
            return Ok(writer.clone());
        }
        let writer = Arc::new(self.writer()?);
        kept.writer = self.keep_models.then(|| writer.clone());
        Ok(writer)
    }

    /// [`Segmenter::text_encoder`], or the one that was kept.
    fn some_text_encoder(&self) -> Result<Arc<TextEncoder>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(encoder) = &kept.text_encoder {
            return Ok(encoder.clone());
        }
        let encoder = Arc::new(self.text_encoder()?);
        kept.text_encoder = self.keep_models.then(|| encoder.clone());
        Ok(encoder)
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
            precision: self.precision,
            cooperative: self.gpu.coop_tile().is_some(),
            version: VERSION,
        })
    }

    /// The memory that a request needs, at most; refused if it is more than the machine has left.
    ///
    /// # Errors
    /// [`Error::Argument`] as the request makes no sense, a header that cannot be used, or [`Error::Memory`].
    pub fn check_memory(&self, request: &Request) -> Result<Needs> {
        let needs = Needs::of(request, self.zeus.config())?;
        let machine = needs.of_machine(self.gpu.is_cpu());
        tracing::info!(
            "needs about {} of memory, {} of it on the adapter",
            memory::gigabytes(needs.host.saturating_add(needs.adapter)),
            memory::gigabytes(needs.adapter)
        );
        match memory::available() {
            Some(has) if machine > has => Err(Error::Memory {
                path: request.inputs[0].path.clone(),
                needs: memory::gigabytes(machine),
                has: memory::gigabytes(has),
            }),
            _ => Ok(needs),
        }
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
        let mut clock = Clock::new();
        clock.seconds.push(("read", seconds));
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
        let facts = facts(&inputs[0], &reference, seen.as_deref());
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
                observer.logits(target, &logits, &reference)?;
                structures.push(map.add(target, &logits, fused.quality, &reference));
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
            schema: schema::REPORT.id,
            version: VERSION,
            disclaimer: DISCLAIMER,
            citation: CITATION,
            model: self.card,
            adapter: self.gpu.summary().clone(),
            precision: precision_in_words(self.precision, &self.gpu),
            weights,
            asked,
            inputs,
            views: slicing.views.clone(),
            fast: request.fast,
            fusion: request.fusion,
            instructions,
            preprocessing: None,
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
            images,
            mut inputs,
            mut warnings,
            ..
        } = load(&request.inputs)?;
        let seen = match request.instruct {
            Instruct::Lvlm => Some(self.see(&images, &mut inputs, &slicing.views, observer)?),
            _ => None,
        };
        let spoken: Vec<Modality> = inputs.iter().map(|input| input.modality).collect();
        let targets = targets(request)?;
        let facts = facts(&inputs[0], &reference, seen.as_deref());
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
        let writer = match self.some_writer() {
            Err(error @ Error::MissingModel { .. }) if request.instruct == Instruct::Auto => {
                warnings.push(format!("{error}; the instructions are the built-in ones"));
                return Ok(instructions);
            }
            writer => writer?,
        };
        weights.insert("language model", writer.sha256().to_owned());
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
        for (at, mut instruction) in open.into_iter().zip(written) {
            if request.instruct == Instruct::Lvlm && instruction.author == Author::Llm {
                instruction.author = Author::Lvlm;
            }
            instructions[at] = instruction;
        }
        Ok(instructions)
    }

    /// Looks at the middle of each volume: gives what the first shows, in words for the language model, and takes a modality
    /// that was only estimated from what is stated.
    fn see(
        &self,
        images: &[Prepared],
        inputs: &mut [ReportedInput],
        views: &[View],
        observer: &mut dyn Observer,
    ) -> Result<String> {
        let mut shown = None;
        for (image, input) in images.iter().zip(inputs) {
            let looked: Vec<(View, usize)> = views
                .iter()
                .flat_map(|view| places(image, *view, LOOKED_AT).map(|index| (*view, index)))
                .collect();
            let summary = Summary::of(&self.findings(image, &looked, observer)?);
            input.take_stated(&summary);
            shown.get_or_insert_with(|| summary.names(NAMED).join(", "));
        }
        self.gpu.trim();
        Ok(shown.unwrap_or_default())
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
            let encoder = self.some_text_encoder()?;
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

#[cfg(test)]
mod tests {
    use super::check_logits;

    #[test]
    fn values_that_no_adapter_means_are_told() {
        assert!(matches!(check_logits("x", &[-3.0, 0.0, 2.0]), Ok(None)));
        assert!(matches!(check_logits("x", &[]), Ok(None)));
        let told = check_logits("left putamen", &[0.0; 5]).expect("a warning");
        assert!(told.is_some_and(|text| text.contains("`left putamen` are 0")));
        let error = check_logits("x", &[1.0, f32::NAN, 0.0]).expect_err("NaN");
        assert!(
            error.to_string().contains("1 of 3 values of `x`"),
            "{error}"
        );
    }
}
