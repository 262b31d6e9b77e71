// y[r, c] = activate(sum_k x[r, k] · w[c, k] + bias[c]) (+ residual[r, c])
//
// linear.wgsl for CPU adapters with subgroups. There a load costs far more than the multiply-adds it feeds: the
// driver makes it a loop over the lanes and their components. The lanes of a subgroup need the same rows of x,
// so each loads one row of every 8 and hands it round: subgroupBroadcast is a splat of a register. A
// thread computes 16 rows by 8 columns of y: per step of 4 k two loads of x and one tile of w for 512
// multiply-adds, where linear.wgsl has eight loads and one tile for 256.
//
// A subgroup is a run of LANES threads: it holds LANES neighbouring panels of the same rows. Rows beyond m
// read row m - 1 again, panels beyond the last the last one; neither is stored. All lanes stay in the
// loop, which broadcasts ask for. k and n are multiples of 4. What follows the sum is shared/store.wgsl.

override WG: u32 = 64;
override LANES: u32 = 8;  // of a subgroup, 8 or more
override TALL: u32 = 1;   // 1: 16 rows, 0: 8 rows

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
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let across = (params.panels + LANES - 1u) / LANES;  // subgroups side by side
    let subgroup = id.x / LANES;
    let own = (subgroup % across) * LANES + lane;
    let panel = min(own, params.panels - 1u);
    let row = (subgroup / across) * (8u + 8u * TALL);
    let last = params.rows - 1u;
    let x_lower = min(row + lane % 8u, last) * params.steps;
    let x_upper = min(row + 8u + lane % 8u, last) * params.steps;

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
    var a8 = a0;
    var b8 = b0;
    var a9 = a0;
    var b9 = b0;
    var a10 = a0;
    var b10 = b0;
    var a11 = a0;
    var b11 = b0;
    var a12 = a0;
    var b12 = b0;
    var a13 = a0;
    var b13 = b0;
    var a14 = a0;
    var b14 = b0;
    var a15 = a0;
    var b15 = b0;

    for (var step = 0u; step < params.steps; step++) {
        let w = weight_tile(panel, step, weight_scale(panel, step / 8u));
        let lower = x[x_lower + step];
        let v0 = subgroupBroadcast(lower, 0u);
        a0 = dot_a(v0, w, a0);
        b0 = dot_b(v0, w, b0);
        let v1 = subgroupBroadcast(lower, 1u);
        a1 = dot_a(v1, w, a1);
        b1 = dot_b(v1, w, b1);
        let v2 = subgroupBroadcast(lower, 2u);
        a2 = dot_a(v2, w, a2);
        b2 = dot_b(v2, w, b2);
        let v3 = subgroupBroadcast(lower, 3u);
        a3 = dot_a(v3, w, a3);
        b3 = dot_b(v3, w, b3);
        let v4 = subgroupBroadcast(lower, 4u);
        a4 = dot_a(v4, w, a4);
        b4 = dot_b(v4, w, b4);
        let v5 = subgroupBroadcast(lower, 5u);
        a5 = dot_a(v5, w, a5);
        b5 = dot_b(v5, w, b5);
        let v6 = subgroupBroadcast(lower, 6u);
        a6 = dot_a(v6, w, a6);
        b6 = dot_b(v6, w, b6);
        let v7 = subgroupBroadcast(lower, 7u);
        a7 = dot_a(v7, w, a7);
        b7 = dot_b(v7, w, b7);
        if TALL == 1u {
            let upper = x[x_upper + step];
            let v8 = subgroupBroadcast(upper, 0u);
            a8 = dot_a(v8, w, a8);
            b8 = dot_b(v8, w, b8);
            let v9 = subgroupBroadcast(upper, 1u);
            a9 = dot_a(v9, w, a9);
            b9 = dot_b(v9, w, b9);
            let v10 = subgroupBroadcast(upper, 2u);
            a10 = dot_a(v10, w, a10);
            b10 = dot_b(v10, w, b10);
            let v11 = subgroupBroadcast(upper, 3u);
            a11 = dot_a(v11, w, a11);
            b11 = dot_b(v11, w, b11);
            let v12 = subgroupBroadcast(upper, 4u);
            a12 = dot_a(v12, w, a12);
            b12 = dot_b(v12, w, b12);
            let v13 = subgroupBroadcast(upper, 5u);
            a13 = dot_a(v13, w, a13);
            b13 = dot_b(v13, w, b13);
            let v14 = subgroupBroadcast(upper, 6u);
            a14 = dot_a(v14, w, a14);
            b14 = dot_b(v14, w, b14);
            let v15 = subgroupBroadcast(upper, 7u);
            a15 = dot_a(v15, w, a15);
            b15 = dot_b(v15, w, b15);
        }
    }

    if own >= params.panels {
        return;
    }
    store(row + 0u, panel, a0, b0);
    store(row + 1u, panel, a1, b1);
    store(row + 2u, panel, a2, b2);
    store(row + 3u, panel, a3, b3);
    store(row + 4u, panel, a4, b4);
    store(row + 5u, panel, a5, b5);
    store(row + 6u, panel, a6, b6);
    store(row + 7u, panel, a7, b7);
    if TALL == 1u {
        store(row + 8u, panel, a8, b8);
        store(row + 9u, panel, a9, b9);
        store(row + 10u, panel, a10, b10);
        store(row + 11u, panel, a11, b11);
        store(row + 12u, panel, a12, b12);
        store(row + 13u, panel, a13, b13);
        store(row + 14u, panel, a14, b14);
        store(row + 15u, panel, a15, b15);
    }
}
