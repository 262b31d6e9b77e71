//! A volume of FreeSurfer's; what is done with it: `src/mgh.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: keraunos_fuzz::leave_guarded_panics(), |bytes: &[u8]| {
    let _ = keraunos_fuzz::mgh::read(bytes);
});
