// y[t] = x[t]
//
// The best rate at which an adapter moves memory it has not in its caches: neighbouring threads
// read and write neighbouring vec4s, and each goes on a whole grid further.

override WG: u32 = 64;

struct Params {
    len: u32,     // vec4s
    stride: u32,  // threads of the grid
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // (len) of 4
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;   // (len) of 4

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    for (var i = id.x; i < params.len; i += params.stride) {
        y[i] = x[i];
    }
}
