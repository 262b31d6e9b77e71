//! `keraunos completions`: the script by which a shell completes the command line.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::args::Cli;
use super::console::Console;
use crate::error::Result;

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  keraunos completions bash > ~/.local/share/bash-completion/completions/keraunos
  keraunos completions zsh > ~/.zfunc/_keraunos            with ~/.zfunc in fpath, before compinit
  keraunos completions fish > ~/.config/fish/completions/keraunos.fish
  keraunos completions powershell >> $PROFILE";

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs, console: &Console) -> Result<()> {
    let mut cli = Cli::command();
    let name = cli.get_name().to_owned();
    let mut script = Vec::new();
    generate(args.shell, &mut cli, name, &mut script);
    console.print(&String::from_utf8_lossy(&script))
}
