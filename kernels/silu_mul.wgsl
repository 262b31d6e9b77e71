// y[r, c] = silu(x[r, c]) · x[r, cols + c],  silu(v) = v / (1 + e⁻ᵛ)
//
// The gate of a Llama MLP: x holds gate and up side by side, as one stacked product wrote them. One
// thread per 4 values of y.

override WG: u32 = 64;

struct Params {
    rows: u32,
    cols: u32,  // of y, / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (rows, 2, cols) of 4
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // (rows, cols) of 4

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.rows * params.cols {
        let row = i / params.cols;
        let gate = x[i + row * params.cols];
        let up = x[i + (row + 1u) * params.cols];
        y[i] = gate / (1.0 + exp(-gate)) * up;
    }
}
