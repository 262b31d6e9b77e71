// y[p, q] = sum_k a[p, k] · b[q, k] (+ a[p, depth])
//
// The product of two activations: masks from hypernetwork weights and pixels. One thread
// computes 8 rows of a by 4 rows of b in registers, as linear.wgsl does; rows beyond the ends read
// the last row again and are not stored. With BIAS the value after the depth in a row of a is added.
// The depth and the rows of b are multiples of 4.

override WG: u32 = 64;
override BIAS: u32 = 0;

struct Params {
    rows: u32,      // of a
    cols: u32,      // rows of b, / 4
    depth: u32,     // / 4
    a_stride: u32,  // of a, / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;        // (rows, a_stride) of 4
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;        // (4 · cols, depth) of 4
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (rows, cols) of 4

fn dots(v: vec4<f32>, b0: vec4<f32>, b1: vec4<f32>, b2: vec4<f32>, b3: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(v, b0), dot(v, b1), dot(v, b2), dot(v, b3));
}

fn store(row: u32, col: u32, sum: vec4<f32>) {
    if row < params.rows {
        var v = sum;
        if BIAS == 1u {
            v += a[row * params.a_stride + params.depth].x;
        }
        y[row * params.cols + col] = v;
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let col = id.x % params.cols;
    let row = id.x / params.cols * 8u;
    let last = params.rows - 1u;
    let a0 = min(row + 0u, last) * params.a_stride;
    let a1 = min(row + 1u, last) * params.a_stride;
    let a2 = min(row + 2u, last) * params.a_stride;
    let a3 = min(row + 3u, last) * params.a_stride;
    let a4 = min(row + 4u, last) * params.a_stride;
    let a5 = min(row + 5u, last) * params.a_stride;
    let a6 = min(row + 6u, last) * params.a_stride;
    let a7 = min(row + 7u, last) * params.a_stride;
    let b0 = col * 4u * params.depth;
    let b1 = b0 + params.depth;
    let b2 = b1 + params.depth;
    let b3 = b2 + params.depth;
    var s0 = vec4<f32>(0.0);
    var s1 = vec4<f32>(0.0);
    var s2 = vec4<f32>(0.0);
    var s3 = vec4<f32>(0.0);
    var s4 = vec4<f32>(0.0);
    var s5 = vec4<f32>(0.0);
    var s6 = vec4<f32>(0.0);
    var s7 = vec4<f32>(0.0);
    for (var k = 0u; k < params.depth; k++) {
        let w0 = b[b0 + k];
        let w1 = b[b1 + k];
        let w2 = b[b2 + k];
        let w3 = b[b3 + k];
        s0 += dots(a[a0 + k], w0, w1, w2, w3);
        s1 += dots(a[a1 + k], w0, w1, w2, w3);
        s2 += dots(a[a2 + k], w0, w1, w2, w3);
        s3 += dots(a[a3 + k], w0, w1, w2, w3);
        s4 += dots(a[a4 + k], w0, w1, w2, w3);
        s5 += dots(a[a5 + k], w0, w1, w2, w3);
        s6 += dots(a[a6 + k], w0, w1, w2, w3);
        s7 += dots(a[a7 + k], w0, w1, w2, w3);
    }
    store(row + 0u, col, s0);
    store(row + 1u, col, s1);
    store(row + 2u, col, s2);
    store(row + 3u, col, s3);
    store(row + 4u, col, s4);
    store(row + 5u, col, s5);
    store(row + 6u, col, s6);
    store(row + 7u, col, s7);
}
