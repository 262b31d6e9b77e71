//! Positions, and windows of pictures.

use super::attention::{Stacked, heads};

use super::*;

#[track_caller]
fn check_rel_pos(batch: usize, lines: usize, columns: usize, heads: Heads) {
    let mut random = Random::new((lines * 1009 + columns * 31 + heads.width) as u64);
    let (queries, q_cols) = (lines * columns, heads.q * heads.width);
    let q = Stacked {
        values: random.values(batch * queries * (q_cols + 4)),
        stride: q_cols + 4,
    };
    let tables = [lines, columns].map(|places| random.values((2 * places - 1) * heads.width));
    let want = naive::rel_pos(q.columns(4), heads, batch, [&tables[0], &tables[1]]);
    let rec = gpu().record("rel_pos");
    let q = staged(&rec, [batch * queries, q.stride], &q.values);
    let table = |n: usize| {
        let values = &tables[n];
        staged(&rec, [values.len() / heads.width, heads.width], values)
    };
    let (down, across) = (table(0), table(1));
    check(rec, &want, 1e-5, 1e-5, |rec| {
        rel_pos(rec, Columns::from(&q, 4), heads, batch, [&down, &across])
    });
}

#[test]
fn rel_pos_at_every_edge() {
    for (lines, columns) in [
        (1, 1),
        (1, 9),
        (9, 1),
        (2, 3),
        (3, 4),
        (7, 5),
        (14, 14),
        (8, 8),
        (17, 12),
        (5, 31),
    ] {
        check_rel_pos(1, lines, columns, heads(1, 1, 4));
        check_rel_pos(2, lines, columns, heads(3, 3, 8));
    }
    for width in [16, 32, 64, 72, 80, 96, 128] {
        check_rel_pos(2, 5, 7, heads(2, 1, width));
    }
}

/// SAM's attention as transformers computes it: the tables at the grid's size, what places add, and the whole.
#[test]
fn rel_pos_like_transformers() {
    let golden = Golden::open("rel_pos");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let (batch, lines, columns) = (number("batch"), number("lines"), number("columns"));
        let heads = heads(number("heads"), number("heads"), number("head_dim"));
        let (queries, cols) = (lines * columns, heads.q * heads.width);
        let tables = [("h", lines), ("w", columns)].map(|(axis, places)| {
            let old = golden.values(case, &format!("rel_pos_{axis}"));
            let table = resized_table(&old, heads.width, 2 * places - 1);
            close(
                &table,
                &golden.values(case, &format!("rows_{axis}")),
                1e-6,
                1e-6,
            );
            upload([2 * places - 1, heads.width], &table)
        });
        // Theirs has the places innermost, ours the queries.
        let mut want = Vec::new();
        let theirs = [("rel_h", lines), ("rel_w", columns)];
        for head in 0..batch * heads.q {
            for (role, places) in theirs {
                let values = golden.values(case, role);
                for place in 0..places {
                    let at = |i: usize| values[(head * queries + i) * places + place];
                    want.extend((0..queries).map(at));
                    want.resize(want.len().next_multiple_of(4), 0.0);
                }
            }
        }
        let qkv = golden.values(case, "qkv");
        for whole in [false, true] {
            let rec = gpu().record("rel_pos");
            let qkv = staged(&rec, [batch * queries, 3 * cols], &qkv);
            let y = golden.values(case, "y");
            let want = if whole { &y } else { &want };
            check(rec, want, 2e-5, 2e-5, |rec| {
                poison_four(rec, want.len());
                let [q, k, v] = [0, cols, 2 * cols].map(|first| Columns::from(&qkv, first));
                let places = rel_pos(rec, q, heads, batch, [&tables[0], &tables[1]]);
                if !whole {
                    return places;
                }
                let added = Added::Relative {
                    places: &places,
                    columns,
                };
                let scores = Scores {
                    added,
                    ..Scores::default()
                };
                attention(rec, q, k, v, heads, batch, scores)
            });
        }
    }
}

#[track_caller]
fn check_windows(size: [usize; 4], x: &[f32], y: &[f32], side: usize, shift: usize) {
    let [images, height, width, channels] = size;
    let rec = gpu().record("windows");
    let picture = staged(&rec, size, x);
    check(rec, y, 0.0, 0.0, |rec| windows(rec, &picture, side, shift));
    // What lies in the padding does not come back.
    let rec = gpu().record("windows");
    let cut = staged(&rec, [y.len() / channels, channels], y);
    check(rec, x, 0.0, 0.0, |rec| {
        joined_windows(rec, &cut, [images, height, width], side, shift)
    });
}

#[test]
fn windows_at_every_edge() {
    for (height, width) in [(1, 1), (2, 3), (7, 7), (8, 6), (13, 15), (14, 29)] {
        for (side, shift) in [(1, 0), (2, 1), (7, 0), (7, 3), (14, 0), (5, 4)] {
            let size = [2, height, width, 12];
            let x = Random::new(side as u64).values(size.iter().product());
            let y = naive::windows(&x, size, side, shift);
            check_windows(size, &x, &y, side, shift);
        }
    }
}

#[test]
fn windows_like_transformers() {
    let golden = Golden::open("windows");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let size: [usize; 4] = golden.shape(case, "x").try_into().unwrap();
        let (x, y) = (golden.values(case, "x"), golden.values(case, "y"));
        check_windows(size, &x, &y, number("side"), number("shift"));
    }
}

#[track_caller]
fn check_fourier(x: &[f32], weight: &[f32], want: &[f32]) {
    let largest = |values: &[f32]| {
        values
            .iter()
            .fold(0.0_f64, |m, v| m.max(f64::from(v.abs())))
    };
    let most = 2.0 * largest(weight) * (2.0 * largest(x) + 1.0);
    let rec = gpu().record("fourier");
    let x = staged(&rec, [x.len() / 2, 2], x);
    let weight = staged(&rec, [2, weight.len() / 2], weight);
    // A turn is a sum of two products in f32, rounded by its size; in radians that is 2π times as far.
    check(rec, want, 2e-6 + most * 1.5e-6, 0.0, |rec| {
        fourier(rec, &x, &weight)
    });
}

#[test]
fn fourier_at_every_edge() {
    for rows in [1, 2, 15, 16, 17, 67] {
        for half in [4, 12, 64, 132] {
            let mut random = Random::new((1009 * rows + half) as u64);
            let x = random.values(2 * rows);
            let weight: Vec<f32> = random.values(2 * half).iter().map(|v| 3.0 * v).collect();
            check_fourier(&x, &weight, &naive::fourier(&x, &weight));
        }
    }
    // Whole and half quarters of a turn, on either side of zero.
    let x: Vec<f32> = (0..68).flat_map(|n| [n as f32 / 8.0 - 4.0, 0.5]).collect();
    let weight = [1.0, -1.0, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0];
    check_fourier(&x, &weight, &naive::fourier(&x, &weight));
}

#[test]
fn fourier_like_transformers() {
    let golden = Golden::open("fourier");
    for case in golden.cases.keys() {
        let [x, weight, y] = ["x", "weight", "y"].map(|role| golden.values(case, role));
        check_fourier(&x, &weight, &y);
    }
}
