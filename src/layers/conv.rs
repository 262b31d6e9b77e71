//! Convolutions on NHWC pictures.

use crate::error::Result;
use crate::gpu::Recorder;
use crate::ops::{Activation, conv, linear, pixel_shuffle};
use crate::tensor::{Matrix, Tensor, Weights};

/// A 3 × 3 convolution with padding 1.
#[derive(Debug)]
pub struct Conv3x3 {
    weight: Matrix,
    bias: Tensor,
    stride: usize,
}

impl Conv3x3 {
    /// `weight` `[outputs, inputs, 3, 3]`, `bias` `[outputs]`. Inputs are padded to a multiple of 4.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new([inputs, outputs]: [usize; 2], stride: usize, w: &Weights) -> Result<Self> {
        let weight = w.conv3x3("weight", [outputs, inputs])?;
        Ok(Self {
            weight,
            bias: w.bias(Some("bias"), outputs)?,
            stride,
        })
    }

    /// `activation(conv(x) + b)`.
    pub fn forward(&self, rec: &Recorder, x: &Tensor, activation: Activation) -> Tensor {
        conv(
            rec,
            x,
            &self.weight,
            &self.bias,
            self.stride,
            activation,
            None,
        )
    }

    /// `activation(conv(x) + b) + residual`.
    pub fn added(
        &self,
        rec: &Recorder,
        x: &Tensor,
        activation: Activation,
        residual: &Tensor,
    ) -> Tensor {
        conv(
            rec,
            x,
            &self.weight,
            &self.bias,
            self.stride,
            activation,
            Some(residual),
        )
    }
}

/// A 2 × 2 transposed convolution of stride 2: a product, then a pixel shuffle.
#[derive(Debug)]
pub struct ConvTranspose2x2 {
    weight: Matrix,
    bias: Tensor,
}

impl ConvTranspose2x2 {
    /// `weight` `[inputs, outputs, 2, 2]`, `bias` `[outputs]`.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new([inputs, outputs]: [usize; 2], w: &Weights) -> Result<Self> {
        let weight = w.conv_transpose2x2("weight", [inputs, outputs])?;
        // The same bias for each of the four pixels.
        let bias = w.stacked_bias(&[("bias", outputs); 4])?;
        Ok(Self { weight, bias })
    }

    /// `activation(up(x) + b + skip)`: x `[images, height, width, inputs]`, the skip and the result
    /// `[images, 2 · height, 2 · width, outputs]`.
    pub fn forward(
        &self,
        rec: &Recorder,
        x: &Tensor,
        skip: &Tensor,
        activation: Activation,
    ) -> Tensor {
        let [images, height, width, _] = x.dims();
        let parts = linear(rec, x, &self.weight, &self.bias, Activation::None, None);
        let parts = parts.reshape([images, height, width, self.weight.outputs]);
        pixel_shuffle(rec, &parts, skip, activation)
    }
}
