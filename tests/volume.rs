//! Reading and writing volumes: everything a file can get wrong, and what must survive.

use std::fs;
use std::path::{Path, PathBuf};

use keraunos::error::{Error, Result};
use keraunos::pipeline::files::{atomic_write, same_file};
use keraunos::pipeline::geometry;
use keraunos::pipeline::prepare::Prepared;
use keraunos::pipeline::preview::{self, Style};
use keraunos::pipeline::volume::{
    Labels, Names, Version, Volume, colour, read_names, sidecar, write_labels, write_map,
    write_names,
};
use proptest::prelude::*;
use tempfile::TempDir;

#[path = "support/nifti.rs"]
mod made;
use made::{Made, gzip};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file in a temporary folder");
        path
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .expect("the folder")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    }
}

fn read(name: &str, bytes: &[u8]) -> Result<Volume> {
    let folder = Folder::new();
    Volume::read(&folder.put(name, bytes))
}

/// The field and sentence of a refusal.
#[track_caller]
fn refusal<T>(result: Result<T>) -> String {
    match result {
        Err(Error::Volume { field, problem, .. }) => format!("{field} {problem}"),
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[track_caller]
fn refused(name: &str, bytes: &[u8], words: &str) {
    let message = refusal(read(name, bytes));
    assert!(
        message.contains(words),
        "`{message}` does not say `{words}`"
    );
}

#[track_caller]
fn warned(volume: &Volume, words: &str) {
    assert!(
        volume
            .warnings
            .iter()
            .any(|warning| warning.contains(words)),
        "{:?} do not say `{words}`",
        volume.warnings
    );
}

fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("KERAUNOS_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let found = root.join("data").is_dir();
    if !found {
        println!("skipped: no shared data in {}", root.display());
    }
    found.then_some(root)
}

const TYPES: [i16; 10] = [2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280];

// ------------------------------------------------------------------ good files

#[test]
fn every_datatype_order_version_and_packing() {
    for datatype in TYPES {
        for big in [false, true] {
            for version in [1, 2] {
                let mut file = Made::new([3, 4, 5], datatype);
                if version == 2 {
                    file = file.version_two();
                }
                file.big = big;
                let want: Vec<f32> = (0..60).map(|v| v as f32).collect();
                for (name, bytes) in [
                    ("v.nii", file.counting()),
                    ("v.nii.gz", gzip(&file.counting())),
                ] {
                    let volume = read(name, &bytes).unwrap();
                    assert_eq!(
                        volume.data, want,
                        "type {datatype} big {big} version {version}"
                    );
                    assert_eq!(volume.shape, [3, 4, 5]);
                    assert_eq!(volume.affine, file.rows.1);
                    assert!(volume.warnings.is_empty(), "{:?}", volume.warnings);
                    assert_eq!(volume.header.raw(), file.header());
                    assert_eq!(volume.header.description, "made by hand");
                    assert_eq!(volume.header.version == Version::Two, version == 2);
                }
            }
        }
    }
}

#[test]
fn negative_values_and_extremes() {
    for (datatype, low, high) in [
        (256, -128.0, 127.0),
        (4, -32768.0, 32767.0),
        (8, -2147483648.0, 2147483647.0),
        (512, 0.0, 65535.0),
    ] {
        let mut values = vec![0.0; 8];
        (values[1], values[6]) = (low, high);
        let volume = read("v.nii", &Made::new([2, 2, 2], datatype).file(&values)).unwrap();
        assert_eq!((volume.data[1], volume.data[6]), (low as f32, high as f32));
    }
}

#[test]
fn pairs_from_either_file() {
    for gz in [false, true] {
        let folder = Folder::new();
        let mut file = Made::new([2, 3, 4], 4);
        file.magic = *b"ni1\0";
        file.vox_offset = 16.0;
        let voxels = [
            vec![9; 16],
            file.encode(&(0..24).map(f64::from).collect::<Vec<_>>()),
        ]
        .concat();
        let header = [file.header(), vec![0; 4]].concat();
        let pack = |bytes: &[u8]| if gz { gzip(bytes) } else { bytes.to_vec() };
        let suffix = if gz { ".gz" } else { "" };
        let hdr = folder.put(&format!("a.b.hdr{suffix}"), &pack(&header));
        let missing = refusal(Volume::read(&hdr));
        assert!(missing.contains("`.img`"), "{missing}");
        let img = folder.put(&format!("a.b.img{suffix}"), &pack(&voxels));
        for path in [hdr, img] {
            let volume = Volume::read(&path).unwrap();
            assert_eq!(volume.data, (0..24).map(|v| v as f32).collect::<Vec<_>>());
            assert_eq!(volume.path, path);
        }
    }
}

#[test]
fn packing_is_told_by_content_not_by_name() {
    let file = Made::new([3, 4, 5], 4).counting();
    warned(
        &read("v.nii", &gzip(&file)).unwrap(),
        "gzip-compressed, unlike its name",
    );
    warned(
        &read("v.nii.gz", &file).unwrap(),
        "not compressed, unlike its name",
    );
    assert!(read("V.NII.GZ", &gzip(&file)).unwrap().warnings.is_empty());
}

#[test]
fn several_gzip_members() {
    let file = Made::new([3, 4, 5], 4).counting();
    let bytes = file.chunks(100).flat_map(gzip).collect::<Vec<_>>();
    assert_eq!(read("v.nii.gz", &bytes).unwrap().data[59], 59.0);
}

#[test]
fn a_gap_before_the_voxels_is_skipped() {
    for version in [1, 2] {
        let mut file = Made::new([3, 4, 5], 4);
        if version == 2 {
            file = file.version_two();
        }
        file.vox_offset += 48.0;
        file.gap = vec![0; 52];
        file.gap[10] = 77;
        let volume = read("v.nii", &file.counting()).unwrap();
        assert_eq!(volume.data[59], 59.0);
        assert!(volume.extensions.is_empty());
    }
}

#[test]
fn scaling() {
    let values = |slope, inter| {
        let mut file = Made::new([2, 2, 2], 4).big_endian();
        (file.slope, file.inter) = (slope, inter);
        read("v.nii", &file.counting()).map(|volume| volume.data[7])
    };
    assert_eq!(values(2.0, 1.0).unwrap(), 15.0);
    assert_eq!(values(0.5, 0.0).unwrap(), 3.5);
    assert_eq!(values(-1.0, 0.0).unwrap(), -7.0);
    // No slope: the intercept does not count either.
    assert_eq!(values(0.0, 5.0).unwrap(), 7.0);
    assert_eq!(values(f64::NAN, f64::NAN).unwrap(), 7.0);
    assert_eq!(values(f64::INFINITY, 1.0).unwrap(), 7.0);
    assert!(refusal(values(1.0, f64::INFINITY)).contains("scl_inter is inf"));
    assert!(refusal(values(2.0, f64::NAN)).contains("scl_inter is NaN"));
}

#[test]
fn scaling_is_done_in_double_precision() {
    let mut file = Made::new([2, 2, 2], 8);
    (file.slope, file.inter) = (1.0, -16_777_216.0);
    let mut values = vec![16_777_216.0; 8];
    values[3] = 16_777_217.0;
    // 16777217 is not an f32; the difference survives only if it is taken before rounding.
    assert_eq!(read("v.nii", &file.file(&values)).unwrap().data[3], 1.0);
}

#[test]
fn one_frame_is_squeezed_and_kept() {
    for dim in [vec![4, 3, 4, 5, 1, 1, 1, 1], vec![5, 3, 4, 5, 1, 1, 0, 0]] {
        let folder = Folder::new();
        let mut file = Made::new([3, 4, 5], 4);
        file.dim = dim.clone();
        let volume = Volume::read(&folder.put("v.nii", &file.counting())).unwrap();
        assert_eq!(volume.shape, [3, 4, 5]);
        let out = folder.path("out.nii");
        write_labels(&out, &volume, &[1_u16; 60], &Names::new()).unwrap();
        assert_eq!(Labels::read(&out).unwrap().header.dim.to_vec(), dim);
    }
}

#[test]
fn extensions_good_empty_and_damaged() {
    let good = [
        16_i32.to_le_bytes(),
        6_i32.to_le_bytes(),
        *b"word",
        *b"s\0\0\0",
    ]
    .concat();
    let mut file = Made::new([3, 4, 5], 4);
    file.vox_offset = 368.0;
    file.gap = [vec![1, 0, 0, 0], good.clone()].concat();
    assert_eq!(read("v.nii", &file.counting()).unwrap().extensions, good);
    // The flag without an extension, as some writers leave it.
    let mut flagged = Made::new([3, 4, 5], 4);
    flagged.gap[0] = 1;
    let volume = read("v.nii", &flagged.counting()).unwrap();
    assert!(volume.extensions.is_empty() && volume.warnings.is_empty());
    for size in [0_i32, -16, 7, i32::MAX] {
        file.gap[4..8].copy_from_slice(&size.to_le_bytes());
        let volume = read("v.nii", &file.counting()).unwrap();
        warned(&volume, &format!("claims {size} bytes"));
        assert_eq!(volume.data[59], 59.0);
    }
}

#[test]
fn bytes_after_the_voxels() {
    let mut bytes = Made::new([3, 4, 5], 4).counting();
    bytes.extend([0; 7]);
    warned(&read("v.nii", &bytes).unwrap(), "7 bytes after the voxels");
}

// ------------------------------------------------------------------ files that must be refused

#[test]
fn no_file_a_folder_nothing_in_it() {
    let folder = Folder::new();
    assert!(matches!(
        Volume::read(&folder.path("no.nii")),
        Err(Error::Read { .. })
    ));
    assert!(refusal(Volume::read(folder.0.path())).contains("is a folder"));
    refused("v.nii", b"", "is empty");
    refused("v.nii", b"\x5c\x01\0\0", "is truncated: 4 bytes");
    refused("v.nii.gz", &gzip(b""), "not a NIfTI file");
    refused("v.nii", &[1], "not a NIfTI file");
    if cfg!(unix) {
        let device = refusal(Volume::read(Path::new("/dev/null")));
        assert!(device.contains("not a regular file"), "{device}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    let path = folder.0.path().join(OsStr::from_bytes(b"v\xff.nii"));
    fs::write(&path, Made::new([3, 4, 5], 4).counting()).unwrap();
    assert_eq!(Volume::read(&path).unwrap().data[59], 59.0);
}

#[test]
fn other_formats_are_named() {
    let mut dicom = vec![0; 1000];
    dicom[128..132].copy_from_slice(b"DICM");
    for bytes in [dicom.clone(), gzip(&dicom)] {
        refused("v.nii", &bytes, "dcm2niix");
    }
    refused("v.nii", b"\x89PNG\r\n\x1a\nxxxxxxxxx", "a PNG picture");
    refused("v.nii", b"\xff\xd8\xff\xe0xxxxxxxxx", "a JPEG picture");
    refused("v.nii", b"ObjectType = Image\n", "a MetaImage header");
    refused("v.nii.gz", &gzip(b"CDF\x01...."), "MINC 1");
    refused("v.nii.gz", &gzip(&gzip(&[0; 400])), "compressed twice");
    refused("v.nii", &[7; 400], "does not begin with a header size");
}

#[test]
fn magic() {
    for (magic, shown) in [
        (*b"\0\0\0\0", "Analyze"),
        (*b"n+3\0", "n+3"),
        (*b"n+2\0", "n+2"),
    ] {
        let mut file = Made::new([3, 4, 5], 4);
        file.magic = magic;
        refused("v.nii", &file.counting(), shown);
    }
    let mut bytes = Made::new([3, 4, 5], 4).version_two().counting();
    bytes[8..12].copy_from_slice(b"\n\n\x1a\n");
    refused("v.nii", &bytes, "text-mode");
}

#[test]
fn truncation_and_damage_are_never_read_over() {
    let file = Made::new([30, 40, 50], 4).counting();
    refused("v.nii", &file[..file.len() - 1], "is truncated: it holds");
    refused(
        "v.nii",
        &file[..400],
        "is truncated: it holds 400 bytes, the header asks for 120352",
    );
    let packed = gzip(&file);
    refused(
        "v.nii.gz",
        &packed[..packed.len() / 2],
        "gzip stream ends too early",
    );
    refused(
        "v.nii.gz",
        &packed[..packed.len() - 4],
        "gzip stream ends too early",
    );
    let mut bad_sum = packed.clone();
    let at = bad_sum.len() - 8;
    bad_sum[at] ^= 1;
    refused("v.nii.gz", &bad_sum, "gzip stream is damaged");
    // A whole stream that holds too little.
    refused(
        "v.nii.gz",
        &gzip(&file[..file.len() - 2]),
        "is truncated: it holds 120350 bytes",
    );
    // Damage in the second of two members.
    let mut two = [gzip(&file[..1000]), gzip(&file[1000..])].concat();
    let at = two.len() - 8;
    two[at] ^= 1;
    refused("v.nii.gz", &two, "gzip stream is damaged");
}

#[test]
fn claimed_sizes_are_checked_before_memory_is_asked_for() {
    let mut file = Made::new([1000, 1000, 1000], 64);
    refused(
        "v.nii",
        &[file.header(), vec![0; 20]].concat(),
        "asks for 8000000352",
    );
    refused(
        "v.nii.gz",
        &gzip(&[file.header(), vec![0; 20]].concat()),
        "can at most inflate to",
    );
    file.dim = vec![3, 32767, 32767, 32767, 1, 1, 1, 1];
    refused(
        "v.nii",
        &[file.header(), vec![0; 20]].concat(),
        "dim is 32767",
    );
    let mut file = file.version_two();
    file.dim = vec![3, i64::MAX, i64::MAX, i64::MAX, 1, 1, 1, 1];
    refused(
        "v.nii",
        &[file.header(), vec![0; 20]].concat(),
        "more than 1073741824 voxels",
    );
    // A bomb: a small honest header, then zeros without end.
    let bomb = [Made::new([3, 4, 5], 4).counting(), vec![0; (1 << 26) + 1]].concat();
    refused("v.nii.gz", &gzip(&bomb), "goes on for more than");
}

#[test]
fn dimensions() {
    let with = |dim: [i64; 8]| {
        let mut file = Made::new([3, 4, 5], 4);
        file.dim = dim.to_vec();
        [file.header(), vec![0; 4000]].concat()
    };
    refused(
        "v.nii",
        &with([4, 3, 4, 5, 120, 1, 1, 1]),
        "dim [4] is 120: a time series; give one 3-D volume",
    );
    refused(
        "v.nii",
        &with([5, 3, 4, 5, 1, 3, 1, 1]),
        "dim [5] is 3: a vector per voxel",
    );
    refused("v.nii", &with([0, 3, 4, 5, 1, 1, 1, 1]), "dim [0] is 0");
    refused("v.nii", &with([-3, 3, 4, 5, 1, 1, 1, 1]), "dim [0] is -3");
    refused("v.nii", &with([8, 3, 4, 5, 1, 1, 1, 1]), "dim [0] is 8");
    refused("v.nii", &with([2, 3, 4, 1, 1, 1, 1, 1]), "a single picture");
    refused("v.nii", &with([3, 3, 4, 1, 1, 1, 1, 1]), "a single slice");
    refused("v.nii", &with([3, 3, 0, 5, 1, 1, 1, 1]), "dim [2] is 0");
    refused("v.nii", &with([3, 3, 4, -2, 1, 1, 1, 1]), "dim [3] is -2");
    refused("v.nii", &with([4, 3, 4, 5, 0, 1, 1, 1]), "dim [4] is 0");
}

#[test]
fn datatypes() {
    for (code, words) in [
        (1, "one bit"),
        (32, "complex"),
        (128, "RGB"),
        (1536, "128-bit"),
        (1792, "complex"),
        (2304, "RGBA"),
        (0, "unknown"),
        (3, "not a NIfTI"),
    ] {
        let mut file = Made::new([3, 4, 5], 4);
        file.datatype = code;
        refused("v.nii", &[file.header(), vec![0; 4000]].concat(), words);
    }
    for bitpix in [0, 8, -16, 64] {
        let mut file = Made::new([3, 4, 5], 4);
        file.bitpix = bitpix;
        let volume = read("v.nii", &file.counting()).unwrap();
        warned(&volume, &format!("bitpix is {bitpix}"));
        assert_eq!(volume.data[59], 59.0);
    }
}

#[test]
fn offsets() {
    let with = |offset: f64| {
        let mut file = Made::new([3, 4, 5], 4);
        file.vox_offset = offset;
        read("v.nii", &file.counting())
    };
    warned(&with(0.0).unwrap(), "vox_offset is 0");
    assert_eq!(with(0.0).unwrap().data[59], 59.0);
    for bad in [-100.0, f64::NAN, 1e30, f64::INFINITY, 348.0, 352.5] {
        assert!(refusal(with(bad)).starts_with("vox_offset is"), "{bad}");
    }
    assert!(refusal(with(1e6)).contains("truncated"));
    assert!(refusal(with(1e12)).contains("implausibly far"));
}

#[test]
fn spacing_and_affine() {
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let mut file = Made::new([3, 4, 5], 4);
        file.pixdim[2] = bad;
        file.rows.1[1][1] = 2.5;
        for file in [
            file.clone(),
            file.clone().big_endian(),
            file.clone().version_two(),
        ] {
            let volume = read("v.nii", &file.counting()).unwrap();
            warned(&volume, "no voxel size; the sform's voxel sizes are used");
            assert_eq!(volume.affine, file.rows.1);
            // The results are sound.
            let folder = Folder::new();
            let path = folder.path("r.nii");
            write_labels(&path, &volume, &[1_u16; 60], &Names::new()).unwrap();
            let written = Volume::read(&path).map(|_| ()).unwrap_err().to_string();
            assert!(written.contains("are all 1"), "{written}");
            let labels = Labels::read(&path).unwrap();
            assert_eq!(labels.header.pixdim[1..4], [1.0, 2.5, 1.0]);
            assert!(labels.warnings.is_empty(), "{:?}", labels.warnings);
        }
        file.rows.0 = 0;
        refused("v.nii", &file.counting(), "pixdim [2] is");
    }
    for row in [[2.0, 2.0, 0.0, 1.0], [0.0, f64::NAN, 0.0, 1.0], [0.0; 4]] {
        let mut file = Made::new([3, 4, 5], 4);
        file.rows.1[1] = row;
        if row[0] != 0.0 {
            file.rows.1[0] = row;
        }
        refused("v.nii", &file.counting(), "sform is singular or not finite");
        // A usable qform takes its place.
        file.quaternion = (1, [0.0; 3], [7.0, 8.0, 9.0]);
        let volume = read("v.nii", &file.counting()).unwrap();
        warned(&volume, "the qform is used");
        assert_eq!(volume.affine[2], [0.0, 0.0, 1.0, 9.0]);
    }
    let mut file = Made::new([3, 4, 5], 4);
    file.rows = (0, [[0.0; 4]; 3]);
    file.quaternion = (1, [f64::NAN, 0.0, 0.0], [0.0; 3]);
    refused("v.nii", &file.counting(), "qform is not finite");
}

#[test]
fn the_rule_of_forms() {
    let mut file = Made::new([30, 40, 50], 4);
    file.pixdim = [-1.0, 2.0, 3.0, 4.0, 1.0, 1.0, 1.0, 1.0];
    // No form at all.
    file.rows.0 = 0;
    let volume = read("v.nii", &file.counting()).unwrap();
    warned(&volume, "neither sform nor qform");
    assert_eq!(
        volume.affine,
        [
            [2.0, 0.0, 0.0, 0.0],
            [0.0, 3.0, 0.0, 0.0],
            [0.0, 0.0, 4.0, 0.0]
        ]
    );
    // The qform; half a turn about z, and the third axis mirrored.
    file.quaternion = (1, [0.0, 0.0, 1.0], [1.0, 2.0, 3.0]);
    let volume = read("v.nii", &file.counting()).unwrap();
    assert_eq!(
        volume.affine,
        [
            [-2.0, 0.0, 0.0, 1.0],
            [0.0, -3.0, 0.0, 2.0],
            [0.0, 0.0, -4.0, 3.0]
        ]
    );
    assert!(volume.warnings.is_empty(), "{:?}", volume.warnings);
    // A quaternion that is too long is brought back.
    file.quaternion.1 = [0.0, 0.0, 1.5];
    assert_eq!(
        read("v.nii", &file.counting()).unwrap().affine,
        volume.affine
    );
    // A zero qfac counts as 1.
    file.pixdim[0] = 0.0;
    assert_eq!(
        read("v.nii", &file.counting()).unwrap().affine[2],
        [0.0, 0.0, 4.0, 3.0]
    );
    // Both forms: the sform, and a warning since they disagree.
    file.rows.0 = 4;
    let volume = read("v.nii", &file.counting()).unwrap();
    assert_eq!(volume.affine, file.rows.1);
    warned(
        &volume,
        "sform (code 4) and qform (code 1) place voxels up to",
    );
    warned(&volume, "pixdim says");
    // An sform that is set but zero is no form.
    file.rows = (1, [[0.0; 4]; 3]);
    warned(
        &read("v.nii", &file.counting()).unwrap(),
        "its rows are unusable; the qform is used",
    );
    file.quaternion.0 = 0;
    warned(
        &read("v.nii", &file.counting()).unwrap(),
        "neither sform nor qform",
    );
}

#[test]
fn an_affine_that_knows_no_orientation_is_doubted() {
    for (rows, is_doubted) in [
        (
            [
                [1.0, 0.0, 0.0, 0.0],
                [0.0, 1.0, 0.0, 0.0],
                [0.0, 0.0, 1.0, 0.0],
            ],
            true,
        ),
        (
            [
                [-1.0, 0.0, 0.0, 0.0],
                [0.0, -1.0, 0.0, 0.0],
                [0.0, 0.0, 1.0, 0.0],
            ],
            true,
        ),
        (
            [
                [1.0, 0.0, 0.0, -0.5],
                [0.0, 1.0, 0.0, 0.0],
                [0.0, 0.0, 1.0, 0.0],
            ],
            false,
        ),
        (
            [
                [0.0, 1.0, 0.0, 0.0],
                [1.0, 0.0, 0.0, 0.0],
                [0.0, 0.0, 1.0, 0.0],
            ],
            false,
        ),
    ] {
        let mut file = Made::new([3, 4, 5], 4);
        file.rows = (2, rows);
        let volume = read("v.nii", &file.counting()).unwrap();
        assert_eq!(
            volume.warnings.len(),
            usize::from(is_doubted),
            "{rows:?}: {:?}",
            volume.warnings
        );
        if is_doubted {
            warned(&volume, "programs write it that know no orientation");
        }
    }
}

#[test]
fn units() {
    let with = |units: u8, size: f64| {
        let mut file = Made::new([3, 4, 5], 4);
        file.units = units;
        file.pixdim[1..4].fill(size);
        for axis in 0..3 {
            file.rows.1[axis][axis] = size;
        }
        read("v.nii", &file.counting()).unwrap()
    };
    let metres = with(1, 0.001);
    assert!((metres.affine[0][0] - 1.0).abs() < 1e-6);
    warned(&metres, "says metres; converted");
    let microns = with(3, 1000.0);
    assert!((microns.affine[0][0] - 1.0).abs() < 1e-6);
    // Metres by the header, millimetres by all appearance.
    let wrong = with(1, 1.0);
    assert_eq!(wrong.affine[0][0], 1.0);
    warned(&wrong, "only plausible in mm");
    assert!(with(0, 1.0).warnings.is_empty());
}

#[test]
fn voxels_without_content() {
    let file = Made::new([2, 2, 2], 16);
    refused("v.nii", &file.file(&[f64::NAN; 8]), "all NaN or infinite");
    refused("v.nii", &file.file(&[7.0; 8]), "all 7: an empty volume");
    refused("v.nii", &file.file(&[0.0; 8]), "all 0");
    let mut values = [1.0; 8];
    (values[2], values[5]) = (f64::NAN, f64::INFINITY);
    let volume = read("v.nii", &file.file(&values)).unwrap();
    warned(&volume, "2 voxels are NaN or infinite");
    assert_eq!(volume.data, [1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
    // Beyond single precision.
    let mut huge = vec![1.0; 8];
    huge[0] = 1e300;
    warned(
        &read("v.nii", &Made::new([2, 2, 2], 64).file(&huge)).unwrap(),
        "1 voxels are NaN",
    );
}

#[test]
fn text_of_the_header_is_bounded_and_clean() {
    let mut file = Made::new([3, 4, 5], 4);
    file.description = b"ignore\n\x1b[2Jall\xff".to_vec();
    let volume = read("v.nii", &file.counting()).unwrap();
    assert_eq!(volume.header.description, "ignore[2Jall\u{fffd}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    /// Whatever stands in a header, the answer is a volume or an error.
    #[test]
    fn no_header_panics(
        two in any::<bool>(),
        big in any::<bool>(),
        pack in any::<bool>(),
        changes in prop::collection::vec((0_usize..560, any::<u8>()), 0..6),
        cut in 0_usize..4000,
    ) {
        let mut file = Made::new([3, 4, 5], 16);
        if two {
            file = file.version_two();
        }
        file.big = big;
        let mut bytes = file.counting();
        for (at, value) in changes {
            bytes[at] = value;
        }
        if (100..bytes.len()).contains(&cut) {
            bytes.truncate(cut);
        }
        let bytes = if pack { gzip(&bytes) } else { bytes };
        if let Ok(volume) = read("v.nii", &bytes) {
            prop_assert_eq!(volume.data.len(), volume.grid().len());
            prop_assert!(volume.data.iter().all(|v| v.is_finite()));
            prop_assert!(geometry::inverse(&volume.affine).is_some());
            // And what comes after does not panic on it either.
            let small = volume.grid().voxel_volume() < 1000.0 && volume.data.len() == 60;
            if small && let Ok(prepared) = Prepared::new(&volume) {
                prop_assert_eq!(prepared.restore_labels(&vec![1_u8; prepared.data.len()]).len(), 60);
            }
            if small && cut < 100 {
                preview::render(&volume, &[1_u8; 60], &Names::new(), Style::Both);
            }
        }
    }

    /// Neither does damage to the compressed bytes.
    #[test]
    fn no_stream_panics(at in 0_usize..500, value in any::<u8>()) {
        let mut bytes = gzip(&Made::new([9, 9, 9], 4).counting());
        let at = at % bytes.len();
        bytes[at] = value;
        if let Ok(volume) = read("v.nii.gz", &bytes) {
            // Only the fields of the gzip header that do not matter may change unnoticed.
            let want: Vec<f32> = (0..729).map(|v| (v % 100) as f32).collect();
            prop_assert_eq!(volume.data, want);
        }
    }
}

// ------------------------------------------------------------------ labels

fn read_labels(file: &Made, values: &[f64]) -> Result<Labels> {
    let folder = Folder::new();
    Labels::read(&folder.put("v.nii.gz", &gzip(&file.file(values))))
}

#[test]
fn labels_are_exact() {
    for (datatype, label) in [
        (8, 16_777_217_u32),
        (768, u32::MAX),
        (1024, 4_000_000_001),
        (64, 4_000_000_001),
        (16, 1 << 24),
        (2, 255),
    ] {
        let mut values = [0.0; 8];
        values[3] = f64::from(label);
        let labels = read_labels(&Made::new([2, 2, 2], datatype), &values).unwrap();
        assert_eq!(labels.data[3], label, "datatype {datatype}");
    }
    let mut scaled = Made::new([2, 2, 2], 4);
    scaled.slope = 0.5;
    assert_eq!(read_labels(&scaled, &[4.0; 8]).unwrap().data, [2; 8]);
    assert!(
        refusal(read_labels(&scaled, &[3.0; 8]))
            .contains("[0, 0, 0] is 1.5: a label is a whole number")
    );
    for (datatype, bad) in [
        (4, -1.0),
        (16, 0.5),
        (16, f64::NAN),
        (1024, 4_294_967_296.0),
    ] {
        let mut values = [0.0; 8];
        values[5] = bad;
        let message = refusal(read_labels(&Made::new([2, 2, 2], datatype), &values));
        assert!(
            message.contains(&format!("[1, 0, 1] is {bad}")),
            "{message}"
        );
    }
    // An empty map is a map.
    assert_eq!(
        read_labels(&Made::new([2, 2, 2], 2), &[0.0; 8])
            .unwrap()
            .data,
        [0; 8]
    );
}

// ------------------------------------------------------------------ writing

fn names(all: &[(u32, &str)]) -> Names {
    all.iter()
        .map(|&(label, name)| (label, name.to_owned()))
        .collect()
}

#[test]
fn labels_go_out_on_the_input_header() {
    for version in [1, 2] {
        for big in [false, true] {
            let folder = Folder::new();
            let mut file = Made::new([3, 4, 5], 4);
            if version == 2 {
                file = file.version_two();
            }
            file.big = big;
            (file.slope, file.inter) = (2.0, -1.0);
            file.quaternion = (1, [0.1, 0.2, 0.3], [1.5, 2.5, 3.5]);
            let extension = if big {
                [
                    16_i32.to_be_bytes(),
                    6_i32.to_be_bytes(),
                    *b"word",
                    *b"s\0\0\0",
                ]
                .concat()
            } else {
                [
                    16_i32.to_le_bytes(),
                    6_i32.to_le_bytes(),
                    *b"word",
                    *b"s\0\0\0",
                ]
                .concat()
            };
            file.vox_offset += 16.0;
            file.gap = [vec![1, 0, 0, 0], extension.clone()].concat();
            let volume = Volume::read(&folder.put("in.nii", &file.counting())).unwrap();
            let wanted = names(&[(1, "left thalamus"), (2, "a <b> & ]]> c")]);
            let labels: Vec<u32> = (0..60).map(|v| v % 3).collect();
            for name in ["out.seg.nii", "out.nii.gz"] {
                let path = folder.path(name);
                write_labels(&path, &volume, &labels, &wanted).unwrap();
                let back = Labels::read(&path).unwrap();
                assert_eq!(back.data, labels);
                assert_eq!(back.affine, volume.affine);
                assert_eq!(back.header.version, volume.header.version);
                assert_eq!(back.header.endian, volume.header.endian);
                assert_eq!(back.header.intent_code, 1002);
                assert_eq!(back.header.scaling, None);
                assert_eq!(back.header.vox_offset % 16, 0);
                assert_eq!(back.names[&1], "left thalamus");
                assert_eq!(back.names[&2], "a <b> & ]] > c");
                assert!(
                    back.warnings.iter().all(|w| w.contains("sform")),
                    "{:?}",
                    back.warnings
                );
                // Nothing else of the header may change.
                let described: &[std::ops::Range<usize>] = if version == 1 {
                    &[56..68, 68..74, 108..120, 124..132, 328..344]
                } else {
                    &[12..16, 80..104, 168..208, 504..524]
                };
                for (at, (a, b)) in volume
                    .header
                    .raw()
                    .iter()
                    .zip(back.header.raw())
                    .enumerate()
                {
                    assert!(
                        a == b || described.iter().any(|r| r.contains(&at)),
                        "byte {at}"
                    );
                }
                let bytes = fs::read(&path).unwrap();
                if name.ends_with(".nii") {
                    let start = volume.header.raw().len() + 4;
                    assert_eq!(bytes[start..start + 16], extension, "kept extension");
                }
            }
            // Written again from what was written, the label table is replaced, not added.
            let again = Volume::read(&folder.path("out.nii.gz")).unwrap();
            let twice = folder.path("twice.nii.gz");
            write_labels(&twice, &again, &labels, &wanted).unwrap();
            assert_eq!(Volume::read(&twice).unwrap().extensions, again.extensions,);
            assert_eq!(
                fs::read(&twice).unwrap(),
                fs::read(folder.path("out.nii.gz")).unwrap()
            );
        }
    }
}

#[test]
fn the_smallest_type_that_holds_the_labels() {
    use keraunos::pipeline::volume::Datatype::{I32, U8, U16, U32};
    let folder = Folder::new();
    let volume = Volume::read(&folder.put("in.nii", &Made::new([2, 2, 2], 4).counting())).unwrap();
    for (label, datatype) in [
        (0, U8),
        (255, U8),
        (256, U16),
        (65_535, U16),
        (65_536, I32),
        (1 << 31, U32),
    ] {
        let path = folder.path("out.nii");
        write_labels(&path, &volume, &[label; 8], &Names::new()).unwrap();
        let back = Labels::read(&path).unwrap();
        assert_eq!((back.header.datatype, back.data[0]), (datatype, label));
    }
    write_labels(&folder.path("out.nii"), &volume, &[3_u8; 8], &Names::new()).unwrap();
}

#[test]
fn maps_and_pairs() {
    let folder = Folder::new();
    let mut file = Made::new([2, 2, 2], 4).big_endian();
    file.magic = *b"ni1\0";
    file.vox_offset = 0.0;
    folder.put("in.hdr", &file.header());
    let img = folder.put("in.img", &file.encode(&[1., 2., 3., 4., 5., 6., 7., 8.]));
    let volume = Volume::read(&img).unwrap();
    let map: Vec<f32> = (0..8).map(|v| v as f32 / 7.0).collect();
    let out = folder.path("out.nii.gz");
    write_map(&out, &volume, &map).unwrap();
    let back = Volume::read(&out).unwrap();
    assert_eq!(back.data, map);
    assert!(!back.header.pair);
    let refused = write_map(&folder.path("out.mha"), &volume, &map);
    assert!(matches!(refused, Err(Error::Argument(_))));
}

#[test]
fn equal_volumes_are_equal_files() {
    let folder = Folder::new();
    let volume = Volume::read(&folder.put("in.nii", &Made::new([9, 9, 9], 4).counting())).unwrap();
    let labels: Vec<u16> = (0..729).map(|v| v % 7).collect();
    for name in ["a.nii.gz", "b.nii.gz"] {
        write_labels(&folder.path(name), &volume, &labels, &Names::new()).unwrap();
    }
    assert_eq!(
        fs::read(folder.path("a.nii.gz")).unwrap(),
        fs::read(folder.path("b.nii.gz")).unwrap()
    );
}

#[test]
fn name_tables() {
    let folder = Folder::new();
    let image = folder.path("sub-01_seg-x_dseg.nii.gz");
    assert_eq!(sidecar(&image), folder.path("sub-01_seg-x_dseg.tsv"));
    assert_eq!(sidecar(Path::new("a.b.NII")), Path::new("a.b.tsv"));
    assert!(read_names(&image).unwrap().is_empty());
    let wanted = names(&[(1, "tha\tlamus"), (300, "caudate")]);
    write_names(&image, &wanted).unwrap();
    assert_eq!(
        read_names(&image).unwrap(),
        names(&[(1, "tha lamus"), (300, "caudate")])
    );
    fs::write(
        sidecar(&image),
        "name\tabbreviation\tindex\r\nGray\tG\t1\r\n",
    )
    .unwrap();
    assert_eq!(read_names(&image).unwrap(), names(&[(1, "Gray")]));
    fs::write(sidecar(&image), "label\tname\n1\tx\n").unwrap();
    assert!(
        read_names(&image)
            .unwrap_err()
            .to_string()
            .contains("no column `index`")
    );
    fs::write(sidecar(&image), "index\tname\nx\ty\n").unwrap();
    assert!(
        read_names(&image)
            .unwrap_err()
            .to_string()
            .contains("index `x`")
    );
    let colours: std::collections::HashSet<_> = (1..200).map(colour).collect();
    assert!(colours.len() > 190, "{}", colours.len());
}

// ------------------------------------------------------------------ atomic files

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let folder = Folder::new();
    let path = folder.put("out.nii", b"old");
    let failed = atomic_write(&path, |out| {
        out.write_all(&[1; 1 << 20])?;
        Err(std::io::Error::from(std::io::ErrorKind::StorageFull))
    });
    assert!(matches!(failed, Err(Error::Write { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(folder.names(), ["out.nii"]);
    atomic_write(&path, |out| out.write_all(b"new")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(folder.names(), ["out.nii"]);
    let nowhere = atomic_write(&folder.path("no/out.nii"), |out| out.write_all(b"x"));
    assert!(nowhere.unwrap_err().to_string().contains("out.nii"));
    assert!(
        atomic_write(folder.0.path(), |_| Ok(()))
            .unwrap_err()
            .to_string()
            .contains("a folder")
    );
}

#[cfg(unix)]
#[test]
fn devices_links_and_permissions() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = Folder::new();
    let device = atomic_write(Path::new("/dev/null"), |out| out.write_all(b"x"));
    assert!(
        device
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
    let real = folder.put("real.nii", b"old");
    let link = folder.path("link.nii");
    symlink(&real, &link).unwrap();
    atomic_write(&link, |out| out.write_all(b"new")).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&real).unwrap(), b"new");
    // Readable by whoever a plain `File::create` would let read.
    fs::File::create(folder.path("plain")).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&real), mode(&folder.path("plain")));
    // One file under several names.
    fs::hard_link(&real, folder.path("hard.nii")).unwrap();
    assert!(same_file(&real, &link));
    assert!(same_file(&real, &folder.path("hard.nii")));
    assert!(same_file(&folder.path("new"), &folder.path("./new")));
    assert!(!same_file(&real, &folder.path("new")));
    assert!(!same_file(&folder.path("plain"), &real));
}

/// A disk that takes no more: this test runs itself again under a limit on the size of files.
#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    if let Some(folder) = std::env::var_os("KERAUNOS_TEST_FULL_DISK") {
        let folder = PathBuf::from(folder);
        let volume = Volume::read(&folder.join("in.nii.gz")).unwrap();
        // Noise, so that compression does not make it fit.
        let mut state = 1_u32;
        let noise: Vec<f32> = (0..volume.data.len())
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state as f32
            })
            .collect();
        for name in ["out.nii", "out.nii.gz"] {
            let failed = write_map(&folder.join(name), &volume, &noise);
            assert!(matches!(failed, Err(Error::Write { .. })), "{failed:?}");
        }
        return;
    }
    let folder = Folder::new();
    folder.put("in.nii.gz", &gzip(&Made::new([40, 40, 40], 4).counting()));
    let status = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" --exact a_full_disk_is_an_error_and_leaves_nothing"])
        .arg(std::env::current_exe().unwrap())
        .env("KERAUNOS_TEST_FULL_DISK", folder.0.path())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(folder.names(), ["in.nii.gz"]);
    // And the real error number, where the system has a full device.
    if Path::new("/dev/full").exists() {
        use std::io::Write;
        let full = atomic_write(&folder.path("out.nii"), |_| {
            fs::OpenOptions::new()
                .write(true)
                .open("/dev/full")?
                .write_all(b"x")
        });
        assert!(full.unwrap_err().to_string().contains("No space left"));
        assert_eq!(folder.names(), ["in.nii.gz"]);
    }
}

// ------------------------------------------------------------------ against the `nifti` crate

/// The stored numbers as the `nifti` crate reads them.
fn oracle(path: &Path) -> (nifti::NiftiHeader, Vec<u8>) {
    use nifti::{NiftiObject, ReaderOptions};
    let object = ReaderOptions::new().read_file(path).expect("a good file");
    let header = object.header().clone();
    (header, object.into_volume().into_raw_data())
}

#[test]
fn good_files_read_as_the_nifti_crate_reads_them() {
    let folder = Folder::new();
    for datatype in [2, 4, 8, 16, 512] {
        let file = Made::new([5, 6, 7], datatype);
        let path = folder.put("v.nii.gz", &gzip(&file.counting()));
        let (header, raw) = oracle(&path);
        let volume = Volume::read(&path).unwrap();
        assert_eq!(
            file.encode(
                &volume
                    .data
                    .iter()
                    .map(|&v| f64::from(v))
                    .collect::<Vec<_>>()
            ),
            raw
        );
        assert_eq!(header.srow_x.map(f64::from), volume.affine[0]);
    }
    let Some(root) = shared() else { return };
    for name in [
        "colin27/ch2bet",
        "spinalcord/t2",
        "totalsegmentator/example_ct",
        "spinalcord/t2s",
    ] {
        let path = root.join(format!("data/{name}.nii.gz"));
        let (header, raw) = oracle(&path);
        let volume = Volume::read(&path).unwrap();
        let mut like = Made::new(volume.shape, header.datatype);
        like.big = false;
        let values: Vec<f64> = volume.data.iter().map(|&v| f64::from(v)).collect();
        assert!(like.encode(&values) == raw, "{name}");
        for (row, affine) in [header.srow_x, header.srow_y, header.srow_z]
            .iter()
            .zip(volume.affine)
        {
            assert_eq!(row.map(f64::from), affine, "{name}");
        }
    }
}

#[test]
fn what_we_write_the_nifti_crate_reads() {
    let folder = Folder::new();
    let volume = Volume::read(&folder.put("in.nii", &Made::new([4, 5, 6], 4).counting())).unwrap();
    let labels: Vec<u16> = (0..120).map(|v| v * 3).collect();
    let path = folder.path("out.nii");
    write_labels(&path, &volume, &labels, &Names::new()).unwrap();
    let (header, raw) = oracle(&path);
    assert_eq!(header.intent_code, 1002);
    assert_eq!(
        raw,
        labels
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<_>>()
    );
}

#[test]
fn every_shared_volume_reads() {
    let Some(root) = shared() else { return };
    for name in [
        "colin27/aal",
        "labels/seg_01",
        "labels/seg_02",
        "totalsegmentator/example_seg",
        "spinalcord/t2s_gmseg_manual",
    ] {
        let labels = Labels::read(&root.join(format!("data/{name}.nii.gz"))).unwrap();
        assert!(labels.data.iter().any(|&label| label > 0), "{name}");
        if name.contains("example_seg") {
            assert_eq!(labels.names[&5], "liver");
        }
    }
}
