// y[r, c] = sin(2π t), y[r, c + half] = cos(2π t), t = (2 x[r, 0] − 1) · weight[0, c] + (2 x[r, 1] − 1) · weight[1, c]
//
// Places 0..1 of a picture as random Fourier features (arXiv 2006.10739), which SAM's prompts and image tokens have in
// common. One thread per 4 columns of a row, for sine and cosine both.
//
// The quarter turns are taken off before there are radians: t − q / 4 is exact, and what is left lies within ±π / 4, where
// short polynomials are right to 1e-7. The built-in sine may be off by 5e-4 by WebGPU's rules, and by more after many turns.

override WG: u32 = 64;

struct Params {
    rows: u32,
    quads: u32,  // half / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec2<f32>>;        // (rows) of column and line
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>;   // (2, quads) of 4 columns
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (rows, 2, quads) of 4 columns

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i >= params.rows * params.quads {
        return;
    }
    let row = i / params.quads;
    let c = i % params.quads;
    let place = 2.0 * x[row] - 1.0;
    let turns = fma(vec4<f32>(place.x), weight[c], place.y * weight[params.quads + c]);
    let quarters = round(4.0 * turns);
    let angle = 6.2831853 * (turns - 0.25 * quarters);
    let square = angle * angle;

    var s = fma(square, vec4<f32>(-1.9515295891e-4), vec4<f32>(8.3321608736e-3));
    s = fma(square, s, vec4<f32>(-1.6666654611e-1));
    s = fma(square * angle, s, angle);
    var k = fma(square, vec4<f32>(2.443315711809948e-5), vec4<f32>(-1.388731625493765e-3));
    k = fma(square, k, vec4<f32>(4.166664568298827e-2));
    k = fma(square * square, k, fma(square, vec4<f32>(-0.5), vec4<f32>(1.0)));

    // A quarter turn makes a sine a cosine, and a cosine a sine with its sign turned; two turn both signs.
    let turn = vec4<i32>(quarters);
    let odd = (turn & vec4<i32>(1)) != vec4<i32>(0);
    let sine = select(s, k, odd);
    let cosine = select(k, s, odd);
    let low = (turn & vec4<i32>(2)) != vec4<i32>(0);
    let left = ((turn + vec4<i32>(1)) & vec4<i32>(2)) != vec4<i32>(0);
    let at = row * 2u * params.quads + c;
    y[at] = select(sine, -sine, low);
    y[at + params.quads] = select(cosine, -cosine, left);
}
