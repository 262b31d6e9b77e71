//! `keraunos view`: what it serves and to whom, and the page in a browser.

mod browser;
mod page;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use keraunos::pipeline::files::sha256;
use keraunos::pipeline::volume::{Names, Volume, write_labels, write_names};
use serde_json::json;

#[path = "../support/nifti.rs"]
mod made;
use made::{Made, gzip};

/// A result on disk: a left-handed scan, and a map with three structures.
struct Result {
    folder: tempfile::TempDir,
    scan: PathBuf,
    report: PathBuf,
}

const SHAPE: [usize; 3] = [48, 56, 44];
/// Label, name, middle in voxels, radius in voxels.
const BALLS: [(u16, &str, [f64; 3], f64); 3] = [
    (17, "left ball", [33.0, 30.0, 24.0], 7.0),
    (53, "right ball", [15.0, 30.0, 24.0], 7.0),
    (300, "low ball", [24.0, 20.0, 10.0], 5.0),
];

fn distance(at: [usize; 3], middle: [f64; 3]) -> f64 {
    let square = |axis: usize| (at[axis] as f64 - middle[axis]).powi(2);
    (square(0) + square(1) + square(2)).sqrt()
}

fn places() -> impl Iterator<Item = [usize; 3]> {
    let [nx, ny, nz] = SHAPE;
    (0..nx * ny * nz).map(move |v| [v % nx, v / nx % ny, v / (nx * ny)])
}

/// An egg with a rim, and balls in it.
fn intensity(at: [usize; 3]) -> f64 {
    let part = |axis: usize| at[axis] as f64 / (SHAPE[axis] - 1) as f64 * 2.0 - 1.0;
    let radius = (part(0).powi(2) + part(1).powi(2) + part(2).powi(2)).sqrt();
    let ball = BALLS.iter().find(|ball| distance(at, ball.2) <= ball.3);
    match (ball, radius) {
        (Some(_), _) => 150.0,
        (None, r) if r < 0.78 => 90.0 + (at[0] * 5 + at[1] * 3 + at[2]) as f64 % 9.0,
        (None, r) if r < 0.84 => 30.0,
        (None, r) if r < 0.94 => 200.0,
        _ => 0.0,
    }
}

impl Result {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let scan = folder.path().join("egg_T1w.nii.gz");
        let mut header = Made::new(SHAPE, 4);
        header.pixdim = [-1.0, 1.5, 1.5, 2.0, 0.0, 0.0, 0.0, 0.0];
        header.rows.1 = [
            [-1.5, 0.0, 0.0, 36.0],
            [0.0, 1.5, 0.0, -42.0],
            [0.0, 0.0, 2.0, -44.0],
        ];
        let values: Vec<f64> = places().map(intensity).collect();
        std::fs::write(&scan, gzip(&header.file(&values))).expect("the scan");
        let report = folder.path().join("out/egg_T1w_report.json");
        let result = Self {
            folder,
            scan,
            report,
        };
        result.write();
        result
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn map(&self) -> PathBuf {
        self.out().join("egg_T1w_seg-keraunos_dseg.nii.gz")
    }

    fn write(&self) {
        std::fs::create_dir_all(self.out()).expect("a folder");
        let volume = Volume::read(&self.scan).expect("the scan is sound");
        let label = |at| {
            let ball = BALLS.iter().find(|ball| distance(at, ball.2) <= ball.3);
            ball.map_or(0, |ball| ball.0)
        };
        let labels: Vec<u16> = places().map(label).collect();
        let names: Names = BALLS
            .iter()
            .map(|ball| (u32::from(ball.0), ball.1.to_owned()))
            .collect();
        write_labels(&self.map(), &volume, &labels, &names).expect("the map");
        write_names(&self.map(), &names).expect("the table");
        let count = |wanted: u16| labels.iter().filter(|label| **label == wanted).count();
        let row = |label: u16, name: &str, voxels: usize, labelled: usize| {
            json!({
                "label": label,
                "name": name,
                "present": voxels > 0,
                "volume_ml": (voxels > 0).then_some(voxels as f64 * 4.5e-3),
                "mean_intensity": (voxels > 0).then_some(150.25),
                "median_intensity": (voxels > 0).then_some(150.0),
                "touches_border": (voxels > 0).then_some(false),
                "predicted_dice": (voxels > 0).then_some(0.875),
                "labelled_voxels": labelled,
            })
        };
        let mut rows: Vec<_> = BALLS
            .iter()
            .map(|ball| row(ball.0, ball.1, count(ball.0), count(ball.0)))
            .collect();
        // One that is in the map by its parts, and one that was not found.
        rows.push(row(210, "both balls", count(17) + count(53), 0));
        rows.push(row(14, "lost ball", 0, 0));
        let said = |name: &str, text: &str, author: &str| json!({ "structure": name, "modality": "t1", "text": text, "author": author });
        let report = json!({
            "version": "keraunos 0.1.0",
            "disclaimer": "Not a medical device; not for clinical use.",
            "adapter": { "name": "no adapter" },
            "inputs": [{ "path": self.scan, "sha256": sha256(&self.scan).expect("a hash"), "modality": "t1" }],
            "instructions": [
                said("left ball", "Outline the left ball in this T1-weighted <view> MRI.", "llm"),
                said("low ball", "<b>The ball</b> & its \"rim\"", "user"),
            ],
            "warnings": ["this is a picture & no head"],
        });
        let write = |path: &Path, value: &serde_json::Value| {
            std::fs::write(path, value.to_string()).expect("a file");
        };
        write(&self.out().join("egg_T1w_stats.json"), &json!(rows));
        write(&self.report, &report);
    }
}

fn keraunos(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keraunos"));
    command.env_remove("RUST_LOG").arg("view").args(words);
    command
}

/// The program at work; it ends with the value.
struct Viewing {
    child: Child,
    url: String,
    port: u16,
    token: String,
}

impl Viewing {
    fn start(words: &[&str]) -> Self {
        let mut child = keraunos(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let url = line.trim_end().to_owned();
        let rest = url.strip_prefix("http://127.0.0.1:");
        let (port, token) = rest
            .and_then(|rest| rest.trim_end_matches('/').split_once('/'))
            .unwrap_or_else(|| panic!("no address: {line:?}"));
        Self {
            port: port.parse().expect("a port"),
            token: token.to_owned(),
            child,
            url,
        }
    }

    /// The answer to some bytes: status, headers, body.
    fn ask(&self, request: &str) -> (u16, BTreeMap<String, String>, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("a head");
        let head = String::from_utf8(answer[..end].to_vec()).expect("text");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        (
            status.expect("a status").parse().expect("a number"),
            headers.collect(),
            answer[end + 4..].to_vec(),
        )
    }

    fn request(&self, method: &str, target: &str) -> (u16, BTreeMap<String, String>, Vec<u8>) {
        let port = self.port;
        self.ask(&format!(
            "{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
        ))
    }

    fn get(&self, name: &str) -> (u16, BTreeMap<String, String>, Vec<u8>) {
        self.request("GET", &format!("/{}/{name}", self.token))
    }
}

impl Drop for Viewing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name of letters")
}

/// What it says when it refuses.
#[track_caller]
fn refused(words: &[&str], code: i32) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = keraunos(words).output().expect("it starts");
    let said = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(stdout.is_empty() && !said.contains("panicked"), "{said}");
    assert_eq!(
        said.lines()
            .filter(|line| line.starts_with("error: "))
            .count(),
        1,
        "{said}"
    );
    said
}

#[test]
fn what_is_served_is_the_page_the_scan_the_map_and_the_report() {
    let result = Result::new();
    let viewing = Viewing::start(&[text(&result.out())]);
    assert_eq!(viewing.token.len(), 32);
    let (status, headers, page) = viewing.get("");
    assert_eq!(
        (status, &*headers["content-type"]),
        (200, "text/html; charset=utf-8")
    );
    assert!(String::from_utf8_lossy(&page).starts_with("<!doctype html>"));
    let policy = &headers["content-security-policy"];
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; "),
        "{policy}"
    );
    assert!(
        !policy.contains("http") && !policy.contains("unsafe") && !policy.contains('*'),
        "{policy}"
    );
    for (name, path) in [
        ("scan-1.nii.gz", &result.scan),
        ("labels.nii.gz", &result.map()),
        ("report.json", &result.report),
        ("stats.json", &result.out().join("egg_T1w_stats.json")),
    ] {
        let (status, headers, body) = viewing.get(name);
        assert_eq!(
            (status, body),
            (200, std::fs::read(path).expect("a file")),
            "{name}"
        );
        assert_eq!(headers["cache-control"], "no-store");
        let (status, head, body) = viewing.request("HEAD", &format!("/{}/{name}", viewing.token));
        assert_eq!(
            (status, head["content-length"].clone(), body),
            (200, headers["content-length"].clone(), vec![])
        );
    }
    // niivue as it is published; scripts/niivue compares the same number.
    let (_, headers, packed) = viewing.get("niivue.js");
    assert_eq!(headers["content-encoding"], "gzip");
    let mut script = Vec::new();
    flate2::read::GzDecoder::new(&*packed)
        .read_to_end(&mut script)
        .expect("gzip");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("niivue"), script).expect("a file");
    let fetch = include_str!("../../scripts/niivue");
    assert!(fetch.contains(&sha256(&folder.path().join("niivue")).expect("a hash")));
}

#[test]
fn what_is_said_of_each_structure_is_what_was_measured() {
    let result = Result::new();
    let viewing = Viewing::start(&[text(&result.report)]);
    let (_, _, body) = viewing.get("result.json");
    let page: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let names: Vec<&str> = page["structures"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|structure| structure["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        names,
        [
            "left ball",
            "right ball",
            "low ball",
            "both balls",
            "lost ball"
        ]
    );
    let low = &page["structures"][2];
    // The middle voxel through the header's affine.
    assert_eq!(low["centre"], json!([0.0, -12.0, -24.0]));
    assert_eq!(
        (&low["label"], &low["predicted_dice"]),
        (&json!(300), &json!(0.875))
    );
    assert_eq!(
        low["instructions"][0]["text"],
        "<b>The ball</b> & its \"rim\""
    );
    assert!(page["structures"][3]["centre"].is_null() && page["structures"][4]["centre"].is_null());
    let colours = &page["files"]["colours"];
    assert_eq!(
        (&colours["I"], &colours["A"]),
        (
            &json!([0, 14, 17, 53, 210, 300]),
            &json!([0, 255, 255, 255, 255, 255])
        )
    );
    assert_eq!(page["warnings"], json!(["this is a picture & no head"]));
}

#[test]
fn nothing_else_is_served_and_to_nobody_else() {
    let result = Result::new();
    std::fs::write(result.folder.path().join("secret"), "not to be seen").expect("a file");
    let viewing = Viewing::start(&[text(&result.out())]);
    let Viewing { port, token, .. } = &viewing;
    for target in [
        "/".to_owned(),
        "/page.js".into(),
        format!("/{}/", "0".repeat(32)),
        format!("/{}/", &token[..31]),
        format!("/{token}"),
        format!("/{token}/nothing"),
        format!("/{token}/../secret"),
        format!("/{token}/../../../../../../etc/passwd"),
        format!("/{token}/%2e%2e/secret"),
        format!("/{token}/..%2fsecret"),
        format!("/{token}//etc/passwd"),
        format!("/{token}/{}", text(&result.scan)),
        format!("/{token}/labels.nii.gz?x=1"),
        format!("http://127.0.0.1:{port}/{token}/"),
    ] {
        let (status, _, body) = viewing.request("GET", &target);
        assert_eq!((status, &*body), (404, &b"404 Not Found\n"[..]), "{target}");
    }
    let page = format!("/{token}/");
    for method in [
        "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get",
    ] {
        let (status, headers, _) = viewing.request(method, &page);
        assert_eq!((status, &*headers["allow"]), (405, "GET, HEAD"), "{method}");
    }
    // A name that somebody else's server gives to this machine is not the page's.
    for host in [
        "Host: example.org\r\n".to_owned(),
        format!("Host: example.org:{port}\r\n"),
        "Host: 127.0.0.1\r\n".into(),
        format!("Host: 127.0.0.1:{}\r\n", port ^ 1),
        format!("Host: 127.0.0.1:{port}\r\nHost: example.org\r\n"),
        String::new(),
    ] {
        let (status, ..) = viewing.ask(&format!("GET {page} HTTP/1.1\r\n{host}\r\n"));
        assert_eq!(status, 403, "{host:?}");
    }
    let (status, ..) = viewing.ask(&format!(
        "GET {page} HTTP/1.1\r\nhost: LOCALHOST:{port}\r\n\r\n"
    ));
    assert_eq!(status, 200);
    for (request, want) in [
        ("GET\r\n\r\n".to_owned(), 400),
        ("\u{0}\u{1}\r\n\r\n".into(), 400),
        (format!("GET {page} HTTP/9.9\r\n\r\n"), 400),
        (
            format!("GET {page} HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65)),
            431,
        ),
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(20_000)), 431),
    ] {
        assert_eq!(viewing.ask(&request).0, want, "{:.60}", request);
    }
    // It is still there.
    assert_eq!(viewing.get("").0, 200);
    only_here(*port);
}

/// Linux says where a port is listened on.
fn only_here(port: u16) {
    if cfg!(target_os = "linux") {
        let sockets = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let all = sockets("/proc/net/tcp") + &sockets("/proc/net/tcp6");
        let wanted = format!(":{port:04X}");
        let listening: Vec<&str> = all
            .lines()
            .filter_map(|line| {
                let mut columns = line.split_whitespace().skip(1);
                let (local, _, state) = (columns.next()?, columns.next()?, columns.next()?);
                (state == "0A" && local.ends_with(&wanted)).then_some(local)
            })
            .collect();
        assert_eq!(listening, [format!("0100007F{wanted}")]);
    }
}

#[test]
fn results_that_cannot_be_shown_are_named() {
    let result = Result::new();
    let out = result.out();
    let out = text(&out);
    let nowhere = refused(&["/nowhere/x_report.json"], 1);
    assert!(nowhere.contains("`/nowhere/x_report.json`"), "{nowhere}");
    let empty = tempfile::tempdir().expect("a folder");
    let none = refused(&[text(empty.path())], 2);
    assert!(
        none.contains("no result of `keraunos segment` is in"),
        "{none}"
    );
    let no_report = refused(&[text(&result.scan)], 2);
    assert!(no_report.contains("`_report.json`"), "{no_report}");
    // What is no file is not waited for.
    let report = empty.path().join("x_report.json");
    let piped = Command::new("mkfifo").arg(&report).status();
    assert!(piped.expect("mkfifo starts").success());
    let pipe = refused(&[text(&report)], 1);
    assert!(pipe.contains("is not a regular file"), "{pipe}");
    let device = refused(&[out, "--scan", "/dev/zero"], 1);
    assert!(
        device.contains("`/dev/zero`: file is not a regular file"),
        "{device}"
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let said = refused(&[out, "--port", &port], 2);
    assert!(
        said.contains(&format!("port {port} of 127.0.0.1")),
        "{said}"
    );
    let many = refused(
        &[
            out,
            "--scan",
            text(&result.scan),
            "--scan",
            text(&result.scan),
        ],
        2,
    );
    assert!(many.contains("2 scans for a result of 1"), "{many}");

    // Another scan, by name, by content and by grid.
    let moved = result.folder.path().join("moved.nii.gz");
    std::fs::rename(&result.scan, &moved).expect("it moves");
    let said = refused(&[out], 2);
    assert!(
        said.contains("is not where the report says; give it by --scan"),
        "{said}"
    );
    drop(Viewing::start(&[out, "--scan", text(&moved)]));
    let flat = Made::new([48, 56, 43], 4);
    std::fs::write(&result.scan, gzip(&flat.counting())).expect("a file");
    let said = refused(&[out], 1);
    assert!(
        said.contains("egg_T1w.nii.gz`: grid [48, 56, 43] is not that of the map"),
        "{said}"
    );
    std::fs::copy(&moved, &result.scan).expect("a copy");
    let mut bytes = std::fs::read(&result.scan).expect("a file");
    bytes.extend(gzip(b""));
    std::fs::write(&result.scan, bytes).expect("a file");
    let mut viewing = Viewing::start(&[out, "-q"]);
    let (_, _, page) = viewing.get("result.json");
    assert!(String::from_utf8_lossy(&page).contains("is not the file that was segmented"));
    viewing.child.kill().expect("it ends");

    std::fs::copy(&result.report, result.out().join("z_report.json")).expect("a copy");
    let two = refused(&[out], 2);
    assert!(
        two.contains("has 2 results; give the report of one") && two.contains("z_report.json"),
        "{two}"
    );
    for (damaged, want) in [
        ("{", "EOF"),
        ("{\"version\": 3}", "expected a string"),
        ("[]", "invalid"),
    ] {
        std::fs::write(&result.report, damaged).expect("a file");
        let said = refused(&[text(&result.report)], 1);
        assert!(
            said.contains("egg_T1w_report.json`: is not what `keraunos segment` writes")
                && said.contains(want),
            "{said}"
        );
    }
    std::fs::remove_file(result.map()).expect("it goes");
    result.write();
    std::fs::write(result.map(), b"no volume").expect("a file");
    assert!(refused(&[text(&result.report)], 1).contains("egg_T1w_seg-keraunos_dseg.nii.gz`"));
}

#[cfg(unix)]
/// Whether this process was started with SIGINT ignored, where the system tells.
fn interrupts_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> 1 & 1 == 1)
}

#[test]
fn an_interrupt_ends_it_well() {
    let result = Result::new();
    for (signal, code) in [("INT", 0), ("TERM", 143)] {
        let mut viewing = Viewing::start(&[text(&result.out()), "--port", "0"]);
        // It expects the signal a moment after the address is printed; an answer comes after that.
        assert_eq!(viewing.get("").0, 200);
        let pid = viewing.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status();
        assert!(sent.expect("kill starts").success());
        // Whoever started these tests in the background, or by nohup, has the signal ignored, and so has the program.
        if signal == "INT" && interrupts_are_ignored() {
            assert_eq!(viewing.get("").0, 200);
            continue;
        }
        let mut said = String::new();
        let stderr = viewing.child.stderr.take().expect("stderr");
        BufReader::new(stderr)
            .read_to_string(&mut said)
            .expect("text");
        assert_eq!(
            viewing.child.wait().expect("it ends").code(),
            Some(code),
            "{said}"
        );
        assert_eq!(said.contains("error:"), code != 0, "{said}");
    }
}
