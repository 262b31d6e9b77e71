//! `x · wᵀ + b` for many rows, with packed weights of any format.

use crate::gpu::{Bind, Gpu, Groups, Kernel, Recorder, Variant, kernel};
use crate::ops::{
    Activation, LINEAR_BROADCAST, LINEAR_COOP, LINEAR_VEC, broadcast_into, broadcast_pays,
    coop_into, coop_pays, groups, vec_into,
};
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// A register tile of 8 rows by 8 columns per thread.
    LINEAR = "linear" + "shared/tile" + "shared/activation" + "shared/store", weight; {
        rows: u32, cols: u32, steps: u32, panels: u32, y_cols: u32, y_first: u32,
    }
}

/// Rows up to which one thread per panel and row beats the tile of 8 rows.
const FEW_ROWS: usize = 2;

/// `activate(x · wᵀ + bias) + residual`: x `[…, inputs]`, the result `[…, weight.width()]`; bias is
/// padded to whole panels. Of a gated matrix `activate(x · gateᵀ + bias) · (x · upᵀ + bias) + residual`,
/// the bias interleaved as the matrix is.
#[track_caller]
pub fn linear(
    rec: &Recorder,
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
    Product {
        x,
        weight,
        bias,
        activation,
        residual,
    }
    .alone(rec, linear_into)
}

/// As [`linear`], into `weight.width()` columns of `y` from column `first` on: products of matrices in different
/// formats side by side. The residual is as wide as `y`.
#[track_caller]
pub fn linear_into(rec: &Recorder, product: &Product, y: &Tensor, first: usize) {
    let rows = product.x.matrix()[0];
    let into = match linear_kernel(rec.gpu(), rows, product.weight.panels()).name {
        "linear_vec" => vec_into,
        "linear_coop" => coop_into,
        "linear_broadcast" => broadcast_into,
        _ => tile_into,
    };
    into(rec, product, y, first);
}

/// The kernel that multiplies so many rows by so many panels on this adapter.
pub(super) fn linear_kernel(gpu: &Gpu, rows: usize, panels: usize) -> &'static Kernel {
    if rows <= FEW_ROWS && gpu.trusts(&LINEAR_VEC) {
        &LINEAR_VEC
    } else if coop_pays(gpu, rows) {
        &LINEAR_COOP
    } else if broadcast_pays(gpu, &LINEAR_BROADCAST, panels) {
        &LINEAR_BROADCAST
    } else {
        &LINEAR
    }
}

/// A product with packed weights and what follows it, for whichever kernel: a convolution is one too.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// The rows.
    pub x: &'a Tensor,
    /// The matrix.
    pub weight: &'a Matrix,
    /// What is added to the product, padded to whole panels.
    pub bias: &'a Tensor,
    /// What follows.
    pub activation: Activation,
    /// What is added last.
    pub residual: Option<&'a Tensor>,
}

impl Product<'_> {
    /// A result of its own, by `op`.
    #[track_caller]
    pub(super) fn alone(
        &self,
        rec: &Recorder,
        op: impl FnOnce(&Recorder, &Self, &Tensor, usize),
    ) -> Tensor {
        let y = Tensor::empty(rec, [self.x.matrix()[0], self.weight.width()]);
        op(rec, self, &y, 0);
        y
    }

    /// The shapes of a linear layer's operands; panics if they do not fit. Returns the rows.
    #[track_caller]
    pub(super) fn check(&self, y: &Tensor, first: usize) -> usize {
        let [rows, inputs] = self.x.matrix();
        let (weight, outputs) = (self.weight, self.weight.outputs);
        assert_eq!(
            inputs, weight.inputs,
            "inputs of a linear layer with {outputs} outputs"
        );
        assert_eq!(
            self.bias.len(),
            weight.panels() * 8,
            "bias of a linear layer with {outputs} outputs"
        );
        let [y_rows, y_cols] = y.matrix();
        assert_eq!(y_rows, rows, "rows of the result of a linear layer");
        let fits = first + weight.width() <= y_cols;
        assert!(
            fits && first.is_multiple_of(4) && y_cols.is_multiple_of(4),
            "{outputs} outputs from column {first} on of {y_cols}"
        );
        if let Some(residual) = self.residual {
            assert_eq!(
                residual.matrix(),
                [rows, y_cols],
                "residual of a linear layer"
            );
        }
        rows
    }

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

    /// The same of a linear layer, whose matrix may be gated.
    pub(super) fn linear_variant(&self, kernel: &'static Kernel) -> Variant {
        self.variant(kernel)
            .set("GATED", u32::from(self.weight.gated))
    }

    /// Runs it into `y`, `rows` rows of results.
    #[track_caller]
    pub(super) fn dispatch(
        &self,
        rec: &Recorder,
        variant: Variant,
        params: impl bytemuck::Pod,
        (y, rows): (&Tensor, usize),
        groups: impl Into<Groups>,
    ) {
        let weight = self.weight;
        let mut bindings: Vec<(&str, &dyn Bind)> = weight.bindings().collect();
        // Without a residual any readable buffer fills its place.
        bindings.extend([
            ("x", self.x as &dyn Bind),
            ("bias", self.bias),
            ("residual", self.residual.unwrap_or(self.x)),
            ("y", y),
        ]);
        let variant = variant.flops(2 * rows * weight.inputs * weight.rows());
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
    Product {
        x,
        weight,
        bias,
        activation,
        residual,
    }
    .alone(rec, tile_into)
}

/// The same, as [`linear_into`].
#[track_caller]
pub(super) fn tile_into(rec: &Recorder, product: &Product, y: &Tensor, first: usize) {
    let rows = product.check(y, first);
    let weight = product.weight;
    let params = Params {
        rows: rows as u32,
        cols: weight.width() as u32,
        steps: weight.steps() as u32,
        panels: weight.panels() as u32,
        y_cols: y.matrix()[1] as u32,
        y_first: first as u32,
    };
    let groups = [groups(rows.div_ceil(8) * weight.panels()), 1];
    let variant = product.linear_variant(&LINEAR);
    product.dispatch(rec, variant, params, (y, rows), groups);
}
