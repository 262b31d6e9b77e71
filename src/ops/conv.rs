//! A 3 × 3 convolution with padding 1, NHWC, as an implicit matrix product.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Activation, CONV_BROADCAST, Product, broadcast_pays, conv_broadcast, groups};
use crate::tensor::{Matrix, Tensor};

kernel! {
    /// 3 × 3 convolution with bias, activation and residual.
    CONV = "conv" + "shared/tile" + "shared/activation", weight; {
        images: u32, height: u32, width: u32, steps: u32, out_height: u32, out_width: u32,
        cols: u32, panels: u32, stride: u32,
    }
}

/// `activate(conv(x) + bias) + residual`: x `[images, height, width, channels]`, weight packed from
/// `[out, 3, 3, channels]`, bias padded to whole panels; the result is NHWC too.
#[track_caller]
pub fn conv(
    rec: &Recorder,
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    stride: usize,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
    if broadcast_pays(rec.gpu(), &CONV_BROADCAST, weight.panels()) {
        conv_broadcast(rec, x, weight, bias, stride, activation, residual)
    } else {
        conv_tile(rec, x, weight, bias, stride, activation, residual)
    }
}

/// The result of a convolution, after checking that its operands fit.
#[track_caller]
pub(super) fn conv_result(
    rec: &Recorder,
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    stride: usize,
    residual: Option<&Tensor>,
) -> Tensor {
    let [images, height, width, channels] = x.dims();
    assert_eq!(
        weight.inputs,
        9 * channels,
        "inputs of a 3 × 3 convolution of {channels} channels"
    );
    assert_eq!(
        weight.outputs,
        weight.width(),
        "output channels are a multiple of 4"
    );
    assert_eq!(
        bias.len(),
        weight.panels() * 8,
        "bias of a convolution with {} outputs",
        weight.outputs
    );
    assert!(
        stride == 1 || stride == 2,
        "a convolution of stride {stride}"
    );
    let (out_height, out_width) = ((height - 1) / stride + 1, (width - 1) / stride + 1);
    let y = Tensor::empty(rec, [images, out_height, out_width, weight.outputs]);
    if let Some(residual) = residual {
        residual.expect(y.shape());
    }
    y
}

/// The kernel for every adapter.
#[track_caller]
pub(super) fn conv_tile(
    rec: &Recorder,
    x: &Tensor,
    weight: &Matrix,
    bias: &Tensor,
    stride: usize,
    activation: Activation,
    residual: Option<&Tensor>,
) -> Tensor {
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
    let variant = product.variant(&CONV);
    let threads = (images * out_height * out_width).div_ceil(8) * weight.panels();
    let rows = images * out_height * out_width;
    product.dispatch(rec, variant, params, (&y, rows), [groups(threads), 1]);
    y
}
