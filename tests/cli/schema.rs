//! What is written for machines follows the schemas that the program prints.

use std::collections::BTreeSet;

use super::*;

/// A schema as `keraunos schema` prints it.
pub(super) struct Schema {
    value: Value,
    validator: jsonschema::Validator,
}

impl Schema {
    pub(super) fn of(what: &str) -> Self {
        let value = json(&run!("schema", what));
        jsonschema::meta::validate(&value).expect("a schema");
        let validator = jsonschema::validator_for(&value).expect("a schema that can be used");
        Self { value, validator }
    }

    #[track_caller]
    pub(super) fn holds(&self, document: &Value) {
        let faults: Vec<String> = self
            .validator
            .iter_errors(document)
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{}\n{document:#}", faults.join("\n"));
        assert_eq!(document["$schema"], self.value["$id"]);
    }

    pub(super) fn takes(&self, document: &Value) -> bool {
        self.validator.is_valid(document)
    }
}

fn read(path: &Path) -> Value {
    let text = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).expect("JSON")
}

/// The names of all fields in a document, those of maps by their keys too.
fn fields(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                found.insert(key.clone());
                fields(value, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, found)),
        _ => {}
    }
}

/// The names of all properties that a schema speaks of.
fn properties(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(Value::Object(names)) = object.get("properties") {
                found.extend(names.keys().cloned());
            }
            object.values().for_each(|value| properties(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| properties(value, found)),
        _ => {}
    }
}

#[test]
fn every_report_follows_its_schema() {
    let schema = Schema::of("report");
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let out = at("out");
    let mut reports = Vec::new();
    // The modality by name, by flag, by estimate; every structure; an instruction of one's own; two modalities.
    let (named, plain) = (at("a_T1w.nii.gz"), at("b.nii.gz"));
    tiny(&named, 1);
    tiny(&plain, 2);
    let run = |words: &[&str], inputs: &[&Path]| {
        let mut command = keraunos();
        command.arg("segment").args(inputs).arg("-o").arg(&out);
        command
            .args(["--json", "--fast", "--instruct", "stock"])
            .args(words);
        json(&command.output().expect("it starts"))
    };
    for (words, inputs) in [
        (&[][..], &[named.as_path()][..]),
        (&["--find", "whole brain"], &[plain.as_path()]),
        (
            &[
                "--modality",
                "t2",
                "--find",
                "left thalamus",
                "--precision",
                "f32",
            ],
            &[&plain],
        ),
        (
            &[
                "--modality",
                "t1",
                "--modality",
                "flair",
                "--find",
                "putamen",
                "--fusion",
                "hybrid",
            ],
            &[&named, &plain],
        ),
    ] {
        let told = run(words, inputs);
        let report = read(Path::new(told["paths"]["report"].as_str().expect("a path")));
        schema.holds(&report);
        assert_eq!(report, told["report"]);
        reports.push(report);
    }
    let citation = reports[0]["citation"].as_array().expect("lines");
    assert!(
        citation[1]
            .as_str()
            .expect("a line")
            .contains("arXiv:2504.07336")
    );
    let model = &reports[0]["model"];
    assert_eq!(
        (&model["name"], &model["licence"]),
        (&"zeus-mini".into(), &"MIT OR Apache-2.0".into())
    );
    assert!(
        model["limits"]
            .as_array()
            .is_some_and(|limits| limits.len() >= 5)
    );
    // Of a user's own weights nothing is known, even where they are the same.
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/zeus-mini.safetensors");
    let own = own.to_str().expect("a path");
    let report = &run(&["--weights", own, "--find", "whole brain"], &[&named])["report"];
    schema.holds(report);
    assert_eq!(report["model"], Value::Null);
    // Nothing that a report has is left out of the schema, and nothing in the schema is made up.
    let (mut has, mut says) = (BTreeSet::new(), BTreeSet::new());
    reports.iter().for_each(|report| fields(report, &mut has));
    properties(&schema.value, &mut says);
    let sometimes = [
        "language model",
        "text encoder",
        "projector",
        "replaced",
        // Of a user's own checkpoints: tests/cli/assembly.rs does.
        "image encoder",
        "image encoder for T1",
        "image encoder for T2",
        "image encoder for FLAIR",
        "image encoder for PD",
        "image encoder for CT",
        "text projection",
        // Of phrases: tests/cli/phrases.rs.
        "prompt_type",
        // Of boxes and points: tests/cli/prompts.rs holds such a report against the schema.
        "preprocessing",
        "followed",
        "shown",
        "slice",
        "slices",
        "predicted_iou",
        "pixels",
        "ended",
    ];
    says.retain(|name| !sometimes.contains(&name.as_str()));
    assert_eq!(has, says);
}

#[test]
fn a_report_with_the_language_model_follows_its_schema() {
    needs_models();
    let schema = Schema::of("report");
    let folder = folder();
    let input = folder.path().join("a_T1w.nii.gz");
    tiny(&input, 1);
    let out = folder.path().join("out");
    for words in [
        &["--find", "thalamus", "--instruct", "llm"][..],
        &["--instruction", "Segment everything bright."],
    ] {
        let mut command = keraunos();
        command.arg("segment").arg(&input).arg("-o").arg(&out);
        command.args(["--json", "--fast"]).args(words);
        let value = json(&command.output().expect("it starts"));
        schema.holds(&value["report"]);
    }
}

#[test]
fn a_report_that_is_none_is_refused_by_the_schema() {
    let schema = Schema::of("report");
    let folder = folder();
    let input = folder.path().join("a_T1w.nii.gz");
    tiny(&input, 1);
    let report = json(&segment(&input, &folder.path().join("out"), &["--json"]))["report"].clone();
    schema.holds(&report);
    for (pointer, wrong) in [
        ("/version", Value::from("2")),
        ("/disclaimer", "A medical device".into()),
        ("/citation", serde_json::json!([])),
        ("/weights/segmentation", "abc".into()),
        ("/inputs", serde_json::json!([])),
        ("/inputs/0/modality", "pet".into()),
        ("/inputs/0/shape/0", 0.into()),
        ("/inputs/0/voxel_size/1", "1 mm".into()),
        ("/views/0", "oblique".into()),
        ("/fast", "yes".into()),
        ("/asked/structures/0/0", (-1).into()),
        ("/seconds/0/1", Value::Null),
        ("/model/limits", Value::Null),
    ] {
        let mut spoilt = report.clone();
        *spoilt
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("{pointer}")) = wrong;
        assert!(!schema.validator.is_valid(&spoilt), "{pointer}");
    }
    for name in ["adapter", "asked", "model", "$schema", "warnings"] {
        let mut spoilt = report.clone();
        spoilt.as_object_mut().expect("an object").remove(name);
        assert!(!schema.validator.is_valid(&spoilt), "without {name}");
    }
    let mut spoilt = report;
    spoilt["more"] = true.into();
    assert!(!schema.validator.is_valid(&spoilt), "with more");
}

#[test]
fn every_evaluation_follows_its_schema() {
    needs_models();
    let schema = Schema::of("evaluation");
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let map = |path: &Path, shift: usize| {
        let labels: Vec<f64> = (0..216)
            .map(|v| {
                f64::from(u8::from((v + shift).is_multiple_of(7))) * 17.0
                    + f64::from(u8::from(v == shift)) * 3.0
            })
            .collect();
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        write(path, &Made::new([6, 6, 6], 2).file(&labels));
    };
    for (case, shift) in [("a", 0), ("b", 1), ("c", 3)] {
        map(&at(&format!("p/{case}.nii")), shift);
    }
    map(&at("t/a.nii"), 2);
    map(&at("t/b.nii"), 1);
    write(&at("t/c.nii"), b"no map");
    map(&at("t/d.nii"), 1);
    let maps = json(&run!("evaluate", at("p/a.nii"), at("t/a.nii"), "--json"));
    schema.holds(&maps);
    // One label is missed and one is spurious: their distances are infinite.
    assert!(maps.to_string().contains("\"inf\""), "{maps}");
    let folders = run!("evaluate", at("p"), at("t"), "--json");
    assert_eq!(folders.status.code(), Some(1));
    let folders: Value = serde_json::from_slice(&folders.stdout).expect("one object");
    schema.holds(&folders);
    assert_eq!(folders["failed"][0]["case"], "c");
    let scan = phantom(folder.path(), "scan_T1w.nii.gz");
    let truth = at("truth.nii.gz");
    let [nx, ny, nz] = SHAPE;
    let labels: Vec<f64> = (0..nx * ny * nz)
        .map(|v| match [v % nx, v / nx % ny, v / nx / ny] {
            [14..20, 20..26, 14..20] => 10.0,
            [20..26, 20..26, 14..20] => 49.0,
            _ => 0.0,
        })
        .collect();
    write(&truth, &gzip(&header().file(&labels)));
    let effect = json(&run!("evaluate", &scan, &truth, "--instructions", "--json"));
    schema.holds(&effect);
    let (mut has, mut says) = (BTreeSet::new(), BTreeSet::new());
    for document in [&maps, &folders, &effect] {
        fields(document, &mut has);
    }
    properties(&schema.value, &mut says);
    // `profile` is there if it was asked for.
    says.remove("profile");
    assert_eq!(has, says);
    for (pointer, wrong) in [
        ("/labels/0/dice", Value::from(1.5)),
        ("/labels/0/hd_mm", "-inf".into()),
        ("/missed", (-1).into()),
    ] {
        let mut spoilt = maps.clone();
        *spoilt
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("{pointer}")) = wrong;
        assert!(!schema.validator.is_valid(&spoilt), "{pointer}");
    }
}
