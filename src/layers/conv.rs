//! Convolutions on pictures (NHWC) and volumes (NDHWC).

use crate::error::Result;
use crate::gpu::Recorder;
use crate::ops::{Activation, Residual, Window, conv, conv_depthwise, linear, pixel_shuffle};
use crate::tensor::{Matrix, Shape, Tensor, Weights};

/// What a convolution multiplies by.
#[derive(Debug)]
enum Taps {
    /// One pixel, side by side: a linear layer.
    Point(Matrix),
    /// Groups of channels, one or several.
    Groups(Matrix),
    /// Each channel by itself.
    Depthwise(Tensor),
}

/// PyTorch's `Conv2d` and `Conv3d`. Channels are padded to a multiple of 4 on both sides.
#[derive(Debug)]
pub struct Conv {
    taps: Taps,
    bias: Tensor,
    window: Window,
}

impl Conv {
    /// `weight` `[outputs, inputs / groups, rows, columns]` or `[outputs, inputs / groups, slices, rows, columns]` and, where
    /// there is one, `bias` `[outputs]`. Kernel, stride, padding, dilation and groups are the window's.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new([inputs, outputs]: [usize; 2], window: Window, w: &Weights) -> Result<Self> {
        let bias = w.bias(w.has("bias").then_some("bias"), outputs)?;
        Self::of([inputs, outputs], window, w, None, bias)
    }

    /// One without bias and the batch norm behind it as one convolution: `weight` at `w` as in [`Conv::new`], and at `norm`
    /// `weight`, `bias`, `running_mean` and `running_var` `[outputs]`.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or a variance below 0.
    pub fn normed(
        [inputs, outputs]: [usize; 2],
        window: Window,
        w: &Weights,
        norm: &Weights,
        eps: f32,
    ) -> Result<Self> {
        let part = |name: &str| norm.values(name, &[outputs]);
        let (weight, bias) = (part("weight")?, part("bias")?);
        let (mean, var) = (part("running_mean")?, part("running_var")?);
        if let Some(at) = var.iter().position(|var| *var < 0.0) {
            return Err(norm.fault(format!(
                "tensor `{}` holds {} at element {at}, expected no less than 0",
                norm.full("running_var"),
                var[at]
            )));
        }
        let scale = |n: usize| f64::from(weight[n]) / (f64::from(var[n]) + f64::from(eps)).sqrt();
        let scales: Vec<f32> = (0..outputs).map(|n| scale(n) as f32).collect();
        let shift = |n: usize| f64::from(bias[n]) - f64::from(mean[n]) * scale(n);
        let bias: Vec<f32> = (0..outputs).map(|n| shift(n) as f32).collect();
        let bias = w.padded_bias(&bias)?;
        Self::of([inputs, outputs], window, w, Some(&scales), bias)
    }

    fn of(
        [inputs, outputs]: [usize; 2],
        window: Window,
        w: &Weights,
        scales: Option<&[f32]>,
        bias: Tensor,
    ) -> Result<Self> {
        let (kernel, groups) = (window.kernel, window.groups);
        let point = window == Window::new([1; 3]);
        if groups == inputs && groups == outputs && groups > 1 {
            let taps = Taps::Depthwise(w.conv_depthwise("weight", inputs, kernel, scales)?);
            return Ok(Self { taps, bias, window });
        }
        let (matrix, groups) = w.conv("weight", [outputs, inputs], kernel, groups, scales)?;
        let taps = if point { Taps::Point } else { Taps::Groups };
        Ok(Self {
            taps: taps(matrix),
            bias,
            window: window.grouped(groups),
        })
    }

    /// `activation(conv(x) + b)`.
    pub fn forward(&self, rec: &Recorder, x: &Tensor, activation: Activation) -> Tensor {
        self.with(rec, x, &self.window, activation, Residual::None)
    }

    /// `activation(conv(x) + b) + residual`.
    pub fn added(
        &self,
        rec: &Recorder,
        x: &Tensor,
        activation: Activation,
        residual: &Tensor,
    ) -> Tensor {
        self.with(rec, x, &self.window, activation, Residual::After(residual))
    }

    /// `activation(conv(x) + b + residual)`, the end of a ResNet's block.
    pub fn joined(
        &self,
        rec: &Recorder,
        x: &Tensor,
        activation: Activation,
        residual: &Tensor,
    ) -> Tensor {
        self.with(rec, x, &self.window, activation, Residual::Before(residual))
    }

    /// As [`Conv::forward`] on a block of a larger picture or volume: `padding` before and after it along depth, rows and
    /// columns, which is the layer's own at the border of the whole and nothing where the block has neighbours' pixels.
    pub fn on_block(
        &self,
        rec: &Recorder,
        x: &Tensor,
        padding: [[usize; 2]; 3],
        activation: Activation,
    ) -> Tensor {
        let window = Window {
            padding,
            ..self.window
        };
        self.with(rec, x, &window, activation, Residual::None)
    }

    fn with(
        &self,
        rec: &Recorder,
        x: &Tensor,
        window: &Window,
        activation: Activation,
        residual: Residual,
    ) -> Tensor {
        let bias = &self.bias;
        match (&self.taps, residual) {
            (Taps::Point(weight), Residual::None) => {
                let y = linear(rec, x, weight, bias, activation, None);
                y.reshape(of_width(x, weight.width()))
            }
            (Taps::Point(weight), Residual::After(residual)) => {
                let y = linear(rec, x, weight, bias, activation, Some(residual));
                y.reshape(of_width(x, weight.width()))
            }
            (Taps::Point(weight) | Taps::Groups(weight), _) => {
                conv(rec, x, window, weight, bias, activation, residual)
            }
            (Taps::Depthwise(weight), _) => {
                conv_depthwise(rec, x, window, weight, bias, activation, residual)
            }
        }
    }
}

/// The shape of x with other channels.
fn of_width(x: &Tensor, channels: usize) -> Shape {
    x.shape().with_last(channels)
}

/// PyTorch's `ConvTranspose2d` and `ConvTranspose3d` whose stride is the kernel and whose padding is none: a product, then a
/// pixel shuffle. Outputs are padded to a multiple of 4.
#[derive(Debug)]
pub struct ConvTranspose {
    weight: Matrix,
    bias: Tensor,
    kernel: [usize; 3],
}

impl ConvTranspose {
    /// `weight` `[inputs, outputs, rows, columns]` or `[inputs, outputs, slices, rows, columns]` and, where there is one, `bias`
    /// `[outputs]`. A picture's kernel has one slice.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn new([inputs, outputs]: [usize; 2], kernel: [usize; 3], w: &Weights) -> Result<Self> {
        let bias = w.has("bias").then_some("bias");
        Ok(Self {
            weight: w.conv_transpose("weight", [inputs, outputs], kernel)?,
            bias: w.repeated_bias(bias, outputs, kernel.iter().product())?,
            kernel,
        })
    }

    /// To one plane: `weight` `[inputs, 1, rows, columns]`, a multiple of 4 columns, and `bias` `[1]`. The result of
    /// `[images, height, width, inputs]` is `[images, rows · height, columns / 4 · width, 4]`, which is the plane as it is: four
    /// neighbours of a line stand where channels would be padded.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    ///
    /// # Panics
    /// If the columns are no multiple of 4.
    pub fn plane(inputs: usize, [rows, columns]: [usize; 2], w: &Weights) -> Result<Self> {
        assert!(columns.is_multiple_of(4), "{columns} columns of a plane");
        let bias = w.values("bias", &[1])?;
        Ok(Self {
            weight: w.conv_transpose_plane("weight", inputs, [rows, columns])?,
            bias: w.padded_bias(&vec![bias[0]; rows * columns])?,
            kernel: [1, rows, columns / 4],
        })
    }

    /// `activation(up(x) + b + skip)`: the skip and the result are as many times larger than x as the kernel says.
    pub fn forward(
        &self,
        rec: &Recorder,
        x: &Tensor,
        skip: Option<&Tensor>,
        activation: Activation,
    ) -> Tensor {
        let parts = linear(rec, x, &self.weight, &self.bias, Activation::None, None);
        let parts = parts.reshape(of_width(x, self.weight.width()));
        pixel_shuffle(rec, &parts, self.kernel, skip, activation)
    }
}
