//! `x · wᵀ + b` for many rows, with packed weights of any format.

use crate::gpu::{Bind, Gpu, Groups, Recorder, Variant, kernel};
use crate::ops::choice::Class;
use crate::ops::{
    Activation, LINEAR_COOP, LINEAR_VEC, attention_merge, broadcast_into, broadcasts, coop_into,
    coop_pays, folds_shares, rms_norm, vec_into,
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
    Product::new(x.into(), weight, bias, activation, residual).alone(rec, linear_into)
}

/// What a product multiplies: rows as they are, or what is to be made of them first, which `linear_vec` folds in.
#[derive(Clone, Copy, Debug)]
pub enum Operand<'a> {
    /// `[…, inputs]`.
    Rows(&'a Tensor),
    /// The RMS norm of rows `[…, inputs]`.
    Normed {
        /// The rows.
        x: &'a Tensor,
        /// The norm's weights, `[inputs]`.
        weight: &'a Tensor,
        /// What is added to the mean square.
        eps: f32,
    },
    /// What shares of the keys gave, to be put together.
    Shares {
        /// `[splits, rows, inputs]`.
        part: &'a Tensor,
        /// Where their softmax stood, `[splits, rows, heads, 2]`.
        state: &'a Tensor,
    },
}

impl<'a> From<&'a Tensor> for Operand<'a> {
    fn from(x: &'a Tensor) -> Self {
        Self::Rows(x)
    }
}

impl<'a> Operand<'a> {
    /// Rows and inputs of the product.
    #[track_caller]
    pub fn matrix(self) -> [usize; 2] {
        match self {
            Self::Rows(x) | Self::Normed { x, .. } => x.matrix(),
            Self::Shares { part, .. } => {
                let [_, rows, inputs] = part.dims();
                [rows, inputs]
            }
        }
    }

    /// Whether a product with so much before it is best made at once: for the one or two rows of a text that a graphics
    /// card decodes, where a dispatch should cost more than what each workgroup does over again. On a CPU adapter it made
    /// no difference (CONTRIBUTING.md), so there rows are made first.
    pub fn folds(self, gpu: &Gpu) -> bool {
        let fits = match self {
            Self::Rows(_) => return true,
            Self::Normed { .. } => true,
            Self::Shares { state, .. } => {
                let [splits, _, heads, _] = state.dims();
                folds_shares(splits, heads)
            }
        };
        fits && !gpu.is_cpu() && self.matrix()[0] <= FEW_ROWS && gpu.trusts(&LINEAR_VEC)
    }

    /// The rows `[rows, inputs]`, made if they have to be.
    #[track_caller]
    pub fn rows(self, rec: &Recorder) -> Tensor {
        match self {
            Self::Rows(x) => x.clone(),
            Self::Normed { x, weight, eps } => rms_norm(rec, x, weight, eps),
            Self::Shares { part, state } => attention_merge(rec, part, state),
        }
    }

    /// What a kernel binds: x, and what belongs to what is before the product.
    pub(super) fn tensors(self) -> (&'a Tensor, Option<&'a Tensor>) {
        match self {
            Self::Rows(x) => (x, None),
            Self::Normed { x, weight, .. } => (x, Some(weight)),
            Self::Shares { part, state } => (part, Some(state)),
        }
    }
}

/// As [`linear`], into `weight.width()` columns of `y` from column `first` on: products of matrices in different
/// formats side by side. The residual is as wide as `y`. The operand is rows, unless it [`Operand::folds`].
#[track_caller]
pub fn linear_into(rec: &Recorder, product: &Product, y: &Tensor, first: usize) {
    let rows = product.x.matrix()[0];
    let plan = linear_plan(
        rec.gpu(),
        rows,
        product.weight.panels(),
        product.weight.format,
    );
    let into = match plan.kernel.name {
        "linear_vec" => vec_into,
        "linear_coop" => return coop_into(rec, product, y, first),
        "linear_broadcast" => broadcast_into,
        _ => tile_into,
    };
    into(rec, &plan, product, y, first);
}

/// The kernel that multiplies so many rows by so many panels on this adapter, and its tile.
pub(super) fn linear_plan(gpu: &Gpu, rows: usize, panels: usize, format: &str) -> Variant {
    let few = rows <= FEW_ROWS && gpu.trusts(&LINEAR_VEC);
    if !few && coop_pays(gpu, rows) {
        return (&LINEAR_COOP).into();
    }
    // Below half a subgroup of panels too many lanes of `linear_broadcast` would be idle.
    let narrow = broadcasts(gpu).is_some_and(|lanes| 2 * panels < lanes as usize);
    if !few && narrow {
        return tile_plan();
    }
    Class::linear(rows, panels, format, few).plan(gpu)
}

/// `linear`'s own tile.
pub(super) fn tile_plan() -> Variant {
    LINEAR.set("WG", 64).set("ROWS", 8)
}

/// A product with packed weights and what follows it, for whichever kernel: a convolution is one too.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// The rows, or what is to be made of them first.
    pub x: Operand<'a>,
    /// The matrix.
    pub weight: &'a Matrix,
    /// What is added to the product, padded to whole panels.
    pub bias: &'a Tensor,
    /// What follows.
    pub activation: Activation,
    /// What is added last.
    pub residual: Option<&'a Tensor>,
}

impl<'a> Product<'a> {
    /// `activate(x · weightᵀ + bias) + residual`.
    pub(super) fn new(
        x: Operand<'a>,
        weight: &'a Matrix,
        bias: &'a Tensor,
        activation: Activation,
        residual: Option<&'a Tensor>,
    ) -> Self {
        Self {
            x,
            weight,
            bias,
            activation,
            residual,
        }
    }

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

    /// A kernel and its tile for this format and activation; `RESIDUAL` is left to the caller.
    pub(super) fn activated(&self, plan: &Variant) -> Variant {
        plan.clone()
            .format(self.weight.format)
            .set("ACTIVATION", self.activation as u32)
    }

    /// The same of a linear layer, with its residual; its matrix may be gated.
    pub(super) fn linear_variant(&self, plan: &Variant) -> Variant {
        self.activated(plan)
            .set("RESIDUAL", u32::from(self.residual.is_some()))
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
        before: &[(&'static str, &dyn Bind)],
    ) {
        let weight = self.weight;
        let (x, own) = self.x.tensors();
        assert!(
            own.is_none() || !before.is_empty(),
            "a product of {:?} by a kernel that takes rows only",
            self.x
        );
        let mut bindings: Vec<(&str, &dyn Bind)> = weight.bindings().collect();
        // Without a residual any readable buffer fills its place.
        bindings.extend([
            ("x", x as &dyn Bind),
            ("bias", self.bias),
            ("residual", self.residual.unwrap_or(x)),
            ("y", y),
        ]);
        bindings.extend(before);
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
    let product = Product::new(x.into(), weight, bias, activation, residual);
    product.alone(rec, |rec, product, y, first| {
        tile_into(rec, &tile_plan(), product, y, first);
    })
}

/// The same, as [`linear_into`], with this tile.
#[track_caller]
pub(super) fn tile_into(
    rec: &Recorder,
    plan: &Variant,
    product: &Product,
    y: &Tensor,
    first: usize,
) {
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
    let threads = rows.div_ceil(plan.value("ROWS") as usize) * weight.panels();
    let groups = [threads.div_ceil(plan.value("WG") as usize), 1];
    let variant = product.linear_variant(plan);
    product.dispatch(rec, variant, params, (y, rows), groups, &[]);
}
