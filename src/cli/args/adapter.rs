//! Which adapter computes, and with which models.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::cli::console::Console;
use crate::error::Result;
use crate::gpu::{Gpu, GpuOptions, Profile};
use crate::pipeline::assembly::Assembly;
use crate::pipeline::home::{self, Home, Manifest};
use crate::pipeline::prompted::PromptedSegmenter;
use crate::pipeline::zeus_sam::ZeusSamSegmenter;
use crate::pipeline::{Options, Segmenter, adapter, ahead};
use crate::tensor::Precision;

/// Which adapter computes.
#[derive(Debug, Args)]
pub(in crate::cli) struct GpuArgs {
    /// The adapter: a part of its name, its number, or `list` to see them [default: the fastest kind]
    #[arg(long, value_name = "NAME|N|list")]
    device: Option<String>,
    /// Compiles kernels with bounds checks, as the tests do: slower
    #[arg(long)]
    checked: bool,
    /// Takes the usual tile of every product, not the one that was the fastest when this adapter was first met
    #[arg(long)]
    untuned: bool,
    /// Times every dispatch and prints, at the end, where the time went: to stderr, or as `profile` in the JSON; slower
    #[arg(long)]
    profile: bool,
    /// Where the times of `--profile` are collected.
    #[arg(skip)]
    collected: Arc<Profile>,
}

impl GpuArgs {
    pub(in crate::cli) fn wants_list(&self) -> bool {
        self.device.as_deref() == Some("list")
    }

    /// Whether the time on the adapter is told at the end.
    pub(in crate::cli) fn profiles(&self) -> bool {
        self.profile
    }

    pub(in crate::cli) fn options(&self) -> GpuOptions {
        GpuOptions {
            device: self.device.clone(),
            checked: self.checked,
            untuned: self.untuned,
            profile: self.profile.then(|| self.collected.clone()),
            ..GpuOptions::default()
        }
    }

    /// The adapter, with its kernels checked if it was not met before, and what `command` needed then being made.
    pub(in crate::cli) fn open(&self, console: &Console, command: &str) -> Result<Gpu> {
        open(&self.options(), console, Some(command))
    }

    /// The same with nothing made ahead, so that nothing else is at work.
    pub(in crate::cli) fn open_idle(&self, console: &Console) -> Result<Gpu> {
        open(&self.options(), console, None)
    }

    /// What was asked for, if anything.
    pub(in crate::cli) fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }
}

/// Which adapter and which models.
#[derive(Debug, Args)]
pub(in crate::cli) struct ModelArgs {
    #[command(flatten)]
    pub(in crate::cli) gpu: GpuArgs,
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
    pub(in crate::cli) fn segmenter(&self, console: &Console, command: &str) -> Result<Segmenter> {
        let gpu = open(&self.gpu_options(), console, Some(command))?;
        Segmenter::on(gpu, &self.options())
    }

    /// The adapter, and how weights are stored on it.
    pub(in crate::cli) fn adapter(&self, console: &Console) -> Result<(Gpu, Precision)> {
        let gpu = open(&self.gpu_options(), console, None)?;
        Ok((gpu, self.options().precision))
    }

    /// The same with the weights in a file; `lasting` is for many cases.
    pub(in crate::cli) fn with_weights(
        &self,
        weights: PathBuf,
        lasting: bool,
        console: &Console,
    ) -> Result<Segmenter> {
        let gpu = open(&self.gpu_options(), console, Some("segment"))?;
        let options = Options {
            weights: Some(weights),
            keep_models: lasting,
            ..self.options()
        };
        Segmenter::on(gpu, &options)
    }

    /// The same of a model in one checkpoint; `lasting` is for many cases.
    pub(in crate::cli) fn assembled(
        &self,
        model: Arc<Assembly>,
        lasting: bool,
        console: &Console,
    ) -> Result<Segmenter> {
        let gpu = open(&self.gpu_options(), console, Some("segment"))?;
        let options = Options {
            model: Some(model),
            keep_models: lasting,
            ..self.options()
        };
        Segmenter::on(gpu, &options)
    }

    /// A model that is put together from several checkpoints.
    pub(in crate::cli) fn zeus_sam(
        &self,
        model: Arc<Assembly>,
        console: &Console,
    ) -> Result<ZeusSamSegmenter> {
        let (gpu, precision) = self.adapter(console)?;
        let home = Home::new(self.model_dir.as_deref())?;
        ZeusSamSegmenter::on(gpu, model, home, self.llm.clone(), precision)
    }

    /// Where a model is: a file or folder, or one that `pull` fetched, by its name.
    pub(in crate::cli) fn locate(&self, model: &Path) -> Result<PathBuf> {
        let name = model.to_str().unwrap_or_default();
        match !model.exists() && Manifest::embedded().model(name).is_ok() {
            true => Home::new(self.model_dir.as_deref())?.locate(name),
            false => Ok(model.to_owned()),
        }
    }

    /// A segmenter for many cases.
    pub(in crate::cli) fn lasting_segmenter(&self, console: &Console) -> Result<Segmenter> {
        let gpu = open(&self.gpu_options(), console, Some("segment"))?;
        let options = Options {
            keep_models: true,
            ..self.options()
        };
        Segmenter::on(gpu, &options)
    }

    /// A SAM, for boxes and points.
    pub(in crate::cli) fn prompted(
        &self,
        console: &Console,
        model: &Path,
    ) -> Result<PromptedSegmenter> {
        let gpu = open(&self.gpu_options(), console, Some("segment-prompted"))?;
        PromptedSegmenter::on(gpu, model, self.options().precision)
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
            model: None,
            model_dir: self.model_dir.clone(),
            language_model: self.llm.clone(),
            keep_models: false,
        }
    }
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

/// How wide a language model keeps what it has read.
#[derive(Debug, Args)]
pub(in crate::cli) struct KvCacheArgs {
    /// How wide keys and values are kept: auto is f16 on graphics cards, f32 on software adapters
    #[arg(long, value_enum, value_name = "WIDTH", default_value_t)]
    kv_cache: KvCacheArg,
}

impl KvCacheArgs {
    pub(in crate::cli) fn precision(&self) -> Precision {
        match self.kv_cache {
            KvCacheArg::Auto => Precision::Auto,
            KvCacheArg::F32 => Precision::F32,
            KvCacheArg::F16 => Precision::F16,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum KvCacheArg {
    #[default]
    Auto,
    F32,
    F16,
}
