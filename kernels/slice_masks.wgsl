// y[s, p] = sum_c hyper[s, prompt, c] · pixels[s, p, c] + hyper[s, prompt, channels]
//
// One prompt's mask logits on the kept pixels of a run of slices. One thread computes 4 pixels of
// one slice. The weights are read once per thread and used four times. Channels are a multiple of 8,
// pixels of 4.

override WG: u32 = 64;

struct Params {
    slices: u32,
    pixels: u32,    // of a slice
    eighths: u32,   // channels / 8
    prompts: u32,
    prompt: u32,
    stride: u32,    // of a row of hyper, / 4
    first: u32,     // slice of y that the run starts at
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> hyper: array<vec4<f32>>;    // (slices, prompts, stride) of 4
@group(0) @binding(2) var<storage, read> pixels: array<vec4<u32>>;   // (slices, pixels, eighths) of 8 f16
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (first + slices, pixels / 4) of 4

fn weigh(low: vec4<f32>, high: vec4<f32>, v: vec4<u32>) -> f32 {
    let a = vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y));
    let b = vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w));
    return dot(low, a) + dot(high, b);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    let quads = params.pixels / 4u;
    if i < params.slices * quads {
        let slice = i / quads;
        let weights = (slice * params.prompts + params.prompt) * params.stride;
        let from_pixel = i * 4u * params.eighths;
        var sum = vec4<f32>(hyper[weights + 2u * params.eighths].x);
        for (var c = 0u; c < params.eighths; c++) {
            let low = hyper[weights + 2u * c];
            let high = hyper[weights + 2u * c + 1u];
            sum += vec4<f32>(
                weigh(low, high, pixels[from_pixel + c]),
                weigh(low, high, pixels[from_pixel + params.eighths + c]),
                weigh(low, high, pixels[from_pixel + 2u * params.eighths + c]),
                weigh(low, high, pixels[from_pixel + 3u * params.eighths + c]),
            );
        }
        y[params.first * quads + i] = sum;
    }
}
