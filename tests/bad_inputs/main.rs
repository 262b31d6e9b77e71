//! What must not work: a table of bad inputs, each with its command line, exit code and message. A row fails if the program
//! panics, hangs, takes more than 8 GB of addresses, says something else, says more than it should, or changes anything in
//! the row's folder. And what the rows spoil is sound: the same without the fault succeeds.

mod assembly;
mod convert;
mod files;
mod formats;
mod gguf;
mod hub;
mod lists;
mod places;
mod prompts;
mod volumes;
mod weights;
mod words;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keraunos::gpu::GpuOptions;
use keraunos::pipeline::adapter;

#[path = "../support/nifti.rs"]
mod made;
#[path = "../support/model_files.rs"]
mod models;
#[path = "../support/formats.rs"]
mod others;

/// How long a row may take on a busy machine; most take a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// The addresses that a row may use, in KiB, where there is `ulimit`.
const ADDRESSES: u32 = 8_000_000;
/// How `segment` is told to be quick about it.
const QUICK: &str = "--fast --instruct stock --find thalamus";

/// One bad input, or a good one.
struct Row {
    name: String,
    /// The words of the command line; the program runs in the row's folder.
    words: Vec<String>,
    /// The files of the row's folder.
    files: Vec<(String, Vec<u8>)>,
    /// What no bytes can say: links, pipes, permissions.
    more: Option<fn(&Path)>,
    /// The exit code.
    code: i32,
    /// The one line on stderr, after `error: `; `*` stands for anything.
    says: String,
}

/// A bad input that ends with 1.
fn row(name: impl Into<String>, line: &str, says: impl Into<String>) -> Row {
    Row {
        name: name.into(),
        words: line.split(' ').map(str::to_owned).collect(),
        files: Vec::new(),
        more: None,
        code: 1,
        says: says.into(),
    }
}

/// A good input.
fn good(name: &str, line: &str) -> Row {
    Row {
        code: 0,
        ..row(name, line, "")
    }
}

impl Row {
    /// With a file.
    fn file(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), bytes.into()));
        self
    }

    /// Refused as a wrong command line.
    fn usage(self) -> Self {
        Self { code: 2, ..self }
    }

    /// Says something else.
    fn saying(mut self, says: &str) -> Self {
        self.says = says.to_owned();
        self
    }

    /// With what no bytes can say.
    fn with(self, more: fn(&Path)) -> Self {
        Self {
            more: Some(more),
            ..self
        }
    }

    /// Runs the row; what was wrong with it, if anything.
    fn faults(&self, cache: &Path) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let here = folder.path();
        for (name, bytes) in &self.files {
            let path = here.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, bytes).expect("a file is written");
        }
        if let Some(more) = self.more {
            more(here);
        }
        let before = content(here);
        let (code, told, errors) = self.run(here, cache);
        let mut faults = Vec::new();
        if code != Some(self.code) {
            faults.push(format!("ends with {code:?}, not {}", self.code));
        }
        if errors.contains("panicked") {
            faults.push("panics".into());
        }
        if self.code != 0 {
            faults.extend(self.misspoken(&told, &errors));
            if content(here) != before {
                let names =
                    |all: &BTreeMap<PathBuf, Vec<u8>>| all.keys().cloned().collect::<Vec<_>>();
                let (old, new) = (names(&before), names(&content(here)));
                faults.push(format!("changes its folder: {old:?} becomes {new:?}"));
            }
        }
        if !faults.is_empty() {
            faults.push(format!("stdout {told:?}, stderr {errors:?}"));
        }
        faults
    }

    /// What is wrong with the words of a refusal.
    fn misspoken(&self, told: &str, errors: &str) -> Vec<String> {
        let mut faults = Vec::new();
        if !told.is_empty() {
            faults.push("says something on stdout".into());
        }
        // What clap says has a hint and a pointer to --help below.
        let is_usage = self.code == 2 && errors.contains("For more information, try");
        let lines: Vec<&str> = errors
            .lines()
            .filter(|line| !line.starts_with("warning: "))
            .collect();
        if lines.len() != 1 && !is_usage {
            faults.push(format!("says {} lines", lines.len()));
        }
        if lines
            .iter()
            .any(|line| line.chars().count() > 1000 || line.contains('\x1b'))
        {
            faults.push("says more than can be read, or colours it".into());
        }
        let first = lines.first().copied().unwrap_or_default();
        if !matches(first, &format!("error: {}", self.says)) {
            faults.push(format!("does not say `{}`", self.says));
        }
        faults
    }

    /// Exit code, stdout and stderr.
    fn run(&self, here: &Path, cache: &Path) -> (Option<i32>, String, String) {
        let mut streams = [(); 2].map(|()| tempfile::tempfile().expect("a temporary file"));
        let [out, err] = [0, 1].map(|n| streams[n].try_clone().expect("a second handle"));
        let program = env!("CARGO_BIN_EXE_keraunos");
        let mut command = if cfg!(target_os = "linux") {
            let mut shell = Command::new("sh");
            let limited = format!("ulimit -v {ADDRESSES}; exec \"$0\" \"$@\"");
            shell.args(["-c", &limited, program]);
            shell
        } else {
            Command::new(program)
        };
        command
            .args(&self.words)
            .current_dir(here)
            .env("KERAUNOS_CACHE", cache)
            .env("KERAUNOS_HOME", here.join("home"))
            .env("HF_HUB_CACHE", here.join("home"))
            .env_remove("RUST_LOG")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        let mut child = command.spawn().expect("the program starts");
        let began = Instant::now();
        // What is sound is computed, beside whatever else the machine does.
        let patience = PATIENCE * if self.code == 0 { 5 } else { 1 };
        let code = loop {
            match child.try_wait().expect("a status") {
                Some(status) => break status.code(),
                None if began.elapsed() > patience => {
                    child.kill().expect("it is killed");
                    child.wait().expect("it is gone");
                    break None;
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let [told, errors] = streams.each_mut().map(|stream| {
            let mut bytes = Vec::new();
            stream.rewind().expect("the beginning");
            stream.read_to_end(&mut bytes).expect("what it said");
            String::from_utf8_lossy(&bytes).into_owned()
        });
        (code, told, errors)
    }
}

/// Whether `text` is `pattern`, in which `*` stands for anything.
fn matches(text: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// What lies under a folder: nothing for what is no regular file.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_path_buf()];
    while let Some(path) = left.pop() {
        let kind = fs::symlink_metadata(&path).expect("what it is").file_type();
        let bytes = match kind.is_file() {
            true => fs::read(&path).unwrap_or_default(),
            false => Vec::new(),
        };
        if kind.is_dir() {
            // A folder without the right to read it is empty here.
            let entries = fs::read_dir(&path).into_iter().flatten();
            left.extend(entries.map(|entry| entry.expect("an entry").path()));
        }
        found.insert(path, bytes);
    }
    found
}

/// Runs rows side by side, as many as the machine has cores, and fails with all that is wrong.
#[track_caller]
fn all_hold(rows: &[Row]) {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    adapter::open(&GpuOptions::default(), Some(&cache), &mut |_| ())
        .expect("an adapter that computes right");
    // One row alone, while a fault is looked for.
    let wanted = std::env::var("ROW").unwrap_or_default();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut faults = Vec::new();
        while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
            if row.name.contains(&wanted) {
                let found = row.faults(&cache);
                faults.extend(
                    (!found.is_empty()).then(|| format!("{}: {}", row.name, found.join("; "))),
                );
            }
        }
        faults
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let faults: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker"))
            .collect()
    });
    assert!(
        faults.is_empty(),
        "{} of {} rows:\n{}",
        faults.len(),
        rows.len(),
        faults.join("\n")
    );
}

fn every_row() -> Vec<Row> {
    [
        volumes::rows(),
        formats::rows(),
        files::rows(),
        places::rows(),
        prompts::rows(),
        assembly::rows(),
        weights::rows(),
        convert::rows(),
        gguf::rows(),
        words::rows(),
        hub::rows(),
        lists::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn every_bad_input_is_refused_in_a_sentence_and_leaves_nothing() {
    let rows: Vec<Row> = every_row()
        .into_iter()
        .filter(|row| row.code != 0)
        .collect();
    assert!(rows.len() >= 150, "{} rows", rows.len());
    let mut names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    all_hold(&rows);
}

#[test]
fn what_the_rows_spoil_is_sound() {
    let rows: Vec<Row> = every_row()
        .into_iter()
        .filter(|row| row.code == 0)
        .collect();
    assert!(rows.len() >= 6, "{} rows", rows.len());
    all_hold(&rows);
}

#[test]
fn patterns_match_whole_lines() {
    for (text, pattern, want) in [
        ("abc", "abc", true),
        ("abc", "ab", false),
        ("abc", "a*", true),
        ("abc", "*c", true),
        ("abcbc", "a*b*c", true),
        ("abc", "a*x*", false),
        ("abc", "b*", false),
    ] {
        assert_eq!(matches(text, pattern), want, "{text} {pattern}");
    }
}
