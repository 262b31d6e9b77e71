//! A TensorFlow.js network; what is done with it: `src/tfjs.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: keraunos_fuzz::leave_guarded_panics(), |bytes: &[u8]| {
    let _ = keraunos_fuzz::tfjs::read(bytes);
});
