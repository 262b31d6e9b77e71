//! The program: `keraunos --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    keraunos::cli::run(std::env::args_os())
}
