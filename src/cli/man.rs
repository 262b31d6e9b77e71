//! `keraunos man`: the manual, out of the definition that `--help` is made of.

use std::io::Write;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::args::Cli;
use super::console::Console;
use crate::error::{Error, Result};
use crate::pipeline::{files, finish};

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  keraunos man | man -l -                                  the page of the program
  keraunos man -o ~/.local/share/man/man1                  a page for each command: man keraunos-segment";

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Writes a page for the program and one for each command into this folder [default: the program's page, to stdout]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs, console: &Console) -> Result<()> {
    // The page of `help` would say what each page says.
    let mut cli = Cli::command().disable_help_subcommand(true);
    cli.build();
    let Some(folder) = &args.output else {
        return console.print(&String::from_utf8_lossy(&page(&cli).1));
    };
    let pages: Vec<(String, Vec<u8>)> = cli.get_subcommands().chain([&cli]).map(page).collect();
    finish::prepare_folder(folder)?;
    let staging = files::Staging::new(folder)?;
    let mut paths = Vec::new();
    for (name, text) in &pages {
        let path = folder.join(name);
        let staged = staging.path().join(name);
        std::fs::File::create(&staged)
            .and_then(|mut file| file.write_all(text))
            .map_err(Error::write(&path))?;
        paths.push(path);
    }
    staging.commit(&paths)?;
    console.tell(&format!("{} pages in {}\n", paths.len(), folder.display()))
}

/// The name of a command's page, and what it says.
fn page(command: &Command) -> (String, Vec<u8>) {
    let source = concat!("keraunos ", env!("CARGO_PKG_VERSION"));
    // Examples and tables are kept as they are, not filled into a paragraph.
    let man = Man::new(command.clone().after_help(Resettable::Reset)).source(source);
    let mut notes = Roff::new();
    if let Some(text) = command.get_after_help() {
        notes.control("SH", ["NOTES"]).control("nf", []);
        for line in text.to_string().lines() {
            notes.text([roman(line)]);
        }
        notes.control("fi", []);
    }
    let mut text = Vec::new();
    // Writing into memory cannot fail.
    let _ = man
        .render(&mut text)
        .and_then(|()| notes.to_writer(&mut text));
    (man.get_filename(), text)
}
