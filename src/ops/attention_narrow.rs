//! `softmax(q kᵀ / √d) v` for heads of at most 16 columns, one thread for two or four rows of a head.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Columns, Heads, light_groups, light_threads};
use crate::tensor::Tensor;

kernel! {
    /// Scaled dot-product attention of narrow heads, all in registers.
    ATTENTION_NARROW = "attention_narrow"; {
        queries: u32, keys: u32, width: u32, heads: u32, group: u32,
        q_stride: u32, q_first: u32, k_stride: u32, k_first: u32, v_stride: u32, v_first: u32, scale: f32,
    }
}

/// The widest head it takes, in columns.
pub const NARROW: usize = 16;

/// As [`crate::ops::attention`], which calls it for narrow heads without a mask.
#[track_caller]
pub fn attention_narrow(
    rec: &Recorder,
    q: Columns,
    k: Columns,
    v: Columns,
    heads: Heads,
    batch: usize,
) -> Tensor {
    // Registers that spill are cheaper on a CPU adapter than loads of k and v.
    let rows = if rec.gpu().is_cpu() { 4 } else { 2 };
    let ([q_rows, _], [k_rows, _]) = (q.tensor.matrix(), k.tensor.matrix());
    assert!(
        heads.width <= NARROW && heads.width.is_multiple_of(4),
        "{heads:?}"
    );
    let (queries, width) = (q_rows / batch, heads.width / 4);
    let (q_stride, q_first) = q.quads(heads.q * heads.width);
    let (k_stride, k_first) = k.quads(heads.kv * heads.width);
    let (v_stride, v_first) = v.quads(heads.kv * heads.width);
    let y = Tensor::empty(rec, [q_rows, heads.q * heads.width]);
    let params = Params {
        queries: queries as u32,
        keys: (k_rows / batch) as u32,
        width: width as u32,
        heads: heads.q as u32,
        group: (heads.q / heads.kv) as u32,
        q_stride,
        q_first,
        k_stride,
        k_first,
        v_stride,
        v_first,
        scale: 1.0 / (heads.width as f32).sqrt(),
    };
    rec.dispatch(
        ATTENTION_NARROW
            .set("WIDTH", width as u32)
            .set("WG", light_threads(rec.gpu()))
            .set("ROWS", rows as u32)
            .flops(4 * q_rows * (k_rows / batch) * heads.q * heads.width),
        params,
        &[("q", q.tensor), ("k", k.tensor), ("v", v.tensor), ("y", &y)],
        [light_groups(rec, queries.div_ceil(rows) * heads.q), batch],
    );
    y
}
