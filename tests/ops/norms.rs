//! Norms.

use super::attention::heads;
use super::*;

/// How the lanes of a row add up.
#[derive(Clone, Copy)]
enum Adding {
    Memory,
    Subgroup,
}

#[track_caller]
fn check_norms(rows: usize, cols: usize, offset: f32, lanes: Option<(u32, Adding)>) {
    let mut random = Random::new((rows * 10_007 + cols) as u64);
    let x: Vec<f32> = random
        .values(rows * cols)
        .iter()
        .map(|v| 3.0 * v + offset)
        .collect();
    let (weight, bias) = (random.values(cols), random.values(cols));
    let rec = gpu().record("norms");
    let want = naive::layer_norm(&x, &weight, &bias, 1e-6);
    let wanted = naive::rms_norm(&x, &weight, 1e-5);
    let x = staged(&rec, [rows, cols], &x);
    let (weight, bias) = (staged(&rec, cols, &weight), staged(&rec, cols, &bias));
    let y = check_norms_op(rec, &want, |rec| match lanes {
        None => layer_norm(rec, &x, &weight, &bias, 1e-6),
        Some((lanes, adding)) => {
            let y = Tensor::empty(rec, [rows, cols]);
            let params = [rows as u32, cols as u32 / 4, 1e-6f32.to_bits()];
            let kernel = match adding {
                Adding::Memory => &LAYER_NORM,
                Adding::Subgroup => &LAYER_NORM_SUBGROUP,
            };
            rec.dispatch(
                kernel.set("LANES", lanes),
                params,
                &[("x", &x), ("weight", &weight), ("bias", &bias), ("y", &y)],
                rows.div_ceil(64 / lanes as usize),
            );
            y
        }
    });
    drop(y);
    check_norms_op(gpu().record("norms"), &wanted, |rec| match lanes {
        None => rms_norm(rec, &x, &weight, 1e-5),
        Some((lanes, adding)) => {
            let y = Tensor::empty(rec, [rows, cols]);
            let params = [rows as u32, cols as u32 / 4, 1e-5f32.to_bits()];
            let kernel = match adding {
                Adding::Memory => &RMS_NORM,
                Adding::Subgroup => &RMS_NORM_SUBGROUP,
            };
            rec.dispatch(
                kernel.set("LANES", lanes),
                params,
                &[("x", &x), ("weight", &weight), ("y", &y)],
                rows.div_ceil(64 / lanes as usize),
            );
            y
        }
    });
}

#[track_caller]
fn check_norms_op(rec: Recorder, want: &[f32], op: impl FnOnce(&Recorder) -> Tensor) -> Vec<f32> {
    // A row of 4 nearly equal values divides by nearly nothing: its digits are those of x.
    check(rec, want, 2e-5, 2e-5, op)
}

#[test]
fn layer_norm_and_rms_norm_at_every_edge() {
    for rows in [1, 2, 3, 63, 64, 65, 131] {
        for cols in [8, 20, 64] {
            check_norms(rows, cols, 1.0, None);
        }
    }
    for cols in [12, 124, 128, 132, 192, 384, 576, 1000] {
        check_norms(3, cols, 0.5, None);
        // As on a GPU: lanes share a row.
        for lanes in [2, 32, 64] {
            check_norms(7, cols, 0.5, Some((lanes, Adding::Memory)));
        }
        // And where they are of one subgroup.
        let fewest = gpu().fewest_subgroup_lanes().unwrap_or(1);
        for lanes in [2, 4, 8, 16, 32]
            .into_iter()
            .filter(|lanes| *lanes <= fewest)
        {
            check_norms(7, cols, 0.5, Some((lanes, Adding::Subgroup)));
            check_norms(129, cols, 0.5, Some((lanes, Adding::Subgroup)));
        }
    }
}

#[test]
fn layer_norm_activated_is_both() {
    for activation in [Activation::Gelu, Activation::Relu] {
        for (rows, cols) in [(1, 4), (65, 16), (131, 64)] {
            let mut random = Random::new((rows + cols) as u64);
            let x = random.values(rows * cols);
            let (weight, bias) = (random.values(cols), random.values(cols));
            let want: Vec<f32> = naive::layer_norm(&x, &weight, &bias, 1e-6)
                .iter()
                .map(|v| naive::activate(activation, f64::from(*v)) as f32)
                .collect();
            let rec = gpu().record("norms");
            let x = staged(&rec, [rows, cols], &x);
            let (weight, bias) = (staged(&rec, cols, &weight), staged(&rec, cols, &bias));
            check_norms_op(rec, &want, |rec| {
                layer_norm_activated(rec, &x, &weight, &bias, 1e-6, activation)
            });
        }
    }
}

#[test]
fn layer_norm_and_rms_norm_over_more_groups_than_one_dimension_holds() {
    // Lanes that share a row are what a GPU has; alone, 64 rows make a group.
    check_norms(2 * 65_535 + 9, 8, 1.0, Some((32, Adding::Memory)));
    check_norms(64 * 65_535 + 65, 4, 1.0, None);
}

#[test]
fn layer_norm_and_rms_norm_like_pytorch() {
    for stem in ["layer_norm", "rms_norm"] {
        let golden = Golden::open(stem);
        for (case, scalars) in &golden.cases {
            let eps = scalars["eps"].as_f64().unwrap() as f32;
            let &[rows, cols] = golden.shape(case, "x") else {
                panic!("shape of {case}")
            };
            // A row four times over has the mean and the variance of the row.
            let fourfold = |role: &str| -> Vec<f32> {
                let values = golden.values(case, role);
                values
                    .chunks_exact(cols)
                    .flat_map(|row| row.repeat(4))
                    .collect()
            };
            let want = fourfold("y");
            let rec = gpu().record("norms");
            let x = staged(&rec, [rows, 4 * cols], &fourfold("x"));
            let weight = staged(&rec, 4 * cols, &fourfold("weight"));
            // x near 300 is itself known to 3e-5 only, which the norm of spread 1 shows.
            let abs = if case == "large_mean" { 1e-4 } else { 1e-5 };
            check(rec, &want, abs, 1e-5, |rec| {
                if stem == "rms_norm" {
                    return rms_norm(rec, &x, &weight, eps);
                }
                let bias = upload(4 * cols, &fourfold("bias"));
                layer_norm(rec, &x, &weight, &bias, eps)
            });
        }
    }
}

#[track_caller]
fn check_head_norm(tokens: usize, heads: Heads, scale: f32) {
    let mut random = Random::new((tokens * 31 + heads.width) as u64);
    let row = (heads.q + 2 * heads.kv) * heads.width;
    let x: Vec<f32> = random
        .values(tokens * row)
        .iter()
        .map(|v| v * scale)
        .collect();
    let weight = random.values(2 * heads.width);
    let want = naive::head_norm(&x, &weight, heads, 1e-6);
    let rec = gpu().record("head_norm");
    let x = staged(&rec, [tokens, row], &x);
    let weight = staged(&rec, [2, heads.width], &weight);
    check(rec, &want, 1e-6, 1e-5, |rec| {
        head_norm(rec, &x, &weight, heads, 1e-6)
    });
}

#[test]
fn head_norm_at_every_edge() {
    for tokens in [1, 2, 7, 65] {
        check_head_norm(tokens, heads(1, 1, 4), 1.0);
        check_head_norm(tokens, heads(9, 3, 64), 30.0);
        check_head_norm(tokens, heads(4, 1, 256), 1.0);
        check_head_norm(tokens, heads(5, 5, 20), 1e-3);
    }
}

#[test]
fn head_norm_like_pytorch() {
    let golden = Golden::open("head_norm");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let heads = heads(number("heads"), number("kv_heads"), number("head_dim"));
        let eps = scalars["eps"].as_f64().unwrap() as f32;
        let x = golden.values(case, "x");
        let row = (heads.q + 2 * heads.kv) * heads.width;
        let rec = gpu().record("head_norm");
        let x = staged(&rec, [x.len() / row, row], &x);
        let weight = staged(&rec, [2, heads.width], &golden.values(case, "weight"));
        check(rec, &golden.values(case, "y"), 1e-6, 1e-5, |rec| {
            head_norm(rec, &x, &weight, heads, eps)
        });
    }
}

#[track_caller]
fn check_moments(runs: usize, rows: usize, channels: usize, offset: f32) {
    let mut random = Random::new((runs * 10_007 + rows * 31 + channels) as u64);
    let x: Vec<f32> = random
        .values(runs * rows * channels)
        .iter()
        .map(|v| 2.0 * v + offset)
        .collect();
    let want = naive::moments(&x, rows, channels);
    let rec = gpu().record("moments");
    let staged_x = staged(&rec, [runs * rows, channels], &x);
    // A sum of n values near the offset is off by n roundings at the most, and a variance by the mean's square.
    let abs = 1e-6 * f64::from(offset.abs().max(1.0));
    let parts = check(rec, &want, abs, 2e-6 + 1e-7 * rows as f64, |rec| {
        moments(rec, &staged_x, rows)
    });
    // All runs together are one of all rows.
    let want = naive::moments(&x, runs * rows, channels);
    let rec = gpu().record("moments");
    let parts = staged(&rec, [runs, 2, channels], &parts);
    check(rec, &want, abs, 4e-6 + 1e-7 * rows as f64, |rec| {
        merged_moments(rec, &parts, runs)
    });
}

#[test]
fn moments_at_every_edge() {
    for runs in [1, 2, 7, 64, 65] {
        for rows in [1, 2, 31, 256] {
            for channels in [4, 12, 32] {
                check_moments(runs, rows, channels, 0.25);
            }
        }
    }
    check_moments(5, 77, 8, 300.0);
}

#[test]
fn moments_over_more_groups_than_one_dimension_holds() {
    let runs = 65_535 * 64 + 3;
    let x = Random::new(9).values(runs * 4);
    let want = naive::moments(&x, 1, 4);
    let rec = gpu().record("moments");
    let x = staged(&rec, [runs, 4], &x);
    check(rec, &want, 0.0, 0.0, |rec| moments(rec, &x, 1));
}

#[test]
fn instance_norm_at_every_edge() {
    for (n, rows) in [1, 2, 63, 64, 65, 1009].into_iter().enumerate() {
        for channels in [4, 16, 20] {
            let activation = ACTIVATIONS[n];
            let mut random = Random::new((rows * 31 + channels) as u64);
            let x = random.values(rows * channels);
            let moments: Vec<f32> = random
                .values(2 * channels)
                .iter()
                .map(|v| v.abs())
                .collect();
            let want = naive::instance_norm(&x, &moments, 1e-5, activation);
            let rec = gpu().record("instance_norm");
            let x = staged(&rec, [rows, channels], &x);
            let moments = staged(&rec, [1, 2, channels], &moments);
            // As an activation's, after a division by a deviation that may be small.
            check(rec, &want, 2e-6, 5e-6, |rec| {
                instance_norm(rec, &x, &moments, 1e-5, activation)
            });
        }
    }
}

#[test]
fn instance_norm_like_pytorch() {
    let golden = Golden::open("instance_norm");
    for (case, scalars) in &golden.cases {
        let &[volumes, voxels, channels] = golden.shape(case, "x") else {
            panic!("shape of {case}")
        };
        let (mean, var) = (golden.values(case, "mean"), golden.values(case, "var"));
        let want: Vec<f32> = mean
            .chunks(channels)
            .zip(var.chunks(channels))
            .flat_map(|(mean, var)| [mean, var].concat())
            .collect();
        let x = golden.values(case, "x");
        let rec = gpu().record("moments");
        let all = staged(&rec, [volumes * voxels, channels], &x);
        let found = check(rec, &want, 3e-5, 1e-5, |rec| moments(rec, &all, voxels));
        let activation = activation(&scalars["activation"]);
        let eps = scalars["eps"].as_f64().unwrap() as f32;
        let want = golden.values(case, "y");
        // x near 300 is itself known to 3e-5 only, which the norm of spread 2 shows.
        let abs = if case == "large_mean" { 1e-4 } else { 3e-6 };
        for n in 0..volumes {
            let one = n * voxels * channels..(n + 1) * voxels * channels;
            let rec = gpu().record("instance_norm");
            let x = staged(&rec, [voxels, channels], &x[one.clone()]);
            let of = staged(
                &rec,
                [1, 2, channels],
                &found[2 * n * channels..2 * (n + 1) * channels],
            );
            check(rec, &want[one], abs, 1e-5, |rec| {
                instance_norm(rec, &x, &of, eps, activation)
            });
        }
    }
}
