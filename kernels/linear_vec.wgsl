// y[c] = activate(sum_k x[k] · w[c, k] + bias[c]) (+ residual[c]), for one row x (or a few)
//
// One thread computes a panel of 8 columns over one of SPLIT slices of k; a workgroup holds WG / SPLIT
// panels, and its slices are added up in workgroup memory. Bound by the bytes of w, which are
// read once, still packed; the scales of a block of 32 k are unpacked once for its 8 steps.
//
// SPLIT 1 has no barrier and suits a CPU driver; a GPU wants some ten thousand threads, so SPLIT 8 or
// more there. Rows are the y of the grid. k and n are multiples of 4. What follows the sum is shared/store.wgsl.

override WG: u32 = 64;
override SPLIT: u32 = 1;

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

var<workgroup> slices_a: array<vec4<f32>, WG>;
var<workgroup> slices_b: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let wide = WG / SPLIT;
    let panel = group.x * wide + lane % wide;
    let slice = lane / wide;
    // A thread beyond the last panel repeats it and stores nothing.
    let source = min(panel, params.panels - 1u);
    let row = group.y * params.steps;

    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
    for (var block = slice; block * 8u < params.steps; block += SPLIT) {
        let scale = weight_scale(source, block);
        let end = min(block * 8u + 8u, params.steps);
        for (var step = block * 8u; step < end; step++) {
            let v = x[row + step];
            let w = weight_tile(source, step, scale);
            a = dot_a(v, w, a);
            b = dot_b(v, w, b);
        }
    }

    if SPLIT > 1u {
        slices_a[lane] = a;
        slices_b[lane] = b;
        workgroupBarrier();
        for (var other = lane + wide; other < WG; other += wide) {
            a += slices_a[other];
            b += slices_b[other];
        }
    }
    if (slice == 0u) & (panel < params.panels) {
        store(group.y, panel, a + bias[panel * 2u], b + bias[panel * 2u + 1u]);
    }
}
