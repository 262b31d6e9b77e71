//! Convolutions of the conv stem and of the upscaling, and what masks are made by.

use super::{Bench, Trial, Work};
use crate::error::Result;
use crate::ops::check::inputs::{bias, random, upload, weights};
use crate::ops::{
    Activation, CONV_BROADCAST, MOST_MASKS, Placement, broadcast_pays, conv, fuse_view, naive,
    pack_half, pixel_shuffle, resample, slice_masks,
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
        conv_row(bench, [side, inputs, outputs, stride], has_residual)?;
    }
    for (side, channels) in [(14, 64), (28, 48), (56, 32)] {
        let size = [1, side, side, channels];
        let len = 4 * side * side * channels;
        let work = Work {
            flops: len,
            bytes: 12 * len,
        };
        let case = format!("{channels} channels at {side}");
        bench.row("pixel_shuffle", case, work, |gpu| {
            let (x, skip) = (random(1, len), random(2, len));
            let want = naive::pixel_shuffle(&x, &skip, size, Activation::Gelu);
            let x = upload(gpu, [1, side, side, 4 * channels], &x)?;
            let skip = upload(gpu, [1, 2 * side, 2 * side, channels], &skip)?;
            Ok(Trial::new(0, want, move |rec| {
                pixel_shuffle(rec, &x, &skip, Activation::Gelu)
            }))
        })?;
    }
    masks(bench)
}

fn conv_row(
    bench: &mut Bench,
    [side, inputs, outputs, stride]: [usize; 4],
    has_residual: bool,
) -> Result<()> {
    let out = side / stride;
    let mut case = format!("f16 {inputs} -> {outputs} at {out}, stride {stride}");
    if has_residual {
        case += " + residual";
    }
    let written = out * out * outputs * (1 + usize::from(has_residual));
    let work = Work {
        flops: 2 * 9 * inputs * outputs * out * out,
        bytes: 4 * (side * side * inputs + written) + 18 * inputs * outputs,
    };
    let kernel = match broadcast_pays(bench.gpu, &CONV_BROADCAST, outputs.div_ceil(8)) {
        true => "conv_broadcast",
        false => "conv",
    };
    bench.row(kernel, case, work, |gpu| {
        let (matrix, values) = weights(gpu, "f16", [outputs, 9 * inputs])?;
        let (x, offset) = (random(1, side * side * inputs), random(2, outputs));
        let residual = has_residual.then(|| random(3, out * out * outputs));
        let activation = Activation::Gelu;
        let want = naive::conv(
            &x,
            &values,
            &offset,
            [1, side, side, inputs],
            stride,
            activation,
            residual.as_deref(),
        );
        let x = upload(gpu, [1, side, side, inputs], &x)?;
        let offset = bias(gpu, &offset)?;
        let residual = residual
            .map(|r| upload(gpu, [1, out, out, outputs], &r))
            .transpose()?;
        Ok(Trial::new(0, want, move |rec| {
            let residual = residual.as_ref();
            conv(rec, &x, &matrix, &offset, stride, activation, residual)
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

    let images = 16;
    let work = Work {
        flops: 0,
        bytes: 20 * images * PIXELS,
    };
    let case = format!("{images} x {SIDE} x {SIDE}");
    bench.row("resample", case, work, |gpu| {
        let x = random(1, images * PIXELS);
        let want = naive::resample(&x, [images, SIDE, SIDE]);
        let x = upload(gpu, [images, SIDE, SIDE], &x)?;
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
