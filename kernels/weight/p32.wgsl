// w[c, k] = weight, stored as f32
//
// A tile is 8 neighbouring columns of y (a panel) by 4 neighbouring k (a step). Eight panels
// (64 columns) lie interleaved, so that neighbouring lanes read neighbouring vec4s.

@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;  // (ceil(n / 64), steps, 8 = k·2 + half, 8 panels) of 4 columns

struct Scale {
    none: u32,
}

// Nothing to scale: the compiler drops it.
fn weight_scale(panel: u32, block: u32) -> Scale {
    return Scale(0u);
}

fn weight_tile(panel: u32, step: u32, scale: Scale) -> Tile {
    let at = (panel * params.steps + step) * 8u;
    return Tile(
        weight[at], weight[at + 2u], weight[at + 4u], weight[at + 6u],
        weight[at + 1u], weight[at + 3u], weight[at + 5u], weight[at + 7u],
    );
}
