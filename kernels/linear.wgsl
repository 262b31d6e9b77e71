// y[r, c] = activate(sum_k x[r, k] · w[c, k] + bias[c]) (+ residual[r, c])
//
// One thread computes 8 rows by 8 columns of y in registers: per step of 4 k it reads 8 vec4s of x
// and one tile of 8 columns of w (weight/*.wgsl), then does 256 multiply-adds. Threads are
// numbered along the columns first, so the lanes of a subgroup read neighbouring panels of w
// and the same rows of x. With 4 rows a thread has half of it to do and there are twice as many threads, for
// products that leave an adapter idle; the sums of a row are the same.
//
// No workgroup memory and no barriers: on a CPU driver each load is a loop over the lanes and
// a barrier is dearer still, so what counts is multiply-adds per load. There the loop body is
// as long as it may be: two steps a turn overflow the instruction cache, a loop in the loop
// moves every sum through memory. Rows beyond m read row m - 1 again and are not stored; columns
// beyond n are zeros in the packed weight. k and n are multiples of 4. What follows the sum is shared/store.wgsl.

override WG: u32 = 64;
override ROWS: u32 = 8;  // of a thread, 8 or 4

struct Params {
    rows: u32,
    cols: u32,     // columns of this product in y
    steps: u32,    // k / 4
    panels: u32,   // of 8 columns of w
    y_cols: u32,   // columns of y
    y_first: u32,  // the first of them that is this product's
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;     // (rows, steps) of 4 k
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;  // (2 · panels) of 4 columns

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let panel = id.x % params.panels;
    let row = (id.x / params.panels) * ROWS;
    let last = params.rows - 1u;
    let x0 = min(row + 0u, last) * params.steps;
    let x1 = min(row + 1u, last) * params.steps;
    let x2 = min(row + 2u, last) * params.steps;
    let x3 = min(row + 3u, last) * params.steps;
    let x4 = min(row + 4u, last) * params.steps;
    let x5 = min(row + 5u, last) * params.steps;
    let x6 = min(row + 6u, last) * params.steps;
    let x7 = min(row + 7u, last) * params.steps;

    var a0 = bias[panel * 2u];
    var b0 = bias[panel * 2u + 1u];
    var a1 = a0;
    var b1 = b0;
    var a2 = a0;
    var b2 = b0;
    var a3 = a0;
    var b3 = b0;
    var a4 = a0;
    var b4 = b0;
    var a5 = a0;
    var b5 = b0;
    var a6 = a0;
    var b6 = b0;
    var a7 = a0;
    var b7 = b0;

    for (var step = 0u; step < params.steps; step++) {
        let w = weight_tile(panel, step, weight_scale(panel, step / 8u));
        let v0 = x[x0 + step];
        a0 = dot_a(v0, w, a0);
        b0 = dot_b(v0, w, b0);
        let v1 = x[x1 + step];
        a1 = dot_a(v1, w, a1);
        b1 = dot_b(v1, w, b1);
        let v2 = x[x2 + step];
        a2 = dot_a(v2, w, a2);
        b2 = dot_b(v2, w, b2);
        let v3 = x[x3 + step];
        a3 = dot_a(v3, w, a3);
        b3 = dot_b(v3, w, b3);
        if ROWS == 8u {
            let v4 = x[x4 + step];
            a4 = dot_a(v4, w, a4);
            b4 = dot_b(v4, w, b4);
            let v5 = x[x5 + step];
            a5 = dot_a(v5, w, a5);
            b5 = dot_b(v5, w, b5);
            let v6 = x[x6 + step];
            a6 = dot_a(v6, w, a6);
            b6 = dot_b(v6, w, b6);
            let v7 = x[x7 + step];
            a7 = dot_a(v7, w, a7);
            b7 = dot_b(v7, w, b7);
        }
    }

    store(row + 0u, panel, a0, b0);
    store(row + 1u, panel, a1, b1);
    store(row + 2u, panel, a2, b2);
    store(row + 3u, panel, a3, b3);
    if ROWS == 8u {
        store(row + 4u, panel, a4, b4);
        store(row + 5u, panel, a5, b5);
        store(row + 6u, panel, a6, b6);
        store(row + 7u, panel, a7, b7);
    }
}
