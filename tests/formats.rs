//! Volumes that are not NIfTI: what nibabel, pynrrd and SimpleITK read in them, what is refused, and where the results
//! written on their grids lie.

use std::fs;
use std::path::{Path, PathBuf};

use keraunos::error::{Error, Result};
use keraunos::pipeline::geometry::{self, Affine};
use keraunos::pipeline::volume::{
    Labels, Names, Volume, files_of, read_grid, sha256, write_labels,
};
use proptest::prelude::*;
use serde_json::Value;

#[path = "support/nifti.rs"]
mod made;
#[path = "support/formats.rs"]
mod others;
use made::gzip;
use others::{Mgh, joined, nrrd};

/// The shape of every volume in goldens/formats.
const SHAPE: [usize; 3] = [5, 4, 3];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/formats")
}

/// A file's name, affines by who says so, and voxels.
type Said = (String, Vec<(String, Affine)>, Vec<f64>);

/// What goldens/formats.py says of `inputs` or `results`.
fn goldens(of: &str) -> Vec<Said> {
    let text = fs::read(folder().with_extension("json")).expect("formats.json");
    let all: Value = serde_json::from_slice(&text).expect("JSON");
    let numbers = |value: &Value| -> Vec<f64> {
        let values = value.as_array().expect("a list").iter();
        values.map(|v| v.as_f64().expect("a number")).collect()
    };
    // There are no results before they are written for the first time.
    let files = all[of].as_object().into_iter().flatten();
    let read = files.map(|(name, said)| {
        let affines = said["affine"].as_object().expect("affines").iter();
        let affines = affines.map(|(who, rows)| {
            let rows: Vec<[f64; 4]> = rows
                .as_array()
                .expect("rows")
                .iter()
                .map(|row| numbers(row).try_into().expect("four"))
                .collect();
            (who.clone(), rows.try_into().expect("three rows"))
        });
        (name.clone(), affines.collect(), numbers(&said["voxels"]))
    });
    read.collect()
}

/// Affines that are the same to the rounding of the `f32` that headers hold: 2⁻²⁴ of the largest number in them, a few
/// times over where a rotation is made of a quaternion.
#[track_caller]
fn one_place(ours: &Affine, theirs: &Affine, what: &str) {
    let largest = theirs
        .as_flattened()
        .iter()
        .fold(1.0_f64, |a, b| a.max(b.abs()));
    for (a, b) in ours.as_flattened().iter().zip(theirs.as_flattened()) {
        assert!(
            (a - b).abs() <= 4.0 * largest / f64::from(1 << 24),
            "{what}: {ours:?}, {theirs:?}"
        );
    }
}

#[test]
fn every_format_reads_as_its_own_readers_read_it() {
    let files = goldens("inputs");
    assert!(files.len() >= 22, "{} files", files.len());
    for (name, affines, voxels) in files {
        let path = folder().join(&name);
        let volume = Volume::read(&path).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(volume.shape, SHAPE, "{name}");
        let theirs: Vec<f32> = voxels.iter().map(|v| *v as f32).collect();
        assert_eq!(volume.data, theirs, "{name}");
        for (who, affine) in &affines {
            one_place(&volume.affine, affine, &format!("{name} by {who}"));
        }
        assert_eq!(read_grid(&path).expect("a grid"), volume.grid(), "{name}");
        let odd = ["mgh_no_ras.mgh", "nrrd_spacings.nrrd"].contains(&name.as_str());
        assert_eq!(
            volume.warnings.is_empty(),
            !odd,
            "{name}: {:?}",
            volume.warnings
        );
        assert_eq!(affines.is_empty(), name == "mgh_no_ras.mgh");
    }
}

#[test]
fn a_volume_without_directions_is_coronal_as_freesurfer_has_it() {
    let volume = Volume::read(&folder().join("mgh_no_ras.mgh")).expect("a volume");
    // FreeSurfer's own words: x from right to left, y from top to neck, z from back to front.
    assert_eq!(volume.grid().orientation().letters(), "LIA");
    assert_eq!(volume.grid().voxel_sizes(), [1.0; 3]);
    let middle = geometry::apply(&volume.affine, [2.5, 2.0, 1.5]);
    assert_eq!(middle, [0.0; 3]);
    assert!(
        volume.warnings[0].contains("goodRASFlag is not set"),
        "{:?}",
        volume.warnings
    );
}

/// The results are written again and compared with those that nibabel and SimpleITK were asked about.
#[test]
fn results_lie_where_nibabel_and_simpleitk_look_for_them() {
    let results = goldens("results");
    let names: Names = [(1, "one".to_owned())].into();
    for (input, ..) in goldens("inputs") {
        let volume = Volume::read(&folder().join(&input)).expect("a volume");
        let labels: Vec<u16> = (0..60).map(|n| n % 2).collect();
        let stem = input.split('.').next().unwrap_or_default();
        let name = format!("{stem}_result.nii");
        let scratch = tempfile::tempdir().expect("a folder");
        let path = scratch.path().join(&name);
        write_labels(&path, &volume, &labels, &names).expect("a result");
        let written = fs::read(&path).expect("what was written");
        let kept = folder().join(&name);
        if std::env::var_os("KERAUNOS_WRITE_RESULTS").is_some() {
            fs::write(&kept, &written).expect("it is kept");
            continue;
        }
        assert_eq!(
            fs::read(&kept).ok(),
            Some(written),
            "{name}: not what they were asked about"
        );
        let (_, affines, voxels) = results
            .iter()
            .find(|result| result.0 == name)
            .expect("in formats.json");
        let theirs: Vec<u16> = voxels.iter().map(|v| *v as u16).collect();
        assert_eq!(theirs, labels, "{name}");
        let mut who: Vec<&str> = affines.iter().map(|(who, _)| who.as_str()).collect();
        who.sort_unstable();
        assert_eq!(who, ["SimpleITK", "nibabel"], "{name}");
        for (who, affine) in affines {
            one_place(&volume.affine, affine, &format!("{name} by {who}"));
        }
    }
}

/// Voxels 0, 1, 2 and so on, as many as a shape holds.
fn counting(shape: [usize; 3]) -> Vec<u8> {
    (0..shape.iter().product::<usize>())
        .map(|n| n as u8)
        .collect()
}

fn read(name: &str, bytes: &[u8]) -> Result<Volume> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("a file");
    Volume::read(&path)
}

#[track_caller]
fn refused(name: &str, bytes: &[u8], words: &str) {
    match read(name, bytes) {
        Err(Error::Volume { field, problem, .. }) => {
            let said = format!("{field} {problem}");
            assert!(said.contains(words), "`{said}` does not say `{words}`");
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("accepted, not `{words}`"),
    }
}

/// The header of a sound NRRD with one line in place of another; an empty one leaves it out.
fn with(line: &str, other: &str) -> Vec<u8> {
    let header = nrrd(SHAPE);
    assert!(header.contains(line), "{line}");
    joined(&header.replace(line, other), &counting(SHAPE))
}

#[test]
fn sound_files_of_all_sorts() {
    let shape = SHAPE;
    let mut mgh = Mgh::new(shape, counting(shape));
    mgh.data.extend([0; 20]);
    for (name, bytes) in [("v.mgh", mgh.file()), ("v.mgz", gzip(&mgh.file()))] {
        let volume = read(name, &bytes).expect("a volume");
        assert_eq!(
            (volume.data[59], volume.warnings.len()),
            (59.0, 0),
            "{name}"
        );
    }
    let voxels = counting(shape);
    let digits: Vec<String> = voxels.iter().map(u8::to_string).collect();
    let after = |junk: &str| [junk.as_bytes(), &voxels].concat();
    let packed = |lines: &str| nrrd(shape).replace("encoding: raw\n", lines);
    let one_more = nrrd(shape)
        .replace("dimension: 3", "dimension: 4")
        .replace("sizes: 5", "sizes: 1 5")
        .replace("directions: ", "directions: none ");
    let lines = nrrd(shape).replace('\n', "\r\n") + "\r";
    for (name, bytes) in [
        ("plain", joined(&nrrd(shape), &voxels)),
        ("carriage returns", joined(&lines, &voxels)),
        ("gzip", joined(&packed("encoding: gz\n"), &gzip(&voxels))),
        (
            "digits",
            joined(&packed("encoding: txt\n"), digits.join(", ").as_bytes()),
        ),
        (
            "skips",
            joined(
                &packed("encoding: raw\nlineskip: 1\nbyte skip: 2\n"),
                &after("junk\n.."),
            ),
        ),
        (
            "at the end",
            joined(&packed("encoding: raw\nbyteskip: -1\n"), &after("junk")),
        ),
        (
            "remarks and keys",
            with("space origin", "# words: here\nkey:=c: d\nspace origin"),
        ),
        ("an axis of one", joined(&one_more, &voxels)),
    ] {
        let volume = read("v.nrrd", &bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((volume.data[1], volume.data[59]), (1.0, 59.0), "{name}");
        assert_eq!(volume.warnings, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn units_of_length_are_brought_to_millimetres() {
    let microns =
        "space units: \"um\" \"um\" \"um\"\nspace directions: (500,0,0) (0,500,0) (0,0,700)\n";
    let volume = read(
        "v.nrrd",
        &with("space directions: (1,0,0) (0,1,0) (0,0,1)\n", microns),
    )
    .expect("a volume");
    let sizes = volume.grid().voxel_sizes();
    assert!(
        sizes
            .iter()
            .zip([0.5, 0.5, 0.7])
            .all(|(a, b)| (a - b).abs() < 1e-12),
        "{sizes:?}"
    );
    assert!(
        volume.warnings[0].contains("space units says microns"),
        "{:?}",
        volume.warnings
    );
}

#[test]
fn segments_of_slicer_have_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("truth.seg.nrrd");
    let keys = "Segment0_ID:=x\nSegment0_LabelValue:=7\nSegment0_Name:=left putamen\nSegment1_LabelValue:=9\nspace origin";
    fs::write(&path, with("space origin", keys)).expect("a file");
    let labels = Labels::read(&path).expect("a map");
    assert_eq!(labels.names, [(7, "left putamen".to_owned())].into());
}

#[test]
fn voxels_in_a_file_of_their_own_lie_beside() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let header = |data: &str| format!("{}data file: {data}\n", nrrd(SHAPE));
    // The first two bytes are gzip's by chance.
    let mut voxels = counting(SHAPE);
    voxels[..2].copy_from_slice(&[0x1f, 0x8b]);
    fs::write(at("v.raw"), &voxels).expect("a file");
    fs::create_dir(at("below")).expect("a folder");
    fs::write(at("below/v.raw"), &voxels).expect("a file");
    for data in ["v.raw", "./v.raw", "below/v.raw"] {
        fs::write(at("v.nhdr"), header(data)).expect("a file");
        let volume = Volume::read(&at("v.nhdr")).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(volume.data[..3], [31.0, 139.0, 2.0], "{data}");
        assert_eq!(files_of(&at("v.nhdr")).len(), 2, "{data}");
    }
    // Another content of the voxels is another volume.
    let before = sha256(&at("v.nhdr")).expect("a hash");
    fs::write(at("below/v.raw"), counting(SHAPE)).expect("a file");
    assert_ne!(sha256(&at("v.nhdr")).expect("a hash"), before);
    let inside = at("below/v.nhdr");
    for (data, words) in [
        ("../v.raw", "beside the header"),
        ("/etc/passwd", "beside the header"),
        ("x/../../v.raw", "beside the header"),
        ("C:\\v.raw", "beside the header"),
        ("..\\v.raw", "beside the header"),
        ("LIST", "several files"),
        ("v%03d.raw 1 9 1", "several files"),
    ] {
        fs::write(&inside, header(data)).expect("a file");
        let error = Volume::read(&inside).expect_err(data).to_string();
        assert!(error.contains(words), "{data}: {error}");
    }
    fs::write(&inside, header("none.raw")).expect("a file");
    assert!(
        matches!(Volume::read(&inside), Err(Error::Read { path, .. }) if path.ends_with("none.raw"))
    );
}

#[test]
fn faults_of_mgh() {
    let sound = Mgh::new(SHAPE, counting(SHAPE));
    let spoilt = |spoil: &dyn Fn(&mut Mgh)| {
        let mut mgh = sound.clone();
        spoil(&mut mgh);
        mgh.file()
    };
    for (words, bytes) in [
        ("dims [1] is 0", spoilt(&|m| m.dims[0] = 0)),
        ("dims [2] is -4", spoilt(&|m| m.dims[1] = -4)),
        ("dims [3] is 1: a single slice", spoilt(&|m| m.dims[2] = 1)),
        ("dims [4] is 7: a time series", spoilt(&|m| m.dims[3] = 7)),
        (
            "more than 1073741824 voxels",
            spoilt(&|m| m.dims[..3].fill(i32::MAX)),
        ),
        (
            "holds 344 bytes, the header asks for 800000284",
            spoilt(&|m| m.dims = [1000, 1000, 800, 1]),
        ),
        ("type is 2", spoilt(&|m| m.datatype = 2)),
        ("type is -1", spoilt(&|m| m.datatype = -1)),
        ("delta [1] is 0", spoilt(&|m| m.delta[1] = 0.0)),
        ("delta [2] is NaN", spoilt(&|m| m.delta[2] = f32::NAN)),
        (
            "Mdc or Pxyz_c is not finite",
            spoilt(&|m| m.mdc[0][0] = f32::INFINITY),
        ),
        (
            "Mdc or Pxyz_c is not finite",
            spoilt(&|m| m.middle[0] = f32::NAN),
        ),
        (
            "two axes have one direction",
            spoilt(&|m| m.mdc[1] = m.mdc[0]),
        ),
        (
            "is truncated: it holds 304 bytes",
            spoilt(&|m| m.data.truncate(20)),
        ),
        ("is truncated: 100 bytes", sound.file()[..100].to_vec()),
        ("is not a NIfTI file", spoilt(&|m| m.version = 2)),
    ] {
        refused("v.mgh", &bytes, words);
    }
    let whole = gzip(&sound.file());
    refused("v.mgz", &whole[..whole.len() - 9], "ends too early");
}

#[test]
fn faults_of_nrrd() {
    let directions = "space directions: (1,0,0) (0,1,0) (0,0,1)\n";
    let turned = |text: &str| with(directions, &format!("space directions: {text}\n"));
    let sized = |text: &str| with("sizes: 5 4 3", &format!("sizes: {text}"));
    let four = |sizes: &str, more: &str| {
        let header = nrrd(SHAPE)
            .replace("dimension: 3", "dimension: 4")
            .replace("5 4 3", sizes);
        joined(&header.replace(directions, more), &counting(SHAPE))
    };
    for (words, bytes) in [
        ("begins with `NRRD0006`", with("NRRD0004", "NRRD0006")),
        (
            "header ends without an empty line",
            nrrd(SHAPE).into_bytes(),
        ),
        (
            "header goes on for more than 1048576 bytes",
            joined(&("NRRD0001\n".to_owned() + &"#\n".repeat(600_000)), &[]),
        ),
        ("neither a field nor a key", with("type: uchar", "uchar")),
        (
            "has `type` twice",
            with("type: uchar", "type: uchar\ntype: short"),
        ),
        ("type is missing", with("type: uchar\n", "")),
        ("type is `block`", with("uchar", "block")),
        ("endian is missing", with("uchar", "short")),
        ("endian is `middle`", with("uchar", "short\nendian: middle")),
        ("dimension is missing", with("dimension: 3\n", "")),
        (
            "dimension is 2: a single picture",
            with("dimension: 3", "dimension: 2"),
        ),
        ("dimension is `-3`", with("dimension: 3", "dimension: -3")),
        (
            "dimension is `99999999999999999999`",
            with("dimension: 3", "dimension: 99999999999999999999"),
        ),
        ("sizes has 2 entries", sized("5 4")),
        ("sizes has the entry `x`", sized("5 4 x")),
        (
            "sizes has the entry `9999999999999999999999`",
            sized("5 4 9999999999999999999999"),
        ),
        ("sizes [2] is -4", sized("5 -4 3")),
        ("sizes [3] is 0", sized("5 4 0")),
        ("sizes [3] is 1: a single slice", sized("5 12 1")),
        (
            "more than 1073741824 voxels",
            sized("9223372036854775807 9223372036854775807 3"),
        ),
        ("is truncated: it holds", sized("500 400 300")),
        (
            "sizes [1] is 3: a vector per voxel",
            four(
                "3 5 4 3",
                "space directions: none (1,0,0) (0,1,0) (0,0,1)\n",
            ),
        ),
        (
            "sizes [1] is 3: colours",
            four("3 5 4 3", "kinds: RGB-color domain domain domain\n"),
        ),
        (
            "sizes [4] is 3: a time series",
            four("5 4 3 3", "kinds: domain domain domain time\n"),
        ),
        (
            "sizes [4] is 3: many volumes",
            four("5 4 3 3", "kinds: domain domain domain list\n"),
        ),
        (
            "sizes are [5, 4, 3, 3]: not the three axes",
            four("5 4 3 3", ""),
        ),
        (
            "sizes are [5, 4, 1]: not the three axes",
            with("sizes: 5 4 3", "kinds: domain domain vector\nsizes: 5 4 1"),
        ),
        (
            "space is `right-anterior-superior-time`: a time series",
            with("superior\n", "superior-time\n"),
        ),
        ("space is `moon`", with("right-anterior-superior", "moon")),
        (
            "space dimension is `2`",
            with("space: right-anterior-superior", "space dimension: 2"),
        ),
        ("not 3 times `(x,y,z)`", turned("(1,0,0) (0,1,0)")),
        ("not 3 times `(x,y,z)`", turned("(1,0) (0,1) (0,0)")),
        ("not 3 times `(x,y,z)`", turned("(1,0,0 (0,1,0) (0,0,1)")),
        ("not 3 times `(x,y,z)`", turned("1 0 0")),
        (
            "not three independent directions",
            turned("(nan,0,0) (0,1,0) (0,0,1)"),
        ),
        (
            "not three independent directions",
            turned("(1,0,0) (1,0,0) (0,0,1)"),
        ),
        (
            "not three independent directions",
            turned("(1,0,0) (0,inf,0) (0,0,1)"),
        ),
        (
            "not three independent directions",
            turned("(0,0,0) (0,1,0) (0,0,1)"),
        ),
        (
            "not three independent directions",
            with("origin: (-2,1,0)", "origin: (0,nan,0)"),
        ),
        ("space origin is `0 0 0`", with("(-2,1,0)", "0 0 0")),
        (
            "spacings [2] is NaN",
            with(directions, "spacings: 1 nan 1\n"),
        ),
        ("encoding is missing", with("encoding: raw\n", "")),
        ("encoding is `bzip2`", with("raw", "bzip2")),
        ("encoding is `hex`", with("raw", "hex")),
        ("gzip stream is damaged", with("raw", "gzip")),
        (
            "voxels hold `\\x00\\x01",
            [&with("raw", "ascii")[..], &[0; 99]].concat(),
        ),
        ("byte skip is -2", with("raw\n", "raw\nbyte skip: -2\n")),
        (
            "byte skip is 99999999999",
            with("raw\n", "raw\nbyte skip: 99999999999\n"),
        ),
        (
            "only a raw file's end",
            with("raw\n", "gzip\nbyte skip: -1\n"),
        ),
        (
            "is truncated: it holds",
            with("raw\n", "raw\nbyte skip: 1\n"),
        ),
        ("line skip is `x`", with("raw\n", "raw\nline skip: x\n")),
        (
            "more lines than the file has",
            with("raw\n", "raw\nline skip: 18446744073709551615\n"),
        ),
    ] {
        refused("v.nrrd", &bytes, words);
    }
    let text = |voxels: &str| joined(&nrrd(SHAPE).replace("raw", "text"), voxels.as_bytes());
    refused("v.nrrd", &text("1 2 3"), "is truncated: it");
    refused(
        "v.nrrd",
        &text(&"1 2 x ".repeat(20)),
        "voxels hold `x`: no number",
    );
    refused("v.nrrd", &text(&"1".repeat(5000)), "no number");
}

#[test]
fn what_is_odd_is_said() {
    for (words, bytes) in [
        (
            "space is not set",
            with("space: right-anterior-superior\n", "space dimension: 3\n"),
        ),
        (
            "space names no side",
            with("right-anterior-superior", "3D-right-handed"),
        ),
        (
            "space directions are not set",
            with(
                "space directions: (1,0,0) (0,1,0) (0,0,1)\n",
                "spacings: 1 1 1\n",
            ),
        ),
        (
            "space origin is not set",
            with("space origin: (-2,1,0)\n", ""),
        ),
        (
            "`flavour: mint` is not NRRD's",
            with("type", "flavour: mint\ntype"),
        ),
        (
            "7 bytes after the voxels",
            [&with("type", "type")[..], &[0; 7]].concat(),
        ),
    ] {
        let volume = read("v.nrrd", &bytes).unwrap_or_else(|error| panic!("{words}: {error}"));
        assert!(
            volume.warnings.iter().any(|w| w.contains(words)),
            "{words}: {:?}",
            volume.warnings
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_byte_makes_a_panic(at in 0_usize..400, value in any::<u8>(), is_mgh in any::<bool>()) {
        let mut bytes = match is_mgh {
            true => Mgh::new(SHAPE, counting(SHAPE)).file(),
            false => joined(&nrrd(SHAPE), &counting(SHAPE)),
        };
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = read("v", &bytes);
    }
}
