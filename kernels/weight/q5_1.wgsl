// w[c, k] = d[c, k / 32] · q[c, k] + m[c, k / 32], q five bits, d and m f16
//
// A tile is 8 neighbouring columns of y (a panel) by 4 neighbouring k (a step). Eight panels
// (64 columns) lie interleaved, so that neighbouring lanes read neighbouring vec4s. The scales
// are read once for 8 steps.

@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;  // (ceil(n / 64), steps, 8 panels) of 4 k, the low nibble for each of 8 columns
@group(0) @binding(6) var<storage, read> scale: array<vec4<u32>>;   // (ceil(n / 64), k / 32, 2 halves, 8 panels) of 4 columns, (d, m) f16
@group(0) @binding(7) var<storage, read> high: array<u32>;          // (ceil(n / 64), steps, 8 panels) of 4 k, the fifth bit for each of 8 columns

struct Scale {
    a: vec4<f32>,
    b: vec4<f32>,
    a_min: vec4<f32>,
    b_min: vec4<f32>,
}

fn weight_scale(panel: u32, block: u32) -> Scale {
    let at = ((panel >> 3u) * (params.steps >> 3u) + block) * 16u + (panel & 7u);
    let a = pairs(scale[at]);
    let b = pairs(scale[at + 8u]);
    return Scale(a.first, b.first, a.second, b.second);
}

fn weight_tile(panel: u32, step: u32, s: Scale) -> Tile {
    let at = ((panel >> 3u) * params.steps + step) * 8u + (panel & 7u);
    let q = weight[at];
    let h = high[at];
    return Tile(
        fma(fives(q.x, h), s.a, s.a_min),
        fma(fives(q.y, h >> 8u), s.a, s.a_min),
        fma(fives(q.z, h >> 16u), s.a, s.a_min),
        fma(fives(q.w, h >> 24u), s.a, s.a_min),
        fma(fives(q.x >> 16u, h >> 4u), s.b, s.b_min),
        fma(fives(q.y >> 16u, h >> 12u), s.b, s.b_min),
        fma(fives(q.z >> 16u, h >> 20u), s.b, s.b_min),
        fma(fives(q.w >> 16u, h >> 28u), s.b, s.b_min),
    );
}
