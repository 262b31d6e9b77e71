// team_sum(lane, v) = sum over the LANES lanes of a row of v
//
// Through workgroup memory, in the order of the lanes: every lane adds up the same numbers and gets the same sum.
// It begins with a barrier, so it may be called again; all lanes of the workgroup call it. LANES 1 has none.

var<workgroup> team_parts: array<f32, WG>;

fn team_sum(lane: u32, v: f32) -> f32 {
    if LANES == 1u {
        return v;
    }
    workgroupBarrier();
    team_parts[lane] = v;
    workgroupBarrier();
    let first = lane - lane % LANES;
    var sum = 0.0;
    for (var other = first; other < first + LANES; other++) {
        sum += team_parts[other];
    }
    return sum;
}
