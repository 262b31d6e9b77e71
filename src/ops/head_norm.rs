//! The norms of q's and k's heads.

use crate::gpu::{Recorder, Variant, kernel};
use crate::ops::{Heads, row_team, team_groups};
use crate::tensor::Tensor;

kernel! {
    /// RMS norm of each head of q and of k in a stacked q·k·v product.
    HEAD_NORM = "head_norm" + "shared/flat" + "shared/team"; { rows: u32, heads: u32, kv_heads: u32, quads: u32, eps: f32 }
}

kernel! {
    /// The same where the lanes of a row are of one subgroup.
    HEAD_NORM_SUBGROUP = "head_norm_subgroup", HEAD_NORM of "head_norm" + "shared/flat" + "shared/team_subgroup";
}

/// `x` (`[tokens, (q + 2 · kv) · width]`) with each head of q and k scaled to mean square 1 and by its row of `weight`
/// (`[2, width]`: of q, of k); v is copied.
#[track_caller]
pub fn head_norm(rec: &Recorder, x: &Tensor, weight: &Tensor, heads: Heads, eps: f32) -> Tensor {
    let team = row_team(rec.gpu(), &HEAD_NORM, &HEAD_NORM_SUBGROUP);
    head_norm_by(rec, team, x, weight, heads, eps)
}

/// The same by one of the two kernels.
#[track_caller]
pub(super) fn head_norm_by(
    rec: &Recorder,
    team: Variant,
    x: &Tensor,
    weight: &Tensor,
    heads: Heads,
    eps: f32,
) -> Tensor {
    let [tokens, row] = x.matrix();
    let all = heads.q + 2 * heads.kv;
    assert_eq!(row, all * heads.width, "columns of q, k and v");
    assert!(heads.width.is_multiple_of(4), "heads of {}", heads.width);
    weight.expect([2, heads.width]);
    let y = Tensor::empty(rec, x.shape());
    let params = Params {
        rows: (tokens * all) as u32,
        heads: heads.q as u32,
        kv_heads: heads.kv as u32,
        quads: (heads.width / 4) as u32,
        eps,
    };
    let groups = team_groups(&team, tokens * all);
    rec.dispatch(
        team,
        params,
        &[("x", x), ("weight", weight), ("y", &y)],
        groups,
    );
    y
}
