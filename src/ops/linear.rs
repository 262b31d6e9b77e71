//! `x · wᵀ + b` for many rows, with packed weights of any format.

use crate::gpu::{Bind, Recorder, kernel};
use crate::ops::{Activation, broadcast_pays, groups, linear_broadcast, linear_vec};
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// A register tile of 8 rows by 8 columns per thread.
    LINEAR = "linear" + "shared/tile" + "shared/activation", weight; {
        rows: u32, cols: u32, steps: u32, panels: u32,
    }
}

/// Rows up to which one thread per panel and row beats the tile of 8 rows.
const FEW_ROWS: usize = 2;

/// `activate(x · wᵀ + bias) + residual`: x `[…, inputs]`, the result `[…, weight.width()]`; bias is
/// padded to whole panels.
#[track_caller]
pub fn linear(
    rec: &Recorder,
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
    if x.matrix()[0] <= FEW_ROWS {
        linear_vec(rec, x, weight, bias, activation, residual)
    } else if broadcast_pays(rec.gpu(), weight.panels()) {
        linear_broadcast(rec, x, weight, bias, activation, residual)
    } else {
        linear_tile(rec, x, weight, bias, activation, residual)
    }
}

/// The shapes of a linear layer's operands; panics if they do not fit. Returns the rows.
#[track_caller]
pub(super) fn check_linear(
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    residual: Option<&Tensor>,
) -> usize {
    let [rows, inputs] = x.matrix();
    assert_eq!(
        inputs, weight.inputs,
        "inputs of a linear layer with {} outputs",
        weight.outputs
    );
    assert_eq!(
        bias.len(),
        weight.panels() * 8,
        "bias of a linear layer with {} outputs",
        weight.outputs
    );
    if let Some(residual) = residual {
        assert_eq!(
            residual.matrix(),
            [rows, weight.width()],
            "residual of a linear layer"
        );
    }
    rows
}

/// The kernel for every adapter.
#[track_caller]
pub(super) fn linear_tile(
    rec: &Recorder,
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
    let rows = check_linear(x, weight, bias, residual);
    let y = Tensor::empty(rec, [rows, weight.width()]);
    let params = Params {
        rows: rows as u32,
        cols: weight.width() as u32,
        steps: weight.steps() as u32,
        panels: weight.panels() as u32,
    };
    let variant = LINEAR
        .format(weight.format)
        .set("ACTIVATION", activation as u32)
        .set("RESIDUAL", u32::from(residual.is_some()))
        .flops(2 * rows * weight.inputs * weight.outputs);
    let mut bindings: Vec<(&str, &dyn Bind)> = weight.bindings().collect();
    // Without a residual any readable buffer fills its place.
    bindings.extend([
        ("x", x as &dyn Bind),
        ("bias", bias),
        ("residual", residual.unwrap_or(x)),
        ("y", &y),
    ]);
    rec.dispatch(
        variant,
        params,
        &bindings,
        [groups(rows.div_ceil(8) * weight.panels()), 1],
    );
    y
}
