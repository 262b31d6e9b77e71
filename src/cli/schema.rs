//! `keraunos schema`: what the program's JSON looks like, and what it reads, as JSON Schema.

use clap::{Args, ValueEnum};

use super::console::Console;
use crate::error::Result;
use crate::pipeline::schema;

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// Of what
    #[arg(value_enum, value_name = "WHAT")]
    of: SchemaArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemaArg {
    /// The report that `segment` writes
    Report,
    /// What `evaluate --json` prints
    Evaluation,
    /// A model.json, for `segment --model`
    Model,
}

pub(super) fn run(args: &SchemaArgs, console: &Console) -> Result<()> {
    console.print(match args.of {
        SchemaArg::Report => schema::REPORT.text,
        SchemaArg::Evaluation => schema::EVALUATION.text,
        SchemaArg::Model => schema::MODEL.text,
    })
}
