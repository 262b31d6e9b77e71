//! The JSON files of a Hugging Face folder; what is done with it: `src/folder.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: keraunos_fuzz::leave_guarded_panics(), |bytes: &[u8]| {
    let _ = keraunos_fuzz::folder::read(bytes);
});
