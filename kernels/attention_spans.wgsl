// y[r, h] = sum_j p[j] · v[j, h / share],  p = softmax_j(scale · q[r, h] · k[j, h / share]),  j in the row's span
//
// Ragged attention: row r sees the keys start[r] .. start[r] + count[r]. With a cache that is decoding,
// prefill and many sequences at once; without one, sentences of different length side by side. A
// workgroup is one row and head. The lanes score four keys each at a time and keep the scores in
// workgroup memory; then a lane adds up 4 columns of v for its share of the keys, and the shares are
// added.
//
// With PREFIX every row has already seen a common prefix: attention.wgsl has left the result and each
// row's maximum and sum, and the softmax goes on from there.
//
// Delicate: at most KEYS keys, checked by the op; a row without any is zeros. The head width is a multiple of 4, at most 128.

override WG: u32 = 32;
override F16: u32 = 0;    // k and v hold f16, eight to a vec4; strides stay those of values
override PREFIX: u32 = 0;
const KEYS: u32 = 2048u;

struct Params {
    rows: u32,
    heads: u32,
    share: u32,     // q heads to a k, v head
    width: u32,     // of a head, / 4
    q_stride: u32,  // vec4s from row to row, and the first one: q, k, v may share one buffer
    q_first: u32,
    k_stride: u32,
    k_first: u32,
    v_stride: u32,
    v_first: u32,
    scale: f32,     // 1 / √d
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;        // (rows, heads, width) of 4, strided
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;        // (keys, heads / share, width) of 4 f32, or of 8 f16 with width / 2, strided
@group(0) @binding(3) var<storage, read> v: array<vec4<u32>>;        // (keys, heads / share, width) of 4 f32, or of 8 f16 with width / 2, strided
@group(0) @binding(4) var<storage, read> span: array<vec2<u32>>;     // (rows) of start, count
@group(0) @binding(5) var<storage, read> seen: array<vec4<f32>>;     // (rows, heads, width) of 4: the prefix's result, any buffer if PREFIX is 0
@group(0) @binding(6) var<storage, read> state: array<vec2<f32>>;    // (rows, heads) of maximum and sum, any buffer if PREFIX is 0
@group(0) @binding(7) var<storage, read_write> y: array<vec4<f32>>;  // (rows, heads, width) of 4

var<workgroup> scores: array<vec4<f32>, 512>;  // KEYS / 4
var<workgroup> partial: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let unit = min(flat(group, groups), params.rows * params.heads - 1u);
    let row = unit / params.heads;
    let head = unit % params.heads;
    let own = span[row];
    let count = own.y;
    let last = count - 1u;
    let quads = (count + 3u) / 4u;
    let q0 = params.q_first + row * params.q_stride + head * params.width;
    let k0 = params.k_first + own.x * params.k_stride + head / params.share * params.width;
    let v0 = params.v_first + own.x * params.v_stride + head / params.share * params.width;

    var high = -1e30;
    for (var quad = lane; quad < quads; quad += WG) {
        let j = quad * 4u;
        let ka = k0 + j * params.k_stride;
        let kb = k0 + min(j + 1u, last) * params.k_stride;
        let kc = k0 + min(j + 2u, last) * params.k_stride;
        let kd = k0 + min(j + 3u, last) * params.k_stride;
        var sum = vec4<f32>(0.0);
        for (var i = 0u; i < params.width; i++) {
            let query = q[q0 + i];
            sum += vec4<f32>(dot(query, key(ka + i)), dot(query, key(kb + i)), dot(query, key(kc + i)), dot(query, key(kd + i)));
        }
        // Keys beyond the end weigh nothing.
        let inside = vec4<u32>(j, j + 1u, j + 2u, j + 3u) < vec4<u32>(count);
        sum = select(vec4<f32>(-1e30), sum * params.scale, inside);
        scores[quad] = sum;
        high = max(high, max(max(sum.x, sum.y), max(sum.z, sum.w)));
    }
    if PREFIX == 1u {
        high = max(high, state[unit].x);
    }
    high = workgroup_max(lane, high);

    var total = 0.0;
    for (var quad = lane; quad < quads; quad += WG) {
        let p = exp(scores[quad] - high);
        scores[quad] = p;
        total += p.x + p.y + p.z + p.w;
    }
    total = workgroup_sum(lane, total);

    // `width` lanes make one copy of the row; the copies share the keys.
    let copies = WG / params.width;
    let copy = lane / params.width;
    let column = lane % params.width;
    var sum = vec4<f32>(0.0);
    if copy < copies {
        for (var quad = copy; quad < quads; quad += copies) {
            let j = quad * 4u;
            let p = scores[quad];
            sum = fma(vec4<f32>(p.x), value(v0 + j * params.v_stride + column), sum);
            sum = fma(vec4<f32>(p.y), value(v0 + min(j + 1u, last) * params.v_stride + column), sum);
            sum = fma(vec4<f32>(p.z), value(v0 + min(j + 2u, last) * params.v_stride + column), sum);
            sum = fma(vec4<f32>(p.w), value(v0 + min(j + 3u, last) * params.v_stride + column), sum);
        }
    }
    partial[lane] = sum;
    workgroupBarrier();
    if lane < params.width {
        for (var other = 1u; other < copies; other++) {
            sum += partial[lane + other * params.width];
        }
        let at = unit * params.width + lane;
        if PREFIX == 1u {
            let before = state[unit].y * exp(state[unit].x - high);
            sum = fma(seen[at], vec4<f32>(before), sum);
            total += before;
        }
        y[at] = sum / max(total, 1e-30);
    }
}
