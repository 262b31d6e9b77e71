//! Linear layers, in every format and by every kernel.

use super::*;

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
                    x: Operand::Rows(&x),
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
                    let params = [rows, own, inputs / 4, panels, outputs, first, 0, 0, 1];
                    let params = params.map(|n| n as u32);
                    let variant = LINEAR_VEC
                        .format(part.matrix.format)
                        .set("SPLIT", split)
                        .set("ACTIVATION", Activation::Silu as u32);
                    let mut bindings: Vec<(&str, &dyn Bind)> = part.matrix.bindings().collect();
                    bindings.extend([
                        ("x", &x as &dyn Bind),
                        ("bias", bias),
                        ("residual", &x),
                        ("before", &x),
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
pub(super) fn cooperative() -> Option<(Gpu, f64)> {
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

/// A norm before the product, folded in.
#[test]
fn linear_vec_norms_its_rows() {
    for format in FORMATS {
        for (rows, inputs, outputs) in [(1, 288, 196), (2, 576, 40), (5, 32, 12)] {
            let inputs = whole_blocks(format, inputs);
            let mut random = Random::new(rows as u64);
            let w = weights(gpu(), &mut random, format, [outputs, inputs]);
            let (x, own) = (random.values(rows * inputs), random.values(inputs));
            let bias = random.values(outputs);
            let rows_normed = naive::rms_norm(&x, &own, 1e-5);
            let silu = Activation::Silu;
            let want = naive::linear_vec(&rows_normed, &w.values, &bias, inputs, silu, None);
            let rec = gpu().record("linear_vec");
            let (x, own) = (staged(&rec, [rows, inputs], &x), upload(inputs, &own));
            let bias = upload(panels(&bias).len(), &panels(&bias));
            check(rec, &want, 1e-5, 2e-5, |rec| {
                let normed = Operand::Normed {
                    x: &x,
                    weight: &own,
                    eps: 1e-5,
                };
                linear_vec(rec, normed, &w.matrix, &bias, silu, None)
            });
        }
    }
}

/// The shares of an attention before it, folded in: those of heads that saw nothing among them.
#[test]
fn linear_vec_puts_shares_together() {
    for (splits, rows, heads, width) in
        [(2, 1, 9, 64), (7, 2, 2, 16), (33, 2, 2, 80), (85, 1, 6, 32)]
    {
        for format in ["f32", "q4_1"] {
            let (inputs, outputs) = (heads * width, 44);
            let mut random = Random::new(splits as u64);
            let w = weights(gpu(), &mut random, format, [outputs, inputs]);
            let part = random.values(splits * rows * inputs);
            let mut state: Vec<f32> = (0..splits * rows * heads)
                .flat_map(|_| [60.0 * random.value(), 2.0 + random.value()])
                .collect();
            for split in 0..splits {
                state[2 * split * rows * heads..][..2].copy_from_slice(&[-1e30, 0.0]);
            }
            let bias = random.values(outputs);
            let residual = random.values(rows * outputs);
            let x = naive::attention_merge(&part, &state, splits, width);
            let none = Activation::None;
            let added = Some(&residual[..]);
            let want = naive::linear_vec(&x, &w.values, &bias, inputs, none, added);
            let rec = gpu().record("linear_vec");
            let part = staged(&rec, [splits, rows, inputs], &part);
            let state = upload([splits, rows, heads, 2], &state);
            let residual = staged(&rec, [rows, outputs], &residual);
            let bias = upload(panels(&bias).len(), &panels(&bias));
            check(rec, &want, 1e-5, 2e-5, |rec| {
                let shares = Operand::Shares {
                    part: &part,
                    state: &state,
                };
                linear_vec(rec, shares, &w.matrix, &bias, none, Some(&residual))
            });
        }
    }
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
