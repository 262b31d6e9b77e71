//! Convolutions on pictures (NHWC) and volumes (NDHWC).

use crate::error::Result;
use crate::gpu::Recorder;
use crate::layers::BatchNorm;
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

    /// One without bias and the batch norm that follows it, at `norm`, as one convolution.
    ///
    /// # Errors
    /// A missing or misshapen tensor, or a variance below 0.
    pub fn normed(
        [inputs, outputs]: [usize; 2],
        window: Window,
        w: &Weights,
        norm: &Weights,
    ) -> Result<Self> {
        let norm = BatchNorm::new(outputs, norm)?;
        let bias = w.padded_bias(&norm.bias())?;
        Self::of([inputs, outputs], window, w, Some(&norm.scale), bias)
    }

    fn of(
        [inputs, outputs]: [usize; 2],
        window: Window,
        w: &Weights,
        scales: Option<&[f64]>,
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

    /// [`Conv::normed`] on a picture whose channels lie in several tensors, which PyTorch would join: a convolution for each. The
    /// sum of what they give is what the one would give; the last has what the norm adds.
    ///
    /// # Errors
    /// A missing or misshapen tensor.
    pub fn normed_parts<const N: usize>(
        parts: [usize; N],
        outputs: usize,
        window: Window,
        w: &Weights,
        norm: &Weights,
    ) -> Result<[Self; N]> {
        let norm = BatchNorm::new(outputs, norm)?;
        let (all, taps) = (parts.iter().sum::<usize>(), window.taps());
        let stored = [outputs, all, window.kernel[1], window.kernel[2]];
        let mut made = Vec::with_capacity(N);
        let mut first = 0;
        for (n, own) in parts.into_iter().enumerate() {
            let padded = own.next_multiple_of(4);
            let value = |values: &[f32], o: usize, at: usize| match (at / padded, at % padded) {
                (tap, i) if i < own => {
                    (f64::from(values[(o * all + first + i) * taps + tap]) * norm.scale[o]) as f32
                }
                _ => 0.0,
            };
            let matrix = w.matrix_of("weight", &stored, [outputs, taps * padded], value)?;
            let taps = match window == Window::new([1; 3]) {
                true => Taps::Point(matrix),
                false => Taps::Groups(matrix),
            };
            let bias = match n + 1 == N {
                true => w.padded_bias(&norm.bias())?,
                false => w.bias(None, outputs)?,
            };
            made.push(Self { taps, bias, window });
            first += own;
        }
        Ok(made.try_into().expect("as many as there are parts"))
    }

    /// PyTorch's `AvgPool2d`: the means of squares of `side` × `side` pixels, which do not overlap; what does not fill one is left
    /// out.
    ///
    /// # Errors
    /// No memory.
    pub fn average(channels: usize, side: usize, w: &Weights) -> Result<Self> {
        let (window, padded) = (Window::square(side, side, 0), channels.next_multiple_of(4));
        let shares = vec![1.0 / (side * side) as f32; side * side * padded];
        let shares = Tensor::upload(w.gpu(), "average", [side * side, padded], &shares)?;
        Ok(Self {
            taps: Taps::Depthwise(shares),
            bias: w.bias(None, channels)?,
            window,
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
