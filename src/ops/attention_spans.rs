//! Attention in which every row names the keys it sees: decoding, prefill, sentences side by side.

use crate::gpu::{Bind, Gpu, Recorder, kernel};
use crate::ops::{
    ATTENTION_MERGE, ATTENTION_SPLIT, Attended, Columns, Heads, attention::attention_on_prefix,
    attention_shares,
};
use crate::tensor::Tensor;

kernel! {
    /// Ragged attention: row r sees a common prefix and its own span of keys.
    ATTENTION_SPANS = "attention_spans" + "shared/flat" + "shared/reduce" + "shared/halves" + "shared/kept"; {
        rows: u32, heads: u32, share: u32, width: u32,
        q_stride: u32, q_first: u32, k_stride: u32, k_first: u32, v_stride: u32, v_first: u32, scale: f32,
    }
}

/// The most keys one row may see.
pub const MOST_KEYS: usize = 2048;

/// In how many shares the keys of each row are best cut, where the kernel that does so is trusted and the faster one: for few
/// rows, which leave an adapter idle and share no key. `keys` is what the caches hold, not what a row sees.
pub(super) fn splits(gpu: &Gpu, rows: usize, keys: usize, heads: Heads) -> Option<usize> {
    if !gpu.trusts(&ATTENTION_SPLIT) || !gpu.trusts(&ATTENTION_MERGE) {
        return None;
    }
    let (most_rows, busy, least_keys) = match gpu.is_cpu() {
        true => (4, 4, 256),
        false => (8, 256, 128),
    };
    let wanted = busy / (rows * heads.kv).max(1);
    (rows <= most_rows).then(|| wanted.clamp(1, keys.div_ceil(least_keys)))
}

/// Attention of each row of q on keys `0 .. prefix` and its own `span` (`[rows, 2]` u32: start and
/// count); a row without any key gives zeros. The caller sees to it that no row has more than
/// [`MOST_KEYS`] keys of its own or one that does not exist: the spans live on the adapter.
#[track_caller]
pub fn attention_spans(
    rec: &Recorder,
    q: Columns,
    k: Columns,
    v: Columns,
    span: &Tensor,
    prefix: usize,
    heads: Heads,
) -> Tensor {
    let attended = attention_in_spans(rec, q, k, v, span, prefix, heads);
    attended.operand().rows(rec)
}

/// The same, for a product that follows: where the keys of each row were cut into shares, these are not yet put together.
#[track_caller]
pub fn attention_in_spans(
    rec: &Recorder,
    q: Columns,
    k: Columns,
    v: Columns,
    span: &Tensor,
    prefix: usize,
    heads: Heads,
) -> Attended {
    let [rows, _] = q.tensor.matrix();
    span.expect([rows, 2]);
    if let Some(splits) = splits(rec.gpu(), rows, k.tensor.matrix()[0], heads) {
        return attention_shares(rec, q, k, v, span, prefix, heads, splits);
    }
    assert!(!q.half, "queries are f32");
    assert!(
        heads.width.is_multiple_of(4) && heads.width <= 128 && heads.q.is_multiple_of(heads.kv),
        "{heads:?}"
    );
    let (q_stride, q_first) = q.quads(heads.q * heads.width);
    let (k_stride, k_first) = k.quads(heads.kv * heads.width);
    let (v_stride, v_first) = v.quads(heads.kv * heads.width);
    let y = Tensor::empty(rec, [rows, heads.q * heads.width]);
    let params = Params {
        rows: rows as u32,
        heads: heads.q as u32,
        share: (heads.q / heads.kv) as u32,
        width: (heads.width / 4) as u32,
        q_stride,
        q_first,
        k_stride,
        k_first,
        v_stride,
        v_first,
        scale: 1.0 / (heads.width as f32).sqrt(),
    };
    // The prefix is the same for all rows, so its keys are read by many rows at once.
    let before = (prefix > 0).then(|| attention_on_prefix(rec, q, k, v, heads, prefix));
    let (seen, state) = match &before {
        Some((seen, state)) => (seen, state),
        None => (q.tensor, q.tensor),
    };
    let bindings: &[(&str, &dyn Bind)] = &[
        ("q", q.tensor),
        ("k", k.tensor),
        ("v", v.tensor),
        ("span", span),
        ("seen", seen),
        ("state", state),
        ("y", &y),
    ];
    // Fewer lanes, less waiting at barriers, where lanes are not threads of their own.
    let lanes = if rec.gpu().is_cpu() {
        16.max((heads.width / 4).next_power_of_two())
    } else {
        32
    };
    let variant = ATTENTION_SPANS
        .set("PREFIX", u32::from(prefix > 0))
        .set("F16", u32::from(k.is_half(&v)))
        .set("WG", lanes as u32);
    rec.dispatch(variant, params, bindings, rows * heads.q);
    y.into()
}
