//! Full disks, little memory and signals: nothing half written.

use super::*;

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
