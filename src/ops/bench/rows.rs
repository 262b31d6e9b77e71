//! Norms, and what is done to rows and elements.

use super::{Bench, Trial, Work};
use crate::error::Result;
use crate::ops::check::inputs::{random, upload};
use crate::ops::{
    Activation, add, argmax, copy_rows, cross_entropy, film, fourier, gather_rows, instance_norm,
    layer_norm, mean_pool, moments, naive, rms_norm,
};

/// Bytes and nothing to compute.
fn moved(bytes: usize) -> Work {
    Work { flops: 0, bytes }
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    for [rows, cols] in [[196, 192], [210, 128], [4096, 768]] {
        let work = Work {
            flops: 8 * rows * cols,
            bytes: 8 * rows * cols,
        };
        bench.row("layer_norm", format!("{rows} x {cols}"), work, |gpu| {
            let (x, weight, bias) = (random(1, rows * cols), random(2, cols), random(3, cols));
            let want = naive::layer_norm(&x, &weight, &bias, 1e-6);
            let x = upload(gpu, [rows, cols], &x)?;
            let (weight, bias) = (upload(gpu, cols, &weight)?, upload(gpu, cols, &bias)?);
            Ok(Trial::new(0, want, move |rec| {
                layer_norm(rec, &x, &weight, &bias, 1e-6)
            }))
        })?;
    }
    for rows in [1, 64] {
        let cols = 576;
        let work = Work {
            flops: 4 * rows * cols,
            bytes: 8 * rows * cols,
        };
        bench.row("rms_norm", format!("{rows} x {cols}"), work, |gpu| {
            let (x, weight) = (random(1, rows * cols), random(2, cols));
            let want = naive::rms_norm(&x, &weight, 1e-5);
            let (x, weight) = (upload(gpu, [rows, cols], &x)?, upload(gpu, cols, &weight)?);
            Ok(Trial::new(0, want, move |rec| {
                rms_norm(rec, &x, &weight, 1e-5)
            }))
        })?;
    }
    for [rows, cols, repeat] in [[196, 192, 1], [196 * 16, 192, 16]] {
        let len = rows * cols;
        let case = format!("{rows} x {cols} + {} x {cols}", rows / repeat);
        bench.row("add", case, moved(8 * len + 4 * len / repeat), |gpu| {
            let (a, b) = (random(1, len), random(2, len / repeat));
            let want = naive::add(&a, &b, 1.0);
            let a = upload(gpu, [rows, cols], &a)?;
            let b = upload(gpu, [rows / repeat, cols], &b)?;
            Ok(Trial::new(0, want, move |rec| add(rec, &a, &b)))
        })?;
    }
    let (rows, half) = (64 * 64, 128);
    let work = Work {
        flops: 30 * rows * half,
        bytes: 8 * (rows + half + rows * half),
    };
    bench.row("fourier", format!("{rows} x {}", 2 * half), work, |gpu| {
        let (x, weight) = (random(1, 2 * rows), random(2, 2 * half));
        let want = naive::fourier(&x, &weight);
        let (x, weight) = (
            upload(gpu, [rows, 2], &x)?,
            upload(gpu, [2, half], &weight)?,
        );
        Ok(Trial::new(0, want, move |rec| fourier(rec, &x, &weight)))
    })?;
    let cols = 49_152;
    bench.row("argmax", format!("1 x {cols}"), moved(4 * cols), |gpu| {
        let x = random(1, cols);
        let want = naive::argmax(&x, cols, cols);
        let x = upload(gpu, [1, cols], &x)?;
        Ok(Trial::words(want, move |rec| argmax(rec, &x, cols)))
    })?;
    let (rows, classes) = (256 * 256, 20);
    let work = moved(4 * rows * (classes + 1));
    bench.row("argmax", format!("{rows} x {classes}"), work, |gpu| {
        let x = random(1, rows * classes);
        let want = naive::argmax(&x, classes, classes);
        let x = upload(gpu, [rows, classes], &x)?;
        Ok(Trial::words(want, move |rec| argmax(rec, &x, classes)))
    })?;
    let (lines, voxels, channels) = (256, 256, 16);
    let values = lines * voxels * channels;
    let case = format!("{lines} lines of {voxels} x {channels}");
    bench.row("moments", case.clone(), moved(4 * values), |gpu| {
        let x = random(1, values);
        let want = naive::moments(&x, voxels, channels);
        let x = upload(gpu, [lines * voxels, channels], &x)?;
        Ok(Trial::new(0, want, move |rec| moments(rec, &x, voxels)))
    })?;
    bench.row("instance_norm", case, moved(8 * values), |gpu| {
        let x = random(1, values);
        let of = naive::moments(&x, lines * voxels, channels);
        let want = naive::instance_norm(&x, &of, 1e-5, Activation::Gelu);
        let x = upload(gpu, [lines * voxels, channels], &x)?;
        let of = upload(gpu, [1, 2, channels], &of)?;
        Ok(Trial::new(0, want, move |rec| {
            instance_norm(rec, &x, &of, 1e-5, Activation::Gelu)
        }))
    })?;
    let rows = 8;
    let (case, work) = (format!("{rows} x {cols}"), moved(4 * rows * cols));
    bench.row("cross_entropy", case, work, |gpu| {
        let x = random(1, rows * cols);
        let tokens: Vec<u32> = (0..rows as u32).map(|r| 6007 * r).collect();
        let want = naive::cross_entropy(&x, &tokens, cols, cols);
        let (x, tokens) = (upload(gpu, [rows, cols], &x)?, upload(gpu, rows, &tokens)?);
        Ok(Trial::new(0, want, move |rec| {
            cross_entropy(rec, &x, &tokens, cols)
        }))
    })?;
    let (sentences, tokens, cols) = (70, 24, 384);
    let work = moved(4 * sentences * (tokens + 1) * cols);
    let case = format!("{sentences} sentences of {tokens} x {cols}");
    bench.row("mean_pool", case, work, |gpu| {
        let x = random(1, sentences * tokens * cols);
        let spans: Vec<[u32; 2]> = (0..sentences)
            .map(|s| [(s * tokens) as u32, tokens as u32])
            .collect();
        let want = naive::mean_pool(&x, &spans, cols);
        let x = upload(gpu, [sentences * tokens, cols], &x)?;
        let span = upload(gpu, [sentences, 2], spans.as_flattened())?;
        Ok(Trial::new(0, want, move |rec| mean_pool(rec, &x, &span)))
    })?;
    let (rows, cols) = (70, 128);
    let case = format!("{rows} x {cols}, every third");
    bench.row("copy_rows", case.clone(), moved(8 * rows * cols), |gpu| {
        let x = random(1, rows * cols);
        let mut want = vec![0.0; 3 * rows * cols];
        naive::copy_rows(&x, &mut want, cols, rows, 2, 3);
        let x = upload(gpu, [rows, cols], &x)?;
        let y = upload(gpu, [3 * rows, cols], &vec![0f32; want.len()])?;
        Ok(Trial::new(0, want, move |rec| {
            copy_rows(rec, &x, &y, rows, 2, 3);
            y.clone()
        }))
    })?;
    let (prompts, tokens, dim) = (16, 485, 64);
    let case_film = format!("{prompts} x {tokens} x {dim}");
    bench.row(
        "film",
        case_film,
        moved(4 * (prompts + 1) * tokens * dim),
        |gpu| {
            let x = random(1, tokens * dim);
            let (gamma, beta) = (random(2, prompts * dim), random(3, prompts * dim));
            let want = naive::film(&x, &gamma, &beta, dim);
            let x = upload(gpu, [tokens, dim], &x)?;
            let (gamma, beta) = (
                upload(gpu, [prompts, dim], &gamma)?,
                upload(gpu, [prompts, dim], &beta)?,
            );
            Ok(Trial::new(0, want, move |rec| film(rec, &x, &gamma, &beta)))
        },
    )?;
    bench.row("gather_rows", case, moved(8 * rows * cols), |gpu| {
        let x = random(1, 3 * rows * cols);
        let want = naive::gather_rows(&x, cols, rows, 1, 3);
        let x = upload(gpu, [3 * rows, cols], &x)?;
        Ok(Trial::new(0, want, move |rec| {
            gather_rows(rec, &x, rows, 1, 3)
        }))
    })
}
