//! `keraunos doctor`: what this machine has, what will be used and why, and whether it computes right.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::args::DoctorArgs;
use super::console::{Console, size, table};
use super::models::{folders, place};
use crate::error::{Error, Result};
use crate::gpu::{AdapterSummary, Gpu, GpuOptions};
use crate::ops::choice::Measured;
use crate::ops::{KernelCheck, self_check};
use crate::pipeline::adapter;
use crate::pipeline::home::{Home, cache_folder};
use crate::pipeline::known::{self, KnownModel};
use crate::pipeline::trial::{Trial, trials};

/// A model, and what is wrong with it here.
#[derive(serde::Serialize)]
struct Found {
    #[serde(flatten)]
    model: KnownModel,
    /// Where it was looked for, or which files are not what they should be.
    problem: Option<String>,
}

pub(super) fn run(args: &DoctorArgs, console: &Console) -> Result<ExitCode> {
    let adapters = Gpu::adapters();
    let home = Home::new(args.model_dir.as_deref())?;
    let models = models(&home)?;
    if !args.json {
        console.print(&adapters_text(&adapters))?;
        console.print(&models_text(&home, &models))?;
    }
    // Without an adapter the rest is still said.
    let gpu = match Gpu::open(&args.gpu.options()) {
        Ok(gpu) => gpu,
        Err(problem) => {
            if args.json {
                let unused = json!({ "used": null, "problem": problem.to_string() });
                console.json(&found(&adapters, &home, &models, unused))?;
            }
            return Err(problem);
        }
    };
    let why = why(&adapters, gpu.summary(), args.gpu.device());
    let options = args.gpu.options();
    let mut checks = self_check(std::slice::from_ref(&gpu));
    let choices = choices(&options, &checks, console);
    let coop = gpu.summary().features.contains(&"cooperative matrices");
    if coop {
        checks.extend(cooperative(&options)?);
    }
    let faults = checks.iter().filter(|check| check.fault.is_some()).count();
    // A kernel without a stand-in that is wrong makes no mask worth comparing.
    let trials = match faults {
        0 => trials(&options, coop)?,
        _ => Vec::new(),
    };
    let wrong: Vec<String> = trials.iter().filter_map(Trial::fault).collect();
    if args.json {
        let used = json!({
            "used": gpu.summary(),
            "why": why,
            "kernels": checks,
            "choices": choices,
            "trials": trials,
        });
        console.json(&found(&adapters, &home, &models, used))?;
    } else {
        console.print(&format!("Used: {}, {why}\n\n", gpu.summary().name))?;
        console.print(&checks_text(&checks))?;
        console.print(&choices_text(&choices))?;
        console.print(&trials_text(&trials))?;
    }
    if faults > 0 {
        let problem = format!(
            "{faults} of {} kernel checks failed on this adapter",
            checks.len()
        );
        console.error(&Error::Gpu(problem));
        return Ok(ExitCode::FAILURE);
    }
    if let Some(problem) = wrong.into_iter().next() {
        console.error(&Error::Gpu(problem));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// What the candidates of each class of products need here; the fastest are taken from then on. None if that is not
/// wanted, or if the adapter cannot be used.
fn choices(options: &GpuOptions, checks: &[KernelCheck], console: &Console) -> Vec<Measured> {
    if options.untuned {
        return Vec::new();
    }
    adapter::time_again(options, checks, cache_folder().as_deref()).unwrap_or_else(|problem| {
        console.warn(&format!("kernels could not be timed: {problem}"));
        Vec::new()
    })
}

/// The kernels that `--precision coop` adds.
fn cooperative(options: &GpuOptions) -> Result<Vec<KernelCheck>> {
    let gpu = Gpu::open(&GpuOptions {
        cooperative: true,
        ..options.clone()
    })?;
    let mut checks = self_check(std::slice::from_ref(&gpu));
    checks.retain(|check| check.kernel.ends_with("_coop"));
    Ok(checks)
}

/// What is here, and what came of its use.
fn found(adapters: &[AdapterSummary], home: &Home, models: &[Found], used: Value) -> Value {
    let mut all = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "adapters": adapters,
        "model_folder": home.root(),
        "models": models,
    });
    if let (Value::Object(all), Value::Object(used)) = (&mut all, used) {
        all.extend(used);
    }
    all
}

/// `--device list`.
pub(super) fn list(as_json: bool, console: &Console) -> Result<()> {
    let adapters = Gpu::adapters();
    match as_json {
        true => console.json(&json!({ "adapters": adapters })),
        false => console.print(&adapters_text(&adapters)),
    }
}

fn adapters_text(adapters: &[AdapterSummary]) -> String {
    if adapters.is_empty() {
        return "No adapter.\n\n".into();
    }
    let rows: Vec<Vec<String>> = adapters
        .iter()
        .enumerate()
        .map(|(n, adapter)| {
            let [least, most] = adapter.subgroup_lanes;
            let lanes = match (least, most) {
                (0, 0) => "-".into(),
                (least, most) if least == most => most.to_string(),
                (least, most) => format!("{least}-{most}"),
            };
            vec![
                n.to_string(),
                adapter.name.clone(),
                adapter.kind.into(),
                adapter.backend.into(),
                adapter.driver.clone(),
                size(adapter.max_binding_bytes),
                size(adapter.max_buffer_bytes),
                lanes,
                adapter.features.join(", "),
            ]
        })
        .collect();
    let heads = [
        ">", "adapter", "kind", "backend", "driver", ">binding", ">buffer", ">lanes", "features",
    ];
    table(&heads, &rows) + "\n"
}

/// Why this adapter and no other.
fn why(adapters: &[AdapterSummary], used: &AdapterSummary, asked: Option<&str>) -> String {
    let reason = match asked {
        Some(name) => format!("because --device asks for `{name}`"),
        None if adapters.len() == 1 => "the only adapter".into(),
        None => "the first of the fastest kind: discrete, integrated, virtual, other, cpu".into(),
    };
    let speed = match used.kind {
        "cpu" => "; it computes on the processor, a graphics card would be many times faster",
        _ => "",
    };
    reason + speed + "; weights stored as f16, sums in f32"
}

fn models(home: &Home) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for model in known::models(home)? {
        let problem = match (&model.path, &model.fetch) {
            (Some(_), _) => {
                let altered = home.altered(model.name)?;
                let names: Vec<String> = altered
                    .iter()
                    .map(|path| format!("`{}`", path.display()))
                    .collect();
                let problem = format!("other content than published: {}", names.join(", "));
                (!names.is_empty()).then_some(problem)
            }
            (None, Some(_)) => home.locate(model.name).err().map(|e| e.to_string()),
            (None, None) => None,
        };
        found.push(Found { model, problem });
    }
    Ok(found)
}

fn models_text(home: &Home, found: &[Found]) -> String {
    let mut text = folders(home) + "\n";
    for Found { model, problem } in found {
        let state = match (&model.path, problem) {
            (_, Some(problem)) => problem.clone(),
            (Some(path), None) => format!("{}, content verified", path.display()),
            (None, None) => place(model),
        };
        let _ = writeln!(text, "  {} ({}): {state}", model.name, model.role);
    }
    text + "\n"
}

fn checks_text(checks: &[KernelCheck]) -> String {
    let rows: Vec<Vec<String>> = checks
        .iter()
        .map(|check| {
            vec![
                check.name.clone(),
                check
                    .error
                    .map_or("-".into(), |error| format!("{error:.1e}")),
                format!("{:.0e}", check.tolerance),
                format!("{:.2}", check.seconds * 1e3),
                check
                    .fault
                    .as_ref()
                    .map_or("right".into(), |fault| format!("WRONG: {fault}")),
            ]
        })
        .collect();
    let heads = ["kernel", ">largest error", ">allowed", ">ms", ""];
    table(&heads, &rows)
}

/// The segmentation whose result is known, a precision a line.
fn trials_text(trials: &[Trial]) -> String {
    if trials.is_empty() {
        return String::new();
    }
    let row = |trial: &Trial| {
        let (dice, name) = trial.lowest;
        vec![
            trial.precision.to_owned(),
            format!("{} of {}", trial.differing, trial.voxels),
            format!("{dice:.4}"),
            name.to_owned(),
            format!("{:.2}", trial.seconds),
            trial.fault().map_or("right", |_| "WRONG").to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = trials.iter().map(row).collect();
    let heads = [
        "precision",
        ">other voxels than PyTorch",
        ">lowest Dice",
        "structure",
        ">s",
        "",
    ];
    format!(
        "\nA slab of a head, from the file to eight masks:\n{}",
        table(&heads, &rows)
    )
}

/// Each class with its candidates, one a line.
fn choices_text(choices: &[Measured]) -> String {
    if choices.is_empty() {
        return String::new();
    }
    let row = |measured: &Measured, n: usize| {
        let candidate = &measured.candidates[n];
        let [class, case] = match n {
            0 => [measured.class, &measured.case],
            _ => ["", ""],
        };
        vec![
            class.to_owned(),
            case.to_owned(),
            candidate.label.clone(),
            format!("{:.4}", candidate.least * 1e3),
            format!("{:.4}", candidate.median * 1e3),
            match candidate.label == measured.chosen {
                true => "taken".into(),
                false if !candidate.same_bits => "other bits".into(),
                false => String::new(),
            },
        ]
    };
    let rows: Vec<Vec<String>> = choices
        .iter()
        .flat_map(|measured| (0..measured.candidates.len()).map(move |n| row(measured, n)))
        .collect();
    let heads = [
        "product",
        "timed at",
        "tile, the usual one first",
        ">least ms",
        ">median ms",
        "",
    ];
    format!("\n{}", table(&heads, &rows))
}
