//! `segment` of one case.

use super::*;

#[test]
fn segment_writes_a_map_on_the_input_grid_and_says_where() {
    let folder = folder();
    let input = phantom(folder.path(), "sub-01_T1w.nii.gz");
    let out = folder.path().join("deep/out");
    let text = said(&segment(&input, &out, &["--find", "left thalamus"]));
    for part in [
        "whole brain",
        "left thalamus",
        "volume ml",
        "sub-01_T1w_preview.png",
        "Not a medical device",
        "Cite ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let map = results(&out, &input);
    assert_eq!(map.names[&214], "whole brain");
    // The same again, over what is there: the same bytes.
    let before = std::fs::read(out.join("sub-01_T1w_seg-keraunos_dseg.nii.gz")).expect("bytes");
    said(&segment(&input, &out, &["--find", "left thalamus"]));
    let after = std::fs::read(out.join("sub-01_T1w_seg-keraunos_dseg.nii.gz")).expect("bytes");
    assert!(before == after, "two runs differ");
}

#[test]
fn segment_as_json_and_quietly() {
    let folder = folder();
    let input = phantom(folder.path(), "scan.nii.gz");
    let out = folder.path().join("out");
    let more = ["--json", "--save-probabilities", "--modality", "t1"];
    let value = json(&segment(&input, &out, &more));
    assert_eq!(value["structures"][0]["name"], "whole brain");
    assert_eq!(value["report"]["inputs"][0]["modality_from"], "flag");
    assert_eq!(value["report"]["views"], serde_json::json!(["axial"]));
    let paths = value["paths"].as_object().expect("paths");
    for path in paths.values().filter_map(Value::as_str) {
        assert!(Path::new(path).is_file(), "{path}");
    }
    let probabilities = paths["probabilities"][0].as_str().expect("one");
    let map = Volume::read(Path::new(probabilities)).expect("a map");
    assert!(map.data.iter().all(|p| (0.0..=1.0).contains(p)));
    let quiet = segment(&input, &out, &["--quiet"]);
    assert_eq!((said(&quiet).as_str(), stderr(&quiet).as_str()), ("", ""));
    let loud = segment(&input, &out, &["-v"]);
    assert!(stderr(&loud).contains("image encoder"), "{}", stderr(&loud));
}

#[test]
fn segment_takes_several_modalities_by_flag() {
    let folder = folder();
    let (t1, t2) = (
        phantom(folder.path(), "a.nii.gz"),
        phantom(folder.path(), "b.nii.gz"),
    );
    let out = folder.path().join("out");
    let output = keraunos()
        .args(["segment", "--json", "--fusion=hybrid", "--t2"])
        .arg(&t2)
        .arg("--t1")
        .arg(&t1)
        .arg("-o")
        .arg(&out)
        .args(SHORT)
        .output()
        .expect("the program starts");
    let value = json(&output);
    assert_eq!(value["report"]["inputs"][0]["modality"], "t1");
    assert_eq!(value["report"]["inputs"][1]["modality"], "t2");
    assert_eq!(value["report"]["fusion"], "hybrid");
}

#[test]
fn what_the_weights_or_the_inputs_cannot_do_is_refused() {
    let folder = folder();
    let input = phantom(folder.path(), "a.nii.gz");
    let out = folder.path().join("out");
    let twice = folder.path().join(".").join("a.nii.gz");
    let line = refused(
        &segment(&input, &out, &[twice.to_str().expect("a path")]),
        2,
    );
    assert!(line.contains("is given twice"), "{line}");
    let line = refused(&segment(&input, &out, &["--find", "brain"]), 2);
    assert!(line.contains("would have one label"), "{line}");
    let other = phantom(folder.path(), "b.nii.gz");
    let more = [other.to_str().expect("a path"), "--fusion", "early"];
    let line = refused(&segment(&input, &out, &more), 2);
    assert!(line.contains("early fusion of 2 modalities"), "{line}");
    assert!(!out.exists(), "a refused run leaves a folder");
}

#[test]
fn label_tables_for_other_programs_stand_beside_the_map() {
    let folder = folder();
    let (input, out) = (
        folder.path().join("a_T1w.nii.gz"),
        folder.path().join("out"),
    );
    tiny(&input, 1);
    let value = json(&segment(
        &input,
        &out,
        &["--json", "--labels", "ctbl,itksnap,freesurfer,ctbl"],
    ));
    let tables = value["paths"]["tables"].as_array().expect("paths");
    let texts: Vec<String> = tables
        .iter()
        .map(|path| std::fs::read_to_string(path.as_str().expect("a path")).expect("a table"))
        .collect();
    let [slicer, snap, freesurfer] = texts.as_slice() else {
        panic!("{tables:?}")
    };
    // The colour of label 214 in the table of names.
    let names = out.join("a_T1w_seg-keraunos_dseg.tsv");
    let names = std::fs::read_to_string(names).expect("names");
    let hex = names.trim_end().rsplit_once('#').expect("a colour").1;
    let part = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    let [r, g, b] = [part(0), part(2), part(4)];
    assert!(
        slicer.ends_with(&format!("\n214 whole_brain {r} {g} {b} 255\n")),
        "{slicer}"
    );
    assert!(
        freesurfer.ends_with(&format!("\n214 whole_brain {r} {g} {b} 0\n")),
        "{freesurfer}"
    );
    let words: Vec<&str> = snap
        .lines()
        .last()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let colour = [r, g, b].map(|c| c.to_string());
    assert_eq!(
        words[..7],
        ["214", &colour[0], &colour[1], &colour[2], "1", "1", "1"]
    );
    assert!(snap.ends_with("\"whole brain\"\n"), "{snap}");
    assert!(
        !out.join("a_T1w_seg-keraunos_freesurfer.txt")
            .with_extension("part")
            .exists()
    );
}
