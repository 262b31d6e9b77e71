//! A convolution where a load is dear and a subgroup can share it: CPU adapters.

use crate::gpu::{Gpu, Recorder, Variant, kernel};
use crate::ops::{
    Activation, Product, Residual, Window, conv_result, shared_lanes, subgroup_groups,
};
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// 4 or 5 pixels by up to 8 panels per thread, the weights handed round by a subgroup.
    CONV_BROADCAST = "conv_broadcast" + "shared/taps" + "shared/tile" + "shared/activation", weight; {
        images: u32, depth: u32, height: u32, width: u32, quads: u32,
        out_depth: u32, out_height: u32, out_width: u32,
        kernel_depth: u32, kernel_height: u32, kernel_width: u32,
        stride_depth: u32, stride_height: u32, stride_width: u32,
        padding_depth: u32, padding_height: u32, padding_width: u32,
        dilation_depth: u32, dilation_height: u32, dilation_width: u32,
        steps: u32, group_quads: u32, group_panels: u32, cols: u32, panels: u32,
    }
}

/// The most panels of a thread.
const MOST_PANELS: usize = 8;
/// Up to so many of them it has five pixels, beyond four.
const FIVE_PIXEL_PANELS: usize = 6;
/// What a step costs beside its multiply-adds, in tiles of one pixel by one panel: measured from 5 × 2 to 4 × 8.
const STEP_COST: usize = 19;

fn pixels_of(share: usize) -> usize {
    if share <= FIVE_PIXEL_PANELS { 5 } else { 4 }
}

/// The panels of a thread that cost least for so many pixels and panels; none where the other kernel is to be taken: without
/// subgroups, with one panel only, if a thread's panels would be of two groups, or if this kernel is not trusted.
pub(super) fn broadcast_panels(
    gpu: &Gpu,
    pixels: usize,
    panels: usize,
    groups: usize,
) -> Option<usize> {
    let lanes = shared_lanes(gpu).filter(|_| gpu.trusts(&CONV_BROADCAST))? as usize;
    let own = panels / groups;
    let cost = |share: &usize| {
        let blocks = pixels.div_ceil(pixels_of(*share) * lanes);
        blocks * panels.div_ceil(*share) * (STEP_COST + pixels_of(*share) * share)
    };
    (2..=MOST_PANELS.min(own))
        .filter(|share| groups == 1 || own.is_multiple_of(*share))
        .min_by_key(cost)
}

/// As [`crate::ops::conv`], which calls it where it is the faster one.
///
/// # Panics
/// If the adapter's subgroups cannot share loads (`shared_lanes`), or there is but one panel.
#[track_caller]
pub fn conv_broadcast(
    rec: &Recorder,
    x: &Tensor,
    window: &Window,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Residual,
) -> Tensor {
    let plan = CONV_BROADCAST.set("WG", 64);
    broadcast_with(rec, &plan, x, window, weight, bias, activation, residual)
}

/// The same with workgroups of this size, where there are more than a few.
#[track_caller]
#[expect(clippy::too_many_arguments, reason = "a convolution's, and its tile")]
pub(super) fn broadcast_with(
    rec: &Recorder,
    plan: &Variant,
    x: &Tensor,
    window: &Window,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Residual,
) -> Tensor {
    let lanes = shared_lanes(rec.gpu()).expect("subgroups that share loads");
    let (y, params) = conv_result(rec, x, window, weight, bias, residual);
    let rows = y.len() / weight.width();
    let share = broadcast_panels(rec.gpu(), rows, weight.panels(), window.groups);
    let share = share.expect("panels to share");
    let params: Params = bytemuck::cast(params);
    let product = Product::new(x.into(), weight, bias, activation, residual.tensor());
    let pixels = pixels_of(share);
    let variant = product
        .activated(plan)
        .set("RESIDUAL", residual.switch())
        .set("LANES", lanes)
        .set("PANELS", share as u32)
        .set("PIXELS", pixels as u32);
    let subgroups = rows.div_ceil(pixels * lanes as usize) * weight.panels().div_ceil(share);
    let (variant, groups) = subgroup_groups(variant, lanes, subgroups);
    product.dispatch(rec, variant, params, (&y, rows), [groups, 1], &[]);
    y
}

#[cfg(test)]
mod tests {
    #[test]
    fn parameters_are_those_of_the_other_kernel() {
        assert_eq!(super::CONV_BROADCAST.params, crate::ops::CONV.params);
    }
}
