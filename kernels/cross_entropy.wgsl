// y[r] = log(sum_c exp(x[r, c])) - x[r, tokens[r]]
//
// How surprised a language model is by the token that came, in nats. One workgroup per row; lanes stride over the columns
// twice, first for the largest, which is taken off so that no exponential overflows, then for the sum.

override WG: u32 = 64;

struct Params {
    rows: u32,
    cols: u32,
    stride: u32,  // of x, at least cols
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // (rows, stride)
@group(0) @binding(2) var<storage, read> tokens: array<u32>;   // (rows)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // (rows)

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = min(flat(group, groups), params.rows - 1u);
    let start = row * params.stride;
    var own = x[start + min(lane, params.cols - 1u)];
    for (var c = lane + WG; c < params.cols; c += WG) {
        own = max(own, x[start + c]);
    }
    let highest = workgroup_max(lane, own);
    var part = 0.0;
    for (var c = lane; c < params.cols; c += WG) {
        part += exp(x[start + c] - highest);
    }
    let sum = workgroup_sum(lane, part);
    if lane == 0u {
        y[row] = log(sum) + (highest - x[start + tokens[row]]);
    }
}
