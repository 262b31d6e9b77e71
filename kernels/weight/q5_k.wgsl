// w[c, k] = d[c, k / 256] · s[c, k / 32] · q[c, k] - e[c, k / 256] · m[c, k / 32], q five bits, s and m six, d and e f16
//
// A tile is 8 neighbouring columns of y (a panel) by 4 neighbouring k (a step). Eight panels
// (64 columns) lie interleaved, so that neighbouring lanes read neighbouring vec4s. The scales
// are unpacked once for 8 steps. d · s has 17 bits and its product with q 22: nothing is rounded before the sum, so
// that a fused multiply-add and two separate operations give the same.

@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;  // (ceil(n / 64), steps, 8 panels) of 4 k, the low nibble for each of 8 columns
@group(0) @binding(6) var<storage, read> scale: array<vec4<u32>>;   // (ceil(n / 64), k / 256, 80) of 2 halves · 8 panels of 4 columns, (d, e) f16, then k / 32 of 256 · 8 panels of 8 bytes s, 8 bytes m
@group(0) @binding(7) var<storage, read> high: array<u32>;          // (ceil(n / 64), steps, 8 panels) of 4 k, the fifth bit for each of 8 columns

struct Scale {
    a: vec4<f32>,
    b: vec4<f32>,
    a_min: vec4<f32>,
    b_min: vec4<f32>,
}

fn weight_scale(panel: u32, block: u32) -> Scale {
    let at = ((panel >> 3u) * (params.steps >> 6u) + (block >> 3u)) * 80u + (panel & 7u);
    let a = pairs(scale[at]);
    let b = pairs(scale[at + 8u]);
    let part = scale[at + 16u + (block & 7u) * 8u];
    return Scale(
        a.first * bytes(part.x), b.first * bytes(part.y),
        -(a.second * bytes(part.z)), -(b.second * bytes(part.w)),
    );
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
