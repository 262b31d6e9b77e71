//! What the fuzzers begin with and what they have found, without a fuzzer: every input in `fuzz/corpus` and
//! `fuzz/regressions` goes through the function that its target calls. A panic, a hang or a refusal of what is sound fails.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use fuzz::{READERS, Reader};

/// How long one input may take on a busy machine; most take a millisecond, a template may take ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The files of a folder by name; none if it is not there.
fn inputs(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.sort();
    found
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// What is wrong with what a reader makes of an input, if anything.
fn fault(read: Reader, path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).expect("an input");
    let (sender, receiver) = mpsc::channel();
    // A thread that hangs cannot be ended, but the test can.
    std::thread::spawn(move || {
        let _ = sender.send(read(&bytes).map_err(|error| error.to_string()));
    });
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let wrong = match receiver.recv_timeout(PATIENCE) {
        Ok(Err(problem)) if name.starts_with("sound") => format!("is refused: {problem}"),
        Ok(_) => return None,
        Err(mpsc::RecvTimeoutError::Timeout) => "hangs".to_owned(),
        Err(mpsc::RecvTimeoutError::Disconnected) => "panics".to_owned(),
    };
    Some(format!("{}: {wrong}", path.display()))
}

fn replay(what: &str) -> usize {
    fuzz::leave_guarded_panics();
    let (mut count, mut faults) = (0, Vec::new());
    for (name, read) in READERS {
        for path in inputs(&home().join(what).join(name)) {
            count += 1;
            faults.extend(fault(read, &path));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    count
}

#[test]
fn what_the_fuzzers_begin_with_is_read() {
    let count = replay("corpus");
    assert!(count >= 50, "{count} inputs");
}

#[test]
fn what_the_fuzzers_found_stays_mended() {
    replay("regressions");
}

#[test]
fn every_reader_has_a_target_and_sound_inputs() {
    let names: BTreeSet<String> = READERS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |folder: &str| -> BTreeSet<String> {
        let files = inputs(&home().join(folder)).into_iter();
        let stem = |path: PathBuf| {
            path.file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        files.map(stem).collect()
    };
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("corpus"), names);
    assert!(
        stems("regressions").is_subset(&names),
        "regressions of no reader"
    );
    assert!(
        stems("dictionaries").is_subset(&names),
        "dictionaries of no reader"
    );
    let manifest = std::fs::read_to_string(home().join("Cargo.toml")).expect("Cargo.toml");
    for name in &names {
        let target = std::fs::read_to_string(home().join(format!("fuzz_targets/{name}.rs")))
            .expect("a target");
        assert!(
            target.contains(&format!("keraunos_fuzz::{name}::read(bytes)")),
            "{name}"
        );
        assert!(
            manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")),
            "{name}"
        );
        let sound = inputs(&home().join("corpus").join(name)).into_iter();
        let sound = sound.filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("sound"))
        });
        assert!(sound.count() >= 3, "{name}");
    }
}
