//! Attentions of image tokens, prompts and texts.

use super::{Bench, Trial, Work};
use crate::error::Result;
use crate::ops::check::inputs::{random, upload};
use crate::ops::naive::Columns as Plain;
use crate::ops::{
    Columns, Heads, NARROW, attention, attention_broadcasts, attention_spans, naive, rope_cache,
};

fn plain(values: &[f32], stride: usize) -> Plain<'_> {
    Plain {
        values,
        stride,
        first: 0,
    }
}

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    for (name, batch, queries, keys, [q, kv, width], causal) in [
        ("image tokens", 1, 196, 196, [3, 3, 64], false),
        ("prompts to image", 1, 210, 196, [8, 8, 8], false),
        ("tokens of a prompt", 70, 3, 3, [8, 8, 16], false),
        ("causal", 1, 256, 256, [9, 3, 64], true),
        ("ViT-B at 224", 1, 196, 196, [12, 12, 64], false),
        ("ViT-B at 512", 1, 1024, 1024, [12, 12, 64], false),
        ("ViT-B at 1024", 1, 4096, 4096, [12, 12, 64], false),
        ("ViT-H windows", 25, 196, 196, [16, 16, 80], false),
        ("SAM tokens to image", 1, 7, 4096, [8, 8, 16], false),
        ("SAM image to tokens", 1, 4096, 7, [8, 8, 16], false),
        ("SmolLM2, 512 tokens", 1, 512, 512, [9, 3, 64], true),
    ] {
        let heads = Heads { q, kv, width };
        attention_row(bench, name, [batch, queries, keys], heads, causal)?;
    }
    // keys: a prefix for all rows, then a run for each of some groups of rows
    for (name, rows, prefix, own, groups, [q, kv, width]) in [
        ("decoding", 1, 0, 512, 1, [9, 3, 64]),
        ("prefill on a prefix", 64, 100, 64, 1, [9, 3, 64]),
        ("tokens of a prompt", 210, 0, 3, 70, [8, 8, 16]),
    ] {
        let heads = Heads { q, kv, width };
        spans_row(bench, name, [rows, prefix, own, groups], heads)?;
    }
    rope_row(bench)
}

fn attention_row(
    bench: &mut Bench,
    name: &str,
    [batch, queries, keys]: [usize; 3],
    heads: Heads,
    causal: bool,
) -> Result<()> {
    let Heads { q, kv, width } = heads;
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
    let kernel = match () {
        () if width <= NARROW && !causal => "attention_narrow",
        () if attention_broadcasts(bench.gpu, heads) => "attention_broadcast",
        () => "attention",
    };
    bench.row(kernel, case, work, |gpu| {
        let (q_cols, kv_cols) = (q * width, kv * width);
        let x = random(1, batch * queries * q_cols);
        let k = random(2, batch * keys * kv_cols);
        let v = random(3, batch * keys * kv_cols);
        // Of many queries the last is enough, on the keys of the last group.
        let first = (batch * queries - 1) * q_cols;
        let own = (batch - 1) * keys * kv_cols;
        let want = naive::attention(
            plain(&x[first..], q_cols),
            plain(&k[own..], kv_cols),
            plain(&v[own..], kv_cols),
            heads,
            1,
            causal,
        );
        let x = upload(gpu, [batch * queries, q_cols], &x)?;
        let k = upload(gpu, [batch * keys, kv_cols], &k)?;
        let v = upload(gpu, [batch * keys, kv_cols], &v)?;
        Ok(Trial::new(first, want, move |rec| {
            let [q, k, v] = [&x, &k, &v].map(Columns::all);
            attention(rec, q, k, v, heads, batch, causal)
        }))
    })
}

fn spans_row(
    bench: &mut Bench,
    name: &str,
    [rows, prefix, own, groups]: [usize; 4],
    heads: Heads,
) -> Result<()> {
    let Heads { q, kv, width } = heads;
    let keys = prefix + groups * own;
    let case = format!("{name} {rows} on {}, {q} of {width}", prefix + own);
    let work = Work {
        flops: 4 * rows * (prefix + own) * q * width,
        bytes: 4 * width * (2 * rows * q + 2 * keys * kv),
    };
    bench.row("attention_spans", case, work, |gpu| {
        let (q_cols, kv_cols) = (q * width, kv * width);
        let q = random(1, rows * q_cols);
        let (k, v) = (random(2, keys * kv_cols), random(3, keys * kv_cols));
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
        let k = upload(gpu, [keys, kv_cols], &k)?;
        let v = upload(gpu, [keys, kv_cols], &v)?;
        let span = upload(gpu, [rows, 2], spans.as_flattened())?;
        Ok(Trial::new(0, want, move |rec| {
            let [q, k, v] = [&q, &k, &v].map(Columns::all);
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
    bench.row("rope_cache", case, work, |gpu| {
        let qkv = random(1, tokens * row);
        let order: Vec<u32> = (0..tokens as u32).collect();
        let (mut k, mut v) = (vec![0.0; tokens * kv_cols], vec![0.0; tokens * kv_cols]);
        let want = naive::rope_cache(&qkv, &order, &order, heads, 1e5, (&mut k, &mut v));
        let qkv = upload(gpu, [tokens, row], &qkv)?;
        let order = upload(gpu, tokens, &order)?;
        let k = upload(gpu, [tokens, kv_cols], &k)?;
        let v = upload(gpu, [tokens, kv_cols], &v)?;
        Ok(Trial::new(0, want, move |rec| {
            rope_cache(rec, &qkv, &order, &order, heads, 1e5, (&k, &v))
        }))
    })
}
