// y[m, s, p] = sum_c hyper[s, prompt + m, c] · pixels[s, p, c] + hyper[s, prompt + m, channels]
//
// Mask logits of up to 4 neighbouring prompts on the kept pixels of a run of slices. One thread computes 4 pixels of
// one slice for all of them: a pixel is loaded and unpacked once, a weight used four times. The grid is
// pixels by slices. Channels are a multiple of 8, pixels of 4.

override WG: u32 = 64;
override MASKS: u32 = 1;  // 1 to 4

struct Params {
    slices: u32,    // of y
    pixels: u32,    // of a slice
    eighths: u32,   // channels / 8
    prompts: u32,
    prompt: u32,    // of the first mask
    stride: u32,    // of a row of hyper, / 4
    first: u32,     // slice of y that the run starts at
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> hyper: array<vec4<f32>>;    // (run, prompts, stride) of 4
@group(0) @binding(2) var<storage, read> pixels: array<vec4<u32>>;   // (run, pixels, eighths) of 8 f16
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (masks, slices, pixels / 4) of 4

// 8 channels of 4 pixels.
struct Pixels {
    low0: vec4<f32>,
    high0: vec4<f32>,
    low1: vec4<f32>,
    high1: vec4<f32>,
    low2: vec4<f32>,
    high2: vec4<f32>,
    low3: vec4<f32>,
    high3: vec4<f32>,
}

fn low(v: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
}

fn high(v: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w));
}

// Adds 8 channels of the weights at `at`.
fn weigh(at: u32, p: Pixels, sum: vec4<f32>) -> vec4<f32> {
    let l = hyper[at];
    let h = hyper[at + 1u];
    return sum + vec4<f32>(
        dot(l, p.low0) + dot(h, p.high0),
        dot(l, p.low1) + dot(h, p.high1),
        dot(l, p.low2) + dot(h, p.high2),
        dot(l, p.low3) + dot(h, p.high3),
    );
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quads = params.pixels / 4u;
    let quad = group.x * WG + lane;
    let slice = group.y;
    if quad < quads {
        let w0 = (slice * params.prompts + params.prompt) * params.stride;
        let w1 = w0 + min(1u, MASKS - 1u) * params.stride;
        let w2 = w0 + min(2u, MASKS - 1u) * params.stride;
        let w3 = w0 + min(3u, MASKS - 1u) * params.stride;
        let bias = 2u * params.eighths;
        let from_pixel = (slice * quads + quad) * 4u * params.eighths;
        var sum0 = vec4<f32>(hyper[w0 + bias].x);
        var sum1 = vec4<f32>(hyper[w1 + bias].x);
        var sum2 = vec4<f32>(hyper[w2 + bias].x);
        var sum3 = vec4<f32>(hyper[w3 + bias].x);
        for (var c = 0u; c < params.eighths; c++) {
            let v0 = pixels[from_pixel + c];
            let v1 = pixels[from_pixel + params.eighths + c];
            let v2 = pixels[from_pixel + 2u * params.eighths + c];
            let v3 = pixels[from_pixel + 3u * params.eighths + c];
            let p = Pixels(low(v0), high(v0), low(v1), high(v1), low(v2), high(v2), low(v3), high(v3));
            sum0 = weigh(w0 + 2u * c, p, sum0);
            if MASKS > 1u {
                sum1 = weigh(w1 + 2u * c, p, sum1);
            }
            if MASKS > 2u {
                sum2 = weigh(w2 + 2u * c, p, sum2);
            }
            if MASKS > 3u {
                sum3 = weigh(w3 + 2u * c, p, sum3);
            }
        }
        let at = (params.first + slice) * quads + quad;
        let mask = params.slices * quads;
        y[at] = sum0;
        if MASKS > 1u {
            y[at + mask] = sum1;
        }
        if MASKS > 2u {
            y[at + 2u * mask] = sum2;
        }
        if MASKS > 3u {
            y[at + 3u * mask] = sum3;
        }
    }
}
