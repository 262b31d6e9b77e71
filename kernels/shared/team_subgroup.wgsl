// team_sum(lane, v) = sum over the LANES lanes of a row of v
//
// As shared/team.wgsl where the lanes of a row are of one subgroup: they swap halves, then halves of halves, until each has
// all. No barrier, no workgroup memory. LANES is a power of two that every subgroup's size is a multiple of, and a subgroup
// is a run of lanes. Both partners add the same two numbers, so every lane gets the same sum.

fn team_sum(lane: u32, v: f32) -> f32 {
    var sum = v;
    for (var away = LANES / 2u; away > 0u; away /= 2u) {
        sum += subgroupShuffleXor(sum, away);
    }
    return sum;
}
