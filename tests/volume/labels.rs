//! Label maps and their names, read and written, and maps of numbers.

use keraunos::pipeline::volume::{colour, read_names, sidecar, write_map, write_names};

use super::*;

fn read_labels(file: &Made, values: &[f64]) -> Result<Labels> {
    let folder = Folder::new();
    Labels::read(&folder.put("v.nii.gz", &gzip(&file.file(values))))
}

fn names(all: &[(u32, &str)]) -> Names {
    all.iter()
        .map(|&(label, name)| (label, name.to_owned()))
        .collect()
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
