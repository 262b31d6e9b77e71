//! The commands that need no adapter.

use super::*;

#[test]
fn structures_are_listed() {
    let text = said(&run!("structures"));
    assert!(
        text.lines()
            .any(|line| line.trim_start().starts_with("17  left hippocampus"))
    );
    let value = json(&run!("structures", "--json"));
    let all = value["structures"].as_array().expect("an array");
    assert_eq!(all.len(), 69);
    assert!(
        all.iter()
            .any(|one| one["label"] == 209 && one["synonyms"][0] == "globus pallidus")
    );
}

#[test]
fn inspect_lists_tensors() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/zeus-mini.safetensors");
    let text = said(&run!("inspect", &file));
    assert!(
        text.contains("safetensors, ") && text.contains("sha256 ") && text.contains("text_encoder")
    );
    let value = json(&run!("inspect", &file, "--json"));
    let tensors = value["tensors"].as_array().expect("tensors");
    let bytes: u64 = tensors.iter().filter_map(|t| t["bytes"].as_u64()).sum();
    assert!(bytes < value["bytes"].as_u64().expect("a size"));
    assert!(
        tensors
            .iter()
            .all(|t| t["encoding"].is_string() && t["shape"].is_array())
    );
    let folder = folder();
    let wrong = folder.path().join("x.txt");
    write(&wrong, b"<html>");
    let line = refused(&run!("inspect", &wrong), 1);
    assert!(line.contains("HTML page"), "{line}");
}

#[test]
fn pull_without_a_connection_says_what_is_missing() {
    let folder = folder();
    let home = folder.path().join("home");
    let line = refused(&run!("pull", "--offline", "--model-dir", &home), 1);
    assert!(
        line.contains(TEXT_ENCODER) && line.contains("--offline"),
        "{line}"
    );
    assert!(!home.exists());
    let line = refused(&run!("pull", "gpt", "--offline"), 2);
    assert!(line.contains("no model is called `gpt`"), "{line}");
}
