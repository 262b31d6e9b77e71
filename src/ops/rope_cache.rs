//! Rotary positions, and keys and values put into their caches.

use crate::gpu::{Bind, Recorder, kernel};
use crate::ops::{Heads, groups};
use crate::tensor::Tensor;

kernel! {
    /// Splits a stacked q·k·v product, rotates q and k, stores k and v.
    ROPE_CACHE = "rope_cache" + "shared/flat"; { tokens: u32, heads: u32, kv_heads: u32, width: u32, theta_log2: f32 }
}

/// Rotates q and k of `qkv` (`[tokens, (q + 2 · kv) · width]`) by `position` (`[tokens]` u32) with
/// base `theta`, pairs of neighbours, and writes k and v into rows `slot` (`[tokens]` u32) of the
/// caches (`[slots, kv · width]`). Returns q, `[tokens, q · width]`.
#[track_caller]
pub fn rope_cache(
    rec: &Recorder,
    qkv: &Tensor,
    position: &Tensor,
    slot: &Tensor,
    heads: Heads,
    theta: f32,
    (k_cache, v_cache): (&Tensor, &Tensor),
) -> Tensor {
    let [tokens, row] = qkv.matrix();
    assert_eq!(
        row,
        (heads.q + 2 * heads.kv) * heads.width,
        "columns of q, k and v"
    );
    assert!(heads.width.is_multiple_of(4), "heads of {}", heads.width);
    position.expect(tokens);
    slot.expect(tokens);
    assert_eq!(
        k_cache.matrix()[1],
        heads.kv * heads.width,
        "columns of the key cache"
    );
    v_cache.expect(k_cache.shape());
    let q = Tensor::empty(rec, [tokens, heads.q * heads.width]);
    let params = Params {
        tokens: tokens as u32,
        heads: heads.q as u32,
        kv_heads: heads.kv as u32,
        width: (heads.width / 4) as u32,
        theta_log2: theta.log2(),
    };
    let bindings: &[(&str, &dyn Bind)] = &[
        ("qkv", qkv),
        ("position", position),
        ("slot", slot),
        ("q", &q),
        ("k_cache", k_cache),
        ("v_cache", v_cache),
    ];
    rec.dispatch(&ROPE_CACHE, params, bindings, groups(qkv.len() / 4));
    q
}
