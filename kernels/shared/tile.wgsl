// sum += v · w  for 4 k of one row and a tile of 8 columns
//
// Shared by all products with packed weights; `weight/*.wgsl` makes the tiles.

// w for 4 k (0..3) and columns 0..3 (a) and 4..7 (b) of a panel.
struct Tile {
    a0: vec4<f32>,
    a1: vec4<f32>,
    a2: vec4<f32>,
    a3: vec4<f32>,
    b0: vec4<f32>,
    b1: vec4<f32>,
    b2: vec4<f32>,
    b3: vec4<f32>,
}

fn dot_a(v: vec4<f32>, w: Tile, sum: vec4<f32>) -> vec4<f32> {
    return fma(v.wwww, w.a3, fma(v.zzzz, w.a2, fma(v.yyyy, w.a1, fma(v.xxxx, w.a0, sum))));
}

fn dot_b(v: vec4<f32>, w: Tile, sum: vec4<f32>) -> vec4<f32> {
    return fma(v.wwww, w.b3, fma(v.zzzz, w.b2, fma(v.yyyy, w.b1, fma(v.xxxx, w.b0, sum))));
}
