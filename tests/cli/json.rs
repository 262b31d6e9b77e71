//! `--json`: stdout is one object, or an object a line, and nothing else.

use super::*;

/// The commands that compute on an adapter.
const ON_AN_ADAPTER: [&str; 9] = [
    "segment",
    "instruct",
    "generate",
    "describe s",
    "perplexity m t",
    "embed",
    "evaluate a b",
    "doctor",
    "bench",
];

fn words(line: &str) -> Command {
    let mut command = keraunos();
    command.args(line.split(' '));
    command
}

#[test]
fn adapters_are_listed_as_json() {
    let all = json(&run!("doctor", "--device", "list", "--json"));
    let adapters = all["adapters"].as_array().expect("adapters");
    assert!(adapters.iter().all(|one| one["name"].is_string()), "{all}");
    assert!(adapters[0]["max_binding_bytes"].as_u64() >= Some(128 << 20));
    for command in ON_AN_ADAPTER {
        let mut command = words(command);
        let output = command.args(["--json", "--device", "list"]).output();
        assert_eq!(json(&output.expect("it starts")), all, "{command:?}");
    }
}

#[test]
fn a_refusal_leaves_stdout_empty() {
    let here = folder();
    for (line, code) in [
        ("segment no.nii -o out --json", 1),
        ("segment no.nii -o out --json --profile", 1),
        ("segment --cases no.csv -o out --json", 1),
        ("instruct no.nii --json", 1),
        ("generate --json", 2),
        ("describe no.nii --model no --json", 1),
        ("perplexity no.gguf no.txt --json", 1),
        ("quantize no.safetensors -o q --format q8_0 --json", 1),
        ("embed --json", 2),
        ("inspect no.safetensors --json", 1),
        ("view no_report.json --json", 1),
        ("evaluate no.nii no.nii --json", 1),
        ("evaluate no.nii no.nii --instructions --json", 1),
        ("doctor --device 99 --json --model-dir .", 2),
        ("bench --filter no-such-kernel --json", 2),
        ("pull --offline --model-dir none --json", 1),
        ("pull nothing --json", 2),
    ] {
        let mut command = words(line);
        let output = command.current_dir(here.path()).output();
        let output = output.expect("it starts");
        if line.starts_with("doctor") {
            // What is here is told all the same.
            assert_eq!(output.status.code(), Some(code), "{line}");
            let told: Value = serde_json::from_slice(&output.stdout).expect("one object");
            assert_eq!(told["used"], Value::Null, "{told}");
            let problem = told["problem"].as_str().expect("a problem");
            assert_eq!(stderr(&output), format!("error: {problem}\n"));
            continue;
        }
        refused(&output, code);
    }
    assert_eq!(names_in(here.path()), [""; 0]);
}

#[test]
fn a_profile_is_part_of_the_object() {
    let folder = folder();
    let input = folder.path().join("a_T1w.nii.gz");
    tiny(&input, 1);
    let out = folder.path().join("out");
    let value = json(&segment(&input, &out, &["--json", "--profile"]));
    assert_eq!(value["structures"][0]["name"], "whole brain");
    let profile = &value["profile"];
    let kinds = profile["kinds"].as_array().expect("kinds");
    let sum = |field: &str| -> f64 { kinds.iter().filter_map(|kind| kind[field].as_f64()).sum() };
    let seconds = profile["seconds"].as_f64().expect("seconds");
    assert!(seconds > 0.0 && (sum("seconds") - seconds).abs() < 1e-9 * seconds);
    assert_eq!(Some(sum("dispatches")), profile["dispatches"].as_f64());
    assert!(profile["ceilings"]["copy_bytes_per_second"].as_f64() > Some(0.0));
    let linear = kinds.iter().find(|kind| {
        let label = kind["label"].as_str().unwrap_or_default();
        label.starts_with("linear")
    });
    let linear = linear.expect("a linear layer");
    assert!(linear["share"].as_f64() > Some(0.0) && linear["flops"].as_u64() > Some(0));
    assert!(["math", "memory", "launch"].contains(&linear["bound"].as_str().expect("a bound")));
}

#[test]
fn answers_come_as_an_object_a_line() {
    needs_models();
    let output = run!(
        "generate",
        "Say one.",
        "Say two.",
        "--max-tokens",
        "4",
        "--json",
        "-q"
    );
    let lines: Vec<Value> = said(&output)
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["prompt"], "Say one.");
    assert_eq!(lines[1]["prompt"], "Say two.");
    // The profile is one line more.
    let output = run!("embed", "a thalamus", "--json", "--profile");
    let text = said(&output);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object a line"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["text"], "a thalamus");
    assert!(lines[1]["profile"]["seconds"].as_f64() > Some(0.0));
}

#[test]
fn pull_says_where_what_is_there_lies() {
    needs_models();
    let value = json(&run!("pull", "--offline", "--json"));
    let models = value["models"].as_array().expect("models");
    assert_eq!(models.len(), 2, "{value}");
    let known = json(&run!("models", "--json"));
    let known = known["models"].as_array().expect("models");
    let published = known.iter().filter(|model| model["embedded"] == false);
    for (model, known) in models.iter().zip(published) {
        for field in ["name", "role", "licence", "bytes", "path"] {
            assert_eq!(model[field], known[field], "{field}");
        }
        assert_eq!(model["fetched"], false);
        assert!(model["bytes"].as_u64() > Some(90_000_000));
        assert!(Path::new(model["path"].as_str().expect("a path")).exists());
    }
}
