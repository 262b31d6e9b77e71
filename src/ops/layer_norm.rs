//! Rows shifted and scaled to mean 0 and variance 1.

use crate::gpu::{Recorder, Variant, kernel};
use crate::ops::{Activation, row_team, team_groups};
use crate::tensor::Tensor;

kernel! {
    /// `y = activate((x − mean) / √(var + eps) · weight + bias)`, row by row.
    LAYER_NORM = "layer_norm" + "shared/flat" + "shared/activation" + "shared/team"; { rows: u32, quads: u32, eps: f32 }
}

kernel! {
    /// The same where the lanes of a row are of one subgroup.
    LAYER_NORM_SUBGROUP = "layer_norm_subgroup", LAYER_NORM of "layer_norm" + "shared/flat" + "shared/activation" + "shared/team_subgroup";
}

/// Layer norm over the last dimension.
#[track_caller]
pub fn layer_norm(rec: &Recorder, x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Tensor {
    layer_norm_activated(rec, x, weight, bias, eps, Activation::None)
}

/// The same with an activation behind it.
#[track_caller]
pub fn layer_norm_activated(
    rec: &Recorder,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f32,
    activation: Activation,
) -> Tensor {
    let team = row_team(rec.gpu(), &LAYER_NORM, &LAYER_NORM_SUBGROUP);
    layer_norm_by(rec, team, x, weight, bias, eps, activation)
}

/// The same by one of the two kernels.
#[track_caller]
pub(super) fn layer_norm_by(
    rec: &Recorder,
    team: Variant,
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f32,
    activation: Activation,
) -> Tensor {
    let [rows, cols] = x.matrix();
    weight.expect(cols);
    bias.expect(cols);
    assert!(cols.is_multiple_of(4), "norm of {cols} columns");
    let y = Tensor::empty(rec, x.shape());
    let params = Params {
        rows: rows as u32,
        quads: (cols / 4) as u32,
        eps,
    };
    let groups = team_groups(&team, rows);
    rec.dispatch(
        team.set("ACTIVATION", activation as u32),
        params,
        &[("x", x), ("weight", weight), ("bias", bias), ("y", &y)],
        groups,
    );
    y
}
