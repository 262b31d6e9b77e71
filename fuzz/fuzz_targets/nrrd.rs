//! A volume of 3D Slicer's; what is done with it: `src/nrrd.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: keraunos_fuzz::leave_guarded_panics(), |bytes: &[u8]| {
    let _ = keraunos_fuzz::nrrd::read(bytes);
});
