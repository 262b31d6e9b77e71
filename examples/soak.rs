//! Many cases in one run: memory stays flat, and a run that is killed goes on where it was.
//!
//! `cargo run --release --locked --example soak -- PROGRAM [CASES]` makes CASES (200) small volumes, lets PROGRAM segment
//! them as one folder, kills it by SIGKILL after three in five, and lets it go on with `--skip-existing`. It ends with 1 if
//!
//! * a case that was reported lacks a file, or a file is there without its report;
//! * the second run did a case again, or left one out;
//! * the most memory held in any quarter of a run, but its first, differs by more than 5 % from the second quarter's.
//!
//! Linux only: memory is read from `/proc`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

#[path = "../tests/support/nifti.rs"]
mod made;

/// What a case leaves behind, after its name.
const FILES: [&str; 5] = [
    "seg-keraunos_dseg.nii.gz",
    "seg-keraunos_dseg.tsv",
    "stats.json",
    "preview.png",
    "report.json",
];
/// How far memory may part from what it was.
const FLAT: f64 = 0.05;

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let program = words.next().ok_or("which program?")?;
    let count: usize = words.next().map_or(Ok(200), |word| word.parse())?;
    let folder = tempfile::tempdir()?;
    let [scans, out] = ["in", "out"].map(|name| folder.path().join(name));
    fs::create_dir(&scans)?;
    for n in 0..count {
        fs::write(scans.join(format!("case{n:04}_T1w.nii")), scan(n))?;
    }

    let mut first = start(&program, &scans, &out)?;
    let (held, began) = (watch(&mut first, &out, count * 3 / 5)?, Instant::now());
    first.kill()?;
    first.wait()?;
    let done = finished(&out)?;
    println!("killed after {} of {count} cases", done.len());
    flat("before it was killed", &held)?;
    check_whole(&out, &done)?;

    let mut second = start(&program, &scans, &out)?;
    let held = watch(&mut second, &out, count)?;
    let status = second.wait()?;
    println!("the rest took {:.0} s", began.elapsed().as_secs_f64());
    flat("after it went on", &held)?;
    let all = finished(&out)?;
    check_whole(&out, &all)?;
    if !status.success() || all.len() != count {
        return Err(format!("{status}, {} of {count} cases", all.len()).into());
    }
    let again = done
        .iter()
        .filter(|(name, time)| all[*name] != **time)
        .count();
    println!(
        "{count} cases, {} of them passed over by the second run, {again} done again",
        done.len()
    );
    if again > 0 {
        return Err("cases were done again".into());
    }
    Ok(())
}

/// A head of its own size: an egg with a rim.
fn scan(n: usize) -> Vec<u8> {
    let shape = [40 + n % 5, 44 + n % 7, 4 + n % 3];
    let mut made = made::Made::new(shape, 2);
    made.pixdim[1..3].fill(4.0);
    (0..2).for_each(|axis| made.rows.1[axis][axis] = 4.0);
    let [nx, ny, _] = shape;
    let values = (0..made.voxels()).map(|v| {
        let at = [v % nx, v / nx % ny, v / (nx * ny)];
        let part = |axis: usize| (2.0 * at[axis] as f64 / (shape[axis] - 1) as f64 - 1.0).powi(2);
        match part(0) + part(1) + part(2) {
            r if r < 0.1 => 30.0,
            r if r < 0.7 => 110.0 + (v % 13) as f64,
            r if r < 0.85 => 40.0,
            r if r < 0.95 => 220.0,
            _ => 0.0,
        }
    });
    made.file(&values.collect::<Vec<_>>())
}

fn start(program: &str, scans: &Path, out: &Path) -> Result<Child, Box<dyn Error>> {
    let find = ["--find", "whole brain", "--find", "thalamus"];
    let child = Command::new(program)
        .arg("segment")
        .args([scans, Path::new("-o"), out])
        .args([
            "--fast",
            "--instruct",
            "stock",
            "--skip-existing",
            "--quiet",
        ])
        .args(find)
        .stdout(Stdio::null())
        .spawn()?;
    Ok(child)
}

/// Waits until so many cases are done or the program ends; the bytes that it held at the end of each case.
fn watch(child: &mut Child, out: &Path, until: usize) -> Result<Vec<u64>, Box<dyn Error>> {
    let (mut held, before) = (Vec::new(), finished(out)?.len());
    loop {
        let done = finished(out)?.len() - before;
        if done > held.len() {
            held.resize(done, resident(child).or(held.last().copied()).unwrap_or(0));
        }
        if before + done >= until {
            return Ok(held);
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("{status} after {done} cases").into());
        }
        sleep(Duration::from_millis(20));
    }
}

fn resident(child: &Child) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

/// The cases with a report, and when it was written.
fn finished(out: &Path) -> Result<BTreeMap<String, SystemTime>, Box<dyn Error>> {
    let mut found = BTreeMap::new();
    for path in listed(out) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(case) = name.strip_suffix("_report.json") {
            found.insert(case.to_owned(), fs::metadata(&path)?.modified()?);
        }
    }
    Ok(found)
}

/// What lies in a folder, nothing if there is none.
fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Every reported case has all its files, and no file is without its report.
fn check_whole(out: &Path, done: &BTreeMap<String, SystemTime>) -> Result<(), Box<dyn Error>> {
    for case in done.keys() {
        if let Some(file) = FILES
            .iter()
            .find(|file| !out.join(format!("{case}_{file}")).is_file())
        {
            return Err(format!("{case} lacks {file}").into());
        }
    }
    for path in listed(out) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let case = FILES
            .iter()
            .find_map(|file| name.strip_suffix(file)?.strip_suffix('_'));
        if case.is_some_and(|case| !done.contains_key(case)) {
            return Err(format!("{name} has no report").into());
        }
    }
    Ok(())
}

/// Prints the most memory held in each quarter, and refuses a change after the first.
fn flat(when: &str, held: &[u64]) -> Result<(), Box<dyn Error>> {
    let quarter = (held.len() / 4).max(1);
    let most = held
        .chunks(quarter)
        .map(|part| part.iter().copied().max().unwrap_or(0));
    let most: Vec<u64> = most.take(4).collect();
    let megabytes: Vec<u64> = most.iter().map(|bytes| bytes / 1_000_000).collect();
    println!("most memory in each quarter {when}: {megabytes:?} MB");
    let settled = most.get(1).copied().unwrap_or(0) as f64;
    let is_flat = |bytes: &u64| (*bytes as f64 / settled - 1.0).abs() <= FLAT;
    match most.iter().skip(2).all(is_flat) {
        true => Ok(()),
        false => Err("memory is not flat".into()),
    }
}
