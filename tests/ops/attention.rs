//! Attention of blocks of rows.

use super::linear::cooperative;
use super::*;

/// q, k and v beside each other in one tensor, as a stacked product writes them.
pub(super) struct Stacked {
    pub(super) values: Vec<f32>,
    pub(super) stride: usize,
}

impl Stacked {
    pub(super) fn columns(&self, first: usize) -> naive::Columns<'_> {
        naive::Columns {
            values: &self.values,
            stride: self.stride,
            first,
        }
    }
}

/// What a case adds to the scores.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Adds {
    Nothing,
    /// Kinds of a bias, and its heads.
    Bias(usize, usize),
    /// Columns of the keys' grid.
    Places(usize),
}

#[track_caller]
fn check_attention(batch: usize, queries: usize, keys: usize, heads: Heads, causal: bool) {
    let sizes = [batch, queries, keys];
    check_scores(sizes, heads, (causal, None), Adds::Nothing);
}

type Attention = for<'a> fn(
    &Recorder,
    Columns<'a>,
    Columns<'a>,
    Columns<'a>,
    Heads,
    usize,
    Scores<'a>,
) -> Tensor;

/// Which attention is checked, and how.
#[derive(Clone, Copy)]
struct Judged<'g> {
    gpu: &'g Gpu,
    op: Attention,
    tolerance: f64,
    /// Whether q, k and v are multiples of 1/16, which f16 holds.
    coarse: bool,
}

/// An attention with all that may become of its scores; what pads a bias or places is NaN.
#[track_caller]
fn check_scores(
    sizes: [usize; 3],
    heads: Heads,
    (causal, window): (bool, Option<usize>),
    adds: Adds,
) {
    let judged = Judged {
        gpu: gpu(),
        op: |rec, q, k, v, heads, batch, scores| attention(rec, q, k, v, heads, batch, scores),
        tolerance: 1e-5,
        coarse: false,
    };
    judged.check_scores(sizes, heads, (causal, window), adds);
}

impl Judged<'_> {
    #[track_caller]
    fn check_scores(
        &self,
        [batch, queries, keys]: [usize; 3],
        heads: Heads,
        (causal, window): (bool, Option<usize>),
        adds: Adds,
    ) {
        let mut random = Random::new((queries * 1009 + keys * 31 + heads.width) as u64);
        let mut values = |count: usize| -> Vec<f32> {
            let plain = random.values(count);
            match self.coarse {
                true => plain.iter().map(|v| (16.0 * v).round() / 16.0).collect(),
                false => plain,
            }
        };
        let (q_cols, kv_cols) = (heads.q * heads.width, heads.kv * heads.width);
        // k and v are stacked, k last, with 4 columns of something else before them.
        let q = Stacked {
            values: values(batch * queries * q_cols)
                .iter()
                .map(|v| 3.0 * v)
                .collect(),
            stride: q_cols,
        };
        let kv = Stacked {
            values: values(batch * keys * (4 + 2 * kv_cols)),
            stride: 4 + 2 * kv_cols,
        };
        let (v_first, k_first) = (4, 4 + kv_cols);
        let mut want = naive::Scores {
            causal,
            window,
            ..naive::Scores::default()
        };
        // A bias hides one key in five, by one large number or another, and the second query of each head from all.
        let (mut bias, mut kinds, mut places) = (Vec::new(), Vec::new(), Vec::new());
        match adds {
            Adds::Nothing => {}
            Adds::Bias(kinds_of, bias_heads) => {
                for at in 0..kinds_of * bias_heads * queries * keys {
                    let hidden = [f32::MIN, f32::NEG_INFINITY, -2e30][at % 3];
                    let alone = queries > 1 && at / keys % queries == 1;
                    bias.push(match alone || random.below(5) == 0 {
                        true => hidden,
                        false => 4.0 * random.value(),
                    });
                }
                kinds = (0..batch.div_ceil(2))
                    .map(|_| random.below(kinds_of) as u32)
                    .collect();
                want.bias = Some((&bias, bias_heads, &kinds));
            }
            Adds::Places(columns) => {
                let rows = batch * heads.q * (keys / columns + columns);
                places = pad(
                    &random.values(rows * queries),
                    queries,
                    queries.next_multiple_of(4),
                );
                want.places = Some((&places, columns));
            }
        }
        let want = naive::attention(
            q.columns(0),
            kv.columns(k_first),
            kv.columns(v_first),
            heads,
            batch,
            want,
        );
        let rec = self.gpu.record("attention");
        let q = staged(&rec, [batch * queries, q.stride], &q.values);
        let kv = staged(&rec, [batch * keys, kv.stride], &kv.values);
        let padded = |values: &[f32], cols: usize| -> Vec<f32> {
            let rows = values.chunks_exact(cols);
            rows.flat_map(|row| {
                let more = cols.next_multiple_of(4) - cols;
                row.iter().copied().chain((0..more).map(|_| f32::NAN))
            })
            .collect()
        };
        let (added, kind) = match adds {
            Adds::Nothing => (None, None),
            Adds::Bias(kinds_of, bias_heads) => {
                let shape = [kinds_of, bias_heads, queries, keys.next_multiple_of(4)];
                let kind = (kinds_of > 1).then(|| upload_to(self.gpu, kinds.len(), &kinds));
                (Some(staged(&rec, shape, &padded(&bias, keys))), kind)
            }
            Adds::Places(columns) => {
                let (all, stride) = (keys / columns + columns, queries.next_multiple_of(4));
                for row in places.chunks_exact_mut(stride) {
                    row[queries..].fill(f32::NAN);
                }
                (
                    Some(staged(&rec, [batch, heads.q, all, stride], &places)),
                    None,
                )
            }
        };
        let scores = Scores {
            causal,
            window,
            added: match (adds, &added) {
                (Adds::Bias(..), Some(bias)) => Added::Bias {
                    bias,
                    kind: kind.as_ref(),
                },
                (Adds::Places(columns), Some(places)) => Added::Relative { places, columns },
                _ => Added::Nothing,
            },
        };
        let got = check(rec, &want, self.tolerance, self.tolerance, |rec| {
            let (k, v) = (Columns::from(&kv, k_first), Columns::from(&kv, v_first));
            (self.op)(rec, Columns::all(&q), k, v, heads, batch, scores)
        });
        if matches!(adds, Adds::Bias(..)) && queries > 1 {
            assert!(
                got[q_cols..2 * q_cols].iter().all(|v| *v == 0.0),
                "a row without keys"
            );
        }
    }
}

/// On a CPU adapter with subgroups of 8 lanes `attention` is this, and the tests reach its edges; asked for by
/// name it is the same.
#[test]
fn attention_broadcast_by_name() {
    if !(gpu().is_cpu() && gpu().subgroup_lanes() == Some(8)) {
        return;
    }
    let (heads, rows, keys) = (heads(3, 1, 24), 10, 12);
    let mut random = Random::new(24);
    let [q, k, v] = [rows * 72, keys * 24, keys * 24].map(|count| random.values(count));
    let plain = |values, stride| naive::Columns {
        values,
        stride,
        first: 0,
    };
    let (plain_q, plain_k, plain_v) = (plain(&q, 72), plain(&k, 24), plain(&v, 24));
    let want = naive::attention_broadcast(plain_q, plain_k, plain_v, heads, 2, true);
    let rec = gpu().record("attention_broadcast");
    let q = staged(&rec, [rows, 72], &q);
    let [k, v] = [&k, &v].map(|values| staged(&rec, [keys, 24], values));
    check(rec, &want, 1e-5, 1e-5, |rec| {
        let [q, k, v] = [&q, &k, &v].map(Columns::all);
        attention_broadcast(rec, q, k, v, heads, 2, true.into())
    });
}

/// Cooperative matrices, where the adapter has them: every width, all that may become of scores, rows and keys at the edges
/// of their blocks. Many keys: an accumulator that a driver carries wrongly from block to block shows.
#[test]
fn attention_coop_at_every_edge() {
    let Some((gpu, tolerance)) = cooperative() else {
        return;
    };
    let judged = Judged {
        gpu: &gpu,
        op: |rec, q, k, v, heads, batch, scores| attention_coop(rec, q, k, v, heads, batch, scores),
        // Probabilities are rounded to 11 bits, and weigh their own roundings.
        tolerance: tolerance.max(1e-3),
        coarse: true,
    };
    let plain = (false, None);
    for width in [16, 32, 48, 64, 80, 96, 112, 128] {
        judged.check_scores([1, 33, 300], heads(2, 2, width), plain, Adds::Nothing);
        judged.check_scores([2, 35, 35], heads(2, 1, width), plain, Adds::Places(7));
        judged.check_scores([2, 19, 37], heads(2, 1, width), plain, Adds::Bias(1, 2));
        judged.check_scores(
            [1, 67, 131],
            heads(3, 1, width),
            (true, Some(33)),
            Adds::Nothing,
        );
    }
    for (queries, keys) in [
        (1, 1),
        (7, 14),
        (31, 33),
        (32, 32),
        (33, 64),
        (65, 131),
        (8, 1025),
    ] {
        judged.check_scores([2, queries, keys], heads(4, 2, 64), plain, Adds::Nothing);
        judged.check_scores(
            [2, queries, keys],
            heads(2, 1, 80),
            (true, None),
            Adds::Nothing,
        );
        judged.check_scores([3, queries, keys], heads(2, 2, 16), plain, Adds::Bias(3, 2));
    }
    for window in [1, 31, 32, 33, 64, 1000] {
        judged.check_scores(
            [1, 97, 130],
            heads(2, 1, 16),
            (true, Some(window)),
            Adds::Nothing,
        );
    }
    // Tiles of 8 take widths between.
    if gpu.coop_tile().is_some_and(|tile| tile.ends_with('8')) {
        for width in [24, 40, 72, 104, 120] {
            judged.check_scores([1, 33, 67], heads(2, 1, width), (true, None), Adds::Nothing);
        }
    }
    // By itself the op takes it, and of narrow heads and few rows the others.
    let judged = Judged {
        op: |rec, q, k, v, heads, batch, scores| attention(rec, q, k, v, heads, batch, scores),
        ..judged
    };
    for (queries, width) in [(16, 64), (15, 64), (33, 8), (33, 72), (33, 136)] {
        judged.check_scores(
            [1, queries, 65],
            heads(2, 1, width),
            (true, None),
            Adds::Nothing,
        );
    }
}

/// Every width of the kernel for narrow heads, also those that `attention` would not give it.
#[test]
fn attention_narrow_at_every_edge() {
    for width in [4, 8, 12, 16] {
        for (batch, queries, keys) in [
            (1, 1, 1),
            (1, 2, 3),
            (3, 3, 3),
            (2, 7, 196),
            (1, 12, 9),
            (1, 210, 5),
            (70, 3, 4),
        ] {
            for heads in [heads(1, 1, width), heads(8, 8, width), heads(6, 2, width)] {
                let mut random = Random::new((queries * 1009 + keys * 31 + width) as u64);
                let (q_cols, kv_cols) = (heads.q * width, heads.kv * width);
                let q = random.values(batch * queries * q_cols);
                let k = random.values(batch * keys * kv_cols);
                let v = random.values(batch * keys * kv_cols);
                let plain = |values, stride| naive::Columns {
                    values,
                    stride,
                    first: 0,
                };
                let want = naive::attention_narrow(
                    plain(&q, q_cols),
                    plain(&k, kv_cols),
                    plain(&v, kv_cols),
                    heads,
                    batch,
                );
                let rec = gpu().record("attention_narrow");
                let q = staged(&rec, [batch * queries, q_cols], &q);
                let k = staged(&rec, [batch * keys, kv_cols], &k);
                let v = staged(&rec, [batch * keys, kv_cols], &v);
                check(rec, &want, 1e-5, 1e-5, |rec| {
                    let (q, k, v) = (Columns::all(&q), Columns::all(&k), Columns::all(&v));
                    attention_narrow(rec, q, k, v, heads, batch)
                });
            }
        }
    }
}

pub(super) fn heads(q: usize, kv: usize, width: usize) -> Heads {
    Heads { q, kv, width }
}

#[test]
fn attention_at_every_edge() {
    for width in [8, 16, 24, 32, 40, 48, 64, 72, 80, 96, 128, 136] {
        for (queries, keys) in [(1, 1), (3, 3), (7, 14), (9, 65), (33, 64), (65, 131)] {
            check_attention(1, queries, keys, heads(2, 2, width), false);
            check_attention(2, queries, keys, heads(2, 1, width), true);
        }
    }
    for keys in [1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 61, 63, 66, 129, 196] {
        check_attention(3, 3.min(keys), keys, heads(3, 1, 16), true);
        check_attention(3, 3, keys, heads(6, 2, 8), false);
    }
    for queries in [1, 8, 31, 32, 33, 63, 64, 97] {
        check_attention(2, queries, queries, heads(4, 2, 16), true);
        check_attention(2, queries, 11, heads(1, 1, 64), false);
    }
}

/// A causal row sees the last keys only: windows within a block of keys, over its edges and longer than all.
#[test]
fn attention_in_a_sliding_window() {
    for width in [8, 32, 48, 64, 72, 80, 96, 128] {
        check_scores(
            [1, 67, 131],
            heads(2, 1, width),
            (true, Some(33)),
            Adds::Nothing,
        );
    }
    for window in [1, 2, 31, 32, 33, 64, 65, 129, 1000] {
        for (queries, keys) in [(1, 1), (1, 130), (9, 97), (130, 130)] {
            let sizes = [2, queries, keys];
            check_scores(sizes, heads(2, 2, 16), (true, Some(window)), Adds::Nothing);
        }
    }
}

/// A bias of all heads or of each, of one kind or several, alone and with the causal mask.
#[test]
fn attention_with_a_bias() {
    for width in [8, 16, 32, 48, 64, 72, 80, 96, 128] {
        check_scores(
            [2, 19, 37],
            heads(2, 1, width),
            (false, None),
            Adds::Bias(1, 2),
        );
    }
    for (queries, keys) in [
        (1, 1),
        (2, 1),
        (5, 3),
        (17, 33),
        (33, 31),
        (49, 49),
        (70, 129),
    ] {
        check_scores(
            [3, queries, keys],
            heads(4, 2, 8),
            (false, None),
            Adds::Bias(1, 1),
        );
        check_scores(
            [5, queries, keys],
            heads(2, 2, 8),
            (false, None),
            Adds::Bias(3, 2),
        );
        check_scores(
            [7, queries, keys],
            heads(2, 1, 16),
            (false, None),
            Adds::Bias(4, 1),
        );
        if keys >= queries {
            check_scores(
                [2, queries, keys],
                heads(2, 1, 8),
                (true, None),
                Adds::Bias(1, 2),
            );
            check_scores(
                [2, queries, keys],
                heads(2, 1, 8),
                (true, Some(9)),
                Adds::Bias(2, 2),
            );
        }
    }
}

/// Places of keys on grids of many shapes, lines of whole vec4s and others, as many queries as keys and not.
#[test]
fn attention_with_relative_positions() {
    for width in [8, 16, 32, 48, 64, 72, 80, 96, 128] {
        check_scores(
            [2, 35, 35],
            heads(2, 1, width),
            (false, None),
            Adds::Places(7),
        );
        check_scores(
            [1, 36, 36],
            heads(2, 2, width),
            (false, None),
            Adds::Places(12),
        );
    }
    for (queries, lines, columns) in [
        (1, 1, 1),
        (5, 5, 1),
        (3, 1, 7),
        (14, 2, 7),
        (196, 14, 14),
        (81, 9, 9),
        (64, 4, 16),
        (33, 17, 4),
        (67, 31, 5),
    ] {
        let sizes = [2, queries, lines * columns];
        check_scores(sizes, heads(2, 1, 8), (false, None), Adds::Places(columns));
    }
}

/// Swin's windows, with transformers' bias and mask; sliding windows; a mask of the least number.
#[test]
fn attention_scores_like_pytorch() {
    let golden = Golden::open("attention_scores");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let heads = heads(number("heads"), number("kv_heads"), number("head_dim"));
        let (batch, rows, keys) = (number("batch"), number("rows"), number("keys"));
        let window = (number("window") > 0).then(|| number("window"));
        let rec = gpu().record("attention");
        let tensor =
            |role: &str, shape: [usize; 2]| staged(&rec, shape, &golden.values(case, role));
        let q = tensor("q", [batch * rows, heads.q * heads.width]);
        let [k, v] = ["k", "v"].map(|role| tensor(role, [batch * keys, heads.kv * heads.width]));
        let bias = golden.has(case, "bias").then(|| {
            let [kinds, bias_heads, ..] = golden.shape(case, "bias") else {
                panic!("{case}: a bias of another shape")
            };
            let padded = keys.next_multiple_of(4);
            let values = pad(&golden.values(case, "bias"), keys, padded);
            let kind = golden.numbers(case, "kind");
            let bias = staged(&rec, [*kinds, *bias_heads, rows, padded], &values);
            (bias, upload(kind.len(), &kind))
        });
        let added = match &bias {
            None => Added::Nothing,
            Some((bias, kind)) => Added::Bias {
                bias,
                kind: Some(kind),
            },
        };
        let scores = Scores {
            causal: window.is_some(),
            window,
            added,
        };
        check(rec, &golden.values(case, "y"), 2e-5, 2e-5, |rec| {
            let [q, k, v] = [&q, &k, &v].map(Columns::all);
            attention(rec, q, k, v, heads, batch, scores)
        });
    }
}

#[test]
fn attention_like_pytorch() {
    let golden = Golden::open("attention");
    for (case, scalars) in &golden.cases {
        let number = |name: &str| scalars[name].as_u64().unwrap() as usize;
        let heads = heads(number("heads"), number("kv_heads"), number("head_dim"));
        let (batch, rows, keys) = (number("batch"), number("rows"), number("keys"));
        let causal = scalars["causal"].as_bool().unwrap();
        assert!(
            !causal || number("offset") == keys - rows,
            "{case}: the last row sees all keys"
        );
        let rec = gpu().record("attention");
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
            attention(
                rec,
                Columns::all(&q),
                Columns::all(&k),
                Columns::all(&v),
                heads,
                batch,
                causal,
            )
        });
    }
}
