//! Files that must be refused, and damage by chance, on which nothing may panic.

use keraunos::pipeline::geometry;
use keraunos::pipeline::prepare::Prepared;
use keraunos::pipeline::preview::{self, Style};
use proptest::prelude::*;

use super::*;

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
