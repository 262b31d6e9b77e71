//! The files of a result that `view` and a resumed batch read; what is done with it: `src/report.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: keraunos_fuzz::leave_guarded_panics(), |bytes: &[u8]| {
    let _ = keraunos_fuzz::report::read(bytes);
});
