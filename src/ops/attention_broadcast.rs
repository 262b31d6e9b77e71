//! `softmax(q kᵀ / √d + added) v` where a load is dear and a subgroup can share it: CPU adapters.

use super::attention::Asked;
use crate::gpu::{Gpu, Recorder, kernel};
use crate::ops::{Columns, Heads, Scores};
use crate::tensor::Tensor;

kernel! {
    /// Scaled dot-product attention, all in registers: a subgroup owns 16 or 32 query rows and hands them round.
    ATTENTION_BROADCAST = "attention_broadcast"; {
        queries: u32, keys: u32, width: u32, heads: u32, group: u32,
        q_stride: u32, q_first: u32, k_stride: u32, k_first: u32, v_stride: u32, v_first: u32, scale: f32,
        window: u32, added_stride: u32, added_heads: u32, period: u32, columns: u32,
    }
}

/// The lanes of a subgroup that the kernel is written for.
const LANES: usize = 8;
/// The query rows of half a subgroup's work, or of all of it.
const ROWS: usize = 16;
/// The most columns of a head: 4 vec4s to a lane.
const WIDEST: usize = 16 * LANES;

/// Whether [`attention_broadcast`] can be run, and is the faster one.
pub(super) fn attention_broadcasts(gpu: &Gpu, heads: Heads) -> bool {
    super::broadcasts(gpu) == Some(LANES as u32) && heads.width <= WIDEST
}

/// As [`crate::ops::attention`], which calls it on adapters where it is the faster one.
#[track_caller]
pub fn attention_broadcast(
    rec: &Recorder,
    q: Columns,
    k: Columns,
    v: Columns,
    heads: Heads,
    batch: usize,
    scores: Scores,
) -> Tensor {
    broadcast(rec, &Asked::of(q, k, v, heads, batch, scores))
}

#[track_caller]
pub(super) fn broadcast(rec: &Recorder, asked: &Asked) -> Tensor {
    let heads = asked.heads;
    assert!(attention_broadcasts(rec.gpu(), heads), "{heads:?}");
    let [q_stride, q_first, k_stride, k_first, v_stride, v_first] = asked.strides();
    let [window, added_stride, added_heads, period, columns] = asked.additions();
    let width = heads.width / 4;
    let params = Params {
        queries: asked.queries as u32,
        keys: asked.keys as u32,
        width: width as u32,
        heads: heads.q as u32,
        group: (heads.q / heads.kv) as u32,
        q_stride,
        q_first,
        k_stride,
        k_first,
        v_stride,
        v_first,
        scale: asked.scale(),
        window,
        added_stride,
        added_heads,
        period,
        columns,
    };
    let halves = 1 + usize::from(asked.queries > ROWS);
    let variant = ATTENTION_BROADCAST
        .set("PER", width.div_ceil(LANES) as u32)
        .set("HALVES", halves as u32);
    asked.dispatch(
        rec,
        asked.set(variant),
        params,
        [asked.queries.div_ceil(halves * ROWS), heads.q, asked.batch],
    )
}
