// w[c, k] = d[c, k / 32] · q[c, k], q a signed byte, d an f16
//
// A tile is 8 neighbouring columns of y (a panel) by 4 neighbouring k (a step). Eight panels
// (64 columns) lie interleaved, so that neighbouring lanes read neighbouring vec4s. The scales
// are read once for 8 steps.

@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;  // (ceil(n / 64), steps, 2 halves, 8 panels) of 4 k · 4 columns
@group(0) @binding(6) var<storage, read> scale: array<vec4<u32>>;   // (ceil(n / 64), k / 32, 8 panels) of 8 columns, f16 d

struct Scale {
    a: vec4<f32>,
    b: vec4<f32>,
}

fn weight_scale(panel: u32, block: u32) -> Scale {
    let d = scale[((panel >> 3u) * (params.steps >> 3u) + block) * 8u + (panel & 7u)];
    return Scale(halves(d.x, d.y), halves(d.z, d.w));
}

fn weight_tile(panel: u32, step: u32, s: Scale) -> Tile {
    let at = ((panel >> 3u) * params.steps + step) * 16u + (panel & 7u);
    let a = weight[at];
    let b = weight[at + 8u];
    return Tile(
        signed_bytes(a.x) * s.a, signed_bytes(a.y) * s.a, signed_bytes(a.z) * s.a, signed_bytes(a.w) * s.a,
        signed_bytes(b.x) * s.b, signed_bytes(b.y) * s.b, signed_bytes(b.z) * s.b, signed_bytes(b.w) * s.b,
    );
}
