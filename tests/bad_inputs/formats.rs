//! MGH and NRRD files with one fault each.

use super::made::gzip;
use super::others::{Mgh, joined, nrrd};
use super::*;

const SHAPE: [usize; 3] = [20, 22, 24];

/// A bright middle.
fn voxels() -> Vec<u8> {
    let [nx, ny, nz] = SHAPE;
    let inside = |n: usize| {
        [n % nx, n / nx % ny, n / (nx * ny)]
            .iter()
            .all(|i| (5..15).contains(i))
    };
    let all = 0..nx * ny * nz;
    all.map(|n| 100 * u8::from(inside(n)) + (n % 7) as u8)
        .collect()
}

fn mgh() -> Mgh {
    Mgh::new(SHAPE, voxels())
}

fn spoilt(spoil: impl FnOnce(&mut Mgh)) -> Vec<u8> {
    let mut made = mgh();
    spoil(&mut made);
    made.file()
}

/// A sound NRRD with one line in place of another.
fn with(line: &str, other: &str) -> Vec<u8> {
    joined(&nrrd(SHAPE).replace(line, other), &voxels())
}

/// The header of voxels in another file.
fn detached(file: &str) -> Vec<u8> {
    format!("{}data file: {file}\n", nrrd(SHAPE)).into_bytes()
}

fn accepted(name: &str, file: &str, bytes: Vec<u8>) -> Row {
    good(name, &format!("segment {file} -o out {QUICK}")).file(file, bytes)
}

/// A file that `segment` refuses.
fn refused(name: &str, file: &str, says: &str, bytes: Vec<u8>) -> Row {
    let line = format!("segment {file} -o out {QUICK}");
    row(name, &line, format!("`{file}`: {says}")).file(file, bytes)
}

pub(super) fn rows() -> Vec<Row> {
    [sound(), mghs(), nrrds(), places()]
        .into_iter()
        .flatten()
        .collect()
}

fn sound() -> Vec<Row> {
    vec![
        accepted("mgh: as it should be", "a_T1w.mgh", mgh().file()),
        accepted("mgz: as it should be", "a_T1w.mgz", gzip(&mgh().file())),
        accepted("nrrd: as it should be", "a_T1w.nrrd", with("", "")),
        accepted("nhdr: as it should be", "a_T1w.nhdr", detached("a.raw")).file("a.raw", voxels()),
        good(
            "nrrd: maps to compare",
            "evaluate a.mgz b.nrrd --pair 100=100",
        )
        .file("a.mgz", gzip(&mgh().file()))
        .file("b.nrrd", with("(-2,1,0)", "(-10,-11,-12)")),
    ]
}

fn mghs() -> Vec<Row> {
    vec![
        refused(
            "mgh: frames",
            "a.mgh",
            "dims [4] is 9: a time series; *",
            spoilt(|m| m.dims[3] = 9),
        ),
        refused(
            "mgh: axis below nothing",
            "a.mgh",
            "dims [1] is -1: *",
            spoilt(|m| m.dims[0] = -1),
        ),
        refused(
            "mgh: more voxels than can be",
            "a.mgh",
            "dims is 2147483647 × *",
            spoilt(|m| m.dims[..3].fill(i32::MAX)),
        ),
        refused(
            "mgh: more voxels than are there",
            "a.mgh",
            "file is truncated: it holds *",
            spoilt(|m| m.dims[..3].fill(900)),
        ),
        refused(
            "mgh: tensors",
            "a.mgh",
            "type is 6: *",
            spoilt(|m| m.datatype = 6),
        ),
        refused(
            "mgh: no size",
            "a.mgh",
            "delta [0] is 0: *",
            spoilt(|m| m.delta[0] = 0.0),
        ),
        refused(
            "mgh: nowhere",
            "a.mgh",
            "Mdc or Pxyz_c is not finite, *",
            spoilt(|m| m.middle[2] = f32::NAN),
        ),
        refused(
            "mgh: beyond single precision",
            "a.mgh",
            "affine is lost in single precision, *",
            spoilt(|m| (m.delta[0], m.middle[0]) = (1e38, -3e38)),
        ),
        refused(
            "mgz: half",
            "a.mgz",
            "gzip stream ends too early: *",
            gzip(&mgh().file())[..200].to_vec(),
        ),
    ]
}

fn nrrds() -> Vec<Row> {
    let endless = "# and so on\n".repeat(100_000);
    vec![
        refused(
            "nrrd: later version",
            "a.nrrd",
            "header begins with `NRRD0009`: *",
            with("NRRD0004", "NRRD0009"),
        ),
        refused(
            "nrrd: header without end",
            "a.nrrd",
            "header goes on for more than 1048576 bytes",
            with("type", &(endless + "type")),
        ),
        refused(
            "nrrd: line without end",
            "a.nrrd",
            "header goes on for more than 1048576 bytes",
            with("type", &("x".repeat(2_000_000) + "\ntype")),
        ),
        refused(
            "nrrd: nothing but a header",
            "a.nrrd",
            "header ends without an empty line *",
            nrrd(SHAPE).into_bytes(),
        ),
        refused(
            "nrrd: blocks",
            "a.nrrd",
            "type is `block`: *",
            with("uchar", "block"),
        ),
        refused(
            "nrrd: no byte order",
            "a.nrrd",
            "endian is missing, *",
            with("uchar", "float"),
        ),
        refused(
            "nrrd: axis below nothing",
            "a.nrrd",
            "sizes [2] is -22: *",
            with("20 22", "20 -22"),
        ),
        refused(
            "nrrd: more voxels than a number can say",
            "a.nrrd",
            "sizes is *: more than 1073741824 voxels",
            with("20 22", "9223372036854775807 9223372036854775807"),
        ),
        refused(
            "nrrd: more voxels than are there",
            "a.nrrd",
            "file is truncated: it holds *",
            with("20 22", "800 800"),
        ),
        refused(
            "nrrd: vectors",
            "a.nrrd",
            "sizes [1] is 20: a vector per voxel; *",
            with("(1,0,0)", "none"),
        ),
        refused(
            "nrrd: directions of no number",
            "a.nrrd",
            "space directions are not three independent *",
            with("(1,0,0)", "(nan,0,0)"),
        ),
        refused(
            "nrrd: flat",
            "a.nrrd",
            "space directions are not three independent *",
            with("(0,1,0)", "(1,0,0)"),
        ),
        refused(
            "nrrd: bzip2",
            "a.nrrd",
            "encoding is `bzip2`: *",
            with("raw", "bzip2"),
        ),
        refused(
            "nrrd: no gzip",
            "a.nrrd",
            "gzip stream is damaged: *",
            with("raw", "gzip"),
        ),
        refused(
            "nrrd: no digits",
            "a.nrrd",
            "voxels hold *: no number",
            [with("raw", "ascii"), voxels(), voxels()].concat(),
        ),
        refused(
            "nrrd: a skip beyond the end",
            "a.nrrd",
            "file is truncated: *",
            with("raw\n", "raw\nbyte skip: 99\n"),
        ),
        refused(
            "nrrd: colours for a terminal",
            "a.nrrd",
            "encoding is `[31m`: *",
            with("raw", "\u{1b}[31m"),
        ),
    ]
}

/// Voxels in another file.
fn places() -> Vec<Row> {
    let beside = "it must lie beside the header";
    vec![
        refused(
            "nhdr: above",
            "a.nhdr",
            &format!("data file is `../a.raw`: {beside}"),
            detached("../a.raw"),
        ),
        refused(
            "nhdr: anywhere",
            "a.nhdr",
            &format!("data file is `/etc/passwd`: {beside}"),
            detached("/etc/passwd"),
        ),
        refused(
            "nhdr: many files",
            "a.nhdr",
            "data file is `LIST`: *",
            detached("LIST"),
        ),
        refused("nhdr: too few voxels", "a.nhdr", "*", detached("a.raw"))
            .file("a.raw", vec![0; 100])
            .saying("`a.raw`: file is truncated: *"),
        refused("nhdr: a folder", "a.nhdr", "*", detached("a"))
            .file("a/b", "x")
            .saying("`a`: file is a folder; *"),
        refused(
            "nhdr: itself",
            "a.nhdr",
            "file is truncated: *",
            detached("a.nhdr"),
        ),
        refused("nhdr: nothing", "a.nhdr", "*", detached("a.raw")).saying("cannot read `a.raw`: *"),
    ]
}
