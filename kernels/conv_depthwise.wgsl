// y[p, c] = activate(sum_tap x[p · stride + tap · dilation - padding, c] · w[tap, c] + bias[c] (+ residual[p, c])) (+ residual[p, c])
//
// A convolution of each channel by itself, NHWC or NDHWC: memory binds it. One thread computes 4 channels of STRIP
// pixels along one axis, u, rows or columns as the kernel is longer; v is the other. Its pixels are pixel_step apart, and
// taps are taken `phases` apart, so that what pixel n reads at one tap pixel n - 1 reads at the next one: the values
// move on from pixel to pixel, and a line of taps costs one new x a tap.
// (stride · pixel_step = dilation · phases, the least that is so.)

override WG: u32 = 64;
override STRIP: u32 = 8;     // 4 or 8
override RESIDUAL: u32 = 0;  // 1: added after the activation, 2: before it

struct Params {
    lines: u32,  // images · out_depth · out_v
    quads: u32,  // channels / 4
    depth: u32,  // of x; a picture has one slice
    size_u: u32,
    size_v: u32,
    pitch_u: u32,  // pixels of x from one to the next along u
    pitch_v: u32,
    out_depth: u32,
    out_u: u32,
    out_v: u32,
    out_pitch_u: u32,  // pixels of y likewise
    out_pitch_v: u32,
    strips: u32,  // of a line
    pixel_step: u32,   // dilation_u / gcd(stride_u, dilation_u)
    phases: u32,  // stride_u / gcd(stride_u, dilation_u)
    kernel_depth: u32,
    kernel_u: u32,
    kernel_v: u32,
    weight_u: u32,  // taps from one to the next along u
    weight_v: u32,
    stride_depth: u32,
    stride_u: u32,
    stride_v: u32,
    padding_depth: u32,  // before the first slice
    padding_u: u32,
    padding_v: u32,
    dilation_depth: u32,
    dilation_u: u32,
    dilation_v: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // (images, depth, height, width, quads) of 4 channels
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;    // (kernel_depth, kernel height, kernel width, quads) of 4 channels
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;      // (quads) of 4 channels
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>;  // (images, out_depth, out height, out width, quads), any buffer if RESIDUAL is 0
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;   // (images, out_depth, out height, out width, quads)

// The x of one place along u, zero outside. `line` is the vec4 of x at u = 0.
fn value(line: u32, u: u32, seen: bool) -> vec4<f32> {
    let inside = seen & (u < params.size_u);
    return select(vec4<f32>(0.0), x[select(0u, line + u * (params.pitch_u * params.quads), inside)], inside);
}

// `line` is the vec4 of y at u = 0, `sum` already holds the bias.
fn store(line: u32, u: u32, sum: vec4<f32>) {
    if u < params.out_u {
        let at = line + u * (params.out_pitch_u * params.quads);
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
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = flat(group, groups) * WG + lane;
    let quad = number % params.quads;
    let strip = number / params.quads % params.strips;
    let line = number / params.quads / params.strips;
    if line >= params.lines {
        return;
    }
    let v = line % params.out_v;
    let slice = line / params.out_v % params.out_depth;
    let image = line / params.out_v / params.out_depth;
    // Strips of pixels that are pixel_step apart lie interleaved.
    let first = strip / params.pixel_step * (STRIP * params.pixel_step) + strip % params.pixel_step;
    let left = first * params.stride_u - params.padding_u;
    let top = v * params.stride_v - params.padding_v;
    let front = slice * params.stride_depth - params.padding_depth;
    let pixel_stride = params.stride_u * params.pixel_step;
    let slice_pixels = params.size_u * params.size_v;

    let start = bias[quad];
    var y0 = start;
    var y1 = start;
    var y2 = start;
    var y3 = start;
    var y4 = start;
    var y5 = start;
    var y6 = start;
    var y7 = start;
    let lines = params.kernel_depth * params.kernel_v * params.phases;
    for (var n = 0u; n < lines; n++) {
        let phase = n % params.phases;
        let tap_v = n / params.phases % params.kernel_v;
        let tap_slice = n / params.phases / params.kernel_v;
        let z = front + tap_slice * params.dilation_depth;
        let w = top + tap_v * params.dilation_v;
        let seen = (z < params.depth) & (w < params.size_v);
        let source = ((image * params.depth + z) * slice_pixels + w * params.pitch_v) * params.quads + quad;
        let taps = (tap_slice * (params.kernel_u * params.kernel_v) + tap_v * params.weight_v) * params.quads + quad;
        var u = left + phase * params.dilation_u;
        var x0 = value(source, u, seen);
        var x1 = value(source, u + pixel_stride, seen);
        var x2 = value(source, u + 2u * pixel_stride, seen);
        var x3 = vec4<f32>(0.0);
        var x4 = vec4<f32>(0.0);
        var x5 = vec4<f32>(0.0);
        var x6 = vec4<f32>(0.0);
        if STRIP == 8u {
            x3 = value(source, u + 3u * pixel_stride, seen);
            x4 = value(source, u + 4u * pixel_stride, seen);
            x5 = value(source, u + 5u * pixel_stride, seen);
            x6 = value(source, u + 6u * pixel_stride, seen);
        }
        for (var tap = phase; tap < params.kernel_u; tap += params.phases) {
            let weights = weight[taps + tap * (params.weight_u * params.quads)];
            let last = value(source, u + (STRIP - 1u) * pixel_stride, seen);
            u += pixel_stride;
            y0 = fma(x0, weights, y0);
            y1 = fma(x1, weights, y1);
            y2 = fma(x2, weights, y2);
            x0 = x1;
            x1 = x2;
            if STRIP == 8u {
                y3 = fma(x3, weights, y3);
                y4 = fma(x4, weights, y4);
                y5 = fma(x5, weights, y5);
                y6 = fma(x6, weights, y6);
                y7 = fma(last, weights, y7);
                x2 = x3;
                x3 = x4;
                x4 = x5;
                x5 = x6;
                x6 = last;
            } else {
                y3 = fma(last, weights, y3);
                x2 = last;
            }
        }
    }

    let into = (((image * params.out_depth + slice) * (params.out_u * params.out_v)) + v * params.out_pitch_v) * params.quads + quad;
    store(into, first, y0);
    store(into, first + params.pixel_step, y1);
    store(into, first + 2u * params.pixel_step, y2);
    store(into, first + 3u * params.pixel_step, y3);
    if STRIP == 8u {
        store(into, first + 4u * params.pixel_step, y4);
        store(into, first + 5u * params.pixel_step, y5);
        store(into, first + 6u * params.pixel_step, y6);
        store(into, first + 7u * params.pixel_step, y7);
    }
}
