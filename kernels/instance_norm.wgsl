// y[r, c] = activate((x[r, c] - mean[c]) / sqrt(var[c] + eps))
//
// One thread per 4 channels; mean and variance are those of moments.wgsl over the whole picture or volume that the
// rows of x are a part of.

override WG: u32 = 64;

struct Params {
    rows: u32,
    quads: u32,  // channels / 4
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (rows, quads) of 4 channels
@group(0) @binding(2) var<storage, read> moments: array<vec4<f32>>;  // (2, quads) of 4 channels: mean, variance
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (rows, quads) of 4 channels

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.rows * params.quads {
        let c = i % params.quads;
        let scale = inverseSqrt(moments[params.quads + c] + vec4<f32>(params.eps));
        y[i] = activate((x[i] - moments[c]) * scale);
    }
}
