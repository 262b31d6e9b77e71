//! `segment --model` with a `model.json`: a user's own checkpoints, put together.

use serde_json::json;

use super::schema::Schema;
use super::zeus_files::{model_json, volume, write_json, zeus};
use super::*;

/// `segment` with the model of a folder; volumes first.
fn by_model(model: &Path, volumes: &[&Path], out: &Path, words: &[&str]) -> Output {
    let mut command = keraunos();
    command
        .arg("segment")
        .args(volumes)
        .arg("--model")
        .arg(model);
    command
        .arg("-o")
        .arg(out)
        .args(["--instruct", "stock"])
        .args(words);
    command.output().expect("the program starts")
}

#[test]
fn a_folder_of_checkpoints_segments_without_a_line_of_code() {
    let model = zeus();
    let folder = folder();
    let (t1, t2) = (volume(folder.path(), "t1"), volume(folder.path(), "t2"));
    let out = folder.path().join("out");
    let value = json(&by_model(model.path(), &[&t1, &t2], &out, &["--json"]));
    let report = &value["report"];
    Schema::of("report").holds(report);
    assert_eq!(report["model"]["name"], "small");
    assert_eq!(report["fusion"], "late");
    let roles: Vec<&String> = report["weights"]
        .as_object()
        .expect("roles")
        .keys()
        .collect();
    let wanted = [
        "image encoder for T1",
        "image encoder for T2",
        "segmentation",
        "text encoder",
        "text projection",
    ];
    assert_eq!(roles, wanted);
    // All of its structures, each under its own label; the map names what holds a voxel.
    let structures = value["structures"].as_array().expect("structures");
    let named: Vec<(&str, u64)> = structures
        .iter()
        .map(|s| {
            (
                s["name"].as_str().expect("a name"),
                s["label"].as_u64().expect("a label"),
            )
        })
        .collect();
    assert_eq!(
        named,
        [
            ("lump", 2),
            ("left lump", 3),
            ("right lump", 4),
            ("ring", 1)
        ]
    );
    let ring = &report["instructions"][3];
    assert_eq!(
        ring["text"],
        "Segment the ring in this T1-weighted <view> MRI."
    );
    let map = Labels::read(&out.join("scan_T1w_seg-keraunos_dseg.nii.gz")).expect("a map");
    assert!(map.data.contains(&1));

    // By its own words, in one view, fused as it says; a user's choice comes first.
    let mut changed = model_json();
    changed["fusion"] = "hybrid".into();
    changed["views"] = json!(["coronal"]);
    changed["prompts"] = json!({"stock": "Find <instance> in this <view> view."});
    changed["card"]["citation"] = "A. Nobody. Nothing. 2026.".into();
    write_json(model.path(), &changed);
    let text = said(&by_model(
        model.path(),
        &[&t1, &t2],
        &out,
        &["--find", "left bump"],
    ));
    assert!(
        text.contains("left lump") && text.contains("A. Nobody"),
        "{text}"
    );
    let told = |words: &[&str]| {
        let words = [words, &["--find", "ring", "--json"]].concat();
        json(&by_model(
            &model.path().join("model.json"),
            &[&t1, &t2],
            &out,
            &words,
        ))["report"]
            .clone()
    };
    let report = told(&[]);
    assert_eq!(
        (&report["fusion"], &report["views"]),
        (&"hybrid".into(), &json!(["coronal"]))
    );
    assert_eq!(
        report["instructions"][0]["text"],
        "Find ring in this <view> view."
    );
    let report = told(&["--fusion", "early", "--view", "axial"]);
    assert_eq!(
        (&report["fusion"], &report["views"]),
        (&"early".into(), &json!(["axial"]))
    );
}

#[test]
fn a_folder_of_checkpoints_segments_a_folder_of_scans() {
    let (model, folder) = (zeus(), folder());
    let (input, out) = (folder.path().join("in"), folder.path().join("out"));
    let scan = std::fs::read(volume(folder.path(), "t1")).expect("a scan");
    std::fs::create_dir(&input).expect("a folder");
    for name in ["a_T1w.nii", "b_T1w.nii"] {
        write(&input.join(name), &scan);
    }
    let many = |more: &[&str]| {
        let words = [&["--json", "--view", "axial"], more].concat();
        let value = json(&by_model(model.path(), &[&input], &out, &words));
        ["done", "skipped", "failed"].map(|what| value[what].as_u64().expect("a count"))
    };
    assert_eq!(many(&["--find", "ring"]), [2, 0, 0]);
    assert_eq!(many(&["--find", "ring", "--skip-existing"]), [0, 2, 0]);
    assert_eq!(many(&["--skip-existing"]), [2, 0, 0]);
    let report = std::fs::read(out.join("b_T1w_report.json")).expect("a report");
    Schema::of("report").holds(&serde_json::from_slice(&report).expect("JSON"));
    let line = refused(&by_model(model.path(), &[&input], &out, &["--fast"]), 2);
    assert!(line.contains("--fast is for the built-in model"), "{line}");
}

#[test]
fn a_language_model_writes_in_the_models_own_words() {
    needs_models();
    let model = zeus();
    let mut described = model_json();
    described["parts"]["language_model"] = json!({"id": LANGUAGE_MODEL});
    described["labels"][0]["look"] = "bright".into();
    described["prompts"] = json!({"instruction": {
        "system": "You repeat what you are told.",
        "ask": "Say: Find the <look> <instance> <place>.",
        "examples": [{"ask": "Say: Find the dark lump.", "answer": "Find the dark lump."}],
    }});
    write_json(model.path(), &described);
    let folder = folder();
    let input = volume(folder.path(), "t1");
    let out = folder.path().join("out");
    let mut command = keraunos();
    command
        .arg("segment")
        .arg(&input)
        .arg("--model")
        .arg(model.path());
    command
        .arg("-o")
        .arg(&out)
        .args(["--view", "axial", "--json"]);
    command.args(["--instruct", "llm", "--find", "ring"]);
    let report = &json(&command.output().expect("the program starts"))["report"];
    Schema::of("report").holds(report);
    assert!(report["weights"]["language model"].is_string());
    let said = &report["instructions"][0];
    assert_eq!(said["author"], "llm", "{said}");
    let text = said["text"].as_str().expect("a text");
    assert!(text.contains("ring") && text.contains("bright"), "{text}");
}

#[test]
fn the_built_in_model_is_described_by_such_a_file() {
    let folder = folder();
    let input = folder.path().join("a_T1w.nii.gz");
    tiny(&input, 1);
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights");
    let words = ["--find", "left thalamus", "--json"];
    let (own, built_in) = (folder.path().join("own"), folder.path().join("built_in"));
    let value = json(&by_model(
        &weights.join("zeus-mini.json"),
        &[&input],
        &own,
        &[&["--fast", "--find", "whole brain"], &words[..]].concat(),
    ));
    let wanted = json(&segment(&input, &built_in, &words));
    for key in [
        "model",
        "weights",
        "asked",
        "views",
        "fusion",
        "instructions",
    ] {
        assert_eq!(value["report"][key], wanted["report"][key], "{key}");
    }
    let map =
        |out: &Path| std::fs::read(out.join("a_T1w_seg-keraunos_dseg.nii.gz")).expect("a map");
    assert!(map(&own) == map(&built_in));
}

#[test]
fn what_a_model_json_may_say_is_what_the_schema_says() {
    let schema = Schema::of("model");
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/zeus-mini.json");
    let built_in: Value =
        serde_json::from_slice(&std::fs::read(weights).expect("bytes")).expect("JSON");
    schema.holds(&built_in);
    schema.holds(&model_json());
    // Each of these is refused by both.
    let model = zeus();
    let folder = folder();
    let input = volume(folder.path(), "t1");
    let out = folder.path().join("out");
    for (place, name, wrong) in [
        ("", "card", Value::Null),
        ("", "more", 1.into()),
        ("", "$schema", "urn:keraunos:model:2".into()),
        ("", "fusion", "late, I think".into()),
        ("", "views", json!(["axial", "axial"])),
        ("", "labels", json!([])),
        ("", "prompts", json!({"stock": "Segment it."})),
        ("/card", "role", "painting".into()),
        ("/parts", "segmentation", "whole.safetensors".into()),
        ("/parts", "text_encoder", json!({})),
        ("/parts", "text_encoder", json!({"id": "a", "path": "b"})),
        ("/parts", "preprocessing", "mine".into()),
        ("/labels/0", "labels", json!({"both": 0})),
        ("/labels/0", "name", Value::Null),
    ] {
        let mut spoilt = model_json();
        spoilt.pointer_mut(place).expect("a place")[name] = wrong;
        assert!(!schema.takes(&spoilt), "{place}/{name}: {spoilt}");
        write_json(model.path(), &spoilt);
        let line = refused(
            &by_model(model.path(), &[&input], &out, &["--find", "ring"]),
            1,
        );
        assert!(line.contains("model.json"), "{line}");
        assert!(!out.exists());
    }
}

#[test]
fn what_a_model_cannot_do_is_said() {
    let model = zeus();
    let folder = folder();
    let input = volume(folder.path(), "t1");
    let out = folder.path().join("out");
    let boxed = run!(
        "segment",
        &input,
        "--model",
        model.path(),
        "-o",
        &out,
        "--box",
        "1,1,5,5,3"
    );
    assert!(refused(&boxed, 2).contains("a Zeus"));
    for (words, part) in [
        (&["--find", "lungs"][..], "`lump`"),
        (&["--fast", "--view", "axial", "--find", "ring"], "--fast"),
        (
            &["--modality", "ct", "--find", "ring"],
            "image encoders for T1, T2 alone",
        ),
    ] {
        let line = refused(&by_model(model.path(), &[&input], &out, words), 2);
        assert!(line.contains(part), "{line}");
        assert!(!out.exists());
    }
    let mut unlabelled = model_json();
    unlabelled
        .as_object_mut()
        .expect("an object")
        .remove("labels");
    write_json(model.path(), &unlabelled);
    let line = refused(
        &by_model(model.path(), &[&input], &out, &["--find", "ring"]),
        2,
    );
    assert!(line.contains("has no `labels`"), "{line}");
    let free = by_model(
        model.path(),
        &[&input],
        &out,
        &["--instruction", "The ring.", "--view", "axial"],
    );
    assert!(said(&free).contains("The ring."));
    // What can be asked for.
    write_json(model.path(), &model_json());
    let list = run!("structures", "--model", model.path());
    let list = said(&list);
    assert!(
        list.contains("lump") && list.contains("bump") && !list.contains("thalamus"),
        "{list}"
    );
}
