//! Where voxels lie: spacing, sform, qform and units.

use super::*;

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
