//! What reads bytes from outside, one module for each kind: `read` does with them all that the program does before an
//! adapter is asked, and checks what must hold of whatever it accepts.
//!
//! The targets in `../fuzz_targets` call it with what a fuzzer makes up, `tests/fuzz_corpus.rs` of the product with what is kept
//! in `../corpus` and `../regressions`. A refusal is as good as an answer; a panic, a hang and memory without end are not.

mod files;
pub mod folder;
pub mod gguf;
pub mod list;
pub mod mgh;
pub mod model;
pub mod nifti;
pub mod nrrd;
pub mod pickle;
pub mod report;
pub mod request;
pub mod safetensors;
pub mod template;
pub mod tfjs;
pub mod tokenizer;
pub mod vocabulary;
pub mod word_list;
mod words;

use keraunos::Result;
use keraunos::pipeline::guard::is_guarded;

/// A reader of bytes from outside.
pub type Reader = fn(&[u8]) -> Result<()>;

/// Every reader by the name of its target and of its folders of inputs.
pub const READERS: [(&str, Reader); 16] = [
    ("folder", folder::read),
    ("gguf", gguf::read),
    ("list", list::read),
    ("mgh", mgh::read),
    ("model", model::read),
    ("nifti", nifti::read),
    ("nrrd", nrrd::read),
    ("pickle", pickle::read),
    ("report", report::read),
    ("request", request::read),
    ("safetensors", safetensors::read),
    ("template", template::read),
    ("tfjs", tfjs::read),
    ("tokenizer", tokenizer::read),
    ("vocabulary", vocabulary::read),
    ("word_list", word_list::read),
];

/// The libraries of tokenizers and templates panic on some texts, and the program catches it: such a panic is no finding. Every other
/// one goes to the hook that was there before, which a fuzzer ends with.
pub fn leave_guarded_panics() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_guarded() {
            told(panic);
        }
    }));
}
