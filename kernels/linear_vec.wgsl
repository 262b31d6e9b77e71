// y[c] = activate(sum_k x[k] · w[c, k] + bias[c]) (+ residual[c]), for one row x (or a few)
//
// One thread computes a panel of 8 columns over one of SPLIT slices of k; a workgroup holds WG / SPLIT
// panels, and its slices are added up in workgroup memory. Bound by the bytes of w, which are
// read once, still packed; the scales of a block of 32 k are unpacked once for its 8 steps.
//
// SPLIT 1 has no barrier and suits a CPU driver; a GPU wants some ten thousand threads, so SPLIT 8 or
// more there. Rows are the y of the grid. k is a multiple of 4, n of 4; `first` is the first panel
// of this weight binding: a matrix beyond the binding limit comes as several, at 64 columns.

override WG: u32 = 64;
override SPLIT: u32 = 1;
override RESIDUAL: u32 = 0;

struct Params {
    rows: u32,
    cols: u32,    // of y: the row length
    steps: u32,   // k / 4
    panels: u32,  // of this dispatch
    first: u32,   // panel of y that this dispatch starts at, a multiple of 8
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;         // (rows, steps) of 4 k
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;      // (cols / 4) of 4 columns, padded to a multiple of 8
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>;  // (rows, cols / 4), any buffer if RESIDUAL is 0
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;   // (rows, cols / 4)

var<workgroup> slices_a: array<vec4<f32>, WG>;
var<workgroup> slices_b: array<vec4<f32>, WG>;

fn store(row: u32, quad: u32, sum: vec4<f32>) {
    if quad * 4u < params.cols {
        let at = row * (params.cols / 4u) + quad;
        var v = activate(sum + bias[quad]);
        if RESIDUAL == 1u {
            v += residual[at];
        }
        y[at] = v;
    }
}

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
        let quad = (params.first + panel) * 2u;
        store(group.y, quad, a);
        store(group.y, quad + 1u, b);
    }
}
