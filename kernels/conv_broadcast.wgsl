// y[p, c] = activate(sum_{tap, i} x[p · stride + tap · dilation - padding, i] · w[c, tap, i] + bias[c] (+ residual[p, c])) (+ residual[p, c])
//
// conv.wgsl for CPU adapters with subgroups, the other way round than linear_broadcast.wgsl: here each lane has pixels
// of its own, and what a subgroup shares is the weights. A thread computes PIXELS pixels by PANELS panels of 8
// channels. Each of its first PANELS lanes loads the tile of one panel and hands it round, so that a tile serves
// 8 lanes of pixels, and an x that is loaded all panels. Few output channels keep every lane busy too.
//
// 240 sums (5 by 6 panels) or 256 (4 by 8) to a thread are the most that pay: the loop body is as long as the
// instruction cache lets it be.

override WG: u32 = 64;
override LANES: u32 = 8;     // of a subgroup, 8 or more
override PANELS: u32 = 8;    // of a thread, 8 at most; they divide a group's panels where there are several groups
override PIXELS: u32 = 4;    // of a thread, 4 or 5
override RESIDUAL: u32 = 0;  // 1: added after the activation, 2: before it

struct Params {
    images: u32,
    depth: u32,  // of x; a picture has one slice
    height: u32,
    width: u32,
    quads: u32,  // channels / 4 of x
    out_depth: u32,
    out_height: u32,
    out_width: u32,
    kernel_depth: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_depth: u32,
    stride_height: u32,
    stride_width: u32,
    padding_depth: u32,  // before the first slice
    padding_height: u32,
    padding_width: u32,
    dilation_depth: u32,
    dilation_height: u32,
    dilation_width: u32,
    steps: u32,         // taps · group_quads
    group_quads: u32,   // input channels / 4 of a group
    group_panels: u32,  // panels of a group
    cols: u32,          // output channels
    panels: u32,        // ceil(cols / 8)
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // (images, depth, height, width, quads) of 4 channels
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;      // (2 · panels) of 4 columns
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>;  // (images, out_depth, out_height, out_width, cols / 4), any buffer if RESIDUAL is 0
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;   // (images, out_depth, out_height, out_width, cols / 4)

// Pixels are numbered in memory order, across row and image ends; one beyond the last is the last.
fn numbered(number: u32) -> Pixel {
    let at = min(number, params.images * params.out_depth * params.out_height * params.out_width - 1u);
    let line = at / params.out_width;
    let slice = line / params.out_height;
    return pixel(at % params.out_width, line % params.out_height, slice % params.out_depth, slice / params.out_depth);
}

// `sum` already holds the bias.
fn store(row: u32, quad: u32, sum: vec4<f32>) {
    if (row < params.images * params.out_depth * params.out_height * params.out_width) & (quad * 4u < params.cols) {
        let at = row * (params.cols / 4u) + quad;
        var v = sum;
        if RESIDUAL == 2u {
            v += residual[at];
        }
        v = activate(v);
        if RESIDUAL == 1u {
            v += residual[at];
        }
        y[at] = v;
    }
}

// The sums of 4 channels of a thread's pixels.
struct Sums {
    p0: vec4<f32>,
    p1: vec4<f32>,
    p2: vec4<f32>,
    p3: vec4<f32>,
    p4: vec4<f32>,
}

// One input channel of a thread's pixels.
struct Values {
    p0: f32,
    p1: f32,
    p2: f32,
    p3: f32,
    p4: f32,
}

// They begin with the bias. Panels beyond the last repeat it and are not stored.
fn begin(panel: u32, half: u32) -> Sums {
    let start = bias[min(panel, params.panels - 1u) * 2u + half];
    return Sums(start, start, start, start, start);
}

fn add(s: Sums, v: Values, w: vec4<f32>) -> Sums {
    var sums = s;
    sums.p0 = fma(vec4<f32>(v.p0), w, s.p0);
    sums.p1 = fma(vec4<f32>(v.p1), w, s.p1);
    sums.p2 = fma(vec4<f32>(v.p2), w, s.p2);
    sums.p3 = fma(vec4<f32>(v.p3), w, s.p3);
    if PIXELS == 5u {
        sums.p4 = fma(vec4<f32>(v.p4), w, s.p4);
    }
    return sums;
}

fn end(row: u32, quad: u32, s: Sums) {
    store(row, quad, s.p0);
    store(row + LANES, quad, s.p1);
    store(row + 2u * LANES, quad, s.p2);
    store(row + 3u * LANES, quad, s.p3);
    if PIXELS == 5u {
        store(row + 4u * LANES, quad, s.p4);
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let across = (params.panels + PANELS - 1u) / PANELS;  // subgroups side by side
    let subgroup = id.x / LANES;
    let first = (subgroup % across) * PANELS;
    let own = min(first + lane % PANELS, params.panels - 1u);
    let row = (subgroup / across) * (PIXELS * LANES) + lane;
    let p0 = numbered(row);
    let p1 = numbered(row + LANES);
    let p2 = numbered(row + 2u * LANES);
    let p3 = numbered(row + 3u * LANES);
    let p4 = numbered(row + 4u * LANES);

    var a0 = begin(first + 0u, 0u);
    var b0 = begin(first + 0u, 1u);
    var a1 = begin(first + 1u, 0u);
    var b1 = begin(first + 1u, 1u);
    var a2 = begin(first + 2u, 0u);
    var b2 = begin(first + 2u, 1u);
    var a3 = begin(first + 3u, 0u);
    var b3 = begin(first + 3u, 1u);
    var a4 = begin(first + 4u, 0u);
    var b4 = begin(first + 4u, 1u);
    var a5 = begin(first + 5u, 0u);
    var b5 = begin(first + 5u, 1u);
    var a6 = begin(first + 6u, 0u);
    var b6 = begin(first + 6u, 1u);
    var a7 = begin(first + 7u, 0u);
    var b7 = begin(first + 7u, 1u);

    var tap = first_tap(first / params.group_panels);
    for (var step = 0u; step < params.steps; step++) {
        let w = weight_tile(own, step, weight_scale(own, step / 8u));
        let v0 = tap_value(p0, tap);
        let v1 = tap_value(p1, tap);
        let v2 = tap_value(p2, tap);
        let v3 = tap_value(p3, tap);
        let v4 = tap_value(p4, tap);
        let x0 = Values(v0.x, v1.x, v2.x, v3.x, v4.x);
        let x1 = Values(v0.y, v1.y, v2.y, v3.y, v4.y);
        let x2 = Values(v0.z, v1.z, v2.z, v3.z, v4.z);
        let x3 = Values(v0.w, v1.w, v2.w, v3.w, v4.w);
        a0 = add(a0, x0, subgroupBroadcast(w.a0, 0u));
        a0 = add(a0, x1, subgroupBroadcast(w.a1, 0u));
        a0 = add(a0, x2, subgroupBroadcast(w.a2, 0u));
        a0 = add(a0, x3, subgroupBroadcast(w.a3, 0u));
        b0 = add(b0, x0, subgroupBroadcast(w.b0, 0u));
        b0 = add(b0, x1, subgroupBroadcast(w.b1, 0u));
        b0 = add(b0, x2, subgroupBroadcast(w.b2, 0u));
        b0 = add(b0, x3, subgroupBroadcast(w.b3, 0u));
        a1 = add(a1, x0, subgroupBroadcast(w.a0, 1u));
        a1 = add(a1, x1, subgroupBroadcast(w.a1, 1u));
        a1 = add(a1, x2, subgroupBroadcast(w.a2, 1u));
        a1 = add(a1, x3, subgroupBroadcast(w.a3, 1u));
        b1 = add(b1, x0, subgroupBroadcast(w.b0, 1u));
        b1 = add(b1, x1, subgroupBroadcast(w.b1, 1u));
        b1 = add(b1, x2, subgroupBroadcast(w.b2, 1u));
        b1 = add(b1, x3, subgroupBroadcast(w.b3, 1u));
        if PANELS > 2u {
            a2 = add(a2, x0, subgroupBroadcast(w.a0, 2u));
            a2 = add(a2, x1, subgroupBroadcast(w.a1, 2u));
            a2 = add(a2, x2, subgroupBroadcast(w.a2, 2u));
            a2 = add(a2, x3, subgroupBroadcast(w.a3, 2u));
            b2 = add(b2, x0, subgroupBroadcast(w.b0, 2u));
            b2 = add(b2, x1, subgroupBroadcast(w.b1, 2u));
            b2 = add(b2, x2, subgroupBroadcast(w.b2, 2u));
            b2 = add(b2, x3, subgroupBroadcast(w.b3, 2u));
        }
        if PANELS > 3u {
            a3 = add(a3, x0, subgroupBroadcast(w.a0, 3u));
            a3 = add(a3, x1, subgroupBroadcast(w.a1, 3u));
            a3 = add(a3, x2, subgroupBroadcast(w.a2, 3u));
            a3 = add(a3, x3, subgroupBroadcast(w.a3, 3u));
            b3 = add(b3, x0, subgroupBroadcast(w.b0, 3u));
            b3 = add(b3, x1, subgroupBroadcast(w.b1, 3u));
            b3 = add(b3, x2, subgroupBroadcast(w.b2, 3u));
            b3 = add(b3, x3, subgroupBroadcast(w.b3, 3u));
        }
        if PANELS > 4u {
            a4 = add(a4, x0, subgroupBroadcast(w.a0, 4u));
            a4 = add(a4, x1, subgroupBroadcast(w.a1, 4u));
            a4 = add(a4, x2, subgroupBroadcast(w.a2, 4u));
            a4 = add(a4, x3, subgroupBroadcast(w.a3, 4u));
            b4 = add(b4, x0, subgroupBroadcast(w.b0, 4u));
            b4 = add(b4, x1, subgroupBroadcast(w.b1, 4u));
            b4 = add(b4, x2, subgroupBroadcast(w.b2, 4u));
            b4 = add(b4, x3, subgroupBroadcast(w.b3, 4u));
        }
        if PANELS > 5u {
            a5 = add(a5, x0, subgroupBroadcast(w.a0, 5u));
            a5 = add(a5, x1, subgroupBroadcast(w.a1, 5u));
            a5 = add(a5, x2, subgroupBroadcast(w.a2, 5u));
            a5 = add(a5, x3, subgroupBroadcast(w.a3, 5u));
            b5 = add(b5, x0, subgroupBroadcast(w.b0, 5u));
            b5 = add(b5, x1, subgroupBroadcast(w.b1, 5u));
            b5 = add(b5, x2, subgroupBroadcast(w.b2, 5u));
            b5 = add(b5, x3, subgroupBroadcast(w.b3, 5u));
        }
        if PANELS > 6u {
            a6 = add(a6, x0, subgroupBroadcast(w.a0, 6u));
            a6 = add(a6, x1, subgroupBroadcast(w.a1, 6u));
            a6 = add(a6, x2, subgroupBroadcast(w.a2, 6u));
            a6 = add(a6, x3, subgroupBroadcast(w.a3, 6u));
            b6 = add(b6, x0, subgroupBroadcast(w.b0, 6u));
            b6 = add(b6, x1, subgroupBroadcast(w.b1, 6u));
            b6 = add(b6, x2, subgroupBroadcast(w.b2, 6u));
            b6 = add(b6, x3, subgroupBroadcast(w.b3, 6u));
        }
        if PANELS > 7u {
            a7 = add(a7, x0, subgroupBroadcast(w.a0, 7u));
            a7 = add(a7, x1, subgroupBroadcast(w.a1, 7u));
            a7 = add(a7, x2, subgroupBroadcast(w.a2, 7u));
            a7 = add(a7, x3, subgroupBroadcast(w.a3, 7u));
            b7 = add(b7, x0, subgroupBroadcast(w.b0, 7u));
            b7 = add(b7, x1, subgroupBroadcast(w.b1, 7u));
            b7 = add(b7, x2, subgroupBroadcast(w.b2, 7u));
            b7 = add(b7, x3, subgroupBroadcast(w.b3, 7u));
        }
        tap = next_tap(tap);
    }

    end(row, (first + 0u) * 2u, a0);
    end(row, (first + 0u) * 2u + 1u, b0);
    end(row, (first + 1u) * 2u, a1);
    end(row, (first + 1u) * 2u + 1u, b1);
    if PANELS > 2u {
        end(row, (first + 2u) * 2u, a2);
        end(row, (first + 2u) * 2u + 1u, b2);
    }
    if PANELS > 3u {
        end(row, (first + 3u) * 2u, a3);
        end(row, (first + 3u) * 2u + 1u, b3);
    }
    if PANELS > 4u {
        end(row, (first + 4u) * 2u, a4);
        end(row, (first + 4u) * 2u + 1u, b4);
    }
    if PANELS > 5u {
        end(row, (first + 5u) * 2u, a5);
        end(row, (first + 5u) * 2u + 1u, b5);
    }
    if PANELS > 6u {
        end(row, (first + 6u) * 2u, a6);
        end(row, (first + 6u) * 2u + 1u, b6);
    }
    if PANELS > 7u {
        end(row, (first + 7u) * 2u, a7);
        end(row, (first + 7u) * 2u + 1u, b7);
    }
}
