//! Rotary positions, and keys and values put into their caches.

use crate::gpu::{Bind, Recorder, kernel};
use crate::ops::{Columns, Heads, groups};
use crate::tensor::Tensor;

kernel! {
    /// Splits a stacked q·k·v product, rotates q and k, stores k and v.
    ROPE_CACHE = "rope_cache" + "shared/flat" + "shared/halves"; { tokens: u32, heads: u32, kv_heads: u32, width: u32, scale: f32 }
}

/// Which columns of a head are turned together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairs {
    /// `2i` and `2i + 1`: the paper's, to which GGUF permutes the rows of Llama's q and k.
    Neighbours,
    /// `i` and `i + width / 2`: that of Hugging Face's checkpoints, and of GGUF's for every other architecture.
    Halves,
}

/// A rotation for each position (RoPE, arXiv 2104.09864).
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// Radians a position of each pair, `[width / 2]`.
    pub frequency: &'a Tensor,
    /// What q and k are multiplied with beside: 1, or the temperature of yarn.
    pub scale: f32,
    /// What a pair is.
    pub pairs: Pairs,
}

/// Rotates q and k of `qkv` (`[tokens, (q + 2 · kv) · width]`) by `position` (`[tokens]` u32) and
/// writes k and v into rows `slot` (`[tokens]` u32) of the caches (`[slots, kv · width]`, or [`Columns::halves`]: as f16,
/// clamped to its range). Returns q, `[tokens, q · width]`.
#[track_caller]
pub fn rope_cache<'a>(
    rec: &Recorder,
    qkv: &Tensor,
    position: &Tensor,
    slot: &Tensor,
    heads: Heads,
    rotation: Rotation,
    (k_cache, v_cache): (impl Into<Columns<'a>>, impl Into<Columns<'a>>),
) -> Tensor {
    let (k_cache, v_cache) = (k_cache.into(), v_cache.into());
    let f16 = k_cache.is_half(&v_cache);
    let [tokens, row] = qkv.matrix();
    assert_eq!(
        row,
        (heads.q + 2 * heads.kv) * heads.width,
        "columns of q, k and v"
    );
    let halves = rotation.pairs == Pairs::Halves;
    let whole = if halves { 8 } else { 4 };
    assert!(
        heads.width.is_multiple_of(whole),
        "heads of {}",
        heads.width
    );
    position.expect(tokens);
    slot.expect(tokens);
    rotation.frequency.expect(heads.width / 2);
    let columns = heads.kv * heads.width;
    assert_eq!(
        k_cache.quads(columns),
        ((columns / 4) as u32, 0),
        "columns of the key cache"
    );
    v_cache.tensor.expect(k_cache.tensor.shape());
    let q = Tensor::empty(rec, [tokens, heads.q * heads.width]);
    let params = Params {
        tokens: tokens as u32,
        heads: heads.q as u32,
        kv_heads: heads.kv as u32,
        width: (heads.width / 4) as u32,
        scale: rotation.scale,
    };
    let bindings: &[(&str, &dyn Bind)] = &[
        ("qkv", qkv),
        ("position", position),
        ("slot", slot),
        ("frequency", rotation.frequency),
        ("q", &q),
        ("k_cache", k_cache.tensor),
        ("v_cache", v_cache.tensor),
    ];
    let variant = ROPE_CACHE
        .set("HALVES", u32::from(halves))
        .set("F16", u32::from(f16));
    rec.dispatch(variant, params, bindings, groups(qkv.len() / 4));
    q
}
