// y[i, c] = sum_j p[i, j] · v[j, c],  p[i, :] = softmax_j(scale · q[i, :] · k[j, :]), narrow heads
//
// For heads of 8 or 16 columns (a mask decoder's cross attention), where the team of attention.wgsl
// would mostly wait. One thread owns two or four query rows of one head, all in registers, and goes through
// the keys four at a time; neighbouring threads are the heads of the same rows, so q, k, v and y are
// read and written in order. No workgroup memory, no barriers, and few keys (three tokens) cost little.
// Four rows halve the loads of k and v for each, which on a CPU adapter cost more than the registers that spill.
//
// Delicate: the running maximum starts at a finite -1e30 and missing keys score that low too, so
// no difference of infinities is taken; they read the last key again. The vec4s beyond WIDTH are zeros.

override WG: u32 = 64;
override WIDTH: u32 = 2;  // of a head, / 4: 1 to 4
override ROWS: u32 = 2;   // of a thread: 2 or 4

struct Params {
    queries: u32,
    keys: u32,
    width: u32,     // of a head, / 4, = WIDTH
    heads: u32,
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

struct Row {
    c0: vec4<f32>,
    c1: vec4<f32>,
    c2: vec4<f32>,
    c3: vec4<f32>,
}

struct State {
    high: f32,
    sum: f32,
    total: Row,
}

fn load_q(at: u32) -> Row {
    var r = Row(q[at], vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0));
    if WIDTH > 1u {
        r.c1 = q[at + 1u];
    }
    if WIDTH > 2u {
        r.c2 = q[at + 2u];
    }
    if WIDTH > 3u {
        r.c3 = q[at + 3u];
    }
    return r;
}

fn load_k(at: u32) -> Row {
    var r = Row(k[at], vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0));
    if WIDTH > 1u {
        r.c1 = k[at + 1u];
    }
    if WIDTH > 2u {
        r.c2 = k[at + 2u];
    }
    if WIDTH > 3u {
        r.c3 = k[at + 3u];
    }
    return r;
}

fn load_v(at: u32) -> Row {
    var r = Row(v[at], vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0));
    if WIDTH > 1u {
        r.c1 = v[at + 1u];
    }
    if WIDTH > 2u {
        r.c2 = v[at + 2u];
    }
    if WIDTH > 3u {
        r.c3 = v[at + 3u];
    }
    return r;
}

fn product(a: Row, b: Row) -> f32 {
    var sum = dot(a.c0, b.c0);
    if WIDTH > 1u {
        sum += dot(a.c1, b.c1);
    }
    if WIDTH > 2u {
        sum += dot(a.c2, b.c2);
    }
    if WIDTH > 3u {
        sum += dot(a.c3, b.c3);
    }
    return sum;
}

fn products(a: Row, k0: Row, k1: Row, k2: Row, k3: Row) -> vec4<f32> {
    return vec4<f32>(product(a, k0), product(a, k1), product(a, k2), product(a, k3));
}

fn weigh(p: vec4<f32>, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    return fma(p.wwww, v3, fma(p.zzzz, v2, fma(p.yyyy, v1, fma(p.xxxx, v0, sum))));
}

fn step(s: State, score: vec4<f32>, v0: Row, v1: Row, v2: Row, v3: Row) -> State {
    let high = max(s.high, max(max(score.x, score.y), max(score.z, score.w)));
    let fade = exp(s.high - high);
    let p = exp(score - high);
    var t = Row(weigh(p, v0.c0, v1.c0, v2.c0, v3.c0, s.total.c0 * fade), s.total.c1, s.total.c2, s.total.c3);
    if WIDTH > 1u {
        t.c1 = weigh(p, v0.c1, v1.c1, v2.c1, v3.c1, s.total.c1 * fade);
    }
    if WIDTH > 2u {
        t.c2 = weigh(p, v0.c2, v1.c2, v2.c2, v3.c2, s.total.c2 * fade);
    }
    if WIDTH > 3u {
        t.c3 = weigh(p, v0.c3, v1.c3, v2.c3, v3.c3, s.total.c3 * fade);
    }
    return State(high, fma(s.sum, fade, dot(p, vec4<f32>(1.0))), t);
}

fn store(row: u32, at: u32, s: State) {
    if row < params.queries {
        y[at] = s.total.c0 / s.sum;
        if WIDTH > 1u {
            y[at + 1u] = s.total.c1 / s.sum;
        }
        if WIDTH > 2u {
            y[at + 2u] = s.total.c2 / s.sum;
        }
        if WIDTH > 3u {
            y[at + 3u] = s.total.c3 / s.sum;
        }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let head = id.x % params.heads;
    let row = (id.x / params.heads) * ROWS;
    let batch = id.y;
    let last = params.queries - 1u;
    let shared_head = head / params.group;
    let q_base = params.q_first + batch * params.queries * params.q_stride + head * params.width;
    let k_base = params.k_first + batch * params.keys * params.k_stride + shared_head * params.width;
    let v_base = params.v_first + batch * params.keys * params.v_stride + shared_head * params.width;
    let qa = load_q(q_base + min(row, last) * params.q_stride);
    let qb = load_q(q_base + min(row + 1u, last) * params.q_stride);

    let zero = Row(vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0), vec4<f32>(0.0));
    var a = State(-1e30, 0.0, zero);
    var b = a;
    var c = a;
    var d = a;
    var qc = zero;
    var qd = zero;
    if ROWS > 2u {
        qc = load_q(q_base + min(row + 2u, last) * params.q_stride);
        qd = load_q(q_base + min(row + 3u, last) * params.q_stride);
    }
    for (var key = 0u; key < params.keys; key += 4u) {
        let j = min(vec4<u32>(key, key + 1u, key + 2u, key + 3u), vec4<u32>(params.keys - 1u));
        let kj = k_base + j * params.k_stride;
        let k0 = load_k(kj.x);
        let k1 = load_k(kj.y);
        let k2 = load_k(kj.z);
        let k3 = load_k(kj.w);
        let there = vec4<u32>(key, key + 1u, key + 2u, key + 3u) < vec4<u32>(params.keys);
        let sa = select(vec4<f32>(-1e30), products(qa, k0, k1, k2, k3) * params.scale, there);
        let sb = select(vec4<f32>(-1e30), products(qb, k0, k1, k2, k3) * params.scale, there);
        let vj = v_base + j * params.v_stride;
        let v0 = load_v(vj.x);
        let v1 = load_v(vj.y);
        let v2 = load_v(vj.z);
        let v3 = load_v(vj.w);
        a = step(a, sa, v0, v1, v2, v3);
        b = step(b, sb, v0, v1, v2, v3);
        if ROWS > 2u {
            let sc = select(vec4<f32>(-1e30), products(qc, k0, k1, k2, k3) * params.scale, there);
            let sd = select(vec4<f32>(-1e30), products(qd, k0, k1, k2, k3) * params.scale, there);
            c = step(c, sc, v0, v1, v2, v3);
            d = step(d, sd, v0, v1, v2, v3);
        }
    }
    let across = params.heads * params.width;
    let at = ((batch * params.queries + row) * params.heads + head) * params.width;
    store(row, at, a);
    store(row + 1u, at + across, b);
    if ROWS > 2u {
        store(row + 2u, at + 2u * across, c);
        store(row + 3u, at + 3u * across, d);
    }
}
