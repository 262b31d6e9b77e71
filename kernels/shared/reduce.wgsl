// workgroup_sum(lane, v) = sum over the lanes of v; workgroup_max(lane, v) likewise
//
// A tree in workgroup memory with a power of two of lanes. Both end with a barrier, so they may be
// called one after the other. The order of additions is fixed: results are reproducible.

var<workgroup> reduction: array<f32, WG>;

fn workgroup_sum(lane: u32, v: f32) -> f32 {
    reduction[lane] = v;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            reduction[lane] += reduction[lane + half];
        }
        workgroupBarrier();
    }
    let total = reduction[0];
    workgroupBarrier();
    return total;
}

fn workgroup_max(lane: u32, v: f32) -> f32 {
    reduction[lane] = v;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            reduction[lane] = max(reduction[lane], reduction[lane + half]);
        }
        workgroupBarrier();
    }
    let highest = reduction[0];
    workgroupBarrier();
    return highest;
}
