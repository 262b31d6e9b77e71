//! A BERT's word list; what is done with it: `src/word_list.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: keraunos_fuzz::leave_guarded_panics(), |bytes: &[u8]| {
    let _ = keraunos_fuzz::word_list::read(bytes);
});
