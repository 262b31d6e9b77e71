// y[p, c] = activate(sum_{tap, i} x[p · stride + tap · dilation - padding, i] · w[c, tap, i] + bias[c] (+ residual[p, c])) (+ residual[p, c])
//
// A convolution of pictures (NHWC) or volumes (NDHWC) as a matrix product whose x rows are gathered: k runs over
// (tap slice, tap row, tap column, input channel). As in linear.wgsl one thread computes 8 pixels (in memory order,
// across row and image ends) by 8 channels of y in registers, and a step is 4 input channels of one tap. With 4 pixels
// a thread there are twice as many threads, for pictures that leave an adapter idle; the sums of a pixel are the same.
//
// Outside the image x is zero: such taps read element 0 and drop it, so the loop has no branch; how they are known is
// in shared/taps.wgsl. Only the first pixel's place costs divisions, the others count on from it. Channels are
// multiples of 4, those of a group too. A panel of 8 output channels reads the input channels of its group alone.

override WG: u32 = 64;
override ROWS: u32 = 8;      // pixels of a thread, 8 or 4
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

// Where an output pixel is.
struct Place {
    column: u32,
    row: u32,
    slice: u32,
    image: u32,
}

fn place(number: u32) -> Place {
    let line = number / params.out_width;
    let slice = line / params.out_height;
    return Place(number % params.out_width, line % params.out_height, slice % params.out_depth, slice / params.out_depth);
}

fn next(p: Place) -> Place {
    let line_ends = p.column + 1u == params.out_width;
    let row = p.row + u32(line_ends);
    let slice_ends = row == params.out_height;
    let slice = p.slice + u32(slice_ends);
    let image_ends = slice == params.out_depth;
    return Place(
        select(p.column + 1u, 0u, line_ends),
        select(row, 0u, slice_ends),
        select(slice, 0u, image_ends),
        p.image + u32(image_ends),
    );
}

// Past the last image stay inside it: that pixel is not stored.
fn read_by(p: Place) -> Pixel {
    return pixel(p.column, p.row, p.slice, min(p.image, params.images - 1u));
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

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let panel = id.x % params.panels;
    let row = (id.x / params.panels) * ROWS;
    let place0 = place(row);
    let place1 = next(place0);
    let place2 = next(place1);
    let place3 = next(place2);
    let place4 = next(place3);
    let place5 = next(place4);
    let place6 = next(place5);
    let place7 = next(place6);
    let p0 = read_by(place0);
    let p1 = read_by(place1);
    let p2 = read_by(place2);
    let p3 = read_by(place3);
    let p4 = read_by(place4);
    let p5 = read_by(place5);
    let p6 = read_by(place6);
    let p7 = read_by(place7);

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

    var tap = first_tap(panel / params.group_panels);
    for (var step = 0u; step < params.steps; step++) {
        let w = weight_tile(panel, step, weight_scale(panel, step / 8u));
        let v0 = tap_value(p0, tap);
        a0 = dot_a(v0, w, a0);
        b0 = dot_b(v0, w, b0);
        let v1 = tap_value(p1, tap);
        a1 = dot_a(v1, w, a1);
        b1 = dot_b(v1, w, b1);
        let v2 = tap_value(p2, tap);
        a2 = dot_a(v2, w, a2);
        b2 = dot_b(v2, w, b2);
        let v3 = tap_value(p3, tap);
        a3 = dot_a(v3, w, a3);
        b3 = dot_b(v3, w, b3);
        if ROWS == 8u {
            let v4 = tap_value(p4, tap);
            a4 = dot_a(v4, w, a4);
            b4 = dot_b(v4, w, b4);
            let v5 = tap_value(p5, tap);
            a5 = dot_a(v5, w, a5);
            b5 = dot_b(v5, w, b5);
            let v6 = tap_value(p6, tap);
            a6 = dot_a(v6, w, a6);
            b6 = dot_b(v6, w, b6);
            let v7 = tap_value(p7, tap);
            a7 = dot_a(v7, w, a7);
            b7 = dot_b(v7, w, b7);
        }
        tap = next_tap(tap);
    }

    store(row + 0u, panel * 2u, a0);
    store(row + 0u, panel * 2u + 1u, b0);
    store(row + 1u, panel * 2u, a1);
    store(row + 1u, panel * 2u + 1u, b1);
    store(row + 2u, panel * 2u, a2);
    store(row + 2u, panel * 2u + 1u, b2);
    store(row + 3u, panel * 2u, a3);
    store(row + 3u, panel * 2u + 1u, b3);
    if ROWS == 8u {
        store(row + 4u, panel * 2u, a4);
        store(row + 4u, panel * 2u + 1u, b4);
        store(row + 5u, panel * 2u, a5);
        store(row + 5u, panel * 2u + 1u, b5);
        store(row + 6u, panel * 2u, a6);
        store(row + 6u, panel * 2u + 1u, b6);
        store(row + 7u, panel * 2u, a7);
        store(row + 7u, panel * 2u + 1u, b7);
    }
}
