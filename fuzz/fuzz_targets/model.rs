//! A `model.json` and the files of words that it names; what is done with it: `src/model.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = keraunos_fuzz::model::read(bytes);
});
