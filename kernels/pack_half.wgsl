// y[first + i] = x[2i], x[2i + 1] as two f16 in one word
//
// Keeps what a volume's slices need for their masks at half the memory. One thread per 8 values.
// Values beyond the range of f16 are clamped to it.

override WG: u32 = 64;

struct Params {
    len: u32,    // of x, / 8
    first: u32,  // of y, / 4 words
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (2 · len) of 4
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;  // (first + len) of 8 values

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.len {
        y[params.first + i] = vec4<u32>(halves(x[2u * i]), halves(x[2u * i + 1u]));
    }
}
