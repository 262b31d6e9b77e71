//! `keraunos models`: says of each model what `pull`, `doctor` and the reports say.

use super::*;

#[test]
fn what_is_known_is_what_can_be_pulled() {
    let folder = folder();
    let home = folder.path().join("home");
    let bare = |words: &[&str]| {
        let mut command = keraunos();
        command.args(words).arg("--model-dir").arg(&home);
        command.env("HF_HUB_CACHE", &home);
        command.output().expect("it starts")
    };
    let value = json(&bare(&["models", "--json"]));
    let models = value["models"].as_array().expect("models");
    assert_eq!(value["model_folder"], home.to_str().expect("a path"));
    let embedded = &models[0];
    assert_eq!(
        (&embedded["name"], &embedded["role"]),
        (&"zeus-mini".into(), &"segmentation".into())
    );
    assert_eq!(
        (&embedded["embedded"], &embedded["fetch"]),
        (&true.into(), &Value::Null)
    );
    assert_eq!(value["card"]["name"], "zeus-mini");
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/zeus-mini.safetensors");
    let inspected = json(&run!("inspect", &weights, "--json"));
    assert_eq!(embedded["files"][0]["sha256"], inspected["sha256"]);
    assert_eq!(embedded["bytes"], inspected["bytes"]);
    // Each of the others is known to `pull` by its name, and by no other.
    let mut known = String::new();
    assert_eq!(models[1]["role"], "projector");
    let published = |model: &&Value| model["embedded"] == false;
    assert_eq!(models.iter().filter(published).count(), 6);
    for model in models.iter().filter(published) {
        let name = model["name"].as_str().expect("a name");
        assert_eq!(model["path"], Value::Null);
        assert_eq!(model["fetch"], format!("keraunos pull {name}"));
        let line = refused(&bare(&["pull", name, "--offline"]), 1);
        assert!(line.contains(&format!("`{name}`")), "{line}");
        known += &format!("{}`{name}`", if known.is_empty() { "" } else { ", " });
        let files = model["files"].as_array().expect("files");
        let bytes: u64 = files.iter().filter_map(|file| file["bytes"].as_u64()).sum();
        assert_eq!(model["bytes"], bytes);
    }
    let line = refused(&bare(&["pull", "nothing", "--offline"]), 2);
    assert!(line.ends_with(&format!("known are {known}")), "{line}");
    let text = said(&bare(&["models"]));
    assert!(
        text.contains(&format!("not here: keraunos pull {LANGUAGE_MODEL}")),
        "{text}"
    );
    assert!(text.contains("part of this program") && text.contains("MIT OR Apache-2.0"));
    assert!(
        text.contains(&format!("Models are kept in {}", home.display())),
        "{text}"
    );
    assert!(!home.exists());
}

#[test]
fn reports_name_the_weights_by_what_they_are_for() {
    needs_models();
    let value = json(&run!("models", "--json"));
    let models = value["models"].as_array().expect("models");
    let hash_of = |role: &str, name: &str| {
        let model = models.iter().find(|model| model["role"] == role);
        let files = model
            .and_then(|model| model["files"].as_array())
            .expect("files");
        let file = files.iter().find(|file| {
            let file = file["name"].as_str().unwrap_or_default();
            file.ends_with(name)
        });
        file.expect("its weights")["sha256"].clone()
    };
    let folder = folder();
    let input = folder.path().join("a_T1w.nii.gz");
    tiny(&input, 1);
    let out = folder.path().join("out");
    let segment = run!(
        "segment",
        &input,
        "-o",
        &out,
        "--fast",
        "--find",
        "thalamus",
        "--instruct",
        "lvlm",
        "--json"
    );
    let report = &json(&segment)["report"];
    super::schema::Schema::of("report").holds(report);
    let weights = report["weights"].as_object().expect("weights");
    assert_eq!(
        weights["segmentation"],
        hash_of("segmentation", ".safetensors")
    );
    assert_eq!(
        weights["language model"],
        hash_of("language model", ".gguf")
    );
    assert_eq!(weights["projector"], hash_of("projector", ".safetensors"));
    // The text encoder is loaded where the sentence is not built in.
    if let Some(encoder) = weights.get("text encoder") {
        assert_eq!(*encoder, hash_of("text encoder", ".safetensors"));
    }
    assert_eq!(report["model"], value["card"]);
}

#[test]
fn a_model_that_is_not_whole_is_not_here() {
    let folder = folder();
    let home = folder.path().join("home");
    std::fs::create_dir_all(&home).expect("a folder");
    write(&home.join(format!("{LANGUAGE_MODEL}.gguf")), b"GGUF");
    let mut command = keraunos();
    command.args(["models", "--json", "--model-dir"]).arg(&home);
    command.env("HF_HUB_CACHE", &home);
    let value = json(&command.output().expect("it starts"));
    let models = value["models"].as_array().expect("models");
    let model = models.iter().find(|model| model["name"] == LANGUAGE_MODEL);
    assert_eq!(model.expect("it is known")["path"], Value::Null);
}

#[test]
fn structures_have_names_synonyms_labels_and_sides() {
    let value = json(&run!("structures", "--json"));
    let all = value["structures"].as_array().expect("structures");
    let of = |name: &str| {
        let one = all.iter().find(|one| one["name"] == name);
        one.unwrap_or_else(|| panic!("{name}"))
    };
    // FreeSurfer's numbers, and its two sides.
    assert_eq!(
        (
            &of("left hippocampus")["label"],
            &of("left hippocampus")["side"]
        ),
        (&17.into(), &"left".into())
    );
    assert_eq!(
        (
            &of("right hippocampus")["label"],
            &of("right hippocampus")["side"]
        ),
        (&53.into(), &"right".into())
    );
    assert_eq!(of("hippocampus")["side"], Value::Null);
    assert_eq!(
        (&of("hippocampus")["sided"], &of("brainstem")["sided"]),
        (&true.into(), &false.into())
    );
    // Whatever a name or a synonym is, it can be asked for, and means this label.
    for one in all {
        let synonyms = one["synonyms"].as_array().expect("synonyms");
        for words in synonyms.iter().chain([&one["name"]]) {
            let words = words.as_str().expect("a name");
            let found = keraunos::pipeline::structures::Target::find(words);
            let found = found.unwrap_or_else(|e| panic!("{words}: {e}"));
            assert_eq!(one["label"], found.label, "{words}");
        }
    }
    let text = said(&run!("structures"));
    let row = |name: &str| {
        let row = text.lines().find(|line| {
            line.contains(&format!("  {name} ")) || line.ends_with(&format!("  {name}"))
        });
        row.unwrap_or_else(|| panic!("{name}: {text}")).to_owned()
    };
    assert!(row("pallidum").contains("globus pallidus") && row("pallidum").contains("left, right"));
    assert!(!row("brainstem").contains("left, right"));
}
