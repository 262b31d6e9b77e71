//! Every op once more, in plain loops on the CPU.
//!
//! A twin says what its op means, not how the kernel goes about it: sums are f64 in the order of the
//! formula, nothing is blocked, and indices are spelled out. Weights are given as plain values;
//! what a storage format makes of them is the caller's business. The self-check, the tests and the
//! benches all compare with these.

use std::ops::Range;

use crate::ops::{Activation, Heads, Placement, Residual, Window};

/// Columns of a matrix that may hold more: row r begins at `r · stride + first`.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub first: usize,
}

impl Columns<'_> {
    fn at(&self, row: usize, column: usize) -> f64 {
        f64::from(self.values[row * self.stride + self.first + column])
    }

    fn rows(&self) -> usize {
        self.values.len() / self.stride
    }
}

/// The error function: its Taylor series near zero, the continued fraction of its complement beyond.
fn erf(x: f64) -> f64 {
    if x.abs() < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let mut fraction = 0.0;
    for n in (1..200).rev() {
        fraction = f64::from(n) / 2.0 / (x.abs() + fraction);
    }
    let complement = (-x * x).exp() / (std::f64::consts::PI.sqrt() * (x.abs() + fraction));
    (1.0 - complement).copysign(x)
}

pub fn activate(activation: Activation, v: f64) -> f64 {
    match activation {
        Activation::None => v,
        Activation::Gelu => v * (1.0 + erf(v / 2f64.sqrt())) / 2.0,
        Activation::Relu => v.max(0.0),
        Activation::Silu => v / (1.0 + (-v).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-v).exp()),
        Activation::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3));
            v * (1.0 + u.tanh()) / 2.0
        }
        Activation::QuickGelu => v / (1.0 + (-1.702 * v).exp()),
        Activation::Elu => v.max(v.min(0.0).exp_m1()),
        Activation::Tanh => v.tanh(),
    }
}

/// x `[rows, inputs]`, weight `[bias.len(), inputs]`, the result `[rows, bias.len()]`.
pub fn linear(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    inputs: usize,
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f32> {
    let mut y = Vec::new();
    for row in x.chunks_exact(inputs) {
        for (w, b) in weight.chunks_exact(inputs).zip(bias) {
            let product: f64 = row
                .iter()
                .zip(w)
                .map(|(x, w)| f64::from(*x) * f64::from(*w))
                .sum();
            let mut v = activate(activation, product + f64::from(*b));
            if let Some(residual) = residual {
                v += f64::from(residual[y.len()]);
            }
            y.push(v as f32);
        }
    }
    y
}

/// The same product; only the kernel differs.
pub fn linear_vec(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    inputs: usize,
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f32> {
    linear(x, weight, bias, inputs, activation, residual)
}

/// The same product; only the kernel differs.
pub fn linear_broadcast(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    inputs: usize,
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f32> {
    linear(x, weight, bias, inputs, activation, residual)
}

/// The same product; only the kernel differs, which rounds `x` and `weight` to f16.
pub fn linear_coop(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    inputs: usize,
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f32> {
    linear(x, weight, bias, inputs, activation, residual)
}

/// Two products of the same rows, weights and biases one above the other, first the gates: what a gated matrix
/// computes at once.
pub fn linear_gated(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    inputs: usize,
    activation: Activation,
    residual: Option<&[f32]>,
) -> Vec<f32> {
    let outputs = bias.len() / 2;
    let mut y = Vec::new();
    for row in x.chunks_exact(inputs) {
        let dot = |o: usize| {
            let w = &weight[o * inputs..][..inputs];
            let products = row
                .iter()
                .zip(w)
                .map(|(x, w)| f64::from(*x) * f64::from(*w));
            products.sum::<f64>() + f64::from(bias[o])
        };
        for o in 0..outputs {
            let mut v = activate(activation, dot(o)) * dot(outputs + o);
            if let Some(residual) = residual {
                v += f64::from(residual[y.len()]);
            }
            y.push(v as f32);
        }
    }
    y
}

/// x `[images, depth, height, width, channels]`, weight `[bias.len(), slices, rows, columns, channels / groups]`.
pub fn conv(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    size: [usize; 5],
    window: &Window,
    activation: Activation,
    residual: Residual<[f32]>,
) -> Vec<f32> {
    let [images, depth, height, width, channels] = size;
    let [out_depth, out_height, out_width] = window.out([depth, height, width]);
    let [_, rows, columns] = window.kernel;
    let (inputs, outputs) = (channels / window.groups, bias.len() / window.groups);
    // Where a tap of an output lies along an axis, if in the image.
    let seen = |axis: usize, at: usize, tap: usize, size: usize| {
        (at * window.stride[axis] + tap * window.dilation[axis])
            .checked_sub(window.padding[axis][0])
            .filter(|place| *place < size)
    };
    let mut y = Vec::new();
    for image in 0..images {
        for slice in 0..out_depth {
            for row in 0..out_height {
                for column in 0..out_width {
                    for (o, b) in bias.iter().enumerate() {
                        let mut sum = f64::from(*b);
                        for tap in 0..window.taps() {
                            let (at, tap_column) = (tap / columns, tap % columns);
                            let (tap_slice, tap_row) = (at / rows, at % rows);
                            let (Some(k), Some(i), Some(j)) = (
                                seen(0, slice, tap_slice, depth),
                                seen(1, row, tap_row, height),
                                seen(2, column, tap_column, width),
                            ) else {
                                continue;
                            };
                            let pixel = ((image * depth + k) * height + i) * width + j;
                            for c in 0..inputs {
                                let from = pixel * channels + o / outputs * inputs + c;
                                let w = weight[(o * window.taps() + tap) * inputs + c];
                                sum += f64::from(x[from]) * f64::from(w);
                            }
                        }
                        let v = match residual {
                            Residual::None => activate(activation, sum),
                            Residual::After(r) => activate(activation, sum) + f64::from(r[y.len()]),
                            Residual::Before(r) => {
                                activate(activation, sum + f64::from(r[y.len()]))
                            }
                        };
                        y.push(v as f32);
                    }
                }
            }
        }
    }
    y
}

/// The same convolution; only the kernel differs.
pub fn conv_broadcast(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    size: [usize; 5],
    window: &Window,
    activation: Activation,
    residual: Residual<[f32]>,
) -> Vec<f32> {
    conv(x, weight, bias, size, window, activation, residual)
}

/// A group for each channel; weight `[slices, rows, columns, channels]`.
pub fn conv_depthwise(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    size: [usize; 5],
    window: &Window,
    activation: Activation,
    residual: Residual<[f32]>,
) -> Vec<f32> {
    let channels = size[4];
    let by_channel: Vec<f32> = (0..channels)
        .flat_map(|c| weight.iter().skip(c).step_by(channels).copied())
        .collect();
    let window = window.grouped(channels);
    conv(x, &by_channel, bias, size, &window, activation, residual)
}

/// One row of one head over the keys that `seen` lists, each with what is added to its score. A score below -1e30
/// hides its key, and a row without any key is zeros.
fn attend(
    (q, k, v): (Columns, Columns, Columns),
    (row, head, kv_head): (usize, usize, usize),
    width: usize,
    seen: &[(usize, f64)],
    y: &mut Vec<f32>,
) {
    let scores: Vec<(usize, f64)> = seen
        .iter()
        .map(|&(j, added)| {
            let score: f64 = (0..width)
                .map(|c| q.at(row, head * width + c) * k.at(j, kv_head * width + c))
                .sum();
            (j, score / (width as f64).sqrt() + added)
        })
        .filter(|(_, score)| *score >= -1e30)
        .collect();
    let highest = scores.iter().map(|s| s.1).fold(-1e30, f64::max);
    let total: f64 = scores.iter().map(|s| (s.1 - highest).exp()).sum();
    for c in 0..width {
        let sum: f64 = scores
            .iter()
            .map(|&(j, s)| (s - highest).exp() * v.at(j, kv_head * width + c))
            .sum();
        y.push(if total > 0.0 { sum / total } else { 0.0 } as f32);
    }
}

/// What becomes of an attention's scores; `bool` is causal and nothing else.
#[derive(Clone, Copy, Default)]
pub struct Scores<'a> {
    pub causal: bool,
    /// The last keys that a causal row sees.
    pub window: Option<usize>,
    /// `[kinds, heads or 1, queries, keys]`, not padded; the number of heads, and the kind of each group.
    pub bias: Option<(&'a [f32], usize, &'a [u32])>,
    /// As [`rel_pos`] makes them; and the columns of the grid.
    pub places: Option<(&'a [f32], usize)>,
}

impl From<bool> for Scores<'_> {
    fn from(causal: bool) -> Self {
        Self {
            causal,
            ..Self::default()
        }
    }
}

/// Attention within each of `batch` groups of rows.
pub fn attention<'a>(
    q: Columns,
    k: Columns,
    v: Columns,
    heads: Heads,
    batch: usize,
    scores: impl Into<Scores<'a>>,
) -> Vec<f32> {
    let scores = scores.into();
    let (queries, keys) = (q.rows() / batch, k.rows() / batch);
    let mut y = Vec::new();
    for row in 0..q.rows() {
        let (group, i) = (row / queries, row % queries);
        let end = match scores.causal {
            true => i + keys - queries + 1,
            false => keys,
        };
        let begin = end.saturating_sub(scores.window.unwrap_or(end));
        for head in 0..heads.q {
            let added = |j: usize| -> f64 {
                let mut sum = 0.0;
                if let Some((bias, bias_heads, kinds)) = scores.bias {
                    let kind = kinds[group % kinds.len()] as usize;
                    let at = (kind * bias_heads + head % bias_heads) * queries + i;
                    sum += f64::from(bias[at * keys + j]);
                }
                if let Some((places, columns)) = scores.places {
                    let (lines, padded) = (keys / columns, queries.next_multiple_of(4));
                    let first = (group * heads.q + head) * (lines + columns);
                    for place in [j / columns, lines + j % columns] {
                        sum += f64::from(places[(first + place) * padded + i]);
                    }
                }
                sum
            };
            let seen: Vec<(usize, f64)> =
                (begin..end).map(|j| (group * keys + j, added(j))).collect();
            let kv_head = head / (heads.q / heads.kv);
            attend((q, k, v), (row, head, kv_head), heads.width, &seen, &mut y);
        }
    }
    y
}

/// The same attention; only the kernel differs.
pub fn attention_broadcast<'a>(
    q: Columns,
    k: Columns,
    v: Columns,
    heads: Heads,
    batch: usize,
    scores: impl Into<Scores<'a>>,
) -> Vec<f32> {
    attention(q, k, v, heads, batch, scores)
}

/// The same attention, of numbers that a kernel on cooperative matrices has rounded.
pub fn attention_coop<'a>(
    q: Columns,
    k: Columns,
    v: Columns,
    heads: Heads,
    batch: usize,
    scores: impl Into<Scores<'a>>,
) -> Vec<f32> {
    attention(q, k, v, heads, batch, scores)
}

/// As [`attention`] without a mask: the kernel for narrow heads computes the same.
pub fn attention_narrow(
    q: Columns,
    k: Columns,
    v: Columns,
    heads: Heads,
    batch: usize,
) -> Vec<f32> {
    attention(q, k, v, heads, batch, false)
}

/// Attention of each row on keys `0 .. prefix` and its own span of start and count.
pub fn attention_spans(
    q: Columns,
    k: Columns,
    v: Columns,
    spans: &[[u32; 2]],
    prefix: usize,
    heads: Heads,
) -> Vec<f32> {
    let mut y = Vec::new();
    for (row, [start, count]) in spans.iter().map(|s| s.map(|n| n as usize)).enumerate() {
        let seen: Vec<(usize, f64)> = (0..prefix)
            .chain(start..start + count)
            .map(|j| (j, 0.0))
            .collect();
        for head in 0..heads.q {
            let kv_head = head / (heads.q / heads.kv);
            attend((q, k, v), (row, head, kv_head), heads.width, &seen, &mut y);
        }
    }
    y
}

/// The same; only the kernel differs.
pub fn attention_split(
    q: Columns,
    k: Columns,
    v: Columns,
    spans: &[[u32; 2]],
    prefix: usize,
    heads: Heads,
) -> Vec<f32> {
    attention_spans(q, k, v, spans, prefix, heads)
}

/// part `[splits, rows, heads · width]`, state `[splits, rows, heads, 2]`: each share's maximum and sum.
pub fn attention_merge(part: &[f32], state: &[f32], splits: usize, width: usize) -> Vec<f32> {
    let units = state.len() / 2 / splits;
    let mut y = Vec::new();
    for unit in 0..units {
        let stood = |s: usize| {
            let at = 2 * (s * units + unit);
            (f64::from(state[at]), f64::from(state[at + 1]))
        };
        let highest = (0..splits).map(|s| stood(s).0).fold(-1e30, f64::max);
        let weight = |s: usize| stood(s).1 * (stood(s).0 - highest).exp();
        let total: f64 = (0..splits).map(weight).sum();
        for c in 0..width {
            let sum: f64 = (0..splits)
                .map(|s| weight(s) * f64::from(part[(s * units + unit) * width + c]))
                .sum();
            y.push(if total > 0.0 { sum / total } else { 0.0 } as f32);
        }
    }
    y
}

/// What the lines and columns of a grid's keys, seen from its queries, add to their scores:
/// `[batch, heads, lines + columns, queries padded to 4]`; tables `[2 · places - 1, width]`.
pub fn rel_pos(q: Columns, heads: Heads, batch: usize, tables: [&[f32]; 2]) -> Vec<f32> {
    let width = heads.width;
    let [lines, columns] = tables.map(|table| (table.len() / width).div_ceil(2));
    let queries = lines * columns;
    let mut y = Vec::new();
    for group in 0..batch {
        for head in 0..heads.q {
            for c in 0..lines + columns {
                for i in 0..queries {
                    let (table, distance) = match c.checked_sub(lines) {
                        None => (tables[0], i / columns + lines - 1 - c),
                        Some(c) => (tables[1], i % columns + columns - 1 - c),
                    };
                    let sum: f64 = (0..width)
                        .map(|n| {
                            q.at(group * queries + i, head * width + n)
                                * f64::from(table[distance * width + n])
                        })
                        .sum();
                    y.push(sum as f32);
                }
                y.resize(y.len().next_multiple_of(4), 0.0);
            }
        }
    }
    y
}

/// x `[images, height, width, channels]` in windows, padded, rolled by `shift`.
pub fn windows(
    x: &[f32],
    [images, height, width, channels]: [usize; 4],
    side: usize,
    shift: usize,
) -> Vec<f32> {
    let [down, across] = [height, width].map(|n| n.div_ceil(side));
    let mut y = Vec::new();
    for image in 0..images {
        for window in 0..down * across {
            for pixel in 0..side * side {
                let line = window / across * side + pixel / side + shift;
                let column = window % across * side + pixel % side + shift;
                let (line, column) = (line % (down * side), column % (across * side));
                for c in 0..channels {
                    y.push(if line < height && column < width {
                        x[((image * height + line) * width + column) * channels + c]
                    } else {
                        0.0
                    });
                }
            }
        }
    }
    y
}

/// The frequencies of plain rotary positions, radians a position of each of `width / 2` pairs.
pub fn rope_frequencies(width: usize, theta: f64) -> Vec<f32> {
    (0..width / 2)
        .map(|i| theta.powf(-2.0 * i as f64 / width as f64) as f32)
        .collect()
}

/// Returns q; writes k and v into the caches' rows `slot`. Pairs are neighbours or in `halves` of a head.
#[expect(clippy::too_many_arguments, reason = "those of the op")]
pub fn rope_cache(
    qkv: &[f32],
    position: &[u32],
    slot: &[u32],
    heads: Heads,
    frequency: &[f32],
    scale: f64,
    halves: bool,
    (k_cache, v_cache): (&mut [f32], &mut [f32]),
) -> Vec<f32> {
    let d = heads.width;
    let rotate = |x: &[f32], position: u32| -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(d)) {
            for (i, frequency) in frequency.iter().enumerate() {
                let pair = if halves {
                    [i, i + d / 2]
                } else {
                    [2 * i, 2 * i + 1]
                };
                let (sin, cos) = (f64::from(position) * f64::from(*frequency)).sin_cos();
                let [a, b] = pair.map(|column| f64::from(x[column]));
                y[pair[0]] = (scale * (a * cos - b * sin)) as f32;
                y[pair[1]] = (scale * (a * sin + b * cos)) as f32;
            }
        }
        y
    };
    let (q_cols, kv_cols) = (heads.q * d, heads.kv * d);
    let mut q = Vec::new();
    for ((row, &position), &slot) in qkv
        .chunks_exact(q_cols + 2 * kv_cols)
        .zip(position)
        .zip(slot)
    {
        let at = slot as usize * kv_cols;
        q.extend(rotate(&row[..q_cols], position));
        k_cache[at..at + kv_cols]
            .copy_from_slice(&rotate(&row[q_cols..q_cols + kv_cols], position));
        v_cache[at..at + kv_cols].copy_from_slice(&row[q_cols + kv_cols..]);
    }
    q
}

/// x `[tokens, (q + 2 · kv) · width]`, weight `[2, width]`.
pub fn head_norm(x: &[f32], weight: &[f32], heads: Heads, eps: f64) -> Vec<f32> {
    let d = heads.width;
    let all = heads.q + 2 * heads.kv;
    let mut y = Vec::new();
    for (row, x) in x.chunks_exact(d).enumerate() {
        match row % all {
            head if head < heads.q => y.extend(rms_norm(x, &weight[..d], eps)),
            head if head < heads.q + heads.kv => y.extend(rms_norm(x, &weight[d..], eps)),
            _ => y.extend(x),
        }
    }
    y
}

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

pub fn embed(ids: &[u32], weight: &[f32], cols: usize) -> Vec<f32> {
    ids.iter()
        .flat_map(|&id| weight[id as usize * cols..][..cols].to_vec())
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

/// a `[rows, stride]`, b `[cols, depth]`; with `bias` the value of a's row at `depth` is added.
pub fn matmul(a: &[f32], stride: usize, b: &[f32], depth: usize, bias: bool) -> Vec<f32> {
    let mut y = Vec::new();
    for row in a.chunks_exact(stride) {
        for column in b.chunks_exact(depth) {
            let mut sum: f64 = (0..depth)
                .map(|k| f64::from(row[k]) * f64::from(column[k]))
                .sum();
            if bias {
                sum += f64::from(row[depth]);
            }
            y.push(sum as f32);
        }
    }
    y
}

/// The f16 nearest to `v`, of two equally near the even one; beyond the largest, the largest.
fn half(v: f32) -> u32 {
    let magnitude = f64::from(v.abs()).min(65504.0);
    // Below 2⁻¹⁴ the spacing no longer shrinks.
    let exponent = (magnitude.log2().floor() as i32).max(-14);
    let steps = (magnitude / 2f64.powi(exponent - 10)).round_ties_even() as u32;
    // The leading bit of a normal number adds to the exponent's field: a carry does the same.
    let exponent_field = ((exponent + 14) as u32) << 10;
    (u32::from(v.is_sign_negative()) << 15) | (exponent_field + steps)
}

/// Pairs of values as f16 in one word, the first in the low half.
pub fn pack_half(x: &[f32]) -> Vec<u32> {
    x.chunks_exact(2)
        .map(|pair| half(pair[0]) | half(pair[1]) << 16)
        .collect()
}

/// Undoes [`pack_half`].
pub fn unpack_half(x: &[u32]) -> Vec<f32> {
    x.iter()
        .flat_map(|word| [word & 0xffff, word >> 16])
        .map(|half| {
            let (exponent, fraction) = ((half >> 10) & 31, half & 1023);
            // Without a leading bit below 2⁻¹⁴.
            let (steps, exponent) = match exponent {
                0 => (fraction, 1),
                _ => (fraction + 1024, exponent as i32),
            };
            let magnitude = f64::from(steps) * 2f64.powi(exponent - 25);
            (if half >> 15 == 1 {
                -magnitude
            } else {
                magnitude
            }) as f32
        })
        .collect()
}

/// x `[images, depth, height, width, (parts), channels]`, each pixel in as many parts as it becomes slices, rows and columns.
pub fn pixel_shuffle(
    x: &[f32],
    skip: Option<&[f32]>,
    [images, depth, height, width, channels]: [usize; 5],
    [deep, high, wide]: [usize; 3],
    activation: Activation,
) -> Vec<f32> {
    let mut y = Vec::new();
    for image in 0..images {
        for slice in 0..deep * depth {
            for row in 0..high * height {
                for column in 0..wide * width {
                    let pixel = ((image * depth + slice / deep) * height + row / high) * width
                        + column / wide;
                    let part = (slice % deep * high + row % high) * wide + column % wide;
                    for c in 0..channels {
                        let v = x[(pixel * deep * high * wide + part) * channels + c]
                            + skip.map_or(0.0, |skip| skip[y.len()]);
                        y.push(activate(activation, f64::from(v)) as f32);
                    }
                }
            }
        }
    }
    y
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

/// The value of a picture at a place between its pixels; the edge pixels go on for ever.
fn bilinear(picture: &[f32], [height, width]: [usize; 2], row: f64, column: f64) -> f64 {
    let at = |i: f64, j: f64| {
        let i = i.clamp(0.0, height as f64 - 1.0) as usize;
        let j = j.clamp(0.0, width as f64 - 1.0) as usize;
        f64::from(picture[i * width + j])
    };
    let (i, j) = (row.floor(), column.floor());
    let (v, h) = (row - i, column - j);
    let upper = at(i, j) * (1.0 - h) + at(i, j + 1.0) * h;
    let lower = at(i + 1.0, j) * (1.0 - h) + at(i + 1.0, j + 1.0) * h;
    upper * (1.0 - v) + lower * v
}

/// A pixel of a picture at twice its size.
fn doubled(picture: &[f32], size: [usize; 2], row: usize, column: usize) -> f64 {
    let source = |i: usize| (i as f64 + 0.5) / 2.0 - 0.5;
    bilinear(picture, size, source(row), source(column))
}

pub fn resample(x: &[f32], [images, height, width, channels]: [usize; 4]) -> Vec<f32> {
    let mut y = Vec::new();
    for picture in x.chunks_exact(height * width * channels).take(images) {
        let plane = |c: usize| picture.iter().skip(c).step_by(channels).copied();
        let planes: Vec<Vec<f32>> = (0..channels).map(|c| plane(c).collect()).collect();
        for row in 0..2 * height {
            for column in 0..2 * width {
                let value = |plane: &Vec<f32>| doubled(plane, [height, width], row, column) as f32;
                y.extend(planes.iter().map(value));
            }
        }
    }
    y
}

/// hyper `[slices, prompts, stride]`, pixels `[slices, count, channels]`; writes `[count]` values
/// of each slice into y, from slice `first` on.
pub fn slice_masks(
    hyper: &[f32],
    [slices, prompts, stride]: [usize; 3],
    pixels: &[f32],
    channels: usize,
    wanted: Range<usize>,
    (y, first): (&mut [f32], usize),
) {
    let count = pixels.len() / slices / channels;
    let all = y.len() / wanted.len();
    for (mask, prompt) in wanted.enumerate() {
        for slice in 0..slices {
            let weights = &hyper[(slice * prompts + prompt) * stride..][..stride];
            for p in 0..count {
                let pixel = &pixels[(slice * count + p) * channels..][..channels];
                let sum: f64 = (0..channels)
                    .map(|c| f64::from(weights[c]) * f64::from(pixel[c]))
                    .sum();
                let at = mask * all + (first + slice) * count + p;
                y[at] = (sum + f64::from(weights[channels])) as f32;
            }
        }
    }
}

/// x `[slices, height, width]`, quality `[slices, prompts, 4]`; sum and weight are `[z, y, x]`.
#[expect(clippy::too_many_arguments, reason = "the op's own arguments")]
pub fn fuse_view(
    x: &[f32],
    [height, width]: [usize; 2],
    quality: &[f32],
    (prompts, prompt): (usize, usize),
    place: &Placement,
    limit: f64,
    [size_z, size_y, size_x]: [usize; 3],
    (sum, weight): (&mut [f32], &mut [f32]),
    (first, last): (bool, bool),
) {
    let size = [size_x, size_y, size_z];
    let row_axis = 3 - place.axis - place.column_axis;
    for i in 0..sum.len() {
        let voxel = [i % size_x, i / size_x % size_y, i / (size_x * size_y)];
        // Slices are shown upside down and from the right, as a radiologist looks at them.
        let shown = |axis: usize, offset: i32| (size[axis] - 1 - voxel[axis]) as i32 + offset;
        let row = shown(row_axis, place.row_offset);
        let column = shown(place.column_axis, place.column_offset);
        let slice = voxel[place.axis];
        let (mut total, mut weights) = if first {
            (0.0, 0.0)
        } else {
            (f64::from(sum[i]), f64::from(weight[i]))
        };
        let in_window =
            (0..2 * height as i32).contains(&row) && (0..2 * width as i32).contains(&column);
        if in_window && place.slices.contains(&slice) {
            let picture = &x[slice * height * width..][..height * width];
            let logit = doubled(picture, [height, width], row as usize, column as usize);
            let w = f64::from(quality[(slice * prompts + prompt) * 4]) + 1e-3;
            total += w * logit.clamp(-limit, limit);
            weights += w;
        }
        if last {
            total = if weights > 0.0 {
                total / weights
            } else {
                -limit
            };
        }
        sum[i] = total as f32;
        weight[i] = weights as f32;
    }
}
