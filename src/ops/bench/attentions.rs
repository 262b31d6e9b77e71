//! Attentions of image tokens, prompts and texts.

use super::{Bench, Trial, Work};
use crate::error::Result;
use crate::ops::check::inputs::{random, upload};
use crate::ops::naive::Columns as Plain;
use crate::ops::{
    Added, Columns, Heads, NARROW, Pairs, Rotation, Scores, attention, attention_broadcasts,
    attention_coop_pays, attention_merge, attention_spans, head_norm, joined_windows, naive,
    rel_pos, rope_cache, splits, windows,
};

fn plain(values: &[f32], stride: usize) -> Plain<'_> {
    Plain {
        values,
        stride,
        first: 0,
    }
}

/// What becomes of the scores.
#[derive(Clone, Copy, PartialEq)]
enum Scored {
    Unmasked,
    Causal,
    /// Causal, with the last so many keys.
    Window(usize),
    /// A bias of each head, of four kinds.
    Bias,
    /// Relative positions of a grid of so many columns.
    Places(usize),
}
use Scored::{Bias, Causal, Places, Unmasked, Window};

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    for (name, batch, queries, keys, [q, kv, width], scored) in [
        ("image tokens", 1, 196, 196, [3, 3, 64], Unmasked),
        ("prompts to image", 1, 210, 196, [8, 8, 8], Unmasked),
        ("tokens of a prompt", 70, 3, 3, [8, 8, 16], Unmasked),
        ("causal", 1, 256, 256, [9, 3, 64], Causal),
        ("ViT-B at 224", 1, 196, 196, [12, 12, 64], Unmasked),
        ("ViT-B at 512", 1, 1024, 1024, [12, 12, 64], Unmasked),
        ("ViT-B at 1024", 1, 4096, 4096, [12, 12, 64], Unmasked),
        ("ViT-L at 1024", 1, 4096, 4096, [16, 16, 64], Unmasked),
        ("ViT-H at 1024", 1, 4096, 4096, [16, 16, 80], Unmasked),
        ("ViT-H windows", 25, 196, 196, [16, 16, 80], Unmasked),
        ("SAM tokens to image", 1, 7, 4096, [8, 8, 16], Unmasked),
        ("SAM image to tokens", 1, 4096, 7, [8, 8, 16], Unmasked),
        ("SmolLM2, 512 tokens", 1, 512, 512, [9, 3, 64], Causal),
        ("sliding window", 1, 1024, 1024, [8, 2, 64], Window(256)),
        ("SAM ViT-B", 1, 4096, 4096, [12, 12, 64], Places(64)),
        ("SAM ViT-H", 1, 4096, 4096, [16, 16, 80], Places(64)),
        ("SAM ViT-B windows", 25, 196, 196, [12, 12, 64], Places(14)),
        ("SAM ViT-H windows", 25, 196, 196, [16, 16, 80], Places(14)),
        ("Swin windows", 64, 49, 49, [3, 3, 32], Bias),
    ] {
        let heads = Heads { q, kv, width };
        attention_row(bench, name, [batch, queries, keys], heads, scored)?;
    }
    for (name, batch, side, q, width) in [
        ("SAM ViT-B", 1, 64, 12, 64),
        ("SAM ViT-B windows", 25, 14, 12, 64),
    ] {
        rel_pos_row(bench, name, batch, side, Heads { q, kv: q, width })?;
    }
    for (name, size, side, shift) in [
        ("SAM ViT-B", [1, 64, 64, 768], 14, 0),
        ("Swin", [1, 56, 56, 96], 7, 3),
    ] {
        windows_rows(bench, name, size, side, shift)?;
    }
    // keys: a prefix for all rows, then a run for each of some groups of rows
    for (name, rows, prefix, own, groups, [q, kv, width]) in [
        ("decoding", 1, 0, 512, 1, [9, 3, 64]),
        ("decoding", 1, 0, 2048, 1, [9, 3, 64]),
        ("decoding", 1, 0, 512, 1, [32, 8, 128]),
        ("decoding", 1, 0, 2048, 1, [32, 8, 128]),
        ("prefill on a prefix", 64, 100, 64, 1, [9, 3, 64]),
        ("tokens of a prompt", 210, 0, 3, 70, [8, 8, 16]),
    ] {
        let heads = Heads { q, kv, width };
        // The last is no language model's, and has no cache.
        for half in [false, true].into_iter().take(1 + usize::from(groups == 1)) {
            spans_row(bench, name, [rows, prefix, own, groups], heads, half)?;
        }
    }
    merge_row(bench)?;
    rope_row(bench)
}

fn attention_row(
    bench: &mut Bench,
    name: &str,
    [batch, queries, keys]: [usize; 3],
    heads: Heads,
    scored: Scored,
) -> Result<()> {
    let Heads { q, kv, width } = heads;
    let more = match scored {
        Unmasked | Causal => String::new(),
        Window(window) => format!(", the last {window}"),
        Bias => ", bias".to_owned(),
        Places(columns) => format!(", places of {columns}"),
    };
    let case = format!("{name} {batch} x {queries} on {keys}, {q} of {width}{more}");
    let causal = matches!(scored, Causal | Window(_));
    let window = match scored {
        Window(window) => Some(window),
        _ => None,
    };
    let seen: usize = match causal {
        true => (0..queries)
            .map(|i| (i + 1 + keys - queries).min(window.unwrap_or(keys)))
            .sum(),
        false => queries * keys,
    };
    let (padded_keys, padded) = (keys.next_multiple_of(4), queries.next_multiple_of(4));
    let shape = match scored {
        Bias => [4, q, queries, padded_keys],
        Places(columns) => [batch, q, keys / columns + columns, padded],
        _ => [0; 4],
    };
    let len = shape.iter().product();
    let work = Work {
        flops: 4 * batch * seen * q * width,
        bytes: 4 * (batch * width * (2 * queries * q + 2 * keys * kv) + len),
    };
    // `attention` hands narrow heads to their own kernel.
    let kernel = match () {
        () if width <= NARROW && scored == Unmasked => "attention_narrow",
        () if attention_coop_pays(bench.gpu, heads, queries) => "attention_coop",
        () if attention_broadcasts(bench.gpu, heads) => "attention_broadcast",
        () => "attention",
    };
    bench.row(kernel, case, work, |gpu| {
        let (q_cols, kv_cols) = (q * width, kv * width);
        let x = random(1, batch * queries * q_cols);
        let k = random(2, batch * keys * kv_cols);
        let v = random(3, batch * keys * kv_cols);
        let added = random(4, len);
        // Group b adds kind b % 4.
        let kinds: Vec<u32> = (0..4).collect();
        // Of many queries the last is enough, on the keys of the last group.
        let first = (batch * queries - 1) * q_cols;
        let own = (batch - 1) * keys * kv_cols;
        let (mut bias, mut places) = (Vec::new(), Vec::new());
        match scored {
            Bias => {
                for head in 0..q {
                    let at = (((batch - 1) % 4 * q + head) * queries + queries - 1) * padded_keys;
                    bias.extend(&added[at..at + keys]);
                }
            }
            Places(_) => {
                let last = added[(batch - 1) * q * shape[2] * padded..].chunks_exact(padded);
                places.extend(last.flat_map(|row| [row[queries - 1], 0.0, 0.0, 0.0]));
            }
            _ => {}
        }
        let plainly = naive::Scores {
            causal,
            window,
            bias: (scored == Bias).then_some((&bias[..], q, &[0])),
            places: match scored {
                Places(columns) => Some((&places, columns)),
                _ => None,
            },
        };
        let want = naive::attention(
            plain(&x[first..], q_cols),
            plain(&k[own..], kv_cols),
            plain(&v[own..], kv_cols),
            heads,
            1,
            plainly,
        );
        let x = upload(gpu, [batch * queries, q_cols], &x)?;
        let k = upload(gpu, [batch * keys, kv_cols], &k)?;
        let v = upload(gpu, [batch * keys, kv_cols], &v)?;
        let added = match len {
            0 => x.clone(),
            _ => upload(gpu, shape, &added)?,
        };
        let kind = upload(gpu, kinds.len(), &kinds)?;
        Ok(Trial::new(first, want, move |rec| {
            let [q, k, v] = [&x, &k, &v].map(Columns::all);
            let added = match scored {
                Bias => Added::Bias {
                    bias: &added,
                    kind: Some(&kind),
                },
                Places(columns) => Added::Relative {
                    places: &added,
                    columns,
                },
                _ => Added::Nothing,
            };
            let scores = Scores {
                causal,
                window,
                added,
            };
            attention(rec, q, k, v, heads, batch, scores)
        }))
    })
}

fn rel_pos_row(
    bench: &mut Bench,
    name: &str,
    batch: usize,
    side: usize,
    heads: Heads,
) -> Result<()> {
    let (rows, cols) = (batch * side * side, heads.q * heads.width);
    let table_len = (2 * side - 1) * heads.width;
    let case = format!(
        "{name} {batch} x {side} x {side}, {} of {}",
        heads.q, heads.width
    );
    let work = Work {
        flops: 4 * rows * cols * side,
        bytes: 4 * (rows * cols + 2 * table_len + 2 * rows * heads.q * side),
    };
    bench.row("rel_pos", case, work, |gpu| {
        let q = random(1, rows * cols);
        let tables = [random(2, table_len), random(3, table_len)];
        // The lines and columns that the first head's first line of queries sees.
        let first = naive::rel_pos(
            plain(&q[..side * side * cols], cols),
            Heads { q: 1, ..heads },
            1,
            [&tables[0], &tables[1]],
        );
        let q = upload(gpu, [rows, cols], &q)?;
        let down = upload(gpu, [2 * side - 1, heads.width], &tables[0])?;
        let across = upload(gpu, [2 * side - 1, heads.width], &tables[1])?;
        Ok(Trial::new(0, first, move |rec| {
            rel_pos(rec, Columns::all(&q), heads, batch, [&down, &across])
        }))
    })
}

fn windows_rows(
    bench: &mut Bench,
    name: &str,
    size: [usize; 4],
    side: usize,
    shift: usize,
) -> Result<()> {
    let [images, height, width, channels] = size;
    let cells = images * height.div_ceil(side) * width.div_ceil(side) * side * side;
    let work = Work {
        flops: 0,
        bytes: 4 * channels * (images * height * width + cells),
    };
    let case = format!("{name} {height} x {width} x {channels} by {side}, shift {shift}");
    let x = random(1, size.iter().product());
    let y = naive::windows(&x, size, side, shift);
    bench.row("windows", case.clone(), work, |gpu| {
        let x = upload(gpu, size, &x)?;
        Ok(Trial::new(0, y.clone(), move |rec| {
            windows(rec, &x, side, shift)
        }))
    })?;
    bench.row("windows", case + ", back", work, |gpu| {
        let y = upload(gpu, [cells, channels], &y)?;
        Ok(Trial::new(0, x.clone(), move |rec| {
            joined_windows(rec, &y, [images, height, width], side, shift)
        }))
    })
}

fn merge_row(bench: &mut Bench) -> Result<()> {
    let (splits, rows, heads, width) = (16, 1, 32, 128);
    let work = Work {
        flops: 2 * splits * rows * heads * width,
        bytes: 4 * (splits + 1) * rows * heads * width,
    };
    let case = format!("{splits} shares, {heads} of {width}");
    bench.row("attention_merge", case, work, |gpu| {
        let part = random(1, splits * rows * heads * width);
        let state: Vec<f32> = random(2, splits * rows * heads * 2)
            .iter()
            .map(|v| 2.0 + v)
            .collect();
        let want = naive::attention_merge(&part, &state, splits, width);
        let part = upload(gpu, [splits, rows, heads * width], &part)?;
        let state = upload(gpu, [splits, rows, heads, 2], &state)?;
        Ok(Trial::new(0, want, move |rec| {
            attention_merge(rec, &part, &state)
        }))
    })
}

fn spans_row(
    bench: &mut Bench,
    name: &str,
    [rows, prefix, own, groups]: [usize; 4],
    heads: Heads,
    half: bool,
) -> Result<()> {
    let Heads { q, kv, width } = heads;
    let keys = prefix + groups * own;
    let kept = if half { ", f16" } else { "" };
    let case = format!("{name} {rows} on {}, {q} of {width}{kept}", prefix + own);
    let work = Work {
        flops: 4 * rows * (prefix + own) * q * width,
        bytes: 4 * width * (2 * rows * q + 2 * keys * kv / if half { 2 } else { 1 }),
    };
    let kernel = match splits(bench.gpu, rows, keys, heads) {
        Some(_) => "attention_split",
        None => "attention_spans",
    };
    bench.row(kernel, case, work, |gpu| {
        let (q_cols, kv_cols) = (q * width, kv * width);
        let q = random(1, rows * q_cols);
        let (mut k, mut v) = (random(2, keys * kv_cols), random(3, keys * kv_cols));
        if half {
            for kept in [&mut k, &mut v] {
                *kept = naive::unpack_half(&naive::pack_half(kept));
            }
        }
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
        let q = upload(gpu, [rows, q_cols], &q)?;
        let kept = |values: &[f32]| match half {
            true => upload(gpu, [keys, kv_cols / 2], &naive::pack_half(values)),
            false => upload(gpu, [keys, kv_cols], values),
        };
        let (k, v) = (kept(&k)?, kept(&v)?);
        let span = upload(gpu, [rows, 2], spans.as_flattened())?;
        Ok(Trial::new(0, want, move |rec| {
            let columns = if half { Columns::halves } else { Columns::all };
            let (q, k, v) = (Columns::all(&q), columns(&k), columns(&v));
            attention_spans(rec, q, k, v, &span, prefix, heads)
        }))
    })
}

fn rope_row(bench: &mut Bench) -> Result<()> {
    let heads = Heads {
        q: 9,
        kv: 3,
        width: 64,
    };
    let (tokens, row, kv_cols) = (64, 15 * 64, 3 * 64);
    let work = Work {
        flops: 3 * tokens * 12 * 64,
        bytes: 8 * tokens * row,
    };
    let case = format!("{tokens} tokens, 9 + 2 x 3 heads of 64");
    bench.row("rope_cache", case.clone(), work, |gpu| {
        let qkv = random(1, tokens * row);
        let order: Vec<u32> = (0..tokens as u32).collect();
        let (mut k, mut v) = (vec![0.0; tokens * kv_cols], vec![0.0; tokens * kv_cols]);
        let frequency = naive::rope_frequencies(heads.width, 1e5);
        let into = (&mut k[..], &mut v[..]);
        let want = naive::rope_cache(&qkv, &order, &order, heads, &frequency, 1.0, false, into);
        let qkv = upload(gpu, [tokens, row], &qkv)?;
        let order = upload(gpu, tokens, &order)?;
        let k = upload(gpu, [tokens, kv_cols], &k)?;
        let v = upload(gpu, [tokens, kv_cols], &v)?;
        let frequency = upload(gpu, frequency.len(), &frequency)?;
        Ok(Trial::new(0, want, move |rec| {
            let rotation = Rotation {
                frequency: &frequency,
                scale: 1.0,
                pairs: Pairs::Neighbours,
            };
            rope_cache(rec, &qkv, &order, &order, heads, rotation, (&k, &v))
        }))
    })?;
    bench.row("head_norm", case, work, |gpu| {
        let (x, weight) = (random(1, tokens * row), random(2, 2 * heads.width));
        let want = naive::head_norm(&x, &weight, heads, 1e-6);
        let x = upload(gpu, [tokens, row], &x)?;
        let weight = upload(gpu, [2, heads.width], &weight)?;
        Ok(Trial::new(0, want, move |rec| {
            head_norm(rec, &x, &weight, heads, 1e-6)
        }))
    })
}
