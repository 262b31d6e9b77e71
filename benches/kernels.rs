//! How fast each kernel is, beside the ceiling that binds it: the adapter's copy bandwidth or its best
//! f32 multiply-add rate, both measured first.
//!
//!     cargo bench --bench kernels                    all rows
//!     cargo bench --bench kernels -- --filter conv   those whose kernel or case contains `conv`
//!     cargo bench --bench kernels -- --checked       with the tests' bounds checks
//!
//! Sizes are those of the models. A time is the least of several submits of many dispatches each,
//! divided by their number; before it is taken, a sample of the outputs is compared with the twin.
//! Small cases live in the caches and may beat a ceiling that was measured in memory.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::Instant;

use keraunos::gpu::{Gpu, Kernel, Recorder};
use keraunos::ops::naive::Columns as Plain;
use keraunos::ops::*;
use keraunos::tensor::{Shape, Tensor};
use support::{Random, Weights, close, open, weights};

/// The least time that one measured submit should take.
const SUBMIT_SECONDS: f64 = 0.03;
const SUBMITS: usize = 5;

/// What a case has to do at least: multiply-adds count two, memory is touched once.
#[derive(Clone, Copy)]
struct Work {
    flops: usize,
    bytes: usize,
}

/// One case, ready to run: the op on its inputs, and how its result is looked at.
struct Case {
    run: Box<dyn Fn(&Recorder) -> Tensor>,
    check: Check,
}

/// Looks at the words of a result and panics if they are wrong.
type Check = Box<dyn Fn(&[u32])>;

/// The adapter, what it can do at best, and which rows are wanted.
struct Bench {
    gpu: Gpu,
    filter: String,
    bytes_per_second: f64,
    flops_per_second: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|a| a == name)?;
        arguments.get(at + 1).cloned()
    };
    let mut bench = Bench {
        gpu: open(arguments.iter().any(|a| a == "--checked")),
        filter: after("--filter").unwrap_or_default(),
        bytes_per_second: 0.0,
        flops_per_second: 0.0,
    };
    bench.measure_ceilings();
    println!(
        "{} ({}): copy {:.1} GB/s, multiply-add {:.1} GFLOP/s\n",
        bench.gpu.summary().name,
        bench.gpu.summary().backend,
        bench.bytes_per_second / 1e9,
        bench.flops_per_second / 1e9,
    );
    println!(
        "{:<16} {:<38} {:>9} {:>9} {:>8}  ceiling",
        "kernel", "case", "ms", "GFLOP/s", "GB/s"
    );
    products(&bench);
    convolutions(&bench);
    attentions(&bench);
    norms(&bench);
    rows_and_elements(&bench);
    masks(&bench);
}

static MULTIPLY_ADD: Kernel = Kernel::new(
    "multiply_add",
    include_str!("multiply_add.wgsl"),
    &[("turns", 0), ("factor", 4)],
);

impl Bench {
    fn measure_ceilings(&mut self) {
        let len = 8 << 20;
        let a = self.upload(len, &vec![1f32; len]);
        let b = self.upload(4, &[1f32; 4]);
        let seconds = self.seconds(&|rec| add(rec, &a, &b));
        self.bytes_per_second = (8 * len) as f64 / seconds;

        let (threads, turns) = (1 << 15, 256u32);
        let seconds = self.seconds(&|rec| {
            let y = Tensor::empty(rec, [threads, 4]);
            let params = [turns, 0.999f32.to_bits()];
            rec.dispatch(&MULTIPLY_ADD, params, &[("y", &y)], threads / 64);
            y
        });
        let flops = threads * turns as usize * 16 * 4 * 2;
        self.flops_per_second = flops as f64 / seconds;
    }

    /// Seconds of one call of `run` among many.
    fn seconds(&self, run: &dyn Fn(&Recorder) -> Tensor) -> f64 {
        let submit = |count: usize| {
            let rec = self.gpu.record("bench");
            for _ in 0..count {
                drop(run(&rec));
            }
            let start = Instant::now();
            rec.submit()
                .and_then(|()| self.gpu.wait())
                .unwrap_or_else(|e| panic!("{e}"));
            start.elapsed().as_secs_f64()
        };
        let mut count = 1;
        let mut once = submit(count);
        while once < SUBMIT_SECONDS && count < 4096 {
            let more = (SUBMIT_SECONDS / once.max(1e-6) * 1.2) as usize;
            count = (count * more.clamp(2, 16)).min(4096);
            once = submit(count);
        }
        let least = (1..SUBMITS).map(|_| submit(count)).fold(once, f64::min);
        least / count as f64
    }

    fn upload<T: bytemuck::Pod>(&self, shape: impl Into<Shape>, values: &[T]) -> Tensor {
        match Tensor::upload(&self.gpu, "bench", shape, values) {
            Ok(tensor) => tensor,
            Err(error) => panic!("{error}"),
        }
    }

    /// Checks and measures one case, if it is wanted, and prints its line.
    fn row(&self, kernel: &str, case: &str, work: Work, prepare: impl FnOnce(&mut Random) -> Case) {
        if !kernel.contains(&self.filter) && !case.contains(&self.filter) {
            return;
        }
        let case_of = prepare(&mut Random::new(1));
        let rec = self.gpu.record("bench");
        let y = (case_of.run)(&rec);
        let words = rec
            .read::<u32>(&[(&y, y.len())])
            .unwrap_or_else(|e| panic!("{e}"));
        (case_of.check)(&words[0]);
        drop(y);

        let seconds = self.seconds(&*case_of.run);
        let by_memory = work.bytes as f64 / self.bytes_per_second;
        let by_math = work.flops as f64 / self.flops_per_second;
        let ceiling = if by_memory > by_math {
            "memory"
        } else {
            "math"
        };
        println!(
            "{kernel:<16} {case:<38} {:>9.4} {:>9.1} {:>8.2}  {:>4.0} % of {ceiling}",
            seconds * 1e3,
            work.flops as f64 / seconds / 1e9,
            work.bytes as f64 / seconds / 1e9,
            by_memory.max(by_math) / seconds * 100.0,
        );
    }
}

/// The result from `first` on is `want` to within rounding.
fn near(first: usize, want: Vec<f32>) -> Check {
    Box::new(move |words| {
        let got = &words[first..][..want.len()];
        let got: Vec<f32> = got.iter().map(|word| f32::from_bits(*word)).collect();
        close(&got, &want, 5e-5, 5e-5);
    })
}

/// A linear layer; its last row is checked.
fn linear_row(
    bench: &Bench,
    format: &str,
    [rows, inputs, outputs]: [usize; 3],
    activation: Activation,
    has_residual: bool,
) {
    let kernel = if rows > 2 { "linear" } else { "linear_vec" };
    let mut case = format!("{format} {rows} x {inputs} -> {outputs}");
    if activation != Activation::None {
        case += &format!(" {activation:?}").to_lowercase();
    }
    if has_residual {
        case += " + residual";
    }
    let bits = match format {
        "f32" => 32.0,
        "f16" => 16.0,
        "q8_0" => 8.5,
        _ => 5.0,
    };
    let activations = rows * (inputs + outputs * (1 + usize::from(has_residual))) * 4;
    let work = Work {
        flops: 2 * rows * inputs * outputs,
        bytes: activations + (inputs as f64 * outputs as f64 * bits / 8.0) as usize,
    };
    bench.row(kernel, &case, work, |random| {
        let Weights { matrix, values } = weights(&bench.gpu, random, format, [outputs, inputs]);
        let x = random.values(rows * inputs);
        let bias = random.values(outputs.next_multiple_of(8));
        let residual = has_residual.then(|| random.values(rows * outputs));
        let last = rows - 1;
        let want = naive::linear(
            &x[last * inputs..],
            &values,
            &bias[..outputs],
            inputs,
            activation,
            residual.as_ref().map(|r| &r[last * outputs..]),
        );
        let x = bench.upload([rows, inputs], &x);
        let bias = bench.upload(bias.len(), &bias);
        let residual = residual.map(|r| bench.upload([rows, outputs], &r));
        Case {
            run: Box::new(move |rec| {
                linear(rec, &x, &matrix, &bias, activation, residual.as_ref())
            }),
            check: near(last * outputs, want),
        }
    });
}

fn products(bench: &Bench) {
    let plain = Activation::None;
    // the image encoder: 196 tokens
    linear_row(bench, "f16", [196, 192, 576], plain, false);
    linear_row(bench, "f16", [196, 192, 192], plain, true);
    linear_row(bench, "f16", [196, 192, 768], Activation::Gelu, false);
    linear_row(bench, "f16", [196, 768, 192], plain, true);
    linear_row(bench, "f32", [196, 192, 768], Activation::Gelu, false);
    // the mask decoder: three tokens for each of 70 prompts
    linear_row(bench, "f16", [210, 128, 128], plain, false);
    linear_row(bench, "f16", [210, 128, 512], Activation::Relu, false);
    linear_row(bench, "f16", [210, 512, 128], plain, true);
    // SmolLM2: q·k·v, gate·up, down and the head, prefill and decoding
    for rows in [64, 1] {
        for format in ["q8_0", "q4_1"] {
            for [inputs, outputs] in [[576, 960], [576, 3072], [1536, 576], [576, 49_152]] {
                linear_row(bench, format, [rows, inputs, outputs], plain, false);
            }
        }
    }
    for format in ["q8_0", "q4_1"] {
        let (rows, inputs, tokens) = (49_152, 576, 64);
        let work = Work {
            flops: 0,
            bytes: tokens * inputs * 5,
        };
        bench.row(
            "embed",
            &format!("{format} {tokens} of {rows} x {inputs}"),
            work,
            |random| {
                let Weights { matrix, values } =
                    weights(&bench.gpu, random, format, [rows, inputs]);
                let ids: Vec<u32> = (0..tokens).map(|_| random.below(rows) as u32).collect();
                let want = naive::embed(&ids, &values, inputs);
                let ids = bench.upload(tokens, &ids);
                Case {
                    run: Box::new(move |rec| embed(rec, &ids, &matrix)),
                    check: near(0, want),
                }
            },
        );
    }
    // 70 masks of a slice at once
    let (rows, depth, cols) = (70, 32, 112 * 112);
    let work = Work {
        flops: 2 * rows * depth * cols,
        bytes: 4 * (rows * depth + depth * cols + rows * cols),
    };
    bench.row(
        "matmul",
        &format!("{rows} x {depth} by {cols}"),
        work,
        |random| {
            let (a, b) = (
                random.values(rows * (depth + 4)),
                random.values(cols * depth),
            );
            let want = naive::matmul(&a[(rows - 1) * (depth + 4)..], depth + 4, &b, depth, true);
            let (a, b) = (
                bench.upload([rows, depth + 4], &a),
                bench.upload([cols, depth], &b),
            );
            Case {
                run: Box::new(move |rec| matmul(rec, &a, &b, true)),
                check: near((rows - 1) * cols, want),
            }
        },
    );
}

fn convolutions(bench: &Bench) {
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
        let out = side / stride;
        let mut case = format!("f16 {inputs} -> {outputs} at {out}, stride {stride}");
        if has_residual {
            case += " + residual";
        }
        let work = Work {
            flops: 2 * 9 * inputs * outputs * out * out,
            bytes: 4
                * (side * side * inputs + out * out * outputs * (1 + usize::from(has_residual)))
                + 18 * inputs * outputs,
        };
        bench.row("conv", &case, work, |random| {
            let Weights { matrix, values } =
                weights(&bench.gpu, random, "f16", [outputs, 9 * inputs]);
            let x = random.values(side * side * inputs);
            let bias = random.values(outputs.next_multiple_of(8));
            let residual = has_residual.then(|| random.values(out * out * outputs));
            let want = naive::conv(
                &x,
                &values,
                &bias[..outputs],
                [1, side, side, inputs],
                stride,
                Activation::Gelu,
                residual.as_deref(),
            );
            let x = bench.upload([1, side, side, inputs], &x);
            let bias = bench.upload(bias.len(), &bias);
            let residual = residual.map(|r| bench.upload([1, out, out, outputs], &r));
            Case {
                run: Box::new(move |rec| {
                    conv(
                        rec,
                        &x,
                        &matrix,
                        &bias,
                        stride,
                        Activation::Gelu,
                        residual.as_ref(),
                    )
                }),
                check: near(0, want),
            }
        });
    }
    for (side, channels) in [(14, 64), (28, 48), (56, 32)] {
        let size = [1, side, side, channels];
        let len = 4 * side * side * channels;
        let work = Work {
            flops: len,
            bytes: 12 * len,
        };
        bench.row(
            "pixel_shuffle",
            &format!("{channels} channels at {side}"),
            work,
            |random| {
                let (x, skip) = (random.values(len), random.values(len));
                let want = naive::pixel_shuffle(&x, &skip, size, Activation::Gelu);
                let x = bench.upload([1, side, side, 4 * channels], &x);
                let skip = bench.upload([1, 2 * side, 2 * side, channels], &skip);
                Case {
                    run: Box::new(move |rec| pixel_shuffle(rec, &x, &skip, Activation::Gelu)),
                    check: near(0, want),
                }
            },
        );
    }
}

fn plain(values: &[f32], stride: usize) -> Plain<'_> {
    Plain {
        values,
        stride,
        first: 0,
    }
}

fn attentions(bench: &Bench) {
    for (name, batch, queries, keys, q, kv, width, causal) in [
        ("image tokens", 1, 196, 196, 3, 3, 64, false),
        ("prompts to image", 1, 210, 196, 8, 8, 8, false),
        ("tokens of a prompt", 70, 3, 3, 8, 8, 16, false),
        ("causal", 1, 256, 256, 9, 3, 64, true),
    ] {
        let heads = Heads { q, kv, width };
        let case = format!("{name} {batch} x {queries} on {keys}, {q} of {width}");
        let seen = if causal {
            queries * (keys + 1) / 2
        } else {
            queries * keys
        };
        let work = Work {
            flops: 4 * batch * seen * q * width,
            bytes: 4 * batch * width * (2 * queries * q + 2 * keys * kv),
        };
        // `attention` hands narrow heads to their own kernel.
        let kernel = if width <= NARROW && !causal {
            "attention_narrow"
        } else {
            "attention"
        };
        bench.row(kernel, &case, work, |random| {
            let x = random.values(batch * queries * q * width);
            let (k, v) = (
                random.values(batch * keys * kv * width),
                random.values(batch * keys * kv * width),
            );
            let (q_cols, kv_cols) = (q * width, kv * width);
            let want = naive::attention(
                plain(&x, q_cols),
                plain(&k, kv_cols),
                plain(&v, kv_cols),
                heads,
                batch,
                causal,
            );
            let x = bench.upload([batch * queries, q_cols], &x);
            let k = bench.upload([batch * keys, kv_cols], &k);
            let v = bench.upload([batch * keys, kv_cols], &v);
            Case {
                run: Box::new(move |rec| {
                    attention(
                        rec,
                        Columns::all(&x),
                        Columns::all(&k),
                        Columns::all(&v),
                        heads,
                        batch,
                        causal,
                    )
                }),
                check: near(0, want),
            }
        });
    }
    // keys: a prefix for all rows, then a run for each of some groups of rows
    for (name, rows, prefix, own, groups, [q, kv, width]) in [
        ("decoding", 1, 0, 512, 1, [9, 3, 64]),
        ("prefill on a prefix", 64, 100, 64, 1, [9, 3, 64]),
        ("tokens of a prompt", 210, 0, 3, 70, [8, 8, 16]),
    ] {
        let heads = Heads { q, kv, width };
        let keys = prefix + groups * own;
        let case = format!("{name} {rows} on {}, {q} of {width}", prefix + own);
        let work = Work {
            flops: 4 * rows * (prefix + own) * q * width,
            bytes: 4 * width * (2 * rows * q + 2 * keys * kv),
        };
        bench.row("attention_spans", &case, work, |random| {
            let (q_cols, kv_cols) = (heads.q * heads.width, heads.kv * heads.width);
            let q = random.values(rows * q_cols);
            let (k, v) = (random.values(keys * kv_cols), random.values(keys * kv_cols));
            let spans: Vec<[u32; 2]> = (0..rows)
                .map(|r| [prefix + r * groups / rows * own, own].map(|n| n as u32))
                .collect();
            let want = naive::attention_spans(
                plain(&q, q_cols),
                plain(&k, kv_cols),
                plain(&v, kv_cols),
                &spans,
                prefix,
                heads,
            );
            let q = bench.upload([rows, q_cols], &q);
            let (k, v) = (
                bench.upload([keys, kv_cols], &k),
                bench.upload([keys, kv_cols], &v),
            );
            let span = bench.upload([rows, 2], spans.as_flattened());
            Case {
                run: Box::new(move |rec| {
                    attention_spans(
                        rec,
                        Columns::all(&q),
                        Columns::all(&k),
                        Columns::all(&v),
                        &span,
                        prefix,
                        heads,
                    )
                }),
                check: near(0, want),
            }
        });
    }
    let (tokens, heads) = (
        64,
        Heads {
            q: 9,
            kv: 3,
            width: 64,
        },
    );
    let (row, kv_cols) = (15 * 64, 3 * 64);
    let work = Work {
        flops: 3 * tokens * 12 * 64,
        bytes: 8 * tokens * row,
    };
    bench.row(
        "rope_cache",
        &format!("{tokens} tokens, 9 + 2 x 3 heads of 64"),
        work,
        |random| {
            let qkv = random.values(tokens * row);
            let order: Vec<u32> = (0..tokens as u32).collect();
            let (mut k, mut v) = (vec![0.0; tokens * kv_cols], vec![0.0; tokens * kv_cols]);
            let want = naive::rope_cache(&qkv, &order, &order, heads, 1e5, (&mut k, &mut v));
            let qkv = bench.upload([tokens, row], &qkv);
            let order = bench.upload(tokens, &order);
            let (k, v) = (
                bench.upload([tokens, kv_cols], &k),
                bench.upload([tokens, kv_cols], &v),
            );
            Case {
                run: Box::new(move |rec| {
                    rope_cache(rec, &qkv, &order, &order, heads, 1e5, (&k, &v))
                }),
                check: near(0, want),
            }
        },
    );
}

fn norms(bench: &Bench) {
    for [rows, cols] in [[196, 192], [210, 128]] {
        let work = Work {
            flops: 8 * rows * cols,
            bytes: 8 * rows * cols,
        };
        bench.row("layer_norm", &format!("{rows} x {cols}"), work, |random| {
            let (x, weight, bias) = (
                random.values(rows * cols),
                random.values(cols),
                random.values(cols),
            );
            let want = naive::layer_norm(&x, &weight, &bias, 1e-6);
            let x = bench.upload([rows, cols], &x);
            let (weight, bias) = (bench.upload(cols, &weight), bench.upload(cols, &bias));
            Case {
                run: Box::new(move |rec| layer_norm(rec, &x, &weight, &bias, 1e-6)),
                check: near(0, want),
            }
        });
    }
    for rows in [1, 64] {
        let cols = 576;
        let work = Work {
            flops: 4 * rows * cols,
            bytes: 8 * rows * cols,
        };
        bench.row("rms_norm", &format!("{rows} x {cols}"), work, |random| {
            let (x, weight) = (random.values(rows * cols), random.values(cols));
            let want = naive::rms_norm(&x, &weight, 1e-5);
            let (x, weight) = (bench.upload([rows, cols], &x), bench.upload(cols, &weight));
            Case {
                run: Box::new(move |rec| rms_norm(rec, &x, &weight, 1e-5)),
                check: near(0, want),
            }
        });
    }
}

fn rows_and_elements(bench: &Bench) {
    let moved = |bytes: usize| Work { flops: 0, bytes };
    for [rows, cols, repeat] in [[196, 192, 1], [196 * 16, 192, 16]] {
        let len = rows * cols;
        let case = format!("{rows} x {cols} + {} x {cols}", rows / repeat);
        bench.row("add", &case, moved(8 * len + 4 * len / repeat), |random| {
            let (a, b) = (random.values(len), random.values(len / repeat));
            let want = naive::add(&a, &b, 1.0);
            let (a, b) = (
                bench.upload([rows, cols], &a),
                bench.upload([rows / repeat, cols], &b),
            );
            Case {
                run: Box::new(move |rec| add(rec, &a, &b)),
                check: near(0, want),
            }
        });
    }
    let cols = 49_152;
    bench.row(
        "argmax",
        &format!("1 x {cols}"),
        moved(4 * cols),
        |random| {
            let x = random.values(cols);
            let want = naive::argmax(&x, cols, cols);
            let x = bench.upload([1, cols], &x);
            Case {
                run: Box::new(move |rec| argmax(rec, &x, cols)),
                check: Box::new(move |got| assert_eq!(got, want)),
            }
        },
    );
    let (sentences, tokens, cols) = (70, 24, 384);
    let work = moved(4 * sentences * (tokens + 1) * cols);
    bench.row(
        "mean_pool",
        &format!("{sentences} sentences of {tokens} x {cols}"),
        work,
        |random| {
            let x = random.values(sentences * tokens * cols);
            let spans: Vec<[u32; 2]> = (0..sentences)
                .map(|s| [(s * tokens) as u32, tokens as u32])
                .collect();
            let want = naive::mean_pool(&x, &spans, cols);
            let x = bench.upload([sentences * tokens, cols], &x);
            let span = bench.upload([sentences, 2], spans.as_flattened());
            Case {
                run: Box::new(move |rec| mean_pool(rec, &x, &span)),
                check: near(0, want),
            }
        },
    );
    let (rows, cols) = (70, 128);
    bench.row(
        "copy_rows",
        &format!("{rows} x {cols}, every third"),
        moved(8 * rows * cols),
        |random| {
            let x = random.values(rows * cols);
            let mut want = vec![0.0; 3 * rows * cols];
            naive::copy_rows(&x, &mut want, cols, rows, 2, 3);
            let x = bench.upload([rows, cols], &x);
            let y = bench.upload([3 * rows, cols], &vec![0f32; want.len()]);
            Case {
                run: Box::new(move |rec| {
                    copy_rows(rec, &x, &y, rows, 2, 3);
                    y.clone()
                }),
                check: near(0, want),
            }
        },
    );
    bench.row(
        "gather_rows",
        &format!("{rows} x {cols}, every third"),
        moved(8 * rows * cols),
        |random| {
            let x = random.values(3 * rows * cols);
            let want = naive::gather_rows(&x, cols, rows, 1, 3);
            let x = bench.upload([3 * rows, cols], &x);
            Case {
                run: Box::new(move |rec| gather_rows(rec, &x, rows, 1, 3)),
                check: near(0, want),
            }
        },
    );
    let (rows, cols) = (64, 1536);
    let work = Work {
        flops: 4 * rows * cols,
        bytes: 12 * rows * cols,
    };
    bench.row("silu_mul", &format!("{rows} x {cols}"), work, |random| {
        let x = random.values(2 * rows * cols);
        let want = naive::silu_mul(&x, cols);
        let x = bench.upload([rows, 2 * cols], &x);
        Case {
            run: Box::new(move |rec| silu_mul(rec, &x)),
            check: near(0, want),
        }
    });
}

fn masks(bench: &Bench) {
    let (pixels, channels) = (112 * 112, 32);
    let len = pixels * channels;
    let work = Work {
        flops: 0,
        bytes: 6 * len,
    };
    bench.row(
        "pack_half",
        &format!("{pixels} x {channels}"),
        work,
        |random| {
            let x = random.values(len);
            let want = x.clone();
            let x = bench.upload(len, &x);
            let y = bench.upload(len / 2, &vec![0u32; len / 2]);
            Case {
                run: Box::new(move |rec| {
                    pack_half(rec, &x, &y, 0);
                    y.clone()
                }),
                check: Box::new(move |words| {
                    let halves = words
                        .iter()
                        .flat_map(|word| [*word as u16, (word >> 16) as u16]);
                    let got: Vec<f32> = halves
                        .map(|bits| half::f16::from_bits(bits).to_f32())
                        .collect();
                    close(&got, &want, 1e-6, 1e-3);
                }),
            }
        },
    );
    let (slices, prompts, stride) = (8, 70, channels + 4);
    let work = Work {
        flops: 2 * slices * len,
        bytes: slices * (2 * len + 4 * pixels),
    };
    bench.row(
        "slice_masks",
        &format!("{slices} x {pixels} pixels of {channels}"),
        work,
        |random| {
            let hyper = random.values(slices * prompts * stride);
            let rounded = |v: f32| half::f16::from_f32(v).to_f32();
            let kept: Vec<f32> = random
                .values(slices * len)
                .into_iter()
                .map(rounded)
                .collect();
            let mut want = vec![0.0; slices * pixels];
            let shape = [slices, prompts, stride];
            naive::slice_masks(&hyper, shape, &kept, channels, 9, (&mut want, 0));
            let hyper = bench.upload(shape, &hyper);
            let packed = bench.upload(slices * len / 2, &naive::pack_half(&kept));
            let y = bench.upload([slices, pixels], &vec![0f32; slices * pixels]);
            Case {
                run: Box::new(move |rec| {
                    slice_masks(rec, &hyper, &packed, channels, 9, &y, 0);
                    y.clone()
                }),
                check: near(0, want),
            }
        },
    );
    let images = 16;
    let size = [images, 112, 112];
    let work = Work {
        flops: 0,
        bytes: 20 * images * pixels,
    };
    bench.row(
        "resample",
        &format!("{images} x 112 x 112"),
        work,
        |random| {
            let x = random.values(images * pixels);
            let want = naive::resample(&x, size);
            let x = bench.upload(size, &x);
            Case {
                run: Box::new(move |rec| resample(rec, &x)),
                check: near(0, want),
            }
        },
    );
    let [size_z, size_y, size_x] = [96, 224, 192];
    let voxels = size_z * size_y * size_x;
    for (name, axis, column_axis) in [("axial", 2, 0), ("coronal", 1, 0), ("sagittal", 0, 1)] {
        let slices = [size_x, size_y, size_z][axis];
        let work = Work {
            flops: 0,
            bytes: 8 * voxels + 4 * slices * pixels,
        };
        bench.row(
            "fuse_view",
            &format!("{name}, {size_x} x {size_y} x {size_z}"),
            work,
            |random| {
                let x = random.values(slices * pixels);
                let quality = random
                    .values(slices * 4)
                    .iter()
                    .map(|v| v.abs())
                    .collect::<Vec<_>>();
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
                    [112, 112],
                    &quality,
                    (1, 0),
                    &place,
                    8.0,
                    [size_z, size_y, size_x],
                    (&mut sum, &mut weight),
                    (true, false),
                );
                let x = bench.upload([slices, 112, 112], &x);
                let quality = bench.upload([slices, 1, 4], &quality);
                let shape = [size_z, size_y, size_x];
                let y = bench.upload(shape, &sum);
                let weight = bench.upload(shape, &weight);
                Case {
                    run: Box::new(move |rec| {
                        fuse_view(
                            rec,
                            &x,
                            &quality,
                            0,
                            &place,
                            8.0,
                            (&y, &weight),
                            (true, false),
                        );
                        y.clone()
                    }),
                    check: near(0, sum),
                }
            },
        );
    }
}
