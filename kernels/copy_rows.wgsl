// y[first + r · stride, :] = x[begin + r mod period, :]
//
// Puts rows between others: the tokens of a prompt, a cache, a batch. One thread per 4 columns. Rows of
// y that are not named keep their values.

override WG: u32 = 64;

struct Params {
    rows: u32,
    begin: u32,
    period: u32,  // rows of x that are copied in turn
    cols: u32,    // / 4
    first: u32,
    stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (begin + period, cols) of 4
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // (first + rows · stride, cols) of 4

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.rows * params.cols {
        let row = i / params.cols;
        let c = i % params.cols;
        y[(params.first + row * params.stride) * params.cols + c] = x[(params.begin + row % params.period) * params.cols + c];
    }
}
