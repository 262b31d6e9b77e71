//! Floor 7: words in, files out. The only floor that prints or exits.
//!
//! [`run`] parses the arguments into plain data and hands them to one command each. Results go to
//! stdout, everything else to stderr; progress bars are drawn on a terminal only.

mod args;
mod batch;
mod bench;
mod completions;
mod console;
mod convert;
mod describe;
mod doctor;
mod embed;
mod evaluate;
mod generate;
mod inspect;
mod instruct;
mod man;
mod models;
mod perplexity;
mod profile;
mod pull;
mod quantize;
mod schema;
mod segment;
mod signals;
mod structures;
mod view;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::error::{Error, Result};
use args::{Cli, Command};
use console::Console;

#[doc(hidden)]
pub use view::{VIEW_TOKEN, answered};

/// The exit code of a wrong command line.
const USAGE: u8 = 2;

/// Runs one command: 0 when it did what was asked, 1 when it failed, 2 when it was asked wrongly. A signal ends the
/// program with 128 and its number.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(refused) => {
            // Help and version come this way too, with code 0. A reader that went away is no matter.
            let _ = refused.print();
            return ExitCode::from(u8::try_from(refused.exit_code()).unwrap_or(USAGE));
        }
    };
    console::log(cli.verbose, cli.quiet);
    console::hide_guarded_panics();
    let mut console = Console::new(cli.quiet, cli.verbose > 0);
    if cli.command.json() && cli.command.gpu().is_some_and(args::GpuArgs::profiles) {
        console = console.holding();
    }
    signals::watch();
    match command(cli.command, &console) {
        Ok(code) => code,
        Err(error) if console::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            console.error(&error);
            ExitCode::from(match error {
                Error::Argument(_)
                | Error::UnknownDevice { .. }
                | Error::UnknownStructure { .. } => USAGE,
                _ => 1,
            })
        }
    }
}

fn command(command: Command, console: &Console) -> Result<ExitCode> {
    if command.gpu().is_some_and(args::GpuArgs::wants_list) {
        doctor::list(command.json(), console)?;
        return Ok(ExitCode::SUCCESS);
    }
    let options = command.gpu().map(args::GpuArgs::options);
    let code = match run_one(command, console) {
        Ok(code) => code,
        Err(error) => {
            // What was told before it failed.
            console.add("profile", None)?;
            return Err(error);
        }
    };
    if let Some(options) = options {
        profile::tell(&options, console)?;
    }
    Ok(code)
}

fn run_one(command: Command, console: &Console) -> Result<ExitCode> {
    match command {
        Command::Doctor(args) => return doctor::run(&args, console),
        Command::Segment(args) => return segment::run(*args, console),
        Command::Evaluate(args) => return evaluate::run(&args, console),
        Command::Bench(args) => bench::run(&args, console),
        Command::Instruct(args) => instruct::run(args, console),
        Command::Generate(args) => generate::run(&args, console),
        Command::Convert(args) => convert::run(&args, console),
        Command::Describe(args) => describe::run(&args, console),
        Command::Embed(args) => embed::run(&args, console),
        Command::Inspect(args) => inspect::run(&args, console),
        Command::Perplexity(args) => perplexity::run(&args, console),
        Command::Pull(args) => pull::run(&args, console),
        Command::Quantize(args) => quantize::run(&args, console),
        Command::Structures(args) => structures::run(&args, console),
        Command::Models(args) => models::run(&args, console),
        Command::Schema(args) => schema::run(&args, console),
        Command::Completions(args) => completions::run(&args, console),
        Command::Man(args) => man::run(&args, console),
        Command::View(args) => view::run(&args, console),
    }
    .map(|()| ExitCode::SUCCESS)
}
