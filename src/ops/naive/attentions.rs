//! Attentions, and what is done to queries, keys and values.

use super::{Columns, rms_norm};
use crate::ops::Heads;

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
