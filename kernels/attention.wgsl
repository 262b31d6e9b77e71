// y[i, c] = sum_j p[i, j] · v[j, c],  p[i, :] = softmax_j(scale · q[i, :] · k[j, :] + added[i, j])
//
// Streamed over the keys, scores are never stored. Eight lanes (a team) own 8 query rows of one head
// and go through the keys 64 at a time: each lane scores the 8 rows against 8 keys of its own, the
// team exchanges the row maxima and the probabilities in workgroup memory, then each lane adds
// up 8 columns of v. With a head narrower than 64 the lanes left over take a share of the
// keys, and the shares are added at the end; a wider head (80) comes as several column blocks, each
// scoring again. A workgroup is WG / 8 teams on neighbouring query rows.
//
// Delicate: the running maximum starts at a finite -1e30 and hidden scores are at -2e30, so no difference
// of infinities is taken, and a row that has seen no key yet has a sum of 0: one that never sees any
// becomes zeros. A bias below -1e30 hides its key too. Rows and keys beyond the end read the last one
// again. The head width is a multiple of 8.

override WG: u32 = 32;
override CAUSAL: u32 = 0;  // 1: row i sees keys up to i + keys - queries; 2: of those the last `window`
override ADDED: u32 = 0;   // 1: a bias; 2: relative positions (rel_pos.wgsl); 3: those, on lines of whole vec4s
override STATE: u32 = 0;   // also store each row's maximum and sum, for attention_spans.wgsl to go on from

struct Params {
    queries: u32,
    keys: u32,
    width: u32,         // of a head, / 4
    blocks: u32,        // ceil(width / 16), column blocks of 64
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

// What a lane hands to its team: 8 rows by 8 keys of probabilities, or of a partial sum at the end.
var<workgroup> shared_tile: array<array<vec4<f32>, 16>, WG>;
var<workgroup> shared_rows_a: array<vec4<f32>, WG>;  // one value for each of rows 0..3
var<workgroup> shared_rows_b: array<vec4<f32>, WG>;  // and rows 4..7

fn highest(v: vec4<f32>, w: vec4<f32>) -> f32 {
    let m = max(v, w);
    return max(max(m.x, m.y), max(m.z, m.w));
}

fn total(v: vec4<f32>, w: vec4<f32>) -> f32 {
    return dot(v + w, vec4<f32>(1.0));
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

// Four of something for each of 8 rows.
struct Rows {
    r0: vec4<f32>,
    r1: vec4<f32>,
    r2: vec4<f32>,
    r3: vec4<f32>,
    r4: vec4<f32>,
    r5: vec4<f32>,
    r6: vec4<f32>,
    r7: vec4<f32>,
}

// A bias: 4 keys of each row.
fn bias(base: u32, row: u32, key: u32) -> Rows {
    let last = params.queries - 1u;
    let at = base + min(key / 4u, params.added_stride - 1u);
    return Rows(
        added[at + min(row + 0u, last) * params.added_stride],
        added[at + min(row + 1u, last) * params.added_stride],
        added[at + min(row + 2u, last) * params.added_stride],
        added[at + min(row + 3u, last) * params.added_stride],
        added[at + min(row + 4u, last) * params.added_stride],
        added[at + min(row + 5u, last) * params.added_stride],
        added[at + min(row + 6u, last) * params.added_stride],
        added[at + min(row + 7u, last) * params.added_stride],
    );
}

// What the places of 4 keys relative to those of 8 rows add: line and column apart.
fn relative(base: u32, row: u32, key: u32) -> Rows {
    let j = min(vec4<u32>(key, key + 1u, key + 2u, key + 3u), vec4<u32>(params.keys - 1u));
    let a = base + min(row / 4u, params.added_stride - 1u);
    let b = base + min(row / 4u + 1u, params.added_stride - 1u);
    let line = j / params.columns;
    let columns = (j - line * params.columns + params.keys / params.columns) * params.added_stride;
    let lines = line * params.added_stride;
    var a0 = added[a + lines.x];
    var b0 = added[b + lines.x];
    var a1 = a0;
    var b1 = b0;
    var a2 = a0;
    var b2 = b0;
    var a3 = a0;
    var b3 = b0;
    if ADDED == 2u {
        a1 = added[a + lines.y];
        b1 = added[b + lines.y];
        a2 = added[a + lines.z];
        b2 = added[b + lines.z];
        a3 = added[a + lines.w];
        b3 = added[b + lines.w];
    }
    a0 += added[a + columns.x];
    b0 += added[b + columns.x];
    a1 += added[a + columns.y];
    b1 += added[b + columns.y];
    a2 += added[a + columns.z];
    b2 += added[b + columns.z];
    a3 += added[a + columns.w];
    b3 += added[b + columns.w];
    return Rows(
        vec4<f32>(a0.x, a1.x, a2.x, a3.x),
        vec4<f32>(a0.y, a1.y, a2.y, a3.y),
        vec4<f32>(a0.z, a1.z, a2.z, a3.z),
        vec4<f32>(a0.w, a1.w, a2.w, a3.w),
        vec4<f32>(b0.x, b1.x, b2.x, b3.x),
        vec4<f32>(b0.y, b1.y, b2.y, b3.y),
        vec4<f32>(b0.z, b1.z, b2.z, b3.z),
        vec4<f32>(b0.w, b1.w, b2.w, b3.w),
    );
}

fn dots(a: vec4<f32>, k0: vec4<f32>, k1: vec4<f32>, k2: vec4<f32>, k3: vec4<f32>, s: vec4<f32>) -> vec4<f32> {
    return fma(a.wwww, vec4<f32>(k0.w, k1.w, k2.w, k3.w), fma(a.zzzz, vec4<f32>(k0.z, k1.z, k2.z, k3.z), fma(a.yyyy, vec4<f32>(k0.y, k1.y, k2.y, k3.y), fma(a.xxxx, vec4<f32>(k0.x, k1.x, k2.x, k3.x), s))));
}

fn weigh(p: vec4<f32>, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    return fma(p.wwww, v3, fma(p.zzzz, v2, fma(p.yyyy, v1, fma(p.xxxx, v0, sum))));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let head = group.y / params.blocks;
    let column = (group.y % params.blocks) * 16u;
    let team = lane & ~7u;
    let member = lane & 7u;
    let row = group.x * WG + team;
    let last = params.queries - 1u;
    let batch = group.z;
    let shared_head = head / params.group;

    // This lane's columns of v (two vec4s) and its share of the keys.
    let column_lanes = min((params.width - column) / 2u, 8u);
    let shares = 8u / column_lanes;
    let share = member / column_lanes;
    let mine = column + (member % column_lanes) * 2u;

    let q_base = params.q_first + head * params.width;
    let k_base = params.k_first + batch * params.keys * params.k_stride + shared_head * params.width;
    let v_base = params.v_first + batch * params.keys * params.v_stride + shared_head * params.width + mine;
    let q0 = q_base + (batch * params.queries + min(row + 0u, last)) * params.q_stride;
    let q1 = q_base + (batch * params.queries + min(row + 1u, last)) * params.q_stride;
    let q2 = q_base + (batch * params.queries + min(row + 2u, last)) * params.q_stride;
    let q3 = q_base + (batch * params.queries + min(row + 3u, last)) * params.q_stride;
    let q4 = q_base + (batch * params.queries + min(row + 4u, last)) * params.q_stride;
    let q5 = q_base + (batch * params.queries + min(row + 5u, last)) * params.q_stride;
    let q6 = q_base + (batch * params.queries + min(row + 6u, last)) * params.q_stride;
    let q7 = q_base + (batch * params.queries + min(row + 7u, last)) * params.q_stride;

    var a0 = vec4<f32>(0.0);
    var b0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var b1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var b2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);
    var b3 = vec4<f32>(0.0);
    var a4 = vec4<f32>(0.0);
    var b4 = vec4<f32>(0.0);
    var a5 = vec4<f32>(0.0);
    var b5 = vec4<f32>(0.0);
    var a6 = vec4<f32>(0.0);
    var b6 = vec4<f32>(0.0);
    var a7 = vec4<f32>(0.0);
    var b7 = vec4<f32>(0.0);
    var high_a = vec4<f32>(-1e30);
    var high_b = vec4<f32>(-1e30);
    var sum_a = vec4<f32>(0.0);  // of this lane's own probabilities
    var sum_b = vec4<f32>(0.0);

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

    var begin = 0u;
    var end = params.keys;
    if CAUSAL > 0u {
        end = min(end, params.keys - params.queries + (group.x + 1u) * WG);
    }
    if CAUSAL == 2u {
        // The first key that the workgroup's first row sees.
        let seen = params.keys - params.queries + min(group.x * WG, last) + 1u;
        begin = (seen - min(seen, params.window)) / 64u * 64u;
    }
    for (var block = begin; block < end; block += 64u) {
        let first = block + member * 8u;
        let limit = params.keys - 1u;
        let k0 = k_base + min(first + 0u, limit) * params.k_stride;
        let k1 = k_base + min(first + 1u, limit) * params.k_stride;
        let k2 = k_base + min(first + 2u, limit) * params.k_stride;
        let k3 = k_base + min(first + 3u, limit) * params.k_stride;
        let k4 = k_base + min(first + 4u, limit) * params.k_stride;
        let k5 = k_base + min(first + 5u, limit) * params.k_stride;
        let k6 = k_base + min(first + 6u, limit) * params.k_stride;
        let k7 = k_base + min(first + 7u, limit) * params.k_stride;
        var s0 = vec4<f32>(0.0);
        var t0 = vec4<f32>(0.0);
        var s1 = vec4<f32>(0.0);
        var t1 = vec4<f32>(0.0);
        var s2 = vec4<f32>(0.0);
        var t2 = vec4<f32>(0.0);
        var s3 = vec4<f32>(0.0);
        var t3 = vec4<f32>(0.0);
        var s4 = vec4<f32>(0.0);
        var t4 = vec4<f32>(0.0);
        var s5 = vec4<f32>(0.0);
        var t5 = vec4<f32>(0.0);
        var s6 = vec4<f32>(0.0);
        var t6 = vec4<f32>(0.0);
        var s7 = vec4<f32>(0.0);
        var t7 = vec4<f32>(0.0);
        for (var i = 0u; i < params.width; i++) {
            let key0 = k[k0 + i];
            let key1 = k[k1 + i];
            let key2 = k[k2 + i];
            let key3 = k[k3 + i];
            let key4 = k[k4 + i];
            let key5 = k[k5 + i];
            let key6 = k[k6 + i];
            let key7 = k[k7 + i];
            let row0 = q[q0 + i];
            s0 = dots(row0, key0, key1, key2, key3, s0);
            t0 = dots(row0, key4, key5, key6, key7, t0);
            let row1 = q[q1 + i];
            s1 = dots(row1, key0, key1, key2, key3, s1);
            t1 = dots(row1, key4, key5, key6, key7, t1);
            let row2 = q[q2 + i];
            s2 = dots(row2, key0, key1, key2, key3, s2);
            t2 = dots(row2, key4, key5, key6, key7, t2);
            let row3 = q[q3 + i];
            s3 = dots(row3, key0, key1, key2, key3, s3);
            t3 = dots(row3, key4, key5, key6, key7, t3);
            let row4 = q[q4 + i];
            s4 = dots(row4, key0, key1, key2, key3, s4);
            t4 = dots(row4, key4, key5, key6, key7, t4);
            let row5 = q[q5 + i];
            s5 = dots(row5, key0, key1, key2, key3, s5);
            t5 = dots(row5, key4, key5, key6, key7, t5);
            let row6 = q[q6 + i];
            s6 = dots(row6, key0, key1, key2, key3, s6);
            t6 = dots(row6, key4, key5, key6, key7, t6);
            let row7 = q[q7 + i];
            s7 = dots(row7, key0, key1, key2, key3, s7);
            t7 = dots(row7, key4, key5, key6, key7, t7);
        }

        var more_s = Rows();
        var more_t = Rows();
        if ADDED == 1u {
            more_s = bias(added_base, row, first);
            more_t = bias(added_base, row, first + 4u);
        }
        if ADDED > 1u {
            more_s = relative(added_base, row, first);
            more_t = relative(added_base, row, first + 4u);
        }
        let there = i32(params.keys) - i32(first);
        // What row 0 of these sees of them; the next row sees one more.
        let seen = select(1 << 30u, i32(row + params.keys) - i32(params.queries) - i32(first) + 1, CAUSAL > 0u);
        s0 = masked(fma(s0, vec4<f32>(params.scale), more_s.r0), there, seen + 0);
        t0 = masked(fma(t0, vec4<f32>(params.scale), more_t.r0), there - 4, seen + 0 - 4);
        s1 = masked(fma(s1, vec4<f32>(params.scale), more_s.r1), there, seen + 1);
        t1 = masked(fma(t1, vec4<f32>(params.scale), more_t.r1), there - 4, seen + 1 - 4);
        s2 = masked(fma(s2, vec4<f32>(params.scale), more_s.r2), there, seen + 2);
        t2 = masked(fma(t2, vec4<f32>(params.scale), more_t.r2), there - 4, seen + 2 - 4);
        s3 = masked(fma(s3, vec4<f32>(params.scale), more_s.r3), there, seen + 3);
        t3 = masked(fma(t3, vec4<f32>(params.scale), more_t.r3), there - 4, seen + 3 - 4);
        s4 = masked(fma(s4, vec4<f32>(params.scale), more_s.r4), there, seen + 4);
        t4 = masked(fma(t4, vec4<f32>(params.scale), more_t.r4), there - 4, seen + 4 - 4);
        s5 = masked(fma(s5, vec4<f32>(params.scale), more_s.r5), there, seen + 5);
        t5 = masked(fma(t5, vec4<f32>(params.scale), more_t.r5), there - 4, seen + 5 - 4);
        s6 = masked(fma(s6, vec4<f32>(params.scale), more_s.r6), there, seen + 6);
        t6 = masked(fma(t6, vec4<f32>(params.scale), more_t.r6), there - 4, seen + 6 - 4);
        s7 = masked(fma(s7, vec4<f32>(params.scale), more_s.r7), there, seen + 7);
        t7 = masked(fma(t7, vec4<f32>(params.scale), more_t.r7), there - 4, seen + 7 - 4);

        shared_rows_a[lane] = vec4<f32>(highest(s0, t0), highest(s1, t1), highest(s2, t2), highest(s3, t3));
        shared_rows_b[lane] = vec4<f32>(highest(s4, t4), highest(s5, t5), highest(s6, t6), highest(s7, t7));
        workgroupBarrier();
        var new_a = high_a;
        var new_b = high_b;
        for (var other = team; other < team + 8u; other++) {
            new_a = max(new_a, shared_rows_a[other]);
            new_b = max(new_b, shared_rows_b[other]);
        }
        let fade_a = exp(high_a - new_a);
        let fade_b = exp(high_b - new_b);
        high_a = new_a;
        high_b = new_b;
        s0 = exp(s0 - high_a.x);
        t0 = exp(t0 - high_a.x);
        s1 = exp(s1 - high_a.y);
        t1 = exp(t1 - high_a.y);
        s2 = exp(s2 - high_a.z);
        t2 = exp(t2 - high_a.z);
        s3 = exp(s3 - high_a.w);
        t3 = exp(t3 - high_a.w);
        s4 = exp(s4 - high_b.x);
        t4 = exp(t4 - high_b.x);
        s5 = exp(s5 - high_b.y);
        t5 = exp(t5 - high_b.y);
        s6 = exp(s6 - high_b.z);
        t6 = exp(t6 - high_b.z);
        s7 = exp(s7 - high_b.w);
        t7 = exp(t7 - high_b.w);
        shared_tile[lane][0] = s0;
        shared_tile[lane][1] = t0;
        shared_tile[lane][2] = s1;
        shared_tile[lane][3] = t1;
        shared_tile[lane][4] = s2;
        shared_tile[lane][5] = t2;
        shared_tile[lane][6] = s3;
        shared_tile[lane][7] = t3;
        shared_tile[lane][8] = s4;
        shared_tile[lane][9] = t4;
        shared_tile[lane][10] = s5;
        shared_tile[lane][11] = t5;
        shared_tile[lane][12] = s6;
        shared_tile[lane][13] = t6;
        shared_tile[lane][14] = s7;
        shared_tile[lane][15] = t7;
        sum_a = fma(sum_a, fade_a, vec4<f32>(total(s0, t0), total(s1, t1), total(s2, t2), total(s3, t3)));
        sum_b = fma(sum_b, fade_b, vec4<f32>(total(s4, t4), total(s5, t5), total(s6, t6), total(s7, t7)));
        a0 *= fade_a.x;
        b0 *= fade_a.x;
        a1 *= fade_a.y;
        b1 *= fade_a.y;
        a2 *= fade_a.z;
        b2 *= fade_a.z;
        a3 *= fade_a.w;
        b3 *= fade_a.w;
        a4 *= fade_b.x;
        b4 *= fade_b.x;
        a5 *= fade_b.y;
        b5 *= fade_b.y;
        a6 *= fade_b.z;
        b6 *= fade_b.z;
        a7 *= fade_b.w;
        b7 *= fade_b.w;
        workgroupBarrier();

        // Four keys at a time: half a tile of the lane that scored them.
        let quads = min((end - block + 3u) / 4u, 16u);
        for (var quad = share; quad < quads; quad += shares) {
            let from_lane = team + quad / 2u;
            let half = quad % 2u;
            let key = block + quad * 4u;
            let v0 = v_base + min(key, limit) * params.v_stride;
            let v1 = v_base + min(key + 1u, limit) * params.v_stride;
            let v2 = v_base + min(key + 2u, limit) * params.v_stride;
            let v3 = v_base + min(key + 3u, limit) * params.v_stride;
            let va0 = v[v0];
            let va1 = v[v1];
            let va2 = v[v2];
            let va3 = v[v3];
            let vb0 = v[v0 + 1u];
            let vb1 = v[v1 + 1u];
            let vb2 = v[v2 + 1u];
            let vb3 = v[v3 + 1u];
            let p0 = shared_tile[from_lane][0u + half];
            a0 = weigh(p0, va0, va1, va2, va3, a0);
            b0 = weigh(p0, vb0, vb1, vb2, vb3, b0);
            let p1 = shared_tile[from_lane][2u + half];
            a1 = weigh(p1, va0, va1, va2, va3, a1);
            b1 = weigh(p1, vb0, vb1, vb2, vb3, b1);
            let p2 = shared_tile[from_lane][4u + half];
            a2 = weigh(p2, va0, va1, va2, va3, a2);
            b2 = weigh(p2, vb0, vb1, vb2, vb3, b2);
            let p3 = shared_tile[from_lane][6u + half];
            a3 = weigh(p3, va0, va1, va2, va3, a3);
            b3 = weigh(p3, vb0, vb1, vb2, vb3, b3);
            let p4 = shared_tile[from_lane][8u + half];
            a4 = weigh(p4, va0, va1, va2, va3, a4);
            b4 = weigh(p4, vb0, vb1, vb2, vb3, b4);
            let p5 = shared_tile[from_lane][10u + half];
            a5 = weigh(p5, va0, va1, va2, va3, a5);
            b5 = weigh(p5, vb0, vb1, vb2, vb3, b5);
            let p6 = shared_tile[from_lane][12u + half];
            a6 = weigh(p6, va0, va1, va2, va3, a6);
            b6 = weigh(p6, vb0, vb1, vb2, vb3, b6);
            let p7 = shared_tile[from_lane][14u + half];
            a7 = weigh(p7, va0, va1, va2, va3, a7);
            b7 = weigh(p7, vb0, vb1, vb2, vb3, b7);
        }
        workgroupBarrier();
    }

    // Add up the team: the probabilities of all lanes, the columns of those that shared the keys.
    shared_rows_a[lane] = sum_a;
    shared_rows_b[lane] = sum_b;
    shared_tile[lane][0] = a0;
    shared_tile[lane][1] = b0;
    shared_tile[lane][2] = a1;
    shared_tile[lane][3] = b1;
    shared_tile[lane][4] = a2;
    shared_tile[lane][5] = b2;
    shared_tile[lane][6] = a3;
    shared_tile[lane][7] = b3;
    shared_tile[lane][8] = a4;
    shared_tile[lane][9] = b4;
    shared_tile[lane][10] = a5;
    shared_tile[lane][11] = b5;
    shared_tile[lane][12] = a6;
    shared_tile[lane][13] = b6;
    shared_tile[lane][14] = a7;
    shared_tile[lane][15] = b7;
    workgroupBarrier();
    sum_a = vec4<f32>(0.0);
    sum_b = vec4<f32>(0.0);
    for (var other = team; other < team + 8u; other++) {
        sum_a += shared_rows_a[other];
        sum_b += shared_rows_b[other];
    }
    for (var other = 1u; other < shares; other++) {
        let from_lane = team + (member + other * column_lanes) % 8u;
        a0 += shared_tile[from_lane][0];
        b0 += shared_tile[from_lane][1];
        a1 += shared_tile[from_lane][2];
        b1 += shared_tile[from_lane][3];
        a2 += shared_tile[from_lane][4];
        b2 += shared_tile[from_lane][5];
        a3 += shared_tile[from_lane][6];
        b3 += shared_tile[from_lane][7];
        a4 += shared_tile[from_lane][8];
        b4 += shared_tile[from_lane][9];
        a5 += shared_tile[from_lane][10];
        b5 += shared_tile[from_lane][11];
        a6 += shared_tile[from_lane][12];
        b6 += shared_tile[from_lane][13];
        a7 += shared_tile[from_lane][14];
        b7 += shared_tile[from_lane][15];
    }
    if STATE == 1u && member == 0u && column == 0u {
        remember(batch, row + 0u, head, high_a.x, sum_a.x);
        remember(batch, row + 1u, head, high_a.y, sum_a.y);
        remember(batch, row + 2u, head, high_a.z, sum_a.z);
        remember(batch, row + 3u, head, high_a.w, sum_a.w);
        remember(batch, row + 4u, head, high_b.x, sum_b.x);
        remember(batch, row + 5u, head, high_b.y, sum_b.y);
        remember(batch, row + 6u, head, high_b.z, sum_b.z);
        remember(batch, row + 7u, head, high_b.w, sum_b.w);
    }
    if share == 0u {
        store(batch, row + 0u, head, mine, a0, b0, sum_a.x);
        store(batch, row + 1u, head, mine, a1, b1, sum_a.y);
        store(batch, row + 2u, head, mine, a2, b2, sum_a.z);
        store(batch, row + 3u, head, mine, a3, b3, sum_a.w);
        store(batch, row + 4u, head, mine, a4, b4, sum_b.x);
        store(batch, row + 5u, head, mine, a5, b5, sum_b.y);
        store(batch, row + 6u, head, mine, a6, b6, sum_b.z);
        store(batch, row + 7u, head, mine, a7, b7, sum_b.w);
    }
}

fn store(batch: u32, row: u32, head: u32, column: u32, a: vec4<f32>, b: vec4<f32>, sum: f32) {
    if row < params.queries {
        let at = ((batch * params.queries + row) * params.heads + head) * params.width + column;
        y[at] = a / max(sum, 1e-30);
        y[at + 1u] = b / max(sum, 1e-30);
    }
}

fn remember(batch: u32, row: u32, head: u32, high: f32, sum: f32) {
    if row < params.queries {
        state[(batch * params.queries + row) * params.heads + head] = vec2<f32>(high, sum);
    }
}
