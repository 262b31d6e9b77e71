//! `x · wᵀ + b` for one row or two: decoding, bound by the bytes of the weights.

use crate::gpu::{Bind, Recorder, Variant, kernel};
use crate::ops::{Activation, Operand, Product, light_threads};
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// A panel of 8 columns per thread and slice of the inputs.
    LINEAR_VEC = "linear_vec" + "shared/tile" + "shared/activation" + "shared/store", weight; {
        rows: u32, cols: u32, steps: u32, panels: u32, y_cols: u32, y_first: u32, eps: f32, splits: u32, head: u32,
    }
}

/// Heads times shares of an attention that a workgroup keeps the weights of.
const MOST_SHARES: usize = 512;

/// As [`crate::ops::linear`], which calls it for few rows; a norm or the shares of an attention before it are folded in.
#[track_caller]
pub fn linear_vec<'a>(
    rec: &Recorder,
    x: impl Into<Operand<'a>>,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
    let plan = LINEAR_VEC.set("WG", light_threads(rec.gpu()));
    let product = Product::new(x.into(), weight, bias, activation, residual);
    product.alone(rec, |rec, product, y, first| {
        vec_into(rec, &plan, product, y, first);
    })
}

/// As [`crate::ops::linear_into`], with workgroups of this size.
#[track_caller]
pub(super) fn vec_into(
    rec: &Recorder,
    plan: &Variant,
    product: &Product,
    y: &Tensor,
    first: usize,
) {
    let rows = product.check(y, first);
    // A CPU adapter needs no more threads than panels; a GPU splits the inputs to get them.
    let split = if rec.gpu().is_cpu() { 1 } else { 8 };
    let weight = product.weight;
    let (source, eps, [splits, head]) = match product.x {
        Operand::Rows(_) => (0, 0.0, [0, 1]),
        Operand::Normed { eps, .. } => (1, eps, [0, 1]),
        Operand::Shares { state, .. } => {
            let [splits, _, heads, _] = state.dims();
            assert!(
                splits * heads <= MOST_SHARES,
                "{splits} shares of {heads} heads"
            );
            (2, 0.0, [splits, weight.inputs / heads / 4])
        }
    };
    let params = Params {
        rows: rows as u32,
        cols: weight.width() as u32,
        steps: weight.steps() as u32,
        panels: weight.panels() as u32,
        y_cols: y.matrix()[1] as u32,
        y_first: first as u32,
        eps,
        splits: splits as u32,
        head: head as u32,
    };
    let variant = product
        .linear_variant(plan)
        .set("SPLIT", split)
        .set("SOURCE", source);
    let threads = weight.panels() * split as usize;
    let groups = [threads.div_ceil(plan.value("WG") as usize), rows];
    // Without anything before it any readable buffer fills its place.
    let (x, before) = product.x.tensors();
    let before = [("before", before.unwrap_or(x) as &dyn Bind)];
    product.dispatch(rec, variant, params, (y, rows), groups, &before);
}

/// Whether `linear_vec` can fold so many shares of an attention in.
pub(super) fn folds_shares(splits: usize, heads: usize) -> bool {
    splits * heads <= MOST_SHARES
}
