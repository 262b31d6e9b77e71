//! `softmax(q kᵀ / √d + added) v` on cooperative matrices: GPUs with tensor cores, where precision allows f16 products.

use super::attention::Asked;
use crate::gpu::{Gpu, Recorder, kernel};
use crate::ops::{Columns, Heads, Scores};
use crate::tensor::Tensor;

kernel! {
    /// Scaled dot-product attention: 32 query rows for each workgroup, whose subgroups multiply tiles of q, k, p and v.
    ATTENTION_COOP = "attention_coop", coop; {
        queries: u32, keys: u32, width: u32, heads: u32, group: u32,
        q_stride: u32, q_first: u32, k_stride: u32, k_first: u32, v_stride: u32, v_first: u32, scale: f32,
        window: u32, added_stride: u32, added_heads: u32, period: u32, columns: u32,
    }
}

/// The query rows of a workgroup, and the keys of a turn.
const ROWS: usize = 32;
/// The widest head, in columns: what 16 KiB of workgroup memory hold of 32 keys beside the scores.
const WIDEST: usize = 128;
/// Rows from which it is taken: fewer leave most of a workgroup idle.
const MANY_ROWS: usize = 16;

/// The side of a tile and the lanes of a subgroup, where they go into each other and a workgroup has few enough threads.
fn shape(gpu: &Gpu) -> Option<(&'static str, usize, usize)> {
    let tile = gpu.coop_tile()?;
    let lanes = gpu.subgroup_lanes()? as usize;
    let side = if tile.ends_with("16") { 16 } else { 8 };
    let fits = lanes.is_multiple_of(side) && ROWS / side * lanes <= 256;
    fits.then_some((tile, side, lanes))
}

/// Whether [`attention_coop`] can be run on such heads: 16 to 128 columns, in whole tiles.
pub(super) fn attention_cooperates(gpu: &Gpu, heads: Heads) -> bool {
    let width = heads.width;
    shape(gpu)
        .is_some_and(|(_, side, _)| (16..=WIDEST).contains(&width) && width.is_multiple_of(side))
}

/// Whether it is wanted: opened for it, with rows enough, and nothing known against it.
pub(super) fn attention_coop_pays(gpu: &Gpu, heads: Heads, queries: usize) -> bool {
    queries >= MANY_ROWS && attention_cooperates(gpu, heads) && gpu.trusts(&ATTENTION_COOP)
}

/// As [`crate::ops::attention`], which calls it where the adapter was opened for it; q, k, v and the probabilities are
/// rounded to f16.
///
/// # Panics
/// If the adapter was opened without cooperative matrices, or heads are no whole tiles of 16 to 128 columns.
#[track_caller]
pub fn attention_coop(
    rec: &Recorder,
    q: Columns,
    k: Columns,
    v: Columns,
    heads: Heads,
    batch: usize,
    scores: Scores,
) -> Tensor {
    cooperate(rec, &Asked::of(q, k, v, heads, batch, scores))
}

#[track_caller]
pub(super) fn cooperate(rec: &Recorder, asked: &Asked) -> Tensor {
    let heads = asked.heads;
    assert!(attention_cooperates(rec.gpu(), heads), "{heads:?}");
    let (tile, side, lanes) = shape(rec.gpu()).expect("cooperative matrices");
    let [q_stride, q_first, k_stride, k_first, v_stride, v_first] = asked.strides();
    let [window, added_stride, added_heads, period, columns] = asked.additions();
    let params = Params {
        queries: asked.queries as u32,
        keys: asked.keys as u32,
        width: (heads.width / 4) as u32,
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
    let variant = ATTENTION_COOP
        .set("LANES", lanes as u32)
        .set("WG", (ROWS / side * lanes) as u32)
        .set("WIDTH", heads.width as u32)
        .tile(tile);
    asked.dispatch(
        rec,
        asked.set(variant),
        params,
        [asked.queries.div_ceil(ROWS), heads.q, asked.batch],
    )
}
