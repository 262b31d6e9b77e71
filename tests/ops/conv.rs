//! Convolutions of pictures and volumes.

use super::*;

/// Where a residual is added.
#[derive(Clone, Copy)]
enum Join {
    Nowhere,
    After,
    Before,
}

const JOINS: [Join; 3] = [Join::Nowhere, Join::After, Join::Before];

impl Join {
    fn with<T: ?Sized>(self, residual: &T) -> Residual<'_, T> {
        match self {
            Self::Nowhere => Residual::None,
            Self::After => Residual::After(residual),
            Self::Before => Residual::Before(residual),
        }
    }
}

/// One convolution of x `[images, depth, height, width, channels]` against its twin; NaN lies behind x, the residual and y.
#[track_caller]
fn check_conv(
    format: &str,
    size: [usize; 5],
    outputs: usize,
    window: Window,
    activation: Activation,
    join: Join,
) {
    let [images, depth, height, width, channels] = size;
    let seed = size.iter().product::<usize>() * outputs + window.taps();
    let mut random = Random::new(seed as u64);
    let inputs = window.taps() * channels / window.groups;
    let w = weights(gpu(), &mut random, format, [outputs, inputs]);
    let cols = w.matrix.width();
    let x = random.values(size.iter().product());
    let bias = random.values(outputs);
    let out = window.out([depth, height, width]);
    let out = [images, out[0], out[1], out[2], cols];
    let residual = random.values(out.iter().product());
    // The twin computes the padded columns too: zero weights, zero bias.
    let mut plain = w.values.clone();
    plain.resize(cols * inputs, 0.0);
    let want = naive::conv(
        &x,
        &plain,
        &pad(&bias, outputs, cols),
        size,
        &window,
        activation,
        join.with(&residual[..]),
    );
    let rec = gpu().record("conv");
    let x = staged(&rec, size, &x);
    let bias = upload(panels(&bias).len(), &panels(&bias));
    let residual = staged(&rec, out, &residual);
    check(rec, &want, 1e-5, 1e-5, |rec| {
        let residual = join.with(&residual);
        conv(rec, &x, &window, &w.matrix, &bias, activation, residual)
    });
}

#[test]
fn conv_at_every_edge() {
    let (plain, nowhere) = (Activation::None, Join::Nowhere);
    for stride in [1, 2] {
        let window = Window::square(3, stride, 1);
        for height in 1..=4 {
            for width in [1, 2, 3, 5, 9] {
                for images in [1, 3] {
                    let size = [images, 1, height, width, 4];
                    check_conv("f32", size, 8, window, plain, nowhere);
                    check_conv("f32", size, 16, window, plain, nowhere);
                }
            }
        }
        // every number of panels a thread may have, and widths that fill none
        for outputs in [1, 3, 4, 8, 12, 20, 31, 33, 40, 48, 56, 64, 68, 72, 96, 131] {
            for channels in [4, 8, 20] {
                check_conv(
                    "f16",
                    [2, 1, 5, 7, channels],
                    outputs,
                    window,
                    plain,
                    nowhere,
                );
            }
        }
        for format in FORMATS {
            let channels = whole_blocks(format, 32);
            for (n, activation) in ACTIVATIONS.into_iter().enumerate() {
                // Formats in blocks of 256 take eight times as long, and one epilogue says enough of them.
                if channels > 32 && n > 0 {
                    break;
                }
                let size = [1, 1, 6, 5, channels];
                check_conv(format, size, 24, window, activation, JOINS[n % 3]);
                check_conv(format, size, 7, window, activation, JOINS[(n + 1) % 3]);
            }
        }
    }
}

/// One tile of a thread is 8 pixels, of a subgroup 32 or 40: one off on either side, in pictures and in volumes.
#[test]
fn conv_around_its_tiles() {
    for pixels in [7, 8, 9, 31, 32, 33, 39, 40, 41, 79, 81] {
        for outputs in [8, 24, 64] {
            for size in [
                [1, 1, 1, pixels, 4],
                [1, 1, pixels, 1, 4],
                [1, pixels, 1, 1, 4],
                [pixels, 1, 1, 1, 4],
            ] {
                let window = Window::cube(3, 1, 1);
                check_conv(
                    "f32",
                    size,
                    outputs,
                    window,
                    Activation::None,
                    Join::Nowhere,
                );
            }
        }
    }
}

/// So many pixels that several subgroups share a workgroup on a CPU adapter, one fewer and one more.
#[test]
fn conv_of_many_pixels() {
    for width in [255, 256, 257] {
        check_conv(
            "f16",
            [1, 1, 160, width, 4],
            16,
            Window::square(1, 1, 0),
            Activation::Relu,
            Join::After,
        );
    }
}

#[test]
fn conv_with_any_window() {
    let window = |kernel, stride, padding: [usize; 3], dilation| Window {
        kernel,
        stride,
        padding: padding.map(|p| [p; 2]),
        dilation,
        groups: 1,
    };
    let pictures = [
        Window::square(1, 1, 0),
        Window::square(1, 2, 0),
        Window::square(1, 3, 1),
        Window::square(2, 2, 0),
        Window::square(3, 3, 2),
        Window::square(5, 1, 2),
        Window::square(5, 2, 4),
        Window::square(7, 2, 3),
        Window::square(7, 1, 0),
        // more padding than picture, and taps that reach over it on both sides
        Window::square(3, 1, 11),
        window([1, 3, 3], [1, 1, 1], [0, 6, 6], [1, 6, 6]),
        window([1, 3, 3], [1, 2, 1], [0, 16, 16], [1, 16, 16]),
        window([1, 2, 3], [1, 1, 2], [0, 1, 3], [1, 5, 2]),
        window([1, 1, 7], [1, 1, 1], [0, 0, 3], [1, 1, 1]),
        window([1, 7, 1], [1, 1, 1], [0, 3, 0], [1, 1, 1]),
        window([1, 1, 11], [1, 1, 1], [0, 0, 5], [1, 1, 1]),
        window([1, 21, 1], [1, 1, 1], [0, 10, 0], [1, 1, 1]),
        window([1, 15, 15], [1, 15, 15], [0, 14, 14], [1, 1, 1]),
        window([1, 7, 5], [1, 7, 5], [0, 0, 0], [1, 1, 1]),
        Window {
            padding: [[0, 0], [0, 2], [3, 1]],
            ..Window::square(3, 2, 0)
        },
    ];
    for (n, window) in pictures.into_iter().enumerate() {
        let (activation, join) = (ACTIVATIONS[n % 5], JOINS[n % 3]);
        for size in [[1, 1, 7, 9, 8], [2, 1, 11, 7, 4], [1, 1, 13, 23, 4]] {
            for outputs in [5, 36] {
                check_conv("f32", size, outputs, window, activation, join);
            }
        }
    }
    // SAM's patches
    for outputs in [7, 36] {
        let (patches, size) = (Window::square(16, 16, 0), [2, 1, 32, 53, 4]);
        check_conv(
            "f16",
            size,
            outputs,
            patches,
            Activation::None,
            Join::Before,
        );
    }
    // and those of CLIP's ViT-B/32, whose rows are more than a word has bits for
    for (side, size) in [(32, [2, 1, 96, 64, 4]), (30, [1, 1, 30, 71, 8])] {
        let patches = Window::square(side, side, 0);
        check_conv("f16", size, 12, patches, Activation::None, Join::After);
    }
    let volumes = [
        Window::cube(1, 1, 0),
        Window::cube(2, 2, 0),
        Window::cube(3, 1, 1),
        Window::cube(3, 2, 1),
        Window::cube(5, 1, 2),
        window([3, 3, 3], [1, 1, 1], [2, 2, 2], [2, 2, 2]),
        window([3, 3, 3], [1, 1, 1], [16, 16, 16], [16, 16, 16]),
        window([3, 7, 7], [1, 2, 2], [1, 3, 3], [1, 1, 1]),
        window([1, 3, 2], [3, 2, 1], [2, 0, 1], [1, 2, 3]),
        window([4, 1, 3], [2, 1, 3], [3, 1, 0], [2, 1, 1]),
        Window {
            padding: [[2, 0], [0, 2], [1, 2]],
            ..Window::cube(3, 1, 0)
        },
    ];
    for (n, window) in volumes.into_iter().enumerate() {
        let (activation, join) = (ACTIVATIONS[n % 5], JOINS[n % 3]);
        for size in [[1, 5, 6, 7, 4], [2, 8, 7, 11, 8]] {
            for outputs in [8, 24, 30] {
                check_conv("f16", size, outputs, window, activation, join);
            }
        }
    }
}

#[test]
fn conv_in_groups() {
    for groups in [2, 3, 5] {
        for own in [8, 16, 24, 72] {
            for inputs in [4, 12] {
                let window = Window::square(3, 1, 1).grouped(groups);
                let size = [2, 1, 5, 6, groups * inputs];
                check_conv(
                    "f16",
                    size,
                    groups * own,
                    window,
                    Activation::Relu,
                    Join::Before,
                );
            }
        }
    }
}

#[track_caller]
fn check_conv_depthwise(size: [usize; 5], window: Window, activation: Activation, join: Join) {
    let [images, depth, height, width, channels] = size;
    let mut random = Random::new((size.iter().product::<usize>() + window.taps()) as u64);
    let (x, w) = (
        random.values(size.iter().product()),
        random.values(window.taps() * channels),
    );
    let bias = random.values(channels);
    let out = window.out([depth, height, width]);
    let out = [images, out[0], out[1], out[2], channels];
    let residual = random.values(out.iter().product());
    let want = naive::conv_depthwise(
        &x,
        &w,
        &bias,
        size,
        &window,
        activation,
        join.with(&residual[..]),
    );
    let rec = gpu().record("conv_depthwise");
    let (x, w) = (
        staged(&rec, size, &x),
        staged(&rec, [window.taps(), channels], &w),
    );
    let bias = upload(panels(&bias).len(), &panels(&bias));
    let residual = staged(&rec, out, &residual);
    // Up to 147 products of values up to 1, summed in f32.
    check(rec, &want, 1e-5, 1e-5, |rec| {
        let residual = join.with(&residual);
        conv_depthwise(rec, &x, &window, &w, &bias, activation, residual)
    });
}

#[test]
fn conv_depthwise_at_every_edge() {
    let (plain, nowhere) = (Activation::None, Join::Nowhere);
    for width in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33] {
        for stride in [1, 2, 3] {
            let window = Window::square(3, stride, 1);
            check_conv_depthwise([2, 1, 3, width, 8], window, plain, nowhere);
            check_conv_depthwise([1, 1, width, 2, 4], window, plain, nowhere);
        }
    }
    let mut n = 0;
    for kernel in [
        [1, 1, 1],
        [1, 3, 3],
        [1, 5, 5],
        [1, 7, 7],
        [1, 1, 7],
        [1, 7, 1],
        [1, 1, 11],
        [1, 21, 1],
        [3, 3, 3],
        [2, 4, 3],
        [3, 7, 7],
    ] {
        for stride in [[1, 1, 1], [1, 2, 2], [2, 3, 1], [1, 4, 6]] {
            for dilation in [[1, 1, 1], [1, 2, 2], [2, 1, 3], [1, 6, 4]] {
                let padding = [0, 1, 2].map(|axis| {
                    let over = (kernel[axis] - 1) * dilation[axis];
                    // The second size may be less than a window: then all of it lies in the padding's reach.
                    [over / 2 + usize::from(axis == 2), over - over / 2]
                });
                let window = Window {
                    kernel,
                    stride,
                    padding,
                    dilation,
                    groups: 1,
                };
                let (activation, join) = (ACTIVATIONS[n % 5], JOINS[n % 3]);
                n += 1;
                check_conv_depthwise([1, 3, 19, 37, 4], window, activation, join);
                check_conv_depthwise([2, 1, 11, 13, 20], window, activation, join);
            }
        }
    }
    check_conv_depthwise([1, 1, 9, 9, 260], Window::square(3, 1, 1), plain, nowhere);
    check_conv_depthwise([1, 1, 3, 3, 4], Window::square(3, 1, 9), plain, nowhere);
}

/// A volume in blocks is the volume: a block has its neighbours' voxels for a halo, and padding where the volume ends.
#[test]
fn conv_of_blocks_is_conv_of_the_whole() {
    let (size, channels, dilation, part) = (13usize, 8usize, 2usize, 5usize);
    let mut random = Random::new(77);
    let w = weights(gpu(), &mut random, "f32", [24, 27 * channels]);
    let x = random.values(size.pow(3) * channels);
    let bias = upload(24, &random.values(24));
    let whole = Window {
        dilation: [dilation; 3],
        ..Window::cube(3, 1, dilation)
    };
    let convolve = |side: [usize; 3], x: &[f32], window: &Window| -> Vec<f32> {
        let rec = gpu().record("conv");
        let x = upload([1, side[0], side[1], side[2], channels], x);
        let (relu, none) = (Activation::Relu, Residual::None);
        let y = conv(&rec, &x, window, &w.matrix, &bias, relu, none);
        read(rec, &[&y]).swap_remove(0)
    };
    let want = convolve([size; 3], &x, &whole);
    let mut got = vec![f32::NAN; want.len()];
    let starts = || (0..size).step_by(part);
    for corner in
        starts().flat_map(|z| starts().flat_map(move |y| starts().map(move |x| [z, y, x])))
    {
        let ends = corner.map(|at| (at + part).min(size));
        let from = corner.map(|at| at.saturating_sub(dilation));
        let to = ends.map(|end| (end + dilation).min(size));
        let padding = [0, 1, 2].map(|axis| {
            let before = dilation - (corner[axis] - from[axis]);
            [before, dilation - (to[axis] - ends[axis])]
        });
        let side = [0, 1, 2].map(|axis| to[axis] - from[axis]);
        let mut block = Vec::new();
        for z in from[0]..to[0] {
            for y in from[1]..to[1] {
                let at = ((z * size + y) * size + from[2]) * channels;
                block.extend(&x[at..at + side[2] * channels]);
            }
        }
        let mut part = convolve(side, &block, &Window { padding, ..whole }).into_iter();
        for z in corner[0]..ends[0] {
            for y in corner[1]..ends[1] {
                for x in corner[2]..ends[2] {
                    let at = ((z * size + y) * size + x) * 24;
                    got[at..at + 24]
                        .iter_mut()
                        .for_each(|v| *v = part.next().unwrap());
                }
            }
        }
        assert_eq!(part.next(), None);
    }
    // The same sums in the same order.
    assert_eq!(got, want);
}

/// A golden file as a checkpoint: its tensors `<case>.weight` and `<case>.bias` are as PyTorch's layers have them.
fn as_checkpoint(stem: &str) -> Checkpoint {
    let root = env!("CARGO_MANIFEST_DIR");
    let path = format!("{root}/tests/goldens/{stem}.safetensors");
    Checkpoint::open(path.as_ref()).unwrap()
}

/// Three numbers of a case, a picture's with one slice before them.
fn three(value: &serde_json::Value, slice: usize) -> [usize; 3] {
    let numbers = value.as_array().unwrap().iter();
    let mut numbers: Vec<usize> = numbers.map(|n| n.as_u64().unwrap() as usize).collect();
    if numbers.len() == 2 {
        numbers.insert(0, slice);
    }
    numbers.try_into().unwrap()
}

/// Every case of a golden by the layer: kernel, stride, padding, dilation, groups, in two and three dimensions.
fn check_conv_layer(stem: &'static str) {
    let (golden, checkpoint) = (Golden::open(stem), as_checkpoint(stem));
    for (case, scalars) in &golden.cases {
        let window = Window {
            kernel: three(&scalars["kernel"], 1),
            stride: three(&scalars["stride"], 1),
            padding: three(&scalars["padding"], 0).map(|p| [p; 2]),
            dilation: three(&scalars["dilation"], 1),
            groups: scalars["groups"].as_u64().unwrap() as usize,
        };
        let activation = activation(&scalars["activation"]);
        // Where the last dimension is the channels.
        let mut shape = golden.shape(case, "x").to_vec();
        let inputs = shape.pop().unwrap();
        let outputs = *golden.shape(case, "y").last().unwrap();
        let w = CheckpointWeights::new(gpu(), &checkpoint, Precision::Auto);
        let layer = Conv::new([inputs, outputs], window, &w.at(case)).unwrap();
        let (padded, width) = (inputs.next_multiple_of(4), outputs.next_multiple_of(4));
        let rec = gpu().record(stem);
        let x = pad(&golden.values(case, "x"), inputs, padded);
        let x = match shape[..] {
            [n, h, w] => staged(&rec, [n, h, w, padded], &x),
            [n, d, h, w] => staged(&rec, [n, d, h, w, padded], &x),
            _ => panic!("{case}: {shape:?}"),
        };
        let mut want = pad(&golden.values(case, "y"), outputs, width);
        let residual = golden.has(case, "residual").then(|| {
            let values = pad(&golden.values(case, "residual"), outputs, width);
            let mut shape = golden.shape(case, "residual").to_vec();
            shape.pop();
            match shape[..] {
                [n, h, w] => staged(&rec, [n, h, w, width], &values),
                [n, d, h, w] => staged(&rec, [n, d, h, w, width], &values),
                _ => panic!("{case}: {shape:?}"),
            }
        });
        for pixel in want.chunks_exact_mut(width) {
            pixel[outputs..].fill(naive::activate(activation, 0.0) as f32);
        }
        check(rec, &want, 1e-5, 1e-5, |rec| match &residual {
            Some(residual) => layer.joined(rec, &x, activation, residual),
            None => layer.forward(rec, &x, activation),
        });
    }
}

#[test]
fn conv_layer_like_pytorch() {
    check_conv_layer("conv");
    check_conv_layer("conv3d");
}

#[test]
fn conv_depthwise_like_pytorch() {
    check_conv_layer("conv_depthwise");
}

#[test]
fn conv_transpose_like_pytorch() {
    let (golden, checkpoint) = (
        Golden::open("conv_transpose"),
        as_checkpoint("conv_transpose"),
    );
    for (case, scalars) in &golden.cases {
        let activation = activation(&scalars["activation"]);
        let mut shape = golden.shape(case, "x").to_vec();
        let inputs = shape.pop().unwrap();
        let outputs = *golden.shape(case, "y").last().unwrap();
        let w = CheckpointWeights::new(gpu(), &checkpoint, Precision::Auto);
        let kernel = three(&scalars["kernel"], 1);
        let layer = ConvTranspose::new([inputs, outputs], kernel, &w.at(case)).unwrap();
        let (padded, width) = (inputs.next_multiple_of(4), outputs.next_multiple_of(4));
        let rec = gpu().record("conv_transpose");
        let x = pad(&golden.values(case, "x"), inputs, padded);
        let x = match shape[..] {
            [n, h, w] => staged(&rec, [n, h, w, padded], &x),
            [n, d, h, w] => staged(&rec, [n, d, h, w, padded], &x),
            _ => panic!("{case}: {shape:?}"),
        };
        let mut want = pad(&golden.values(case, "y"), outputs, width);
        for pixel in want.chunks_exact_mut(width) {
            pixel[outputs..].fill(naive::activate(activation, 0.0) as f32);
        }
        // Two ops: the poisoned memory would go to what the first leaves behind.
        let y = layer.forward(&rec, &x, None, activation);
        close(&read::<f32>(rec, &[&y])[0], &want, 1e-5, 1e-5);
    }
}

#[test]
fn conv_like_pytorch() {
    let golden = Golden::open("conv2d");
    for (case, scalars) in &golden.cases {
        let kernel = scalars["kernel"].as_u64().unwrap() as usize;
        let stride = scalars["stride"].as_u64().unwrap() as usize;
        let activation = activation(&scalars["activation"]);
        let [n, h, w, ci] = golden.shape(case, "x_nhwc").try_into().unwrap();
        let co = golden.shape(case, "weight")[0];
        let (inputs, width) = (ci.next_multiple_of(4), co.next_multiple_of(4));
        // [out, in, row, column] becomes [out, row, column, in], padded on both sides.
        let torch = golden.values(case, "weight");
        let mut weight = vec![0f32; width * kernel * kernel * inputs];
        for (i, value) in torch.iter().enumerate() {
            let (tap, c, o) = (
                i % (kernel * kernel),
                i / (kernel * kernel) % ci,
                i / (kernel * kernel * ci),
            );
            weight[(o * kernel * kernel + tap) * inputs + c] = *value;
        }
        let shape = [width, kernel * kernel * inputs];
        let matrix = Matrix::f32(gpu(), case, shape, &weight).unwrap();
        let want = golden.values(case, "y_nhwc");
        let mut want = pad(&want, co, width);
        for pixel in want.chunks_exact_mut(width) {
            pixel[co..].fill(naive::activate(activation, 0.0) as f32);
        }
        let rec = gpu().record("conv");
        let x = staged(
            &rec,
            [n, h, w, inputs],
            &pad(&golden.values(case, "x_nhwc"), ci, inputs),
        );
        let bias = panels(&pad(&golden.values(case, "bias"), co, width));
        let bias = upload(bias.len(), &bias);
        check(rec, &want, 1e-5, 1e-5, |rec| match kernel {
            1 => linear(rec, &x, &matrix, &bias, activation, None),
            _ => {
                let (window, none) = (Window::square(3, stride, 1), Residual::None);
                conv(rec, &x, &window, &matrix, &bias, activation, none)
            }
        });
    }
}
