//! What is said about a result: measurements, agreement with a truth, and the preview.

use std::path::{Path, PathBuf};

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use keraunos::error::Error;
use keraunos::pipeline::cohort::{self, evaluate_folders};
use keraunos::pipeline::evaluate::{Measures, evaluate, evaluate_files};
use keraunos::pipeline::geometry::{Grid, IDENTITY};
use keraunos::pipeline::plot;
use keraunos::pipeline::preview::{self, Style};
use keraunos::pipeline::statistics::measure;
use keraunos::pipeline::surface::{SurfaceDistances, element_areas};
use keraunos::pipeline::volume::{LabelTable, Labels, Names, Volume, colour, sidecar};

#[path = "support/shared.rs"]
mod shared;
use shared::shared;
#[path = "support/nifti.rs"]
mod made;
use made::Made;

fn names(all: &[(u32, &str)]) -> Names {
    all.iter()
        .map(|&(label, name)| (label, name.to_owned()))
        .collect()
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
    assert!(
        table.contains("over 4 of 5 labels: 1 in the truth only, 1 in the"),
        "{table}"
    );
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
    let result = evaluate_files(&a, &b, &Measures::default()).unwrap();
    assert_eq!(result.mean_dice, Some(1.0));
    assert_eq!(result.labels[4].name, "five");
    let mut far = base.clone();
    far.rows.1[0][3] += 2.0;
    let error = evaluate_files(&a, &put("c.nii", &far), &Measures::default()).unwrap_err();
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
    let error = evaluate_files(
        &a,
        &put("d.nii", &Made::new([4, 4, 5], 4)),
        &Measures::default(),
    )
    .unwrap_err();
    assert!(
        matches!(error, Error::Volume { field: "shape", .. }),
        "{error}"
    );
}

/// What surface-distance says of pairs of masks; see goldens/metrics.py.
#[derive(serde::Deserialize)]
struct Metrics {
    tolerances: Vec<f64>,
    percents: Vec<f64>,
    areas: Vec<Areas>,
    cases: Vec<Pair>,
}

#[derive(serde::Deserialize)]
struct Areas {
    spacing: [f64; 3],
    areas: Vec<f64>,
}

#[derive(serde::Deserialize)]
struct Pair {
    name: String,
    spacing: [f64; 3],
    shape: [usize; 3],
    truth: String,
    prediction: String,
    dice: Option<f64>,
    surface_dice: Vec<Option<f64>>,
    hausdorff: Vec<serde_json::Value>,
    pooled_mean: serde_json::Value,
    areas: [f64; 2],
}

fn metrics() -> Metrics {
    serde_json::from_str(include_str!("goldens/metrics.json")).unwrap()
}

/// A number, `"inf"` or null.
fn number(value: &serde_json::Value) -> Option<f64> {
    match value.as_str() {
        Some(text) => Some(text.parse().unwrap()),
        None => value.as_f64(),
    }
}

fn mask(packed: &str, voxels: usize) -> Vec<bool> {
    let byte = |at: usize| u8::from_str_radix(&packed[2 * at..2 * at + 2], 16).unwrap();
    (0..voxels)
        .map(|v| byte(v / 8) >> (7 - v % 8) & 1 == 1)
        .collect()
}

/// Sums of a few thousand float64 numbers, in another order than numpy's.
#[track_caller]
fn same(found: Option<f64>, want: Option<f64>, what: &str) {
    let same = match (found, want) {
        (Some(found), Some(want)) => found == want || (found - want).abs() <= 1e-12 * want.abs(),
        (found, want) => found == want,
    };
    assert!(same, "{what}: {found:?} for {want:?}");
}

#[test]
fn areas_of_surfaces_are_those_of_surface_distance() {
    for Areas { spacing, areas } in metrics().areas {
        // Its bits run the other way: the highest is the voxel before the corner on every axis.
        let found = element_areas(spacing);
        for (code, want) in areas.iter().enumerate() {
            let place = |bit: usize| {
                let [x, y, z] = [bit >> 2, bit >> 1, bit].map(|b| 1 - (b & 1));
                1 << (x + 2 * y + 4 * z)
            };
            let bits = (0..8).filter(|bit| code >> (7 - bit) & 1 == 1);
            let own: usize = bits.map(place).sum();
            same(
                Some(found[own]),
                Some(*want),
                &format!("{spacing:?} {code}"),
            );
        }
    }
}

#[test]
fn surfaces_are_as_far_apart_as_surface_distance_says() {
    let golden = metrics();
    assert!(golden.cases.len() >= 26);
    for case in &golden.cases {
        let voxels = case.shape.iter().product();
        let prediction = mask(&case.prediction, voxels);
        let truth = mask(&case.truth, voxels);
        let found = SurfaceDistances::new(&prediction, &truth, case.shape, case.spacing);
        let name = &case.name;
        for (tolerance, want) in golden.tolerances.iter().zip(&case.surface_dice) {
            same(
                found.dice(*tolerance),
                *want,
                &format!("{name}: dice at {tolerance}"),
            );
        }
        for (percent, want) in golden.percents.iter().zip(&case.hausdorff) {
            let own = found.hausdorff(percent / 100.0);
            same(own, number(want), &format!("{name}: hausdorff {percent}"));
        }
        same(
            found.mean(),
            number(&case.pooled_mean),
            &format!("{name}: mean"),
        );
        for (own, want) in found
            .areas()
            .into_iter()
            .zip([case.areas[1], case.areas[0]])
        {
            same(Some(own), Some(want), &format!("{name}: area"));
        }
        let one = |mask: &[bool]| mask.iter().map(|m| u32::from(*m)).collect::<Vec<_>>();
        let names = names(&[(1, "it")]);
        let dice = evaluate(&one(&prediction), &one(&truth), &names).labels[0].dice;
        same(dice, case.dice, name);
    }
}

/// Two label files of 3 mm slices, a box each, against the same masks taken alone.
#[test]
fn files_are_measured_in_millimetres() {
    let folder = tempfile::tempdir().unwrap();
    let shape = [14, 11, 9];
    let put = |name: &str, label: &dyn Fn([usize; 3]) -> f64| {
        let mut made = Made::new(shape, 2);
        made.pixdim = [1.0, 0.9375, 0.9375, 3.0, 0.0, 0.0, 0.0, 0.0];
        made.rows.1 = [
            [-0.9375, 0.0, 0.0, 5.0],
            [0.0, 0.9375, 0.0, 6.0],
            [0.0, 0.0, 3.0, 7.0],
        ];
        let voxels = (0..shape.iter().product()).map(|v: usize| {
            label([
                v % shape[0],
                v / shape[0] % shape[1],
                v / (shape[0] * shape[1]),
            ])
        });
        let path = folder.path().join(name);
        std::fs::write(&path, made.file(&voxels.collect::<Vec<_>>())).unwrap();
        path
    };
    let within = |at: [usize; 3], low: [usize; 3], high: [usize; 3]| {
        (0..3).all(|axis| (low[axis]..high[axis]).contains(&at[axis]))
    };
    // Label 5 overlaps, 7 is missed, 9 is spurious.
    let ours = put("ours.nii", &|at| {
        let five = within(at, [2, 3, 1], [9, 8, 6]);
        if five {
            5.0
        } else {
            f64::from(u8::from(at == [13, 10, 8])) * 9.0
        }
    });
    let truth = put("truth.nii", &|at| {
        let five = within(at, [3, 3, 2], [11, 7, 6]);
        if five {
            5.0
        } else {
            f64::from(u8::from(at == [0, 0, 0])) * 7.0
        }
    });
    let measures = Measures {
        tolerance_mm: 0.95,
        ..Measures::default()
    };
    let result = evaluate_files(&ours, &truth, &measures).unwrap();
    let rows: Vec<u32> = result.labels.iter().map(|row| row.label).collect();
    assert_eq!(rows, [5, 7, 9]);
    assert_eq!((result.missed, result.spurious, result.left_out), (1, 1, 0));
    let alone = |path: &Path| {
        let labels = Labels::read(path).unwrap();
        labels.data.iter().map(|l| *l == 5).collect::<Vec<_>>()
    };
    let want = SurfaceDistances::new(&alone(&ours), &alone(&truth), shape, [0.9375, 0.9375, 3.0]);
    let five = result.labels[0].space.as_ref().unwrap();
    same(five.surface_dice, want.dice(0.95), "surface dice");
    same(five.hd_mm, want.hausdorff(1.0), "hd");
    same(five.hd95_mm, want.hausdorff(0.95), "hd95");
    same(five.assd_mm, want.mean(), "assd");
    let ml = 0.9375 * 0.9375 * 3.0 / 1000.0;
    same(Some(five.predicted_ml), Some(7.0 * 5.0 * 5.0 * ml), "ml");
    same(Some(five.true_ml), Some(8.0 * 4.0 * 4.0 * ml), "true ml");
    same(
        five.relative_volume_error,
        Some(175.0 / 128.0 - 1.0),
        "relative",
    );
    // The infinite distances are in no mean.
    assert_eq!(result.mean_hd95_mm, five.hd95_mm);
    assert_eq!(
        result.mean_dice,
        result.labels[0].dice.map(|dice| dice / 3.0)
    );
    let json = serde_json::to_value(&result).unwrap();
    assert_eq!(json["labels"][1]["hd95_mm"], "inf");
    assert_eq!(json["labels"][1]["surface_dice"], 0.0);
    assert!(json["labels"][2]["relative_volume_error"].is_null());
    let table = result.to_string();
    assert!(
        table.contains("inf") && table.contains("in no mean"),
        "{table}"
    );

    // The same as a pair, where the truth has another number.
    let measures = Measures {
        pairs: vec!["5+9=5".parse().unwrap()],
        ..measures
    };
    let pair = evaluate_files(&ours, &truth, &measures).unwrap();
    assert_eq!(pair.labels[0].predicted_voxels, 176);
    assert!(pair.labels[0].space.as_ref().unwrap().hd_mm > five.hd_mm);
}

#[test]
fn folders_are_matched_by_name_and_summed_up() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, labels: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut voxels = [0.0; 64];
        voxels
            .iter_mut()
            .zip(labels)
            .for_each(|(v, l)| *v = f64::from(*l));
        std::fs::write(&path, Made::new([4, 4, 4], 2).file(&voxels)).unwrap();
    };
    put("truth/a.nii", &[1, 1, 2]);
    put("truth/b.nii", &[1, 1, 0]);
    put("truth/sub-1/c.nii", &[0, 1, 0]);
    put("truth/d.nii", &[1]);
    put("truth/lost.nii", &[1]);
    put("ours/a_seg-keraunos_dseg.nii", &[1, 0, 2]);
    put("ours/b_seg-keraunos_dseg.nii", &[0, 0, 2]);
    put("ours/sub-1/c_seg-keraunos_dseg.nii", &[0, 1, 0]);
    put("ours/a_seg-keraunos_label-X_probseg.nii", &[1]);
    put("ours/.hidden.nii", &[1]);
    put("ours/more.nii", &[1]);
    std::fs::write(folder.path().join("ours/d.nii"), b"no volume").unwrap();
    let (ours, truth) = (folder.path().join("ours"), folder.path().join("truth"));
    let mut heard = Vec::new();
    let found = evaluate_folders(&ours, &truth, &Measures::default(), &mut |case, n, of| {
        heard.push((case.to_owned(), n, of));
    })
    .unwrap();
    let cases: Vec<&str> = found.cases.iter().map(|case| &*case.case).collect();
    assert_eq!(cases, ["a", "b", "sub-1/c"]);
    assert_eq!(heard.len(), 4);
    assert_eq!(found.failed[0].case, "d");
    assert!(
        found.failed[0].problem.contains("d.nii"),
        "{:?}",
        found.failed
    );
    assert_eq!(found.missing_predictions, [truth.join("lost.nii")]);
    assert_eq!(found.missing_truths, [ours.join("more.nii")]);
    assert!(!found.is_whole());
    let one = &found.labels[0];
    assert_eq!(
        (one.label, one.cases, one.missed, one.spurious),
        (1, 3, 1, 0)
    );
    // Dice 2/3, 0 and 1; of distances one is infinite.
    let (dice, hd95) = (&one.spreads["dice"], &one.spreads["hd95_mm"]);
    same(dice.mean, Some(5.0 / 9.0), "dice");
    assert_eq!((dice.count, dice.median), (3, Some(2.0 / 3.0)));
    assert_eq!((hd95.infinite, hd95.max), (1, Some(f64::INFINITY)));
    let two = &found.labels[1];
    assert_eq!(
        (two.cases, two.missed, two.spurious, two.left_out),
        (2, 0, 1, 1)
    );
    same(found.mean["dice"], Some((5.0 / 9.0 + 0.5) / 2.0), "mean");

    let csv = folder.path().join("scores.csv");
    found.write_csv(&csv).unwrap();
    let text = std::fs::read_to_string(&csv).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("case,label,name,predicted_voxels,true_voxels,dice,iou,surface_dice,")
    );
    assert_eq!(lines.len(), 6);
    assert!(
        lines[3].starts_with("b,1,label 1,0,2,0,0,0,inf,inf,inf,-0.002,-1,0,"),
        "{text}"
    );
    let columns = |line: &str| line.split(',').count();
    assert!(
        lines.iter().all(|line| columns(line) == columns(lines[0])),
        "{text}"
    );
    let text = std::fs::read_to_string(cohort::summary_path(&csv)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].starts_with("1,label 1,3,1,0,0,0.555"), "{text}");
    assert!(
        lines.iter().all(|line| columns(line) == columns(lines[0])),
        "{text}"
    );
    let text = found.to_string();
    assert!(text.contains("over 3 cases"), "{text}");

    let picture = plot::render(&found);
    let bright = picture
        .pixels()
        .filter(|p| p.0[0].abs_diff(p.0[2]) > 40)
        .count();
    assert!(bright > 300, "{bright}");
    let png = folder.path().join("plot.png");
    plot::write_plot(&png, &found).unwrap();
    assert_eq!(image::open(&png).unwrap().to_rgb8(), picture);

    let none = evaluate_folders(
        &ours,
        &ours.join("sub-1"),
        &Measures::default(),
        &mut |_, _, _| (),
    );
    assert!(none.unwrap_err().to_string().contains("no case is in both"));
    put("truth/a_dseg.nii", &[1]);
    let twice = evaluate_folders(&ours, &truth, &Measures::default(), &mut |_, _, _| ());
    assert!(twice.unwrap_err().to_string().contains("maps of one case"));
}

// ------------------------------------------------------------------ label tables

#[test]
fn tables_for_fsleyes_and_niivue_have_every_label_its_colour_and_name() {
    let names = names(&[(0, "air"), (3, "a \"b\" c"), (300, "left\tx")]);
    // A line is label, three shares of 1, and the rest is the name.
    let text = LabelTable::Fsleyes.text(&names);
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.splitn(5, ' ').collect()).collect();
    assert_eq!(lines.len(), 2);
    for (line, (label, name)) in lines.iter().zip([(3, "a 'b' c"), (300, "left x")]) {
        assert_eq!((line[0], line[4]), (&*label.to_string(), name));
        for (share, channel) in line[1..4].iter().zip(colour(label)) {
            let share: f64 = share.parse().unwrap();
            assert_eq!((share * 255.0).round() as u8, channel);
        }
    }
    let json: serde_json::Value = serde_json::from_str(&LabelTable::Niivue.text(&names)).unwrap();
    assert_eq!(json["I"], serde_json::json!([0, 3, 300]));
    assert_eq!(json["A"], serde_json::json!([0, 255, 255]));
    assert_eq!(json["labels"][1], "a \"b\" c");
    for (at, label) in [(1, 3), (2, 300)] {
        let found = ["R", "G", "B"].map(|channel| json[channel][at].as_u64().unwrap() as u8);
        assert_eq!(found, colour(label));
    }
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
        let titled = names(&[(1, &long)]);
        preview::write_preview(&out, &volume, &labels, &titled, Style::Both).unwrap();
        let picture = image::open(&out).unwrap().to_rgb8();
        assert_eq!(
            picture,
            preview::render(&volume, &labels, &titled, Style::Both)
        );
        assert!(picture.width() < 2000 && picture.height() < 2000);
        preview::render(
            &volume,
            &vec![0_u8; labels.len()],
            &Names::new(),
            Style::Both,
        );
    }
}

/// An egg with two balls in it, left-handed: the right one high up, the left one low.
fn egg() -> (Volume, Vec<u8>, Names) {
    const SHAPE: [usize; 3] = [36, 44, 40];
    let mut file = Made::new(SHAPE, 16);
    file.pixdim[1..4].fill(4.0);
    for (axis, n) in SHAPE.into_iter().enumerate() {
        file.rows.1[axis][axis] = 4.0;
        file.rows.1[axis][3] = -2.0 * n as f64;
    }
    (file.rows.1[0][0], file.rows.1[0][3]) = (-4.0, 70.0);
    let balls = [([10.0, 22.0, 28.0], 5.0), ([26.0, 26.0, 14.0], 4.0)];
    let (mut values, mut labels) = (Vec::new(), Vec::new());
    for n in 0..SHAPE.iter().product::<usize>() {
        let at = [n % 36, n / 36 % 44, n / (36 * 44)].map(|at| at as f64);
        let far = |middle: [f64; 3]| (0..3).map(|i| (at[i] - middle[i]).powi(2)).sum::<f64>();
        let radius: f64 = (0..3)
            .map(|i| (at[i] / (SHAPE[i] - 1) as f64 * 2.0 - 1.0).powi(2))
            .sum();
        let ball = balls.iter().position(|(middle, r)| far(*middle) <= r * r);
        values.push(match (ball, radius) {
            (Some(_), _) => 150.0,
            (None, r) if r < 0.7 => 90.0,
            (None, r) if r < 0.85 => 200.0,
            _ => 0.0,
        });
        labels.push(ball.map_or(0, |ball| ball as u8 + 1));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("egg.nii");
    std::fs::write(&path, file.file(&values)).unwrap();
    let titled = names(&[(1, "right ball"), (2, "left ball")]);
    (Volume::read(&path).unwrap(), labels, titled)
}

/// The picture as it was accepted by eye; `KERAUNOS_WRITE_RESULTS` keeps another.
#[test]
fn a_preview_is_the_one_that_was_looked_at() {
    let (volume, labels, titled) = egg();
    let picture = preview::render(&volume, &labels, &titled, Style::Both);
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/preview.png");
    if std::env::var_os("KERAUNOS_WRITE_RESULTS").is_some() {
        let out = std::fs::File::create(&kept).unwrap();
        let encoder =
            PngEncoder::new_with_quality(out, CompressionType::Best, FilterType::Adaptive);
        picture.write_with_encoder(encoder).unwrap();
    }
    let want = image::open(&kept).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), want.dimensions());
    // A rounding of the last bit may turn out otherwise on another processor.
    let is_other = |(a, b): (&u8, &u8)| a.abs_diff(*b) > 1;
    let others = picture
        .iter()
        .zip(want.iter())
        .filter(|pair| is_other(*pair))
        .count();
    assert!(
        others <= picture.len() / 100_000,
        "{others} of {} values",
        picture.len()
    );
}

#[test]
fn styles_of_a_preview_draw_lines_or_areas() {
    let (volume, labels, titled) = egg();
    let draw = |style| preview::render(&volume, &labels, &titled, style);
    let bare = preview::render(&volume, &vec![0_u8; labels.len()], &titled, Style::Both);
    let plain = draw(Style::Both);
    assert_ne!(bare.dimensions(), plain.dimensions());
    let tinted = |picture: &image::RgbImage| {
        let planes = picture.rows().take(600).flatten();
        planes.filter(|p| p.0[0].abs_diff(p.0[1]) > 25).count()
    };
    let [both, contour, fill] =
        [Style::Both, Style::Contour, Style::Fill].map(|style| tinted(&draw(style)));
    // Lines are few pixels of an area.
    assert!(4 * contour < fill, "{contour} {fill}");
    assert!(both >= fill, "{both} {fill}");
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
        let picture = preview::render(&volume, &labels.data, &labels.names, Style::Both);
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
            let picture = preview::render(&volume, &wanted, &titled, Style::Contour);
            if let Some(folder) = &keep {
                picture.save(folder.join("few_preview.png")).unwrap();
            }
        }
    }
}
