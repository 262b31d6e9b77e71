// y[2i], y[2i + 1] = the two f16 in x[i]
//
// Undoes pack_half.wgsl. One thread per 8 values.

override WG: u32 = 64;

struct Params {
    len: u32,  // of y, / 8
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;        // (len) of 8 values
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // (2 · len) of 4

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.len {
        let eight = x[i];
        y[2u * i] = four_of(eight, 0u);
        y[2u * i + 1u] = four_of(eight, 1u);
    }
}
