// w[c, k] = d[c, k / 32] · q[c, k] + m[c, k / 32], q four bits, d and m f16
//
// A tile is 8 neighbouring columns of y (a panel) by 4 neighbouring k (a step). Eight panels
// (64 columns) lie interleaved, so that neighbouring lanes read neighbouring vec4s. The scales
// are read once for 8 steps.

@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;  // (ceil(n / 64), steps, 8 panels) of 4 k, a nibble for each of 8 columns
@group(0) @binding(6) var<storage, read> scale: array<vec4<u32>>;   // (ceil(n / 64), k / 32, 2 halves, 8 panels) of 4 columns, (d, m) f16

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
    let q = weight[((panel >> 3u) * params.steps + step) * 8u + (panel & 7u)];
    return Tile(
        fma(nibbles(q.x), s.a, s.a_min), fma(nibbles(q.y), s.a, s.a_min),
        fma(nibbles(q.z), s.a, s.a_min), fma(nibbles(q.w), s.a, s.a_min),
        fma(nibbles(q.x >> 16u), s.b, s.b_min), fma(nibbles(q.y >> 16u), s.b, s.b_min),
        fma(nibbles(q.z >> 16u), s.b, s.b_min), fma(nibbles(q.w >> 16u), s.b, s.b_min),
    );
}
