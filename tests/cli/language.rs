//! Words written and read by the language models.

use super::*;

/// Without the models `segment` goes on with the template, and says so; asked for them, it stops.
#[test]
fn missing_models_are_a_warning_or_an_error() {
    let folder = folder();
    let input = phantom(folder.path(), "a_T1w.nii.gz");
    let out = folder.path().join("out");
    let bare = |command: &str, more: &[&str]| {
        let mut words = keraunos();
        words
            .arg(command)
            .arg(&input)
            .args(["--fast", "--find", "whole brain"])
            .args(more);
        words.env("KERAUNOS_HOME", folder.path().join("none"));
        words.env("HF_HUB_CACHE", folder.path().join("none"));
        words.output().expect("the program starts")
    };
    let place = ["-o", out.to_str().expect("a path")];
    let output = bare("segment", &place);
    said(&output);
    assert!(stderr(&output).contains("keraunos pull") && stderr(&output).contains("built-in"));
    let line = refused(&bare("instruct", &["--instruct", "llm"]), 1);
    assert!(
        line.contains(LANGUAGE_MODEL) && line.contains("keraunos pull"),
        "{line}"
    );
    let line = refused(
        &bare(
            "segment",
            &[&place[..], &["--instruction", "Segment the skull."]].concat(),
        ),
        1,
    );
    assert!(line.contains(TEXT_ENCODER), "{line}");
}

#[test]
fn instruct_prints_only_the_texts() {
    let folder = folder();
    let input = phantom(folder.path(), "a_T1w.nii.gz");
    let text = said(&run!(
        "instruct",
        &input,
        "--instruct",
        "stock",
        "--find",
        "left putamen"
    ));
    assert_eq!(
        text,
        "left putamen\tT1\tSegment the left putamen in this T1-weighted <view> MRI.\n"
    );
    let value = json(&run!("instruct", &input, "--instruct", "stock", "--json"));
    assert_eq!(value["instructions"].as_array().map(Vec::len), Some(69));
    let own = json(&run!(
        "instruct",
        &input,
        "--find",
        "pons, midbrain and medulla",
        "--instruction",
        "Mine.",
        "--json"
    ));
    assert_eq!(
        (
            &own["instructions"][0]["text"],
            &own["instructions"][0]["author"]
        ),
        (&"Mine.".into(), &"user".into())
    );
}

#[test]
fn generate_streams_to_stdout_and_counts_on_stderr() {
    needs_models();
    let output = run!(
        "generate",
        "Say hello.",
        "--max-tokens",
        "8",
        "--system",
        "Be brief."
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).trim().len() > 1);
    assert!(stderr(&output).contains("tokens/s"), "{}", stderr(&output));
    let again = run!(
        "generate",
        "Say hello.",
        "--max-tokens",
        "8",
        "--system",
        "Be brief."
    );
    assert_eq!(stdout(&again), stdout(&output));
}

#[test]
fn embed_prints_a_line_a_text() {
    needs_models();
    let plain = said(&run!("embed", "a thalamus", "a kidney"));
    let rows: Vec<Vec<f64>> = plain
        .lines()
        .map(|line| {
            line.split(' ')
                .map(|v| v.parse().expect("a number"))
                .collect()
        })
        .collect();
    assert_eq!((rows.len(), rows[0].len()), (2, 384));
    assert!((rows[1].iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-5);
    let lines = said(&run!("embed", "a thalamus", "--json"));
    let value: Value = serde_json::from_str(lines.trim()).expect("JSON");
    assert_eq!(value["text"], "a thalamus");
    assert!((value["embedding"][5].as_f64().expect("a number") - rows[0][5]).abs() < 1e-6);
    // The same from its folder, by name; its first token says something else.
    let home = Home::new(None).expect("a home");
    let place = home.locate(TEXT_ENCODER).expect("the encoder");
    let by = |pooling: &str| {
        let options = ["embed", "a thalamus", "--pooling", pooling];
        let mut command = keraunos();
        said(
            &command
                .args(options)
                .arg("--model")
                .arg(&place)
                .output()
                .expect("the program starts"),
        )
    };
    assert_eq!(Some(by("mean").trim_end()), plain.lines().next());
    assert_ne!(by("cls"), by("mean"));
    assert_eq!(by("pooler").split(' ').count(), 384);
    let empty = folder();
    let line = refused(&run!("embed", "x", "--model", empty.path()), 1);
    assert!(line.contains("model.safetensors"), "{line}");
}

#[test]
fn the_language_model_writes_and_the_encoder_reads_what_is_segmented() {
    needs_models();
    let folder = folder();
    let input = phantom(folder.path(), "a_T1w.nii.gz");
    let written = json(&run!(
        "instruct",
        &input,
        "--instruct",
        "llm",
        "--find",
        "thalamus",
        "--json"
    ));
    let one = &written["instructions"][0];
    assert!(
        one["author"] == "llm" || one["replaced"].is_string(),
        "{one}"
    );
    let out = folder.path().join("out");
    let words = "Segment everything bright.";
    let output = run!(
        "segment",
        &input,
        "-o",
        &out,
        "--fast",
        "--instruction",
        words,
        "--json"
    );
    let value = json(&output);
    assert_eq!(
        (
            &value["structures"][0]["label"],
            &value["structures"][0]["name"]
        ),
        (&1.into(), &words.into())
    );
    assert!(value["report"]["weights"]["text encoder"].is_string());
}

#[test]
fn models_that_are_there_are_not_fetched_again() {
    needs_models();
    let text = said(&run!("pull", "--offline"));
    assert_eq!(text.matches("already there").count(), 2, "{text}");
    let home = Home::new(None).expect("a folder for models");
    let file = home.locate(LANGUAGE_MODEL).expect("it is there");
    assert!(said(&run!("inspect", &file)).contains("GGUF version 3"));
}
