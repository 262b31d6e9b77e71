// y[p, t, c] = x[t, c] · gamma[p, c] + beta[p, c]
//
// Feature-wise linear modulation: what a prompt says scales and shifts every channel of a picture's tokens, which are
// there once for all prompts. One thread per 4 channels.

override WG: u32 = 64;

struct Params {
    prompts: u32,
    tokens: u32,
    cols: u32,  // / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (tokens, cols) of 4
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;    // (prompts, cols) of 4
@group(0) @binding(3) var<storage, read> beta: array<vec4<f32>>;     // (prompts, cols) of 4
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;  // (prompts · tokens, cols) of 4

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.prompts * params.tokens * params.cols {
        let row = i / params.cols;
        let c = i % params.cols;
        let prompt = row / params.tokens * params.cols + c;
        y[i] = x[row % params.tokens * params.cols + c] * gamma[prompt] + beta[prompt];
    }
}
