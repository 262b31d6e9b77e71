//! A PyTorch checkpoint's pickle; what is done with it: `src/pickle.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: keraunos_fuzz::leave_guarded_panics(), |bytes: &[u8]| {
    let _ = keraunos_fuzz::pickle::read(bytes);
});
