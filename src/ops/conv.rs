//! Convolutions of pictures (NHWC) and volumes (NDHWC), as an implicit matrix product.

use crate::gpu::{Gpu, Recorder, Variant, kernel};
use crate::ops::choice::Class;
use crate::ops::{Activation, CONV_BROADCAST, Product, broadcast_panels, broadcast_with};
use crate::tensor::{Matrix, Shape, Tensor};

kernel! {
    /// A convolution with bias, activation and residual.
    CONV = "conv" + "shared/taps" + "shared/tile" + "shared/activation", weight; {
        images: u32, depth: u32, height: u32, width: u32, quads: u32,
        out_depth: u32, out_height: u32, out_width: u32,
        kernel_depth: u32, kernel_height: u32, kernel_width: u32,
        stride_depth: u32, stride_height: u32, stride_width: u32,
        padding_depth: u32, padding_height: u32, padding_width: u32,
        dilation_depth: u32, dilation_height: u32, dilation_width: u32,
        steps: u32, group_quads: u32, group_panels: u32, cols: u32, panels: u32,
    }
}

/// What an output pixel of a convolution sees, along depth, rows and columns; a picture has one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Taps.
    pub kernel: [usize; 3],
    /// Pixels from one output to the next.
    pub stride: [usize; 3],
    /// Zeros before the first and after the last pixel.
    pub padding: [[usize; 2]; 3],
    /// Pixels from one tap to the next.
    pub dilation: [usize; 3],
    /// Parts of the channels that do not see each other. A depthwise convolution has one for each channel.
    pub groups: usize,
}

impl Window {
    /// `kernel` slices, rows and columns; stride and dilation 1, no padding.
    pub const fn new(kernel: [usize; 3]) -> Self {
        Self {
            kernel,
            stride: [1; 3],
            padding: [[0; 2]; 3],
            dilation: [1; 3],
            groups: 1,
        }
    }

    /// `kernel` × `kernel` pixels of a picture.
    pub const fn square(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            stride: [1, stride, stride],
            padding: [[0; 2], [padding; 2], [padding; 2]],
            ..Self::new([1, kernel, kernel])
        }
    }

    /// `kernel` × `kernel` × `kernel` voxels of a volume.
    pub const fn cube(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            stride: [stride; 3],
            padding: [[padding; 2]; 3],
            ..Self::new([kernel; 3])
        }
    }

    /// The same window with `groups` parts of the channels.
    #[must_use]
    pub const fn grouped(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// The number of taps.
    pub const fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.kernel[2]
    }

    /// Depth, height and width of what comes out of `size`.
    ///
    /// # Panics
    /// If the window does not fit into `size` and its padding.
    #[track_caller]
    pub fn out(&self, size: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|axis| {
            let padded = size[axis] + self.padding[axis][0] + self.padding[axis][1];
            let reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
            assert!(
                reach <= padded && self.stride[axis] > 0,
                "a window of {reach} with stride {} on {padded} pixels",
                self.stride[axis]
            );
            (padded - reach) / self.stride[axis] + 1
        })
    }

    /// The zeros before the first slice, row and column.
    pub(super) fn before(&self) -> [u32; 3] {
        self.padding.map(|[before, _]| before as u32)
    }
}

/// A word has a bit for each slice, row and column of a kernel.
const MOST_TAPS: usize = 31;

/// As how many slices of fewer rows the rows of a patch that reads every pixel once are to be taken; none if they do not divide.
fn slices_of(rows: usize) -> Option<usize> {
    (1..=rows).find(|slices| rows.is_multiple_of(*slices) && slices + rows / slices < MOST_TAPS)
}

/// Whether pictures can be cut into patches of so many pixels a side that neither overlap nor are padded.
pub fn can_cut(picture: usize, patch: usize) -> bool {
    patch > 0
        && picture >= patch
        && (patch + 1 < MOST_TAPS || (picture.is_multiple_of(patch) && slices_of(patch).is_some()))
}

/// A picture or a volume as `[images, depth, height, width, channels]`.
#[track_caller]
pub(super) fn volume(x: &Tensor) -> [usize; 5] {
    match *x.shape().as_slice() {
        [images, height, width, channels] => [images, 1, height, width, channels],
        [images, depth, height, width, channels] => [images, depth, height, width, channels],
        _ => panic!("{} is no picture and no volume", x.shape()),
    }
}

/// The shape of a picture or a volume, as `like` is one.
pub(super) fn volume_shape(
    like: &Tensor,
    [images, depth, height, width, channels]: [usize; 5],
) -> Shape {
    match like.shape().as_slice().len() {
        4 => [images, height, width, channels].into(),
        _ => [images, depth, height, width, channels].into(),
    }
}

/// What is added to a convolution's result, of its shape: a tensor, or for the twins its values.
#[derive(Debug)]
pub enum Residual<'a, T: ?Sized = Tensor> {
    /// Nothing.
    None,
    /// `activate(conv(x) + bias) + residual`.
    After(&'a T),
    /// `activate(conv(x) + bias + residual)`, as in a ResNet.
    Before(&'a T),
}

impl<T: ?Sized> Clone for Residual<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Residual<'_, T> {}

impl<'a> Residual<'a> {
    /// The tensor.
    pub(super) fn tensor(self) -> Option<&'a Tensor> {
        match self {
            Self::None => None,
            Self::After(tensor) | Self::Before(tensor) => Some(tensor),
        }
    }

    /// The kernels' `RESIDUAL`.
    pub(super) fn switch(self) -> u32 {
        match self {
            Self::None => 0,
            Self::After(_) => 1,
            Self::Before(_) => 2,
        }
    }
}

/// `activate(conv(x) + bias)` with a residual before or after the activation: x `[images, height, width, channels]`
/// or `[images, depth, height, width, channels]`, weight packed from `[out, depth, height, width, channels / groups]`,
/// bias padded to whole panels. The result is as x is, of `weight.width()` channels.
///
/// Of several groups each has a multiple of 8 output channels and of 4 input channels
/// (`Weights::conv` merges groups until they have). A kernel's slices, rows and columns are at most 31 together, columns
/// counting as one where there is no padding; patches of a picture that neither overlap nor are padded may be larger
/// ([`can_cut`]).
#[track_caller]
pub fn conv(
    rec: &Recorder,
    x: &Tensor,
    window: &Window,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Residual,
) -> Tensor {
    let [_, depth, height, width, _] = volume(x);
    let pixels = window.out([depth, height, width]).iter().product();
    let plan = conv_plan(rec.gpu(), pixels, weight.panels(), window.groups);
    let with = match plan.kernel.name {
        "conv_broadcast" => broadcast_with,
        _ => tile_with,
    };
    with(rec, &plan, x, window, weight, bias, activation, residual)
}

/// The kernel that convolves so many pixels by so many panels on this adapter, and its tile.
pub(super) fn conv_plan(gpu: &Gpu, pixels: usize, panels: usize, groups: usize) -> Variant {
    let plan = Class::conv(panels).plan(gpu);
    let fits = broadcast_panels(gpu, pixels, panels, groups).is_some();
    if plan.kernel.name == CONV_BROADCAST.name && !fits {
        return tile_plan();
    }
    plan
}

/// `conv`'s own tile.
fn tile_plan() -> Variant {
    CONV.set("WG", 64).set("ROWS", 8)
}

/// The result of a convolution and the parameters of its kernel, after checking that its operands fit.
#[track_caller]
pub(super) fn conv_result(
    rec: &Recorder,
    x: &Tensor,
    window: &Window,
    weight: &Matrix,
    bias: &Tensor,
    residual: Residual,
) -> (Tensor, impl bytemuck::Pod + use<>) {
    let [images, depth, height, width, channels] = volume(x);
    let Window { kernel, groups, .. } = *window;
    assert!(
        channels.is_multiple_of(4 * groups) && channels > 0,
        "{channels} input channels in {groups} groups"
    );
    assert_eq!(
        weight.inputs,
        window.taps() * channels / groups,
        "inputs of a {kernel:?} convolution of {channels} channels in {groups} groups"
    );
    assert!(
        groups == 1 || weight.outputs.is_multiple_of(8 * groups),
        "{} output channels in {groups} groups",
        weight.outputs
    );
    assert_eq!(
        bias.len(),
        weight.panels() * 8,
        "bias of a convolution with {} outputs",
        weight.outputs
    );
    // Columns side by side that are never outside are one column of so many times the channels: fewer taps to find.
    let joined = match (window.padding[2], window.dilation[2], groups) {
        ([0, 0], 1, 1) => kernel[2],
        _ => 1,
    };
    let mut kernel = [kernel[0], kernel[1], kernel[2] / joined];
    let mut size = [depth, height, width];
    let (mut out, mut stride) = (window.out(size), window.stride);
    let shape = volume_shape(x, [images, out[0], out[1], out[2], weight.width()]);
    let y = Tensor::empty(rec, shape);
    if let Some(residual) = residual.tensor() {
        residual.expect(shape);
    }
    if kernel.iter().sum::<usize>() > MOST_TAPS {
        // Rows that are never outside and that no other patch reads lie in memory as slices of fewer rows do.
        let once = depth == 1 && joined == window.kernel[2] && window.padding[1] == [0, 0];
        let once = once && stride[1] == kernel[1] && window.dilation[1] == 1;
        let slices = slices_of(kernel[1]).filter(|_| once && height.is_multiple_of(kernel[1]));
        let slices = slices.unwrap_or_else(|| panic!("a convolution of {kernel:?} taps"));
        let rows = kernel[1] / slices;
        size = [height / rows, rows, width];
        kernel = [slices, rows, kernel[2]];
        stride = [slices, rows, stride[2]];
        out = [out[1], 1, out[2]];
    }
    let [padding_depth, padding_height, padding_width] = window.before();
    let params = Params {
        images: images as u32,
        depth: size[0] as u32,
        height: size[1] as u32,
        width: size[2] as u32,
        quads: (channels / 4) as u32,
        out_depth: out[0] as u32,
        out_height: out[1] as u32,
        out_width: out[2] as u32,
        kernel_depth: kernel[0] as u32,
        kernel_height: kernel[1] as u32,
        kernel_width: kernel[2] as u32,
        stride_depth: stride[0] as u32,
        stride_height: stride[1] as u32,
        stride_width: stride[2] as u32,
        padding_depth,
        padding_height,
        padding_width,
        dilation_depth: window.dilation[0] as u32,
        dilation_height: window.dilation[1] as u32,
        dilation_width: window.dilation[2] as u32,
        steps: weight.steps() as u32,
        group_quads: (joined * channels / groups / 4) as u32,
        group_panels: (weight.panels() / groups) as u32,
        cols: weight.width() as u32,
        panels: weight.panels() as u32,
    };
    (y, params)
}

/// The kernel for every adapter.
#[track_caller]
pub(super) fn conv_tile(
    rec: &Recorder,
    x: &Tensor,
    window: &Window,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Residual,
) -> Tensor {
    tile_with(
        rec,
        &tile_plan(),
        x,
        window,
        weight,
        bias,
        activation,
        residual,
    )
}

/// The same with this tile.
#[track_caller]
#[expect(clippy::too_many_arguments, reason = "a convolution's, and its tile")]
fn tile_with(
    rec: &Recorder,
    plan: &Variant,
    x: &Tensor,
    window: &Window,
    weight: &Matrix,
    bias: &Tensor,
    activation: Activation,
    residual: Residual,
) -> Tensor {
    let (y, params) = conv_result(rec, x, window, weight, bias, residual);
    let product = Product::new(x.into(), weight, bias, activation, residual.tensor());
    let variant = product.activated(plan).set("RESIDUAL", residual.switch());
    let rows = y.len() / weight.width();
    let threads = rows.div_ceil(plan.value("ROWS") as usize) * weight.panels();
    let groups = [threads.div_ceil(plan.value("WG") as usize), 1];
    product.dispatch(rec, variant, params, (&y, rows), groups, &[]);
    y
}
