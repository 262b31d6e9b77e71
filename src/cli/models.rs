//! `keraunos models`: which models there are, what for, and where.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::console::{Console, size, table};
use crate::error::Result;
use crate::pipeline::card::Card;
use crate::pipeline::home::Home;
use crate::pipeline::known::{self, KnownModel};

#[derive(Debug, Args)]
pub(super) struct ModelsArgs {
    /// Where the language models are [default: $KERAUNOS_HOME, else the user's data folder]
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// Prints everything as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) fn run(args: &ModelsArgs, console: &Console) -> Result<()> {
    let home = Home::new(args.model_dir.as_deref())?;
    let models = known::models(&home)?;
    if args.json {
        return console.json(&json!({
            "model_folder": home.root(),
            "hub_cache": home.hub_cache(),
            "models": models,
            "card": Card::zeus_mini(),
        }));
    }
    let rows: Vec<Vec<String>> = models
        .iter()
        .map(|model| {
            vec![
                model.name.to_owned(),
                model.role.to_owned(),
                model.licence.to_owned(),
                size(model.bytes),
                place(model),
            ]
        })
        .collect();
    let mut text = table(&["model", "for", "licence", ">size", "where"], &rows);
    let _ = writeln!(text, "\n{}", folders(&home));
    console.print(&text)
}

/// Where a model is, or how to get it.
pub(super) fn place(model: &KnownModel) -> String {
    match (&model.path, &model.fetch) {
        (Some(path), _) => path.display().to_string(),
        (None, Some(fetch)) => format!("not here: {fetch}"),
        (None, None) => "part of this program".into(),
    }
}

/// Where models are kept and looked for.
pub(super) fn folders(home: &Home) -> String {
    let mut text = format!("Models are kept in {}", home.root().display());
    if let Some(cache) = home.hub_cache() {
        let _ = write!(text, ", and looked for in {} too", cache.display());
    }
    text + "."
}
