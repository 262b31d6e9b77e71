//! `keraunos pull`: fetches models.

use std::io::{self, BufRead, IsTerminal};

use indicatif::ProgressBar;
use serde_json::json;

use super::args::PullArgs;
use super::console::{Console, size};
use crate::error::{Error, Result};
use crate::pipeline::home::{Home, Manifest, Model};
use crate::pipeline::pull::{Event, Pull};

pub(super) fn run(args: &PullArgs, console: &Console) -> Result<()> {
    let manifest = Manifest::embedded();
    let models: Vec<&Model> = if args.models.is_empty() {
        manifest
            .models
            .iter()
            .filter(|model| model.needed)
            .collect()
    } else {
        args.models
            .iter()
            .map(|name| manifest.model(name))
            .collect::<Result<_>>()?
    };
    let from_env = Pull::from_env();
    let pull = Pull {
        source: args.from.into(),
        offline: args.offline || from_env.offline,
        hub_cache: args.hf_cache,
        ..from_env
    };
    let home = Home::new(args.model_dir.as_deref())?;
    if !pull.offline {
        let missing = models
            .iter()
            .filter(|model| home.locate(&model.name).is_err());
        accept(&missing.copied().collect::<Vec<_>>(), args, console)?;
    }
    let mut there = Vec::new();
    for model in models {
        let mut bar: Option<(String, ProgressBar)> = None;
        let mut fetched = false;
        pull.fetch(&home, model, &mut |event| match event {
            Event::Progress { file, done, total } => {
                if bar.as_ref().is_none_or(|(name, _)| name != file) {
                    let new = console.bytes(total).with_prefix(file.to_owned());
                    bar = Some((file.to_owned(), new));
                }
                if let Some((_, bar)) = &bar {
                    bar.set_position(done);
                }
            }
            Event::Fetched { .. } => {
                fetched = true;
                if let Some((_, bar)) = bar.take() {
                    bar.finish_and_clear();
                }
            }
            Event::Note { text } => console.note(text),
            Event::Present { .. } => {}
        })?;
        let path = home.locate(&model.name)?;
        if args.json {
            there.push(json!({
                "name": model.name,
                "role": model.role,
                "licence": model.licence,
                "bytes": model.bytes(),
                "path": path,
                "fetched": fetched,
            }));
            continue;
        }
        let what = if fetched { "fetched" } else { "already there" };
        console.tell(&format!(
            "{} ({}, {}): {what}, {}\n",
            model.name,
            model.role,
            model.licence,
            path.display()
        ))?;
    }
    match args.json {
        true => console.json(&json!({ "models": there })),
        false => Ok(()),
    }
}

/// Shows the licences of models that are to be fetched, and has them accepted.
fn accept(models: &[&Model], args: &PullArgs, console: &Console) -> Result<()> {
    if models.is_empty() {
        return Ok(());
    }
    for model in models {
        let Model { name, role, .. } = model;
        let (bytes, licence) = (size(model.bytes()), &model.licence);
        console.note(&format!("{name}, {role}, {bytes}: licence {licence}"));
    }
    if args.accept_licences {
        return Ok(());
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        let problem =
            "the licences of what is to be fetched are not accepted; give --accept-licences";
        return Err(Error::Argument(problem.into()));
    }
    console.note("fetch, and accept these licences? [y/N]");
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match read {
        Ok(_) if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) => Ok(()),
        _ => Err(Error::Argument(
            "the licences were not accepted; nothing was fetched".into(),
        )),
    }
}
