// y[p, c] = activate(sum_{tap, i} x[p · stride + tap - 1, i] · w[c, tap, i] + bias[c]) (+ residual[p, c])
//
// conv.wgsl for CPU adapters with subgroups, as linear_broadcast.wgsl is linear.wgsl: the lanes of a subgroup need
// the same 16 pixels, so each loads two of them and hands them round. A thread keeps the places of its own two
// pixels alone. LANES neighbouring panels of the same pixels are a subgroup.

override WG: u32 = 64;
override LANES: u32 = 8;  // of a subgroup, 8 or more
override RESIDUAL: u32 = 0;

struct Params {
    images: u32,
    height: u32,      // of x
    width: u32,
    steps: u32,       // 9 · input channels / 4
    out_height: u32,  // (height - 1) / stride + 1
    out_width: u32,
    cols: u32,        // output channels
    panels: u32,      // ceil(cols / 8)
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // (images, height, width) of 4 channels
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;      // (2 · panels) of 4 columns
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>;  // (images, out_height, out_width, cols / 4), any buffer if RESIDUAL is 0
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;   // (images, out_height, out_width, cols / 4)

// An output pixel: what its taps read.
struct Pixel {
    origin: u32,  // the vec4 of x under tap (0, 0); wraps below zero where that tap is outside
    inside: u32,  // bit t: tap t lies in the image
}

// Pixels are numbered in memory order, across row and image ends; one beyond the last is the last.
fn pixel(number: u32) -> Pixel {
    let at = min(number, params.images * params.out_height * params.out_width - 1u);
    let line = at / params.out_width;
    let image = line / params.out_height;
    let left = (at % params.out_width) * params.stride - 1u;
    let top = (line % params.out_height) * params.stride - 1u;
    let columns = u32(left < params.width) | 2u | (u32(left + 2u < params.width) << 2u);
    let inside = (columns * u32(top < params.height)) | (columns << 3u) | ((columns * u32(top + 2u < params.height)) << 6u);
    return Pixel(((image * params.height + top) * params.width + left) * (params.steps / 9u), inside);
}

fn tap_value(p: Pixel, tap: u32, offset: u32) -> vec4<f32> {
    let inside = ((p.inside >> tap) & 1u) == 1u;
    return select(vec4<f32>(0.0), x[select(0u, p.origin + offset, inside)], inside);
}

// `sum` already holds the bias.
fn store(row: u32, quad: u32, sum: vec4<f32>) {
    if (row < params.images * params.out_height * params.out_width) & (quad * 4u < params.cols) {
        let at = row * (params.cols / 4u) + quad;
        var v = activate(sum);
        if RESIDUAL == 1u {
            v += residual[at];
        }
        y[at] = v;
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let across = (params.panels + LANES - 1u) / LANES;  // subgroups side by side
    let subgroup = id.x / LANES;
    let own = (subgroup % across) * LANES + lane;
    let panel = min(own, params.panels - 1u);
    let row = (subgroup / across) * 16u;
    let p_lower = pixel(row + lane % 8u);
    let p_upper = pixel(row + 8u + lane % 8u);

    var a0 = bias[panel * 2u];
    var b0 = bias[panel * 2u + 1u];
    var a1 = a0;
    var b1 = b0;
    var a2 = a0;
    var b2 = b0;
    var a3 = a0;
    var b3 = b0;
    var a4 = a0;
    var b4 = b0;
    var a5 = a0;
    var b5 = b0;
    var a6 = a0;
    var b6 = b0;
    var a7 = a0;
    var b7 = b0;
    var a8 = a0;
    var b8 = b0;
    var a9 = a0;
    var b9 = b0;
    var a10 = a0;
    var b10 = b0;
    var a11 = a0;
    var b11 = b0;
    var a12 = a0;
    var b12 = b0;
    var a13 = a0;
    var b13 = b0;
    var a14 = a0;
    var b14 = b0;
    var a15 = a0;
    var b15 = b0;

    let quads = params.steps / 9u;
    var tap = 0u;
    var channel = 0u;
    var offset = 0u;
    for (var step = 0u; step < params.steps; step++) {
        let w = weight_tile(panel, step, weight_scale(panel, step / 8u));
        let lower = tap_value(p_lower, tap, offset + channel);
        let v0 = subgroupBroadcast(lower, 0u);
        a0 = dot_a(v0, w, a0);
        b0 = dot_b(v0, w, b0);
        let v1 = subgroupBroadcast(lower, 1u);
        a1 = dot_a(v1, w, a1);
        b1 = dot_b(v1, w, b1);
        let v2 = subgroupBroadcast(lower, 2u);
        a2 = dot_a(v2, w, a2);
        b2 = dot_b(v2, w, b2);
        let v3 = subgroupBroadcast(lower, 3u);
        a3 = dot_a(v3, w, a3);
        b3 = dot_b(v3, w, b3);
        let v4 = subgroupBroadcast(lower, 4u);
        a4 = dot_a(v4, w, a4);
        b4 = dot_b(v4, w, b4);
        let v5 = subgroupBroadcast(lower, 5u);
        a5 = dot_a(v5, w, a5);
        b5 = dot_b(v5, w, b5);
        let v6 = subgroupBroadcast(lower, 6u);
        a6 = dot_a(v6, w, a6);
        b6 = dot_b(v6, w, b6);
        let v7 = subgroupBroadcast(lower, 7u);
        a7 = dot_a(v7, w, a7);
        b7 = dot_b(v7, w, b7);
        let upper = tap_value(p_upper, tap, offset + channel);
        let v8 = subgroupBroadcast(upper, 0u);
        a8 = dot_a(v8, w, a8);
        b8 = dot_b(v8, w, b8);
        let v9 = subgroupBroadcast(upper, 1u);
        a9 = dot_a(v9, w, a9);
        b9 = dot_b(v9, w, b9);
        let v10 = subgroupBroadcast(upper, 2u);
        a10 = dot_a(v10, w, a10);
        b10 = dot_b(v10, w, b10);
        let v11 = subgroupBroadcast(upper, 3u);
        a11 = dot_a(v11, w, a11);
        b11 = dot_b(v11, w, b11);
        let v12 = subgroupBroadcast(upper, 4u);
        a12 = dot_a(v12, w, a12);
        b12 = dot_b(v12, w, b12);
        let v13 = subgroupBroadcast(upper, 5u);
        a13 = dot_a(v13, w, a13);
        b13 = dot_b(v13, w, b13);
        let v14 = subgroupBroadcast(upper, 6u);
        a14 = dot_a(v14, w, a14);
        b14 = dot_b(v14, w, b14);
        let v15 = subgroupBroadcast(upper, 7u);
        a15 = dot_a(v15, w, a15);
        b15 = dot_b(v15, w, b15);
        channel++;
        let done = channel == quads;
        channel = select(channel, 0u, done);
        // Three taps on, the next row of x begins.
        offset += select(0u, select(quads, (params.width - 2u) * quads, (tap == 2u) | (tap == 5u)), done);
        tap += u32(done);
    }

    if own >= params.panels {
        return;
    }
    store(row + 0u, panel * 2u, a0);
    store(row + 0u, panel * 2u + 1u, b0);
    store(row + 1u, panel * 2u, a1);
    store(row + 1u, panel * 2u + 1u, b1);
    store(row + 2u, panel * 2u, a2);
    store(row + 2u, panel * 2u + 1u, b2);
    store(row + 3u, panel * 2u, a3);
    store(row + 3u, panel * 2u + 1u, b3);
    store(row + 4u, panel * 2u, a4);
    store(row + 4u, panel * 2u + 1u, b4);
    store(row + 5u, panel * 2u, a5);
    store(row + 5u, panel * 2u + 1u, b5);
    store(row + 6u, panel * 2u, a6);
    store(row + 6u, panel * 2u + 1u, b6);
    store(row + 7u, panel * 2u, a7);
    store(row + 7u, panel * 2u + 1u, b7);
    store(row + 8u, panel * 2u, a8);
    store(row + 8u, panel * 2u + 1u, b8);
    store(row + 9u, panel * 2u, a9);
    store(row + 9u, panel * 2u + 1u, b9);
    store(row + 10u, panel * 2u, a10);
    store(row + 10u, panel * 2u + 1u, b10);
    store(row + 11u, panel * 2u, a11);
    store(row + 11u, panel * 2u + 1u, b11);
    store(row + 12u, panel * 2u, a12);
    store(row + 12u, panel * 2u + 1u, b12);
    store(row + 13u, panel * 2u, a13);
    store(row + 13u, panel * 2u + 1u, b13);
    store(row + 14u, panel * 2u, a14);
    store(row + 14u, panel * 2u + 1u, b14);
    store(row + 15u, panel * 2u, a15);
    store(row + 15u, panel * 2u + 1u, b15);
}
