//! Grids, orientations, and the way from a volume to a model's input and back; goldens from
//! nibabel, numpy and scipy (`goldens/volume.py`).

use std::path::{Path, PathBuf};

use approx::assert_abs_diff_eq;
use keraunos::error::Error;
use keraunos::pipeline::Input;
use keraunos::pipeline::geometry::{
    self, Affine, Grid, IDENTITY, Orientation, apply, compose, inverse, reorient, resample,
    resample_labels, resample_nearest, restore, restore_part,
};
use keraunos::pipeline::inputs::load;
use keraunos::pipeline::modality::{Modality, estimate, look_exchanged};
use keraunos::pipeline::prepare::{Fit, Prepared, SIZE, View, normalise, percentile};
use keraunos::pipeline::volume::{Names, Volume, write_labels};
use proptest::prelude::*;
use serde_json::Value;

#[path = "support/shared.rs"]
mod shared;
use shared::shared;
#[path = "support/nifti.rs"]
mod made;
use made::{Made, gzip};

fn goldens() -> Value {
    serde_json::from_str(include_str!("goldens/volume.json")).expect("goldens/volume.json")
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| v.as_f64().expect("a number"))
        .collect()
}

fn triple(value: &Value) -> [usize; 3] {
    let all = numbers(value);
    [all[0] as usize, all[1] as usize, all[2] as usize]
}

fn affine(value: &Value) -> Affine {
    std::array::from_fn(|r| {
        let row = numbers(&value[r]);
        [row[0], row[1], row[2], row[3]]
    })
}

fn open(root: &Path, name: &str) -> Volume {
    Volume::read(&root.join("data").join(name)).expect(name)
}

/// A volume of `shape` in memory, by way of a file.
fn volume(shape: [usize; 3], rows: Affine, values: &[f64]) -> Volume {
    let mut file = Made::new(shape, 64).version_two();
    file.rows = (1, rows);
    for (axis, size) in geometry::voxel_sizes(&rows).into_iter().enumerate() {
        file.pixdim[axis + 1] = size;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.nii.gz");
    std::fs::write(&path, gzip(&file.file(values))).unwrap();
    Volume::read(&path).unwrap()
}

/// The affine of an orientation with these voxel sizes and this origin.
fn oriented(orientation: Orientation, sizes: [f64; 3], origin: [f64; 3]) -> Affine {
    let mut affine = [[0.0; 4]; 3];
    for axis in 0..3 {
        let sign = if orientation.flips[axis] { -1.0 } else { 1.0 };
        affine[orientation.axes[axis]][axis] = sign * sizes[axis];
        affine[axis][3] = origin[axis];
    }
    affine
}

// ------------------------------------------------------------------ affines and orientations

#[test]
fn orientations_are_nibabels() {
    for golden in goldens()["orientations"].as_array().unwrap() {
        let grid = Grid {
            shape: triple(&golden["shape"]),
            affine: affine(&golden["affine"]),
        };
        assert_eq!(
            grid.orientation().letters(),
            golden["letters"].as_str().unwrap()
        );
        let canonical = grid.canonical();
        assert_eq!(canonical.shape, triple(&golden["canonical_shape"]));
        let want = affine(&golden["canonical"]);
        for (row, want) in canonical.affine.iter().flatten().zip(want.iter().flatten()) {
            assert_abs_diff_eq!(row, want, epsilon = 1e-9);
        }
    }
}

#[test]
fn all_48_orientations() {
    let all: Vec<_> = Orientation::all().collect();
    let names: std::collections::BTreeSet<_> = all.iter().map(Orientation::letters).collect();
    assert_eq!((all.len(), names.len()), (48, 48));
    for orientation in all {
        let grid = Grid {
            shape: [3, 4, 5],
            affine: oriented(orientation, [1.0, 2.0, 3.0], [7.0; 3]),
        };
        assert_eq!(grid.orientation(), orientation);
        assert_eq!(grid.canonical().orientation().letters(), "RAS");
        assert!(grid.canonical().is_right_handed());
        let data: Vec<u32> = (0..60).collect();
        let moved = reorient(&data, grid.shape, orientation);
        assert_eq!(restore(&moved, grid.shape, orientation), data);
        // A part of it: the rest is outside.
        let canonical = grid.canonical();
        let (offset, part) = ([1, 0, 2], canonical.shape.map(|n| n - 2));
        let inside = |i: usize| {
            let [nx, ny, _] = canonical.shape;
            let at = [i % nx, i / nx % ny, i / (nx * ny)];
            (0..3).all(|axis| (offset[axis]..offset[axis] + part[axis]).contains(&at[axis]))
        };
        let cut: Vec<u32> = (0..60).filter(|i| inside(*i)).map(|i| moved[i]).collect();
        let rest: Vec<u32> = (0..60)
            .map(|i| if inside(i) { moved[i] } else { 99 })
            .collect();
        let back = restore_part(&cut, offset, part, grid.shape, orientation, 99);
        assert_eq!(back, restore(&rest, grid.shape, orientation));
        // The same value at the same place in space.
        assert_eq!(resample_nearest(&data, &grid, &canonical, 99), moved);
        assert_eq!(resample_labels(&data, &grid, &canonical, 99), moved);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn affines_invert(
        m in prop::array::uniform9(-3.0_f64..3.0),
        t in prop::array::uniform3(-200.0_f64..200.0),
        p in prop::array::uniform3(-50.0_f64..50.0),
    ) {
        let affine: Affine = std::array::from_fn(|r| [m[3 * r], m[3 * r + 1], m[3 * r + 2], t[r]]);
        let size: f64 = geometry::voxel_sizes(&affine).iter().product();
        prop_assume!(geometry::determinant(&affine).abs() > 0.02 * size && size > 0.01);
        let back = inverse(&affine).unwrap();
        let same = apply(&back, apply(&affine, p));
        for axis in 0..3 {
            prop_assert!((same[axis] - p[axis]).abs() < 1e-8, "{same:?} {p:?}");
        }
        let one = compose(&affine, &back);
        for (a, b) in one.iter().flatten().zip(IDENTITY.iter().flatten()) {
            prop_assert!((a - b).abs() < 1e-8);
        }
    }

    #[test]
    fn canonical_grids_hold_the_same_voxels(
        m in prop::array::uniform9(-3.0_f64..3.0),
        shape in prop::array::uniform3(1_usize..6),
    ) {
        let affine: Affine = std::array::from_fn(|r| [m[3 * r], m[3 * r + 1], m[3 * r + 2], 5.0]);
        let size: f64 = geometry::voxel_sizes(&affine).iter().product();
        prop_assume!(geometry::determinant(&affine).abs() > 0.05 * size && size > 0.01);
        let grid = Grid { shape, affine };
        let data: Vec<u32> = (0..grid.len() as u32).collect();
        let moved = reorient(&data, shape, grid.orientation());
        let canonical = grid.canonical();
        prop_assert_eq!(canonical.canonical(), canonical.clone());
        prop_assert_eq!(restore(&moved, shape, grid.orientation()), data.clone());
        prop_assert_eq!(resample_nearest(&moved, &canonical, &grid, u32::MAX), data);
        prop_assert!((grid.overlap(&canonical) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn slices_fit_and_come_back(rows in 1_usize..300, cols in 1_usize..300) {
        let slice: Vec<f32> = (0..rows * cols).map(|v| v as f32 + 1.0).collect();
        let fit = Fit::new(rows, cols);
        let square = fit.fit(&slice);
        let back = fit.unfit(&square, -1.0);
        let shown = back.iter().filter(|&&v| v >= 0.0).count();
        prop_assert_eq!(shown, rows.min(SIZE) * cols.min(SIZE));
        prop_assert!(back.iter().zip(&slice).all(|(b, s)| b == s || *b == -1.0));
    }
}

#[test]
fn singular_affines_have_no_inverse() {
    assert!(
        inverse(&[
            [1.0, 2.0, 0.0, 0.0],
            [2.0, 4.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, 0.0]
        ])
        .is_none()
    );
    assert!(inverse(&[[f64::NAN; 4]; 3]).is_none());
    assert!(inverse(&[[0.0; 4]; 3]).is_none());
}

// ------------------------------------------------------------------ resampling

#[test]
fn a_linear_ramp_survives_any_grid() {
    let from = Grid {
        shape: [12, 14, 16],
        affine: oriented(
            Orientation {
                axes: [2, 0, 1],
                flips: [true, false, true],
            },
            [1.5, 2.0, 1.0],
            [10.0, -4.0, 3.0],
        ),
    };
    let field = |[x, y, z]: [f64; 3]| (2.0 * x - 3.0 * y + 0.5 * z + 7.0) as f32;
    let voxel = |grid: &Grid, i: usize| {
        let [nx, ny, _] = grid.shape;
        apply(
            &grid.affine,
            [i % nx, i / nx % ny, i / (nx * ny)].map(|v| v as f64),
        )
    };
    let data: Vec<f32> = (0..from.len()).map(|i| field(voxel(&from, i))).collect();
    // Rotated by 30° about z, inside the source.
    let middle = apply(&from.affine, [5.5, 6.5, 7.5]);
    let (s, c) = 30_f64.to_radians().sin_cos();
    let to = Grid {
        shape: [6, 6, 6],
        affine: [
            [c, -s, 0.0, middle[0]],
            [s, c, 0.0, middle[1]],
            [0.0, 0.0, 1.0, middle[2]],
        ],
    };
    let moved = resample(&data, &from, &to, f32::NAN);
    for (i, value) in moved.iter().enumerate() {
        let place = voxel(&to, i);
        let inside = apply(&inverse(&from.affine).unwrap(), place);
        let centred = (0..3).all(|a| (0.0..=from.shape[a] as f64 - 1.0).contains(&inside[a]));
        if centred {
            assert_abs_diff_eq!(*value, field(place), epsilon = 1e-4);
        }
    }
}

#[test]
fn beyond_the_field_of_view() {
    let from = Grid {
        shape: [2, 2, 2],
        affine: IDENTITY,
    };
    let mut to = Grid {
        shape: [7, 1, 1],
        affine: IDENTITY,
    };
    to.affine[0] = [0.5, 0.0, 0.0, -1.0];
    let data = [1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0];
    assert_eq!(
        resample(&data, &from, &to, -9.0),
        [-9.0, 1.0, 1.0, 2.0, 3.0, 3.0, -9.0]
    );
    let nearest = resample_nearest(&[1, 3, 1, 3, 1, 3, 1, 3], &from, &to, 9);
    assert_eq!(nearest, [9, 1, 1, 3, 3, 3, 9]);
}

#[test]
fn shrinking_does_not_alias() {
    // A checkerboard of single voxels is grey from afar.
    let from = Grid {
        shape: [32; 3],
        affine: IDENTITY,
    };
    let data: Vec<f32> = (0..from.len())
        .map(|i| ((i % 32 + i / 32 % 32 + i / 1024) % 2) as f32)
        .collect();
    let to = from.with_spacing([4.0; 3]);
    assert_eq!(to.shape, [8; 3]);
    for value in resample(&data, &from, &to, 0.0) {
        assert_abs_diff_eq!(value, 0.5, epsilon = 0.02);
    }
    // And a constant stays what it is.
    assert!(
        resample(&[3.0; 32768], &from, &to, 0.0)
            .iter()
            .all(|v| (v - 3.0).abs() < 1e-6)
    );
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let from = Grid {
        shape: [40, 30, 20],
        affine: IDENTITY,
    };
    let data: Vec<f32> = (0..from.len())
        .map(|i| ((i * 7919) % 1009) as f32 * 0.37)
        .collect();
    for to in [
        from.with_spacing([0.7, 1.3, 0.9]),
        from.with_spacing([2.1, 3.3, 1.7]),
    ] {
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let values = pool.install(|| resample(&data, &from, &to, 0.0));
            values.iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        };
        assert_eq!(with(1), with(5));
    }
}

#[test]
fn spacing_keeps_the_centre() {
    let grid = Grid {
        shape: [10, 11, 7],
        affine: oriented(
            Orientation {
                axes: [1, 0, 2],
                flips: [true, false, false],
            },
            [0.9, 3.0, 2.5],
            [1.0, 2.0, 3.0],
        ),
    };
    let fine = grid.with_spacing([1.0; 3]);
    assert_eq!(fine.shape, [9, 33, 18]);
    let centre = |g: &Grid| apply(&g.affine, g.shape.map(|n| (n as f64 - 1.0) / 2.0));
    for (a, b) in centre(&grid).into_iter().zip(centre(&fine)) {
        assert_abs_diff_eq!(a, b, epsilon = 1e-9);
    }
    for size in fine.voxel_sizes() {
        assert_abs_diff_eq!(size, 1.0, epsilon = 1e-12);
    }
}

#[test]
fn overlap_is_a_share_of_the_first() {
    let a = Grid {
        shape: [10; 3],
        affine: IDENTITY,
    };
    let mut b = a.clone();
    assert_eq!(a.overlap(&b), 1.0);
    b.affine[0][3] = 5.0;
    assert_abs_diff_eq!(a.overlap(&b), 0.5, epsilon = 0.03);
    b.affine[0][3] = 100.0;
    assert_eq!(a.overlap(&b), 0.0);
    let half = Grid {
        shape: [10, 10, 5],
        affine: IDENTITY,
    };
    assert_eq!(half.overlap(&a), 1.0);
}

// ------------------------------------------------------------------ preparing

#[test]
fn percentiles_are_numpys() {
    for golden in goldens()["percentiles"].as_array().unwrap() {
        let values: Vec<f32> = numbers(&golden["values"])
            .iter()
            .map(|&v| v as f32)
            .collect();
        for pair in golden["at"].as_array().unwrap() {
            let at = numbers(pair);
            let found = percentile(&mut values.clone(), at[0] as f32).unwrap();
            assert_eq!(found, at[1] as f32, "{} of {}", at[0], values.len());
        }
    }
    assert_eq!(percentile(&mut [], 50.0), None);
}

#[test]
fn normalisation_of_odd_images() {
    let mut flat = [7.0; 4];
    normalise(&mut flat);
    assert_eq!(flat, [0.0; 4]);
    normalise(&mut []);
    let mut ramp: Vec<f32> = (0..1001).map(|v| v as f32).collect();
    normalise(&mut ramp);
    assert_eq!((ramp[5], ramp[0], ramp[1000]), (0.0, 0.0, 1.0));
    assert_abs_diff_eq!(ramp[500], 0.5, epsilon = 1e-6);
}

#[test]
fn real_volumes_are_prepared_as_the_reference_does() {
    let Some(root) = shared() else { return };
    for golden in goldens()["volumes"].as_array().unwrap() {
        let name = golden["file"].as_str().unwrap();
        let volume = open(&root, name);
        assert_eq!(
            volume.grid().orientation().letters(),
            golden["letters"].as_str().unwrap()
        );
        let prepared = Prepared::new(&volume).unwrap();
        assert_eq!(
            prepared.is_resampled(),
            golden["resampled"].as_bool().unwrap(),
            "{name}"
        );
        if !prepared.is_resampled() {
            assert_eq!(prepared.grid.shape, triple(&golden["cropped"]), "{name}");
            assert_eq!(prepared.offset, triple(&golden["offset"]), "{name}");
        }
        for view in View::ALL {
            let want = &golden["slices"][view.name()];
            let index = want["index"].as_u64().unwrap() as usize;
            let image = prepared.input(view, index);
            let sum = |weight: &dyn Fn(usize) -> usize| -> f64 {
                image
                    .iter()
                    .enumerate()
                    .map(|(i, &v)| f64::from(v) * weight(i) as f64)
                    .sum()
            };
            let sums = [
                ("sum", sum(&|_| 1)),
                ("down", sum(&|i| i / SIZE)),
                ("across", sum(&|i| i % SIZE)),
            ];
            // Our 1 mm grid is exact where scipy's is stretched; the pictures are the same.
            let tolerance = if prepared.is_resampled() { 0.03 } else { 1e-6 };
            for (what, found) in sums {
                let want = want[what].as_f64().unwrap();
                let off = (found / want - 1.0).abs();
                assert!(
                    off < tolerance,
                    "{name} {} {what}: {found} for {want}",
                    view.name()
                );
            }
        }
        if let Some(samples) = golden.get("samples") {
            // Uncropped, interpolated on the same grid.
            let canonical = volume.grid().canonical();
            let data = reorient(&volume.data, volume.shape, volume.grid().orientation());
            let fine = canonical.with_spacing([1.0; 3]);
            assert_eq!(fine.shape, triple(&golden["shape"]), "{name}");
            let values = resample(&data, &canonical, &fine, 0.0);
            let [nx, ny, nz] = fine.shape;
            let mut found = Vec::new();
            for z in (10..nz).step_by(30) {
                for y in (10..ny).step_by(30) {
                    for x in (10..nx).step_by(30) {
                        found.push(f64::from(values[x + nx * (y + ny * z)]));
                    }
                }
            }
            let want = numbers(samples);
            assert_eq!(found.len(), want.len());
            let range = want.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            for (a, b) in found.iter().zip(&want) {
                assert!((a - b).abs() < 1e-3 + 1e-4 * range, "{name}: {a} for {b}");
            }
        }
    }
}

/// One tensor of a safetensors file.
fn tensor(path: &Path, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let range = numbers(&header[name]["data_offsets"]);
    bytes[8 + length..][range[0] as usize..range[1] as usize]
        .chunks(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

#[test]
fn the_models_own_input_is_reproduced() {
    let Some(root) = shared() else { return };
    let want = tensor(
        &root.join("default-model/parity.safetensors"),
        "input.image",
    );
    let prepared = Prepared::new(&open(&root, "colin27/ch2.nii.gz")).unwrap();
    let found = prepared.input(View::Axial, 70);
    assert_eq!(found.len(), want.len());
    let worst = found
        .iter()
        .zip(&want)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    println!("largest difference to parity.safetensors: {worst:e}");
    assert!(worst <= 1e-6, "{worst}");
}

// ------------------------------------------------------------------ the way back

/// A head that no flip or permutation maps to itself: intensities and labels.
fn phantom(place: [f64; 3]) -> (f64, u32) {
    let [x, y, z] = place;
    let ball =
        |c: [f64; 3], r: f64| (x - c[0]).powi(2) + (y - c[1]).powi(2) + (z - c[2]).powi(2) < r * r;
    if ball([6.0, 3.0, 2.0], 3.0) {
        (200.0, 1)
    } else if ball([-5.0, -4.0, 4.0], 2.5) {
        (150.0, 2)
    } else if ball([0.0, 0.0, 0.0], 12.0) {
        (100.0 + x + 2.0 * y + 3.0 * z, 0)
    } else {
        (0.0, 0)
    }
}

fn paint(shape: [usize; 3], affine: &Affine) -> (Vec<f64>, Vec<u32>) {
    (0..shape.iter().product())
        .map(|i| {
            let voxel = [
                i % shape[0],
                i / shape[0] % shape[1],
                i / (shape[0] * shape[1]),
            ];
            phantom(apply(affine, voxel.map(|v| v as f64)))
        })
        .unzip()
}

/// Labels found on the prepared grid by intensity alone.
fn segment(prepared: &Prepared) -> Vec<u32> {
    prepared
        .data
        .iter()
        .map(|&v| {
            if v == 200.0 {
                1
            } else {
                2 * u32::from(v == 150.0)
            }
        })
        .collect()
}

#[test]
fn labels_come_back_bit_equal_in_all_48_orientations() {
    let mut worlds = Vec::new();
    for orientation in Orientation::all() {
        // The same box in space, whichever way its axes run.
        let size = [30_usize, 32, 34];
        let shape = orientation.axes.map(|world| size[world]);
        let mut affine = oriented(orientation, [1.0; 3], [0.0; 3]);
        for (axis, &world) in orientation.axes.iter().enumerate() {
            let half = (size[world] as f64 - 1.0) / 2.0;
            affine[world][3] = if orientation.flips[axis] { half } else { -half };
        }
        let (values, labels) = paint(shape, &affine);
        let volume = volume(shape, affine, &values);
        let prepared = Prepared::new(&volume).unwrap();
        assert!(!prepared.is_resampled());
        let found = segment(&prepared);
        let back = prepared.restore_labels(&found);
        assert_eq!(back, labels, "{}", orientation.letters());
        let map: Vec<f32> = found.iter().map(|&v| v as f32).collect();
        let back: Vec<u32> = prepared
            .restore_map(&map, 0.0)
            .iter()
            .map(|&v| v as u32)
            .collect();
        assert_eq!(back, labels);
        worlds.push((prepared.grid.clone(), prepared.data.clone()));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.nii.gz");
        write_labels(&path, &volume, &labels, &Names::new()).unwrap();
        let again = Volume::read(&path).unwrap();
        assert_eq!((again.shape, again.affine), (volume.shape, volume.affine));
    }
    // And what the model sees is the same picture every time.
    assert!(worlds.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn oblique_left_handed_and_coarse_volumes_come_back_in_place() {
    let (s, c) = 20_f64.to_radians().sin_cos();
    let oblique = [[c, -s, 0.0, 0.0], [s, c, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];
    for (sizes, mirror, least) in [
        ([1.0, 1.0, 1.0], 1.0, 1.0),
        ([1.0, 1.0, 1.0], -1.0, 1.0),
        ([0.8, 0.8, 1.2], -1.0, 0.87),
        ([0.5, 0.5, 0.5], 1.0, 0.87),
        ([2.0, 1.5, 0.7], 1.0, 0.87),
    ] {
        let shape = sizes.map(|size| (32.0 / size) as usize);
        let mut scale = IDENTITY;
        for axis in 0..3 {
            scale[axis][axis] = sizes[axis];
            scale[axis][3] = -sizes[axis] * (shape[axis] as f64 - 1.0) / 2.0;
        }
        let mut affine = compose(&oblique, &scale);
        for row in &mut affine {
            row[0] *= mirror;
        }
        // The middle of the volume at the origin again.
        let [x, y, z] = shape.map(|n| (n as f64 - 1.0) / 2.0);
        let middle = apply(&affine, [x, y, z]);
        for (row, middle) in affine.iter_mut().zip(middle) {
            row[3] -= middle;
        }
        let (values, labels) = paint(shape, &affine);
        let volume = volume(shape, affine, &values);
        assert_eq!(volume.grid().is_right_handed(), mirror > 0.0);
        let prepared = Prepared::new(&volume).unwrap();
        // What a perfect model would say on the prepared grid.
        let (_, truth) = paint(prepared.grid.shape, &prepared.grid.affine);
        let back = prepared.restore_labels(&truth);
        for label in [1, 2] {
            let count = |data: &[u32]| data.iter().filter(|&&v| v == label).count() as f64;
            let both = back
                .iter()
                .zip(&labels)
                .filter(|&(&a, &b)| a == label && b == label)
                .count();
            let dice = 2.0 * both as f64 / (count(&back) + count(&labels));
            println!("{sizes:?} {mirror}: label {label} Dice {dice:.3}");
            assert!(dice >= least, "{sizes:?} {mirror}: label {label} {dice}");
        }
    }
}

#[test]
fn implausible_sizes_are_refused_before_memory_is_asked_for() {
    for size in [0.01, 1e4] {
        let mut affine = IDENTITY;
        (0..3).for_each(|axis| affine[axis][axis] = size);
        let values: Vec<f64> = (0..1000).map(f64::from).collect();
        let refused = Prepared::new(&volume([10; 3], affine, &values)).unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("the voxel sizes must be wrong"),
            "{refused}"
        );
    }
}

#[test]
fn slices_are_radiological_and_go_back() {
    let shape = [2, 3, 4];
    let data: Vec<usize> = (0..24).collect();
    let voxel = |x: usize, y: usize, z: usize| x + 2 * (y + 3 * z);
    let axial = View::Axial.slice(&data, shape, 1);
    assert_eq!((axial.rows, axial.cols), (3, 2));
    // Top left is the patient's right and anterior.
    assert_eq!(axial.data[0], voxel(1, 2, 1));
    assert_eq!(axial.data[5], voxel(0, 0, 1));
    let coronal = View::Coronal.slice(&data, shape, 1);
    assert_eq!((coronal.rows, coronal.cols), (4, 2));
    assert_eq!(coronal.data[0], voxel(1, 1, 3));
    assert_eq!(coronal.data[1], voxel(0, 1, 3));
    let sagittal = View::Sagittal.slice(&data, shape, 1);
    assert_eq!((sagittal.rows, sagittal.cols), (4, 3));
    assert_eq!(sagittal.data[0], voxel(1, 2, 3));
    assert_eq!(sagittal.data[1], voxel(1, 1, 3));
    for view in View::ALL {
        let mut back = vec![0; 24];
        for k in 0..shape[view.axis()] {
            let slice = view.slice(&data, shape, k);
            view.put(&mut back, shape, k, &slice.data);
        }
        assert_eq!(back, data);
    }
}

// ------------------------------------------------------------------ several modalities

#[test]
fn a_second_modality_lands_on_the_first_grid() {
    let mut base = IDENTITY;
    base.iter_mut().for_each(|row| row[3] = -16.0);
    let shape = [33; 3];
    let (values, _) = paint(shape, &base);
    let first = volume(shape, base, &values);
    let prepared = Prepared::new(&first).unwrap();
    // The same grid: no value changes.
    let (same, warning) = prepared.join(&first).unwrap();
    assert!(warning.is_none());
    assert_eq!(same.data, prepared.data);
    // Coarser, other axes, left-handed: the same place.
    let orientation = Orientation {
        axes: [2, 1, 0],
        flips: [true, false, false],
    };
    let mut other = oriented(orientation, [2.0; 3], [-16.0; 3]);
    other[2][3] = 16.0;
    let (values, _) = paint([17; 3], &other);
    let (joined, warning) = prepared.join(&volume([17; 3], other, &values)).unwrap();
    assert!(warning.is_none());
    assert_eq!(joined.grid, prepared.grid);
    let near = joined
        .data
        .iter()
        .zip(&prepared.data)
        .filter(|(a, b)| (*a - *b).abs() < 40.0)
        .count();
    assert!(
        near as f64 > 0.9 * joined.data.len() as f64,
        "{near} of {}",
        joined.data.len()
    );
    // Half beside it: a warning. Elsewhere: refused.
    let mut half = base;
    half[0][3] += 16.0;
    let (values, _) = paint(shape, &half);
    let (_, warning) = prepared.join(&volume(shape, half, &values)).unwrap();
    assert!(
        warning
            .unwrap()
            .contains("of the first volume's field of view")
    );
    let mut far = base;
    far[0][3] += 500.0;
    let elsewhere = volume(shape, far, &values);
    let refused = prepared.join(&elsewhere).unwrap_err();
    assert!(
        matches!(
            refused,
            Error::Volume {
                field: "field of view",
                ..
            }
        ),
        "{refused}"
    );
}

#[test]
fn modality_from_the_name() {
    use Modality::{Ct, Flair, Pd, T1, T2};
    for (name, want) in [
        ("sub-01_T1w.nii.gz", Some(T1)),
        ("sub-01_acq-x_T2w.nii", Some(T2)),
        ("sub-01_FLAIR.nii.gz", Some(Flair)),
        ("sub_T2_FLAIR.nii.gz", Some(Flair)),
        ("FLAIR_t2.nii.gz", Some(Flair)),
        ("sub-01_PDw.nii.gz", Some(Pd)),
        ("chris_PD.nii.gz", Some(Pd)),
        ("example_ct_sm.nii.gz", Some(Ct)),
        ("t1_crop.nii.gz", Some(T1)),
        ("patient-t2.nii", Some(T2)),
        ("ch2.nii.gz", None),
        ("ch2bet.nii.gz", None),
        ("act.nii.gz", None),
        ("pdf1.nii", None),
        ("volume.nii.gz", None),
    ] {
        assert_eq!(
            Modality::from_name(&Path::new("T1w").join(name)),
            want,
            "{name}"
        );
    }
}

#[test]
fn modality_from_the_intensities() {
    let Some(root) = shared() else { return };
    for (name, want) in [
        ("colin27/ch2", Modality::T1),
        ("colin27/ch2bet", Modality::T1),
        ("chris/chris_t1", Modality::T1),
        ("meshnet/t1_crop", Modality::T1),
        (
            "mni152/mni_icbm152_t1_tal_nlin_sym_09a_converted",
            Modality::T1,
        ),
        ("chris/chris_PD", Modality::Pd),
        ("totalsegmentator/example_ct", Modality::Ct),
        ("totalsegmentator/example_ct_sm", Modality::Ct),
        ("spinalcord/t2", Modality::T2),
    ] {
        let found = estimate(&open(&root, &format!("{name}.nii.gz")));
        println!("{name}: {} ({})", found.modality, found.reason);
        assert_eq!(found.modality, want, "{name}: {}", found.reason);
    }
}

/// A head of tissue around fluid, in air, with a little texture.
fn head(air: f64, tissue: f64, fluid: f64) -> Vec<u8> {
    let mut file = Made::new([40; 3], 16);
    file.pixdim[1..4].fill(4.0);
    (0..3).for_each(|axis| file.rows.1[axis][axis] = 4.0);
    let values = (0..40_usize.pow(3)).map(|n| {
        let place = [n % 40, n / 40 % 40, n / 1600].map(|at| at as f64 - 19.5);
        let radius = place.iter().map(|v| v * v).sum::<f64>().sqrt();
        let mean = match radius {
            r if r < 4.0 => fluid,
            r if r < 18.0 => tissue,
            _ => air,
        };
        mean + (n % 11) as f64
    });
    file.file(&values.collect::<Vec<_>>())
}

#[test]
fn what_is_given_for_something_else_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let dark = put("dark.nii", &head(0.0, 100.0, 30.0));
    let bright = put("bright.nii", &head(0.0, 100.0, 300.0));
    let units = put("units.nii", &head(-1000.0, 40.0, 10.0));
    let said = |given: &[(&PathBuf, Modality)]| {
        let inputs: Vec<Input> = given
            .iter()
            .map(|(path, modality)| Input {
                path: path.to_path_buf(),
                modality: Some(*modality),
            })
            .collect();
        load(&inputs).unwrap().warnings().join("; ")
    };
    assert_eq!(said(&[(&dark, Modality::T1), (&bright, Modality::T2)]), "");
    assert_eq!(said(&[(&bright, Modality::T2), (&dark, Modality::T1)]), "");
    assert_eq!(
        said(&[(&dark, Modality::Flair), (&bright, Modality::T2)]),
        ""
    );
    let exchanged = said(&[(&bright, Modality::T1), (&dark, Modality::T2)]);
    assert!(exchanged.contains("they look exchanged"), "{exchanged}");
    let ct = said(&[(&units, Modality::T1)]);
    assert!(ct.contains("given as T1, but looks like CT"), "{ct}");
    let t1 = said(&[(&dark, Modality::Ct)]);
    assert!(t1.contains("given as CT, but looks like T1"), "{t1}");
}

/// No two scans of one patient that are what they are given for are taken to be exchanged; PD for a T2, as no T2 of a
/// head is there.
#[test]
fn real_scans_are_not_taken_to_be_exchanged() {
    let Some(root) = shared() else { return };
    for (t1, t2) in [
        ("chris/chris_t1", "chris/chris_PD"),
        ("spinalcord/t1w", "spinalcord/t2"),
        ("spinalcord/t1w", "spinalcord/t2s"),
    ] {
        let [t1, t2] = [t1, t2].map(|name| estimate(&open(&root, &format!("{name}.nii.gz"))));
        println!("{:?} {:?}", t1.bright_tail, t2.bright_tail);
        assert!(!look_exchanged(&t1, &t2));
    }
    let chris = |name: &str| estimate(&open(&root, &format!("chris/chris_{name}.nii.gz")));
    assert!(look_exchanged(&chris("PD"), &chris("t1")));
}
