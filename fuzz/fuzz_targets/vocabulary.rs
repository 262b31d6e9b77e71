//! The tokens of a GGUF file; what is done with it: `src/vocabulary.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: keraunos_fuzz::leave_guarded_panics(), |bytes: &[u8]| {
    let _ = keraunos_fuzz::vocabulary::read(bytes);
});
