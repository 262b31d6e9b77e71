//! `keraunos bench` under `cargo bench`: the same code, the same options.
//!
//!     cargo bench --bench kernels -- --filter conv

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Cargo says that this is a bench; the command has no such option.
    let given = std::env::args_os().skip(1).filter(|word| word != "--bench");
    let command = ["keraunos", "bench"].map(OsString::from);
    keraunos::cli::run(command.into_iter().chain(given))
}
