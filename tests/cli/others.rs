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
fn pull_fetches_nothing_whose_licence_was_not_accepted() {
    let folder = folder();
    let home = folder.path().join("home");
    // No terminal that could be asked.
    let output = run!("pull", "mobile-sam", "--model-dir", &home);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    let [shown, refused] = text.lines().collect::<Vec<_>>()[..] else {
        panic!("{text}");
    };
    assert!(
        shown.contains("mobile-sam") && shown.contains("licence Apache-2.0"),
        "{shown}"
    );
    assert!(refused.contains("--accept-licences"), "{refused}");
    assert!(!home.exists());
}

#[test]
fn a_known_model_is_called_by_its_name() {
    let folder = folder();
    let input = phantom(folder.path(), "sub-01_T1w.nii.gz");
    let (home, out) = (folder.path().join("home"), folder.path().join("out"));
    let by = |name: &str| {
        run!(
            "segment",
            &input,
            "-o",
            &out,
            "--model-dir",
            &home,
            "--box",
            "8,10,30,36,17",
            "--model",
            name
        )
    };
    let line = refused(&by("sam-vit-b"), 1);
    assert!(line.contains("sam-vit-b is not on this machine"), "{line}");
    // One that pull has made, if it had been as large; and one that is not known.
    let line = refused(&by("sam-vit-x"), 1);
    assert!(line.contains("cannot read `sam-vit-x`"), "{line}");
    assert!(!out.exists());
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
