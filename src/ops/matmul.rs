//! The product of two activations.

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// `y = a · bᵀ`, with a bias at the end of each row of a.
    MATMUL = "matmul"; { rows: u32, cols: u32, depth: u32, a_stride: u32 }
}

/// `a · bᵀ`: a `[rows, …]`, b `[cols, depth]`, the result `[rows, cols]`. With `bias` the value of
/// a's row at `depth` is added to the row. `depth` and `cols` are multiples of 4.
#[track_caller]
pub fn matmul(rec: &Recorder, a: &Tensor, b: &Tensor, bias: bool) -> Tensor {
    let ([rows, stride], [cols, depth]) = (a.matrix(), b.matrix());
    assert!(
        stride >= depth + usize::from(bias) && stride % 4 == 0,
        "rows of {stride} for a depth of {depth}"
    );
    assert!(
        depth % 4 == 0 && cols % 4 == 0,
        "a product of {depth} by {cols}"
    );
    let y = Tensor::empty(rec, [rows, cols]);
    let params = Params {
        rows: rows as u32,
        cols: (cols / 4) as u32,
        depth: (depth / 4) as u32,
        a_stride: (stride / 4) as u32,
    };
    let variant = MATMUL
        .set("BIAS", u32::from(bias))
        .flops(2 * rows * depth * cols);
    rec.dispatch(
        variant,
        params,
        &[("a", a), ("b", b), ("y", &y)],
        [groups(rows.div_ceil(8) * cols / 4), 1],
    );
    y
}
