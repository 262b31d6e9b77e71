//! `x · wᵀ + b` for many rows, with packed weights of any format.

use crate::gpu::{Bind, Groups, Kernel, Recorder, Variant, kernel};
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

/// A product with packed weights and what follows it, for whichever kernel: a convolution is one too.
pub(super) struct Product<'a> {
    pub(super) x: &'a Tensor,
    pub(super) weight: &'a Matrix,
    pub(super) bias: &'a Tensor,
    pub(super) activation: Activation,
    pub(super) residual: Option<&'a Tensor>,
}

impl Product<'_> {
    /// The kernel for this format and epilogue.
    pub(super) fn variant(&self, kernel: &'static Kernel) -> Variant {
        self.activated(kernel)
            .set("RESIDUAL", u32::from(self.residual.is_some()))
    }

    /// The same with `RESIDUAL` left to the caller.
    pub(super) fn activated(&self, kernel: &'static Kernel) -> Variant {
        kernel
            .format(self.weight.format)
            .set("ACTIVATION", self.activation as u32)
    }

    /// Runs it into `y`, whose rows are of the weights' width.
    #[track_caller]
    pub(super) fn dispatch(
        &self,
        rec: &Recorder,
        variant: Variant,
        params: impl bytemuck::Pod,
        y: &Tensor,
        groups: impl Into<Groups>,
    ) {
        let weight = self.weight;
        let rows = y.len() / weight.width();
        let mut bindings: Vec<(&str, &dyn Bind)> = weight.bindings().collect();
        // Without a residual any readable buffer fills its place.
        bindings.extend([
            ("x", self.x as &dyn Bind),
            ("bias", self.bias),
            ("residual", self.residual.unwrap_or(self.x)),
            ("y", y),
        ]);
        let variant = variant.flops(2 * rows * weight.inputs * weight.outputs);
        rec.dispatch(variant, params, &bindings, groups);
    }
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
    let product = Product {
        x,
        weight,
        bias,
        activation,
        residual,
    };
    let variant = product.variant(&LINEAR);
    product.dispatch(
        rec,
        variant,
        params,
        &y,
        [groups(rows.div_ceil(8) * weight.panels()), 1],
    );
    y
}
