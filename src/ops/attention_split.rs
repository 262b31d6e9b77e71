//! Attention of few rows on many keys, which are shared out: decoding.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Columns, Heads, Operand};
use crate::tensor::Tensor;

kernel! {
    /// Each share of a row's keys by itself, for all heads that read the same keys at once.
    ATTENTION_SPLIT = "attention_split" + "shared/halves" + "shared/kept"; {
        rows: u32, heads: u32, group: u32, blocks: u32, width: u32, prefix: u32, splits: u32,
        q_stride: u32, q_first: u32, k_stride: u32, k_first: u32, v_stride: u32, v_first: u32, scale: f32,
    }
}

/// The most heads of q that a workgroup takes at once.
const MOST_SHARED: usize = 4;

/// What an attention gave: one result, or that of each share of the keys, not yet put together.
#[derive(Clone, Debug)]
pub struct Attended {
    /// `[rows, heads · width]`, or of shares `[splits, rows, heads · width]`.
    part: Tensor,
    /// Of shares where their softmax stood, `[splits, rows, heads, 2]`.
    state: Option<Tensor>,
}

impl From<Tensor> for Attended {
    fn from(part: Tensor) -> Self {
        Self { part, state: None }
    }
}

impl Attended {
    /// As a product's operand.
    pub fn operand(&self) -> Operand<'_> {
        match &self.state {
            None => Operand::Rows(&self.part),
            Some(state) => Operand::Shares {
                part: &self.part,
                state,
            },
        }
    }
}

/// As [`crate::ops::attention_spans`], which calls it for few rows, with the keys of a row in `splits` shares. A row may
/// have any number of keys; one without any gives zeros.
#[track_caller]
#[expect(
    clippy::too_many_arguments,
    reason = "those of `attention_spans` and one more"
)]
pub fn attention_split(
    rec: &Recorder,
    q: Columns,
    k: Columns,
    v: Columns,
    span: &Tensor,
    prefix: usize,
    heads: Heads,
    splits: usize,
) -> Tensor {
    let shares = attention_shares(rec, q, k, v, span, prefix, heads, splits);
    shares.operand().rows(rec)
}

/// The same without putting the shares together.
#[track_caller]
#[expect(
    clippy::too_many_arguments,
    reason = "those of `attention_spans` and one more"
)]
pub fn attention_shares(
    rec: &Recorder,
    q: Columns,
    k: Columns,
    v: Columns,
    span: &Tensor,
    prefix: usize,
    heads: Heads,
    splits: usize,
) -> Attended {
    let [rows, _] = q.tensor.matrix();
    span.expect([rows, 2]);
    assert!(!q.half, "queries are f32");
    assert!(
        heads.width.is_multiple_of(4) && heads.width <= 256 && heads.q.is_multiple_of(heads.kv),
        "{heads:?}"
    );
    let (q_stride, q_first) = q.quads(heads.q * heads.width);
    let (k_stride, k_first) = k.quads(heads.kv * heads.width);
    let (v_stride, v_first) = v.quads(heads.kv * heads.width);
    let (group, width) = (heads.q / heads.kv, heads.width / 4);
    // As few workgroups as four heads each ask for, and none much emptier than the others.
    let blocks = group.div_ceil(MOST_SHARED);
    let share = group.div_ceil(blocks);
    let part = Tensor::empty(rec, [splits, rows, heads.q * heads.width]);
    let state = Tensor::empty(rec, [splits, rows, heads.q, 2]);
    let params = Params {
        rows: rows as u32,
        heads: heads.q as u32,
        group: group as u32,
        blocks: blocks as u32,
        width: width as u32,
        prefix: prefix as u32,
        splits: splits as u32,
        q_stride,
        q_first,
        k_stride,
        k_first,
        v_stride,
        v_first,
        scale: 1.0 / (heads.width as f32).sqrt(),
    };
    // Fewer lanes, less waiting at barriers, where lanes are not threads of their own.
    let lanes = match rec.gpu().is_cpu() {
        true => 16.max(width.next_power_of_two()),
        false => 64,
    };
    rec.dispatch(
        ATTENTION_SPLIT
            .set("WG", lanes as u32)
            .set("SHARE", share as u32)
            .set("F16", u32::from(k.is_half(&v))),
        params,
        &[
            ("q", q.tensor),
            ("k", k.tensor),
            ("v", v.tensor),
            ("span", span),
            ("part", &part),
            ("state", &state),
        ],
        [splits, heads.kv * blocks, rows],
    );
    match splits {
        1 => part.reshape([rows, heads.q * heads.width]).into(),
        _ => Attended {
            part,
            state: Some(state),
        },
    }
}
