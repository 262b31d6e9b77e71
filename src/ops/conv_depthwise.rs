//! A convolution of each channel by itself, of pictures (NHWC) and volumes (NDHWC).

use crate::gpu::{Recorder, kernel};
use crate::ops::{Activation, Residual, Window, groups, volume, volume_shape};
use crate::tensor::Tensor;

kernel! {
    /// Four channels of a strip of pixels per thread.
    CONV_DEPTHWISE = "conv_depthwise" + "shared/flat" + "shared/activation"; {
        lines: u32, quads: u32, depth: u32, size_u: u32, size_v: u32, pitch_u: u32, pitch_v: u32,
        out_depth: u32, out_u: u32, out_v: u32, out_pitch_u: u32, out_pitch_v: u32,
        strips: u32, pixel_step: u32, phases: u32,
        kernel_depth: u32, kernel_u: u32, kernel_v: u32, weight_u: u32, weight_v: u32,
        stride_depth: u32, stride_u: u32, stride_v: u32,
        padding_depth: u32, padding_u: u32, padding_v: u32,
        dilation_depth: u32, dilation_u: u32, dilation_v: u32,
    }
}

/// `activate(conv(x) + bias)` with a residual before or after the activation: x `[images, height, width, channels]` or
/// `[images, depth, height, width, channels]`, weight `[taps, channels]`, bias `[channels]` padded to a multiple of 8. The
/// window's groups are not looked at: each channel is one.
#[track_caller]
pub fn conv_depthwise(
    rec: &Recorder,
    x: &Tensor,
    window: &Window,
    weight: &Tensor,
    bias: &Tensor,
    activation: Activation,
    residual: Residual,
) -> Tensor {
    let [images, depth, height, width, channels] = volume(x);
    assert!(channels.is_multiple_of(4), "{channels} channels");
    weight.expect([window.taps(), channels]);
    assert_eq!(bias.len(), channels.next_multiple_of(8), "bias");
    let out = window.out([depth, height, width]);
    let shape = volume_shape(x, [images, out[0], out[1], out[2], channels]);
    let y = Tensor::empty(rec, shape);
    if let Some(residual) = residual.tensor() {
        residual.expect(shape);
    }
    // u is the axis along which the kernel is longer: 2 the columns, 1 the rows.
    let u = if window.kernel[1] > window.kernel[2] {
        1
    } else {
        2
    };
    let v = 3 - u;
    let (size, before) = ([depth, height, width], window.before());
    // From one pixel to the next along an axis of a picture so wide.
    let pitch = |axis: usize, width: usize| if axis == 2 { 1 } else { width as u32 };
    let shared = gcd(window.stride[u], window.dilation[u]);
    let pixel_step = window.dilation[u] / shared;
    // A CPU's loads are dear, and a GPU wants threads.
    let strip = if rec.gpu().is_cpu() { 8 } else { 4 };
    let strips = out[u].div_ceil(strip * pixel_step) * pixel_step;
    let lines = images * out[0] * out[v];
    let params = Params {
        lines: lines as u32,
        quads: (channels / 4) as u32,
        depth: depth as u32,
        size_u: size[u] as u32,
        size_v: size[v] as u32,
        pitch_u: pitch(u, width),
        pitch_v: pitch(v, width),
        out_depth: out[0] as u32,
        out_u: out[u] as u32,
        out_v: out[v] as u32,
        out_pitch_u: pitch(u, out[2]),
        out_pitch_v: pitch(v, out[2]),
        strips: strips as u32,
        pixel_step: pixel_step as u32,
        phases: (window.stride[u] / shared) as u32,
        kernel_depth: window.kernel[0] as u32,
        kernel_u: window.kernel[u] as u32,
        kernel_v: window.kernel[v] as u32,
        weight_u: pitch(u, window.kernel[2]),
        weight_v: pitch(v, window.kernel[2]),
        stride_depth: window.stride[0] as u32,
        stride_u: window.stride[u] as u32,
        stride_v: window.stride[v] as u32,
        padding_depth: before[0],
        padding_u: before[u],
        padding_v: before[v],
        dilation_depth: window.dilation[0] as u32,
        dilation_u: window.dilation[u] as u32,
        dilation_v: window.dilation[v] as u32,
    };
    let variant = CONV_DEPTHWISE
        .set("ACTIVATION", activation as u32)
        .set("RESIDUAL", residual.switch())
        .set("STRIP", strip as u32)
        .flops(2 * window.taps() * y.len());
    rec.dispatch(
        variant,
        params,
        &[
            ("x", x),
            ("weight", weight),
            ("bias", bias),
            // Without a residual any readable buffer fills its place.
            ("residual", residual.tensor().unwrap_or(x)),
            ("y", &y),
        ],
        groups(lines * strips * channels / 4),
    );
    y
}

/// The greatest common divisor.
fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
