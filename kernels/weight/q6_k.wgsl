// w[c, k] = d[c, k / 256] · s[c, k / 16] · (q[c, k] - 32), q six bits, s a signed byte, d an f16
//
// A tile is 8 neighbouring columns of y (a panel) by 4 neighbouring k (a step). Eight panels
// (64 columns) lie interleaved, so that neighbouring lanes read neighbouring vec4s. The scales
// of 32 k, two for each column, are unpacked once for 8 steps. d · s · q has 23 bits: nothing is rounded.

@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;  // (ceil(n / 64), steps, 8 panels) of 4 k, the low nibble for each of 8 columns
@group(0) @binding(6) var<storage, read> scale: array<vec4<u32>>;   // (ceil(n / 64), k / 256, 72) of 8 panels of 8 columns, f16 d, then k / 32 of 256 · 8 panels of 2 k / 16 of 8 bytes s
@group(0) @binding(7) var<storage, read> high: array<vec2<u32>>;    // (ceil(n / 64), steps, 8 panels) of 4 k, two bits for each of 8 columns

struct Scale {
    a: vec4<f32>,
    b: vec4<f32>,
    a_next: vec4<f32>,  // of the second 16 k
    b_next: vec4<f32>,
}

fn weight_scale(panel: u32, block: u32) -> Scale {
    let at = ((panel >> 3u) * (params.steps >> 6u) + (block >> 3u)) * 72u + (panel & 7u);
    let d = scale[at];
    let part = scale[at + 8u + (block & 7u) * 8u];
    let a = halves(d.x, d.y);
    let b = halves(d.z, d.w);
    return Scale(
        a * signed_bytes(part.x), b * signed_bytes(part.y),
        a * signed_bytes(part.z), b * signed_bytes(part.w),
    );
}

fn weight_tile(panel: u32, step: u32, s: Scale) -> Tile {
    let at = ((panel >> 3u) * params.steps + step) * 8u + (panel & 7u);
    let q = weight[at];
    let h = high[at];
    let first = (step & 4u) == 0u;
    let a = select(s.a_next, s.a, first);
    let b = select(s.b_next, s.b, first);
    return Tile(
        (sixes(q.x, h.x) - 32.0) * a,
        (sixes(q.y, h.x >> 16u) - 32.0) * a,
        (sixes(q.z, h.y) - 32.0) * a,
        (sixes(q.w, h.y >> 16u) - 32.0) * a,
        (sixes(q.x >> 16u, h.x >> 8u) - 32.0) * b,
        (sixes(q.y >> 16u, h.x >> 24u) - 32.0) * b,
        (sixes(q.z >> 16u, h.y >> 8u) - 32.0) * b,
        (sixes(q.w >> 16u, h.y >> 24u) - 32.0) * b,
    );
}
