//! Rows scaled to mean square 1.

use crate::gpu::{Recorder, Variant, kernel};
use crate::ops::{row_team, team_groups};
use crate::tensor::Tensor;

kernel! {
    /// `y = x / √(mean(x²) + eps) · weight`, row by row.
    RMS_NORM = "rms_norm" + "shared/flat" + "shared/team"; { rows: u32, quads: u32, eps: f32 }
}

kernel! {
    /// The same where the lanes of a row are of one subgroup.
    RMS_NORM_SUBGROUP = "rms_norm_subgroup", RMS_NORM of "rms_norm" + "shared/flat" + "shared/team_subgroup";
}

/// RMS norm over the last dimension.
#[track_caller]
pub fn rms_norm(rec: &Recorder, x: &Tensor, weight: &Tensor, eps: f32) -> Tensor {
    let team = row_team(rec.gpu(), &RMS_NORM, &RMS_NORM_SUBGROUP);
    rms_norm_by(rec, team, x, weight, eps)
}

/// The same by one of the two kernels.
#[track_caller]
pub(super) fn rms_norm_by(
    rec: &Recorder,
    team: Variant,
    x: &Tensor,
    weight: &Tensor,
    eps: f32,
) -> Tensor {
    let [rows, cols] = x.matrix();
    weight.expect(cols);
    assert!(cols.is_multiple_of(4), "norm of {cols} columns");
    let y = Tensor::empty(rec, x.shape());
    let params = Params {
        rows: rows as u32,
        quads: (cols / 4) as u32,
        eps,
    };
    let groups = team_groups(&team, rows);
    rec.dispatch(
        team,
        params,
        &[("x", x), ("weight", weight), ("y", &y)],
        groups,
    );
    y
}
