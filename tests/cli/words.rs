//! Words on the command line, and what reads the output.

use super::*;

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
