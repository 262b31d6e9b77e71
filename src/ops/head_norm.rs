//! The norms of q's and k's heads.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Heads, light_groups, light_threads, row_lanes};
use crate::tensor::Tensor;

kernel! {
    /// RMS norm of each head of q and of k in a stacked q·k·v product.
    HEAD_NORM = "head_norm" + "shared/flat"; { rows: u32, heads: u32, kv_heads: u32, quads: u32, eps: f32 }
}

/// `x` (`[tokens, (q + 2 · kv) · width]`) with each head of q and k scaled to mean square 1 and by its row of `weight`
/// (`[2, width]`: of q, of k); v is copied.
#[track_caller]
pub fn head_norm(rec: &Recorder, x: &Tensor, weight: &Tensor, heads: Heads, eps: f32) -> Tensor {
    let [tokens, row] = x.matrix();
    let all = heads.q + 2 * heads.kv;
    assert_eq!(row, all * heads.width, "columns of q, k and v");
    assert!(heads.width.is_multiple_of(4), "heads of {}", heads.width);
    weight.expect([2, heads.width]);
    let y = Tensor::empty(rec, x.shape());
    let lanes = row_lanes(rec);
    let params = Params {
        rows: (tokens * all) as u32,
        heads: heads.q as u32,
        kv_heads: heads.kv as u32,
        quads: (heads.width / 4) as u32,
        eps,
    };
    rec.dispatch(
        HEAD_NORM.set("LANES", lanes).set("WG", light_threads(rec)),
        params,
        &[("x", x), ("weight", weight), ("y", &y)],
        light_groups(rec, tokens * all * lanes as usize),
    );
    y
}
