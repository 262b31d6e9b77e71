//! The program: `keraunos --help`.
#![deny(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // Without a desktop Mesa's device selection complains on stderr, and its choice is not used here.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // Safety: no other thread runs yet.
        #[expect(unsafe_code, reason = "the driver reads the environment only")]
        unsafe {
            std::env::set_var("NODEVICE_SELECT", "1");
        }
    }
    keraunos::cli::run(std::env::args_os())
}
