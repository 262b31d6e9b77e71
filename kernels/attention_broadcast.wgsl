// y[i, c] = sum_j p[i, j] · v[j, c],  p[i, :] = softmax_j(scale · q[i, :] · k[j, :])
//
// attention.wgsl for CPU adapters whose subgroups have 8 lanes. There a load costs far more than the
// multiply-adds it feeds, workgroup memory is loaded no cheaper and barriers are dear. So a subgroup owns 16 query
// rows of one head and keeps all that it knows of them in registers. It goes through the keys 32 at a time:
// each lane loads q for one row of every 8 and hands it round (subgroupBroadcast is a splat of a register), and scores
// all rows against 4 keys of its own; then each lane loads its 4 · PER columns of v for all 32 keys, and the
// lanes hand round the probabilities. Heads of at most 128 columns.
//
// Delicate: the running maximum starts at a finite -1e30 and masked scores are that low too, so
// no difference of infinities is taken. A masked key of a row that has seen an unmasked one
// weighs exp(-1e30) = 0; the causal mask leaves every row at least one key of the first block. Rows, keys and
// columns beyond the end read the last one again. The head width is a multiple of 8. All lanes
// stay in the loops, which broadcasts ask for.

override WG: u32 = 8;      // one subgroup
override PER: u32 = 2;     // vec4s of v to a lane, ceil(width / 8), at most 4
override CAUSAL: u32 = 0;  // row i sees keys up to i + keys - queries
override STATE: u32 = 0;   // also store each row's maximum and sum, for attention_spans.wgsl to go on from

struct Params {
    queries: u32,
    keys: u32,
    width: u32,     // of a head, / 4
    heads: u32,     // of q and y
    group: u32,     // q heads to a k, v head
    q_stride: u32,  // vec4s from row to row, and the first one: q, k, v may share one buffer
    q_first: u32,
    k_stride: u32,
    k_first: u32,
    v_stride: u32,
    v_first: u32,
    scale: f32,     // 1 / √d
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;        // (batch, queries, heads, width) of 4, strided
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;        // (batch, keys, heads / group, width) of 4, strided
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;        // (batch, keys, heads / group, width) of 4, strided
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;  // (batch, queries, heads, width) of 4
@group(0) @binding(5) var<storage, read_write> state: array<vec2<f32>>;  // (batch, queries, heads) of maximum and sum, any buffer if STATE is 0

// Something for each of the 16 rows: scores or probabilities of 4 keys, or sums of 4 columns.
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

// 4 columns of v for 4 keys.
struct Values {
    v0: vec4<f32>,
    v1: vec4<f32>,
    v2: vec4<f32>,
    v3: vec4<f32>,
}

fn highest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

fn total(v: vec4<f32>) -> f32 {
    return dot(v, vec4<f32>(1.0));
}

// Four scores; `seen` is how many keys of these, from the first on, the row may look at.
fn masked(score: vec4<f32>, seen: i32) -> vec4<f32> {
    return select(vec4<f32>(-1e30), score * params.scale, vec4<i32>(0, 1, 2, 3) < vec4<i32>(seen));
}

fn dots(a: vec4<f32>, k: Values, s: vec4<f32>) -> vec4<f32> {
    return fma(a.wwww, vec4<f32>(k.v0.w, k.v1.w, k.v2.w, k.v3.w), fma(a.zzzz, vec4<f32>(k.v0.z, k.v1.z, k.v2.z, k.v3.z), fma(a.yyyy, vec4<f32>(k.v0.y, k.v1.y, k.v2.y, k.v3.y), fma(a.xxxx, vec4<f32>(k.v0.x, k.v1.x, k.v2.x, k.v3.x), s))));
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

fn fade_rows(sum: Rows, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> Rows {
    return Rows(
        sum.r0 * a.x,
        sum.r1 * a.y,
        sum.r2 * a.z,
        sum.r3 * a.w,
        sum.r4 * b.x,
        sum.r5 * b.y,
        sum.r6 * b.z,
        sum.r7 * b.w,
        sum.r8 * c.x,
        sum.r9 * c.y,
        sum.r10 * c.z,
        sum.r11 * c.w,
        sum.r12 * d.x,
        sum.r13 * d.y,
        sum.r14 * d.z,
        sum.r15 * d.w,
    );
}

// The columns at `at` of the row at `key` and the three after it, none beyond the last.
fn values(base: u32, key: u32) -> Values {
    let j = min(vec4<u32>(key, key + 1u, key + 2u, key + 3u), vec4<u32>(params.keys - 1u)) * params.v_stride + base;
    return Values(v[j.x], v[j.y], v[j.z], v[j.w]);
}

struct Sums {
    s0: Rows,
    s1: Rows,
    s2: Rows,
    s3: Rows,
}

fn fade_sums(sums: Sums, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) -> Sums {
    var t = sums;
    t.s0 = fade_rows(t.s0, a, b, c, d);
    if PER > 1u {
        t.s1 = fade_rows(t.s1, a, b, c, d);
    }
    if PER > 2u {
        t.s2 = fade_rows(t.s2, a, b, c, d);
    }
    if PER > 3u {
        t.s3 = fade_rows(t.s3, a, b, c, d);
    }
    return t;
}

// Adds the keys `key` to `key + 3` with their probabilities.
fn weigh_sums(p: Rows, columns: vec4<u32>, key: u32, sums: Sums) -> Sums {
    var t = sums;
    t.s0 = weigh_rows(p, values(columns.x, key), t.s0);
    if PER > 1u {
        t.s1 = weigh_rows(p, values(columns.y, key), t.s1);
    }
    if PER > 2u {
        t.s2 = weigh_rows(p, values(columns.z, key), t.s2);
    }
    if PER > 3u {
        t.s3 = weigh_rows(p, values(columns.w, key), t.s3);
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
    let row = group.x * 16u;
    let last = params.queries - 1u;
    let batch = group.z;
    let shared_head = head / params.group;

    let q_base = params.q_first + batch * params.queries * params.q_stride + head * params.width;
    let k_base = params.k_first + batch * params.keys * params.k_stride + shared_head * params.width;
    let v_base = params.v_first + batch * params.keys * params.v_stride + shared_head * params.width;
    let columns = min(vec4<u32>(column, column + 1u, column + 2u, column + 3u), vec4<u32>(params.width - 1u)) + v_base;
    let q_a = q_base + min(row + 0u + lane, last) * params.q_stride;
    let q_b = q_base + min(row + 8u + lane, last) * params.q_stride;

    var sums = Sums();  // of probabilities and values, not yet divided by the sum of the probabilities
    var high_a = vec4<f32>(-1e30);
    var high_b = vec4<f32>(-1e30);
    var high_c = vec4<f32>(-1e30);
    var high_d = vec4<f32>(-1e30);
    var share_a = vec4<f32>(0.0);  // of the probabilities, this lane's own
    var share_b = vec4<f32>(0.0);
    var share_c = vec4<f32>(0.0);
    var share_d = vec4<f32>(0.0);

    var end = params.keys;
    if CAUSAL == 1u {
        end = min(end, params.keys - params.queries + row + 16u);
    }
    for (var block = 0u; block < end; block += 32u) {
        let first = block + lane * 4u;
        let j = min(vec4<u32>(first, first + 1u, first + 2u, first + 3u), vec4<u32>(params.keys - 1u)) * params.k_stride + k_base;
        var s = Rows();
        for (var i = 0u; i < params.width; i++) {
            let keys = Values(k[j.x + i], k[j.y + i], k[j.z + i], k[j.w + i]);
            let x_a = q[q_a + i];
            s.r0 = dots(subgroupBroadcast(x_a, 0u), keys, s.r0);
            s.r1 = dots(subgroupBroadcast(x_a, 1u), keys, s.r1);
            s.r2 = dots(subgroupBroadcast(x_a, 2u), keys, s.r2);
            s.r3 = dots(subgroupBroadcast(x_a, 3u), keys, s.r3);
            s.r4 = dots(subgroupBroadcast(x_a, 4u), keys, s.r4);
            s.r5 = dots(subgroupBroadcast(x_a, 5u), keys, s.r5);
            s.r6 = dots(subgroupBroadcast(x_a, 6u), keys, s.r6);
            s.r7 = dots(subgroupBroadcast(x_a, 7u), keys, s.r7);
            let x_b = q[q_b + i];
            s.r8 = dots(subgroupBroadcast(x_b, 0u), keys, s.r8);
            s.r9 = dots(subgroupBroadcast(x_b, 1u), keys, s.r9);
            s.r10 = dots(subgroupBroadcast(x_b, 2u), keys, s.r10);
            s.r11 = dots(subgroupBroadcast(x_b, 3u), keys, s.r11);
            s.r12 = dots(subgroupBroadcast(x_b, 4u), keys, s.r12);
            s.r13 = dots(subgroupBroadcast(x_b, 5u), keys, s.r13);
            s.r14 = dots(subgroupBroadcast(x_b, 6u), keys, s.r14);
            s.r15 = dots(subgroupBroadcast(x_b, 7u), keys, s.r15);
        }

        let there = i32(params.keys) - i32(first);
        // What row 0 of these sees of them; the next row sees one more.
        let seen = select(1 << 30u, i32(row + params.keys) - i32(params.queries) - i32(first) + 1, CAUSAL == 1u);
        s.r0 = masked(s.r0, min(there, seen + 0));
        s.r1 = masked(s.r1, min(there, seen + 1));
        s.r2 = masked(s.r2, min(there, seen + 2));
        s.r3 = masked(s.r3, min(there, seen + 3));
        s.r4 = masked(s.r4, min(there, seen + 4));
        s.r5 = masked(s.r5, min(there, seen + 5));
        s.r6 = masked(s.r6, min(there, seen + 6));
        s.r7 = masked(s.r7, min(there, seen + 7));
        s.r8 = masked(s.r8, min(there, seen + 8));
        s.r9 = masked(s.r9, min(there, seen + 9));
        s.r10 = masked(s.r10, min(there, seen + 10));
        s.r11 = masked(s.r11, min(there, seen + 11));
        s.r12 = masked(s.r12, min(there, seen + 12));
        s.r13 = masked(s.r13, min(there, seen + 13));
        s.r14 = masked(s.r14, min(there, seen + 14));
        s.r15 = masked(s.r15, min(there, seen + 15));
        let new_a = max(high_a, subgroupMax(vec4<f32>(highest(s.r0), highest(s.r1), highest(s.r2), highest(s.r3))));
        let new_b = max(high_b, subgroupMax(vec4<f32>(highest(s.r4), highest(s.r5), highest(s.r6), highest(s.r7))));
        let new_c = max(high_c, subgroupMax(vec4<f32>(highest(s.r8), highest(s.r9), highest(s.r10), highest(s.r11))));
        let new_d = max(high_d, subgroupMax(vec4<f32>(highest(s.r12), highest(s.r13), highest(s.r14), highest(s.r15))));
        let fade_a = exp(high_a - new_a);
        let fade_b = exp(high_b - new_b);
        let fade_c = exp(high_c - new_c);
        let fade_d = exp(high_d - new_d);
        high_a = new_a;
        high_b = new_b;
        high_c = new_c;
        high_d = new_d;
        s.r0 = exp(s.r0 - high_a.x);
        s.r1 = exp(s.r1 - high_a.y);
        s.r2 = exp(s.r2 - high_a.z);
        s.r3 = exp(s.r3 - high_a.w);
        s.r4 = exp(s.r4 - high_b.x);
        s.r5 = exp(s.r5 - high_b.y);
        s.r6 = exp(s.r6 - high_b.z);
        s.r7 = exp(s.r7 - high_b.w);
        s.r8 = exp(s.r8 - high_c.x);
        s.r9 = exp(s.r9 - high_c.y);
        s.r10 = exp(s.r10 - high_c.z);
        s.r11 = exp(s.r11 - high_c.w);
        s.r12 = exp(s.r12 - high_d.x);
        s.r13 = exp(s.r13 - high_d.y);
        s.r14 = exp(s.r14 - high_d.z);
        s.r15 = exp(s.r15 - high_d.w);
        share_a = fma(share_a, fade_a, vec4<f32>(total(s.r0), total(s.r1), total(s.r2), total(s.r3)));
        share_b = fma(share_b, fade_b, vec4<f32>(total(s.r4), total(s.r5), total(s.r6), total(s.r7)));
        share_c = fma(share_c, fade_c, vec4<f32>(total(s.r8), total(s.r9), total(s.r10), total(s.r11)));
        share_d = fma(share_d, fade_d, vec4<f32>(total(s.r12), total(s.r13), total(s.r14), total(s.r15)));
        sums = fade_sums(sums, fade_a, fade_b, fade_c, fade_d);
        sums = weigh_sums(from_0(s), columns, block + 0u, sums);
        sums = weigh_sums(from_1(s), columns, block + 4u, sums);
        sums = weigh_sums(from_2(s), columns, block + 8u, sums);
        sums = weigh_sums(from_3(s), columns, block + 12u, sums);
        sums = weigh_sums(from_4(s), columns, block + 16u, sums);
        sums = weigh_sums(from_5(s), columns, block + 20u, sums);
        sums = weigh_sums(from_6(s), columns, block + 24u, sums);
        sums = weigh_sums(from_7(s), columns, block + 28u, sums);
    }

    let sum_a = subgroupAdd(share_a);
    let sum_b = subgroupAdd(share_b);
    let sum_c = subgroupAdd(share_c);
    let sum_d = subgroupAdd(share_d);
    if STATE == 1u && lane == 0u {
        remember(batch, row + 0u, head, high_a.x, sum_a.x);
        remember(batch, row + 1u, head, high_a.y, sum_a.y);
        remember(batch, row + 2u, head, high_a.z, sum_a.z);
        remember(batch, row + 3u, head, high_a.w, sum_a.w);
        remember(batch, row + 4u, head, high_b.x, sum_b.x);
        remember(batch, row + 5u, head, high_b.y, sum_b.y);
        remember(batch, row + 6u, head, high_b.z, sum_b.z);
        remember(batch, row + 7u, head, high_b.w, sum_b.w);
        remember(batch, row + 8u, head, high_c.x, sum_c.x);
        remember(batch, row + 9u, head, high_c.y, sum_c.y);
        remember(batch, row + 10u, head, high_c.z, sum_c.z);
        remember(batch, row + 11u, head, high_c.w, sum_c.w);
        remember(batch, row + 12u, head, high_d.x, sum_d.x);
        remember(batch, row + 13u, head, high_d.y, sum_d.y);
        remember(batch, row + 14u, head, high_d.z, sum_d.z);
        remember(batch, row + 15u, head, high_d.w, sum_d.w);
    }
    store_rows(batch, row, head, column, sums.s0, sum_a, sum_b, sum_c, sum_d);
    if PER > 1u {
        store_rows(batch, row, head, column + 1u, sums.s1, sum_a, sum_b, sum_c, sum_d);
    }
    if PER > 2u {
        store_rows(batch, row, head, column + 2u, sums.s2, sum_a, sum_b, sum_c, sum_d);
    }
    if PER > 3u {
        store_rows(batch, row, head, column + 3u, sums.s3, sum_a, sum_b, sum_c, sum_d);
    }
}

fn store_rows(batch: u32, row: u32, head: u32, column: u32, sum: Rows, a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>) {
    if column >= params.width {
        return;
    }
    store(batch, row + 0u, head, column, sum.r0 / a.x);
    store(batch, row + 1u, head, column, sum.r1 / a.y);
    store(batch, row + 2u, head, column, sum.r2 / a.z);
    store(batch, row + 3u, head, column, sum.r3 / a.w);
    store(batch, row + 4u, head, column, sum.r4 / b.x);
    store(batch, row + 5u, head, column, sum.r5 / b.y);
    store(batch, row + 6u, head, column, sum.r6 / b.z);
    store(batch, row + 7u, head, column, sum.r7 / b.w);
    store(batch, row + 8u, head, column, sum.r8 / c.x);
    store(batch, row + 9u, head, column, sum.r9 / c.y);
    store(batch, row + 10u, head, column, sum.r10 / c.z);
    store(batch, row + 11u, head, column, sum.r11 / c.w);
    store(batch, row + 12u, head, column, sum.r12 / d.x);
    store(batch, row + 13u, head, column, sum.r13 / d.y);
    store(batch, row + 14u, head, column, sum.r14 / d.z);
    store(batch, row + 15u, head, column, sum.r15 / d.w);
}

fn store(batch: u32, row: u32, head: u32, column: u32, sum: vec4<f32>) {
    if row < params.queries {
        y[((batch * params.queries + row) * params.heads + head) * params.width + column] = sum;
    }
}

fn remember(batch: u32, row: u32, head: u32, high: f32, sum: f32) {
    if row < params.queries {
        state[(batch * params.queries + row) * params.heads + head] = vec2<f32>(high, sum);
    }
}
