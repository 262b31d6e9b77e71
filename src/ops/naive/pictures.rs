//! Convolutions, and what masks are made by.

use std::ops::Range;

use super::activate;
use crate::ops::{Activation, Placement, Residual, Window};

/// x `[images, depth, height, width, channels]`, weight `[bias.len(), slices, rows, columns, channels / groups]`.
pub fn conv(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    size: [usize; 5],
    window: &Window,
    activation: Activation,
    residual: Residual<[f32]>,
) -> Vec<f32> {
    let [images, depth, height, width, channels] = size;
    let [out_depth, out_height, out_width] = window.out([depth, height, width]);
    let [_, rows, columns] = window.kernel;
    let (inputs, outputs) = (channels / window.groups, bias.len() / window.groups);
    // Where a tap of an output lies along an axis, if in the image.
    let seen = |axis: usize, at: usize, tap: usize, size: usize| {
        (at * window.stride[axis] + tap * window.dilation[axis])
            .checked_sub(window.padding[axis][0])
            .filter(|place| *place < size)
    };
    let mut y = Vec::new();
    for image in 0..images {
        for slice in 0..out_depth {
            for row in 0..out_height {
                for column in 0..out_width {
                    for (o, b) in bias.iter().enumerate() {
                        let mut sum = f64::from(*b);
                        for tap in 0..window.taps() {
                            let (at, tap_column) = (tap / columns, tap % columns);
                            let (tap_slice, tap_row) = (at / rows, at % rows);
                            let (Some(k), Some(i), Some(j)) = (
                                seen(0, slice, tap_slice, depth),
                                seen(1, row, tap_row, height),
                                seen(2, column, tap_column, width),
                            ) else {
                                continue;
                            };
                            let pixel = ((image * depth + k) * height + i) * width + j;
                            for c in 0..inputs {
                                let from = pixel * channels + o / outputs * inputs + c;
                                let w = weight[(o * window.taps() + tap) * inputs + c];
                                sum += f64::from(x[from]) * f64::from(w);
                            }
                        }
                        let v = match residual {
                            Residual::None => activate(activation, sum),
                            Residual::After(r) => activate(activation, sum) + f64::from(r[y.len()]),
                            Residual::Before(r) => {
                                activate(activation, sum + f64::from(r[y.len()]))
                            }
                        };
                        y.push(v as f32);
                    }
                }
            }
        }
    }
    y
}

/// The same convolution; only the kernel differs.
pub fn conv_broadcast(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    size: [usize; 5],
    window: &Window,
    activation: Activation,
    residual: Residual<[f32]>,
) -> Vec<f32> {
    conv(x, weight, bias, size, window, activation, residual)
}

/// A group for each channel; weight `[slices, rows, columns, channels]`.
pub fn conv_depthwise(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    size: [usize; 5],
    window: &Window,
    activation: Activation,
    residual: Residual<[f32]>,
) -> Vec<f32> {
    let channels = size[4];
    let by_channel: Vec<f32> = (0..channels)
        .flat_map(|c| weight.iter().skip(c).step_by(channels).copied())
        .collect();
    let window = window.grouped(channels);
    conv(x, &by_channel, bias, size, &window, activation, residual)
}

/// The f16 nearest to `v`, of two equally near the even one; beyond the largest, the largest.
fn half(v: f32) -> u32 {
    let magnitude = f64::from(v.abs()).min(65504.0);
    // Below 2⁻¹⁴ the spacing no longer shrinks.
    let exponent = (magnitude.log2().floor() as i32).max(-14);
    let steps = (magnitude / 2f64.powi(exponent - 10)).round_ties_even() as u32;
    // The leading bit of a normal number adds to the exponent's field: a carry does the same.
    let exponent_field = ((exponent + 14) as u32) << 10;
    (u32::from(v.is_sign_negative()) << 15) | (exponent_field + steps)
}

/// Pairs of values as f16 in one word, the first in the low half.
pub fn pack_half(x: &[f32]) -> Vec<u32> {
    x.chunks_exact(2)
        .map(|pair| half(pair[0]) | half(pair[1]) << 16)
        .collect()
}

/// Undoes [`pack_half`].
pub fn unpack_half(x: &[u32]) -> Vec<f32> {
    x.iter()
        .flat_map(|word| [word & 0xffff, word >> 16])
        .map(|half| {
            let (exponent, fraction) = ((half >> 10) & 31, half & 1023);
            // Without a leading bit below 2⁻¹⁴.
            let (steps, exponent) = match exponent {
                0 => (fraction, 1),
                _ => (fraction + 1024, exponent as i32),
            };
            let magnitude = f64::from(steps) * 2f64.powi(exponent - 25);
            (if half >> 15 == 1 {
                -magnitude
            } else {
                magnitude
            }) as f32
        })
        .collect()
}

/// x `[images, depth, height, width, (parts), channels]`, each pixel in as many parts as it becomes slices, rows and columns.
pub fn pixel_shuffle(
    x: &[f32],
    skip: Option<&[f32]>,
    [images, depth, height, width, channels]: [usize; 5],
    [deep, high, wide]: [usize; 3],
    activation: Activation,
) -> Vec<f32> {
    let mut y = Vec::new();
    for image in 0..images {
        for slice in 0..deep * depth {
            for row in 0..high * height {
                for column in 0..wide * width {
                    let pixel = ((image * depth + slice / deep) * height + row / high) * width
                        + column / wide;
                    let part = (slice % deep * high + row % high) * wide + column % wide;
                    for c in 0..channels {
                        let v = x[(pixel * deep * high * wide + part) * channels + c]
                            + skip.map_or(0.0, |skip| skip[y.len()]);
                        y.push(activate(activation, f64::from(v)) as f32);
                    }
                }
            }
        }
    }
    y
}

/// The value of a picture at a place between its pixels; the edge pixels go on for ever.
fn bilinear(picture: &[f32], [height, width]: [usize; 2], row: f64, column: f64) -> f64 {
    let at = |i: f64, j: f64| {
        let i = i.clamp(0.0, height as f64 - 1.0) as usize;
        let j = j.clamp(0.0, width as f64 - 1.0) as usize;
        f64::from(picture[i * width + j])
    };
    let (i, j) = (row.floor(), column.floor());
    let (v, h) = (row - i, column - j);
    let upper = at(i, j) * (1.0 - h) + at(i, j + 1.0) * h;
    let lower = at(i + 1.0, j) * (1.0 - h) + at(i + 1.0, j + 1.0) * h;
    upper * (1.0 - v) + lower * v
}

/// A pixel of a picture at twice its size.
fn doubled(picture: &[f32], size: [usize; 2], row: usize, column: usize) -> f64 {
    let source = |i: usize| (i as f64 + 0.5) / 2.0 - 0.5;
    bilinear(picture, size, source(row), source(column))
}

pub fn resample(x: &[f32], [images, height, width, channels]: [usize; 4]) -> Vec<f32> {
    let mut y = Vec::new();
    for picture in x.chunks_exact(height * width * channels).take(images) {
        let plane = |c: usize| picture.iter().skip(c).step_by(channels).copied();
        let planes: Vec<Vec<f32>> = (0..channels).map(|c| plane(c).collect()).collect();
        for row in 0..2 * height {
            for column in 0..2 * width {
                let value = |plane: &Vec<f32>| doubled(plane, [height, width], row, column) as f32;
                y.extend(planes.iter().map(value));
            }
        }
    }
    y
}

/// hyper `[slices, prompts, stride]`, pixels `[slices, count, channels]`; writes `[count]` values
/// of each slice into y, from slice `first` on.
pub fn slice_masks(
    hyper: &[f32],
    [slices, prompts, stride]: [usize; 3],
    pixels: &[f32],
    channels: usize,
    wanted: Range<usize>,
    (y, first): (&mut [f32], usize),
) {
    let count = pixels.len() / slices / channels;
    let all = y.len() / wanted.len();
    for (mask, prompt) in wanted.enumerate() {
        for slice in 0..slices {
            let weights = &hyper[(slice * prompts + prompt) * stride..][..stride];
            for p in 0..count {
                let pixel = &pixels[(slice * count + p) * channels..][..channels];
                let sum: f64 = (0..channels)
                    .map(|c| f64::from(weights[c]) * f64::from(pixel[c]))
                    .sum();
                let at = mask * all + (first + slice) * count + p;
                y[at] = (sum + f64::from(weights[channels])) as f32;
            }
        }
    }
}

/// x `[slices, height, width]`, quality `[slices, prompts, 4]`; sum and weight are `[z, y, x]`.
#[expect(clippy::too_many_arguments, reason = "the op's own arguments")]
pub fn fuse_view(
    x: &[f32],
    [height, width]: [usize; 2],
    quality: &[f32],
    (prompts, prompt): (usize, usize),
    place: &Placement,
    limit: f64,
    [size_z, size_y, size_x]: [usize; 3],
    (sum, weight): (&mut [f32], &mut [f32]),
    (first, last): (bool, bool),
) {
    let size = [size_x, size_y, size_z];
    let row_axis = 3 - place.axis - place.column_axis;
    for i in 0..sum.len() {
        let voxel = [i % size_x, i / size_x % size_y, i / (size_x * size_y)];
        // Slices are shown upside down and from the right, as a radiologist looks at them.
        let shown = |axis: usize, offset: i32| (size[axis] - 1 - voxel[axis]) as i32 + offset;
        let row = shown(row_axis, place.row_offset);
        let column = shown(place.column_axis, place.column_offset);
        let slice = voxel[place.axis];
        let (mut total, mut weights) = if first {
            (0.0, 0.0)
        } else {
            (f64::from(sum[i]), f64::from(weight[i]))
        };
        let in_window =
            (0..2 * height as i32).contains(&row) && (0..2 * width as i32).contains(&column);
        if in_window && place.slices.contains(&slice) {
            let picture = &x[slice * height * width..][..height * width];
            let logit = doubled(picture, [height, width], row as usize, column as usize);
            let w = f64::from(quality[(slice * prompts + prompt) * 4]) + 1e-3;
            total += w * logit.clamp(-limit, limit);
            weights += w;
        }
        if last {
            total = if weights > 0.0 {
                total / weights
            } else {
                -limit
            };
        }
        sum[i] = total as f32;
        weight[i] = weights as f32;
    }
}
