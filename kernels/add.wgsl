// y[i] = scale · (a[i] + b[i mod period])
//
// One thread per 4 values. A shorter b repeats: a bias, a position embedding, one row for all.

override WG: u32 = 64;

struct Params {
    len: u32,     // of a, / 4
    period: u32,  // of b, / 4
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4<f32>>;        // (len) of 4
@group(0) @binding(2) var<storage, read> b: array<vec4<f32>>;        // (period) of 4
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (len) of 4

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.len {
        y[i] = params.scale * (a[i] + b[i % params.period]);
    }
}
