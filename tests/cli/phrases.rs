//! `segment` by phrases.

use super::*;

#[path = "../support/clip_files.rs"]
mod clip_files;

#[test]
fn segment_by_phrases_writes_what_segment_writes() {
    let (folder, model) = (folder(), clip_files::clipseg());
    let input = phantom(folder.path(), "sub-01_T1w.nii.gz");
    let out = folder.path().join("out");
    let asked = |more: &[&str]| {
        let mut command = keraunos();
        command.arg("segment").arg(&input).arg("--model");
        command.arg(model.path()).arg("-o").arg(&out).args(more);
        command.output().expect("the program starts")
    };
    let text = said(&asked(&["--find", "thalamus", "--prompt", "a dark core"]));
    for part in ["thalamus", "a dark core", "arXiv:2112.10003"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    results(&out, &input);

    let asked_json = asked(&[
        "--find",
        "thalamus",
        "--find",
        "left putamen",
        "--prompt-type",
        "p5",
        "--view",
        "coronal",
        "--save-probabilities",
        "--json",
    ]);
    let value = json(&asked_json);
    let report = &value["report"];
    super::schema::Schema::of("report").holds(report);
    assert_eq!(report["views"][0], "coronal");
    let texts = |n: usize| &report["instructions"][n]["text"];
    assert_eq!(texts(0), "two gray thalamus");
    assert_eq!(texts(1), "one gray left putamen");
    assert_eq!(report["instructions"][1]["author"], "stock");
    let written = value["paths"]["probabilities"].as_array().expect("paths");
    assert_eq!(written.len(), 2);
}

#[test]
fn what_phrases_are_not_for_is_refused() {
    let (folder, model) = (folder(), clip_files::clipseg());
    let input = phantom(folder.path(), "sub-01_T1w.nii.gz");
    let out = folder.path().join("out");
    let asked = |model: &Path, more: &[&str]| {
        let mut command = keraunos();
        command.arg("segment").arg(&input).arg("--model");
        command.arg(model).arg("-o").arg(&out).args(more);
        command.output().expect("the program starts")
    };
    for (more, wanted) in [
        (&[][..], "nothing says what to segment"),
        (&["--prompt", " "], "the prompt \" \" says nothing"),
        (
            &["--prompt", "a", "--view", "all"],
            "3 views; a CLIPSeg looks at one",
        ),
        (&["--find", "thalamus", "--fast"], "--fast are not for it"),
        (&["--find", "hipocampus"], "`hippocampus`"),
        (
            &["--point", "20,24,18"],
            "--model is a CLIPSeg: a box or point is not for it",
        ),
    ] {
        let line = refused(&asked(model.path(), more), 2);
        assert!(line.contains(wanted), "{wanted}: {line}");
    }
    let line = refused(
        &run!("segment", &input, "-o", &out, "--prompt", "a polyp"),
        2,
    );
    assert!(line.contains("--prompt is for a CLIPSeg"), "{line}");
    // Another model's folder, and one without its decoder.
    let path = model.path().join("config.json");
    let config = std::fs::read_to_string(&path).expect("a file");
    std::fs::write(&path, config.replace("\"clipseg\"", "\"clip\"")).expect("written");
    let line = refused(&asked(model.path(), &["--prompt", "a polyp"]), 1);
    assert!(
        line.contains("config.json") && line.contains("`model_type` is `clip`, expected `clipseg`"),
        "{line}"
    );
    let case = &clip_files::golden("clip.json")["gelu"];
    let tensors = serde_json::from_value(case["tensors"].clone()).expect("tensors");
    let clip = model_files::model_folder(&case["config"], &tensors, str::to_owned);
    let line = refused(&asked(clip.path(), &["--prompt", "a polyp"]), 1);
    assert!(line.contains("looks like CLIP or SigLIP"), "{line}");
    assert!(!out.exists());
}

#[test]
fn segment_by_a_biomedclipseg() {
    let (folder, model) = (folder(), clip_files::biomedclipseg());
    let input = phantom(folder.path(), "sub-01_T1w.nii.gz");
    let out = folder.path().join("out");
    let asked = |words: &str| {
        let path = model.path();
        run!(
            "segment", &input, "--model", path, "-o", &out, "--prompt", words, "--json"
        )
    };
    let value = json(&asked("a dark core"));
    let citation = value["report"]["citation"].to_string();
    assert!(citation.contains("arXiv:2303.00915"), "{citation}");
    super::schema::Schema::of("report").holds(&value["report"]);
    let map = Labels::read(&out.join("sub-01_T1w_seg-keraunos_dseg.nii.gz")).expect("a map");
    let volume = Volume::read(&input).expect("the phantom");
    assert_eq!((map.shape, map.affine), (volume.shape, volume.affine));
    // Forty positions, one for each letter here.
    let line = refused(&asked("an extraordinarily long phrase of so many words"), 2);
    assert!(line.contains("is too long for the model"), "{line}");
    std::fs::remove_file(model.path().join("vocab.txt")).expect("removed");
    let line = refused(&asked("a dark core"), 1);
    assert!(line.contains("tokenizer.json"), "{line}");
}

#[test]
fn segment_by_a_cris() {
    let (folder, model) = (folder(), clip_files::cris("net."));
    let input = phantom(folder.path(), "sub-01_T1w.nii.gz");
    let out = folder.path().join("out");
    let asked = |words: &str| {
        let path = model.path();
        run!(
            "segment", &input, "--model", path, "-o", &out, "--prompt", words, "--json"
        )
    };
    let value = json(&asked("a dark core"));
    let citation = value["report"]["citation"].to_string();
    assert!(citation.contains("arXiv:2111.15174"), "{citation}");
    super::schema::Schema::of("report").holds(&value["report"]);
    let map = Labels::read(&out.join("sub-01_T1w_seg-keraunos_dseg.nii.gz")).expect("a map");
    let volume = Volume::read(&input).expect("the phantom");
    assert_eq!((map.shape, map.affine), (volume.shape, volume.affine));
    let line = refused(&asked(&"left hippocampus ".repeat(20)), 2);
    assert!(line.contains("tokens long; 40 fit"), "{line}");
    let point = ["--point", "20,24,18"];
    let line = refused(
        &run!(
            "segment",
            &input,
            "--model",
            model.path(),
            "-o",
            &out,
            point[0],
            point[1]
        ),
        2,
    );
    assert!(
        line.contains("--model is a CRIS: a box or point is not for it"),
        "{line}"
    );
    std::fs::remove_file(model.path().join("merges.txt")).expect("removed");
    let line = refused(&asked("a dark core"), 1);
    assert!(line.contains("merges.txt"), "{line}");
}

#[test]
fn phrases_are_found_in_a_folder_of_scans() {
    let (folder, model) = (folder(), clip_files::clipseg());
    let (input, out) = (folder.path().join("in"), folder.path().join("out"));
    tiny(&input.join("a_T1w.nii.gz"), 1);
    tiny(&input.join("b_T1w.nii.gz"), 2);
    let many = |more: &[&str]| {
        let mut command = keraunos();
        command.arg("segment").arg(&input).arg("--model");
        command.arg(model.path()).arg("-o").arg(&out).arg("--json");
        let value = json(&command.args(more).output().expect("the program starts"));
        ["done", "skipped", "failed"].map(|what| value[what].as_u64().expect("a count"))
    };
    let skip = "--skip-existing";
    assert_eq!(many(&["--find", "thalamus"]), [2, 0, 0]);
    assert_eq!(many(&["--find", "thalamus", skip]), [0, 2, 0]);
    // Other words are another question.
    let other = ["--find", "thalamus", "--prompt-type", "p5", skip];
    assert_eq!(many(&other), [2, 0, 0]);
    assert_eq!(many(&["--prompt", "a dark core", skip]), [2, 0, 0]);
    let probabilities = ["--prompt", "a dark core", "--save-probabilities", skip];
    assert_eq!(many(&probabilities), [2, 0, 0]);
    assert_eq!(many(&probabilities), [0, 2, 0]);
    let report = std::fs::read(out.join("a_T1w_report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    super::schema::Schema::of("report").holds(&report);
    assert_eq!(report["asked"]["prompt_type"], "p1");
}
