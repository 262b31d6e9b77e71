//! What a loader asks of a checkpoint, by name and shape.

use std::collections::BTreeMap;
use std::path::Path;

/// The names and shapes of a contract in `weights`.
pub fn contract(name: &str) -> BTreeMap<String, Vec<usize>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("weights/{name}.names"));
    let text = std::fs::read_to_string(path).expect("a contract");
    let entry = |line: &str| {
        let (name, shape) = line.split_once(' ').expect("a name and a shape");
        (
            name.to_owned(),
            serde_json::from_str(shape).expect("a shape"),
        )
    };
    text.lines().map(entry).collect()
}
