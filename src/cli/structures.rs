//! `keraunos structures`: what can be asked for by name.

use serde_json::json;

use super::args::StructuresArgs;
use super::console::{Console, table};
use crate::error::Result;
use crate::pipeline::assembly::{Assembly, MODEL_JSON};
use crate::pipeline::structures::{Catalogue, Target};

pub(super) fn run(args: &StructuresArgs, console: &Console) -> Result<()> {
    let mut targets = match &args.model {
        None => Target::all(),
        Some(model) => {
            let path = Assembly::at(model).unwrap_or_else(|| model.join(MODEL_JSON));
            let catalogue = Assembly::open(&path)?.catalogue()?;
            catalogue.map_or_else(Vec::new, Catalogue::targets)
        }
    };
    targets.sort_by_key(|target| target.label);
    let synonyms = |target: &Target| {
        let structure = target.structure.filter(|_| target.side.is_none());
        structure.map_or(Vec::new(), |structure| structure.synonyms.clone())
    };
    // What a structure can be asked for by, beside its name alone.
    let sides = |target: &Target| match (target.side, target.structure) {
        (None, Some(structure)) if structure.sided => "left, right",
        _ => "",
    };
    if args.json {
        let all: Vec<_> = targets
            .iter()
            .map(|target| {
                json!({
                    "label": target.label,
                    "name": target.name,
                    "side": target.side,
                    "sided": target.structure.is_some_and(|structure| structure.sided),
                    "synonyms": synonyms(target),
                })
            })
            .collect();
        return console.json(&json!({ "structures": all }));
    }
    let rows: Vec<Vec<String>> = targets
        .iter()
        .map(|target| {
            vec![
                target.label.to_string(),
                target.name.clone(),
                sides(target).to_owned(),
                synonyms(target).join(", "),
            ]
        })
        .collect();
    console.print(&table(
        &[">label", "structure", "sides", "also called"],
        &rows,
    ))
}
