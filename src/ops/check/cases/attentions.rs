//! Attentions, and what is done to queries, keys and values.

use super::subgroup_team;
use crate::error::Result;
use crate::gpu::{Gpu, Recorder, Variant};
use crate::ops::check::inputs::{random, upload};
use crate::ops::check::{Ran, values};
use crate::ops::{
    Added, Columns, HEAD_NORM, HEAD_NORM_SUBGROUP, Heads, Pairs, Rotation, Scores,
    attention_broadcast, attention_coop, attention_merge, attention_narrow, attention_spans,
    attention_split, attention_tile, head_norm_by, joined_windows, naive, plain_team, rel_pos,
    rope_cache, unpack_half, windows,
};
use crate::tensor::Tensor;

type Attention = fn(&Recorder, Columns, Columns, Columns, Heads, usize, Scores) -> Tensor;

/// All that hides keys, then what places add: two programs, for the switches are many. An accumulator that a driver does not carry rightly over the blocks of keys
/// shows in the last rows, which go through five of 64 and ten of 32.
fn attend(gpu: &Gpu, heads: Heads, op: Attention) -> Result<Ran> {
    let (batch, queries, keys) = (2, 33, 300);
    let columns = 12;
    let (q_cols, kv_cols) = (heads.q * heads.width, heads.kv * heads.width);
    let q: Vec<f32> = random(4, batch * queries * q_cols)
        .iter()
        .map(|v| 3.0 * v)
        .collect();
    let kv = random(5, batch * keys * 2 * kv_cols);
    // The last row sees no key.
    let mut bias = random(48, queries * keys);
    bias[(queries - 1) * keys..].fill(f32::MIN);
    let places = random(49, batch * heads.q * (keys / columns + columns) * 36);
    let wanted = [
        naive::Scores {
            causal: true,
            window: Some(40),
            bias: Some((&bias, 1, &[0])),
            places: None,
        },
        naive::Scores {
            places: Some((&places, columns)),
            ..false.into()
        },
    ];
    let plain = |values, stride, first| naive::Columns {
        values,
        stride,
        first,
    };
    let mut want = Vec::new();
    for scores in wanted {
        want.extend(naive::attention(
            plain(&q, q_cols, 0),
            plain(&kv, 2 * kv_cols, 0),
            plain(&kv, 2 * kv_cols, kv_cols),
            heads,
            batch,
            scores,
        ));
    }
    let q = upload(gpu, [batch * queries, q_cols], &q)?;
    let kv = upload(gpu, [batch * keys, 2 * kv_cols], &kv)?;
    let bias = upload(gpu, [1, 1, queries, keys], &bias)?;
    let places = upload(gpu, [batch, heads.q, keys / columns + columns, 36], &places)?;
    values(gpu, want, |rec| {
        let (k, v) = (Columns::all(&kv), Columns::from(&kv, kv_cols));
        let bias = Added::Bias {
            bias: &bias,
            kind: None,
        };
        let places = Added::Relative {
            places: &places,
            columns,
        };
        let asked = [
            Scores {
                causal: true,
                window: Some(40),
                added: bias,
            },
            Scores {
                added: places,
                ..false.into()
            },
        ];
        let run = |scores| op(rec, Columns::all(&q), k, v, heads, batch, scores);
        asked.map(run).into()
    })
}

/// Grouped heads of so many columns.
const fn grouped(width: usize) -> Heads {
    Heads { q: 4, kv: 2, width }
}

pub(super) fn check_attention(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    attend(gpu, grouped(40), attention_tile)
}

pub(super) fn check_attention_broadcast(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    attend(gpu, grouped(40), attention_broadcast)
}

pub(super) fn check_attention_coop(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    // Whole tiles of either size, the last of their three blocks of 32 columns half a block.
    attend(gpu, grouped(80), attention_coop)
}

pub(super) fn check_attention_merge(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (splits, rows, heads, width) = (5, 3, 7, 12);
    let part = random(50, splits * rows * heads * width);
    // Sums of at least 1; of one row and head nothing was seen.
    let mut state: Vec<f32> = random(51, splits * rows * heads * 2)
        .chunks_exact(2)
        .flat_map(|pair| [20.0 * pair[0], 2.0 + pair[1]])
        .collect();
    for split in 0..splits {
        state[2 * split * rows * heads..][..2].copy_from_slice(&[-1e30, 0.0]);
    }
    let want = naive::attention_merge(&part, &state, splits, width);
    let part = upload(gpu, [splits, rows, heads * width], &part)?;
    let state = upload(gpu, [splits, rows, heads, 2], &state)?;
    values(gpu, want, |rec| vec![attention_merge(rec, &part, &state)])
}

pub(super) fn check_attention_narrow(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let heads = Heads {
        q: 3,
        kv: 3,
        width: 16,
    };
    let (batch, queries, keys, cols) = (2, 33, 65, 3 * 16);
    let q: Vec<f32> = random(4, batch * queries * cols)
        .iter()
        .map(|v| 3.0 * v)
        .collect();
    let kv = random(5, batch * keys * 2 * cols);
    let plain = |values, stride, first| naive::Columns {
        values,
        stride,
        first,
    };
    let want = naive::attention_narrow(
        plain(&q, cols, 0),
        plain(&kv, 2 * cols, 0),
        plain(&kv, 2 * cols, cols),
        heads,
        batch,
    );
    let q = upload(gpu, [batch * queries, cols], &q)?;
    let kv = upload(gpu, [batch * keys, 2 * cols], &kv)?;
    values(gpu, want, |rec| {
        let (k, v) = (Columns::all(&kv), Columns::from(&kv, cols));
        vec![attention_narrow(rec, Columns::all(&q), k, v, heads, batch)]
    })
}

/// Spans that all rows see a prefix beside, by one kernel or another: the last of them is many blocks of keys.
fn attend_spans(
    gpu: &Gpu,
    spans: &[[u32; 2]],
    op: fn(&Recorder, [Columns; 3], &Tensor, usize, Heads) -> Tensor,
) -> Result<Ran> {
    let heads = Heads {
        q: 9,
        kv: 3,
        width: 64,
    };
    let (q_cols, kv_cols, keys, prefix) = (9 * 64, 3 * 64, 1300, 37);
    let q_values: Vec<f32> = random(6, spans.len() * q_cols)
        .iter()
        .map(|v| 3.0 * v)
        .collect();
    let (k_values, v_values) = (random(7, keys * kv_cols), random(8, keys * kv_cols));
    let columns = |values, stride| naive::Columns {
        values,
        stride,
        first: 0,
    };
    let mut want = naive::attention_spans(
        columns(&q_values, q_cols),
        columns(&k_values, kv_cols),
        columns(&v_values, kv_cols),
        spans,
        prefix,
        heads,
    );
    let q = upload(gpu, [spans.len(), q_cols], &q_values)?;
    let (k, v) = (
        upload(gpu, [keys, kv_cols], &k_values)?,
        upload(gpu, [keys, kv_cols], &v_values)?,
    );
    let span = upload(gpu, [spans.len(), 2], spans.as_flattened())?;
    // The same once more with keys and values kept as f16.
    let kept = |values: &[f32]| naive::unpack_half(&naive::pack_half(values));
    let half = [kept(&k_values), kept(&v_values)];
    want.extend(naive::attention_spans(
        columns(&q_values, q_cols),
        columns(&half[0], kv_cols),
        columns(&half[1], kv_cols),
        spans,
        prefix,
        heads,
    ));
    let packed = |values: &[f32]| upload(gpu, [keys, kv_cols / 2], &naive::pack_half(values));
    let (k_half, v_half) = (packed(&k_values)?, packed(&v_values)?);
    values(gpu, want, |rec| {
        let all = [&q, &k, &v].map(Columns::all);
        let half = [
            Columns::all(&q),
            Columns::halves(&k_half),
            Columns::halves(&v_half),
        ];
        [all, half]
            .map(|kept| op(rec, kept, &span, prefix, heads))
            .into()
    })
}

pub(super) fn check_attention_spans(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    // So many rows that they are not split.
    let spans: Vec<[u32; 2]> = (0..9).map(|r| [37 + r, 1 + r * r * 15]).collect();
    attend_spans(gpu, &spans, |rec, [q, k, v], span, prefix, heads| {
        attention_spans(rec, q, k, v, span, prefix, heads)
    })
}

pub(super) fn check_attention_split(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let spans = [[38, 2], [100, 1200]];
    attend_spans(gpu, &spans, |rec, [q, k, v], span, prefix, heads| {
        attention_split(rec, q, k, v, span, prefix, heads, 2)
    })
}

pub(super) fn check_rel_pos(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (batch, lines, columns) = (2, 3, 9);
    let q = random(44, batch * lines * columns * 4 * 40);
    let tables = [
        random(45, (2 * lines - 1) * 40),
        random(46, (2 * columns - 1) * 40),
    ];
    let plain = naive::Columns {
        values: &q,
        stride: 160,
        first: 0,
    };
    let want = naive::rel_pos(plain, grouped(40), batch, [&tables[0], &tables[1]]);
    let q = upload(gpu, [batch * lines * columns, 160], &q)?;
    let down = upload(gpu, [2 * lines - 1, 40], &tables[0])?;
    let across = upload(gpu, [2 * columns - 1, 40], &tables[1])?;
    values(gpu, want, |rec| {
        vec![rel_pos(
            rec,
            Columns::all(&q),
            grouped(40),
            batch,
            [&down, &across],
        )]
    })
}

pub(super) fn check_rope_cache(gpu: &Gpu, format: &'static str) -> Result<Ran> {
    let heads = Heads {
        q: 9,
        kv: 3,
        width: 64,
    };
    let (tokens, slots, kv_cols) = (7, 11, 3 * 64);
    let row = 15 * 64;
    let qkv = random(37, tokens * row);
    let position: Vec<u32> = (0..tokens as u32).map(|t| 29 * t).collect();
    let slot: Vec<u32> = (0..tokens as u32).map(|t| 10 - t).collect();
    let frequency = naive::rope_frequencies(heads.width, 1e5);
    let both = [Pairs::Neighbours, Pairs::Halves];
    let mut want = Vec::new();
    let mut caches = Vec::new();
    for pairs in both {
        let (mut k, mut v) = (random(38, slots * kv_cols), random(39, slots * kv_cols));
        let kept = |values: &[f32]| match format {
            "f16" => upload(gpu, [slots, kv_cols / 2], &naive::pack_half(values)),
            _ => upload(gpu, [slots, kv_cols], values),
        };
        caches.push((kept(&k)?, kept(&v)?));
        let halves = pairs == Pairs::Halves;
        let into = (&mut k[..], &mut v[..]);
        want.extend(naive::rope_cache(
            &qkv, &position, &slot, heads, &frequency, 1.25, halves, into,
        ));
        want.extend(k);
        want.extend(v);
    }
    let qkv = upload(gpu, [tokens, row], &qkv)?;
    let (position, slot) = (upload(gpu, tokens, &position)?, upload(gpu, tokens, &slot)?);
    let frequency = upload(gpu, frequency.len(), &frequency)?;
    values(gpu, want, |rec| {
        let mut got = Vec::new();
        for (pairs, (k, v)) in both.into_iter().zip(&caches) {
            let rotation = Rotation {
                frequency: &frequency,
                scale: 1.25,
                pairs,
            };
            let half = format == "f16";
            let columns = if half { Columns::halves } else { Columns::all };
            let into = (columns(k), columns(v));
            got.push(rope_cache(
                rec, &qkv, &position, &slot, heads, rotation, into,
            ));
            got.extend([k, v].map(|kept| match half {
                true => unpack_half(rec, kept, slots),
                false => kept.clone(),
            }));
        }
        got
    })
}

pub(super) fn check_head_norm(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_head_norm_by(gpu, &plain_team(gpu, &HEAD_NORM))
}

pub(super) fn check_head_norm_subgroup(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    check_head_norm_by(gpu, &subgroup_team(gpu, &HEAD_NORM_SUBGROUP))
}

fn check_head_norm_by(gpu: &Gpu, team: &Variant) -> Result<Ran> {
    let heads = Heads {
        q: 5,
        kv: 2,
        width: 36,
    };
    let (x, w) = (random(51, 7 * 9 * 36), random(52, 2 * 36));
    let want = naive::head_norm(&x, &w, heads, 1e-6);
    let (x, w) = (upload(gpu, [7, 9 * 36], &x)?, upload(gpu, [2, 36], &w)?);
    values(gpu, want, |rec| {
        vec![head_norm_by(rec, team.clone(), &x, &w, heads, 1e-6)]
    })
}

pub(super) fn check_windows(gpu: &Gpu, _: &'static str) -> Result<Ran> {
    let (size, side, shift) = ([2, 7, 10, 12], 4, 1);
    let x = random(47, size.iter().product());
    let mut want = naive::windows(&x, size, side, shift);
    want.extend(&x);
    let x = upload(gpu, size, &x)?;
    values(gpu, want, |rec| {
        let cut = windows(rec, &x, side, shift);
        let whole = joined_windows(rec, &cut, [2, 7, 10], side, shift);
        vec![cut, whole]
    })
}
