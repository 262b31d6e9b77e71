//! NIfTI files with one fault each.

use super::made::{Made, gzip};
use super::*;

/// A volume with a bright middle.
fn sound() -> Made {
    let mut made = Made::new([8, 9, 10], 16);
    made.rows.1 = [
        [4.0, 0.0, 0.0, -16.0],
        [0.0, 4.0, 0.0, -18.0],
        [0.0, 0.0, 4.0, -20.0],
    ];
    made.pixdim = [1.0, 4.0, 4.0, 4.0, 0.0, 0.0, 0.0, 0.0];
    made
}

fn values(made: &Made) -> Vec<f64> {
    let inside = |n: usize| {
        [n % 8, n / 8 % 9, n / 72]
            .iter()
            .all(|i| (2..6).contains(i))
    };
    (0..made.voxels())
        .map(|n| f64::from(u8::from(inside(n))) * 100.0 + (n % 7) as f64)
        .collect()
}

pub(super) fn whole() -> Vec<u8> {
    let made = sound();
    made.file(&values(&made))
}

/// The sound volume's file with one thing changed before it is made.
pub(super) fn spoilt(spoil: impl FnOnce(&mut Made)) -> Vec<u8> {
    let values = values(&sound());
    let mut made = sound();
    spoil(&mut made);
    made.file(&values)
}

/// A volume that `segment` refuses.
pub(super) fn refused(name: &str, says: &str, bytes: Vec<u8>) -> Row {
    let line = format!("segment a_T1w.nii -o out {QUICK}");
    row(
        format!("volume: {name}"),
        &line,
        format!("`a_T1w.nii`: {says}"),
    )
    .file("a_T1w.nii", bytes)
}

fn dim(axis: usize, n: i64) -> impl FnOnce(&mut Made) {
    move |made| made.dim[axis] = n
}

fn datatype(code: i16, bits: i16) -> impl FnOnce(&mut Made) {
    move |made| (made.datatype, made.bitpix) = (code, bits)
}

/// The sform alone, of these rows.
fn sform(rows: [[f64; 4]; 3]) -> impl FnOnce(&mut Made) {
    move |made| made.rows = (1, rows)
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = vec![
        good(
            "volume: as it should be",
            &format!("segment a_T1w.nii -o out {QUICK}"),
        )
        .file("a_T1w.nii", whole()),
        good(
            "volume: compressed",
            &format!("segment a_T1w.nii.gz -o out {QUICK}"),
        )
        .file("a_T1w.nii.gz", gzip(&whole())),
    ];
    rows.extend(headers());
    rows.extend(forms());
    rows
}

fn headers() -> Vec<Row> {
    vec![
        refused("no axis", "dim [0] is 0: *", spoilt(dim(0, 0))),
        refused(
            "negative number of axes",
            "dim [0] is -1: *",
            spoilt(dim(0, -1)),
        ),
        refused("too many axes", "dim [0] is 8: *", spoilt(dim(0, 8))),
        refused(
            "a picture",
            "dim [0] is 2: a single picture; *",
            spoilt(dim(0, 2)),
        ),
        refused("axis of nothing", "dim [1] is 0: *", spoilt(dim(1, 0))),
        refused("axis below nothing", "dim [2] is -9: *", spoilt(dim(2, -9))),
        refused(
            "one slice",
            "dim [3] is 1: a single slice; *",
            spoilt(dim(3, 1)),
        ),
        refused(
            "time series",
            "dim [4] is 3: a time series; give one 3-D volume",
            spoilt(|m| (m.dim[0], m.dim[4]) = (4, 3)),
        ),
        refused(
            "vectors",
            "dim [5] is 3: a vector per voxel; *",
            spoilt(|m| (m.dim[0], m.dim[5]) = (5, 3)),
        ),
        refused(
            "seven axes",
            "dim [7] is 2: many volumes; *",
            spoilt(|m| (m.dim[0], m.dim[7]) = (7, 2)),
        ),
        refused(
            "more voxels than can be",
            "dim is 32767 × 32767 × 32767: *",
            spoilt(|m| m.dim[1..4].fill(32767)),
        ),
        refused(
            "more voxels than a number can say",
            "dim is *: more than 1073741824 voxels",
            spoilt(|m| {
                *m = m.clone().version_two();
                m.dim[1..4].fill(i64::MAX);
            }),
        ),
        refused(
            "axis below nothing in version 2",
            "dim [1] is -9223372036854775808: *",
            spoilt(|m| {
                *m = m.clone().version_two();
                m.dim[1] = i64::MIN;
            }),
        ),
        refused(
            "more voxels than the file has",
            "file is truncated: it holds 3232 bytes, the header asks for 100000352",
            spoilt(|m| m.dim[1..4].copy_from_slice(&[500, 500, 100])),
        ),
        refused("no datatype", "datatype is 0: *", spoilt(datatype(0, 32))),
        refused(
            "bits",
            "datatype is 1: one bit per voxel; *",
            spoilt(datatype(1, 1)),
        ),
        refused(
            "complex",
            "datatype is 32: complex numbers*",
            spoilt(datatype(32, 64)),
        ),
        refused(
            "wide complex",
            "datatype is 1792: complex*",
            spoilt(datatype(1792, 128)),
        ),
        refused(
            "colours",
            "datatype is 128: RGB colours; *",
            spoilt(datatype(128, 24)),
        ),
        refused(
            "colours and alpha",
            "datatype is 2304: RGBA*",
            spoilt(datatype(2304, 32)),
        ),
        refused(
            "quadruple",
            "datatype is 1536: 128-bit*",
            spoilt(datatype(1536, 128)),
        ),
        refused(
            "datatype of nobody",
            "datatype is 3: not a*",
            spoilt(datatype(3, 32)),
        ),
        refused(
            "datatype below nothing",
            "datatype is -16: *",
            spoilt(datatype(-16, 32)),
        ),
        refused(
            "intercept is infinite",
            "scl_inter is inf beside a slope of 2: *",
            spoilt(|m| (m.slope, m.inter) = (2.0, f64::INFINITY)),
        ),
        refused(
            "intercept is no number",
            "scl_inter is NaN beside a slope of 1: *",
            spoilt(|m| m.inter = f64::NAN),
        ),
        refused(
            "slope that overflows",
            "voxels are all NaN or infinite",
            spoilt(|m| {
                *m = m.clone().version_two();
                (m.slope, m.inter) = (1e300, 1e300);
            }),
        ),
        refused(
            "voxels below the header",
            "vox_offset is 100: *",
            spoilt(|m| m.vox_offset = 100.0),
        ),
        refused(
            "voxels before the file",
            "vox_offset is -1: *",
            spoilt(|m| m.vox_offset = -1.0),
        ),
        refused(
            "voxels nowhere",
            "vox_offset is NaN: *",
            spoilt(|m| m.vox_offset = f64::NAN),
        ),
        refused(
            "voxels beyond the file",
            "file is truncated: it holds 3232 bytes, the header asks for 12880",
            spoilt(|m| m.vox_offset = 10_000.0),
        ),
        refused(
            "voxels far beyond",
            "vox_offset is *: *",
            spoilt(|m| m.vox_offset = 1e30),
        ),
        refused(
            "voxels at half a byte",
            "vox_offset is 352.5: *",
            spoilt(|m| m.vox_offset = 352.5),
        ),
        refused(
            "magic of nobody",
            "magic is `abc\\x00`: *",
            spoilt(|m| m.magic = *b"abc\0"),
        ),
        refused(
            "no magic",
            "magic is `\\x00\\x00\\x00\\x00`: *",
            spoilt(|m| m.magic = [0; 4]),
        ),
        refused(
            "pair without its voxels",
            "magic says that the voxels are in a `.img` file, *",
            spoilt(|m| m.magic = *b"ni1\0"),
        ),
        refused(
            "version 2 through a text transfer",
            "magic is damaged: *",
            {
                let mut bytes = spoilt(|m| *m = m.clone().version_two());
                bytes[8..12].copy_from_slice(b"\n\x1a\n\0");
                bytes
            },
        ),
    ]
}

fn forms() -> Vec<Row> {
    let [x, y, z] = sound().rows.1;
    let quaternion = |b: f64| {
        move |made: &mut Made| {
            made.rows.0 = 0;
            made.quaternion = (1, [b, 0.0, 0.0], [0.0; 3]);
        }
    };
    vec![
        refused(
            "voxels beyond any number",
            "pixdim makes voxels of [1e200, 1e200, 1e200]: no place can be computed",
            spoilt(|made| {
                *made = made.clone().version_two();
                made.rows.0 = 0;
                made.pixdim = [1e200; 8];
            }),
        ),
        refused(
            "flat sform",
            "sform is singular or not finite, *",
            spoilt(sform([x, y, y])),
        ),
        refused(
            "sform of no number",
            "sform is singular or not finite, *",
            spoilt(sform([x, y, [0.0, 0.0, f64::NAN, 0.0]])),
        ),
        refused(
            "infinite origin",
            "sform is singular or not finite, *",
            spoilt(sform([[4.0, 0.0, 0.0, f64::INFINITY], y, z])),
        ),
        refused(
            "quaternion of no number",
            "qform is not finite, *",
            spoilt(quaternion(f64::NAN)),
        ),
        refused(
            "infinite quaternion",
            "qform is not finite, *",
            spoilt(quaternion(f64::INFINITY)),
        ),
        refused(
            "no voxel size",
            "pixdim [1] is 0: *",
            spoilt(|m| (m.rows.0, m.pixdim[1]) = (0, 0.0)),
        ),
        refused(
            "voxel size below nothing",
            "pixdim [2] is -4: *",
            spoilt(|m| (m.rows.0, m.pixdim[2]) = (0, -4.0)),
        ),
        refused(
            "voxel size of no number",
            "pixdim [3] is NaN: *",
            spoilt(|m| (m.rows.0, m.pixdim[3]) = (0, f64::NAN)),
        ),
        refused(
            "infinite voxel size",
            "pixdim [3] is inf: *",
            spoilt(|m| (m.rows.0, m.pixdim[3]) = (0, f64::INFINITY)),
        ),
        refused(
            "smaller than a seed",
            "field of view measures [0.*] mm: the voxel sizes must be wrong",
            spoilt(sform([
                [1e-3, 0.0, 0.0, 0.0],
                [0.0, 1e-3, 0.0, 0.0],
                [0.0, 0.0, 1e-3, 0.0],
            ])),
        ),
        refused(
            "larger than a house",
            "field of view measures [*] mm: the voxel sizes must be wrong",
            spoilt(sform([
                [1e4, 0.0, 0.0, 0.0],
                [0.0, 1e4, 0.0, 0.0],
                [0.0, 0.0, 1e4, 0.0],
            ])),
        ),
        refused(
            "longer than a street",
            "field of view measures [*] mm: the voxel sizes must be wrong",
            spoilt(sform([
                [1e6, 0.0, 0.0, 0.0],
                [0.0, 0.3, 0.0, 0.0],
                [0.0, 0.0, 0.3, 0.0],
            ])),
        ),
        refused(
            "beyond all numbers",
            "*",
            spoilt(sform([
                [1e38, 0.0, 0.0, 1e38],
                [0.0, 1e38, 0.0, 1e38],
                [0.0, 0.0, 1e38, 1e38],
            ])),
        ),
        refused(
            "beyond all numbers in double precision",
            "*",
            spoilt(|m| {
                *m = m.clone().version_two();
                m.rows.1 = [
                    [1e200, 0.0, 0.0, 1e300],
                    [0.0, 1e200, 0.0, 1e300],
                    [0.0, 0.0, 1e200, 1e300],
                ];
            }),
        ),
        refused("nothing but NaN", "voxels are all NaN or infinite", {
            sound().file(&vec![f64::NAN; 720])
        }),
        refused(
            "one value",
            "voxels are all 7: an empty volume",
            sound().file(&[7.0; 720]),
        ),
        refused(
            "all zero",
            "voxels are all 0: an empty volume",
            sound().file(&[0.0; 720]),
        ),
    ]
}
