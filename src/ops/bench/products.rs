//! Linear layers, the embedding and the plain product, at the sizes of the models.

use super::{Bench, TOLERANCE, Trial, Work};
use crate::error::Result;
use crate::gpu::{Gpu, Kernel};
use crate::ops::check::inputs::{bias, numbers, random, upload, weights};
use crate::ops::{Activation, embed, linear, linear_plan, matmul, naive};

/// Storage bits of a weight.
fn bits(format: &str) -> f64 {
    match format {
        "f32" => 32.0,
        "f16" | "bf16" => 16.0,
        "q8_0" => 8.5,
        "q4_0" | "q4_k" => 4.5,
        "q5_0" | "q5_k" => 5.5,
        "q5_1" => 6.0,
        "q6_k" => 6.5625,
        _ => 5.0,
    }
}

/// A linear layer; its last row is checked.
fn linear_row(
    bench: &mut Bench,
    format: &'static str,
    [rows, inputs, outputs]: [usize; 3],
    activation: Activation,
    has_residual: bool,
) -> Result<()> {
    let plan = linear_plan(bench.gpu, rows, outputs.div_ceil(8), format);
    let mut case = format!("{format} {rows} x {inputs} -> {outputs}");
    if activation != Activation::None {
        case += &format!(" {activation:?}").to_lowercase();
    }
    if has_residual {
        case += " + residual";
    }
    let activations = rows * (inputs + outputs * (1 + usize::from(has_residual))) * 4;
    let work = Work {
        flops: 2 * rows * inputs * outputs,
        bytes: activations + ((inputs * outputs) as f64 * bits(format) / 8.0) as usize,
    };
    bench.row(plan.kernel.name, case, work, |gpu| {
        let (matrix, values) = weights(gpu, format, [outputs, inputs])?;
        let (x, offset) = (random(1, rows * inputs), random(2, outputs));
        let residual = has_residual.then(|| random(3, rows * outputs));
        let last = rows - 1;
        let want = naive::linear(
            &x[last * inputs..],
            &values,
            &offset,
            inputs,
            activation,
            residual.as_ref().map(|r| &r[last * outputs..]),
        );
        let x = upload(gpu, [rows, inputs], &x)?;
        let offset = bias(gpu, &offset)?;
        let residual = residual
            .map(|r| upload(gpu, [rows, outputs], &r))
            .transpose()?;
        let tolerance = tolerance(gpu, plan.kernel, inputs);
        let trial = Trial::new(last * outputs, want, move |rec| {
            linear(rec, &x, &matrix, &offset, activation, residual.as_ref())
        });
        Ok(trial.within(tolerance))
    })
}

/// `|got − want| / (1 + |want|)` up to which a product counts as right.
fn tolerance(gpu: &Gpu, kernel: &Kernel, inputs: usize) -> f64 {
    match (kernel.name, gpu.coop_tile()) {
        // Half an ulp of f16 is lost in each addition of a tile, at random: the root of their number adds up, and the
        // worst of thousands of sums has five times as much.
        ("linear_coop", Some("f16_8")) => 5.0 * (inputs as f64 / 8.0).sqrt() / 2048.0,
        // x is exact in f16, and so are weights but for quants times their scale: 11 bits, at random too.
        ("linear_coop", _) => TOLERANCE + 5.0 * (inputs as f64).sqrt() / 2048.0 / 8.0,
        _ => TOLERANCE,
    }
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let plain = Activation::None;
    // zeus-mini's image encoder: 196 tokens
    linear_row(bench, "f16", [196, 192, 576], plain, false)?;
    linear_row(bench, "f16", [196, 192, 192], plain, true)?;
    linear_row(bench, "f16", [196, 192, 768], Activation::Gelu, false)?;
    linear_row(bench, "f16", [196, 768, 192], plain, true)?;
    linear_row(bench, "f32", [196, 192, 768], Activation::Gelu, false)?;
    // its mask decoder: three tokens for each of 70 prompts
    linear_row(bench, "f16", [210, 128, 128], plain, false)?;
    linear_row(bench, "f16", [210, 128, 512], Activation::Relu, false)?;
    linear_row(bench, "f16", [210, 512, 128], plain, true)?;
    // ViT-B at 224, 512 and 1024 pixels
    for tokens in [196, 1024, 4096] {
        linear_row(bench, "f16", [tokens, 768, 2304], plain, false)?;
        linear_row(bench, "f16", [tokens, 768, 3072], Activation::Gelu, false)?;
        linear_row(bench, "f16", [tokens, 3072, 768], plain, true)?;
    }
    // SAM's mask decoder: seven tokens and the image's, projections, MLP and the way to the other side's width
    for [rows, inputs, outputs] in [[7, 256, 256], [7, 256, 128], [4096, 256, 128]] {
        linear_row(bench, "f16", [rows, inputs, outputs], plain, false)?;
    }
    linear_row(bench, "f16", [7, 256, 2048], Activation::Relu, false)?;
    linear_row(bench, "f16", [7, 2048, 256], plain, true)?;
    linear_row(bench, "f16", [4096, 128, 256], plain, true)?;
    // squares that other engines publish
    for side in [512, 1024, 4096] {
        linear_row(bench, "f32", [side; 3], plain, false)?;
    }
    // SmolLM2: q·k·v, gate·up, down and the head; prefill, several texts at once, one
    for rows in [512, 64, 8, 4, 1] {
        for format in ["f16", "q8_0", "q4_0", "q4_1"] {
            for [inputs, outputs] in [[576, 960], [576, 3072], [1536, 576], [576, 49_152]] {
                linear_row(bench, format, [rows, inputs, outputs], plain, false)?;
            }
        }
    }
    // SmolLM2's down in the other formats; those with blocks of 256 fit it, not its width of 576
    for rows in [512, 64, 8, 4, 1] {
        for format in ["bf16", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k"] {
            linear_row(bench, format, [rows, 1536, 576], plain, false)?;
        }
    }
    // its gate and up as one, silu(gate) · up
    for rows in [512, 64, 8, 4, 1] {
        for format in ["q8_0", "q4_1"] {
            gated_row(bench, format, [rows, 576, 1536])?;
        }
    }
    // a layer of seven thousand million parameters
    for rows in [512, 64, 8, 4, 1] {
        if !bench.takes_big() {
            break;
        }
        for format in ["f16", "q8_0", "q4_0", "q4_1", "q4_k", "q5_k", "q6_k"] {
            for [inputs, outputs] in [[4096, 4096], [4096, 11_008]] {
                linear_row(bench, format, [rows, inputs, outputs], plain, false)?;
            }
        }
        // Its 11,008 inputs are whole blocks of 256 too.
        for format in ["q4_1", "q4_k", "q6_k"] {
            linear_row(bench, format, [rows, 11_008, 4096], plain, false)?;
        }
    }
    for format in ["q8_0", "q4_1"] {
        embed_row(bench, format, 576)?;
    }
    for format in ["bf16", "q4_k", "q6_k"] {
        embed_row(bench, format, 768)?;
    }
    // 70 masks of a slice at once
    let (rows, depth, cols) = (70, 32, 112 * 112);
    let work = Work {
        flops: 2 * rows * depth * cols,
        bytes: 4 * (rows * depth + depth * cols + rows * cols),
    };
    let case = format!("{rows} x {depth} by {cols}");
    bench.row("matmul", case, work, |gpu| {
        let (a, b) = (random(1, rows * (depth + 4)), random(2, cols * depth));
        let want = naive::matmul(&a[(rows - 1) * (depth + 4)..], depth + 4, &b, depth, true);
        let a = upload(gpu, [rows, depth + 4], &a)?;
        let b = upload(gpu, [cols, depth], &b)?;
        Ok(Trial::new((rows - 1) * cols, want, move |rec| {
            matmul(rec, &a, &b, true)
        }))
    })
}

/// Two products of the same rows, one the gate of the other; their last row is checked.
fn gated_row(
    bench: &mut Bench,
    format: &'static str,
    [rows, inputs, outputs]: [usize; 3],
) -> Result<()> {
    let plan = linear_plan(bench.gpu, rows, outputs.div_ceil(4), format);
    let case = format!("{format} {rows} x {inputs} -> {outputs} silu(gate) · up");
    let packed = (2 * inputs * outputs) as f64 * bits(format) / 8.0;
    let work = Work {
        flops: 4 * rows * inputs * outputs,
        bytes: rows * (inputs + outputs) * 4 + packed as usize,
    };
    bench.row(plan.kernel.name, case, work, |gpu| {
        let (matrix, values) = weights(gpu, format, [2 * outputs, inputs])?;
        let x = random(1, rows * inputs);
        // The matrix has four rows of each in turn.
        let [gate, up] = [0, 1].map(|part| {
            let fours = values.chunks_exact(4 * inputs).skip(part).step_by(2);
            fours.flatten().copied().collect::<Vec<f32>>()
        });
        let last = rows - 1;
        let want = naive::linear_gated(
            &x[last * inputs..],
            &[gate, up].concat(),
            &vec![0.0; 2 * outputs],
            inputs,
            Activation::Silu,
            None,
        );
        let matrix = matrix.gated();
        let x = upload(gpu, [rows, inputs], &x)?;
        let offset = bias(gpu, &vec![0.0; 2 * outputs])?;
        let tolerance = tolerance(gpu, plan.kernel, inputs);
        let trial = Trial::new(last * outputs, want, move |rec| {
            linear(rec, &x, &matrix, &offset, Activation::Silu, None)
        });
        Ok(trial.within(tolerance))
    })
}

fn embed_row(bench: &mut Bench, format: &'static str, inputs: usize) -> Result<()> {
    let (rows, tokens) = (49_152, 64);
    let work = Work {
        flops: 0,
        bytes: (tokens * inputs) * 4 + ((tokens * inputs) as f64 * bits(format) / 8.0) as usize,
    };
    let case = format!("{format} {tokens} of {rows} x {inputs}");
    bench.row("embed", case, work, |gpu| {
        let (matrix, values) = weights(gpu, format, [rows, inputs])?;
        let ids: Vec<u32> = numbers(1, tokens)
            .map(|n| (n % rows as u64) as u32)
            .collect();
        let want = naive::embed(&ids, &values, inputs);
        let ids = upload(gpu, tokens, &ids)?;
        Ok(Trial::new(0, want, move |rec| embed(rec, &ids, &matrix)))
    })
}
