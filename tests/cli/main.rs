//! The program itself, as a user or a script meets it: what comes out where, and what bad input gets.

mod assembly;
mod batch;
mod device;
mod evaluate;
mod faults;
mod json;
mod language;
mod limits;
mod manual;
mod meshnet;
mod models;
mod others;
mod phrases;
mod prompts;
mod schema;
mod segment;
mod words;

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

#[path = "../support/nifti.rs"]
mod made;
#[path = "../support/model_files.rs"]
mod model_files;
#[path = "../support/zeus_files.rs"]
mod zeus_files;
use made as nifti;
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

/// The map of `sub-01_T1w`, which lies on its input's grid with all that goes with it, and nothing else, beside it.
#[track_caller]
fn results(out: &Path, input: &Path) -> Labels {
    assert_eq!(
        names_in(out),
        [
            "sub-01_T1w_preview.png",
            "sub-01_T1w_report.json",
            "sub-01_T1w_seg-keraunos_dseg.nii.gz",
            "sub-01_T1w_seg-keraunos_dseg.tsv",
            "sub-01_T1w_stats.json",
        ]
    );
    let map = Labels::read(&out.join("sub-01_T1w_seg-keraunos_dseg.nii.gz")).expect("a map");
    let volume = Volume::read(input).expect("the phantom");
    assert_eq!((map.shape, map.affine), (volume.shape, volume.affine));
    map
}

/// Runs the program with words and paths.
macro_rules! run {
    ($($word:expr),* $(,)?) => {
        keraunos()$(.arg($word))*.output().expect("the program starts")
    };
}
use run;

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

/// Whether a program is there to be asked.
fn is_there(program: &str) -> bool {
    let tried = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let there = tried.is_ok();
    if !there {
        println!("not asked: no `{program}` here");
    }
    there
}
