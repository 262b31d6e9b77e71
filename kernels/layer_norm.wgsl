// y[r, c] = activate((x[r, c] - mean_c(x[r, :])) / sqrt(var_c(x[r, :]) + eps) · weight[c] + bias[c])
//
// LANES lanes to a row, WG / LANES rows to a workgroup; a lane strides over the vec4s of its row.
// LANES 1 adds up nothing and is what a CPU driver wants; a GPU wants 32. How they add up is one of shared/team.wgsl and
// shared/team_subgroup.wgsl.
//
// The variance is of the differences from the mean, in a second pass over the row: one pass of
// squares loses the digits of a row far from zero. Rows beyond the end repeat the last one.

override WG: u32 = 64;
override LANES: u32 = 32;

struct Params {
    rows: u32,
    quads: u32,  // cols / 4
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (rows, quads) of 4 columns
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;   // (quads) of 4 columns
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;     // (quads) of 4 columns
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;  // (rows, quads) of 4 columns

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let member = lane % LANES;
    let row = flat(group, groups) * (WG / LANES) + lane / LANES;
    let start = min(row, params.rows - 1u) * params.quads;
    let cols = f32(params.quads * 4u);

    var part = vec4<f32>(0.0);
    for (var c = member; c < params.quads; c += LANES) {
        part += x[start + c];
    }
    let mean = vec4<f32>(team_sum(lane, dot(part, vec4<f32>(1.0))) / cols);

    part = vec4<f32>(0.0);
    for (var c = member; c < params.quads; c += LANES) {
        let d = x[start + c] - mean;
        part = fma(d, d, part);
    }
    let square = team_sum(lane, dot(part, vec4<f32>(1.0)));
    let scale = vec4<f32>(inverseSqrt(square / cols + params.eps));

    if row < params.rows {
        for (var c = member; c < params.quads; c += LANES) {
            y[start + c] = activate(fma((x[start + c] - mean) * scale, weight[c], bias[c]));
        }
    }
}
