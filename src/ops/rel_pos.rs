//! Decomposed relative positions: what the line and the column of a key, seen from a query, add to their score.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Columns, Heads, light_groups, light_threads};
use crate::tensor::Tensor;

kernel! {
    /// `q[i] · table[p(i) − c + places − 1]` for each place c of the lines or the columns of a grid.
    REL_POS = "rel_pos"; {
        lines: u32, columns: u32, quads: u32, heads: u32, width: u32,
        q_stride: u32, q_first: u32, places: u32, first: u32, padded: u32,
    }
}

/// For q of `batch` grids, row by row, and the tables of their lines and columns (`[2 · places − 1, width]` each, row
/// `places − 1` for no distance): `[batch, heads, lines + columns, queries]`, the queries padded to whole vec4s by
/// zeros. [`crate::ops::Added::Relative`] adds them to an attention's scores without a matrix of queries and keys.
#[track_caller]
pub fn rel_pos(
    rec: &Recorder,
    q: Columns,
    heads: Heads,
    batch: usize,
    tables: [&Tensor; 2],
) -> Tensor {
    let [rows, _] = q.tensor.matrix();
    let [lines, columns] = tables.map(|table| {
        let [rows, width] = table.matrix();
        assert!(
            rows % 2 == 1 && width == heads.width && width.is_multiple_of(4),
            "a table {} for heads of {}",
            table.shape(),
            heads.width
        );
        rows / 2 + 1
    });
    assert_eq!(rows, batch * lines * columns, "queries of {batch} grids");
    let (q_stride, q_first) = q.quads(heads.q * heads.width);
    let padded = (lines * columns).next_multiple_of(4);
    let y = Tensor::empty(rec, [batch, heads.q, lines + columns, padded]);
    for (across, places, first) in [(0, lines, 0), (1, columns, lines)] {
        let params = Params {
            lines: lines as u32,
            columns: columns as u32,
            quads: columns.div_ceil(4) as u32,
            heads: heads.q as u32,
            width: (heads.width / 4) as u32,
            q_stride,
            q_first,
            places: places as u32,
            first: first as u32,
            padded: padded as u32,
        };
        let threads = places.div_ceil(8) * lines * columns.div_ceil(4);
        rec.dispatch(
            REL_POS
                .set("ACROSS", across as u32)
                .set("WG", light_threads(rec.gpu()))
                .flops(2 * rows * heads.q * heads.width * places),
            params,
            &[("q", q.tensor), ("table", tables[across]), ("y", &y)],
            [light_groups(rec, threads), heads.q, batch],
        );
    }
    y
}

/// A table of relative positions, `[rows, width]`, for a grid of another size: `length` rows, linear between the old
/// ones with the ends kept (PyTorch's `interpolate`, `align_corners` false). Done once, when a checkpoint is read.
pub fn resized_table(table: &[f32], width: usize, length: usize) -> Vec<f32> {
    let rows = table.len() / width;
    let step = rows as f64 / length as f64;
    let mut y = Vec::with_capacity(length * width);
    for i in 0..length {
        let at = ((i as f64 + 0.5) * step - 0.5).max(0.0);
        let low = (at as usize).min(rows - 1);
        let high = (low + 1).min(rows - 1);
        for c in 0..width {
            let [a, b] = [low, high].map(|row| f64::from(table[row * width + c]));
            y.push((a + (at - low as f64) * (b - a)) as f32);
        }
    }
    y
}
