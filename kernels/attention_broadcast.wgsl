// y[i, c] = sum_j p[i, j] · v[j, c],  p[i, :] = softmax_j(scale · q[i, :] · k[j, :] + added[i, j])
//
// attention.wgsl for CPU adapters whose subgroups have 8 lanes. There a load costs far more than the
// multiply-adds it feeds, workgroup memory is loaded no cheaper and barriers are dear. So a subgroup owns 16 or 32 query
// rows of one head and keeps all that it knows of them in registers. It goes through the keys 32 at a time:
// each lane loads q for one row of every 8 and hands it round (subgroupBroadcast is a splat of a register), and scores
// all rows against 4 keys of its own; then each lane loads its 4 · PER columns of v for all 32 keys, and the
// lanes hand round the probabilities. Heads of at most 128 columns.
//
// Delicate: the running maximum starts at a finite -1e30 and hidden scores are at -2e30, so no difference of
// infinities is taken, and a row that has seen no key yet has a sum of 0: one that never sees any becomes zeros. A bias
// below -1e30 hides its key too. Rows, keys and columns beyond the end read the last one again. The head width
// is a multiple of 8. All lanes stay in the loops, which broadcasts ask for.

override WG: u32 = 8;      // one subgroup
override PER: u32 = 2;     // vec4s of v to a lane, ceil(width / 8), at most 4
override HALVES: u32 = 1;  // 16 rows to a subgroup, or 2: 32, which halves the loads of k and v
override CAUSAL: u32 = 0;  // 1: row i sees keys up to i + keys - queries; 2: of those the last `window`
override ADDED: u32 = 0;   // 1: a bias; 2: relative positions (rel_pos.wgsl); 3: those, on lines of whole vec4s
override STATE: u32 = 0;   // also store each row's maximum and sum, for attention_spans.wgsl to go on from

struct Params {
    queries: u32,
    keys: u32,
    width: u32,         // of a head, / 4
    heads: u32,         // of q and y
    group: u32,         // q heads to a k, v head
    q_stride: u32,      // vec4s from row to row, and the first one: q, k, v may share one buffer
    q_first: u32,
    k_stride: u32,
    k_first: u32,
    v_stride: u32,
    v_first: u32,
    scale: f32,         // 1 / √d
    window: u32,        // with CAUSAL 2, the keys that a row sees at most
    added_stride: u32,  // vec4s of a row of the bias, or of all queries of a relative position
    added_heads: u32,   // heads that the bias tells apart: 1 or all
    period: u32,        // groups after which the kinds of bias begin again, 0 where there is one kind
    columns: u32,       // of the keys' grid, where positions are relative
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;        // (batch, queries, heads, width) of 4, strided
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;        // (batch, keys, heads / group, width) of 4, strided
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;        // (batch, keys, heads / group, width) of 4, strided
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;  // (batch, queries, heads, width) of 4
@group(0) @binding(5) var<storage, read_write> state: array<vec2<f32>>;  // (batch, queries, heads) of maximum and sum, any buffer if STATE is 0
@group(0) @binding(6) var<storage, read> added: array<vec4<f32>>;    // (kinds, heads or 1, queries, keys / 4) or (batch, heads, lines + columns, queries / 4) of 4, any buffer if ADDED is 0
@group(0) @binding(7) var<storage, read> kind: array<u32>;           // (period) of the bias, any buffer without one

// Something for each of 16 rows: scores or probabilities of 4 keys, or sums of 4 columns.
struct Rows {
    r0: vec4<f32>,
    r1: vec4<f32>,
    r2: vec4<f32>,
    r3: vec4<f32>,
    r4: vec4<f32>,
    r5: vec4<f32>,
    r6: vec4<f32>,
    r7: vec4<f32>,
    r8: vec4<f32>,
    r9: vec4<f32>,
    r10: vec4<f32>,
    r11: vec4<f32>,
    r12: vec4<f32>,
    r13: vec4<f32>,
    r14: vec4<f32>,
    r15: vec4<f32>,
}

// One number for each of 16 rows.
struct Numbers {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

// 4 columns of k or v for 4 keys; 4 rows of what is added for 4 keys.
struct Values {
    v0: vec4<f32>,
    v1: vec4<f32>,
    v2: vec4<f32>,
    v3: vec4<f32>,
}

// The columns of a lane.
struct Sums {
    s0: Rows,
    s1: Rows,
    s2: Rows,
    s3: Rows,
}

// What 16 rows have come to.
struct Half {
    high: Numbers,   // the largest score so far
    share: Numbers,  // the sum of this lane's own probabilities
    sums: Sums,      // of probabilities and values, not yet divided by the sum of the probabilities
}

fn highest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

fn total(v: vec4<f32>) -> f32 {
    return dot(v, vec4<f32>(1.0));
}

fn dots(a: vec4<f32>, k: Values, s: vec4<f32>) -> vec4<f32> {
    return fma(a.wwww, vec4<f32>(k.v0.w, k.v1.w, k.v2.w, k.v3.w), fma(a.zzzz, vec4<f32>(k.v0.z, k.v1.z, k.v2.z, k.v3.z), fma(a.yyyy, vec4<f32>(k.v0.y, k.v1.y, k.v2.y, k.v3.y), fma(a.xxxx, vec4<f32>(k.v0.x, k.v1.x, k.v2.x, k.v3.x), s))));
}

// Scores 16 rows, two of which each lane has loaded, against 4 keys.
fn score(s: Rows, x_a: vec4<f32>, x_b: vec4<f32>, keys: Values) -> Rows {
    return Rows(
        dots(subgroupBroadcast(x_a, 0u), keys, s.r0),
        dots(subgroupBroadcast(x_a, 1u), keys, s.r1),
        dots(subgroupBroadcast(x_a, 2u), keys, s.r2),
        dots(subgroupBroadcast(x_a, 3u), keys, s.r3),
        dots(subgroupBroadcast(x_a, 4u), keys, s.r4),
        dots(subgroupBroadcast(x_a, 5u), keys, s.r5),
        dots(subgroupBroadcast(x_a, 6u), keys, s.r6),
        dots(subgroupBroadcast(x_a, 7u), keys, s.r7),
        dots(subgroupBroadcast(x_b, 0u), keys, s.r8),
        dots(subgroupBroadcast(x_b, 1u), keys, s.r9),
        dots(subgroupBroadcast(x_b, 2u), keys, s.r10),
        dots(subgroupBroadcast(x_b, 3u), keys, s.r11),
        dots(subgroupBroadcast(x_b, 4u), keys, s.r12),
        dots(subgroupBroadcast(x_b, 5u), keys, s.r13),
        dots(subgroupBroadcast(x_b, 6u), keys, s.r14),
        dots(subgroupBroadcast(x_b, 7u), keys, s.r15),
    );
}

fn scaled(s: Rows) -> Rows {
    return Rows(
        s.r0 * params.scale,
        s.r1 * params.scale,
        s.r2 * params.scale,
        s.r3 * params.scale,
        s.r4 * params.scale,
        s.r5 * params.scale,
        s.r6 * params.scale,
        s.r7 * params.scale,
        s.r8 * params.scale,
        s.r9 * params.scale,
        s.r10 * params.scale,
        s.r11 * params.scale,
        s.r12 * params.scale,
        s.r13 * params.scale,
        s.r14 * params.scale,
        s.r15 * params.scale,
    );
}

// Adds a bias: 4 keys of each row.
fn biased(s: Rows, base: u32, row: u32, key: u32) -> Rows {
    let last = params.queries - 1u;
    let at = base + min(key / 4u, params.added_stride - 1u);
    return Rows(
        s.r0 + added[at + min(row + 0u, last) * params.added_stride],
        s.r1 + added[at + min(row + 1u, last) * params.added_stride],
        s.r2 + added[at + min(row + 2u, last) * params.added_stride],
        s.r3 + added[at + min(row + 3u, last) * params.added_stride],
        s.r4 + added[at + min(row + 4u, last) * params.added_stride],
        s.r5 + added[at + min(row + 5u, last) * params.added_stride],
        s.r6 + added[at + min(row + 6u, last) * params.added_stride],
        s.r7 + added[at + min(row + 7u, last) * params.added_stride],
        s.r8 + added[at + min(row + 8u, last) * params.added_stride],
        s.r9 + added[at + min(row + 9u, last) * params.added_stride],
        s.r10 + added[at + min(row + 10u, last) * params.added_stride],
        s.r11 + added[at + min(row + 11u, last) * params.added_stride],
        s.r12 + added[at + min(row + 12u, last) * params.added_stride],
        s.r13 + added[at + min(row + 13u, last) * params.added_stride],
        s.r14 + added[at + min(row + 14u, last) * params.added_stride],
        s.r15 + added[at + min(row + 15u, last) * params.added_stride],
    );
}

// What the places of 4 keys relative to those of 4 rows, `quad` of all, add: line and column apart.
fn relative(base: u32, quad: u32, key: u32) -> Values {
    let j = min(vec4<u32>(key, key + 1u, key + 2u, key + 3u), vec4<u32>(params.keys - 1u));
    let first = base + min(quad, params.added_stride - 1u);
    let line = j / params.columns;
    let column = j - line * params.columns + params.keys / params.columns;
    let lines = line * params.added_stride + first;
    let columns = column * params.added_stride + first;
    let across = Values(added[columns.x], added[columns.y], added[columns.z], added[columns.w]);
    let down = added[lines.x];
    if ADDED == 3u {
        return Values(down + across.v0, down + across.v1, down + across.v2, down + across.v3);
    }
    return Values(down + across.v0, added[lines.y] + across.v1, added[lines.z] + across.v2, added[lines.w] + across.v3);
}

fn placed(s: Rows, base: u32, row: u32, key: u32) -> Rows {
    let a = relative(base, row / 4u, key);
    let b = relative(base, row / 4u + 1u, key);
    let c = relative(base, row / 4u + 2u, key);
    let d = relative(base, row / 4u + 3u, key);
    return Rows(
        s.r0 + vec4<f32>(a.v0.x, a.v1.x, a.v2.x, a.v3.x),
        s.r1 + vec4<f32>(a.v0.y, a.v1.y, a.v2.y, a.v3.y),
        s.r2 + vec4<f32>(a.v0.z, a.v1.z, a.v2.z, a.v3.z),
        s.r3 + vec4<f32>(a.v0.w, a.v1.w, a.v2.w, a.v3.w),
        s.r4 + vec4<f32>(b.v0.x, b.v1.x, b.v2.x, b.v3.x),
        s.r5 + vec4<f32>(b.v0.y, b.v1.y, b.v2.y, b.v3.y),
        s.r6 + vec4<f32>(b.v0.z, b.v1.z, b.v2.z, b.v3.z),
        s.r7 + vec4<f32>(b.v0.w, b.v1.w, b.v2.w, b.v3.w),
        s.r8 + vec4<f32>(c.v0.x, c.v1.x, c.v2.x, c.v3.x),
        s.r9 + vec4<f32>(c.v0.y, c.v1.y, c.v2.y, c.v3.y),
        s.r10 + vec4<f32>(c.v0.z, c.v1.z, c.v2.z, c.v3.z),
        s.r11 + vec4<f32>(c.v0.w, c.v1.w, c.v2.w, c.v3.w),
        s.r12 + vec4<f32>(d.v0.x, d.v1.x, d.v2.x, d.v3.x),
        s.r13 + vec4<f32>(d.v0.y, d.v1.y, d.v2.y, d.v3.y),
        s.r14 + vec4<f32>(d.v0.z, d.v1.z, d.v2.z, d.v3.z),
        s.r15 + vec4<f32>(d.v0.w, d.v1.w, d.v2.w, d.v3.w),
    );
}

// Four scores; `there` is how many keys of these, from the first on, there are, and `seen` how many the row may look at.
fn masked(score: vec4<f32>, there: i32, seen: i32) -> vec4<f32> {
    let at = vec4<i32>(0, 1, 2, 3);
    var shown = at < vec4<i32>(min(there, seen));
    if CAUSAL == 2u {
        shown = shown & (at >= vec4<i32>(seen - i32(params.window)));
    }
    return select(vec4<f32>(-2e30), score, shown);
}

// Everything between the product and the softmax, for the 4 keys from `key` on.
fn finished(product: Rows, base: u32, row: u32, key: u32) -> Rows {
    var s = scaled(product);
    if ADDED == 1u {
        s = biased(s, base, row, key);
    }
    if ADDED > 1u {
        s = placed(s, base, row, key);
    }
    let there = i32(params.keys) - i32(key);
    // What row 0 of these sees of them; the next row sees one more.
    let seen = select(1 << 30u, i32(row + params.keys) - i32(params.queries) - i32(key) + 1, CAUSAL > 0u);
    return Rows(
        masked(s.r0, there, seen + 0),
        masked(s.r1, there, seen + 1),
        masked(s.r2, there, seen + 2),
        masked(s.r3, there, seen + 3),
        masked(s.r4, there, seen + 4),
        masked(s.r5, there, seen + 5),
        masked(s.r6, there, seen + 6),
        masked(s.r7, there, seen + 7),
        masked(s.r8, there, seen + 8),
        masked(s.r9, there, seen + 9),
        masked(s.r10, there, seen + 10),
        masked(s.r11, there, seen + 11),
        masked(s.r12, there, seen + 12),
        masked(s.r13, there, seen + 13),
        masked(s.r14, there, seen + 14),
        masked(s.r15, there, seen + 15),
    );
}

fn raised(high: Numbers, s: Rows) -> Numbers {
    return Numbers(
        max(high.a, subgroupMax(vec4<f32>(highest(s.r0), highest(s.r1), highest(s.r2), highest(s.r3)))),
        max(high.b, subgroupMax(vec4<f32>(highest(s.r4), highest(s.r5), highest(s.r6), highest(s.r7)))),
        max(high.c, subgroupMax(vec4<f32>(highest(s.r8), highest(s.r9), highest(s.r10), highest(s.r11)))),
        max(high.d, subgroupMax(vec4<f32>(highest(s.r12), highest(s.r13), highest(s.r14), highest(s.r15)))),
    );
}

fn probabilities(s: Rows, high: Numbers) -> Rows {
    return Rows(
        exp(s.r0 - high.a.x),
        exp(s.r1 - high.a.y),
        exp(s.r2 - high.a.z),
        exp(s.r3 - high.a.w),
        exp(s.r4 - high.b.x),
        exp(s.r5 - high.b.y),
        exp(s.r6 - high.b.z),
        exp(s.r7 - high.b.w),
        exp(s.r8 - high.c.x),
        exp(s.r9 - high.c.y),
        exp(s.r10 - high.c.z),
        exp(s.r11 - high.c.w),
        exp(s.r12 - high.d.x),
        exp(s.r13 - high.d.y),
        exp(s.r14 - high.d.z),
        exp(s.r15 - high.d.w),
    );
}

fn fade_rows(sum: Rows, fade: Numbers) -> Rows {
    return Rows(
        sum.r0 * fade.a.x,
        sum.r1 * fade.a.y,
        sum.r2 * fade.a.z,
        sum.r3 * fade.a.w,
        sum.r4 * fade.b.x,
        sum.r5 * fade.b.y,
        sum.r6 * fade.b.z,
        sum.r7 * fade.b.w,
        sum.r8 * fade.c.x,
        sum.r9 * fade.c.y,
        sum.r10 * fade.c.z,
        sum.r11 * fade.c.w,
        sum.r12 * fade.d.x,
        sum.r13 * fade.d.y,
        sum.r14 * fade.d.z,
        sum.r15 * fade.d.w,
    );
}

fn fade_sums(sums: Sums, fade: Numbers) -> Sums {
    var t = sums;
    t.s0 = fade_rows(t.s0, fade);
    if PER > 1u {
        t.s1 = fade_rows(t.s1, fade);
    }
    if PER > 2u {
        t.s2 = fade_rows(t.s2, fade);
    }
    if PER > 3u {
        t.s3 = fade_rows(t.s3, fade);
    }
    return t;
}

// Under a new maximum, and with the new probabilities `p` in the share.
fn renewed(half: Half, high: Numbers, p: Rows) -> Half {
    let fade = Numbers(exp(half.high.a - high.a), exp(half.high.b - high.b), exp(half.high.c - high.c), exp(half.high.d - high.d));
    let share = Numbers(
        fma(half.share.a, fade.a, vec4<f32>(total(p.r0), total(p.r1), total(p.r2), total(p.r3))),
        fma(half.share.b, fade.b, vec4<f32>(total(p.r4), total(p.r5), total(p.r6), total(p.r7))),
        fma(half.share.c, fade.c, vec4<f32>(total(p.r8), total(p.r9), total(p.r10), total(p.r11))),
        fma(half.share.d, fade.d, vec4<f32>(total(p.r12), total(p.r13), total(p.r14), total(p.r15))),
    );
    return Half(high, share, fade_sums(half.sums, fade));
}

fn weigh(p: vec4<f32>, v: Values, sum: vec4<f32>) -> vec4<f32> {
    return fma(p.wwww, v.v3, fma(p.zzzz, v.v2, fma(p.yyyy, v.v1, fma(p.xxxx, v.v0, sum))));
}

fn weigh_rows(p: Rows, v: Values, sum: Rows) -> Rows {
    return Rows(
        weigh(p.r0, v, sum.r0),
        weigh(p.r1, v, sum.r1),
        weigh(p.r2, v, sum.r2),
        weigh(p.r3, v, sum.r3),
        weigh(p.r4, v, sum.r4),
        weigh(p.r5, v, sum.r5),
        weigh(p.r6, v, sum.r6),
        weigh(p.r7, v, sum.r7),
        weigh(p.r8, v, sum.r8),
        weigh(p.r9, v, sum.r9),
        weigh(p.r10, v, sum.r10),
        weigh(p.r11, v, sum.r11),
        weigh(p.r12, v, sum.r12),
        weigh(p.r13, v, sum.r13),
        weigh(p.r14, v, sum.r14),
        weigh(p.r15, v, sum.r15),
    );
}

// The columns at `base` of the row at `key` and the three after it, none beyond the last.
fn values(base: u32, key: u32) -> Values {
    let j = min(vec4<u32>(key, key + 1u, key + 2u, key + 3u), vec4<u32>(params.keys - 1u)) * params.v_stride + base;
    return Values(v[j.x], v[j.y], v[j.z], v[j.w]);
}

struct Halves {
    lower: Sums,
    upper: Sums,
}

// Adds the keys `key` to `key + 3` with their probabilities.
fn weigh_sums(p: Rows, p_upper: Rows, columns: vec4<u32>, key: u32, sums: Halves) -> Halves {
    var t = sums;
    let v0 = values(columns.x, key);
    t.lower.s0 = weigh_rows(p, v0, t.lower.s0);
    if HALVES > 1u {
        t.upper.s0 = weigh_rows(p_upper, v0, t.upper.s0);
    }
    if PER > 1u {
        let v1 = values(columns.y, key);
        t.lower.s1 = weigh_rows(p, v1, t.lower.s1);
        if HALVES > 1u {
            t.upper.s1 = weigh_rows(p_upper, v1, t.upper.s1);
        }
    }
    if PER > 2u {
        let v2 = values(columns.z, key);
        t.lower.s2 = weigh_rows(p, v2, t.lower.s2);
        if HALVES > 1u {
            t.upper.s2 = weigh_rows(p_upper, v2, t.upper.s2);
        }
    }
    if PER > 3u {
        let v3 = values(columns.w, key);
        t.lower.s3 = weigh_rows(p, v3, t.lower.s3);
        if HALVES > 1u {
            t.upper.s3 = weigh_rows(p_upper, v3, t.upper.s3);
        }
    }
    return t;
}

// What a lane scored, for all of them.
fn from_0(p: Rows) -> Rows {
    return Rows(
        subgroupBroadcast(p.r0, 0u),
        subgroupBroadcast(p.r1, 0u),
        subgroupBroadcast(p.r2, 0u),
        subgroupBroadcast(p.r3, 0u),
        subgroupBroadcast(p.r4, 0u),
        subgroupBroadcast(p.r5, 0u),
        subgroupBroadcast(p.r6, 0u),
        subgroupBroadcast(p.r7, 0u),
        subgroupBroadcast(p.r8, 0u),
        subgroupBroadcast(p.r9, 0u),
        subgroupBroadcast(p.r10, 0u),
        subgroupBroadcast(p.r11, 0u),
        subgroupBroadcast(p.r12, 0u),
        subgroupBroadcast(p.r13, 0u),
        subgroupBroadcast(p.r14, 0u),
        subgroupBroadcast(p.r15, 0u),
    );
}

fn from_1(p: Rows) -> Rows {
    return Rows(
        subgroupBroadcast(p.r0, 1u),
        subgroupBroadcast(p.r1, 1u),
        subgroupBroadcast(p.r2, 1u),
        subgroupBroadcast(p.r3, 1u),
        subgroupBroadcast(p.r4, 1u),
        subgroupBroadcast(p.r5, 1u),
        subgroupBroadcast(p.r6, 1u),
        subgroupBroadcast(p.r7, 1u),
        subgroupBroadcast(p.r8, 1u),
        subgroupBroadcast(p.r9, 1u),
        subgroupBroadcast(p.r10, 1u),
        subgroupBroadcast(p.r11, 1u),
        subgroupBroadcast(p.r12, 1u),
        subgroupBroadcast(p.r13, 1u),
        subgroupBroadcast(p.r14, 1u),
        subgroupBroadcast(p.r15, 1u),
    );
}

fn from_2(p: Rows) -> Rows {
    return Rows(
        subgroupBroadcast(p.r0, 2u),
        subgroupBroadcast(p.r1, 2u),
        subgroupBroadcast(p.r2, 2u),
        subgroupBroadcast(p.r3, 2u),
        subgroupBroadcast(p.r4, 2u),
        subgroupBroadcast(p.r5, 2u),
        subgroupBroadcast(p.r6, 2u),
        subgroupBroadcast(p.r7, 2u),
        subgroupBroadcast(p.r8, 2u),
        subgroupBroadcast(p.r9, 2u),
        subgroupBroadcast(p.r10, 2u),
        subgroupBroadcast(p.r11, 2u),
        subgroupBroadcast(p.r12, 2u),
        subgroupBroadcast(p.r13, 2u),
        subgroupBroadcast(p.r14, 2u),
        subgroupBroadcast(p.r15, 2u),
    );
}

fn from_3(p: Rows) -> Rows {
    return Rows(
        subgroupBroadcast(p.r0, 3u),
        subgroupBroadcast(p.r1, 3u),
        subgroupBroadcast(p.r2, 3u),
        subgroupBroadcast(p.r3, 3u),
        subgroupBroadcast(p.r4, 3u),
        subgroupBroadcast(p.r5, 3u),
        subgroupBroadcast(p.r6, 3u),
        subgroupBroadcast(p.r7, 3u),
        subgroupBroadcast(p.r8, 3u),
        subgroupBroadcast(p.r9, 3u),
        subgroupBroadcast(p.r10, 3u),
        subgroupBroadcast(p.r11, 3u),
        subgroupBroadcast(p.r12, 3u),
        subgroupBroadcast(p.r13, 3u),
        subgroupBroadcast(p.r14, 3u),
        subgroupBroadcast(p.r15, 3u),
    );
}

fn from_4(p: Rows) -> Rows {
    return Rows(
        subgroupBroadcast(p.r0, 4u),
        subgroupBroadcast(p.r1, 4u),
        subgroupBroadcast(p.r2, 4u),
        subgroupBroadcast(p.r3, 4u),
        subgroupBroadcast(p.r4, 4u),
        subgroupBroadcast(p.r5, 4u),
        subgroupBroadcast(p.r6, 4u),
        subgroupBroadcast(p.r7, 4u),
        subgroupBroadcast(p.r8, 4u),
        subgroupBroadcast(p.r9, 4u),
        subgroupBroadcast(p.r10, 4u),
        subgroupBroadcast(p.r11, 4u),
        subgroupBroadcast(p.r12, 4u),
        subgroupBroadcast(p.r13, 4u),
        subgroupBroadcast(p.r14, 4u),
        subgroupBroadcast(p.r15, 4u),
    );
}

fn from_5(p: Rows) -> Rows {
    return Rows(
        subgroupBroadcast(p.r0, 5u),
        subgroupBroadcast(p.r1, 5u),
        subgroupBroadcast(p.r2, 5u),
        subgroupBroadcast(p.r3, 5u),
        subgroupBroadcast(p.r4, 5u),
        subgroupBroadcast(p.r5, 5u),
        subgroupBroadcast(p.r6, 5u),
        subgroupBroadcast(p.r7, 5u),
        subgroupBroadcast(p.r8, 5u),
        subgroupBroadcast(p.r9, 5u),
        subgroupBroadcast(p.r10, 5u),
        subgroupBroadcast(p.r11, 5u),
        subgroupBroadcast(p.r12, 5u),
        subgroupBroadcast(p.r13, 5u),
        subgroupBroadcast(p.r14, 5u),
        subgroupBroadcast(p.r15, 5u),
    );
}

fn from_6(p: Rows) -> Rows {
    return Rows(
        subgroupBroadcast(p.r0, 6u),
        subgroupBroadcast(p.r1, 6u),
        subgroupBroadcast(p.r2, 6u),
        subgroupBroadcast(p.r3, 6u),
        subgroupBroadcast(p.r4, 6u),
        subgroupBroadcast(p.r5, 6u),
        subgroupBroadcast(p.r6, 6u),
        subgroupBroadcast(p.r7, 6u),
        subgroupBroadcast(p.r8, 6u),
        subgroupBroadcast(p.r9, 6u),
        subgroupBroadcast(p.r10, 6u),
        subgroupBroadcast(p.r11, 6u),
        subgroupBroadcast(p.r12, 6u),
        subgroupBroadcast(p.r13, 6u),
        subgroupBroadcast(p.r14, 6u),
        subgroupBroadcast(p.r15, 6u),
    );
}

fn from_7(p: Rows) -> Rows {
    return Rows(
        subgroupBroadcast(p.r0, 7u),
        subgroupBroadcast(p.r1, 7u),
        subgroupBroadcast(p.r2, 7u),
        subgroupBroadcast(p.r3, 7u),
        subgroupBroadcast(p.r4, 7u),
        subgroupBroadcast(p.r5, 7u),
        subgroupBroadcast(p.r6, 7u),
        subgroupBroadcast(p.r7, 7u),
        subgroupBroadcast(p.r8, 7u),
        subgroupBroadcast(p.r9, 7u),
        subgroupBroadcast(p.r10, 7u),
        subgroupBroadcast(p.r11, 7u),
        subgroupBroadcast(p.r12, 7u),
        subgroupBroadcast(p.r13, 7u),
        subgroupBroadcast(p.r14, 7u),
        subgroupBroadcast(p.r15, 7u),
    );
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let head = group.y;
    let column = lane * PER;
    let row = group.x * 16u * HALVES;
    let last = params.queries - 1u;
    let batch = group.z;
    let shared_head = head / params.group;

    let q_base = params.q_first + batch * params.queries * params.q_stride + head * params.width;
    let k_base = params.k_first + batch * params.keys * params.k_stride + shared_head * params.width;
    let v_base = params.v_first + batch * params.keys * params.v_stride + shared_head * params.width;
    let columns = min(vec4<u32>(column, column + 1u, column + 2u, column + 3u), vec4<u32>(params.width - 1u)) + v_base;
    let q_a = q_base + min(row + 0u + lane, last) * params.q_stride;
    let q_b = q_base + min(row + 8u + lane, last) * params.q_stride;
    let q_c = q_base + min(row + 16u + lane, last) * params.q_stride;
    let q_d = q_base + min(row + 24u + lane, last) * params.q_stride;
    var added_base = 0u;
    if ADDED == 1u {
        let bias_head = select(0u, head, params.added_heads > 1u);
        var which = 0u;
        if params.period > 0u {
            which = kind[batch % params.period];
        }
        added_base = (which * params.added_heads + bias_head) * params.queries * params.added_stride;
    }
    if ADDED > 1u {
        let places = params.keys / params.columns + params.columns;
        added_base = (batch * params.heads + head) * places * params.added_stride;
    }

    let low = vec4<f32>(-1e30);
    var lower = Half(Numbers(low, low, low, low), Numbers(), Sums());
    var upper = Half(Numbers(low, low, low, low), Numbers(), Sums());  // with HALVES 2

    // 0, which no compiler knows: Mesa's software driver compiles a program anew for every dispatch if bounds of its loops
    // are numbers of `params` alone and writing them in makes it shorter.
    let nothing = head / params.heads;
    let width = params.width + nothing;
    var begin = 0u;
    var end = params.keys + nothing;
    if CAUSAL > 0u {
        end = min(end, params.keys - params.queries + row + 16u * HALVES);
    }
    if CAUSAL == 2u {
        // The first key that the first row sees.
        let seen = params.keys - params.queries + min(row, last) + 1u;
        begin = (seen - min(seen, params.window)) / 32u * 32u;
    }
    for (var block = begin; block < end; block += 32u) {
        let first = block + lane * 4u;
        let j = min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(params.keys - 1u)) * params.k_stride + k_base;
        var s = Rows();
        var t = Rows();
        for (var i = 0u; i < width; i++) {
            let keys = Values(k[j.x + i], k[j.y + i], k[j.z + i], k[j.w + i]);
            s = score(s, q[q_a + i], q[q_b + i], keys);
            if HALVES > 1u {
                t = score(t, q[q_c + i], q[q_d + i], keys);
            }
        }
        s = finished(s, added_base, row, first);
        let high = raised(lower.high, s);
        s = probabilities(s, high);
        lower = renewed(lower, high, s);
        if HALVES > 1u {
            t = finished(t, added_base, row + 16u, first);
            let high = raised(upper.high, t);
            t = probabilities(t, high);
            upper = renewed(upper, high, t);
        }
        var sums = Halves(lower.sums, upper.sums);
        sums = weigh_sums(from_0(s), from_0(t), columns, block + 0u, sums);
        sums = weigh_sums(from_1(s), from_1(t), columns, block + 4u, sums);
        sums = weigh_sums(from_2(s), from_2(t), columns, block + 8u, sums);
        sums = weigh_sums(from_3(s), from_3(t), columns, block + 12u, sums);
        sums = weigh_sums(from_4(s), from_4(t), columns, block + 16u, sums);
        sums = weigh_sums(from_5(s), from_5(t), columns, block + 20u, sums);
        sums = weigh_sums(from_6(s), from_6(t), columns, block + 24u, sums);
        sums = weigh_sums(from_7(s), from_7(t), columns, block + 28u, sums);
        lower.sums = sums.lower;
        upper.sums = sums.upper;
    }
    finish(batch, row, head, lane, lower);
    if HALVES > 1u {
        finish(batch, row + 16u, head, lane, upper);
    }
}

fn finish(batch: u32, row: u32, head: u32, lane: u32, half: Half) {
    let sum = Numbers(subgroupAdd(half.share.a), subgroupAdd(half.share.b), subgroupAdd(half.share.c), subgroupAdd(half.share.d));
    if STATE == 1u && lane == 0u {
        remember(batch, row + 0u, head, half.high.a.x, sum.a.x);
        remember(batch, row + 1u, head, half.high.a.y, sum.a.y);
        remember(batch, row + 2u, head, half.high.a.z, sum.a.z);
        remember(batch, row + 3u, head, half.high.a.w, sum.a.w);
        remember(batch, row + 4u, head, half.high.b.x, sum.b.x);
        remember(batch, row + 5u, head, half.high.b.y, sum.b.y);
        remember(batch, row + 6u, head, half.high.b.z, sum.b.z);
        remember(batch, row + 7u, head, half.high.b.w, sum.b.w);
        remember(batch, row + 8u, head, half.high.c.x, sum.c.x);
        remember(batch, row + 9u, head, half.high.c.y, sum.c.y);
        remember(batch, row + 10u, head, half.high.c.z, sum.c.z);
        remember(batch, row + 11u, head, half.high.c.w, sum.c.w);
        remember(batch, row + 12u, head, half.high.d.x, sum.d.x);
        remember(batch, row + 13u, head, half.high.d.y, sum.d.y);
        remember(batch, row + 14u, head, half.high.d.z, sum.d.z);
        remember(batch, row + 15u, head, half.high.d.w, sum.d.w);
    }
    let column = lane * PER;
    store_rows(batch, row, head, column, half.sums.s0, sum);
    if PER > 1u {
        store_rows(batch, row, head, column + 1u, half.sums.s1, sum);
    }
    if PER > 2u {
        store_rows(batch, row, head, column + 2u, half.sums.s2, sum);
    }
    if PER > 3u {
        store_rows(batch, row, head, column + 3u, half.sums.s3, sum);
    }
}

fn store_rows(batch: u32, row: u32, head: u32, column: u32, sums: Rows, sum: Numbers) {
    if column >= params.width {
        return;
    }
    store(batch, row + 0u, head, column, sums.r0, sum.a.x);
    store(batch, row + 1u, head, column, sums.r1, sum.a.y);
    store(batch, row + 2u, head, column, sums.r2, sum.a.z);
    store(batch, row + 3u, head, column, sums.r3, sum.a.w);
    store(batch, row + 4u, head, column, sums.r4, sum.b.x);
    store(batch, row + 5u, head, column, sums.r5, sum.b.y);
    store(batch, row + 6u, head, column, sums.r6, sum.b.z);
    store(batch, row + 7u, head, column, sums.r7, sum.b.w);
    store(batch, row + 8u, head, column, sums.r8, sum.c.x);
    store(batch, row + 9u, head, column, sums.r9, sum.c.y);
    store(batch, row + 10u, head, column, sums.r10, sum.c.z);
    store(batch, row + 11u, head, column, sums.r11, sum.c.w);
    store(batch, row + 12u, head, column, sums.r12, sum.d.x);
    store(batch, row + 13u, head, column, sums.r13, sum.d.y);
    store(batch, row + 14u, head, column, sums.r14, sum.d.z);
    store(batch, row + 15u, head, column, sums.r15, sum.d.w);
}

fn store(batch: u32, row: u32, head: u32, column: u32, weighed: vec4<f32>, sum: f32) {
    if row < params.queries {
        y[((batch * params.queries + row) * params.heads + head) * params.width + column] = weighed / max(sum, 1e-30);
    }
}

fn remember(batch: u32, row: u32, head: u32, high: f32, sum: f32) {
    if row < params.queries {
        state[(batch * params.queries + row) * params.heads + head] = vec2<f32>(high, sum);
    }
}
