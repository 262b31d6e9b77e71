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
    assert!(!Path::new("out").exists());
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
