// y[p, c] = activate(sum_{tap, i} x[p · stride + tap - 1, i] · w[c, tap, i] + bias[c]) (+ residual[p, c])
//
// A 3 x 3 convolution, padding 1, NHWC, as a matrix product whose x rows are gathered: k runs
// over (tap row, tap column, input channel). As in linear.wgsl one thread computes 8 pixels (in
// memory order, across row and image ends) by 8 channels of y in registers, and a step is 4 input
// channels of one tap.
//
// Outside the image x is zero: each pixel keeps nine bits that say which taps lie inside; the
// others read element 0 and drop it, so the loop has no branch. Only the first pixel's place
// costs divisions, the others count on from it. Input and output channels are multiples of 4.

override WG: u32 = 64;
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

// An output pixel: where it is, and what its taps read.
struct Pixel {
    column: u32,
    row: u32,
    image: u32,
    origin: u32,  // the vec4 of x under tap (0, 0); wraps below zero where that tap is outside
    inside: u32,  // bit t: tap t lies in the image
}

fn pixel(column: u32, row: u32, image: u32) -> Pixel {
    let left = column * params.stride - 1u;
    let top = row * params.stride - 1u;
    let columns = u32(left < params.width) | 2u | (u32(left + 2u < params.width) << 2u);
    let inside = (columns * u32(top < params.height)) | (columns << 3u) | ((columns * u32(top + 2u < params.height)) << 6u);
    let origin = ((image * params.height + top) * params.width + left) * (params.steps / 9u);
    return Pixel(column, row, image, origin, inside);
}

fn next(p: Pixel) -> Pixel {
    let wraps = p.column + 1u == params.out_width;
    let column = select(p.column + 1u, 0u, wraps);
    let below = p.row + u32(wraps);
    let ends = below == params.out_height;
    // Past the last image stay inside it: that pixel is not stored.
    return pixel(column, select(below, 0u, ends), min(p.image + u32(ends), params.images - 1u));
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
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let panel = id.x % params.panels;
    let row = (id.x / params.panels) * 8u;
    let line = row / params.out_width;
    let p0 = pixel(row % params.out_width, line % params.out_height, min(line / params.out_height, params.images - 1u));
    let p1 = next(p0);
    let p2 = next(p1);
    let p3 = next(p2);
    let p4 = next(p3);
    let p5 = next(p4);
    let p6 = next(p5);
    let p7 = next(p6);

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

    let quads = params.steps / 9u;
    var tap = 0u;
    var channel = 0u;
    var offset = 0u;
    for (var step = 0u; step < params.steps; step++) {
        let w = weight_tile(panel, step, weight_scale(panel, step / 8u));
        let v0 = tap_value(p0, tap, offset + channel);
        a0 = dot_a(v0, w, a0);
        b0 = dot_b(v0, w, b0);
        let v1 = tap_value(p1, tap, offset + channel);
        a1 = dot_a(v1, w, a1);
        b1 = dot_b(v1, w, b1);
        let v2 = tap_value(p2, tap, offset + channel);
        a2 = dot_a(v2, w, a2);
        b2 = dot_b(v2, w, b2);
        let v3 = tap_value(p3, tap, offset + channel);
        a3 = dot_a(v3, w, a3);
        b3 = dot_b(v3, w, b3);
        let v4 = tap_value(p4, tap, offset + channel);
        a4 = dot_a(v4, w, a4);
        b4 = dot_b(v4, w, b4);
        let v5 = tap_value(p5, tap, offset + channel);
        a5 = dot_a(v5, w, a5);
        b5 = dot_b(v5, w, b5);
        let v6 = tap_value(p6, tap, offset + channel);
        a6 = dot_a(v6, w, a6);
        b6 = dot_b(v6, w, b6);
        let v7 = tap_value(p7, tap, offset + channel);
        a7 = dot_a(v7, w, a7);
        b7 = dot_b(v7, w, b7);
        channel++;
        let done = channel == quads;
        channel = select(channel, 0u, done);
        // Three taps on, the next row of x begins.
        offset += select(0u, select(quads, (params.width - 2u) * quads, (tap == 2u) | (tap == 5u)), done);
        tap += u32(done);
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
}
