// w[c, k] = weight, stored as pairs of bf16, the upper halves of f32
//
// A tile is 8 neighbouring columns of y (a panel) by 4 neighbouring k (a step). Eight panels
// (64 columns) lie interleaved, so that neighbouring lanes read neighbouring vec4s.

@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;  // (ceil(n / 64), steps, 4 k, 8 panels) of 8 columns

struct Scale {
    none: u32,
}

// Nothing to scale: the compiler drops it.
fn weight_scale(panel: u32, block: u32) -> Scale {
    return Scale(0u);
}

fn upper_halves(low: u32, high: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));
}

fn weight_tile(panel: u32, step: u32, scale: Scale) -> Tile {
    let at = ((panel >> 3u) * params.steps + step) * 32u + (panel & 7u);
    let k0 = weight[at];
    let k1 = weight[at + 8u];
    let k2 = weight[at + 16u];
    let k3 = weight[at + 24u];
    return Tile(
        upper_halves(k0.x, k0.y), upper_halves(k1.x, k1.y), upper_halves(k2.x, k2.y), upper_halves(k3.x, k3.y),
        upper_halves(k0.z, k0.w), upper_halves(k1.z, k1.w), upper_halves(k2.z, k2.w), upper_halves(k3.z, k3.w),
    );
}
