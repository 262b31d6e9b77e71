//! `softmax(q kᵀ / √d + added) v` for equal lengths, streamed over the keys.

use super::attention_broadcast::{attention_broadcasts, broadcast};
use super::attention_coop::{attention_coop_pays, cooperate};
use crate::gpu::{Recorder, Variant, kernel};
use crate::ops::{ATTENTION_BROADCAST, ATTENTION_NARROW, NARROW, attention_narrow, unpack_half};
use crate::tensor::Tensor;

kernel! {
    /// Scaled dot-product attention: several query rows share each tile of keys.
    ATTENTION = "attention"; {
        queries: u32, keys: u32, width: u32, blocks: u32, heads: u32, group: u32,
        q_stride: u32, q_first: u32, k_stride: u32, k_first: u32, v_stride: u32, v_first: u32, scale: f32,
        window: u32, added_stride: u32, added_heads: u32, period: u32, columns: u32,
    }
}

/// A part of the columns of a tensor: q, k and v may be neighbours in one stacked product.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// The tensor, `[rows, stride]`.
    pub tensor: &'a Tensor,
    /// The first column.
    pub first: usize,
    /// Whether each word of the tensor holds two columns as f16.
    pub(super) half: bool,
}

impl<'a> From<&'a Tensor> for Columns<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::all(tensor)
    }
}

impl<'a> Columns<'a> {
    /// All columns of a tensor.
    pub fn all(tensor: &'a Tensor) -> Self {
        Self::from(tensor, 0)
    }

    /// All columns of a tensor whose words hold two of them each, as f16 (`[rows, columns / 2]`). Only keys and values may
    /// be kept so, in a cache.
    pub fn halves(tensor: &'a Tensor) -> Self {
        Self {
            half: true,
            ..Self::all(tensor)
        }
    }

    /// Columns from `first` on.
    pub fn from(tensor: &'a Tensor, first: usize) -> Self {
        Self {
            tensor,
            first,
            half: false,
        }
    }

    /// The row length and the first column in vec4s, after checking that `cols` columns are there.
    #[track_caller]
    pub(super) fn quads(&self, cols: usize) -> (u32, u32) {
        let [_, words] = self.tensor.matrix();
        let (stride, whole) = if self.half {
            (2 * words, 8)
        } else {
            (words, 4)
        };
        assert!(
            self.first + cols <= stride
                && stride.is_multiple_of(whole)
                && self.first.is_multiple_of(4),
            "columns of an attention"
        );
        ((stride / 4) as u32, (self.first / 4) as u32)
    }

    /// Whether keys, these, and values are kept as f16: both or neither.
    #[track_caller]
    pub(super) fn is_half(&self, values: &Self) -> bool {
        assert_eq!(self.half, values.half, "keys and values are kept alike");
        self.half
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

/// What becomes of the scores `q kᵀ / √d` before the softmax. `true` is causal and nothing else.
///
/// A key whose score is below −1e30 is hidden like one that the mask hides, so a bias may hide keys (by −∞, by
/// the least f32). A row that sees no key at all gives zeros.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scores<'a> {
    /// Row i of a group sees the keys up to `i + keys − queries`.
    pub causal: bool,
    /// Of those only the last so many: a sliding window. It asks for `causal`.
    pub window: Option<usize>,
    /// What is added to them.
    pub added: Added<'a>,
}

/// What is added to the scores of an attention.
#[derive(Clone, Copy, Debug, Default)]
pub enum Added<'a> {
    /// Nothing.
    #[default]
    Nothing,
    /// A number for each query and key.
    Bias {
        /// `[kinds, heads or 1, queries, keys]`, the rows padded to whole vec4s with whatever.
        bias: &'a Tensor,
        /// `[period]` u32: group b adds `kind[b % period]`. Without it all groups add the first kind.
        kind: Option<&'a Tensor>,
    },
    /// A number for the line and one for the column of each key, as [`crate::ops::rel_pos`] makes them of q.
    Relative {
        /// `[batch, heads, lines + columns, queries]`, the rows padded to whole vec4s.
        places: &'a Tensor,
        /// Columns of the keys' grid.
        columns: usize,
    },
}

impl From<bool> for Scores<'_> {
    fn from(causal: bool) -> Self {
        Self {
            causal,
            ..Self::default()
        }
    }
}

impl Scores<'_> {
    /// `override CAUSAL`.
    fn mask(&self) -> u32 {
        match (self.causal, self.window) {
            (false, _) => 0,
            (true, None) => 1,
            (true, Some(_)) => 2,
        }
    }

    /// `override ADDED`.
    fn adds(&self) -> u32 {
        match self.added {
            Added::Nothing => 0,
            Added::Bias { .. } => 1,
            Added::Relative { columns, .. } if columns.is_multiple_of(4) => 3,
            Added::Relative { .. } => 2,
        }
    }
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
    scores: Scores<'a>,
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
        scores: Scores<'a>,
    ) -> Self {
        let ([q_rows, _], [k_rows, _]) = (q.tensor.matrix(), k.tensor.matrix());
        assert!(
            ![q, k, v].iter().any(|columns| columns.half),
            "this attention reads f32 alone"
        );
        assert!(
            batch > 0 && q_rows % batch == 0 && k_rows % batch == 0,
            "{q_rows} and {k_rows} rows in {batch} groups"
        );
        assert_eq!(k_rows, v.tensor.matrix()[0], "rows of k and v");
        let (queries, keys) = (q_rows / batch, k_rows / batch);
        assert!(
            !scores.causal || keys >= queries,
            "{queries} causal queries on {keys} keys"
        );
        assert!(
            scores
                .window
                .is_none_or(|window| scores.causal && window > 0),
            "a window of {:?} keys, causal: {}",
            scores.window,
            scores.causal
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
            scores,
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

    /// `window`, `added_stride`, `added_heads`, `period`, `columns`, after checking the shape of what is added.
    #[track_caller]
    pub(super) fn additions(&self) -> [u32; 5] {
        let Self { queries, keys, .. } = *self;
        let heads = self.heads.q;
        let window = self.scores.window.map_or(keys, |window| window.min(keys)) as u32;
        match self.scores.added {
            Added::Nothing => [window, 0, 0, 0, 0],
            Added::Bias { bias, kind } => {
                let [kinds, bias_heads, _, _] = bias.dims();
                assert!(
                    bias_heads == 1 || bias_heads == heads,
                    "a bias of {bias_heads} heads for {heads}"
                );
                let padded = keys.next_multiple_of(4);
                bias.expect([kinds, bias_heads, queries, padded]);
                let period = kind.map_or(0, Tensor::len);
                [
                    window,
                    (padded / 4) as u32,
                    bias_heads as u32,
                    period as u32,
                    0,
                ]
            }
            Added::Relative { places, columns } => {
                assert!(
                    columns > 0 && keys.is_multiple_of(columns),
                    "{keys} keys in {columns} columns"
                );
                let (lines, padded) = (keys / columns, queries.next_multiple_of(4));
                places.expect([self.batch, heads, lines + columns, padded]);
                [window, (padded / 4) as u32, 0, 0, columns as u32]
            }
        }
    }

    /// The overrides that all kernels of this module's bindings have.
    pub(super) fn set(&self, variant: Variant) -> Variant {
        variant
            .set("CAUSAL", self.scores.mask())
            .set("ADDED", self.scores.adds())
            .set("STATE", u32::from(self.state.is_some()))
    }

    /// Operations of both products, without those for keys that the mask hides.
    fn flops(&self) -> usize {
        let Self { queries, keys, .. } = *self;
        let window = self.scores.window.unwrap_or(keys);
        let seen: usize = match self.scores.causal {
            true => (0..queries)
                .map(|i| (i + 1 + keys - queries).min(window))
                .sum(),
            false => queries * keys,
        };
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
        let (added, kind) = match self.scores.added {
            Added::Nothing => (self.q.tensor, self.q.tensor),
            Added::Bias { bias, kind } => (bias, kind.unwrap_or(self.q.tensor)),
            Added::Relative { places, .. } => (places, self.q.tensor),
        };
        rec.dispatch(
            variant.flops(self.flops()),
            params,
            &[
                ("q", self.q.tensor),
                ("k", self.k.tensor),
                ("v", self.v.tensor),
                ("y", &y),
                ("state", self.state.unwrap_or(&unwanted)),
                ("added", added),
                ("kind", kind),
            ],
            groups,
        );
        y
    }

    /// By the kernel that is the faster one on this adapter.
    #[track_caller]
    fn run(&self, rec: &Recorder) -> Tensor {
        let gpu = rec.gpu();
        if attention_coop_pays(gpu, self.heads, self.queries) {
            cooperate(rec, self)
        } else if attention_broadcasts(gpu, self.heads) && gpu.trusts(&ATTENTION_BROADCAST) {
            broadcast(rec, self)
        } else {
            tile(rec, self)
        }
    }
}

/// Attention of `batch` groups of rows: q is `(batch · queries, …)`, k and v are `(batch · keys, …)`;
/// the result is `[batch · queries, heads.q · heads.width]`. What hides keys or adds to their scores is said
/// by `scores`, where a `bool` is the causal mask alone.
#[track_caller]
pub fn attention<'a>(
    rec: &Recorder,
    q: Columns<'a>,
    k: Columns<'a>,
    v: Columns<'a>,
    heads: Heads,
    batch: usize,
    scores: impl Into<Scores<'a>>,
) -> Tensor {
    let asked = Asked::of(q, k, v, heads, batch, scores.into());
    let plain = asked.scores.mask() == 0 && asked.scores.adds() == 0;
    if heads.width <= NARROW && plain && rec.gpu().trusts(&ATTENTION_NARROW) {
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
    scores: Scores,
) -> Tensor {
    tile(rec, &Asked::of(q, k, v, heads, batch, scores))
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
    // Many rows read these keys, so they are unpacked once for all of them.
    let unpacked = k
        .is_half(&v)
        .then(|| [k, v].map(|kept| unpack_half(rec, kept.tensor, keys)));
    let (k, v) = match &unpacked {
        Some([k, v]) => (Columns::all(k), Columns::all(v)),
        None => (k, v),
    };
    let asked = Asked {
        keys,
        state: Some(&state),
        ..Asked::of(q, k, v, heads, 1, Scores::default())
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
    let [window, added_stride, added_heads, period, columns] = asked.additions();
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
        window,
        added_stride,
        added_heads,
        period,
        columns,
    };
    // A team of 8 lanes owns 8 rows. Barriers are dear where lanes are not threads of their own.
    let lanes = if rec.gpu().is_cpu() { 8 } else { 32 };
    asked.dispatch(
        rec,
        asked.set(ATTENTION.set("WG", lanes as u32)),
        params,
        [asked.queries.div_ceil(lanes), heads.q * blocks, asked.batch],
    )
}
