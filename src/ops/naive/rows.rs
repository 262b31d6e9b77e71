//! Norms, and what is done to rows and elements.

use super::activate;
use crate::ops::Activation;

/// x `[rows, stride]`, of which the first `cols` columns count.
pub fn cross_entropy(x: &[f32], tokens: &[u32], stride: usize, cols: usize) -> Vec<f32> {
    x.chunks_exact(stride)
        .zip(tokens)
        .map(|(row, token)| {
            let row: Vec<f64> = row[..cols].iter().map(|v| f64::from(*v)).collect();
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|v| (v - highest).exp()).sum();
            (sum.ln() + highest - row[*token as usize]) as f32
        })
        .collect()
}

pub fn layer_norm(x: &[f32], weight: &[f32], bias: &[f32], eps: f64) -> Vec<f32> {
    let cols = weight.len();
    let mut y = Vec::new();
    for row in x.chunks_exact(cols) {
        let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / cols as f64;
        let squares: f64 = row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum();
        let deviation = (squares / cols as f64 + eps).sqrt();
        for c in 0..cols {
            let v = (f64::from(row[c]) - mean) / deviation;
            y.push((v * f64::from(weight[c]) + f64::from(bias[c])) as f32);
        }
    }
    y
}

/// Places `(column, line)` by frequencies, those of columns first.
pub fn fourier(x: &[f32], weight: &[f32]) -> Vec<f32> {
    let (across, down) = weight.split_at(weight.len() / 2);
    let mut y = Vec::new();
    for place in x.chunks_exact(2) {
        let [column, line] = [0, 1].map(|axis| 2.0 * f64::from(place[axis]) - 1.0);
        let turns = across.iter().zip(down);
        let angles: Vec<f64> = turns
            .map(|(a, d)| column * f64::from(*a) + line * f64::from(*d))
            .map(|turns| std::f64::consts::TAU * turns)
            .collect();
        y.extend(angles.iter().map(|angle| angle.sin() as f32));
        y.extend(angles.iter().map(|angle| angle.cos() as f32));
    }
    y
}

pub fn rms_norm(x: &[f32], weight: &[f32], eps: f64) -> Vec<f32> {
    let cols = weight.len();
    let mut y = Vec::new();
    for row in x.chunks_exact(cols) {
        let squares: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
        let root = (squares / cols as f64 + eps).sqrt();
        y.extend((0..cols).map(|c| (f64::from(row[c]) / root * f64::from(weight[c])) as f32));
    }
    y
}

pub fn add(a: &[f32], b: &[f32], scale: f32) -> Vec<f32> {
    (0..a.len())
        .map(|i| scale * (a[i] + b[i % b.len()]))
        .collect()
}

/// The first of the largest among the first `cols` of each row.
pub fn argmax(x: &[f32], stride: usize, cols: usize) -> Vec<u32> {
    x.chunks_exact(stride)
        .map(|row| {
            let mut best = 0;
            for c in 1..cols {
                if row[c] > row[best] {
                    best = c;
                }
            }
            best as u32
        })
        .collect()
}

/// Mean and biased variance over every `rows` rows of x `[runs · rows, channels]`: `[runs, 2, channels]`.
pub fn moments(x: &[f32], rows: usize, channels: usize) -> Vec<f32> {
    let mut y = Vec::new();
    for run in x.chunks_exact(rows * channels) {
        let of = |c: usize| run.iter().skip(c).step_by(channels).map(|v| f64::from(*v));
        let means: Vec<f64> = (0..channels)
            .map(|c| of(c).sum::<f64>() / rows as f64)
            .collect();
        y.extend(means.iter().map(|mean| *mean as f32));
        y.extend(means.iter().enumerate().map(|(c, mean)| {
            (of(c).map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64) as f32
        }));
    }
    y
}

/// x `[rows, channels]`, its `moments` `[2, channels]`.
pub fn instance_norm(x: &[f32], moments: &[f32], eps: f64, activation: Activation) -> Vec<f32> {
    let (mean, var) = moments.split_at(moments.len() / 2);
    let norm = |(n, v): (usize, &f32)| {
        let c = n % mean.len();
        let deviation = (f64::from(var[c]) + eps).sqrt();
        activate(activation, (f64::from(*v) - f64::from(mean[c])) / deviation) as f32
    };
    x.iter().enumerate().map(norm).collect()
}

pub fn mean_pool(x: &[f32], spans: &[[u32; 2]], cols: usize) -> Vec<f32> {
    let mut y = Vec::new();
    for mean in means(x, spans, cols) {
        let length = mean.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        y.extend(mean.iter().map(|v| (v / length) as f32));
    }
    y
}

pub fn mean_rows(x: &[f32], spans: &[[u32; 2]], cols: usize) -> Vec<f32> {
    let values = means(x, spans, cols).flatten();
    values.map(|v| v as f32).collect()
}

fn means(x: &[f32], spans: &[[u32; 2]], cols: usize) -> impl Iterator<Item = Vec<f64>> {
    let mean = move |[start, count]: [usize; 2]| {
        let column = |c: usize| {
            let rows = start..start + count;
            let sum: f64 = rows.map(|t| f64::from(x[t * cols + c])).sum();
            sum / count as f64
        };
        (0..cols).map(column).collect()
    };
    spans.iter().map(|s| s.map(|n| n as usize)).map(mean)
}

pub fn copy_rows(x: &[f32], y: &mut [f32], cols: usize, rows: usize, first: usize, stride: usize) {
    let period = x.len() / cols;
    for r in 0..rows {
        y[(first + r * stride) * cols..][..cols].copy_from_slice(&x[r % period * cols..][..cols]);
    }
}

pub fn film(x: &[f32], gamma: &[f32], beta: &[f32], cols: usize) -> Vec<f32> {
    let prompts = gamma.chunks_exact(cols).zip(beta.chunks_exact(cols));
    let modulated = |(gamma, beta): (&[f32], &[f32])| -> Vec<f32> {
        x.iter()
            .enumerate()
            .map(|(i, x)| {
                let c = i % cols;
                (f64::from(*x) * f64::from(gamma[c]) + f64::from(beta[c])) as f32
            })
            .collect()
    };
    prompts.flat_map(modulated).collect()
}

pub fn gather_rows(x: &[f32], cols: usize, rows: usize, first: usize, stride: usize) -> Vec<f32> {
    (0..rows)
        .flat_map(|r| x[(first + r * stride) * cols..][..cols].to_vec())
        .collect()
}
