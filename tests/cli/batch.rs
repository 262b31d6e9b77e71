//! `segment` of many cases.

use super::*;

fn segment_many(words: &[&str], input: &Path, out: &Path) -> Output {
    let mut command = keraunos();
    command.arg("segment").args(words);
    if !input.as_os_str().is_empty() {
        command.arg(input);
    }
    command.arg("-o").arg(out).args(SHORT);
    command.output().expect("the program starts")
}

fn batch_of(out: &Path) -> Value {
    let text = std::fs::read(out.join("keraunos_batch.json")).expect("a summary");
    serde_json::from_slice(&text).expect("JSON")
}

/// What became of each case, in words.
fn statuses(batch: &Value) -> Vec<(String, String)> {
    let cases = batch["cases"].as_object().expect("cases");
    let status = |case: &Value| case["status"].as_str().expect("a status").to_owned();
    cases
        .iter()
        .map(|(name, case)| (name.clone(), status(case)))
        .collect()
}

#[test]
fn a_folder_of_channels_is_segmented_and_what_is_done_is_passed_over() {
    let folder = folder();
    let (input, out) = (folder.path().join("in"), folder.path().join("out"));
    for case in 0..3 {
        for channel in 0..2 {
            tiny(&input.join(format!("c{case}_000{channel}.nii.gz")), case);
        }
    }
    tiny(&input.join("half_0000.nii.gz"), 9);
    write(&input.join("c1_0001.nii.gz"), b"no volume");
    let words = ["--modality", "t1", "--modality", "flair"];
    let output = segment_many(&words, &input, &out);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let errors: Vec<String> = stderr(&output).lines().map(str::to_owned).collect();
    let failures: Vec<&String> = errors.iter().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(failures.len(), 2, "{errors:?}");
    assert!(failures[0].starts_with("error: c1: `") && failures[0].contains("c1_0001.nii.gz"));
    assert_eq!(failures[1], "error: half: has no channel 0001 (FLAIR)");
    assert!(stdout(&output).contains("2 done, 0 done before, 2 failed"));
    let batch = batch_of(&out);
    let (done, failed) = ("done".to_owned(), "failed".to_owned());
    let want = [
        ("c0", &done),
        ("c1", &failed),
        ("c2", &done),
        ("half", &failed),
    ];
    let want = want.map(|(name, status)| (name.to_owned(), status.clone()));
    assert_eq!(statuses(&batch), want);
    assert!(batch["cases"]["half"]["problem"].is_string());
    let report = std::fs::read(out.join("c2_report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(report["inputs"][1]["modality"], "flair");
    assert_eq!(
        report["asked"]["modalities"],
        serde_json::json!(["t1", "flair"])
    );
    let table = std::fs::read_to_string(out.join("keraunos_volumes.tsv")).expect("a table");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "case\tstatus\twhole brain");
    assert_eq!(lines[2], "c1\tfailed\tn/a");
    assert_eq!(lines.len(), 5);

    // Once more: what is done stays as it is, what was mended is done.
    tiny(&input.join("c1_0001.nii.gz"), 1);
    tiny(&input.join("half_0001.nii.gz"), 9);
    let again = [&words[..], &["--skip-existing", "--json"]].concat();
    let value = json(&segment_many(&again, &input, &out));
    let counts = ["done", "skipped", "failed"].map(|what| value[what].as_u64());
    assert_eq!(counts, [Some(2), Some(2), Some(0)]);
    assert_eq!(value["cases"]["c0"]["status"], "skipped");
    assert_eq!(
        value["cases"]["c0"]["volumes_ml"],
        batch["cases"]["c0"]["volumes_ml"]
    );
    // Another input, another option, a file that went, a report that is none: done again.
    tiny(&input.join("c0_0001.nii.gz"), 7);
    let report = out.join("c1_report.json");
    let text = std::fs::read_to_string(&report).expect("a report");
    write(
        &report,
        text.replace("\"fast\": true", "\"fast\": false").as_bytes(),
    );
    std::fs::remove_file(out.join("c2_preview.png")).expect("a preview");
    write(&out.join("half_report.json"), b"{");
    let value = json(&segment_many(&again, &input, &out));
    assert_eq!(
        (value["done"].as_u64(), value["skipped"].as_u64()),
        (Some(4), Some(0))
    );
    let value = json(&segment_many(
        &[&again[..], &["--find", "cerebellum"]].concat(),
        &input,
        &out,
    ));
    assert_eq!(value["done"], 4);
    assert!(
        !names_in(&out).iter().any(|name| name.starts_with('.')),
        "{:?}",
        names_in(&out)
    );
}

#[test]
fn a_bids_tree_becomes_a_derivative() {
    let folder = folder();
    let root = folder.path().join("bids");
    tiny(&root.join("sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz"), 1);
    tiny(&root.join("sub-01/ses-a/anat/sub-01_ses-a_FLAIR.nii.gz"), 2);
    tiny(
        &root.join("sub-01/ses-b/anat/sub-01_ses-b_run-1_T1w.nii.gz"),
        3,
    );
    tiny(
        &root.join("sub-01/ses-b/anat/sub-01_ses-b_run-2_T1w.nii.gz"),
        4,
    );
    tiny(&root.join("sub-02/anat/sub-02_T1w.nii.gz"), 5);
    tiny(&root.join("sub-02/func/sub-02_bold.nii.gz"), 6);
    write(&root.join("dataset_description.json"), b"{}");
    let out = root.join("derivatives/keraunos");
    let value = json(&segment_many(&["--json"], &root, &out));
    assert_eq!(value["done"], 3);
    assert_eq!(
        value["cases"]["sub-01_ses-a"]["inputs"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
    let warned = value["cases"]["sub-01_ses-b"]["warnings"].to_string();
    assert!(
        warned.contains("run-1_T1w") && warned.contains("1 more of T1"),
        "{warned}"
    );
    let anat = out.join("sub-01/ses-a/anat");
    let map = "sub-01_ses-a_seg-keraunos_dseg.nii.gz";
    assert!(
        names_in(&anat).contains(&map.to_owned()),
        "{:?}",
        names_in(&anat)
    );
    assert!(
        out.join("sub-02/anat/sub-02_seg-keraunos_dseg.tsv")
            .is_file()
    );
    let description = std::fs::read(out.join("dataset_description.json")).expect("it");
    let description: Value = serde_json::from_slice(&description).expect("JSON");
    assert_eq!(description["DatasetType"], "derivative");
    assert_eq!(description["GeneratedBy"][0]["Name"], "keraunos");
    // A modality that a session lacks.
    let output = segment_many(&["--modality", "flair", "--modality", "t1"], &root, &out);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("error: sub-02: has no FLAIR"),
        "{}",
        stderr(&output)
    );
    let report = std::fs::read(anat.join("sub-01_ses-a_report.json")).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    assert_eq!(report["inputs"][0]["modality"], "flair");
}

/// The files of a folder, by their place in it.
fn files_in(root: &Path) -> Vec<String> {
    let (mut found, mut left) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = left.pop() {
        for name in names_in(&folder) {
            let path = folder.join(name);
            match path.is_dir() {
                true => left.push(path),
                false => {
                    let inside = path.strip_prefix(root).expect("inside");
                    found.push(inside.to_string_lossy().replace('\\', "/"));
                }
            }
        }
    }
    found.sort();
    found
}

/// Whether a line of `.bidsignore` means a file: here a name whose beginning or end does not matter.
fn is_ignored(line: &str, file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    match (line.strip_prefix('*'), line.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (_, Some(begin)) => name.starts_with(begin),
        _ => name == line,
    }
}

/// Whether a file of a derivative is called as the BIDS specification has it (1.10.0, "Derivatives", "Imaging data types"):
/// entities in their order, each once, then `dseg` or `probseg`.
fn is_bids(file: &str) -> bool {
    const ENTITIES: [&str; 9] = [
        "sub", "ses", "acq", "ce", "rec", "run", "space", "seg", "label",
    ];
    let Some((folder, name)) = file.rsplit_once('/') else {
        return ["dataset_description.json", "README.md", ".bidsignore"].contains(&file);
    };
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    let mut parts: Vec<&str> = stem.split('_').collect();
    let suffix = parts.pop();
    let extensions: &[&str] = match suffix {
        Some("dseg") => &["nii.gz", "tsv", "json"],
        Some("probseg") => &["nii.gz", "json"],
        _ => &[],
    };
    let pairs: Option<Vec<(&str, &str)>> = parts.iter().map(|part| part.split_once('-')).collect();
    let Some(pairs) = pairs else { return false };
    let places: Option<Vec<usize>> = pairs
        .iter()
        .map(|(entity, _)| ENTITIES.iter().position(|known| known == entity))
        .collect();
    let whole = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric());
    let above: Vec<String> = pairs
        .iter()
        .filter(|(entity, _)| ["sub", "ses"].contains(entity))
        .map(|(entity, label)| format!("{entity}-{label}"))
        .collect();
    extensions.contains(&extension)
        && places.is_some_and(|places| places.is_sorted_by(|a, b| a < b))
        && pairs.iter().all(|(_, label)| whole(label))
        && folder == format!("{}/anat", above.join("/"))
}

#[test]
fn a_derivative_has_bids_names_and_says_what_has_none() {
    let folder = folder();
    let root = folder.path().join("bids");
    tiny(
        &root.join("sub-01/ses-a/anat/sub-01_ses-a_acq-x_run-2_T1w.nii.gz"),
        1,
    );
    tiny(&root.join("sub-01/ses-a/anat/sub-01_ses-a_FLAIR.nii.gz"), 2);
    tiny(&root.join("sub-02/anat/sub-02_T1w.nii.gz"), 5);
    let out = root.join("derivatives/keraunos");
    std::fs::create_dir_all(&out).expect("a folder");
    // What the user has put there stays.
    write(&out.join(".bidsignore"), b"mine*");
    let all = "ctbl,itksnap,freesurfer,fsleyes,niivue";
    let words = ["--json", "--labels", all, "--save-probabilities"];
    let value = json(&segment_many(&words, &root, &out));
    assert_eq!(value["done"], 2);
    let ignored = std::fs::read_to_string(out.join(".bidsignore")).expect("it");
    assert!(ignored.starts_with("mine*\n"), "{ignored}");
    let files = files_in(&out);
    let (named, other): (Vec<&String>, Vec<&String>) = files.iter().partition(|file| is_bids(file));
    for file in &other {
        let line = ignored.lines().find(|line| is_ignored(line, file));
        assert!(line.is_some(), "{file}: {ignored}");
    }
    // Maps, names, probabilities and two sidecars of each case; description, README and what is ignored.
    assert_eq!(named.len(), 2 * 5 + 3, "{named:?}");
    assert_eq!(other.len(), 2 * (3 + 5) + 2, "{other:?}");
    assert!(
        named
            .iter()
            .all(|file| !ignored.lines().any(|line| is_ignored(line, file)))
    );
    let read = |file: &str| -> Value {
        let text = std::fs::read(out.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        serde_json::from_slice(&text).expect("JSON")
    };
    let stem = "sub-01/ses-a/anat/sub-01_ses-a_acq-x_run-2_seg-keraunos";
    for suffix in ["dseg", "probseg"] {
        let sidecar = read(&format!("{stem}_{suffix}.json"));
        let grid = "bids:raw:sub-01/ses-a/anat/sub-01_ses-a_acq-x_run-2_T1w.nii.gz";
        let other = "bids:raw:sub-01/ses-a/anat/sub-01_ses-a_FLAIR.nii.gz";
        assert_eq!(sidecar["SpatialReference"], grid);
        assert_eq!(sidecar["Sources"], serde_json::json!([grid, other]));
    }
    let links = &read("dataset_description.json")["DatasetLinks"];
    let raw = out.join(links["raw"].as_str().expect("a link"));
    assert!(
        raw.join("sub-02/anat/sub-02_T1w.nii.gz").is_file(),
        "{links}"
    );
    let readme = std::fs::read_to_string(out.join("README.md")).expect("it");
    assert!(readme.contains("Not a medical device") && readme.contains("arXiv:2504.07336"));
    // Again: nothing to do, nothing said twice.
    let again = [
        "--json",
        "--labels",
        all,
        "--save-probabilities",
        "--skip-existing",
    ];
    assert_eq!(json(&segment_many(&again, &root, &out))["skipped"], 2);
    let after = std::fs::read_to_string(out.join(".bidsignore")).expect("it");
    assert_eq!(after, ignored);
    std::fs::remove_file(out.join(format!("{stem}_dseg.json"))).expect("a sidecar");
    assert_eq!(json(&segment_many(&again, &root, &out))["done"], 1);
    // Elsewhere the source is named by its address.
    let far = folder.path().join("far off");
    said(&segment_many(&[], &root, &far));
    let text = std::fs::read_to_string(far.join("dataset_description.json")).expect("it");
    assert!(text.contains("\"raw\": \"file:///"), "{text}");
    for derivative in [&out, &far] {
        validate(derivative);
    }
}

/// Asks the BIDS validator, where there is one: no error.
fn validate(derivative: &Path) {
    let validator = "bids-validator-deno";
    if !is_there(validator) {
        return;
    }
    let output = Command::new(validator)
        .arg(derivative)
        .args(["--format", "json"])
        .output()
        .expect("it starts");
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let issues = told["issues"]["issues"].as_array().expect("issues");
    let errors: Vec<&Value> = issues
        .iter()
        .filter(|issue| issue["severity"] == "error")
        .collect();
    assert!(errors.is_empty() && output.status.success(), "{errors:?}");
    let warned = |what: &str| issues.iter().any(|issue| issue["subCode"] == what);
    assert!(
        !warned("SpatialReference") && !warned("Description"),
        "{told}"
    );
}

#[test]
fn lists_and_parts_share_one_summary() {
    let folder = folder();
    for seed in 0..3 {
        tiny(&folder.path().join(format!("scans/x{seed}.nii.gz")), seed);
    }
    let (list, out) = (folder.path().join("list.csv"), folder.path().join("out"));
    let rows = "case, t1, t2\none,scans/x0.nii.gz,\n\"two, b\",scans/x1.nii.gz,scans/x2.nii.gz\n";
    write(&list, rows.as_bytes());
    let name = list.to_str().expect("a path");
    // Two processes on one folder, a part each.
    let start = |part: &str| {
        let mut command = keraunos();
        command.args([
            "segment",
            "--cases",
            name,
            "--num-parts",
            "2",
            "--part",
            part,
            "-o",
        ]);
        command.arg(&out).args(SHORT);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("it starts")
    };
    let both = ["1", "2"].map(start);
    for child in both {
        said(&child.wait_with_output().expect("it ends"));
    }
    let done = |name: &str| (name.to_owned(), "done".to_owned());
    assert_eq!(statuses(&batch_of(&out)), [done("one"), done("two, b")]);
    assert!(out.join("two, b_seg-keraunos_dseg.nii.gz").is_file());
    // The same cases by two processes at once: the same bytes, and nothing else.
    let before = names_in(&out);
    let map = || std::fs::read(out.join("one_seg-keraunos_dseg.nii.gz")).expect("a map");
    let first = map();
    for child in ["1", "1"].map(start) {
        said(&child.wait_with_output().expect("it ends"));
    }
    assert!(map() == first);
    assert_eq!(names_in(&out), before);
    let list = folder.path().join("list.json");
    write(
        &list,
        br#"[{"case": "one", "volume": "scans/x2.nii.gz", "t1": null}]"#,
    );
    let words = ["--json", "--cases", list.to_str().expect("a path")];
    let value = json(&segment_many(&words, Path::new(""), &out));
    assert_eq!(
        value["cases"]["one"]["inputs"].as_array().map(Vec::len),
        Some(1)
    );
    // The other case's row is still there.
    assert_eq!(statuses(&batch_of(&out)).len(), 2);
}

#[test]
fn many_cases_that_make_no_sense_are_refused() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    tiny(&at("flat/a.nii.gz"), 1);
    tiny(&at("mixed/a.nii.gz"), 1);
    tiny(&at("mixed/b_0000.nii.gz"), 1);
    tiny(&at("bids/sub-1/anat/sub-1_T1w.nii.gz"), 1);
    tiny(&at("twice/a.nii.gz"), 1);
    tiny(&at("twice/a.nii"), 1);
    std::fs::create_dir(at("empty")).expect("a folder");
    let out = at("out");
    for (words, input, out, code, part) in [
        (&[][..], "flat", "flat", 2, "the output folder is the input"),
        (
            &[],
            "bids",
            "bids/sub-1/out",
            2,
            "lies in the input's `sub-1`",
        ),
        (&[], "empty", "out", 2, "has no volume (NIfTI, MGH or NRRD)"),
        (&["--layout", "nnunet"], "flat", "out", 2, "case_0000.nii"),
        (&["--layout", "bids"], "flat", "out", 2, "_{T1w,T2w"),
        (
            &[],
            "mixed",
            "out",
            2,
            "1 of 2 volumes are named as nnU-Net's channels",
        ),
        (&[], "twice", "out", 2, "two cases are called `a`"),
        (
            &["--modality", "t1", "--modality", "t2"],
            "flat",
            "out",
            2,
            "2 times --modality",
        ),
        (
            &["--t1", "x.nii"],
            "flat",
            "out",
            2,
            "is a folder; give it alone",
        ),
        (
            &["--num-parts", "2", "--part", "3"],
            "flat",
            "out",
            2,
            "--part 3 of 2",
        ),
        (
            &["--num-parts", "0", "--part", "0"],
            "flat",
            "out",
            2,
            "--part 0 of 0",
        ),
        (
            &["--skip-existing"],
            "flat/a.nii.gz",
            "out",
            2,
            "--skip-existing is for many cases",
        ),
        (
            &["--layout", "flat"],
            "flat/a.nii.gz",
            "out",
            2,
            "--layout is for many cases",
        ),
        (&["--cases", "x.csv"], "flat", "out", 2, "give it alone"),
        (
            &["--cases", "x.csv"],
            "a.nii",
            "out",
            2,
            "leave out the others",
        ),
    ] {
        let line = refused(&segment_many(words, &at(input), &at(out)), code);
        assert!(line.contains(part), "{part}: {line}");
    }
    for (text, part) in [
        ("case,t1\n", "names no case"),
        ("case,t1\na,\n", "case 1: names no volume"),
        ("t1\nx.nii\n", "has no name"),
        (
            "case,t1\n../a,x.nii\n",
            "`../a` cannot be part of a file's name",
        ),
        (
            "case,t3\na,x.nii\n",
            "has a column `t3`; known are case, t1",
        ),
        ("case,t1\na,x.nii,y\n", "is no CSV"),
        ("case,t1\na,x.nii\na,y.nii\n", "two cases are called `a`"),
        ("[1]", "case 1: is no object"),
        ("[{\"case\": 7}]", "`case` is 7, not a text"),
        ("{}", "is no array"),
        ("[{", "is no JSON"),
    ] {
        let list = at("list");
        write(&list, text.as_bytes());
        let words = ["--cases", list.to_str().expect("a path")];
        let code = if part.contains("two cases") { 2 } else { 1 };
        let line = refused(&segment_many(&words, Path::new(""), &out), code);
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!out.exists(), "{:?}", names_in(&out));
}
