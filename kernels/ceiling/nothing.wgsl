// y[0] = value
//
// What a dispatch costs that does nothing: one workgroup of one thread.

struct Params {
    value: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;  // (1)

@compute @workgroup_size(1)
fn main() {
    y[0] = params.value;
}
