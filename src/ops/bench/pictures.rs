//! Convolutions of the conv stem and of the upscaling, and what masks are made by.

use super::{Bench, Trial, Work};
use crate::error::Result;
use crate::ops::check::inputs::{bias, random, upload, weights};
use crate::ops::{
    Activation, MOST_MASKS, Placement, Residual, Window, conv, conv_depthwise, conv_plan,
    fuse_view, linear, naive, pack_half, pixel_shuffle, resample, slice_masks, unpack_half,
};

/// Pixels of a low-resolution mask, and channels they are weighed from.
const SIDE: usize = 112;
const PIXELS: usize = SIDE * SIDE;
const CHANNELS: usize = 32;

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let side = 224;
    // the stem of the image encoder, then the refining convolutions of the mask decoder
    for (side, inputs, outputs, stride, has_residual) in [
        (side, 4, 24, 2, false),
        (side / 2, 24, 24, 1, false),
        (side / 2, 24, 48, 2, false),
        (side / 4, 48, 48, 1, false),
        (side / 4, 48, 96, 2, false),
        (side / 8, 96, 96, 1, false),
        (side / 8, 96, 192, 2, false),
        (side / 8, 64, 64, 1, true),
        (side / 4, 48, 48, 1, true),
        (side / 2, 32, 32, 1, true),
    ] {
        let case = format!("at {}, stride {stride}", side / stride);
        let window = Window::square(3, stride, 1);
        let size = [1, side, side];
        conv_row(bench, &case, size, [inputs, outputs], window, has_residual)?;
    }
    others(bench)?;
    for (side, channels, factor, has_skip) in [
        (14, 64, 2, true),
        (28, 48, 2, true),
        (56, 32, 2, true),
        (64, 64, 2, false),
        (22, 32, 4, false),
    ] {
        let (size, factors) = ([1, 1, side, side, channels], [1, factor, factor]);
        let len = factor * factor * side * side * channels;
        let work = Work {
            flops: len,
            bytes: len * if has_skip { 12 } else { 8 },
        };
        let mut case = format!("{channels} channels at {side}");
        if !has_skip {
            case += &format!(", {factor} times as large, no skip");
        }
        bench.row("pixel_shuffle", case, work, |gpu| {
            let (x, skip) = (random(1, len), random(2, len));
            let plain = has_skip.then_some(&skip[..]);
            let want = naive::pixel_shuffle(&x, plain, size, factors, Activation::Gelu);
            let x = upload(gpu, [1, side, side, factor * factor * channels], &x)?;
            let skip = has_skip
                .then(|| upload(gpu, [1, factor * side, factor * side, channels], &skip))
                .transpose()?;
            Ok(Trial::new(0, want, move |rec| {
                pixel_shuffle(rec, &x, factors, skip.as_ref(), Activation::Gelu)
            }))
        })?;
    }
    masks(bench)
}

/// Convolutions of other models.
fn others(bench: &mut Bench) -> Result<()> {
    let plain = false;
    let picture = |side| [1, side, side];
    // a ResNet-50's stem, a strided step and a shortcut
    let (seven, three) = (Window::square(7, 2, 3), Window::square(3, 2, 1));
    let point = Window::square(1, 2, 0);
    conv_row(
        bench,
        "at 112, 7 x 7, stride 2",
        picture(224),
        [4, 64],
        seven,
        plain,
    )?;
    conv_row(
        bench,
        "at 28, 3 x 3, stride 2",
        picture(56),
        [128, 128],
        three,
        plain,
    )?;
    conv_row(
        bench,
        "at 28, 1 x 1, stride 2",
        picture(56),
        [256, 512],
        point,
        plain,
    )?;
    // ResNeXt-50, 32 groups of 4 channels, merged by two
    let grouped = Window::square(3, 1, 1).grouped(16);
    conv_row(
        bench,
        "at 56, 16 groups",
        picture(56),
        [128, 128],
        grouped,
        plain,
    )?;
    // SAM's patch embedding of a 256 × 256 crop and its neck
    let patch = Window::square(16, 16, 0);
    conv_row(
        bench,
        "at 16, 16 x 16, stride 16",
        picture(256),
        [4, 192],
        patch,
        plain,
    )?;
    let neck = Window::square(3, 1, 1);
    conv_row(bench, "at 64, 3 x 3", picture(64), [256, 256], neck, plain)?;
    // MeshNet's dilated 3 × 3 × 3 on a block
    for (channels, dilation) in [(8, 1), (24, 4), (32, 1), (32, 16)] {
        let window = Window {
            dilation: [dilation; 3],
            ..Window::cube(3, 1, dilation)
        };
        let case = format!("at 32 x 32 x 32, 3 x 3 x 3, dilation {dilation}");
        conv_row(bench, &case, [32; 3], [channels; 2], window, plain)?;
    }
    // GTGM's 3-D stem
    let stem = Window {
        kernel: [3, 7, 7],
        stride: [1, 2, 2],
        padding: [[1; 2], [3; 2], [3; 2]],
        ..Window::new([1; 3])
    };
    conv_row(
        bench,
        "at 12 x 56 x 56, 3 x 7 x 7",
        [12, 112, 112],
        [4, 64],
        stem,
        plain,
    )?;
    for (side, channels, [rows, columns], stride) in [
        (56, 64, [3, 3], 1),
        (56, 128, [3, 3], 2),
        (56, 64, [5, 5], 1),
        (56, 64, [7, 7], 1),
        (56, 64, [1, 7], 1),
        (56, 64, [7, 1], 1),
        (28, 128, [1, 11], 1),
        (28, 128, [21, 1], 1),
    ] {
        let window = Window {
            kernel: [1, rows, columns],
            stride: [1, stride, stride],
            padding: [[0; 2], [rows / 2; 2], [columns / 2; 2]],
            ..Window::new([1; 3])
        };
        depthwise_row(bench, [1, side, side], channels, window)?;
    }
    depthwise_row(bench, [16, 32, 32], 32, Window::cube(3, 1, 1))?;
    upscale_row(bench, 64, [256, 64])
}

/// Rows, columns and, for volumes, slices.
fn sizes([depth, height, width]: [usize; 3]) -> String {
    match depth {
        1 => format!("{height} x {width}"),
        _ => format!("{depth} x {height} x {width}"),
    }
}

fn depthwise_row(
    bench: &mut Bench,
    size: [usize; 3],
    channels: usize,
    window: Window,
) -> Result<()> {
    let out: usize = window.out(size).iter().product();
    let [pixels, taps]: [usize; 2] = [size.iter().product(), window.taps()];
    let work = Work {
        flops: 2 * taps * out * channels,
        bytes: 4 * channels * (pixels + out + taps + 1),
    };
    let case = format!(
        "{} of {channels} channels at {}, stride {}",
        sizes(window.kernel),
        sizes(window.out(size)),
        window.stride[2]
    );
    bench.row("conv_depthwise", case, work, |gpu| {
        let [depth, height, width] = size;
        let (x, w) = (random(1, pixels * channels), random(2, taps * channels));
        let (offset, activation) = (random(3, channels), Activation::None);
        let shape = [1, depth, height, width, channels];
        let want =
            naive::conv_depthwise(&x, &w, &offset, shape, &window, activation, Residual::None);
        let (x, w) = (upload(gpu, shape, &x)?, upload(gpu, [taps, channels], &w)?);
        let offset = bias(gpu, &offset)?;
        Ok(Trial::new(0, want, move |rec| {
            conv_depthwise(rec, &x, &window, &w, &offset, activation, Residual::None)
        }))
    })
}

/// SAM's upscaling: a 2 × 2 transposed convolution, product and shuffle together; its first line is checked.
fn upscale_row(bench: &mut Bench, side: usize, [inputs, outputs]: [usize; 2]) -> Result<()> {
    let pixels = side * side;
    let work = Work {
        flops: 2 * pixels * inputs * 4 * outputs,
        bytes: 4 * pixels * (inputs + 4 * outputs) + 8 * inputs * outputs,
    };
    let case = format!("{inputs} -> {outputs} at {side}, with the product before it");
    bench.row("pixel_shuffle", case, work, |gpu| {
        let (matrix, values) = weights(gpu, "f16", [4 * outputs, inputs])?;
        let (x, offset) = (random(1, pixels * inputs), random(2, 4 * outputs));
        let first = &x[..side * inputs];
        let parts = naive::linear(first, &values, &offset, inputs, Activation::None, None);
        let (size, factors) = ([1, 1, 1, side, outputs], [1, 2, 2]);
        let want = naive::pixel_shuffle(&parts, None, size, factors, Activation::None);
        let x = upload(gpu, [pixels, inputs], &x)?;
        let offset = bias(gpu, &offset)?;
        Ok(Trial::new(0, want, move |rec| {
            let parts = linear(rec, &x, &matrix, &offset, Activation::None, None);
            let parts = parts.reshape([1, side, side, 4 * outputs]);
            pixel_shuffle(rec, &parts, factors, None, Activation::None)
        }))
    })
}

fn conv_row(
    bench: &mut Bench,
    place: &str,
    size: [usize; 3],
    [inputs, outputs]: [usize; 2],
    window: Window,
    has_residual: bool,
) -> Result<()> {
    let mut case = format!("f16 {inputs} -> {outputs} {place}");
    if has_residual {
        case += " + residual";
    }
    let out: usize = window.out(size).iter().product();
    let (pixels, taps): (usize, usize) = (size.iter().product(), window.taps());
    let seen = taps * inputs / window.groups;
    let written = out * outputs * (1 + usize::from(has_residual));
    let work = Work {
        flops: 2 * seen * outputs * out,
        bytes: 4 * (pixels * inputs + written) + 2 * seen * outputs,
    };
    let plan = conv_plan(bench.gpu, out, outputs.div_ceil(8), window.groups);
    bench.row(plan.kernel.name, case, work, |gpu| {
        let [depth, height, width] = size;
        let (matrix, values) = weights(gpu, "f16", [outputs, seen])?;
        let (x, offset) = (random(1, pixels * inputs), random(2, outputs));
        let residual = has_residual.then(|| random(3, out * outputs));
        let activation = Activation::Gelu;
        let shape = [1, depth, height, width, inputs];
        let added = residual.as_deref().map_or(Residual::None, Residual::After);
        let want = naive::conv(&x, &values, &offset, shape, &window, activation, added);
        let x = upload(gpu, shape, &x)?;
        let offset = bias(gpu, &offset)?;
        let [a, b, c] = window.out(size);
        let residual = residual
            .map(|r| upload(gpu, [1, a, b, c, outputs], &r))
            .transpose()?;
        Ok(Trial::new(0, want, move |rec| {
            let added = residual.as_ref().map_or(Residual::None, Residual::After);
            conv(rec, &x, &window, &matrix, &offset, activation, added)
        }))
    })
}

fn masks(bench: &mut Bench) -> Result<()> {
    let len = PIXELS * CHANNELS;
    let work = Work {
        flops: 0,
        bytes: 6 * len,
    };
    let case = format!("{PIXELS} x {CHANNELS}");
    bench.row("pack_half", case, work, |gpu| {
        let x = random(1, len);
        let want = naive::pack_half(&x);
        let x = upload(gpu, len, &x)?;
        let y = upload(gpu, len / 2, &vec![0u32; len / 2])?;
        Ok(Trial::words(want, move |rec| {
            pack_half(rec, &x, &y, 0);
            y.clone()
        }))
    })?;

    bench.row(
        "unpack_half",
        format!("{PIXELS} x {CHANNELS}"),
        work,
        |gpu| {
            let packed = naive::pack_half(&random(1, len));
            let want = naive::unpack_half(&packed);
            let x = upload(gpu, [len / 8, 4], &packed)?;
            Ok(Trial::new(0, want, move |rec| {
                unpack_half(rec, &x, len / 8)
            }))
        },
    )?;

    let (slices, prompts, stride) = (8, 70, CHANNELS + 4);
    for masks in [1, MOST_MASKS] {
        let work = Work {
            flops: 2 * masks * slices * len,
            bytes: slices * (2 * len + 4 * masks * PIXELS),
        };
        let case = format!("{masks} of {slices} x {PIXELS} pixels of {CHANNELS}");
        bench.row("slice_masks", case, work, |gpu| {
            let hyper = random(1, slices * prompts * stride);
            let kept = random(2, slices * len);
            let mut want = vec![0.0; masks * slices * PIXELS];
            let shape = [slices, prompts, stride];
            let wanted = 9..9 + masks;
            let to = (&mut want[..], 0);
            naive::slice_masks(&hyper, shape, &kept, CHANNELS, wanted.clone(), to);
            let hyper = upload(gpu, shape, &hyper)?;
            let packed = upload(gpu, slices * len / 2, &naive::pack_half(&kept))?;
            let y = upload(gpu, [masks, slices, PIXELS], &vec![0f32; want.len()])?;
            Ok(Trial::new(0, want, move |rec| {
                slice_masks(rec, &hyper, &packed, CHANNELS, wanted.clone(), &y, 0);
                y.clone()
            }))
        })?;
    }

    // The first of CRIS's projector.
    let (side, channels) = (26, 512);
    let len = side * side * channels;
    let work = Work {
        flops: 0,
        bytes: 20 * len,
    };
    let case = format!("{channels} channels at {side}");
    bench.row("resample", case, work, |gpu| {
        let x = random(1, len);
        let want = naive::resample(&x, [1, side, side, channels]);
        let x = upload(gpu, [1, side, side, channels], &x)?;
        Ok(Trial::new(0, want, move |rec| resample(rec, &x)))
    })?;
    for (name, axis, column_axis) in [("axial", 2, 0), ("coronal", 1, 0), ("sagittal", 0, 1)] {
        fuse_row(bench, name, axis, column_axis)?;
    }
    Ok(())
}

fn fuse_row(bench: &mut Bench, name: &str, axis: usize, column_axis: usize) -> Result<()> {
    let shape @ [size_z, size_y, size_x] = [96, 224, 192];
    let voxels = size_z * size_y * size_x;
    let slices = [size_x, size_y, size_z][axis];
    let work = Work {
        flops: 0,
        bytes: 8 * voxels + 4 * slices * PIXELS,
    };
    let case = format!("{name}, {size_x} x {size_y} x {size_z}");
    bench.row("fuse_view", case, work, |gpu| {
        let x = random(1, slices * PIXELS);
        let quality: Vec<f32> = random(2, slices * 4).iter().map(|v| v.abs()).collect();
        let place = Placement {
            axis,
            column_axis,
            row_offset: 8,
            column_offset: 4,
            slices: 0..slices,
        };
        let (mut sum, mut weight) = (vec![0.0; voxels], vec![0.0; voxels]);
        naive::fuse_view(
            &x,
            [SIDE, SIDE],
            &quality,
            (1, 0),
            &place,
            8.0,
            shape,
            (&mut sum, &mut weight),
            (true, false),
        );
        let x = upload(gpu, [1, slices, SIDE, SIDE], &x)?;
        let quality = upload(gpu, [slices, 1, 4], &quality)?;
        let y = upload(gpu, shape, &sum)?;
        let weight = upload(gpu, shape, &weight)?;
        Ok(Trial::new(0, sum, move |rec| {
            let into = (&y, &weight);
            let ends = (true, false);
            fuse_view(rec, (&x, 0), (&quality, 0), &place, 8.0, into, ends);
            y.clone()
        }))
    })
}
