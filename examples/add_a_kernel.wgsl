// y[i] = clamp((x[i] - low) / (high - low), 0, 1)
//
// One thread per value; the last workgroup's spare threads do nothing.

override WG: u32 = 64;

struct Params {
    len: u32,
    low: f32,
    high: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;         // (len)
@group(0) @binding(2) var<storage, read_write> y: array<f32>;   // (len)

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.len {
        y[id.x] = saturate((x[id.x] - params.low) / (params.high - params.low));
    }
}
