//! A 3 × 3 convolution where a load is dear and a subgroup can share it: CPU adapters.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Activation, Product, broadcasts, conv_result, groups};
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// 16 pixels by 8 channels per thread, the pixels handed round by a subgroup.
    CONV_BROADCAST = "conv_broadcast" + "shared/tile" + "shared/activation", weight; {
        images: u32, height: u32, width: u32, steps: u32, out_height: u32, out_width: u32,
        cols: u32, panels: u32, stride: u32,
    }
}

/// As [`crate::ops::conv`], which calls it on adapters where it is the faster one.
///
/// # Panics
/// If the adapter's subgroups cannot share loads (`broadcasts`).
#[track_caller]
pub fn conv_broadcast(
    rec: &Recorder,
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    stride: usize,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
    let lanes = broadcasts(rec.gpu()).expect("subgroups of a CPU adapter");
    let y = conv_result(rec, x, weight, bias, stride, residual);
    let ([images, height, width, _], [_, out_height, out_width, _]) = (x.dims(), y.dims());
    let params = Params {
        images: images as u32,
        height: height as u32,
        width: width as u32,
        steps: weight.steps() as u32,
        out_height: out_height as u32,
        out_width: out_width as u32,
        cols: weight.outputs as u32,
        panels: weight.panels() as u32,
        stride: stride as u32,
    };
    let product = Product {
        x,
        weight,
        bias,
        activation,
        residual,
    };
    let variant = product.variant(&CONV_BROADCAST).set("LANES", lanes);
    let blocks = (images * out_height * out_width).div_ceil(16);
    let threads = blocks * weight.panels().next_multiple_of(lanes as usize);
    let rows = images * out_height * out_width;
    product.dispatch(rec, variant, params, (&y, rows), [groups(threads), 1]);
    y
}
