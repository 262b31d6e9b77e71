//! Every op on the adapter, with bounds checks on: against its plain-loop twin at sizes that reach
//! every edge of its kernel, and against PyTorch's goldens where there is one. Results are written
//! into memory full of NaN, inputs end in it.

mod support;

use keraunos::gpu::{Bind, Gpu, GpuOptions, Recorder};
use keraunos::layers::{Conv, ConvTranspose};
use keraunos::ops::choice::Class;
use keraunos::ops::*;
use keraunos::tensor::{
    Checkpoint, Matrix, Precision, Shape, Tensor, Weights as CheckpointWeights,
};
use support::{
    Golden, Random, check, close, encoding, gpu, pad, poison, read, staged, upload, upload_to,
    weights, whole_blocks,
};

const FORMATS: [&str; 11] = [
    "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k",
];
const ACTIVATIONS: [Activation; 7] = [
    Activation::None,
    Activation::Gelu,
    Activation::Relu,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::GeluTanh,
    Activation::QuickGelu,
];

fn activation(name: &serde_json::Value) -> Activation {
    let name = name.as_str().unwrap_or_default();
    ACTIVATIONS
        .into_iter()
        .find(|a| format!("{a:?}").to_lowercase() == name)
        .unwrap_or_else(|| panic!("activation `{name}`"))
}

/// `values` padded to whole panels of 8, as biases are.
fn panels(values: &[f32]) -> Vec<f32> {
    pad(values, values.len(), values.len().next_multiple_of(8))
}

// ---------------------------------------------------------------- products with packed weights

/// One linear layer in one format against its twin; NaN lies behind x, the residual and y.
#[track_caller]
fn check_linear(
    format: &str,
    [rows, inputs, outputs]: [usize; 3],
    activation: Activation,
    has_residual: bool,
) {
    let mut random = Random::new((rows * 1_000_003 + inputs * 1009 + outputs) as u64);
    let w = weights(gpu(), &mut random, format, [outputs, inputs]);
    let width = w.matrix.width();
    let x = pad(&random.values(rows * inputs), inputs, w.matrix.inputs);
    let bias = random.values(outputs);
    let residual = random.values(rows * width);
    // The twin computes the padded columns too: zero weights, zero bias.
    let mut plain = pad(&w.values, inputs, w.matrix.inputs);
    plain.resize(width * w.matrix.inputs, 0.0);
    let want = naive::linear(
        &x,
        &plain,
        &pad(&bias, outputs, width),
        w.matrix.inputs,
        activation,
        has_residual.then_some(&residual),
    );
    let rec = gpu().record("linear");
    let x = staged(&rec, [rows, w.matrix.inputs], &x);
    let bias = upload(panels(&bias).len(), &panels(&bias));
    let residual = has_residual.then(|| staged(&rec, [rows, width], &residual));
    check(rec, &want, 1e-5, 1e-5, |rec| {
        linear(rec, &x, &w.matrix, &bias, activation, residual.as_ref())
    });
}

#[test]
fn linear_at_every_edge_of_its_tile() {
    for rows in (1..=9).chain([15, 16, 17, 24, 25, 31, 33]) {
        for outputs in [4, 8, 12, 60, 64, 68, 72] {
            check_linear("f16", [rows, 4, outputs], Activation::None, false);
        }
        check_linear("f32", [rows, 36, 20], Activation::Gelu, true);
    }
    for outputs in [1, 2, 3, 5, 31, 33, 63, 65, 127, 131] {
        for rows in [1, 2, 3, 11] {
            check_linear("f32", [rows, 8, outputs], Activation::None, true);
        }
    }
    for inputs in [1, 3, 4, 5, 28, 32, 33, 36, 64, 100, 197] {
        check_linear("f16", [1, inputs, 24], Activation::None, false);
        check_linear("f32", [7, inputs, 24], Activation::None, false);
    }
}

#[test]
fn linear_with_every_epilogue() {
    for format in ["f32", "q4_1"] {
        for activation in ACTIVATIONS {
            for has_residual in [false, true] {
                for rows in [1, 2, 13] {
                    check_linear(format, [rows, 96, 72], activation, has_residual);
                }
            }
        }
    }
}

#[test]
fn linear_in_every_format() {
    for format in FORMATS {
        for [rows, inputs, outputs] in [
            [1, 32, 72],
            [2, 96, 72],
            [13, 96, 72],
            [3, 32, 4],
            [1, 32, 200],
            [40, 256, 136],
            [2, 288, 65],
            [1, 768, 9],
            [5, 512, 67],
        ] {
            let size = [rows, whole_blocks(format, inputs), outputs];
            check_linear(format, size, Activation::None, false);
        }
        let inputs = whole_blocks(format, 96);
        for rows in [1, 13] {
            check_linear(format, [rows, inputs, 72], Activation::Silu, true);
        }
    }
}

/// A product with a column of the identity is the weight itself: by every kernel, to the bit.
#[test]
fn linear_gives_back_its_weights() {
    for format in FORMATS {
        let (inputs, outputs) = (whole_blocks(format, 64), 72);
        let mut random = Random::new(11);
        let w = weights(gpu(), &mut random, format, [outputs, inputs]);
        let bias = upload(outputs, &vec![0f32; outputs]);
        for rows in [1, 7, 32] {
            for first in (0..inputs).step_by(29) {
                let unit = |row: usize| (first + row * 5) % inputs;
                let mut x = vec![0f32; rows * inputs];
                (0..rows).for_each(|row| x[row * inputs + unit(row)] = 1.0);
                let want: Vec<f32> = (0..rows)
                    .flat_map(|row| (0..outputs).map(move |o| o * inputs + unit(row)))
                    .map(|at| w.values[at])
                    .collect();
                let rec = gpu().record("linear");
                let x = staged(&rec, [rows, inputs], &x);
                check(rec, &want, 0.0, 0.0, |rec| {
                    linear(rec, &x, &w.matrix, &bias, Activation::None, None)
                });
            }
        }
    }
}

/// Gate and up as one product: rows of two matrices by fours, against the two products.
#[track_caller]
fn check_gated(
    format: &str,
    [rows, inputs, outputs]: [usize; 3],
    activation: Activation,
    has_residual: bool,
) {
    let mut random = Random::new((rows * 1_000_003 + inputs * 1009 + outputs) as u64);
    let w = weights(gpu(), &mut random, format, [2 * outputs, inputs]);
    let by_fours = |values: &[f32], of: usize| -> Vec<f32> {
        let parts = [0, 1].map(|part| {
            let fours = values.chunks_exact(4 * of).skip(part).step_by(2);
            fours.flatten().copied().collect::<Vec<f32>>()
        });
        parts.concat()
    };
    let x = random.values(rows * inputs);
    let bias = random.values(2 * outputs);
    let residual = random.values(rows * outputs);
    let want = naive::linear_gated(
        &x,
        &by_fours(&w.values, inputs),
        &by_fours(&bias, 1),
        inputs,
        activation,
        has_residual.then_some(&residual),
    );
    let matrix = w.matrix.gated();
    assert_eq!((matrix.outputs, matrix.width()), (outputs, outputs));
    let rec = gpu().record("gated");
    let x = staged(&rec, [rows, inputs], &x);
    let bias = upload(2 * outputs, &bias);
    let residual = has_residual.then(|| staged(&rec, [rows, outputs], &residual));
    check(rec, &want, 2e-5, 2e-5, |rec| {
        linear(rec, &x, &matrix, &bias, activation, residual.as_ref())
    });
}

#[test]
fn gated_linear_at_every_edge_and_in_every_format() {
    for rows in [1, 2, 3, 8, 9, 16, 17] {
        for outputs in [4, 8, 28, 32, 36, 64, 68] {
            check_gated("f32", [rows, 36, outputs], Activation::Silu, false);
        }
        for activation in ACTIVATIONS {
            check_gated("f32", [rows, 20, 12], activation, true);
        }
    }
    for format in FORMATS {
        for rows in [1, 13] {
            let size = [rows, whole_blocks(format, 96), 76];
            check_gated(format, size, Activation::Silu, false);
        }
    }
}

#[test]
fn gated_linear_like_pytorch() {
    let golden = Golden::open("linear_gated");
    for (case, scalars) in &golden.cases {
        let size = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let (m, k, n) = (size("m"), size("k"), size("n"));
        let [gate, up] = ["gate", "up"].map(|role| golden.values(case, role));
        let [gate_bias, up_bias] = ["gate_bias", "up_bias"].map(|role| golden.values(case, role));
        let fours = |a: &[f32], b: &[f32], of: usize| -> Vec<f32> {
            let pairs = a.chunks_exact(4 * of).zip(b.chunks_exact(4 * of));
            pairs.flat_map(|(a, b)| [a, b].concat()).collect()
        };
        let matrix = Matrix::f32(gpu(), case, [2 * n, k], &fours(&gate, &up, k));
        let matrix = matrix.unwrap().gated();
        let bias = upload(2 * n, &fours(&gate_bias, &up_bias, 1));
        let rec = gpu().record("gated");
        let x = staged(&rec, [m, k], &golden.values(case, "x"));
        let activation = activation(&scalars["activation"]);
        check(rec, &golden.values(case, "y"), 1e-5, 1e-5, |rec| {
            linear(rec, &x, &matrix, &bias, activation, None)
        });
    }
}

/// Matrices of different formats fill a result side by side, by each kernel, and nothing between or beyond.
#[test]
fn linear_into_columns_beside_others() {
    for (rows, has_residual) in [(1, false), (2, true), (13, true), (9, false)] {
        let mut random = Random::new(rows as u64);
        let inputs = 256;
        // 12 and 44 are no whole panels: their last one must not reach into the next part.
        let parts = [("q4_k", 12), ("f16", 44), ("q6_k", 72), ("q5_0", 8)];
        let cols: usize = parts.iter().map(|(_, outputs)| outputs).sum();
        let x = random.values(rows * inputs);
        let residual = random.values(rows * cols);
        let mut want = vec![0f32; rows * cols];
        let mut packed = Vec::new();
        let mut first = 0;
        for (format, outputs) in parts {
            let w = weights(gpu(), &mut random, format, [outputs, inputs]);
            let bias = random.values(outputs);
            let y = naive::linear(&x, &w.values, &bias, inputs, Activation::Relu, None);
            for (row, y) in y.chunks_exact(outputs).enumerate() {
                for (c, y) in y.iter().enumerate() {
                    let at = row * cols + first + c;
                    want[at] = y + if has_residual { residual[at] } else { 0.0 };
                }
            }
            packed.push((w.matrix, upload(panels(&bias).len(), &panels(&bias)), first));
            first += outputs;
        }
        let rec = gpu().record("linear_into");
        let x = staged(&rec, [rows, inputs], &x);
        let residual = has_residual.then(|| staged(&rec, [rows, cols], &residual));
        check(rec, &want, 1e-5, 1e-5, |rec| {
            let y = Tensor::empty(rec, [rows, cols]);
            for (weight, bias, first) in &packed {
                let product = Product {
                    x: &x,
                    weight,
                    bias,
                    activation: Activation::Relu,
                    residual: residual.as_ref(),
                };
                linear_into(rec, &product, &y, *first);
            }
            y
        });
    }
}

/// On a GPU the inputs of a row are split among lanes, and a big matrix comes as several.
#[test]
fn linear_vec_split_and_in_parts() {
    let (rows, outputs) = (3, 200);
    for format in FORMATS {
        let inputs = whole_blocks(format, 288);
        for split in [1, 2, 8, 64] {
            let mut random = Random::new(7);
            let x = random.values(rows * inputs);
            let bias = random.values(outputs);
            let parts = [
                weights(gpu(), &mut random, format, [128, inputs]),
                weights(gpu(), &mut random, format, [72, inputs]),
            ];
            let plain = [parts[0].values.clone(), parts[1].values.clone()].concat();
            let want = naive::linear_vec(&x, &plain, &bias, inputs, Activation::Silu, None);
            let rec = gpu().record("linear_vec");
            let x = staged(&rec, [rows, inputs], &x);
            let bias = [upload(128, &bias[..128]), upload(72, &bias[128..])];
            check(rec, &want, 1e-5, 1e-5, |rec| {
                let y = Tensor::empty(rec, [rows, outputs]);
                let mut first = 0;
                for (part, bias) in parts.iter().zip(&bias) {
                    let (own, panels) = (part.matrix.outputs, part.matrix.panels());
                    let params = [rows, own, inputs / 4, panels, outputs, first].map(|n| n as u32);
                    let variant = LINEAR_VEC
                        .format(part.matrix.format)
                        .set("SPLIT", split)
                        .set("ACTIVATION", Activation::Silu as u32);
                    let mut bindings: Vec<(&str, &dyn Bind)> = part.matrix.bindings().collect();
                    bindings.extend([
                        ("x", &x as &dyn Bind),
                        ("bias", bias),
                        ("residual", &x),
                        ("y", &y),
                    ]);
                    let groups = [panels.div_ceil(64 / split as usize), rows];
                    rec.dispatch(variant, params, &bindings, groups);
                    first += own;
                }
                y
            });
        }
    }
}

/// The adapter opened for cooperative matrices, and what passes where numbers are exact in f16: sums in f32 or, on Mesa's
/// software driver, in f16. An adapter without them refuses in words.
fn cooperative() -> Option<(Gpu, f64)> {
    let options = GpuOptions {
        cooperative: true,
        checked: true,
        ..GpuOptions::default()
    };
    let has = Gpu::adapters()[0]
        .features
        .contains(&"cooperative matrices");
    match Gpu::open(&options) {
        Ok(gpu) => {
            let tolerance = match gpu.coop_tile() {
                Some("f16_8") => 2e-2,
                _ => 1e-4,
            };
            Some((gpu, tolerance))
        }
        Err(error) => {
            assert!(!has, "{error}");
            assert!(
                error.to_string().contains("cooperative matrices"),
                "{error}"
            );
            None
        }
    }
}

/// Cooperative matrices, where the adapter has them: sizes that reach every edge of a block, whose products are exact in
/// f16 and, but for tiles that sum in f16, in f32.
#[test]
fn linear_coop_at_every_edge() {
    let Some((gpu, tolerance)) = cooperative() else {
        return;
    };
    let tolerance = tolerance as f32;
    let mut random = Random::new(77);
    for (rows, inputs, outputs) in [
        (1, 4, 1),
        (33, 32, 8),
        (64, 36, 31),
        (129, 64, 65),
        (127, 100, 132),
        (257, 128, 200),
    ] {
        let x: Vec<f32> = (0..rows * inputs)
            .map(|_| random.below(17) as f32 / 8.0 - 1.0)
            .collect();
        let w: Vec<f32> = (0..outputs * inputs)
            .map(|_| random.below(9) as f32 / 32.0 - 0.125)
            .collect();
        let bias = random.values(outputs);
        let width = outputs.next_multiple_of(4);
        let added = random.values(rows * width);
        let matrix = Matrix::f16(&gpu, "w", [outputs, inputs], &w).unwrap();
        let upload =
            |shape: [usize; 2], values: &[f32]| Tensor::upload(&gpu, "x", shape, values).unwrap();
        let (x_, added_) = (upload([rows, inputs], &x), upload([rows, width], &added));
        let bias_ = panels(&bias);
        let bias_ = upload([1, bias_.len()], &bias_).reshape(bias_.len());
        let activation = Activation::Relu;
        let rec = gpu.record("linear_coop");
        let got = linear_coop(&rec, &x_, &matrix, &bias_, activation, Some(&added_));
        let got = got.read(rec).unwrap();
        let plain = naive::linear_coop(&x, &w, &bias, inputs, activation, None);
        for row in 0..rows {
            for column in 0..outputs {
                let want = plain[row * outputs + column] + added[row * width + column];
                let got = got[row * width + column];
                assert!(
                    (got - want).abs() <= tolerance * (1.0 + want.abs()),
                    "{rows} x {inputs} -> {outputs}, row {row}, column {column}: {got}, expected {want}"
                );
            }
        }
    }
}

/// Whatever kernel and tile is chosen for a class of products, the results are the same to the bit: a choice is one of
/// time alone.
#[test]
fn a_choice_changes_no_bit() {
    // Choices stay with the adapter, so this test has its own.
    let gpu = support::open(true);
    let mut random = Random::new(31);
    let mut upload = |shape: &[usize]| {
        let values = random.values(shape.iter().product());
        let shape: Shape = match *shape {
            [len] => len.into(),
            [rows, cols] => [rows, cols].into(),
            [a, b, c, d, e] => [a, b, c, d, e].into(),
            _ => panic!("{shape:?}"),
        };
        Tensor::upload(&gpu, "choice", shape, &values).expect("memory")
    };
    type Op = Box<dyn Fn(&Recorder) -> Tensor>;
    let mut ops: Vec<(String, usize, Op)> = Vec::new();
    let mut weight_values = Random::new(32);
    for format in ["f32", "f16", "q8_0", "q4_1", "q6_k"] {
        let inputs = whole_blocks(format, 96);
        let mut shapes = vec![];
        for rows in [1, 2, 3, 4, 5, 7, 8, 9, 13, 17, 33] {
            shapes.extend([20, 68, 132].map(|outputs| [rows, outputs]));
        }
        if ["f16", "q4_1"].contains(&format) {
            // As many tiles as the class of large products has.
            shapes.push([521, 1028]);
        }
        for [rows, outputs] in shapes {
            let w = weights(&gpu, &mut weight_values, format, [outputs, inputs]);
            let x = upload(&[rows, w.matrix.inputs]);
            let bias = upload(&[w.matrix.panels() * 8]);
            let residual = upload(&[rows, outputs]);
            ops.push((
                format!("{format} {rows} x {inputs} -> {outputs}"),
                rows * outputs,
                Box::new(move |rec| {
                    linear(rec, &x, &w.matrix, &bias, Activation::Gelu, Some(&residual))
                }),
            ));
        }
    }
    let square = Window::square(3, 2, 1);
    let uneven = Window {
        kernel: [2, 3, 5],
        stride: [1, 2, 1],
        padding: [[1, 0], [2, 1], [1, 3]],
        dilation: [1, 2, 1],
        groups: 1,
    };
    for (window, size, channels, outputs) in [
        (square, [3, 1, 13, 11, 8], 8, 20),
        (square, [3, 1, 13, 11, 8], 8, 68),
        (square.grouped(2), [1, 1, 9, 7, 8], 4, 64),
        (uneven, [2, 3, 8, 9, 4], 4, 12),
        (uneven, [1, 3, 8, 9, 4], 4, 44),
    ] {
        let inputs = window.taps() * channels;
        let w = weights(&gpu, &mut weight_values, "f16", [outputs, inputs]);
        let x = upload(&size);
        let bias = upload(&[w.matrix.panels() * 8]);
        let [_, depth, height, width, _] = size;
        let out: usize = window.out([depth, height, width]).iter().product();
        ops.push((
            format!("{window:?} {size:?} -> {outputs}"),
            size[0] * out * outputs,
            Box::new(move |rec| {
                let (activation, residual) = (Activation::Silu, Residual::None);
                conv(rec, &x, &window, &w.matrix, &bias, activation, residual)
            }),
        ));
    }
    let candidates = Class::ALL.map(|class| class.candidates(&gpu));
    let most = candidates.iter().map(Vec::len).max().expect("classes");
    assert!(most > 1, "nothing to choose from");
    let mut first: Vec<Vec<u32>> = Vec::new();
    for n in 0..most {
        for (class, candidates) in Class::ALL.iter().zip(&candidates) {
            gpu.choose(class.name(), candidates[n % candidates.len()].clone());
        }
        for (at, (case, len, op)) in ops.iter().enumerate() {
            let rec = gpu.record("choice");
            poison(&rec, *len);
            let y = op(&rec);
            let bits = read::<u32>(rec, &[&y]).concat();
            match first.get(at) {
                None => first.push(bits),
                Some(first) => assert!(bits == *first, "{case}, candidate {n}"),
            }
        }
    }
    let plain = first.iter().flatten().map(|bits| f32::from_bits(*bits));
    assert!(
        plain.into_iter().all(f32::is_finite),
        "not everything was written"
    );
}

/// On a CPU adapter with subgroups `linear` and `conv` are these, and the tests above and below reach their
/// edges; asked for by name they are the same.
#[test]
fn broadcasts_by_name() {
    let broadcasts = gpu().is_cpu() && gpu().subgroup_lanes().is_some_and(|lanes| lanes >= 8);
    if !broadcasts {
        return;
    }
    let mut random = Random::new(9);
    let w = weights(gpu(), &mut random, "f16", [76, 36]);
    let (x, bias) = (random.values(2 * 5 * 7 * 36), random.values(76));
    let want = naive::linear_broadcast(&x, &w.values, &bias, 36, Activation::Relu, None);
    let rec = gpu().record("linear_broadcast");
    let rows = staged(&rec, [70, 36], &x);
    let panelled = upload(80, &panels(&bias));
    check(rec, &want, 1e-5, 1e-5, |rec| {
        linear_broadcast(rec, &rows, &w.matrix, &panelled, Activation::Relu, None)
    });
    let (window, relu) = (Window::square(3, 2, 1), Activation::Relu);
    let size = [2, 1, 5, 7, 4];
    let x = &x[..280];
    let want = naive::conv_broadcast(x, &w.values, &bias, size, &window, relu, Residual::None);
    let rec = gpu().record("conv_broadcast");
    let picture = staged(&rec, size, x);
    check(rec, &want, 1e-5, 1e-5, |rec| {
        let none = Residual::None;
        conv_broadcast(rec, &picture, &window, &w.matrix, &panelled, relu, none)
    });
}

#[test]
fn linear_vec_itself_at_more_rows_than_linear_gives_it() {
    let mut random = Random::new(8);
    let w = weights(gpu(), &mut random, "q8_0", [20, 64]);
    let (x, bias) = (random.values(5 * 64), random.values(20));
    let want = naive::linear_vec(&x, &w.values, &bias, 64, Activation::None, None);
    let rec = gpu().record("linear_vec");
    let x = staged(&rec, [5, 64], &x);
    let bias = upload(24, &panels(&bias));
    check(rec, &want, 1e-5, 1e-5, |rec| {
        linear_vec(rec, &x, &w.matrix, &bias, Activation::None, None)
    });
}

#[test]
fn linear_like_pytorch() {
    let golden = Golden::open("linear");
    for (case, scalars) in &golden.cases {
        let size = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let (m, k, n) = (size("m"), size("k"), size("n"));
        let (inputs, width) = (k.next_multiple_of(4), n.next_multiple_of(4));
        let bias = if golden.has(case, "bias") {
            golden.values(case, "bias")
        } else {
            vec![0.0; n]
        };
        // Padded columns have no weights: they hold activate(0) and are left out.
        let activation = activation(&scalars["activation"]);
        let want = pad(&golden.values(case, "y"), n, width);
        let weight = golden.values(case, "weight");
        let matrix = Matrix::f32(gpu(), case, [n, k], &weight).unwrap();
        let rec = gpu().record("linear");
        let x = staged(
            &rec,
            [m, inputs],
            &pad(&golden.values(case, "x"), k, inputs),
        );
        let bias = upload(panels(&bias).len(), &panels(&bias));
        let residual = golden.has(case, "residual").then(|| {
            staged(
                &rec,
                [m, width],
                &pad(&golden.values(case, "residual"), n, width),
            )
        });
        check(rec, &want, 1e-5, 1e-5, |rec| {
            linear(rec, &x, &matrix, &bias, activation, residual.as_ref())
        });
    }
}

/// An identity matrix leaves the epilogue alone.
#[test]
fn activations_like_pytorch() {
    let golden = Golden::open("activate");
    let identity: Vec<f32> = (0..16).map(|i| f32::from(u8::from(i % 5 == 0))).collect();
    let identity = Matrix::f32(gpu(), "identity", [4, 4], &identity).unwrap();
    let bias = upload(8, &[0f32; 8]);
    for (case, scalars) in &golden.cases {
        let activation = activation(&scalars["activation"]);
        let padded = |role| {
            let values = golden.values(case, role);
            pad(&values, values.len(), values.len().next_multiple_of(4))
        };
        let (x, mut want) = (padded("x"), padded("y"));
        want[golden.shape(case, "x")[0]..].fill(naive::activate(activation, 0.0) as f32);
        let rec = gpu().record("activate");
        let x = staged(&rec, [x.len() / 4, 4], &x);
        check(rec, &want, 1.5e-6, 2e-6, |rec| {
            linear(rec, &x, &identity, &bias, activation, None)
        });
    }
}

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

#[track_caller]
fn check_embed(format: &str, [rows, cols]: [usize; 2], tokens: usize) {
    let mut random = Random::new((rows * cols + tokens) as u64);
    let w = weights(gpu(), &mut random, format, [rows, cols]);
    let ids: Vec<u32> = (0..tokens).map(|_| random.below(rows) as u32).collect();
    let want = naive::embed(
        &ids,
        &pad(&w.values, cols, w.matrix.inputs),
        w.matrix.inputs,
    );
    let ids = upload(tokens, &ids);
    // Dequantising is exact: one product of short numbers, one rounded sum.
    check(gpu().record("embed"), &want, 0.0, 0.0, |rec| {
        embed(rec, &ids, &w.matrix)
    });
}

#[test]
fn embed_in_every_format() {
    for format in FORMATS {
        for tokens in [1, 7, 63, 64, 65, 131] {
            check_embed(format, [133, whole_blocks(format, 64)], tokens);
        }
        check_embed(format, [9, whole_blocks(format, 32)], 40);
        check_embed(format, [70, 768], 70);
    }
    check_embed("f16", [5, 3], 11);
    check_embed("f32", [65, 6], 100);
}

#[test]
fn embed_like_pytorch() {
    let golden = Golden::open("embedding");
    for case in golden.cases.keys() {
        let &[rows, cols] = golden.shape(case, "weight") else {
            panic!("shape of {case}")
        };
        let matrix =
            Matrix::f32(gpu(), case, [rows, cols], &golden.values(case, "weight")).unwrap();
        let ids = golden.numbers(case, "ids");
        let want = pad(&golden.values(case, "y"), cols, cols.next_multiple_of(4));
        let ids = upload(ids.len(), &ids);
        check(gpu().record("embed"), &want, 0.0, 0.0, |rec| {
            embed(rec, &ids, &matrix)
        });
    }
}

/// The rows of a packed table are ggml's dequantised values, bit for bit.
#[test]
fn dequantize_like_ggml() {
    let golden = Golden::open("dequantize");
    for format in &FORMATS[3..] {
        let &[blocks, per_block] = golden.shape(format, "y") else {
            panic!("shape of {format}")
        };
        let raw = golden.bytes(format, "raw");
        let want: Vec<u32> = golden
            .values(format, "y")
            .iter()
            .map(|v| v.to_bits())
            .collect();
        // A block to a row, all in one row, and the same 70 times, beyond a group of 64 rows.
        for (rows, cols, times) in [
            (blocks, per_block, 1),
            (1, blocks * per_block, 1),
            (70, blocks * per_block, 70),
        ] {
            let raw = raw.repeat(times);
            let matrix = Matrix::quantised(gpu(), format, [rows, cols], encoding(format), &raw);
            let ids: Vec<u32> = (0..rows as u32).collect();
            let ids = upload(rows, &ids);
            let rec = gpu().record("embed");
            let y = embed(&rec, &ids, &matrix.unwrap());
            let got = read::<u32>(rec, &[&y]).swap_remove(0);
            assert_eq!(got, want.repeat(times), "{format}");
        }
    }
}

/// What five formats take on the adapter beside what they take in a file.
#[test]
fn packed_matrices_are_hardly_larger_than_in_the_file() {
    for (format, percent) in [
        ("bf16", 0),
        ("q8_0", 0),
        ("q4_0", 0),
        ("q4_1", 0),
        ("q5_0", 0),
        ("q5_1", 0),
        ("q4_k", 3),
        ("q5_k", 3),
        ("q6_k", 0),
    ] {
        let (outputs, inputs) = (128, 512);
        let w = weights(gpu(), &mut Random::new(1), format, [outputs, inputs]);
        let count = (outputs * inputs) as u64;
        let in_file = match format {
            "bf16" => 2 * count,
            _ => encoding(format).byte_len(count).unwrap(),
        };
        let taken = w.matrix.bytes();
        assert!(
            (in_file..=in_file + in_file * percent / 100).contains(&taken),
            "{format}: {taken} bytes on the adapter, {in_file} in the file"
        );
    }
}

// ---------------------------------------------------------------- norms

#[track_caller]
fn check_norms(rows: usize, cols: usize, offset: f32, lanes: Option<u32>) {
    let mut random = Random::new((rows * 10_007 + cols) as u64);
    let x: Vec<f32> = random
        .values(rows * cols)
        .iter()
        .map(|v| 3.0 * v + offset)
        .collect();
    let (weight, bias) = (random.values(cols), random.values(cols));
    let rec = gpu().record("norms");
    let want = naive::layer_norm(&x, &weight, &bias, 1e-6);
    let wanted = naive::rms_norm(&x, &weight, 1e-5);
    let x = staged(&rec, [rows, cols], &x);
    let (weight, bias) = (staged(&rec, cols, &weight), staged(&rec, cols, &bias));
    let y = check_norms_op(rec, &want, |rec| match lanes {
        None => layer_norm(rec, &x, &weight, &bias, 1e-6),
        Some(lanes) => {
            let y = Tensor::empty(rec, [rows, cols]);
            let params = [rows as u32, cols as u32 / 4, 1e-6f32.to_bits()];
            rec.dispatch(
                LAYER_NORM.set("LANES", lanes),
                params,
                &[("x", &x), ("weight", &weight), ("bias", &bias), ("y", &y)],
                rows.div_ceil(64 / lanes as usize),
            );
            y
        }
    });
    drop(y);
    check_norms_op(gpu().record("norms"), &wanted, |rec| match lanes {
        None => rms_norm(rec, &x, &weight, 1e-5),
        Some(lanes) => {
            let y = Tensor::empty(rec, [rows, cols]);
            let params = [rows as u32, cols as u32 / 4, 1e-5f32.to_bits()];
            rec.dispatch(
                RMS_NORM.set("LANES", lanes),
                params,
                &[("x", &x), ("weight", &weight), ("y", &y)],
                rows.div_ceil(64 / lanes as usize),
            );
            y
        }
    });
}

#[track_caller]
fn check_norms_op(rec: Recorder, want: &[f32], op: impl FnOnce(&Recorder) -> Tensor) -> Vec<f32> {
    // A row of 4 nearly equal values divides by nearly nothing: its digits are those of x.
    check(rec, want, 2e-5, 2e-5, op)
}

#[test]
fn layer_norm_and_rms_norm_at_every_edge() {
    for rows in [1, 2, 3, 63, 64, 65, 131] {
        for cols in [8, 20, 64] {
            check_norms(rows, cols, 1.0, None);
        }
    }
    for cols in [12, 124, 128, 132, 192, 384, 576, 1000] {
        check_norms(3, cols, 0.5, None);
        // As on a GPU: lanes share a row.
        for lanes in [2, 32, 64] {
            check_norms(7, cols, 0.5, Some(lanes));
        }
    }
}

#[test]
fn layer_norm_and_rms_norm_over_more_groups_than_one_dimension_holds() {
    // Lanes that share a row are what a GPU has; alone, 64 rows make a group.
    check_norms(2 * 65_535 + 9, 8, 1.0, Some(32));
    check_norms(64 * 65_535 + 65, 4, 1.0, None);
}

#[test]
fn layer_norm_and_rms_norm_like_pytorch() {
    for stem in ["layer_norm", "rms_norm"] {
        let golden = Golden::open(stem);
        for (case, scalars) in &golden.cases {
            let eps = scalars["eps"].as_f64().unwrap() as f32;
            let &[rows, cols] = golden.shape(case, "x") else {
                panic!("shape of {case}")
            };
            // A row four times over has the mean and the variance of the row.
            let fourfold = |role: &str| -> Vec<f32> {
                let values = golden.values(case, role);
                values
                    .chunks_exact(cols)
                    .flat_map(|row| row.repeat(4))
                    .collect()
            };
            let want = fourfold("y");
            let rec = gpu().record("norms");
            let x = staged(&rec, [rows, 4 * cols], &fourfold("x"));
            let weight = staged(&rec, 4 * cols, &fourfold("weight"));
            // x near 300 is itself known to 3e-5 only, which the norm of spread 1 shows.
            let abs = if case == "large_mean" { 1e-4 } else { 1e-5 };
            check(rec, &want, abs, 1e-5, |rec| {
                if stem == "rms_norm" {
                    return rms_norm(rec, &x, &weight, eps);
                }
                let bias = upload(4 * cols, &fourfold("bias"));
                layer_norm(rec, &x, &weight, &bias, eps)
            });
        }
    }
}

// ---------------------------------------------------------------- attention

/// q, k and v beside each other in one tensor, as a stacked product writes them.
struct Stacked {
    values: Vec<f32>,
    stride: usize,
}

impl Stacked {
    fn columns(&self, first: usize) -> naive::Columns<'_> {
        naive::Columns {
            values: &self.values,
            stride: self.stride,
            first,
        }
    }
}

/// What a case adds to the scores.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Adds {
    Nothing,
    /// Kinds of a bias, and its heads.
    Bias(usize, usize),
    /// Columns of the keys' grid.
    Places(usize),
}

#[track_caller]
fn check_attention(batch: usize, queries: usize, keys: usize, heads: Heads, causal: bool) {
    let sizes = [batch, queries, keys];
    check_scores(sizes, heads, (causal, None), Adds::Nothing);
}

type Attention = for<'a> fn(
    &Recorder,
    Columns<'a>,
    Columns<'a>,
    Columns<'a>,
    Heads,
    usize,
    Scores<'a>,
) -> Tensor;

/// Which attention is checked, and how.
#[derive(Clone, Copy)]
struct Judged<'g> {
    gpu: &'g Gpu,
    op: Attention,
    tolerance: f64,
    /// Whether q, k and v are multiples of 1/16, which f16 holds.
    coarse: bool,
}

/// An attention with all that may become of its scores; what pads a bias or places is NaN.
#[track_caller]
fn check_scores(
    sizes: [usize; 3],
    heads: Heads,
    (causal, window): (bool, Option<usize>),
    adds: Adds,
) {
    let judged = Judged {
        gpu: gpu(),
        op: |rec, q, k, v, heads, batch, scores| attention(rec, q, k, v, heads, batch, scores),
        tolerance: 1e-5,
        coarse: false,
    };
    judged.check_scores(sizes, heads, (causal, window), adds);
}

impl Judged<'_> {
    #[track_caller]
    fn check_scores(
        &self,
        [batch, queries, keys]: [usize; 3],
        heads: Heads,
        (causal, window): (bool, Option<usize>),
        adds: Adds,
    ) {
        let mut random = Random::new((queries * 1009 + keys * 31 + heads.width) as u64);
        let mut values = |count: usize| -> Vec<f32> {
            let plain = random.values(count);
            match self.coarse {
                true => plain.iter().map(|v| (16.0 * v).round() / 16.0).collect(),
                false => plain,
            }
        };
        let (q_cols, kv_cols) = (heads.q * heads.width, heads.kv * heads.width);
        // k and v are stacked, k last, with 4 columns of something else before them.
        let q = Stacked {
            values: values(batch * queries * q_cols)
                .iter()
                .map(|v| 3.0 * v)
                .collect(),
            stride: q_cols,
        };
        let kv = Stacked {
            values: values(batch * keys * (4 + 2 * kv_cols)),
            stride: 4 + 2 * kv_cols,
        };
        let (v_first, k_first) = (4, 4 + kv_cols);
        let mut want = naive::Scores {
            causal,
            window,
            ..naive::Scores::default()
        };
        // A bias hides one key in five, by one large number or another, and the second query of each head from all.
        let (mut bias, mut kinds, mut places) = (Vec::new(), Vec::new(), Vec::new());
        match adds {
            Adds::Nothing => {}
            Adds::Bias(kinds_of, bias_heads) => {
                for at in 0..kinds_of * bias_heads * queries * keys {
                    let hidden = [f32::MIN, f32::NEG_INFINITY, -2e30][at % 3];
                    let alone = queries > 1 && at / keys % queries == 1;
                    bias.push(match alone || random.below(5) == 0 {
                        true => hidden,
                        false => 4.0 * random.value(),
                    });
                }
                kinds = (0..batch.div_ceil(2))
                    .map(|_| random.below(kinds_of) as u32)
                    .collect();
                want.bias = Some((&bias, bias_heads, &kinds));
            }
            Adds::Places(columns) => {
                let rows = batch * heads.q * (keys / columns + columns);
                places = pad(
                    &random.values(rows * queries),
                    queries,
                    queries.next_multiple_of(4),
                );
                want.places = Some((&places, columns));
            }
        }
        let want = naive::attention(
            q.columns(0),
            kv.columns(k_first),
            kv.columns(v_first),
            heads,
            batch,
            want,
        );
        let rec = self.gpu.record("attention");
        let q = staged(&rec, [batch * queries, q.stride], &q.values);
        let kv = staged(&rec, [batch * keys, kv.stride], &kv.values);
        let padded = |values: &[f32], cols: usize| -> Vec<f32> {
            let rows = values.chunks_exact(cols);
            rows.flat_map(|row| {
                let more = cols.next_multiple_of(4) - cols;
                row.iter().copied().chain((0..more).map(|_| f32::NAN))
            })
            .collect()
        };
        let (added, kind) = match adds {
            Adds::Nothing => (None, None),
            Adds::Bias(kinds_of, bias_heads) => {
                let shape = [kinds_of, bias_heads, queries, keys.next_multiple_of(4)];
                let kind = (kinds_of > 1).then(|| upload_to(self.gpu, kinds.len(), &kinds));
                (Some(staged(&rec, shape, &padded(&bias, keys))), kind)
            }
            Adds::Places(columns) => {
                let (all, stride) = (keys / columns + columns, queries.next_multiple_of(4));
                for row in places.chunks_exact_mut(stride) {
                    row[queries..].fill(f32::NAN);
                }
                (
                    Some(staged(&rec, [batch, heads.q, all, stride], &places)),
                    None,
                )
            }
        };
        let scores = Scores {
            causal,
            window,
            added: match (adds, &added) {
                (Adds::Bias(..), Some(bias)) => Added::Bias {
                    bias,
                    kind: kind.as_ref(),
                },
                (Adds::Places(columns), Some(places)) => Added::Relative { places, columns },
                _ => Added::Nothing,
            },
        };
        let got = check(rec, &want, self.tolerance, self.tolerance, |rec| {
            let (k, v) = (Columns::from(&kv, k_first), Columns::from(&kv, v_first));
            (self.op)(rec, Columns::all(&q), k, v, heads, batch, scores)
        });
        if matches!(adds, Adds::Bias(..)) && queries > 1 {
            assert!(
                got[q_cols..2 * q_cols].iter().all(|v| *v == 0.0),
                "a row without keys"
            );
        }
    }
}

/// On a CPU adapter with subgroups of 8 lanes `attention` is this, and the tests reach its edges; asked for by
/// name it is the same.
#[test]
fn attention_broadcast_by_name() {
    if !(gpu().is_cpu() && gpu().subgroup_lanes() == Some(8)) {
        return;
    }
    let (heads, rows, keys) = (heads(3, 1, 24), 10, 12);
    let mut random = Random::new(24);
    let [q, k, v] = [rows * 72, keys * 24, keys * 24].map(|count| random.values(count));
    let plain = |values, stride| naive::Columns {
        values,
        stride,
        first: 0,
    };
    let (plain_q, plain_k, plain_v) = (plain(&q, 72), plain(&k, 24), plain(&v, 24));
    let want = naive::attention_broadcast(plain_q, plain_k, plain_v, heads, 2, true);
    let rec = gpu().record("attention_broadcast");
    let q = staged(&rec, [rows, 72], &q);
    let [k, v] = [&k, &v].map(|values| staged(&rec, [keys, 24], values));
    check(rec, &want, 1e-5, 1e-5, |rec| {
        let [q, k, v] = [&q, &k, &v].map(Columns::all);
        attention_broadcast(rec, q, k, v, heads, 2, true.into())
    });
}

/// Cooperative matrices, where the adapter has them: every width, all that may become of scores, rows and keys at the edges
/// of their blocks. Many keys: an accumulator that a driver carries wrongly from block to block shows.
#[test]
fn attention_coop_at_every_edge() {
    let Some((gpu, tolerance)) = cooperative() else {
        return;
    };
    let judged = Judged {
        gpu: &gpu,
        op: |rec, q, k, v, heads, batch, scores| attention_coop(rec, q, k, v, heads, batch, scores),
        // Probabilities are rounded to 11 bits, and weigh their own roundings.
        tolerance: tolerance.max(1e-3),
        coarse: true,
    };
    let plain = (false, None);
    for width in [16, 32, 48, 64, 80, 96, 112, 128] {
        judged.check_scores([1, 33, 300], heads(2, 2, width), plain, Adds::Nothing);
        judged.check_scores([2, 35, 35], heads(2, 1, width), plain, Adds::Places(7));
        judged.check_scores([2, 19, 37], heads(2, 1, width), plain, Adds::Bias(1, 2));
        judged.check_scores(
            [1, 67, 131],
            heads(3, 1, width),
            (true, Some(33)),
            Adds::Nothing,
        );
    }
    for (queries, keys) in [
        (1, 1),
        (7, 14),
        (31, 33),
        (32, 32),
        (33, 64),
        (65, 131),
        (8, 1025),
    ] {
        judged.check_scores([2, queries, keys], heads(4, 2, 64), plain, Adds::Nothing);
        judged.check_scores(
            [2, queries, keys],
            heads(2, 1, 80),
            (true, None),
            Adds::Nothing,
        );
        judged.check_scores([3, queries, keys], heads(2, 2, 16), plain, Adds::Bias(3, 2));
    }
    for window in [1, 31, 32, 33, 64, 1000] {
        judged.check_scores(
            [1, 97, 130],
            heads(2, 1, 16),
            (true, Some(window)),
            Adds::Nothing,
        );
    }
    // Tiles of 8 take widths between.
    if gpu.coop_tile().is_some_and(|tile| tile.ends_with('8')) {
        for width in [24, 40, 72, 104, 120] {
            judged.check_scores([1, 33, 67], heads(2, 1, width), (true, None), Adds::Nothing);
        }
    }
    // By itself the op takes it, and of narrow heads and few rows the others.
    let judged = Judged {
        op: |rec, q, k, v, heads, batch, scores| attention(rec, q, k, v, heads, batch, scores),
        ..judged
    };
    for (queries, width) in [(16, 64), (15, 64), (33, 8), (33, 72), (33, 136)] {
        judged.check_scores(
            [1, queries, 65],
            heads(2, 1, width),
            (true, None),
            Adds::Nothing,
        );
    }
}

/// Every width of the kernel for narrow heads, also those that `attention` would not give it.
#[test]
fn attention_narrow_at_every_edge() {
    for width in [4, 8, 12, 16] {
        for (batch, queries, keys) in [
            (1, 1, 1),
            (1, 2, 3),
            (3, 3, 3),
            (2, 7, 196),
            (1, 210, 5),
            (70, 3, 4),
        ] {
            for heads in [heads(1, 1, width), heads(8, 8, width), heads(6, 2, width)] {
                let mut random = Random::new((queries * 1009 + keys * 31 + width) as u64);
                let (q_cols, kv_cols) = (heads.q * width, heads.kv * width);
                let q = random.values(batch * queries * q_cols);
                let k = random.values(batch * keys * kv_cols);
                let v = random.values(batch * keys * kv_cols);
                let plain = |values, stride| naive::Columns {
                    values,
                    stride,
                    first: 0,
                };
                let want = naive::attention_narrow(
                    plain(&q, q_cols),
                    plain(&k, kv_cols),
                    plain(&v, kv_cols),
                    heads,
                    batch,
                );
                let rec = gpu().record("attention_narrow");
                let q = staged(&rec, [batch * queries, q_cols], &q);
                let k = staged(&rec, [batch * keys, kv_cols], &k);
                let v = staged(&rec, [batch * keys, kv_cols], &v);
                check(rec, &want, 1e-5, 1e-5, |rec| {
                    let (q, k, v) = (Columns::all(&q), Columns::all(&k), Columns::all(&v));
                    attention_narrow(rec, q, k, v, heads, batch)
                });
            }
        }
    }
}

fn heads(q: usize, kv: usize, width: usize) -> Heads {
    Heads { q, kv, width }
}

#[test]
fn attention_at_every_edge() {
    for width in [8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 128, 136] {
        for (queries, keys) in [(1, 1), (3, 3), (7, 14), (9, 65), (33, 64), (65, 131)] {
            check_attention(1, queries, keys, heads(2, 2, width), false);
            check_attention(2, queries, keys, heads(2, 1, width), true);
        }
    }
    for keys in [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 61, 63, 66, 129, 196] {
        check_attention(3, 3.min(keys), keys, heads(3, 1, 16), true);
        check_attention(3, 3, keys, heads(6, 2, 8), false);
    }
    for queries in [1, 8, 31, 32, 33, 63, 64, 97] {
        check_attention(2, queries, queries, heads(4, 2, 16), true);
        check_attention(2, queries, 11, heads(1, 1, 64), false);
    }
}

/// A causal row sees the last keys only: windows within a block of keys, over its edges and longer than all.
#[test]
fn attention_in_a_sliding_window() {
    for width in [8, 32, 48, 64, 72, 80, 96, 128] {
        check_scores(
            [1, 67, 131],
            heads(2, 1, width),
            (true, Some(33)),
            Adds::Nothing,
        );
    }
    for window in [1, 2, 31, 32, 33, 64, 65, 129, 1000] {
        for (queries, keys) in [(1, 1), (1, 130), (9, 97), (130, 130)] {
            let sizes = [2, queries, keys];
            check_scores(sizes, heads(2, 2, 16), (true, Some(window)), Adds::Nothing);
        }
    }
}

/// A bias of all heads or of each, of one kind or several, alone and with the causal mask.
#[test]
fn attention_with_a_bias() {
    for width in [8, 16, 32, 48, 64, 72, 80, 96, 128] {
        check_scores(
            [2, 19, 37],
            heads(2, 1, width),
            (false, None),
            Adds::Bias(1, 2),
        );
    }
    for (queries, keys) in [
        (1, 1),
        (2, 1),
        (5, 3),
        (17, 33),
        (33, 31),
        (49, 49),
        (70, 129),
    ] {
        check_scores(
            [3, queries, keys],
            heads(4, 2, 8),
            (false, None),
            Adds::Bias(1, 1),
        );
        check_scores(
            [5, queries, keys],
            heads(2, 2, 8),
            (false, None),
            Adds::Bias(3, 2),
        );
        check_scores(
            [7, queries, keys],
            heads(2, 1, 16),
            (false, None),
            Adds::Bias(4, 1),
        );
        if keys >= queries {
            check_scores(
                [2, queries, keys],
                heads(2, 1, 8),
                (true, None),
                Adds::Bias(1, 2),
            );
            check_scores(
                [2, queries, keys],
                heads(2, 1, 8),
                (true, Some(9)),
                Adds::Bias(2, 2),
            );
        }
    }
}

/// Places of keys on grids of many shapes, lines of whole vec4s and others, as many queries as keys and not.
#[test]
fn attention_with_relative_positions() {
    for width in [8, 16, 32, 48, 64, 72, 80, 96, 128] {
        check_scores(
            [2, 35, 35],
            heads(2, 1, width),
            (false, None),
            Adds::Places(7),
        );
        check_scores(
            [1, 36, 36],
            heads(2, 2, width),
            (false, None),
            Adds::Places(12),
        );
    }
    for (queries, lines, columns) in [
        (1, 1, 1),
        (5, 5, 1),
        (3, 1, 7),
        (14, 2, 7),
        (196, 14, 14),
        (81, 9, 9),
        (64, 4, 16),
        (33, 17, 4),
        (67, 31, 5),
    ] {
        let sizes = [2, queries, lines * columns];
        check_scores(sizes, heads(2, 1, 8), (false, None), Adds::Places(columns));
    }
}

/// Swin's windows, with transformers' bias and mask; sliding windows; a mask of the least number.
#[test]
fn attention_scores_like_pytorch() {
    let golden = Golden::open("attention_scores");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let heads = heads(number("heads"), number("kv_heads"), number("head_dim"));
        let (batch, rows, keys) = (number("batch"), number("rows"), number("keys"));
        let window = (number("window") > 0).then(|| number("window"));
        let rec = gpu().record("attention");
        let tensor =
            |role: &str, shape: [usize; 2]| staged(&rec, shape, &golden.values(case, role));
        let q = tensor("q", [batch * rows, heads.q * heads.width]);
        let [k, v] = ["k", "v"].map(|role| tensor(role, [batch * keys, heads.kv * heads.width]));
        let bias = golden.has(case, "bias").then(|| {
            let [kinds, bias_heads, ..] = golden.shape(case, "bias") else {
                panic!("{case}: a bias of another shape")
            };
            let padded = keys.next_multiple_of(4);
            let values = pad(&golden.values(case, "bias"), keys, padded);
            let kind = golden.numbers(case, "kind");
            let bias = staged(&rec, [*kinds, *bias_heads, rows, padded], &values);
            (bias, upload(kind.len(), &kind))
        });
        let added = match &bias {
            None => Added::Nothing,
            Some((bias, kind)) => Added::Bias {
                bias,
                kind: Some(kind),
            },
        };
        let scores = Scores {
            causal: window.is_some(),
            window,
            added,
        };
        check(rec, &golden.values(case, "y"), 2e-5, 2e-5, |rec| {
            let [q, k, v] = [&q, &k, &v].map(Columns::all);
            attention(rec, q, k, v, heads, batch, scores)
        });
    }
}

#[track_caller]
fn check_rel_pos(batch: usize, lines: usize, columns: usize, heads: Heads) {
    let mut random = Random::new((lines * 1009 + columns * 31 + heads.width) as u64);
    let (queries, q_cols) = (lines * columns, heads.q * heads.width);
    let q = Stacked {
        values: random.values(batch * queries * (q_cols + 4)),
        stride: q_cols + 4,
    };
    let tables = [lines, columns].map(|places| random.values((2 * places - 1) * heads.width));
    let want = naive::rel_pos(q.columns(4), heads, batch, [&tables[0], &tables[1]]);
    let rec = gpu().record("rel_pos");
    let q = staged(&rec, [batch * queries, q.stride], &q.values);
    let table = |n: usize| {
        let values = &tables[n];
        staged(&rec, [values.len() / heads.width, heads.width], values)
    };
    let (down, across) = (table(0), table(1));
    check(rec, &want, 1e-5, 1e-5, |rec| {
        rel_pos(rec, Columns::from(&q, 4), heads, batch, [&down, &across])
    });
}

#[test]
fn rel_pos_at_every_edge() {
    for (lines, columns) in [
        (1, 1),
        (1, 9),
        (9, 1),
        (2, 3),
        (3, 4),
        (7, 5),
        (14, 14),
        (8, 8),
        (17, 12),
        (5, 31),
    ] {
        check_rel_pos(1, lines, columns, heads(1, 1, 4));
        check_rel_pos(2, lines, columns, heads(3, 3, 8));
    }
    for width in [16, 32, 64, 72, 80, 96, 128] {
        check_rel_pos(2, 5, 7, heads(2, 1, width));
    }
}

/// SAM's attention as transformers computes it: the tables at the grid's size, what places add, and the whole.
#[test]
fn rel_pos_like_transformers() {
    let golden = Golden::open("rel_pos");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let (batch, lines, columns) = (number("batch"), number("lines"), number("columns"));
        let heads = heads(number("heads"), number("heads"), number("head_dim"));
        let (queries, cols) = (lines * columns, heads.q * heads.width);
        let tables = [("h", lines), ("w", columns)].map(|(axis, places)| {
            let old = golden.values(case, &format!("rel_pos_{axis}"));
            let table = resized_table(&old, heads.width, 2 * places - 1);
            close(
                &table,
                &golden.values(case, &format!("rows_{axis}")),
                1e-6,
                1e-6,
            );
            upload([2 * places - 1, heads.width], &table)
        });
        // Theirs has the places innermost, ours the queries.
        let mut want = Vec::new();
        let theirs = [("rel_h", lines), ("rel_w", columns)];
        for head in 0..batch * heads.q {
            for (role, places) in theirs {
                let values = golden.values(case, role);
                for place in 0..places {
                    let at = |i: usize| values[(head * queries + i) * places + place];
                    want.extend((0..queries).map(at));
                    want.resize(want.len().next_multiple_of(4), 0.0);
                }
            }
        }
        let qkv = golden.values(case, "qkv");
        for whole in [false, true] {
            let rec = gpu().record("rel_pos");
            let qkv = staged(&rec, [batch * queries, 3 * cols], &qkv);
            let y = golden.values(case, "y");
            let want = if whole { &y } else { &want };
            check(rec, want, 2e-5, 2e-5, |rec| {
                poison_four(rec, want.len());
                let [q, k, v] = [0, cols, 2 * cols].map(|first| Columns::from(&qkv, first));
                let places = rel_pos(rec, q, heads, batch, [&tables[0], &tables[1]]);
                if !whole {
                    return places;
                }
                let added = Added::Relative {
                    places: &places,
                    columns,
                };
                let scores = Scores {
                    added,
                    ..Scores::default()
                };
                attention(rec, q, k, v, heads, batch, scores)
            });
        }
    }
}

#[track_caller]
fn check_windows(size: [usize; 4], x: &[f32], y: &[f32], side: usize, shift: usize) {
    let [images, height, width, channels] = size;
    let rec = gpu().record("windows");
    let picture = staged(&rec, size, x);
    check(rec, y, 0.0, 0.0, |rec| windows(rec, &picture, side, shift));
    // What lies in the padding does not come back.
    let rec = gpu().record("windows");
    let cut = staged(&rec, [y.len() / channels, channels], y);
    check(rec, x, 0.0, 0.0, |rec| {
        joined_windows(rec, &cut, [images, height, width], side, shift)
    });
}

#[test]
fn windows_at_every_edge() {
    for (height, width) in [(1, 1), (2, 3), (7, 7), (8, 6), (13, 15), (14, 29)] {
        for (side, shift) in [(1, 0), (2, 1), (7, 0), (7, 3), (14, 0), (5, 4)] {
            let size = [2, height, width, 12];
            let x = Random::new(side as u64).values(size.iter().product());
            let y = naive::windows(&x, size, side, shift);
            check_windows(size, &x, &y, side, shift);
        }
    }
}

#[test]
fn windows_like_transformers() {
    let golden = Golden::open("windows");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let size: [usize; 4] = golden.shape(case, "x").try_into().unwrap();
        let (x, y) = (golden.values(case, "x"), golden.values(case, "y"));
        check_windows(size, &x, &y, number("side"), number("shift"));
    }
}

#[test]
fn attention_like_pytorch() {
    let golden = Golden::open("attention");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let heads = heads(number("heads"), number("kv_heads"), number("head_dim"));
        let (batch, rows, keys) = (number("batch"), number("rows"), number("keys"));
        let causal = scalars["causal"].as_bool().unwrap();
        assert!(
            !causal || number("offset") == keys - rows,
            "{case}: the last row sees all keys"
        );
        let rec = gpu().record("attention");
        let tensor = |role: &str, rows: usize, heads: usize, width: usize| {
            staged(
                &rec,
                [batch * rows, heads * width],
                &golden.values(case, role),
            )
        };
        let q = tensor("q", rows, heads.q, heads.width);
        let (k, v) = (
            tensor("k", keys, heads.kv, heads.width),
            tensor("v", keys, heads.kv, heads.width),
        );
        check(rec, &golden.values(case, "y"), 2e-5, 2e-5, |rec| {
            attention(
                rec,
                Columns::all(&q),
                Columns::all(&k),
                Columns::all(&v),
                heads,
                batch,
                causal,
            )
        });
    }
}

/// As `poison`, for ops that lease more than their result: whichever of the next four tensors of this size is it.
fn poison_four(rec: &Recorder, len: usize) {
    let held = [(); 4].map(|()| {
        poison(rec, len);
        Tensor::empty(rec, len)
    });
    drop(held);
}

#[track_caller]
fn check_attention_spans(spans: &[[u32; 2]], prefix: usize, keys: usize, heads: Heads) {
    let mut random = Random::new((spans.len() * 1009 + prefix + heads.width) as u64);
    let (q_cols, kv_cols) = (heads.q * heads.width, heads.kv * heads.width);
    let q = Stacked {
        values: random
            .values(spans.len() * (q_cols + 8))
            .iter()
            .map(|v| 3.0 * v)
            .collect(),
        stride: q_cols + 8,
    };
    let (k, v) = (random.values(keys * kv_cols), random.values(keys * kv_cols));
    let plain = |values| naive::Columns {
        values,
        stride: kv_cols,
        first: 0,
    };
    let want = naive::attention_spans(q.columns(8), plain(&k), plain(&v), spans, prefix, heads);
    // As it is, which for few rows is split, and split in so many shares.
    for splits in [None, Some(1), Some(2), Some(7)] {
        if splits.is_some() && spans.len() > 60_000 / heads.q {
            continue;
        }
        let rec = gpu().record("attention_spans");
        let q = staged(&rec, [spans.len(), q.stride], &q.values);
        let (k, v) = (
            staged(&rec, [keys, kv_cols], &k),
            staged(&rec, [keys, kv_cols], &v),
        );
        let span = upload([spans.len(), 2], spans.as_flattened());
        check(rec, &want, 1e-5, 1e-5, |rec| {
            poison_four(rec, want.len());
            let (q, k, v) = (Columns::from(&q, 8), Columns::all(&k), Columns::all(&v));
            match splits {
                None => attention_spans(rec, q, k, v, &span, prefix, heads),
                Some(n) => attention_split(rec, q, k, v, &span, prefix, heads, n),
            }
        });
    }
}

#[test]
fn attention_spans_at_every_edge() {
    for width in [4, 8, 12, 16, 48, 64, 80, 128] {
        for prefix in [0, 1, 5, 64] {
            // The tiled kernel, which reads the prefix, takes heads of whole vec4 pairs.
            if prefix > 0 && width % 8 != 0 {
                continue;
            }
            let spans = [
                [64, 1],
                [65, 2],
                [70, 3],
                [64, 4],
                [64, 67],
                [100, 31],
                [130, 1],
            ];
            check_attention_spans(&spans, prefix, 131, heads(3, 1, width));
        }
    }
    // Prefill: row i sees itself and all before; a row whose prefix is all it sees.
    let prefill: Vec<[u32; 2]> = (0..37).map(|i| [11, i + 1]).collect();
    check_attention_spans(&prefill, 11, 48, heads(9, 3, 16));
    check_attention_spans(&[[5, 0], [3, 0]], 5, 5, heads(2, 2, 8));
    // Rows that see nothing, few and many.
    check_attention_spans(&[[2, 0], [0, 5]], 0, 5, heads(2, 1, 8));
    check_attention_spans(&[[2, 0]; 9], 0, 5, heads(2, 1, 8));
    // Up to four heads share the loads of k and v; five and more are two workgroups.
    for group in [1, 2, 3, 4, 5, 7, 8, 9] {
        check_attention_spans(&[[3, 127], [64, 3]], 2, 131, heads(2 * group, 2, 16));
    }
    for width in [32, 48, 64, 72, 80, 96, 128] {
        check_attention_spans(&[[0, 131], [64, 3], [130, 1]], 3, 131, heads(4, 2, width));
    }
    // Heads that only the splitting kernel takes.
    for width in [160, 256] {
        check_attention_spans(&[[0, 131], [64, 3], [130, 1]], 3, 131, heads(4, 1, width));
    }
    // Longer shares than workgroup memory holds.
    check_attention_spans(&[[5, 1990]], 5, 2000, heads(6, 2, 8));
    // As many keys as a row may see.
    let most = MOST_KEYS as u32;
    check_attention_spans(
        &[[0, most], [2, most - 1]],
        0,
        MOST_KEYS + 1,
        heads(2, 1, 8),
    );
    check_attention_spans(&[[1000, most - 900]], 900, 2200, heads(1, 1, 64));
}

#[test]
fn attention_spans_over_more_groups_than_one_dimension_holds() {
    let spans: Vec<[u32; 2]> = (0..32_771).map(|i| [i % 5, 1 + i % 3]).collect();
    check_attention_spans(&spans, 0, 8, heads(2, 1, 4));
}

#[test]
fn attention_merge_at_every_edge() {
    for (splits, rows, heads, width) in [(1, 1, 1, 4), (2, 1, 9, 64), (7, 3, 2, 12), (33, 2, 5, 80)]
    {
        let mut random = Random::new(splits as u64);
        let part = random.values(splits * rows * heads * width);
        let mut state: Vec<f32> = (0..splits * rows * heads)
            .flat_map(|_| [60.0 * random.value(), 2.0 + random.value()])
            .collect();
        // The first row and head saw nothing, the last nothing in its first share.
        for split in 0..splits {
            state[2 * split * rows * heads..][..2].copy_from_slice(&[-1e30, 0.0]);
        }
        state[2 * rows * heads - 2..][..2].copy_from_slice(&[-1e30, 0.0]);
        let want = naive::attention_merge(&part, &state, splits, width);
        let rec = gpu().record("attention_merge");
        let part = staged(&rec, [splits, rows, heads * width], &part);
        let state = upload([splits, rows, heads, 2], &state);
        check(rec, &want, 1e-6, 1e-6, |rec| {
            attention_merge(rec, &part, &state)
        });
    }
}

#[test]
fn attention_spans_like_pytorch() {
    let golden = Golden::open("attention");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let heads = heads(number("heads"), number("kv_heads"), number("head_dim"));
        let (batch, rows, keys) = (number("batch"), number("rows"), number("keys"));
        let causal = scalars["causal"].as_bool().unwrap();
        let span: Vec<u32> = (0..batch * rows)
            .flat_map(|r| {
                let count = if causal {
                    keys - rows + r % rows + 1
                } else {
                    keys
                };
                [(r / rows * keys) as u32, count as u32]
            })
            .collect();
        let span = upload([batch * rows, 2], &span);
        let rec = gpu().record("attention_spans");
        let tensor = |role: &str, rows: usize, heads: usize, width: usize| {
            staged(
                &rec,
                [batch * rows, heads * width],
                &golden.values(case, role),
            )
        };
        let q = tensor("q", rows, heads.q, heads.width);
        let (k, v) = (
            tensor("k", keys, heads.kv, heads.width),
            tensor("v", keys, heads.kv, heads.width),
        );
        check(rec, &golden.values(case, "y"), 2e-5, 2e-5, |rec| {
            attention_spans(
                rec,
                Columns::all(&q),
                Columns::all(&k),
                Columns::all(&v),
                &span,
                0,
                heads,
            )
        });
    }
}

#[track_caller]
fn check_rope_cache(
    tokens: usize,
    heads: Heads,
    (theta, scale): (f64, f32),
    slots: usize,
    most: usize,
    pairs: Pairs,
) {
    let mut random = Random::new((tokens * 97 + heads.width) as u64);
    let row = (heads.q + 2 * heads.kv) * heads.width;
    let kv_cols = heads.kv * heads.width;
    let qkv = random.values(tokens * row);
    let position: Vec<u32> = (0..tokens).map(|_| random.below(most + 1) as u32).collect();
    // Backwards, so that position, slot and row differ.
    let slot: Vec<u32> = (0..tokens).map(|t| (slots - 1 - t) as u32).collect();
    let before = random.values(slots * kv_cols);
    let (mut k_want, mut v_want) = (before.clone(), before.clone());
    let frequency = naive::rope_frequencies(heads.width, theta);
    let want = naive::rope_cache(
        &qkv,
        &position,
        &slot,
        heads,
        &frequency,
        f64::from(scale),
        pairs == Pairs::Halves,
        (&mut k_want, &mut v_want),
    );
    let rec = gpu().record("rope_cache");
    let qkv = staged(&rec, [tokens, row], &qkv);
    let (position, slot) = (upload(tokens, &position), upload(tokens, &slot));
    let k_cache = upload([slots, kv_cols], &before);
    let v_cache = upload([slots, kv_cols], &before);
    let frequency = staged(&rec, frequency.len(), &frequency);
    let rotation = Rotation {
        frequency: &frequency,
        scale,
        pairs,
    };
    // An angle up to `most` is held to 2⁻²⁴ of itself.
    let abs = 1e-5 + 2e-7 * most as f64;
    check(rec, &want, abs, 1e-5, |rec| {
        let caches = (&k_cache, &v_cache);
        rope_cache(rec, &qkv, &position, &slot, heads, rotation, caches)
    });
    let caches = read::<f32>(gpu().record("rope_cache"), &[&k_cache, &v_cache]);
    close(&caches[0], &k_want, abs, 1e-5);
    assert_eq!(caches[1], v_want, "v is copied");
}

#[test]
fn rope_cache_at_every_edge() {
    for (tokens, slots) in [(1, 1), (1, 9), (3, 7), (64, 65), (131, 140)] {
        for pairs in [Pairs::Neighbours, Pairs::Halves] {
            check_rope_cache(tokens, heads(3, 1, 64), (1e5, 1.0), slots, 100, pairs);
            check_rope_cache(tokens, heads(2, 2, 8), (1e4, 1.25), slots, 2047, pairs);
            check_rope_cache(tokens, heads(3, 3, 24), (1e4, 0.5), slots, 50, pairs);
        }
        check_rope_cache(
            tokens,
            heads(9, 3, 4),
            (1e4, 1.0),
            slots,
            3,
            Pairs::Neighbours,
        );
    }
}

#[test]
fn rope_cache_like_pytorch() {
    let golden = Golden::open("rope");
    for (case, scalars) in &golden.cases {
        let pairs = match scalars["style"].as_str() {
            Some("interleaved") => Pairs::Neighbours,
            _ => Pairs::Halves,
        };
        let n = scalars["heads"].as_u64().unwrap() as usize;
        let width = scalars["head_dim"].as_u64().unwrap() as usize;
        let position = golden.numbers(case, "positions");
        let (x, want) = (golden.values(case, "x"), golden.values(case, "y"));
        let cols = n * width;
        let qkv: Vec<f32> = x
            .chunks_exact(cols)
            .flat_map(|row| [row, row, row].concat())
            .collect();
        let tokens = position.len();
        let slot: Vec<u32> = (0..tokens as u32).collect();
        let rec = gpu().record("rope_cache");
        let qkv = staged(&rec, [tokens, 3 * cols], &qkv);
        let (position, slot) = (upload(tokens, &position), upload(tokens, &slot));
        let k_cache = upload([tokens, cols], &vec![f32::NAN; x.len()]);
        let v_cache = upload([tokens, cols], &vec![f32::NAN; x.len()]);
        let frequency = naive::rope_frequencies(width, scalars["theta"].as_f64().unwrap());
        let frequency = staged(&rec, width / 2, &frequency);
        let rotation = Rotation {
            frequency: &frequency,
            scale: 1.0,
            pairs,
        };
        // Positions reach 2047, where an f32 angle is off by 1e-4.
        let abs = if width == 64 { 3e-4 } else { 1e-5 };
        check(rec, &want, abs, 1e-5, |rec| {
            let caches = (&k_cache, &v_cache);
            rope_cache(
                rec,
                &qkv,
                &position,
                &slot,
                heads(n, n, width),
                rotation,
                caches,
            )
        });
        let caches = read::<f32>(gpu().record("rope_cache"), &[&k_cache, &v_cache]);
        close(&caches[0], &want, abs, 1e-5);
        assert_eq!(caches[1], x);
    }
}

#[track_caller]
fn check_head_norm(tokens: usize, heads: Heads, scale: f32) {
    let mut random = Random::new((tokens * 31 + heads.width) as u64);
    let row = (heads.q + 2 * heads.kv) * heads.width;
    let x: Vec<f32> = random
        .values(tokens * row)
        .iter()
        .map(|v| v * scale)
        .collect();
    let weight = random.values(2 * heads.width);
    let want = naive::head_norm(&x, &weight, heads, 1e-6);
    let rec = gpu().record("head_norm");
    let x = staged(&rec, [tokens, row], &x);
    let weight = staged(&rec, [2, heads.width], &weight);
    check(rec, &want, 1e-6, 1e-5, |rec| {
        head_norm(rec, &x, &weight, heads, 1e-6)
    });
}

#[test]
fn head_norm_at_every_edge() {
    for tokens in [1, 2, 7, 65] {
        check_head_norm(tokens, heads(1, 1, 4), 1.0);
        check_head_norm(tokens, heads(9, 3, 64), 30.0);
        check_head_norm(tokens, heads(4, 1, 256), 1.0);
        check_head_norm(tokens, heads(5, 5, 20), 1e-3);
    }
}

#[test]
fn head_norm_like_pytorch() {
    let golden = Golden::open("head_norm");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let heads = heads(number("heads"), number("kv_heads"), number("head_dim"));
        let eps = scalars["eps"].as_f64().unwrap() as f32;
        let x = golden.values(case, "x");
        let row = (heads.q + 2 * heads.kv) * heads.width;
        let rec = gpu().record("head_norm");
        let x = staged(&rec, [x.len() / row, row], &x);
        let weight = staged(&rec, [2, heads.width], &golden.values(case, "weight"));
        check(rec, &golden.values(case, "y"), 1e-6, 1e-5, |rec| {
            head_norm(rec, &x, &weight, heads, eps)
        });
    }
}

#[track_caller]
fn check_cross_entropy(rows: usize, cols: usize, stride: usize, scale: f32) {
    let mut random = Random::new((rows * 7 + cols) as u64);
    let x: Vec<f32> = random
        .values(rows * stride)
        .iter()
        .map(|v| v * scale)
        .collect();
    let tokens: Vec<u32> = (0..rows).map(|_| random.below(cols) as u32).collect();
    let want = naive::cross_entropy(&x, &tokens, stride, cols);
    let rec = gpu().record("cross_entropy");
    let x = staged(&rec, [rows, stride], &x);
    let tokens = upload(rows, &tokens);
    check(rec, &want, 1e-5, 1e-5, |rec| {
        cross_entropy(rec, &x, &tokens, cols)
    });
}

#[test]
fn cross_entropy_at_every_edge() {
    for cols in [1, 2, 63, 64, 65, 331, 4097] {
        for rows in [1, 3, 70] {
            check_cross_entropy(rows, cols, cols.next_multiple_of(4), 5.0);
        }
        // Exponentials of such numbers overflow.
        check_cross_entropy(2, cols, cols + 9, 300.0);
    }
}

#[test]
fn cross_entropy_like_pytorch() {
    let golden = Golden::open("cross_entropy");
    for case in golden.cases.keys() {
        let cols = *golden.shape(case, "x").last().unwrap();
        let padded = pad(&golden.values(case, "x"), cols, cols.next_multiple_of(4));
        let rows = padded.len() / cols.next_multiple_of(4);
        let rec = gpu().record("cross_entropy");
        let x = staged(&rec, [rows, cols.next_multiple_of(4)], &padded);
        let tokens = upload(rows, &golden.numbers(case, "target"));
        check(rec, &golden.values(case, "y"), 1e-5, 1e-5, |rec| {
            cross_entropy(rec, &x, &tokens, cols)
        });
    }
}

/// A table in parts: each writes the rows that are its own and leaves the others as they are.
#[test]
fn embed_into_writes_what_is_its_own() {
    let (rows, cols) = (37, 12);
    let mut random = Random::new(5);
    let table = random.values(rows * cols);
    let ids = [36u32, 0, 15, 16, 31, 32, 15, 7];
    let part = |from: usize, to: usize| {
        Matrix::f32(
            gpu(),
            "part",
            [to - from, cols],
            &table[from * cols..to * cols],
        )
        .unwrap()
    };
    let parts = [(0, part(0, 16)), (16, part(16, 32)), (32, part(32, rows))];
    let want: Vec<f32> = naive::embed(&ids, &table, cols)
        .iter()
        .map(|v| 2.5 * v)
        .collect();
    let rec = gpu().record("embed");
    let numbers = upload(ids.len(), &ids);
    check(rec, &want, 0.0, 0.0, |rec| {
        let y = Tensor::empty(rec, [ids.len(), cols]);
        for (first, part) in &parts {
            embed_into(rec, &numbers, part, *first, 2.5, &y);
        }
        y
    });
}

// ---------------------------------------------------------------- rows and elements

#[track_caller]
fn check_add(len: usize, period: usize, scale: f32) {
    let mut random = Random::new((len + period) as u64);
    let (a, b) = (random.values(len), random.values(period));
    let want = naive::add(&a, &b, scale);
    let rec = gpu().record("add");
    let a = staged(&rec, [len / period, period], &a);
    let b = staged(&rec, period, &b);
    check(rec, &want, 0.0, 2e-7, |rec| match scale {
        1.0 => add(rec, &a, &b),
        _ => add_scaled(rec, &a, &b, scale),
    });
}

#[test]
fn add_at_every_edge() {
    for quads in [1, 2, 63, 64, 65, 257, 1009] {
        check_add(4 * quads, 4 * quads, 1.0);
        check_add(4 * quads * 3, 4 * quads, 0.5);
    }
    check_add(4 * 64 * 7, 4, 1.0);
}

/// A flat op of more than 65,535 workgroups is folded into a second dimension.
#[test]
fn add_over_more_groups_than_one_dimension_holds() {
    check_add((65_535 * 64 + 64 * 3 + 5) * 4, 4, 1.0);
}

#[test]
fn add_like_pytorch() {
    let golden = Golden::open("add");
    for case in golden.cases.keys() {
        let cols = *golden.shape(case, "b").last().unwrap();
        let padded = |role| pad(&golden.values(case, role), cols, cols.next_multiple_of(4));
        let (a, b) = (padded("a"), padded("b"));
        let want = padded("y");
        let rec = gpu().record("add");
        let a = staged(&rec, a.len(), &a);
        let b = staged(&rec, b.len(), &b);
        check(rec, &want, 0.0, 1e-7, |rec| add(rec, &a, &b));
    }
}

#[track_caller]
fn check_argmax(x: &[f32], stride: usize, cols: usize, want: &[u32]) {
    let rec = gpu().record("argmax");
    let x = upload([x.len() / stride, stride], x);
    poison(&rec, want.len());
    let y = argmax(&rec, &x, cols);
    let capacity = y.buffer().bytes() as usize / 4;
    let got = rec.read::<u32>(&[(&y, capacity)]).unwrap().swap_remove(0);
    assert_eq!(got[..want.len()], *want, "{cols} of {stride} columns");
    assert!(
        got[want.len()..].iter().all(|v| *v == f32::NAN.to_bits()),
        "written behind the rows"
    );
}

#[test]
fn argmax_at_every_edge_and_with_ties() {
    for cols in [1, 2, 3, 31, 63, 64, 65, 127, 128, 129, 1009, 49_152] {
        for rows in [1, 3] {
            for stride in [cols, cols + 5] {
                let mut random = Random::new((cols + rows) as u64);
                let mut x = random.values(rows * stride);
                check_argmax(&x, stride, cols, &naive::argmax(&x, stride, cols));
                // Few different values: ties within and between lanes.
                x.iter_mut().for_each(|v| *v = (*v * 2.0).round());
                check_argmax(&x, stride, cols, &naive::argmax(&x, stride, cols));
                // What lies behind the columns does not take part.
                x.chunks_exact_mut(stride)
                    .for_each(|row| row[cols..].fill(9.0));
                check_argmax(&x, stride, cols, &naive::argmax(&x, stride, cols));
                x.fill(f32::NEG_INFINITY);
                check_argmax(&x, stride, cols, &vec![0; rows]);
            }
        }
    }
    let x = Random::new(5).values(70_001 * 2);
    check_argmax(&x, 2, 2, &naive::argmax(&x, 2, 2));
}

#[test]
fn argmax_like_pytorch() {
    let golden = Golden::open("argmax");
    for case in golden.cases.keys() {
        let cols = golden.shape(case, "x")[1];
        check_argmax(
            &golden.values(case, "x"),
            cols,
            cols,
            &golden.numbers(case, "y"),
        );
    }
}

#[track_caller]
fn check_mean_pool(x: &[f32], cols: usize, spans: &[[u32; 2]]) {
    let want = naive::mean_pool(x, spans, cols);
    let rec = gpu().record("mean_pool");
    let x = staged(&rec, [x.len() / cols, cols], x);
    let span = upload([spans.len(), 2], spans.as_flattened());
    check(rec, &want, 1e-5, 1e-5, |rec| mean_pool(rec, &x, &span));
}

#[test]
fn mean_pool_at_every_edge() {
    for cols in [4, 12, 252, 256, 260, 384, 1028] {
        let x = Random::new(cols as u64).values(40 * cols);
        check_mean_pool(&x, cols, &[[0, 1], [39, 1], [1, 2], [3, 17], [0, 40]]);
        check_mean_pool(&vec![0.0; 2 * cols], cols, &[[0, 2]]);
    }
}

/// The workgroups that folding leaves over must not scale the last sentence a second time.
#[test]
fn mean_pool_over_more_groups_than_one_dimension_holds() {
    let x = Random::new(3).values(50 * 4);
    let spans: Vec<[u32; 2]> = (0..65_537).map(|i| [i % 40, 1 + i % 10]).collect();
    check_mean_pool(&x, 4, &spans);
}

#[test]
fn mean_pool_like_pytorch() {
    let golden = Golden::open("mean_pool");
    for case in golden.cases.keys() {
        let &[batch, tokens, cols] = golden.shape(case, "x") else {
            panic!("shape of {case}")
        };
        let width = cols.next_multiple_of(4);
        let mask = golden.numbers(case, "mask");
        let spans: Vec<u32> = (0..batch)
            .flat_map(|b| {
                [
                    (b * tokens) as u32,
                    mask[b * tokens..][..tokens].iter().sum(),
                ]
            })
            .collect();
        let want = pad(&golden.values(case, "y"), cols, width);
        let rec = gpu().record("mean_pool");
        let x = staged(
            &rec,
            [batch * tokens, width],
            &pad(&golden.values(case, "x"), cols, width),
        );
        let span = upload([batch, 2], &spans);
        check(rec, &want, 1e-6, 1e-5, |rec| mean_pool(rec, &x, &span));
    }
}

#[track_caller]
fn check_matmul(rows: usize, depth: usize, cols: usize, stride: usize, bias: bool) {
    let mut random = Random::new((rows * 1009 + depth * 31 + cols) as u64);
    let (a, b) = (random.values(rows * stride), random.values(cols * depth));
    let want = naive::matmul(&a, stride, &b, depth, bias);
    let rec = gpu().record("matmul");
    let a = staged(&rec, [rows, stride], &a);
    let b = staged(&rec, [cols, depth], &b);
    check(rec, &want, 2e-5, 2e-5, |rec| matmul(rec, &a, &b, bias));
}

#[test]
fn matmul_at_every_edge() {
    for rows in (1..=9).chain([17, 65]) {
        for cols in [4, 8, 60, 64, 68, 260] {
            check_matmul(rows, 4, cols, 4, false);
            check_matmul(rows, 32, cols, 36, true);
        }
    }
    for depth in [4, 8, 28, 64, 132] {
        check_matmul(5, depth, 12, depth + 8, false);
        check_matmul(5, depth, 12, depth + 4, true);
    }
}

#[test]
fn matmul_like_pytorch() {
    let golden = Golden::open("matmul");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let (m, k, n) = (number("m"), number("k"), number("n"));
        let (depth, cols) = (k.next_multiple_of(4), n.next_multiple_of(4));
        for batch in 0..number("batch") {
            let part =
                |role: &str, len: usize| golden.values(case, role)[batch * len..][..len].to_vec();
            let a = pad(&part("a", m * k), k, depth);
            let mut b = part("b", k * n);
            if scalars["transposed"] == false {
                b = (0..k * n).map(|i| b[i % k * n + i / k]).collect();
            }
            let mut b = pad(&b, k, depth);
            b.resize(cols * depth, 0.0);
            let want = pad(&part("y", m * n), n, cols);
            let rec = gpu().record("matmul");
            let a = staged(&rec, [m, depth], &a);
            let b = staged(&rec, [cols, depth], &b);
            check(rec, &want, 1e-5, 1e-5, |rec| matmul(rec, &a, &b, false));
        }
    }
}

#[test]
fn pack_half_at_every_edge() {
    for eighths in [1, 2, 63, 64, 65, 1009] {
        for first in [0, 4, 12] {
            let mut x = Random::new(eighths as u64).values(8 * eighths);
            x[0] = 1e9;
            x[1] = -1e9;
            x[2] = 0.0;
            x[3] = 65504.0;
            x[5] = 0.099_975_586;
            let want = naive::pack_half(&x);
            let rec = gpu().record("pack_half");
            let x = staged(&rec, x.len(), &x);
            let before = vec![7u32; first + want.len() + 8];
            let y = upload(before.len(), &before);
            pack_half(&rec, &x, &y, first);
            let got = read::<u32>(rec, &[&y]).swap_remove(0);
            // A value halfway between two f16 may go to either; all others have one answer.
            for (got, want) in got[first..].iter().zip(&want) {
                for shift in [0, 16] {
                    let (got, want) = ((got >> shift) & 0xffff, (want >> shift) & 0xffff);
                    assert!(got.abs_diff(want) <= 1, "{got:#x} for {want:#x}");
                }
            }
            let untouched = |range: &[u32]| range.iter().all(|v| *v == 7);
            assert!(untouched(&got[..first]) && untouched(&got[first + want.len()..]));
        }
    }
}

#[track_caller]
fn check_pixel_shuffle(
    size: [usize; 5],
    factors: [usize; 3],
    activation: Activation,
    has_skip: bool,
) {
    let [images, depth, height, width, channels] = size;
    let mut random = Random::new(size.iter().product::<usize>() as u64);
    let parts = factors.iter().product::<usize>();
    let len = parts * size.iter().product::<usize>();
    let (x, skip) = (random.values(len), random.values(len));
    let plain = has_skip.then_some(&skip[..]);
    let want = naive::pixel_shuffle(&x, plain, size, factors, activation);
    let rec = gpu().record("pixel_shuffle");
    let x = staged(&rec, [images, depth, height, width, parts * channels], &x);
    let skip = has_skip.then(|| {
        let [deep, high, wide] = factors;
        let size = [images, deep * depth, high * height, wide * width, channels];
        staged(&rec, size, &skip)
    });
    check(rec, &want, 1e-6, 1e-5, |rec| {
        pixel_shuffle(rec, &x, factors, skip.as_ref(), activation)
    });
}

#[test]
fn pixel_shuffle_at_every_edge() {
    for activation in ACTIVATIONS {
        for [images, height, width, channels] in [
            [1, 1, 1, 4],
            [2, 3, 5, 8],
            [3, 4, 1, 12],
            [1, 7, 7, 64],
            [2, 1, 9, 4],
        ] {
            let size = [images, 1, height, width, channels];
            check_pixel_shuffle(size, [1, 2, 2], activation, true);
            check_pixel_shuffle(size, [1, 4, 4], activation, false);
        }
    }
    for factors in [[1, 1, 1], [2, 2, 2], [1, 3, 2], [3, 1, 5], [1, 16, 16]] {
        for size in [[1, 1, 1, 1, 4], [2, 3, 2, 5, 8], [1, 4, 3, 1, 12]] {
            for has_skip in [false, true] {
                check_pixel_shuffle(size, factors, Activation::None, has_skip);
            }
        }
    }
}

/// A transposed 2 × 2 convolution is a linear layer of 4 · out outputs and a pixel shuffle.
#[test]
fn pixel_shuffle_like_pytorch() {
    let golden = Golden::open("conv_transpose2d");
    for (case, scalars) in &golden.cases {
        let [n, h, w, ci] = golden.shape(case, "x_nhwc").try_into().unwrap();
        let co = golden.shape(case, "y")[1];
        let (inputs, width) = (ci.next_multiple_of(4), co.next_multiple_of(4));
        let torch = golden.values(case, "weight");
        let mut weight = vec![0f32; 4 * width * inputs];
        for (i, value) in torch.iter().enumerate() {
            let (part, o, c) = (i % 4, i / 4 % co, i / (4 * co));
            weight[(part * width + o) * inputs + c] = *value;
        }
        let matrix = Matrix::f32(gpu(), case, [4 * width, inputs], &weight).unwrap();
        let bias = panels(&pad(&golden.values(case, "bias"), co, width).repeat(4));
        let bias = upload(bias.len(), &bias);
        let want = pad(&golden.values(case, "y_nhwc"), co, width);
        let rec = gpu().record("pixel_shuffle");
        let x = staged(
            &rec,
            [n * h * w, inputs],
            &pad(&golden.values(case, "x_nhwc"), ci, inputs),
        );
        let skip = staged(&rec, [n, 2 * h, 2 * w, width], &vec![0.0; want.len()]);
        let parts = linear(&rec, &x, &matrix, &bias, Activation::None, None);
        check(rec, &want, 1e-5, 1e-5, |rec| {
            let parts = parts.reshape([n, h, w, 4 * width]);
            pixel_shuffle(
                rec,
                &parts,
                [1, 2, 2],
                Some(&skip),
                activation(&scalars["activation"]),
            )
        });
    }
}

#[test]
fn copy_rows_at_every_edge() {
    // rows of x, columns, rows copied, first, stride, rows of y
    let cases = [
        [1, 4, 1, 0, 1, 1],
        [1, 4, 5, 2, 1, 9],
        [3, 12, 7, 1, 3, 20],
        [7, 64, 7, 0, 2, 14],
        [5, 256, 5, 5, 1, 10],
        [2, 260, 130, 3, 1, 140],
    ];
    for [period, cols, rows, first, stride, y_rows] in cases {
        let mut random = Random::new((period * cols) as u64);
        let x = random.values(period * cols);
        let mut want = random.values(y_rows * cols);
        let rec = gpu().record("copy_rows");
        let y = upload([y_rows, cols], &want);
        naive::copy_rows(&x, &mut want, cols, rows, first, stride);
        let x = upload([period, cols], &x);
        copy_rows(&rec, &x, &y, rows, first, stride);
        assert_eq!(read::<f32>(rec, &[&y])[0], want);
    }
}

#[test]
fn gather_rows_at_every_edge() {
    // columns, rows gathered, first, stride
    for [cols, rows, first, stride] in [
        [4, 1, 0, 1],
        [4, 9, 3, 1],
        [12, 5, 1, 3],
        [64, 4, 2, 2],
        [256, 3, 7, 1],
        [260, 65, 0, 1],
    ] {
        let x = Random::new((rows * cols) as u64).values((first + rows * stride) * cols);
        let want = naive::gather_rows(&x, cols, rows, first, stride);
        let rec = gpu().record("gather_rows");
        let x = staged(&rec, [first + rows * stride, cols], &x);
        check(rec, &want, 0.0, 0.0, |rec| {
            gather_rows(rec, &x, rows, first, stride)
        });
    }
}

#[test]
fn resample_at_every_edge() {
    for size in [
        [1, 1, 1],
        [1, 1, 7],
        [2, 5, 1],
        [3, 2, 2],
        [2, 4, 4],
        [1, 17, 13],
        [5, 7, 6],
        [1, 112, 112],
    ] {
        let x = Random::new(size.iter().product::<usize>() as u64).values(size.iter().product());
        let want = naive::resample(&x, size);
        let rec = gpu().record("resample");
        let x = staged(&rec, size, &x);
        check(rec, &want, 1e-6, 1e-6, |rec| resample(rec, &x));
    }
}

#[test]
fn resample_like_pytorch() {
    let golden = Golden::open("resample");
    for case in golden.cases.keys() {
        let &[n, c, h, w] = golden.shape(case, "x") else {
            panic!("shape of {case}")
        };
        let rec = gpu().record("resample");
        let x = upload([n * c, h, w], &golden.values(case, "x"));
        check(rec, &golden.values(case, "y"), 1e-6, 1e-6, |rec| {
            resample(rec, &x)
        });
    }
}

// ---------------------------------------------------------------- masks

#[test]
fn slice_masks_at_every_edge() {
    // slices, prompts, channels, pixels, first, slices of y
    for [slices, prompts, channels, count, first, all] in [
        [1, 1, 8, 4, 0, 1],
        [2, 3, 8, 12, 1, 4],
        [3, 2, 32, 252, 0, 3],
        [1, 5, 32, 260, 2, 3],
        [2, 1, 24, 1024, 0, 2],
    ] {
        let mut random = Random::new((channels * count) as u64);
        let stride = channels + 4;
        let hyper = random.values(slices * prompts * stride);
        let pixels: Vec<f32> = random
            .values(slices * count * channels)
            .iter()
            .map(|v| half::f16::from_f32(*v).to_f32())
            .collect();
        // Every run of neighbouring prompts that one dispatch may take.
        let runs = (0..prompts).flat_map(|start| (start + 1..=prompts).map(move |end| start..end));
        for wanted in runs.filter(|run| run.len() <= MOST_MASKS) {
            let before = random.values(wanted.len() * all * count);
            let mut want = before.clone();
            let shape = [slices, prompts, stride];
            let to = (&mut want[..], first);
            naive::slice_masks(&hyper, shape, &pixels, channels, wanted.clone(), to);
            let rec = gpu().record("slice_masks");
            let hyper = staged(&rec, shape, &hyper);
            let packed = naive::pack_half(&pixels);
            let packed = upload(packed.len(), &packed);
            let y = upload([wanted.len(), all, count], &before);
            slice_masks(&rec, &hyper, &packed, channels, wanted, &y, first);
            close(&read::<f32>(rec, &[&y])[0], &want, 1e-5, 1e-5);
        }
    }
}

#[test]
fn fuse_view_from_all_sides() {
    // Up to mean logits, and before they are divided, when the weights still count.
    for divides in [true, false] {
        check_fuse_view(divides);
    }
}

fn check_fuse_view(divides: bool) {
    let [size_z, size_y, size_x] = [5, 7, 70];
    let size = [size_x, size_y, size_z];
    let (prompts, prompt, limit) = (2, 1, 1.5);
    // A window smaller than the slice, one that just holds it, one that it is centred in.
    for (height, width, row_offset, column_offset) in
        [(2, 1, -1, -2), (4, 4, 0, 0), (5, 6, 2, 3), (3, 3, 1, -1)]
    {
        let mut random = Random::new((height * 10 + width) as u64);
        let before = random.values(size_x * size_y * size_z);
        let (mut want_sum, mut want_weight) = (before.clone(), before.clone());
        let rec = gpu().record("fuse_view");
        let sum = upload([size_z, size_y, size_x], &before);
        let weight = upload([size_z, size_y, size_x], &before);
        // axial, coronal, sagittal; the last speaks for one half only
        let views = [
            (2, 0, 0..size_z),
            (1, 0, 0..size_y),
            (0, 1, 0..size_x),
            (0, 1, 2..4),
        ];
        for (n, (axis, column_axis, slices)) in views.iter().cloned().enumerate() {
            let place = Placement {
                axis,
                column_axis,
                row_offset,
                column_offset,
                slices,
            };
            let x: Vec<f32> = random
                .values(size[axis] * height * width)
                .iter()
                .map(|v| 3.0 * v)
                .collect();
            let quality: Vec<f32> = random
                .values(size[axis] * prompts * 4)
                .iter()
                .map(|v| v.abs())
                .collect();
            let ends = (n == 0, divides && n + 1 == views.len());
            naive::fuse_view(
                &x,
                [height, width],
                &quality,
                (prompts, prompt),
                &place,
                f64::from(limit),
                [size_z, size_y, size_x],
                (&mut want_sum, &mut want_weight),
                ends,
            );
            // The masks of another prompt before them.
            let other = vec![7.0; x.len()];
            let x = upload([2, size[axis], height, width], &[other, x].concat());
            let quality = upload([size[axis], prompts, 4], &quality);
            fuse_view(
                &rec,
                (&x, 1),
                (&quality, prompt),
                &place,
                limit,
                (&sum, &weight),
                ends,
            );
        }
        let got = read::<f32>(rec, &[&sum, &weight]);
        close(&got[0], &want_sum, 1e-5, 1e-5);
        if !divides {
            close(&got[1], &want_weight, 1e-6, 1e-5);
        }
    }
}
