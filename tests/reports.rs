//! What is said about a result: measurements, agreement with a truth, and the preview.

use std::path::{Path, PathBuf};

use keraunos::error::Error;
use keraunos::pipeline::evaluate::{evaluate, evaluate_files};
use keraunos::pipeline::geometry::{Grid, IDENTITY};
use keraunos::pipeline::preview;
use keraunos::pipeline::statistics::measure;
use keraunos::pipeline::volume::{Labels, Names, Volume, sidecar};

#[path = "support/nifti.rs"]
mod made;
use made::Made;

fn names(all: &[(u32, &str)]) -> Names {
    all.iter()
        .map(|&(label, name)| (label, name.to_owned()))
        .collect()
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

// ------------------------------------------------------------------ statistics

#[test]
fn structures_are_measured() {
    let mut affine = IDENTITY;
    affine[0][0] = -2.0;
    affine[2][2] = 5.0;
    let grid = Grid {
        shape: [4, 4, 4],
        affine,
    };
    let mut labels = [0_u8; 64];
    let intensities: Vec<f32> = (0..64).map(|v| v as f32).collect();
    let middle = |x: usize, y: usize, z: usize| x + 4 * (y + 4 * z);
    // Two voxels inside, three at the border, and a name without a voxel.
    labels[middle(1, 1, 1)] = 1;
    labels[middle(2, 2, 2)] = 1;
    for x in 0..3 {
        labels[middle(x, 0, 0)] = 7;
    }
    let found = measure(
        &labels,
        &intensities,
        &grid,
        &names(&[(0, "air"), (1, "one"), (3, "none")]),
    );
    assert_eq!(found.len(), 3);
    let [one, none, seven] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((one.label, &*one.name, one.voxels), (1, "one", 2));
    assert_eq!(one.volume_ml, Some(0.02));
    assert_eq!((one.mean, one.median), (Some(31.5), Some(31.5)));
    assert!(!one.touches_border);
    assert_eq!(
        (none.voxels, none.volume_ml, none.mean, none.median),
        (0, None, None, None)
    );
    assert_eq!(
        (&*seven.name, seven.mean, seven.median),
        ("label 7", Some(1.0), Some(1.0))
    );
    assert!(seven.touches_border);
    let json = serde_json::to_value(&found).unwrap();
    assert!(json[1]["volume_ml"].is_null());
    assert_eq!(json[0]["median"], 31.5);
}

// ------------------------------------------------------------------ evaluation

#[test]
fn dice_and_iou() {
    let truth = [1_u8, 1, 1, 0, 2, 0, 0, 3];
    let found = [1_u32, 1, 0, 1, 0, 4, 0, 3];
    let result = evaluate(&found, &truth, &names(&[(1, "one"), (9, "nowhere")]));
    let of = |label: u32| result.labels.iter().find(|l| l.label == label).unwrap();
    assert_eq!((of(1).dice, of(1).iou), (Some(4.0 / 6.0), Some(0.5)));
    assert_eq!((of(2).dice, of(2).iou), (Some(0.0), Some(0.0)));
    assert_eq!((of(3).dice, of(3).iou), (Some(1.0), Some(1.0)));
    assert_eq!((of(4).dice, of(4).iou), (Some(0.0), Some(0.0)));
    assert_eq!((of(9).dice, of(9).iou), (None, None));
    assert_eq!((of(1).predicted_voxels, of(1).true_voxels), (3, 3));
    assert_eq!(result.left_out, 1);
    assert_eq!(result.mean_dice, Some((4.0 / 6.0 + 1.0) / 4.0));
    assert_eq!(result.mean_iou, Some(1.5 / 4.0));
    let table = result.to_string();
    assert!(table.contains("nowhere         -       -"), "{table}");
    assert!(table.contains("over 4 of 5 labels"), "{table}");
    assert!(serde_json::to_value(&result).unwrap()["labels"][4]["dice"].is_null());
    let empty = evaluate(&[0_u8; 4], &[0_u8; 4], &Names::new());
    assert_eq!((empty.mean_dice, empty.labels.len()), (None, 0));
}

#[test]
fn files_must_share_a_grid() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, file: &Made| {
        let path = folder.path().join(name);
        std::fs::write(&path, file.counting()).unwrap();
        path
    };
    let base = Made::new([4, 4, 4], 4);
    let a = put("a.nii", &base);
    let mut near = base.clone();
    near.rows.1[0][3] += 5e-4;
    let b = put("b.nii", &near);
    std::fs::write(sidecar(&b), "index\tname\n5\tfive\n").unwrap();
    let result = evaluate_files(&a, &b).unwrap();
    assert_eq!(result.mean_dice, Some(1.0));
    assert_eq!(result.labels[4].name, "five");
    let mut far = base.clone();
    far.rows.1[0][3] += 2.0;
    let error = evaluate_files(&a, &put("c.nii", &far)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Volume {
                field: "affine",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("up to 2.000 mm"), "{error}");
    let error = evaluate_files(&a, &put("d.nii", &Made::new([4, 4, 5], 4))).unwrap_err();
    assert!(
        matches!(error, Error::Volume { field: "shape", .. }),
        "{error}"
    );
}

// ------------------------------------------------------------------ preview

#[test]
fn previews_of_a_small_volume() {
    let folder = tempfile::tempdir().unwrap();
    // Flat voxels, left-handed, and nearly nothing to see.
    for (shape, size) in [([6, 9, 4], 3.0), ([2, 2, 2], 0.1), ([40, 3, 90], 1.0)] {
        let mut file = Made::new(shape, 4);
        file.pixdim[3] = size;
        file.rows.1[2][2] = size;
        file.rows.1[0][0] = -1.0;
        let path = folder.path().join("in.nii");
        std::fs::write(&path, file.counting()).unwrap();
        let volume = Volume::read(&path).unwrap();
        let labels: Vec<u8> = (0..volume.data.len())
            .map(|v| u8::from(v % 3 == 0))
            .collect();
        let out = folder.path().join("out_preview.png");
        let long = "a very long name of a structure ".repeat(9);
        preview::write_preview(&out, &volume, &labels, &names(&[(1, &long)])).unwrap();
        let picture = image::open(&out).unwrap().to_rgb8();
        assert_eq!(
            picture,
            preview::render(&volume, &labels, &names(&[(1, &long)]))
        );
        assert!(picture.width() < 2000 && picture.height() < 2000);
        preview::render(&volume, &vec![0_u8; labels.len()], &Names::new());
    }
}

#[test]
fn previews_of_real_volumes() {
    let Some(root) = shared() else { return };
    let data = root.join("data");
    // Kept where a person asks to look at them.
    let keep = std::env::var_os("KERAUNOS_PREVIEWS").map(PathBuf::from);
    for (image, labels) in [
        ("colin27/ch2", "colin27/aal"),
        (
            "totalsegmentator/example_ct",
            "totalsegmentator/example_seg_fast_force_split",
        ),
        ("spinalcord/t2s", "spinalcord/t2s_gmseg_manual"),
    ] {
        let volume = Volume::read(&data.join(format!("{image}.nii.gz"))).unwrap();
        let labels = Labels::read(&data.join(format!("{labels}.nii.gz"))).unwrap();
        let picture = preview::render(&volume, &labels.data, &labels.names);
        let coloured = picture
            .pixels()
            .filter(|p| p.0[0].abs_diff(p.0[1]) > 40)
            .count();
        assert!(coloured > 500, "{image}: {coloured}");
        if let Some(folder) = &keep {
            let name = image.replace('/', "_");
            picture
                .save(folder.join(format!("{name}_preview.png")))
                .unwrap();
        }
        if image == "colin27/ch2" {
            // Few structures, as in a common request.
            let some = [
                (37, "left hippocampus"),
                (38, "right hippocampus"),
                (71, "left caudate"),
                (72, "right caudate"),
                (73, "left putamen"),
                (74, "right putamen"),
                (77, "left thalamus"),
                (78, "right thalamus"),
            ];
            let wanted: Vec<u32> = labels
                .data
                .iter()
                .map(|label| {
                    some.iter()
                        .position(|s| s.0 == *label)
                        .map_or(0, |at| at as u32 + 1)
                })
                .collect();
            let titled: Names = some
                .iter()
                .zip(1..)
                .map(|(s, label)| (label, s.1.to_owned()))
                .collect();
            let picture = preview::render(&volume, &wanted, &titled);
            if let Some(folder) = &keep {
                picture.save(folder.join("few_preview.png")).unwrap();
            }
        }
    }
}
