//! `softmax(q kᵀ / √d + mask) v` for equal lengths, streamed over the keys.

use crate::gpu::{Recorder, kernel};
use crate::ops::{NARROW, attention_narrow};
use crate::tensor::Tensor;

kernel! {
    /// Scaled dot-product attention: several query rows share each tile of keys.
    ATTENTION = "attention"; {
        queries: u32, keys: u32, width: u32, blocks: u32, heads: u32, group: u32,
        q_stride: u32, q_first: u32, k_stride: u32, k_first: u32, v_stride: u32, v_first: u32, scale: f32,
    }
}

/// A part of the columns of a tensor: q, k and v may be neighbours in one stacked product.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// The tensor, `[rows, stride]`.
    pub tensor: &'a Tensor,
    /// The first column.
    pub first: usize,
}

impl<'a> Columns<'a> {
    /// All columns of a tensor.
    pub fn all(tensor: &'a Tensor) -> Self {
        Self { tensor, first: 0 }
    }

    /// Columns from `first` on.
    pub fn from(tensor: &'a Tensor, first: usize) -> Self {
        Self { tensor, first }
    }

    /// The row length and the first column in vec4s, after checking that `cols` columns are there.
    #[track_caller]
    pub(super) fn quads(&self, cols: usize) -> (u32, u32) {
        let [_, stride] = self.tensor.matrix();
        assert!(
            self.first + cols <= stride && stride.is_multiple_of(4) && self.first.is_multiple_of(4),
            "columns of an attention"
        );
        ((stride / 4) as u32, (self.first / 4) as u32)
    }
}

/// The heads of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Heads of q.
    pub q: usize,
    /// Heads of k and v, a divisor of the former.
    pub kv: usize,
    /// Columns of a head, a multiple of 8.
    pub width: usize,
}

/// Attention of `batch` groups of rows: q is `(batch · queries, …)`, k and v are `(batch · keys, …)`;
/// the result is `[batch · queries, heads.q · heads.width]`. With `causal`, row i of a group sees the
/// keys up to `i + keys − queries`.
#[track_caller]
pub fn attention(
    rec: &Recorder,
    q: Columns,
    k: Columns,
    v: Columns,
    heads: Heads,
    batch: usize,
    causal: bool,
) -> Tensor {
    let ([q_rows, _], [k_rows, _]) = (q.tensor.matrix(), k.tensor.matrix());
    assert!(
        batch > 0 && q_rows % batch == 0 && k_rows % batch == 0,
        "{q_rows} and {k_rows} rows in {batch} groups"
    );
    assert_eq!(k_rows, v.tensor.matrix()[0], "rows of k and v");
    if heads.width <= NARROW && !causal {
        return attention_narrow(rec, q, k, v, heads, batch);
    }
    let (queries, keys) = (q_rows / batch, k_rows / batch);
    assert!(
        !causal || keys >= queries,
        "{queries} causal queries on {keys} keys"
    );
    tiled(rec, q, k, v, heads, [batch, queries, keys], causal, None)
}

/// Attention of all rows of q on the first `keys` rows of k and v, and where each row's softmax stands:
/// `[rows, heads, 2]`, its maximum and its sum. [`crate::ops::attention_spans`] goes on from there.
#[track_caller]
pub(super) fn attention_on_prefix(
    rec: &Recorder,
    q: Columns,
    k: Columns,
    v: Columns,
    heads: Heads,
    keys: usize,
) -> (Tensor, Tensor) {
    let ([rows, _], [k_rows, _]) = (q.tensor.matrix(), k.tensor.matrix());
    assert!(
        keys > 0 && keys <= k_rows,
        "a prefix of {keys} of {k_rows} keys"
    );
    let state = Tensor::empty(rec, [rows, heads.q, 2]);
    let y = tiled(rec, q, k, v, heads, [1, rows, keys], false, Some(&state));
    (y, state)
}

#[expect(
    clippy::too_many_arguments,
    reason = "the one dispatch behind both of the above"
)]
#[track_caller]
fn tiled(
    rec: &Recorder,
    q: Columns,
    k: Columns,
    v: Columns,
    heads: Heads,
    [batch, queries, keys]: [usize; 3],
    causal: bool,
    state: Option<&Tensor>,
) -> Tensor {
    assert!(
        heads.width.is_multiple_of(8) && heads.q.is_multiple_of(heads.kv),
        "{heads:?}"
    );
    let width = heads.width / 4;
    let blocks = width.div_ceil(16);
    let (q_stride, q_first) = q.quads(heads.q * heads.width);
    let (k_stride, k_first) = k.quads(heads.kv * heads.width);
    let (v_stride, v_first) = v.quads(heads.kv * heads.width);
    let y = Tensor::empty(rec, [batch * queries, heads.q * heads.width]);
    let params = Params {
        queries: queries as u32,
        keys: keys as u32,
        width: width as u32,
        blocks: blocks as u32,
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
    // A team of 8 lanes owns 8 rows. Barriers are dear where lanes are not threads of their own.
    let lanes = if rec.gpu().is_cpu() { 8 } else { 32 };
    // A writable binding must not be bound twice: where no state is wanted it gets a buffer of its own.
    let unwanted = Tensor::empty(rec, 2);
    let variant = ATTENTION
        .set("CAUSAL", u32::from(causal))
        .set("STATE", u32::from(state.is_some()))
        .set("WG", lanes as u32);
    rec.dispatch(
        variant,
        params,
        &[
            ("q", q.tensor),
            ("k", k.tensor),
            ("v", v.tensor),
            ("y", &y),
            ("state", state.unwrap_or(&unwanted)),
        ],
        [queries.div_ceil(lanes), heads.q * blocks, batch],
    );
    y
}
