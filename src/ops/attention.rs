//! `softmax(q kᵀ / √d + mask) v` for equal lengths, streamed over the keys.

use super::attention_broadcast::{attention_broadcasts, broadcast};
use crate::gpu::{Recorder, Variant, kernel};
use crate::ops::{ATTENTION_BROADCAST, ATTENTION_NARROW, NARROW, attention_narrow};
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

/// What an attention is asked for, by whichever kernel.
pub(super) struct Asked<'a> {
    q: Columns<'a>,
    k: Columns<'a>,
    v: Columns<'a>,
    pub(super) heads: Heads,
    pub(super) batch: usize,
    /// Rows of q in a group.
    pub(super) queries: usize,
    /// Rows of k and v that a group sees.
    pub(super) keys: usize,
    pub(super) causal: bool,
    /// Where each row's maximum and sum go, `[rows, heads, 2]`.
    pub(super) state: Option<&'a Tensor>,
}

impl<'a> Asked<'a> {
    /// After checking that the rows of `batch` groups fit.
    #[track_caller]
    pub(super) fn of(
        q: Columns<'a>,
        k: Columns<'a>,
        v: Columns<'a>,
        heads: Heads,
        batch: usize,
        causal: bool,
    ) -> Self {
        let ([q_rows, _], [k_rows, _]) = (q.tensor.matrix(), k.tensor.matrix());
        assert!(
            batch > 0 && q_rows % batch == 0 && k_rows % batch == 0,
            "{q_rows} and {k_rows} rows in {batch} groups"
        );
        assert_eq!(k_rows, v.tensor.matrix()[0], "rows of k and v");
        let (queries, keys) = (q_rows / batch, k_rows / batch);
        assert!(
            !causal || keys >= queries,
            "{queries} causal queries on {keys} keys"
        );
        assert!(heads.q.is_multiple_of(heads.kv), "{heads:?}");
        Self {
            q,
            k,
            v,
            heads,
            batch,
            queries,
            keys,
            causal,
            state: None,
        }
    }

    /// Row length and first column of q, k and v, in vec4s, of heads that the tiles can take.
    #[track_caller]
    pub(super) fn strides(&self) -> [u32; 6] {
        let Heads { q, kv, width } = self.heads;
        assert!(width.is_multiple_of(8), "{:?}", self.heads);
        let (q_stride, q_first) = self.q.quads(q * width);
        let (k_stride, k_first) = self.k.quads(kv * width);
        let (v_stride, v_first) = self.v.quads(kv * width);
        [q_stride, q_first, k_stride, k_first, v_stride, v_first]
    }

    /// `1 / √d`.
    pub(super) fn scale(&self) -> f32 {
        1.0 / (self.heads.width as f32).sqrt()
    }

    /// Operations of both products; the causal mask hides keys by the triangle.
    fn flops(&self) -> usize {
        let hidden = match self.causal {
            true => self.queries * self.queries.saturating_sub(1) / 2,
            false => 0,
        };
        let seen = self.queries * self.keys - hidden;
        4 * self.batch * seen * self.heads.q * self.heads.width
    }

    /// Runs a kernel of this module's bindings on it.
    #[track_caller]
    pub(super) fn dispatch(
        &self,
        rec: &Recorder,
        variant: Variant,
        params: impl bytemuck::Pod,
        groups: [usize; 3],
    ) -> Tensor {
        let y = Tensor::empty(
            rec,
            [self.batch * self.queries, self.heads.q * self.heads.width],
        );
        // A writable binding must not be bound twice: where no state is wanted it gets a buffer of its own.
        let unwanted = Tensor::empty(rec, 2);
        rec.dispatch(
            variant.flops(self.flops()),
            params,
            &[
                ("q", self.q.tensor),
                ("k", self.k.tensor),
                ("v", self.v.tensor),
                ("y", &y),
                ("state", self.state.unwrap_or(&unwanted)),
            ],
            groups,
        );
        y
    }

    /// By the kernel that is the faster one on this adapter.
    #[track_caller]
    fn run(&self, rec: &Recorder) -> Tensor {
        let gpu = rec.gpu();
        if attention_broadcasts(gpu, self.heads) && gpu.trusts(&ATTENTION_BROADCAST) {
            broadcast(rec, self)
        } else {
            tile(rec, self)
        }
    }
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
    let asked = Asked::of(q, k, v, heads, batch, causal);
    if heads.width <= NARROW && !causal && rec.gpu().trusts(&ATTENTION_NARROW) {
        return attention_narrow(rec, q, k, v, heads, batch);
    }
    asked.run(rec)
}

/// The kernel for every adapter.
#[track_caller]
pub(super) fn attention_tile(
    rec: &Recorder,
    q: Columns,
    k: Columns,
    v: Columns,
    heads: Heads,
    batch: usize,
    causal: bool,
) -> Tensor {
    tile(rec, &Asked::of(q, k, v, heads, batch, causal))
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
    let asked = Asked {
        keys,
        state: Some(&state),
        ..Asked::of(q, k, v, heads, 1, false)
    };
    let y = asked.run(rec);
    (y, state)
}

#[track_caller]
fn tile(rec: &Recorder, asked: &Asked) -> Tensor {
    let heads = asked.heads;
    let width = heads.width / 4;
    let blocks = width.div_ceil(16);
    let [q_stride, q_first, k_stride, k_first, v_stride, v_first] = asked.strides();
    let params = Params {
        queries: asked.queries as u32,
        keys: asked.keys as u32,
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
        scale: asked.scale(),
    };
    // A team of 8 lanes owns 8 rows. Barriers are dear where lanes are not threads of their own.
    let lanes = if rec.gpu().is_cpu() { 8 } else { 32 };
    let variant = ATTENTION
        .set("CAUSAL", u32::from(asked.causal))
        .set("STATE", u32::from(asked.state.is_some()))
        .set("WG", lanes as u32);
    asked.dispatch(
        rec,
        variant,
        params,
        [asked.queries.div_ceil(lanes), heads.q * blocks, asked.batch],
    )
}
