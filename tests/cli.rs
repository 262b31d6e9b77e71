//! The program itself, as a user or a script meets it: what comes out where, and what bad input gets.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use keraunos::gpu::GpuOptions;
use keraunos::ops::KERNELS;
use keraunos::ops::choice::Class;
use keraunos::pipeline::adapter;
use keraunos::pipeline::home::{Home, LANGUAGE_MODEL, TEXT_ENCODER};
use keraunos::pipeline::volume::{Labels, Volume};
use serde_json::Value;
use tempfile::TempDir;

#[path = "support/nifti.rs"]
mod made;
use made::{Made, gzip};

const SHAPE: [usize; 3] = [40, 48, 36];

/// A cache that says that the adapter was met before.
static CACHE: LazyLock<PathBuf> = LazyLock::new(|| {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    let met = adapter::open(&GpuOptions::default(), Some(&cache), &mut |_| ());
    met.expect("an adapter that computes right");
    cache
});

/// The program, which has met the adapter before.
fn keraunos() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keraunos"));
    command.env_remove("RUST_LOG");
    command.env("KERAUNOS_CACHE", &*CACHE);
    command
}

/// Runs the program with words and paths.
macro_rules! run {
    ($($word:expr),* $(,)?) => {
        keraunos()$(.arg($word))*.output().expect("the program starts")
    };
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// stdout of a run that ended well and said nothing on stderr but warnings: no bar, no colour.
#[track_caller]
fn said(output: &Output) -> String {
    let errors = stderr(output);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(
        errors.lines().all(|line| line.starts_with("warning: ")),
        "{errors}"
    );
    let text = stdout(output);
    assert!(!text.contains(['\r', '\x1b']), "{text}");
    text
}

#[track_caller]
fn json(output: &Output) -> Value {
    serde_json::from_str(&said(output)).expect("one JSON value")
}

/// The one line of a run that failed.
#[track_caller]
fn refused(output: &Output, code: i32) -> String {
    let errors = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert_eq!(stdout(output), "", "stdout");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    let line = errors.trim_end();
    assert!(
        line.starts_with("error: ") && !line.ends_with('.'),
        "{line}"
    );
    line.to_owned()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a file is written");
}

/// An ellipsoid "head" with a bright core and a dark centre, f32, 1.5 mm voxels.
fn header() -> Made {
    let mut made = Made::new(SHAPE, 16);
    made.pixdim = [1.0, 1.5, 1.5, 1.5, 0.0, 0.0, 0.0, 0.0];
    made.rows.1 = [
        [1.5, 0.0, 0.0, -30.0],
        [0.0, 1.5, 0.0, -36.0],
        [0.0, 0.0, 1.5, -27.0],
    ];
    made
}

fn head() -> Vec<f64> {
    let [nx, ny, nz] = SHAPE;
    let mut values = Vec::new();
    for z in 0..nz {
        for y in 0..ny {
            for x in 0..nx {
                let part = |i: usize, n: usize| (i as f64 + 0.5) / n as f64 * 2.0 - 1.0;
                let radius = [part(x, nx), part(y, ny), part(z, nz)]
                    .iter()
                    .map(|p| p * p)
                    .sum::<f64>()
                    .sqrt();
                values.push(
                    match radius {
                        r if r < 0.2 => 30.0,
                        r if r < 0.55 => 110.0,
                        r if r < 0.75 => 75.0,
                        r if r < 0.8 => 20.0,
                        r if r < 0.9 => 140.0,
                        _ => 0.0,
                    } + (x * 7 + y * 3 + z) as f64 % 5.0,
                );
            }
        }
    }
    values
}

/// A phantom under a name that states its modality.
fn phantom(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    write(&path, &gzip(&header().file(&head())));
    path
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into()
        })
        .collect();
    names.sort();
    names
}

/// The words that make a segmentation short.
const SHORT: [&str; 5] = ["--fast", "--instruct", "stock", "--find", "whole brain"];

fn segment(input: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = keraunos();
    command
        .arg("segment")
        .arg(input)
        .arg("-o")
        .arg(out)
        .args(SHORT)
        .args(more);
    command.output().expect("the program starts")
}

/// Fails, in words that help, where the language models are not: they are looked for as the program does.
#[track_caller]
fn needs_models() {
    let home = Home::new(None).expect("a folder for models");
    for model in [TEXT_ENCODER, LANGUAGE_MODEL] {
        if let Err(error) = home.locate(model) {
            panic!("{error}; `make models` fetches what the tests need");
        }
    }
}

// ------------------------------------------------------------------ words on the command line

#[test]
fn help_and_version_go_to_stdout() {
    let help = said(&run!("--help"));
    let commands = [
        "segment",
        "instruct",
        "generate",
        "embed",
        "inspect",
        "evaluate",
        "doctor",
        "pull",
        "structures",
    ];
    for command in commands {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
        let own = said(&run!(command, "--help"));
        assert!(own.contains(&format!("Usage: keraunos {command}")), "{own}");
    }
    let version = format!("keraunos {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(said(&run!("--version")), version);
}

#[test]
fn a_wrong_command_line_ends_with_two() {
    // Where no earlier run has left an `out`.
    let here = folder();
    let keraunos = || {
        let mut command = keraunos();
        command.current_dir(here.path());
        command
    };
    for words in [
        &["segment", "a.nii", "-o", "out", "--speed"][..],
        &["segment", "a.nii", "-o", "out", "--view", "oblique"],
        &["frobnicate"],
        &["segment", "a.nii", "-q", "-v"],
        &["evaluate", "a.nii", "b.nii", "--threshold", "3"],
    ] {
        let output = keraunos().args(words).output().expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty());
    }
    for (words, part) in [
        (
            &["a.nii", "-o", "out", "--fast", "--view", "all"][..],
            "--fast looks at one view",
        ),
        (&["a.nii"], "give one by --output"),
        (&["-o", "out"], "no volume is given"),
        (
            &["a.nii", "-o", "out", "--instruction", " "],
            "says nothing",
        ),
        (
            &["a.nii", "-o", "out", "--find", "left hipocampus"],
            "nearest names are `left hippocampus`",
        ),
        (
            &["a.nii", "-o", "out", "--find", "left kidney"],
            "unknown structure `left kidney`",
        ),
    ] {
        let output = keraunos().arg("segment").args(words).output();
        let line = refused(&output.expect("it starts"), 2);
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(names_in(here.path()), [""; 0]);
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let mut child = keraunos()
        .arg("structures")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    assert!(child.wait().expect("it ends").success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_stdout_is_an_error() {
    let full = std::fs::File::create("/dev/full").expect("/dev/full");
    let output = keraunos()
        .arg("structures")
        .stdout(full)
        .output()
        .expect("it starts");
    assert!(refused(&output, 1).contains("`standard output`"));
}

// ------------------------------------------------------------------ segment

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
    assert_eq!(
        names_in(&out),
        [
            "sub-01_T1w_preview.png",
            "sub-01_T1w_report.json",
            "sub-01_T1w_seg-keraunos_dseg.nii.gz",
            "sub-01_T1w_seg-keraunos_dseg.tsv",
            "sub-01_T1w_stats.json",
        ]
    );
    let map = Labels::read(&out.join("sub-01_T1w_seg-keraunos_dseg.nii.gz")).expect("a map");
    let volume = Volume::read(&input).expect("the phantom");
    assert_eq!((map.shape, map.affine), (volume.shape, volume.affine));
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

// ------------------------------------------------------------------ many cases

/// A volume of few slices, quickly segmented, of which no two with different seeds are equal.
fn tiny(path: &Path, seed: usize) {
    let shape = [20 + seed % 5, 18, 6];
    let mut made = Made::new(shape, 16);
    made.rows.1[2][3] = seed as f64 / 10.0;
    let voxels = (0..shape.iter().product()).map(|v: usize| {
        let place = [
            v % shape[0],
            v / shape[0] % shape[1],
            v / (shape[0] * shape[1]),
        ];
        let inside = (0..3).all(|axis| place[axis] > 0 && place[axis] + 1 < shape[axis]);
        f64::from(u8::from(inside)) * (60 + (v * 31 + seed * 17) % 50) as f64
    });
    let file = made.file(&voxels.collect::<Vec<_>>());
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    write(path, &gzip(&file));
}

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
    let map = "sub-01_ses-a_T1w_seg-keraunos_dseg.nii.gz";
    assert!(
        names_in(&anat).contains(&map.to_owned()),
        "{:?}",
        names_in(&anat)
    );
    assert!(
        out.join("sub-02/anat/sub-02_T1w_seg-keraunos_dseg.tsv")
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
    assert!(
        anat.join("sub-01_ses-a_FLAIR_seg-keraunos_dseg.nii.gz")
            .is_file()
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
        (&[], "empty", "out", 2, "has no NIfTI volume"),
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

// ------------------------------------------------------------------ bad input

/// The phantom's file with something wrong in it.
fn spoilt(spoil: impl Fn(&mut Made, &mut Vec<f64>)) -> Vec<u8> {
    let (mut made, mut values) = (header(), head());
    spoil(&mut made, &mut values);
    made.file(&values)
}

#[test]
fn bad_volumes_are_named_and_leave_nothing() {
    let folder = folder();
    let whole = gzip(&header().file(&head()));
    let spaced = |spacing: f64| {
        spoilt(move |made, _| {
            made.rows.0 = 0;
            made.quaternion = (1, [0.0; 3], [0.0; 3]);
            made.pixdim[2] = spacing;
        })
    };
    let series = spoilt(|made, values| {
        made.dim = vec![4, 40, 48, 18, 2, 1, 1, 1];
        values.truncate(40 * 48 * 36);
    });
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("cut.nii.gz", whole[..whole.len() / 2].to_vec(), "truncated"),
        ("cut.nii", header().file(&head())[..9000].to_vec(), "9000"),
        ("magic.nii", spoilt(|m, _| m.magic = *b"abc\0"), "magic"),
        ("text.nii", b"not a volume at all".to_vec(), "NIfTI"),
        (
            "slices.dcm",
            [vec![0; 128], b"DICM".to_vec(), vec![0; 999]].concat(),
            "DICOM",
        ),
        ("series.nii", series, "time series"),
        ("zero.nii", spaced(0.0), "pixdim"),
        ("nan.nii", spaced(f64::NAN), "pixdim"),
        ("void.nii", spoilt(|_, v| v.fill(f64::NAN)), "NaN"),
        ("flat.nii", spoilt(|_, v| v.fill(7.0)), "all 7"),
        (
            "singular.nii",
            spoilt(|m, _| m.rows.1[2] = m.rows.1[1]),
            "singular or not finite",
        ),
    ];
    for (name, bytes, part) in cases {
        let (input, out) = (folder.path().join(name), folder.path().join("out"));
        write(&input, &bytes);
        let line = refused(&segment(&input, &out, &[]), 1);
        assert!(line.contains(name) && line.contains(part), "{line}");
        assert!(!out.exists(), "{name}: {:?}", names_in(&out));
    }
    let (missing, out) = (folder.path().join("missing.nii"), folder.path().join("out"));
    let line = refused(&segment(&missing, &out, &[]), 1);
    assert!(
        line.contains("cannot read `") && line.contains("missing.nii"),
        "{line}"
    );
    // A folder that was there stays, and stays empty.
    std::fs::create_dir(&out).expect("a folder");
    refused(&segment(&missing, &out, &[]), 1);
    assert!(out.is_dir() && names_in(&out).is_empty());
}

#[test]
fn modalities_of_two_places_are_refused() {
    let folder = folder();
    let input = phantom(folder.path(), "a.nii.gz");
    let (far, out) = (folder.path().join("far.nii"), folder.path().join("out"));
    write(&far, &spoilt(|m, _| m.rows.1[0][3] = 5000.0));
    let line = refused(&segment(&input, &out, &[far.to_str().expect("a path")]), 1);
    assert!(line.contains("field of view covers 0 %"), "{line}");
}

#[test]
fn results_never_replace_an_input() {
    let folder = folder();
    let input = phantom(folder.path(), "a.nii.gz");
    let before = std::fs::read(&input).expect("bytes");
    let line = refused(&segment(&input, &input, &[]), 2);
    assert!(line.contains("the output folder is the input"), "{line}");
    // A second input that bears the name of the first one's result.
    let name = "a_seg-keraunos_dseg.nii.gz";
    let second = phantom(folder.path(), name);
    let more = [second.to_str().expect("a path")];
    let line = refused(&segment(&input, folder.path(), &more), 2);
    assert!(line.contains("would overwrite the input"), "{line}");
    assert_eq!(names_in(folder.path()), ["a.nii.gz", name]);
    assert!(std::fs::read(&input).expect("bytes") == before);
}

#[test]
fn a_folder_that_cannot_be_written_is_found_before_the_run() {
    let folder = folder();
    // Even root cannot make a folder below a file.
    let input = phantom(folder.path(), "a.nii.gz");
    write(&folder.path().join("file"), b"");
    let out = folder.path().join("file/out");
    // Before the volume is looked at.
    let missing = folder.path().join("missing.nii");
    for volume in [&input, &missing] {
        let line = refused(&segment(volume, &out, &[]), 1);
        assert!(
            line.contains("cannot write `") && line.contains("file/out"),
            "{line}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_no_half_file() {
    let folder = folder();
    let input = phantom(folder.path(), "a.nii.gz");
    let out = folder.path().join("out");
    // No file may grow beyond 512 bytes; writing more is an error instead of a signal.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_keraunos"))
        .arg("segment")
        .arg(&input)
        .arg("-o")
        .arg(&out)
        .args(SHORT)
        .arg("--save-probabilities")
        .env("MESA_SHADER_CACHE_DISABLE", "true")
        .env("KERAUNOS_CACHE", &*CACHE)
        .output()
        .expect("sh starts");
    let line = refused(&output, 1);
    assert!(
        line.contains("cannot write `") && line.contains("probseg"),
        "{line}"
    );
    assert!(!out.exists(), "{:?}", names_in(&out));
}

/// 1000³ voxels in a file without blocks, for a process that may have 8 GB: refused by the header.
#[cfg(target_os = "linux")]
#[test]
fn a_volume_beyond_the_memory_is_refused_before_it_is_read() {
    let folder = folder();
    let (input, out) = (
        folder.path().join("huge_T1w.nii"),
        folder.path().join("out"),
    );
    write(&input, &Made::new([1000, 1000, 1000], 2).file(&[]));
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&input)
        .expect("it");
    file.set_len(352 + 1000_u64.pow(3))
        .expect("a file with a hole");
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 8000000; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_keraunos"))
        .arg("segment")
        .arg(&input)
        .arg("-o")
        .arg(&out)
        .args(SHORT)
        .env("KERAUNOS_CACHE", &*CACHE)
        .output()
        .expect("sh starts");
    let line = refused(&output, 1);
    assert!(
        line.contains("huge_T1w.nii`: needs about") && line.contains("GB left"),
        "{line}"
    );
    assert!(!out.exists());
}

/// Keys and values of 32 texts of 8000 tokens, which are written at once, are 12 GB.
#[cfg(target_os = "linux")]
#[test]
fn texts_that_cannot_be_held_are_refused_before_they_are_begun() {
    needs_models();
    let output = Command::new("sh")
        .args(["-c", "ulimit -v 8000000; exec \"$0\" \"$@\""])
        .arg(env!("CARGO_BIN_EXE_keraunos"))
        .args(["generate", "--max-tokens", "8000"])
        .args([(); 40].map(|()| "Say hello."))
        .env("KERAUNOS_CACHE", &*CACHE)
        .output()
        .expect("sh starts");
    let line = refused(&output, 1);
    assert!(
        line.contains("SmolLM2") && line.contains("needs about") && line.contains("GB left"),
        "{line}"
    );
}

/// However early or late a signal comes: all of a case's files or none, and no other.
#[cfg(unix)]
#[test]
fn a_signal_leaves_nothing_half_written() {
    let folder = folder();
    let input = folder.path().join("a_T1w.nii.gz");
    tiny(&input, 3);
    for (n, (signal, code)) in [
        ("INT", 130),
        ("TERM", 143),
        ("INT", 130),
        ("HUP", 129),
        ("INT", 130),
    ]
    .into_iter()
    .enumerate()
    {
        let out = folder.path().join(format!("deep{n}/out"));
        let mut command = keraunos();
        command.args([
            "-v",
            "segment",
            "--save-probabilities",
            "--instruct",
            "stock",
        ]);
        command.arg(&input).arg("-o").arg(&out);
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        // The first stages, then later and later in the drawing of 69 masks.
        let lines = std::io::BufRead::lines(std::io::BufReader::new(
            child.stderr.take().expect("stderr"),
        ));
        let stage = [
            "read",
            "image encoder",
            "mask decoder",
            "mask decoder",
            "mask decoder",
        ][n];
        let mut lines = lines.map(|line| line.expect("text"));
        assert!(
            lines.by_ref().any(|line| line.contains(stage)),
            "no stage `{stage}`"
        );
        std::thread::sleep(std::time::Duration::from_millis([0, 0, 0, 300, 900][n]));
        let sent = Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status();
        assert!(sent.expect("kill starts").success() || n == 4);
        let rest: Vec<String> = lines.collect();
        let status = child.wait().expect("it ends");
        let names = names_in(&out);
        if status.code() == Some(0) {
            // It was faster than the signal.
            assert_eq!(
                names
                    .iter()
                    .filter(|name| !name.contains("probseg"))
                    .count(),
                5
            );
            continue;
        }
        assert_eq!(status.code(), Some(code), "{rest:?}");
        assert!(
            rest.iter()
                .any(|line| line.contains("interrupted; nothing half written")),
            "{rest:?}"
        );
        assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");
        let others = names
            .iter()
            .filter(|name| !name.contains("probseg"))
            .count();
        assert!(others == 0 || others == 5, "{names:?}");
        // Probabilities come one after the other, each whole.
        for name in names.iter().filter(|name| name.contains("probseg")) {
            Volume::read(&out.join(name)).map(drop).unwrap_or_else(|e| {
                assert!(e.to_string().contains("voxels are all"), "{e}");
            });
        }
        assert!(!names.is_empty() || !folder.path().join(format!("deep{n}")).exists());
    }
}

/// Under `nohup` a closed terminal does not end the program; a request to end still does.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_to_be_ignored_is_ignored() {
    let folder = folder();
    let input = folder.path().join("a_T1w.nii.gz");
    tiny(&input, 3);
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]);
    command.arg(env!("CARGO_BIN_EXE_keraunos"));
    command
        .args(["-v", "segment", "--instruct", "stock"])
        .arg(&input);
    command.arg("-o").arg(folder.path().join("out"));
    command
        .env("KERAUNOS_CACHE", &*CACHE)
        .env_remove("RUST_LOG");
    let piped = command.stderr(Stdio::piped()).stdout(Stdio::null());
    let mut child = piped.spawn().expect("it starts");
    let stderr = std::io::BufReader::new(child.stderr.take().expect("stderr"));
    let mut lines = std::io::BufRead::lines(stderr).map(|line| line.expect("text"));
    let kill = |signal: &str| {
        let sent = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(sent.expect("kill starts").success());
    };
    assert!(lines.by_ref().any(|line| line.contains("read")));
    kill("-HUP");
    // The next stage is reached.
    assert!(lines.by_ref().any(|line| line.contains("image encoder")));
    kill("-TERM");
    lines.for_each(drop);
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let folder = folder();
    let input = phantom(folder.path(), "a.nii.gz");
    let (weights, out) = (
        folder.path().join("w.safetensors"),
        folder.path().join("out"),
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sound = std::fs::read(root.join("weights/zeus-mini.safetensors")).expect("the weights");
    let other = std::fs::read(root.join("tests/goldens/add.safetensors")).expect("a golden");
    for (bytes, part) in [
        (&sound[..sound.len() - 1000], "bytes of data"),
        (&sound[..5], "5 bytes"),
        (&other[..], "config"),
    ] {
        write(&weights, bytes);
        let more = ["--weights", weights.to_str().expect("a path")];
        let line = refused(&segment(&input, &out, &more), 1);
        assert!(
            line.contains("w.safetensors") && line.contains(part),
            "{line}"
        );
        assert!(!out.exists());
    }
}

#[test]
fn without_an_adapter_the_driver_to_install_is_named() {
    let folder = folder();
    let input = phantom(folder.path(), "a.nii.gz");
    let out = folder.path().join("out");
    let blind = || {
        let mut command = keraunos();
        command.env("VK_ICD_FILENAMES", "/nonexistent");
        command.env("VK_DRIVER_FILES", "/nonexistent");
        command
    };
    let output = blind()
        .arg("segment")
        .arg(&input)
        .arg("-o")
        .arg(&out)
        .args(SHORT)
        .output();
    let line = refused(&output.expect("it starts"), 1);
    assert!(
        line.contains("no graphics adapter found") && line.contains("mesa-vulkan-drivers"),
        "{line}"
    );
    assert!(!out.exists());
    let output = blind().args(["doctor"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("No adapter") && stdout(&output).contains(TEXT_ENCODER));
    assert!(
        said(
            &blind()
                .args(["segment", "--device", "list"])
                .output()
                .expect("it starts")
        )
        .contains("No adapter")
    );
}

// ------------------------------------------------------------------ the adapter

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
    let cooperates = text.contains("cooperative matrices");
    for kernel in KERNELS {
        if kernel.name.ends_with("_coop") && !cooperates {
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

// ------------------------------------------------------------------ the other commands

#[test]
fn structures_are_listed() {
    let text = said(&run!("structures"));
    assert!(
        text.lines()
            .any(|line| line.trim_start().starts_with("17  left hippocampus"))
    );
    let value = json(&run!("structures", "--json"));
    let all = value.as_array().expect("an array");
    assert_eq!(all.len(), 69);
    assert!(
        all.iter()
            .any(|one| one["label"] == 209 && one["synonyms"][0] == "globus pallidus")
    );
}

#[test]
fn inspect_lists_tensors() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/zeus-mini.safetensors");
    let text = said(&run!("inspect", &file));
    assert!(
        text.contains("safetensors, ") && text.contains("sha256 ") && text.contains("text_encoder")
    );
    let value = json(&run!("inspect", &file, "--json"));
    let tensors = value["tensors"].as_array().expect("tensors");
    let bytes: u64 = tensors.iter().filter_map(|t| t["bytes"].as_u64()).sum();
    assert!(bytes < value["bytes"].as_u64().expect("a size"));
    assert!(
        tensors
            .iter()
            .all(|t| t["encoding"].is_string() && t["shape"].is_array())
    );
    let folder = folder();
    let wrong = folder.path().join("x.txt");
    write(&wrong, b"<html>");
    let line = refused(&run!("inspect", &wrong), 1);
    assert!(line.contains("HTML page"), "{line}");
}

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

#[test]
fn pull_without_a_connection_says_what_is_missing() {
    let folder = folder();
    let home = folder.path().join("home");
    let line = refused(&run!("pull", "--offline", "--model-dir", &home), 1);
    assert!(
        line.contains(TEXT_ENCODER) && line.contains("--offline"),
        "{line}"
    );
    assert!(!home.exists());
    let line = refused(&run!("pull", "gpt", "--offline"), 2);
    assert!(line.contains("no model is called `gpt`"), "{line}");
}

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

// ------------------------------------------------------------------ with the language models

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
