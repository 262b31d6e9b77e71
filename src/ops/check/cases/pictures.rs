//! Convolutions, and what masks are made by.

use crate::error::Result;
use crate::gpu::{Gpu, Recorder};
use crate::ops::check::inputs::{bias, random, upload, weights, whole_blocks};
use crate::ops::check::{Ran, bits, values};
use crate::ops::{
    Activation, Placement, Residual, Window, conv_broadcast, conv_depthwise, conv_tile, fuse_view,
    naive, pack_half, pixel_shuffle, resample, slice_masks, unpack_half,
};
use crate::tensor::{Matrix, Tensor};

/// A convolution by one kernel or another.
type ConvOp = fn(&Recorder, &Tensor, &Window, &Matrix, &Tensor, Activation, Residual) -> Tensor;

pub(super) fn check_conv(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    check_conv_with(gpu, format, conv_tile)
}

pub(super) fn check_conv_broadcast(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    check_conv_with(gpu, format, conv_broadcast)
}

/// 3 × 5 × 2 taps: every axis has a stride, a padding or a dilation of its own.
const SKEWED: Window = Window {
    kernel: [3, 5, 2],
    stride: [1, 2, 3],
    padding: [[2, 1], [4, 3], [0, 1]],
    dilation: [2, 3, 1],
    groups: 1,
};

fn check_conv_with(gpu: &Gpu, format: &'static str, op: ConvOp) -> Result<Ran> {
    let (size, outputs) = ([2, 4, 9, 7, whole_blocks(format, 32)], 68);
    let (matrix, plain) = weights(gpu, format, [outputs, SKEWED.taps() * size[4]])?;
    let x = random(9, size.iter().product());
    let b = random(10, outputs);
    let [depth, height, width] = SKEWED.out([4, 9, 7]);
    let added = random(11, 2 * depth * height * width * outputs);
    let residual = Residual::Before(&added[..]);
    let want = naive::conv(&x, &plain, &b, size, &SKEWED, Activation::Relu, residual);
    let (x, b) = (upload(gpu, size, &x)?, bias(gpu, &b)?);
    let added = upload(gpu, [2, depth, height, width, outputs], &added)?;
    values(gpu, want, |rec| {
        let residual = Residual::Before(&added);
        vec![op(
            rec,
            &x,
            &SKEWED,
            &matrix,
            &b,
            Activation::Relu,
            residual,
        )]
    })
}

pub(super) fn check_conv_depthwise(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let size = [2, 4, 9, 27, 12];
    let (x, b) = (random(9, size.iter().product()), random(10, 12));
    let w = random(11, SKEWED.taps() * 12);
    let want = naive::conv_depthwise(&x, &w, &b, size, &SKEWED, Activation::Gelu, Residual::None);
    let (x, b) = (upload(gpu, size, &x)?, bias(gpu, &b)?);
    let w = upload(gpu, [SKEWED.taps(), 12], &w)?;
    values(gpu, want, |rec| {
        let (activation, residual) = (Activation::Gelu, Residual::None);
        vec![conv_depthwise(
            rec, &x, &SKEWED, &w, &b, activation, residual,
        )]
    })
}

pub(super) fn check_fuse_view(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let ([size_z, size_y, size_x], height, width) = ([5, 11, 9], 8, 8);
    let voxels = size_z * size_y * size_x;
    let place = |axis: usize, column_axis: usize, slices| Placement {
        axis,
        column_axis,
        row_offset: 3,
        column_offset: 4,
        slices,
    };
    // Axial, then the upper part of the sagittal slices.
    let views = [
        (place(2, 0, 0..size_z), size_z),
        (place(0, 1, 4..9), size_x),
    ];
    let (mut sum, mut weight) = (vec![0.0; voxels], vec![0.0; voxels]);
    let mut inputs = Vec::new();
    for (n, (place, slices)) in views.into_iter().enumerate() {
        let seed = 15 + 2 * n as u64;
        let x: Vec<f32> = random(seed, slices * height * width)
            .iter()
            .map(|v| 40.0 * v)
            .collect();
        let quality: Vec<f32> = random(seed + 1, slices * 3 * 4)
            .iter()
            .map(|v| v.abs())
            .collect();
        naive::fuse_view(
            &x,
            [height, width],
            &quality,
            (3, 1),
            &place,
            20.0,
            [size_z, size_y, size_x],
            (&mut sum, &mut weight),
            (n == 0, n == 1),
        );
        inputs.push((
            upload(gpu, [1, slices, height, width], &x)?,
            upload(gpu, [slices, 3, 4], &quality)?,
            place,
        ));
    }
    values(gpu, sum, |rec| {
        let sum = Tensor::empty(rec, [size_z, size_y, size_x]);
        let weight = Tensor::empty(rec, [size_z, size_y, size_x]);
        for (n, (x, quality, place)) in inputs.iter().enumerate() {
            let ends = (n == 0, n == 1);
            fuse_view(
                rec,
                (x, 0),
                (quality, 1),
                place,
                20.0,
                (&sum, &weight),
                ends,
            );
        }
        vec![sum]
    })
}

pub(super) fn check_pack_half(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    // Exact values, one too large, one below the normal range.
    let mut x = random(31, 65 * 8);
    (x[0], x[9]) = (1e9, 3.0 * 2f32.powi(-24));
    let want = naive::pack_half(&x);
    let x = upload(gpu, x.len(), &x)?;
    bits(gpu, &want, |rec| {
        let y = Tensor::empty(rec, want.len());
        pack_half(rec, &x, &y, 0);
        vec![y]
    })
}

pub(super) fn check_unpack_half(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    // Exact values, the largest, one below the normal range.
    let mut x = random(31, 9 * 8);
    (x[0], x[9]) = (65504.0, 3.0 * 2f32.powi(-24));
    let packed = naive::pack_half(&x);
    let x = upload(gpu, [9, 4], &packed)?;
    values(gpu, naive::unpack_half(&packed), |rec| {
        vec![unpack_half(rec, &x, 9)]
    })
}

pub(super) fn check_pixel_shuffle(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (size, factors) = ([2, 2, 3, 5, 12], [2, 3, 2]);
    let x = random(32, 2 * 2 * 3 * 5 * 12 * 12);
    let skip = random(33, 2 * 4 * 9 * 10 * 12);
    let want = naive::pixel_shuffle(&x, Some(&skip), size, factors, Activation::Gelu);
    let x = upload(gpu, [2, 2, 3, 5, 12 * 12], &x)?;
    let skip = upload(gpu, [2, 4, 9, 10, 12], &skip)?;
    values(gpu, want, |rec| {
        let skip = Some(&skip);
        vec![pixel_shuffle(rec, &x, factors, skip, Activation::Gelu)]
    })
}

pub(super) fn check_resample(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let x = random(34, 3 * 7 * 5 * 12);
    let want = naive::resample(&x, [3, 7, 5, 12]);
    let x = upload(gpu, [3, 7, 5, 12], &x)?;
    values(gpu, want, |rec| vec![resample(rec, &x)])
}

pub(super) fn check_slice_masks(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (size, count, channels) = ([3, 5, 20], 36, 16);
    let (hyper, pixels) = (random(41, 3 * 5 * 20), random(42, 3 * count * channels));
    let mut want = random(43, 3 * 7 * count);
    let y = upload(gpu, [3, 7, count], &want)?;
    naive::slice_masks(&hyper, size, &pixels, channels, 2..5, (&mut want, 1));
    let hyper = upload(gpu, size, &hyper)?;
    let packed = naive::pack_half(&pixels);
    let pixels = upload(gpu, packed.len(), &packed)?;
    values(gpu, want, |rec| {
        slice_masks(rec, &hyper, &pixels, channels, 2..5, &y, 1);
        vec![y.clone()]
    })
}
