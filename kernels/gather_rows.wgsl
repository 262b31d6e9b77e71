// y[r, :] = x[first + r · stride, :]
//
// Takes every `stride`-th row: the mask token of each prompt, the last token of a sequence. One thread
// per 4 columns.

override WG: u32 = 64;

struct Params {
    rows: u32,    // of y
    cols: u32,    // / 4
    first: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (first + rows · stride, cols) of 4
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // (rows, cols) of 4

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.rows * params.cols {
        y[i] = x[(params.first + i / params.cols * params.stride) * params.cols + i % params.cols];
    }
}
