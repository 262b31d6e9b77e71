//! Files that are read: every datatype, byte order, version and packing.

use keraunos::pipeline::volume::Version;

use super::*;

const TYPES: [i16; 10] = [2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280];

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
