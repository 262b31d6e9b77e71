//! Rows put between others.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// `y[first + r · stride] = x[begin + r mod period]`.
    COPY_ROWS = "copy_rows" + "shared/flat"; {
        rows: u32, begin: u32, period: u32, cols: u32, first: u32, stride: u32,
    }
}

/// Writes `rows` rows into `y`, at `first` and every `stride` after it, from the rows of `x` in turn.
#[track_caller]
pub fn copy_rows(rec: &Recorder, x: &Tensor, y: &Tensor, rows: usize, first: usize, stride: usize) {
    let [period, _] = x.matrix();
    run(rec, x, [0, period], y, [rows, first, stride]);
}

/// Writes `rows` neighbouring rows of `x`, the first of them `from`, into `y` at `first`: slices of a volume.
#[track_caller]
pub fn copy_span(rec: &Recorder, x: &Tensor, from: usize, y: &Tensor, first: usize, rows: usize) {
    run(rec, x, [from, rows], y, [rows, first, 1]);
}

#[track_caller]
fn run(
    rec: &Recorder,
    x: &Tensor,
    [from, period]: [usize; 2],
    y: &Tensor,
    [rows, first, stride]: [usize; 3],
) {
    let ([x_rows, cols], [y_rows, y_cols]) = (x.matrix(), y.matrix());
    assert!(
        cols == y_cols && cols % 4 == 0,
        "rows of {cols} into rows of {y_cols}"
    );
    assert!(
        rows > 0 && first + (rows - 1) * stride < y_rows,
        "row {first} + {rows} · {stride} of {y_rows}"
    );
    assert!(
        from + period <= x_rows,
        "rows {from} + {period} of {x_rows}"
    );
    let cols = cols / 4;
    let params = Params {
        rows: rows as u32,
        begin: from as u32,
        period: period as u32,
        cols: cols as u32,
        first: first as u32,
        stride: stride as u32,
    };
    rec.dispatch(
        &COPY_ROWS,
        params,
        &[("x", x), ("y", y)],
        groups(rows * cols),
    );
}
