// y[r, c] = x[r, c] / sqrt(mean_c(x[r, :]²) + eps) · weight[c]
//
// LANES lanes to a row, WG / LANES rows to a workgroup; a lane strides over the vec4s of its row.
// LANES 1 adds up nothing and is what a CPU driver wants; a GPU wants 32. How they add up is one of shared/team.wgsl and
// shared/team_subgroup.wgsl. Rows beyond the end repeat the last one.

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
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (rows, quads) of 4 columns

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let member = lane % LANES;
    let row = flat(group, groups) * (WG / LANES) + lane / LANES;
    let start = min(row, params.rows - 1u) * params.quads;

    var part = vec4<f32>(0.0);
    for (var c = member; c < params.quads; c += LANES) {
        let v = x[start + c];
        part = fma(v, v, part);
    }
    let square = team_sum(lane, dot(part, vec4<f32>(1.0)));
    let scale = vec4<f32>(inverseSqrt(square / f32(params.quads * 4u) + params.eps));

    if row < params.rows {
        for (var c = member; c < params.quads; c += LANES) {
            y[start + c] = x[start + c] * scale * weight[c];
        }
    }
}
