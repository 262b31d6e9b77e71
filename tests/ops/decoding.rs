//! Attention of rows with spans of their own, and the cache they read.

use super::attention::{Stacked, heads};

use super::*;

#[track_caller]
fn check_attention_spans(spans: &[[u32; 2]], prefix: usize, keys: usize, heads: Heads) {
    let mut random = Random::new((spans.len() * 1009 + prefix + heads.width) as u64);
    let (q_cols, kv_cols) = (heads.q * heads.width, heads.kv * heads.width);
    let q = Stacked {
        values: random
            .values(spans.len() * (q_cols + 8))
            .iter()
            .map(|v| 3.0 * v)
            .collect(),
        stride: q_cols + 8,
    };
    let (k, v) = (random.values(keys * kv_cols), random.values(keys * kv_cols));
    spans_equal(&q, [&k, &v], spans, prefix, heads, false);
    if kv_cols.is_multiple_of(8) {
        let kept = |values: &[f32]| naive::unpack_half(&naive::pack_half(values));
        spans_equal(&q, [&kept(&k), &kept(&v)], spans, prefix, heads, true);
    }
}

/// One case, its keys and values kept as f32 or, where they are such numbers, as f16.
#[track_caller]
fn spans_equal(
    q: &Stacked,
    [k, v]: [&[f32]; 2],
    spans: &[[u32; 2]],
    prefix: usize,
    heads: Heads,
    half: bool,
) {
    let kv_cols = heads.kv * heads.width;
    let keys = k.len() / kv_cols;
    let plain = |values| naive::Columns {
        values,
        stride: kv_cols,
        first: 0,
    };
    let want = naive::attention_spans(q.columns(8), plain(k), plain(v), spans, prefix, heads);
    // As it is, which for few rows is split, and split in so many shares.
    for splits in [None, Some(1), Some(2), Some(7)] {
        if splits.is_some() && spans.len() > 60_000 / heads.q {
            continue;
        }
        let rec = gpu().record("attention_spans");
        let q = staged(&rec, [spans.len(), q.stride], &q.values);
        let kept = |values: &[f32]| match half {
            false => staged(&rec, [keys, kv_cols], values),
            true => upload([keys, kv_cols / 2], &naive::pack_half(values)),
        };
        let (k, v) = (kept(k), kept(v));
        let columns = if half { Columns::halves } else { Columns::all };
        let span = upload([spans.len(), 2], spans.as_flattened());
        check(rec, &want, 1e-5, 1e-5, |rec| {
            poison_four(rec, want.len());
            let (q, k, v) = (Columns::from(&q, 8), columns(&k), columns(&v));
            match splits {
                None => attention_spans(rec, q, k, v, &span, prefix, heads),
                Some(n) => attention_split(rec, q, k, v, &span, prefix, heads, n),
            }
        });
    }
}

#[test]
fn attention_spans_at_every_edge() {
    for width in [4, 8, 12, 16, 48, 64, 80, 128] {
        for prefix in [0, 1, 5, 64] {
            // The tiled kernel, which reads the prefix, takes heads of whole vec4 pairs.
            if prefix > 0 && width % 8 != 0 {
                continue;
            }
            let spans = [
                [64, 1],
                [65, 2],
                [70, 3],
                [64, 4],
                [64, 67],
                [100, 31],
                [130, 1],
            ];
            check_attention_spans(&spans, prefix, 131, heads(3, 1, width));
        }
    }
    // Prefill: row i sees itself and all before; a row whose prefix is all it sees.
    let prefill: Vec<[u32; 2]> = (0..37).map(|i| [11, i + 1]).collect();
    check_attention_spans(&prefill, 11, 48, heads(9, 3, 16));
    check_attention_spans(&[[5, 0], [3, 0]], 5, 5, heads(2, 2, 8));
    // Rows that see nothing, few and many.
    check_attention_spans(&[[2, 0], [0, 5]], 0, 5, heads(2, 1, 8));
    check_attention_spans(&[[2, 0]; 9], 0, 5, heads(2, 1, 8));
    // Up to four heads share the loads of k and v; five and more are two workgroups.
    for group in [1, 2, 3, 4, 5, 7, 8, 9] {
        check_attention_spans(&[[3, 127], [64, 3]], 2, 131, heads(2 * group, 2, 16));
    }
    for width in [32, 48, 64, 72, 80, 96, 128] {
        check_attention_spans(&[[0, 131], [64, 3], [130, 1]], 3, 131, heads(4, 2, width));
    }
    // Heads that only the splitting kernel takes.
    for width in [160, 256] {
        check_attention_spans(&[[0, 131], [64, 3], [130, 1]], 3, 131, heads(4, 1, width));
    }
    // Longer shares than workgroup memory holds.
    check_attention_spans(&[[5, 1990]], 5, 2000, heads(6, 2, 8));
    // As many keys as a row may see.
    let most = MOST_KEYS as u32;
    check_attention_spans(
        &[[0, most], [2, most - 1]],
        0,
        MOST_KEYS + 1,
        heads(2, 1, 8),
    );
    check_attention_spans(&[[1000, most - 900]], 900, 2200, heads(1, 1, 64));
}

#[test]
fn attention_spans_over_more_groups_than_one_dimension_holds() {
    let spans: Vec<[u32; 2]> = (0..32_771).map(|i| [i % 5, 1 + i % 3]).collect();
    check_attention_spans(&spans, 0, 8, heads(2, 1, 4));
}

#[test]
fn attention_merge_at_every_edge() {
    for (splits, rows, heads, width) in [(1, 1, 1, 4), (2, 1, 9, 64), (7, 3, 2, 12), (33, 2, 5, 80)]
    {
        let mut random = Random::new(splits as u64);
        let part = random.values(splits * rows * heads * width);
        let mut state: Vec<f32> = (0..splits * rows * heads)
            .flat_map(|_| [60.0 * random.value(), 2.0 + random.value()])
            .collect();
        // The first row and head saw nothing, the last nothing in its first share.
        for split in 0..splits {
            state[2 * split * rows * heads..][..2].copy_from_slice(&[-1e30, 0.0]);
        }
        state[2 * rows * heads - 2..][..2].copy_from_slice(&[-1e30, 0.0]);
        let want = naive::attention_merge(&part, &state, splits, width);
        let rec = gpu().record("attention_merge");
        let part = staged(&rec, [splits, rows, heads * width], &part);
        let state = upload([splits, rows, heads, 2], &state);
        check(rec, &want, 1e-6, 1e-6, |rec| {
            attention_merge(rec, &part, &state)
        });
    }
}

#[test]
fn attention_spans_like_pytorch() {
    let golden = Golden::open("attention");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let heads = heads(number("heads"), number("kv_heads"), number("head_dim"));
        let (batch, rows, keys) = (number("batch"), number("rows"), number("keys"));
        let causal = scalars["causal"].as_bool().unwrap();
        let span: Vec<u32> = (0..batch * rows)
            .flat_map(|r| {
                let count = if causal {
                    keys - rows + r % rows + 1
                } else {
                    keys
                };
                [(r / rows * keys) as u32, count as u32]
            })
            .collect();
        let span = upload([batch * rows, 2], &span);
        let rec = gpu().record("attention_spans");
        let tensor = |role: &str, rows: usize, heads: usize, width: usize| {
            staged(
                &rec,
                [batch * rows, heads * width],
                &golden.values(case, role),
            )
        };
        let q = tensor("q", rows, heads.q, heads.width);
        let (k, v) = (
            tensor("k", keys, heads.kv, heads.width),
            tensor("v", keys, heads.kv, heads.width),
        );
        check(rec, &golden.values(case, "y"), 2e-5, 2e-5, |rec| {
            attention_spans(
                rec,
                Columns::all(&q),
                Columns::all(&k),
                Columns::all(&v),
                &span,
                0,
                heads,
            )
        });
    }
}

#[track_caller]
fn check_rope_cache(
    tokens: usize,
    heads: Heads,
    (theta, scale): (f64, f32),
    slots: usize,
    most: usize,
    pairs: Pairs,
) {
    let mut random = Random::new((tokens * 97 + heads.width) as u64);
    let row = (heads.q + 2 * heads.kv) * heads.width;
    let kv_cols = heads.kv * heads.width;
    let qkv = random.values(tokens * row);
    let position: Vec<u32> = (0..tokens).map(|_| random.below(most + 1) as u32).collect();
    // Backwards, so that position, slot and row differ.
    let slot: Vec<u32> = (0..tokens).map(|t| (slots - 1 - t) as u32).collect();
    let before = random.values(slots * kv_cols);
    let (mut k_want, mut v_want) = (before.clone(), before.clone());
    let frequency = naive::rope_frequencies(heads.width, theta);
    let want = naive::rope_cache(
        &qkv,
        &position,
        &slot,
        heads,
        &frequency,
        f64::from(scale),
        pairs == Pairs::Halves,
        (&mut k_want, &mut v_want),
    );
    let rec = gpu().record("rope_cache");
    let qkv = staged(&rec, [tokens, row], &qkv);
    let (position, slot) = (upload(tokens, &position), upload(tokens, &slot));
    let k_cache = upload([slots, kv_cols], &before);
    let v_cache = upload([slots, kv_cols], &before);
    let frequency = staged(&rec, frequency.len(), &frequency);
    let rotation = Rotation {
        frequency: &frequency,
        scale,
        pairs,
    };
    // An angle up to `most` is held to 2⁻²⁴ of itself.
    let abs = 1e-5 + 2e-7 * most as f64;
    check(rec, &want, abs, 1e-5, |rec| {
        let caches = (&k_cache, &v_cache);
        rope_cache(rec, &qkv, &position, &slot, heads, rotation, caches)
    });
    let caches = read::<f32>(gpu().record("rope_cache"), &[&k_cache, &v_cache]);
    close(&caches[0], &k_want, abs, 1e-5);
    assert_eq!(caches[1], v_want, "v is copied");
    if kv_cols.is_multiple_of(8) {
        let rec = gpu().record("rope_cache");
        let packed = naive::pack_half(&before);
        let [k_cache, v_cache] = [0; 2].map(|_| upload([slots, kv_cols / 2], &packed));
        check(rec, &want, abs, 1e-5, |rec| {
            let caches = (Columns::halves(&k_cache), Columns::halves(&v_cache));
            rope_cache(rec, &qkv, &position, &slot, heads, rotation, caches)
        });
        let caches = read::<u32>(gpu().record("rope_cache"), &[&k_cache, &v_cache]);
        // Rounded to eleven bits, from a value that is off by `abs`.
        let rel = 2f64.powi(-11);
        close(
            &naive::unpack_half(&caches[0]),
            &k_want,
            abs + 1e-7,
            1e-5 + rel,
        );
        close(&naive::unpack_half(&caches[1]), &v_want, 1e-7, rel);
    }
}

#[test]
fn rope_cache_at_every_edge() {
    for (tokens, slots) in [(1, 1), (1, 9), (3, 7), (64, 65), (131, 140)] {
        for pairs in [Pairs::Neighbours, Pairs::Halves] {
            check_rope_cache(tokens, heads(3, 1, 64), (1e5, 1.0), slots, 100, pairs);
            check_rope_cache(tokens, heads(2, 2, 8), (1e4, 1.25), slots, 2047, pairs);
            check_rope_cache(tokens, heads(3, 3, 24), (1e4, 0.5), slots, 50, pairs);
        }
        check_rope_cache(
            tokens,
            heads(9, 3, 4),
            (1e4, 1.0),
            slots,
            3,
            Pairs::Neighbours,
        );
    }
}

#[test]
fn rope_cache_like_pytorch() {
    let golden = Golden::open("rope");
    for (case, scalars) in &golden.cases {
        let pairs = match scalars["style"].as_str() {
            Some("interleaved") => Pairs::Neighbours,
            _ => Pairs::Halves,
        };
        let n = scalars["heads"].as_u64().unwrap() as usize;
        let width = scalars["head_dim"].as_u64().unwrap() as usize;
        let position = golden.numbers(case, "positions");
        let (x, want) = (golden.values(case, "x"), golden.values(case, "y"));
        let cols = n * width;
        let qkv: Vec<f32> = x
            .chunks_exact(cols)
            .flat_map(|row| [row, row, row].concat())
            .collect();
        let tokens = position.len();
        let slot: Vec<u32> = (0..tokens as u32).collect();
        let rec = gpu().record("rope_cache");
        let qkv = staged(&rec, [tokens, 3 * cols], &qkv);
        let (position, slot) = (upload(tokens, &position), upload(tokens, &slot));
        let k_cache = upload([tokens, cols], &vec![f32::NAN; x.len()]);
        let v_cache = upload([tokens, cols], &vec![f32::NAN; x.len()]);
        let frequency = naive::rope_frequencies(width, scalars["theta"].as_f64().unwrap());
        let frequency = staged(&rec, width / 2, &frequency);
        let rotation = Rotation {
            frequency: &frequency,
            scale: 1.0,
            pairs,
        };
        // Positions reach 2047, where an f32 angle is off by 1e-4.
        let abs = if width == 64 { 3e-4 } else { 1e-5 };
        check(rec, &want, abs, 1e-5, |rec| {
            let caches = (&k_cache, &v_cache);
            rope_cache(
                rec,
                &qkv,
                &position,
                &slot,
                heads(n, n, width),
                rotation,
                caches,
            )
        });
        let caches = read::<f32>(gpu().record("rope_cache"), &[&k_cache, &v_cache]);
        close(&caches[0], &want, abs, 1e-5);
        assert_eq!(caches[1], x);
    }
}
