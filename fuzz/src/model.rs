//! A `model.json` and the files of words that it names.

use keraunos::Result;
use keraunos::pipeline::assembly::{Assembly, MODEL_JSON};
use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::structures::{Catalogue, Target};

use super::files::{Folder, parts};

/// The files that an input may hold.
const NAMES: [&str; 3] = [MODEL_JSON, "structures.json", "instruction.json"];

/// Reads it as `segment --model` does before an adapter is asked, and speaks of a structure in its words.
pub fn read(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    for (name, bytes) in parts(bytes, &NAMES) {
        folder.file(name, bytes);
    }
    let model = Assembly::open(&folder.path().join(MODEL_JSON))?;
    assert!(!model.views.is_empty());
    // Kept for good by what follows in the program; here only looked at again.
    if !model.structures.is_empty() {
        Catalogue::check(&model.structures).expect("what was accepted");
    }
    for structure in &model.structures {
        let target = Target::free(&structure.name, 0);
        let said = model.wording.stock(&target, Modality::T1);
        // Words of an instruction are parted by single spaces, a name of none but spaces is refused.
        let first = structure.name.split_whitespace().next().expect("a name");
        assert!(said.text.contains(first), "{said:?}");
    }
    Ok(())
}
