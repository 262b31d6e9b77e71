//! Rows and elements.

use super::*;

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
    for cols in [1, 18, 20, 256, 257] {
        for rows in [64, 65, 1009] {
            let x = Random::new(6).values(rows * cols);
            check_argmax(&x, cols, cols, &naive::argmax(&x, cols, cols));
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
fn check_mean_pool(values: &[f32], cols: usize, spans: &[[u32; 2]]) {
    let want = naive::mean_pool(values, spans, cols);
    let rec = gpu().record("mean_pool");
    let x = staged(&rec, [values.len() / cols, cols], values);
    let span = upload([spans.len(), 2], spans.as_flattened());
    check(rec, &want, 1e-5, 1e-5, |rec| mean_pool(rec, &x, &span));
    let rec = gpu().record("mean_rows");
    let want = naive::mean_rows(values, spans, cols);
    let x = staged(&rec, x.shape(), values);
    check(rec, &want, 1e-5, 1e-5, |rec| mean_rows(rec, &x, &span));
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
        let want = pad(&golden.values(case, "mean"), cols, width);
        let rec = gpu().record("mean_rows");
        let x = pad(&golden.values(case, "x"), cols, width);
        let x = staged(&rec, [batch * tokens, width], &x);
        check(rec, &want, 1e-6, 1e-5, |rec| mean_rows(rec, &x, &span));
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
fn unpack_half_at_every_edge() {
    for (rows, words) in [(1, 4), (2, 4), (63, 4), (13, 20), (1, 256), (1009, 8)] {
        let mut values = Random::new((rows * words) as u64).values(2 * rows * words);
        values[0] = 65504.0;
        values[1] = -65504.0;
        values[2] = 0.0;
        values[3] = 3.0 * 2f32.powi(-24);
        let packed = naive::pack_half(&values);
        let want = naive::unpack_half(&packed);
        let rec = gpu().record("unpack_half");
        // A row more than is asked for.
        let more = [&packed[..], &vec![0x7e00_7e00; words][..]].concat();
        let x = upload([rows + 1, words], &more);
        check(rec, &want, 0.0, 0.0, |rec| unpack_half(rec, &x, rows));
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
fn copy_span_at_every_edge() {
    // columns, rows of x, from, rows copied, first, rows of y
    for [cols, x_rows, from, rows, first, y_rows] in [
        [4, 1, 0, 1, 0, 1],
        [12, 9, 3, 5, 2, 7],
        [32, 130, 65, 65, 1, 70],
        [20, 64, 1, 1, 63, 64],
    ] {
        let mut random = Random::new((rows * cols) as u64);
        let x = random.values(x_rows * cols);
        let mut want = random.values(y_rows * cols);
        let rec = gpu().record("copy_rows");
        let y = upload([y_rows, cols], &want);
        naive::copy_rows(
            &x[from * cols..][..rows * cols],
            &mut want,
            cols,
            rows,
            first,
            1,
        );
        let x = upload([x_rows, cols], &x);
        copy_span(&rec, &x, from, &y, first, rows);
        assert_eq!(read::<f32>(rec, &[&y])[0], want);
    }
}

#[track_caller]
fn check_film(x: &[f32], gamma: &[f32], beta: &[f32], cols: usize, want: &[f32]) {
    let rec = gpu().record("film");
    let x = staged(&rec, [x.len() / cols, cols], x);
    let [gamma, beta] = [gamma, beta].map(|v| staged(&rec, [v.len() / cols, cols], v));
    // One product and one sum, each rounded once.
    check(rec, want, 1e-6, 1e-6, |rec| film(rec, &x, &gamma, &beta));
}

#[test]
fn film_at_every_edge() {
    for [prompts, tokens, cols] in [[1, 1, 4], [1, 17, 12], [3, 5, 4], [7, 1, 68], [2, 485, 64]] {
        let mut random = Random::new((1009 * prompts + tokens) as u64);
        let x = random.values(tokens * cols);
        let (gamma, beta) = (random.values(prompts * cols), random.values(prompts * cols));
        let want = naive::film(&x, &gamma, &beta, cols);
        check_film(&x, &gamma, &beta, cols, &want);
    }
}

#[test]
fn film_like_pytorch() {
    let golden = Golden::open("film");
    for case in golden.cases.keys() {
        let [x, gamma, beta, y] = ["x", "gamma", "beta", "y"].map(|role| golden.values(case, role));
        check_film(&x, &gamma, &beta, golden.shape(case, "x")[1], &y);
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
        [1, 1, 1, 4],
        [1, 1, 7, 4],
        [2, 5, 1, 12],
        [3, 2, 2, 4],
        [2, 4, 4, 8],
        [1, 17, 13, 20],
        [5, 7, 6, 4],
        [1, 13, 13, 260],
    ] {
        let len = size.iter().product::<usize>();
        let x = Random::new(len as u64).values(len);
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
        let padded = c.next_multiple_of(4);
        let x = pad(&golden.values(case, "x_nhwc"), c, padded);
        let x = upload([n, h, w, padded], &x);
        let want = pad(&golden.values(case, "y_nhwc"), c, padded);
        check(rec, &want, 1e-6, 1e-6, |rec| resample(rec, &x));
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
