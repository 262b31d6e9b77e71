//! A NIfTI volume; what is done with it: `src/nifti.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: keraunos_fuzz::leave_guarded_panics(), |bytes: &[u8]| {
    let _ = keraunos_fuzz::nifti::read(bytes);
});
