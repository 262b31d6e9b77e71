//! `evaluate` of maps and folders.

use super::*;

#[test]
fn evaluate_scores_labels_pairs_and_thresholds() {
    let folder = folder();
    let map = |name: &str, label: &dyn Fn(usize) -> f64| {
        let made = Made::new([4, 4, 4], 2);
        let path = folder.path().join(name);
        write(&path, &made.file(&(0..64).map(label).collect::<Vec<_>>()));
        path
    };
    let ours = map("ours.nii", &|i| if i < 8 { 17.0 } else { 53.0 });
    let truth = map("truth.nii", &|i| if i < 16 { 37.0 } else { 38.0 });
    let tissue = map("tissue.nii", &|i| i as f64 * 4.0);
    let value = json(&run!("evaluate", &ours, &ours, "--json"));
    assert_eq!(
        (
            value["mean_dice"].as_f64(),
            value["labels"][0]["label"].as_u64()
        ),
        (Some(1.0), Some(17))
    );
    let text = said(&run!(
        "evaluate",
        &ours,
        &truth,
        "--pair",
        "17=37",
        "--pair",
        "right hippocampus=38"
    ));
    assert!(
        text.contains("0.6667") && text.contains("right hippocampus"),
        "{text}"
    );
    let union = json(&run!(
        "evaluate",
        &ours,
        &truth,
        "--pair",
        "17+53=37-38",
        "--json"
    ));
    assert_eq!(union["mean_iou"].as_f64(), Some(1.0));
    let half = json(&run!(
        "evaluate",
        &ours,
        &tissue,
        "--pair",
        "53",
        "--threshold",
        "128",
        "--json"
    ));
    assert_eq!(half["labels"][0]["true_voxels"].as_u64(), Some(32));
    // Two tables of numbers: said, and how to go on.
    let apart = run!("evaluate", &ours, &truth, "--json");
    assert_eq!(json(&apart)["mean_dice"].as_f64(), Some(0.0));
    assert!(stderr(&apart).contains("no label is in both maps; --pair says"));
    let neither = json(&run!("evaluate", &ours, &truth, "--pair", "2=3", "--json"));
    assert!(neither["mean_dice"].is_null() && neither["left_out"] == 1);
    let line = refused(
        &run!("evaluate", &ours, phantom(folder.path(), "p.nii.gz")),
        1,
    );
    assert!(
        line.contains("label") || line.contains("not one grid"),
        "{line}"
    );
    let output = run!("evaluate", &ours, &truth, "--pair", "17=kidney");
    assert_eq!(output.status.code(), Some(2));
}

/// Two folders: what is missing or damaged is named, the rest is judged, the exit code is 1.
#[test]
fn evaluate_judges_folders_and_writes_what_is_asked_for() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    for name in ["truth", "ours"] {
        std::fs::create_dir(at(name)).expect("a folder");
    }
    let map = |name: &str, from: usize| {
        let voxels: Vec<f64> = (0..64).map(|i| f64::from(u8::from(i >= from))).collect();
        write(&at(name), &Made::new([4, 4, 4], 2).file(&voxels));
    };
    map("truth/a.nii", 16);
    map("truth/b.nii", 16);
    map("ours/a.nii", 32);
    map("ours/b.nii", 16);
    let (csv, plot) = (at("scores.csv"), at("scores.png"));
    let output = run!(
        "evaluate",
        at("ours"),
        at("truth"),
        "--csv",
        &csv,
        "--plot",
        &plot,
        "--json"
    );
    let value = json(&output);
    assert_eq!(value["labels"][0]["dice"]["count"], 2);
    assert_eq!(value["cases"][1]["labels"][0]["hd_mm"], 0.0);
    assert_eq!(
        names_in(folder.path()),
        [
            "ours",
            "scores.csv",
            "scores.png",
            "scores_summary.csv",
            "truth"
        ]
    );
    map("truth/c.nii", 1);
    write(&at("ours/b.nii"), b"x");
    let output = run!("evaluate", at("ours"), at("truth"));
    assert_eq!(output.status.code(), Some(1));
    let (text, errors) = (stdout(&output), stderr(&output));
    assert!(text.contains("over 1 cases"), "{text}");
    for part in ["no prediction for `", "c.nii", "warning: b: `"] {
        assert!(errors.contains(part), "{part}: {errors}");
    }
    let ours = at("ours/a.nii");
    for (words, code, part) in [
        (vec![&ours, &at("truth")], 2, "give two maps or two folders"),
        (
            vec![&at("ours"), &at("none")],
            2,
            "give two maps or two folders",
        ),
        (
            vec![&ours, &at("truth/a.nii"), &"--csv".into(), &ours],
            2,
            "overwrite the input",
        ),
        (
            vec![&ours, &at("truth/a.nii"), &"--plot".into(), &at("no/x.png")],
            1,
            "cannot write",
        ),
        (vec![&ours, &at("none.nii")], 1, "cannot read"),
    ] {
        let mut command = keraunos();
        let line = refused(
            &command
                .arg("evaluate")
                .args(words)
                .output()
                .expect("it starts"),
            code,
        );
        assert!(line.contains(part), "{line}");
    }
    for tolerance in ["-1", "nan", "far"] {
        let output = run!("evaluate", &ours, &ours, format!("--tolerance={tolerance}"));
        assert_eq!(output.status.code(), Some(2), "{tolerance}");
        assert!(stderr(&output).contains("millimetres"));
    }
}
