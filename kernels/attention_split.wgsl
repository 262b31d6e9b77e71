// part[s, r, h] = sum_j p[j] · v[j, h / group],  p = softmax_j(scale · q[r, h] · k[j, h / group]),  j in share s of the row's keys
//
// Decoding: few rows, many keys. A row sees keys 0 .. prefix and its own span; these are cut into `splits` shares, a
// workgroup takes one share for up to 4 heads of q that read the same head of k and v, so a key is loaded once for
// all of them, and attention_merge.wgsl puts the shares together. With one share this is all of it. The lanes score
// four keys each at a time and keep the scores in workgroup memory, 512 keys at most; then a lane adds up 4 columns of
// v for its share of those keys, and the lanes' sums are added.
//
// Delicate: the running maximum starts at a finite -1e30 and keys beyond the end score -2e30. A share without keys has a
// sum of 0 and is zeros, as is a row without any. The head width is a multiple of 4, at most 4 · WG.

override WG: u32 = 32;
override F16: u32 = 0;    // k and v hold f16, eight to a vec4; strides stay those of values
override SHARE: u32 = 4;  // heads of q to a workgroup, at most 4

struct Params {
    rows: u32,
    heads: u32,
    group: u32,     // q heads to a k, v head
    blocks: u32,    // ceil(group / SHARE)
    width: u32,     // of a head, / 4
    prefix: u32,    // keys that all rows see
    splits: u32,
    q_stride: u32,  // vec4s from row to row, and the first one: q, k, v may share one buffer
    q_first: u32,
    k_stride: u32,
    k_first: u32,
    v_stride: u32,
    v_first: u32,
    scale: f32,     // 1 / √d
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;            // (rows, heads, width) of 4, strided
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;            // (keys, heads / group, width) of 4 f32, or of 8 f16 with width / 2, strided
@group(0) @binding(3) var<storage, read> v: array<vec4<u32>>;            // (keys, heads / group, width) of 4 f32, or of 8 f16 with width / 2, strided
@group(0) @binding(4) var<storage, read> span: array<vec2<u32>>;         // (rows) of start, count
@group(0) @binding(5) var<storage, read_write> part: array<vec4<f32>>;   // (splits, rows, heads, width) of 4
@group(0) @binding(6) var<storage, read_write> state: array<vec2<f32>>;  // (splits, rows, heads) of maximum and sum

// For each of 4 heads 128 times 4 keys.
var<workgroup> scores: array<vec4<f32>, 512>;
// What a lane hands to the others: a number for each head, or 4 columns for each.
var<workgroup> handed: array<array<vec4<f32>, 4>, WG>;

fn highest(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}

fn total(v: vec4<f32>) -> f32 {
    return dot(v, vec4<f32>(1.0));
}

fn dots(a: vec4<f32>, k0: vec4<f32>, k1: vec4<f32>, k2: vec4<f32>, k3: vec4<f32>, s: vec4<f32>) -> vec4<f32> {
    return fma(a.wwww, vec4<f32>(k0.w, k1.w, k2.w, k3.w), fma(a.zzzz, vec4<f32>(k0.z, k1.z, k2.z, k3.z), fma(a.yyyy, vec4<f32>(k0.y, k1.y, k2.y, k3.y), fma(a.xxxx, vec4<f32>(k0.x, k1.x, k2.x, k3.x), s))));
}

fn weigh(p: vec4<f32>, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>, sum: vec4<f32>) -> vec4<f32> {
    return fma(p.wwww, v3, fma(p.zzzz, v2, fma(p.yyyy, v1, fma(p.xxxx, v0, sum))));
}

// Where the row's keys lie: first the common ones, then its own.
fn slots(j: vec4<u32>, start: u32) -> vec4<u32> {
    return select(j + start - params.prefix, j, j < vec4<u32>(params.prefix));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let split = group.x;
    let kv_head = group.y / params.blocks;
    let head = kv_head * params.group + group.y % params.blocks * SHARE;
    let beyond = (kv_head + 1u) * params.group;  // heads of this k, v head end here; one too many is the last again
    let row = group.z;
    let own = span[row];
    let all = params.prefix + own.y;
    let share = ((all + params.splits - 1u) / params.splits + 3u) / 4u * 4u;
    let begin = min(split * share, all);
    let end = min(begin + share, all);

    let q_base = params.q_first + row * params.q_stride;
    let q0 = q_base + head * params.width;
    let q1 = q_base + min(head + 1u, beyond - 1u) * params.width;
    let q2 = q_base + min(head + 2u, beyond - 1u) * params.width;
    let q3 = q_base + min(head + 3u, beyond - 1u) * params.width;
    let k_base = params.k_first + kv_head * params.width;
    // `width` lanes make one copy of the row; the copies share the keys.
    let copies = WG / params.width;
    let copy = lane / params.width;
    let v_base = params.v_first + kv_head * params.width + lane % params.width;

    var high = vec4<f32>(-1e30);  // of each head
    var sum = vec4<f32>(0.0);     // of this lane's own probabilities
    var a0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);
    for (var block = begin; block < end; block += 512u) {
        let quads = (min(end - block, 512u) + 3u) / 4u;
        var mine = vec4<f32>(-1e30);
        for (var quad = lane; quad < quads; quad += WG) {
            let j = block + quad * 4u + vec4<u32>(0u, 1u, 2u, 3u);
            let at = slots(min(j, vec4<u32>(end - 1u)), own.x) * params.k_stride + k_base;
            var s0 = vec4<f32>(0.0);
            var s1 = vec4<f32>(0.0);
            var s2 = vec4<f32>(0.0);
            var s3 = vec4<f32>(0.0);
            for (var i = 0u; i < params.width; i++) {
                let key0 = key(at.x + i);
                let key1 = key(at.y + i);
                let key2 = key(at.z + i);
                let key3 = key(at.w + i);
                s0 = dots(q[q0 + i], key0, key1, key2, key3, s0);
                if SHARE > 1u {
                    s1 = dots(q[q1 + i], key0, key1, key2, key3, s1);
                }
                if SHARE > 2u {
                    s2 = dots(q[q2 + i], key0, key1, key2, key3, s2);
                }
                if SHARE > 3u {
                    s3 = dots(q[q3 + i], key0, key1, key2, key3, s3);
                }
            }
            let there = j < vec4<u32>(end);
            s0 = select(vec4<f32>(-2e30), s0 * params.scale, there);
            s1 = select(vec4<f32>(-2e30), s1 * params.scale, there);
            s2 = select(vec4<f32>(-2e30), s2 * params.scale, there);
            s3 = select(vec4<f32>(-2e30), s3 * params.scale, there);
            scores[quad] = s0;
            if SHARE > 1u {
                scores[128u + quad] = s1;
            }
            if SHARE > 2u {
                scores[256u + quad] = s2;
            }
            if SHARE > 3u {
                scores[384u + quad] = s3;
            }
            mine = max(mine, vec4<f32>(highest(s0), highest(s1), highest(s2), highest(s3)));
        }
        handed[lane][0] = mine;
        workgroupBarrier();
        var raised = high;
        for (var other = 0u; other < WG; other++) {
            raised = max(raised, handed[other][0]);
        }
        let fade = exp(high - raised);
        high = raised;
        sum *= fade;
        a0 *= fade.x;
        a1 *= fade.y;
        a2 *= fade.z;
        a3 *= fade.w;
        for (var quad = lane; quad < quads; quad += WG) {
            let p0 = exp(scores[quad] - high.x);
            scores[quad] = p0;
            sum.x += total(p0);
            if SHARE > 1u {
                let p1 = exp(scores[128u + quad] - high.y);
                scores[128u + quad] = p1;
                sum.y += total(p1);
            }
            if SHARE > 2u {
                let p2 = exp(scores[256u + quad] - high.z);
                scores[256u + quad] = p2;
                sum.z += total(p2);
            }
            if SHARE > 3u {
                let p3 = exp(scores[384u + quad] - high.w);
                scores[384u + quad] = p3;
                sum.w += total(p3);
            }
        }
        workgroupBarrier();
        if copy < copies {
            for (var quad = copy; quad < quads; quad += copies) {
                let j = min(block + quad * 4u + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(end - 1u));
                let at = slots(j, own.x) * params.v_stride + v_base;
                let v0 = value(at.x);
                let v1 = value(at.y);
                let v2 = value(at.z);
                let v3 = value(at.w);
                a0 = weigh(scores[quad], v0, v1, v2, v3, a0);
                if SHARE > 1u {
                    a1 = weigh(scores[128u + quad], v0, v1, v2, v3, a1);
                }
                if SHARE > 2u {
                    a2 = weigh(scores[256u + quad], v0, v1, v2, v3, a2);
                }
                if SHARE > 3u {
                    a3 = weigh(scores[384u + quad], v0, v1, v2, v3, a3);
                }
            }
        }
        workgroupBarrier();
    }

    handed[lane][0] = sum;
    workgroupBarrier();
    sum = vec4<f32>(0.0);
    for (var other = 0u; other < WG; other++) {
        sum += handed[other][0];
    }
    workgroupBarrier();
    handed[lane][0] = a0;
    handed[lane][1] = a1;
    handed[lane][2] = a2;
    handed[lane][3] = a3;
    workgroupBarrier();
    let unit = (split * params.rows + row) * params.heads + head;
    if lane < params.width {
        for (var other = 1u; other < copies; other++) {
            let from_lane = lane + other * params.width;
            a0 += handed[from_lane][0];
            a1 += handed[from_lane][1];
            a2 += handed[from_lane][2];
            a3 += handed[from_lane][3];
        }
        let at = unit * params.width + lane;
        part[at] = a0 / max(sum.x, 1e-30);
        if SHARE > 1u && head + 1u < beyond {
            part[at + params.width] = a1 / max(sum.y, 1e-30);
        }
        if SHARE > 2u && head + 2u < beyond {
            part[at + 2u * params.width] = a2 / max(sum.z, 1e-30);
        }
        if SHARE > 3u && head + 3u < beyond {
            part[at + 3u * params.width] = a3 / max(sum.w, 1e-30);
        }
    }
    if lane == 0u {
        state[unit] = vec2<f32>(high.x, sum.x);
        if SHARE > 1u && head + 1u < beyond {
            state[unit + 1u] = vec2<f32>(high.y, sum.y);
        }
        if SHARE > 2u && head + 2u < beyond {
            state[unit + 2u] = vec2<f32>(high.z, sum.z);
        }
        if SHARE > 3u && head + 3u < beyond {
            state[unit + 3u] = vec2<f32>(high.w, sum.w);
        }
    }
}
