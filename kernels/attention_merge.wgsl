// y[u] = sum_s w[s, u] · part[s, u] / sum_s w[s, u],  w[s, u] = sum[s, u] · exp(high[s, u] - max_s high[s, u])
//
// Puts together what shares of the keys gave, each a softmax of its own (attention_split.wgsl): u is a row and head.
// One thread per 4 columns.
//
// Delicate: maxima are finite; a share without keys has a sum of 0, and where all have, y is zeros.

override WG: u32 = 64;

struct Params {
    splits: u32,
    units: u32,  // rows · heads
    width: u32,  // of a head, / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> part: array<vec4<f32>>;     // (splits, units, width) of 4
@group(0) @binding(2) var<storage, read> state: array<vec2<f32>>;    // (splits, units) of maximum and sum
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (units, width) of 4

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.units * params.width {
        let unit = i / params.width;
        var high = -1e30;
        for (var split = 0u; split < params.splits; split++) {
            high = max(high, state[split * params.units + unit].x);
        }
        var total = 0.0;
        var sum = vec4<f32>(0.0);
        for (var split = 0u; split < params.splits; split++) {
            let stood = state[split * params.units + unit];
            let weight = stood.y * exp(stood.x - high);
            total += weight;
            sum = fma(vec4<f32>(weight), part[split * params.units * params.width + i], sum);
        }
        y[i] = sum / max(total, 1e-30);
    }
}
