//! The adapter: chosen, checked, measured.

use super::*;

#[test]
fn an_unknown_device_lists_those_there_are() {
    let line = refused(&run!("embed", "--device", "Voodoo 2", "x"), 2);
    assert!(
        line.contains("no adapter matches `Voodoo 2`; found: 0 "),
        "{line}"
    );
    assert_eq!(
        run!("doctor", "--device", "99").status.code(),
        Some(2),
        "there are not a hundred adapters"
    );
}

#[test]
fn device_list_is_all_that_happens() {
    for command in ["segment", "instruct", "generate", "embed", "doctor"] {
        let text = said(&run!(command, "--device", "list"));
        let mut lines = text.lines();
        assert!(
            lines
                .next()
                .is_some_and(|head| head.contains("adapter") && head.contains("driver"))
        );
        assert!(
            lines.next().is_some_and(|row| row.starts_with('0')),
            "{text}"
        );
    }
}

#[test]
fn doctor_checks_every_kernel() {
    let text = said(&run!("doctor"));
    // Norms that add up by subgroups are for GPUs; `tests/ops/norms.rs` runs them on any adapter.
    let on_processor = text
        .lines()
        .any(|l| l.starts_with("0 ") && l.contains("  cpu  "));
    let cooperates = text.contains("cooperative matrices");
    for kernel in KERNELS {
        if kernel.name.ends_with("_coop") && !cooperates
            || kernel.name.ends_with("_subgroup") && on_processor
        {
            continue;
        }
        let right = text
            .lines()
            .any(|line| line.starts_with(&format!("{} ", kernel.name)) && line.ends_with("right"));
        assert!(right, "{}: {text}", kernel.name);
    }
    assert!(text.contains("zeus-mini") && text.contains(LANGUAGE_MODEL) && text.contains("Used: "));
    // One candidate of each class is taken.
    let taken = text.lines().filter(|line| line.ends_with("taken")).count();
    assert_eq!(taken, Class::ALL.len(), "{text}");
    let value = json(&run!("doctor", "--json", "--untuned"));
    assert_eq!(value["choices"], Value::Array(Vec::new()));
    assert!(
        value["kernels"]
            .as_array()
            .is_some_and(|all| all.len() >= KERNELS.len())
    );
    // From the file to the masks as PyTorch, in each precision.
    let trials = value["trials"].as_array().expect("trials");
    assert!(trials.len() >= 2, "{trials:?}");
    for trial in trials {
        let differing = trial["differing"].as_u64().expect("a count");
        let dice = trial["lowest"][0].as_f64().expect("a Dice");
        assert!(
            differing <= 48 && dice >= 0.999 && trial["voxels"] == 48_732,
            "{trial}"
        );
    }
    assert!(value["used"]["max_binding_bytes"].as_u64() >= Some(128 << 20));
}

#[test]
fn bench_measures_beside_ceilings_and_beside_an_earlier_run() {
    let folder = tempfile::tempdir().unwrap();
    let earlier = folder.path().join("earlier.json");
    let text = said(&run!("bench", "--filter", "_rows", "--json"));
    std::fs::write(&earlier, &text).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{text}");
    for row in rows {
        let (seconds, share) = (row["seconds"].as_f64(), row["share"].as_f64());
        assert!(seconds > Some(0.0) && share > Some(0.0), "{row}");
    }
    for ceiling in [
        "copy_bytes_per_second",
        "f32_flops_per_second",
        "dispatch_seconds",
    ] {
        assert!(
            report["ceilings"][ceiling].as_f64() > Some(0.0),
            "{ceiling}"
        );
    }
    let beside = said(&run!(
        "bench",
        "--filter",
        "copy_rows",
        "--compare",
        &earlier
    ));
    let line = beside.lines().find(|line| line.starts_with("copy_rows "));
    let was = rows[0]["seconds"].as_f64().unwrap() * 1e3;
    assert!(
        line.is_some_and(|line| line.contains(&format!("{was:.4}"))),
        "{beside}"
    );

    let line = refused(&run!("bench", "--filter", "no such kernel"), 2);
    assert!(
        line.contains("no kernel or case contains `no such kernel`"),
        "{line}"
    );
    std::fs::write(&earlier, "{}").unwrap();
    let line = refused(&run!("bench", "--compare", &earlier), 1);
    assert!(
        line.contains("earlier.json`: is no `keraunos bench --json`"),
        "{line}"
    );
}

#[test]
fn a_new_adapter_is_checked_once() {
    let folder = folder();
    let embed = || {
        let mut command = keraunos();
        command.args(["embed", "a thalamus"]);
        command.env("KERAUNOS_CACHE", folder.path().join("cache"));
        command.output().expect("it starts")
    };
    let (first, second) = (embed(), embed());
    assert_eq!(
        stderr(&first),
        "checking this adapter's kernels; this is done once\n"
    );
    assert_eq!(said(&second), stdout(&first));
    // A cache that cannot be kept costs time, not the result.
    std::fs::write(folder.path().join("file"), "").expect("written");
    let mut command = keraunos();
    command.args(["embed", "a thalamus"]);
    command.env("KERAUNOS_CACHE", folder.path().join("file/cache"));
    let output = command.output().expect("it starts");
    assert_eq!(stdout(&output), stdout(&first));
    let lines = stderr(&output);
    assert!(
        lines.contains("warning: cannot write `") && lines.contains("again"),
        "{lines}"
    );
}
