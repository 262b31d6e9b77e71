// y[c] = activate(s · sum_k x[k] · w[c, k] + bias[c]) (+ residual[c]), for one row x (or a few)
//
// One thread computes a panel of 8 columns over one of SPLIT slices of k; a workgroup holds WG / SPLIT
// panels, and its slices are added up in workgroup memory. Bound by the bytes of w, which are
// read once, still packed; the scales of a block of 32 k are unpacked once for its 8 steps.
//
// SPLIT 1 has no barrier and suits a CPU driver; a GPU wants some ten thousand threads, so SPLIT 8 or
// more there. Rows are the y of the grid. k and n are multiples of 4. What follows the sum is shared/store.wgsl.
//
// What comes before it may be folded in, which spares a dispatch and the way through memory (SOURCE):
//   0  nothing: s = 1
//   1  RMS norm: x[k] · before[k], s = 1 / sqrt(mean_k(x[k]²) + eps); every thread sums the squares of what it reads
//   2  the shares of an attention (attention_merge.wgsl): x[k] = sum_j share[j, head of k] · part[j, k]; each workgroup first
//      works out how much each of at most 512 shares counts

override WG: u32 = 64;
override SPLIT: u32 = 1;
override SOURCE: u32 = 0;

struct Params {
    rows: u32,
    cols: u32,     // columns of this product in y
    steps: u32,    // k / 4
    panels: u32,   // of 8 columns of w
    y_cols: u32,   // columns of y
    y_first: u32,  // the first of them that is this product's
    eps: f32,      // of the norm
    splits: u32,   // shares of each head's keys
    head: u32,     // its width / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;     // (rows, steps) of 4 k; of shares (splits, rows, steps)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;  // (2 · panels) of 4 columns
@group(0) @binding(8) var<storage, read> before: array<vec2<f32>>;  // (steps · 2) of 2 k, weights of the norm; or (splits, rows, heads) of maximum and sum

var<workgroup> slices_a: array<vec4<f32>, WG>;
var<workgroup> slices_b: array<vec4<f32>, WG>;
var<workgroup> slices_square: array<f32, WG>;
var<workgroup> shares: array<f32, 512>;  // (splits, heads)

// How much each share of the keys counts for each head of a row.
fn weigh_shares(row: u32, lane: u32) {
    let heads = params.steps / params.head;
    for (var head = lane; head < heads; head += WG) {
        var high = -1e30;
        for (var split = 0u; split < params.splits; split++) {
            high = max(high, before[(split * params.rows + row) * heads + head].x);
        }
        var total = 0.0;
        for (var split = 0u; split < params.splits; split++) {
            let stood = before[(split * params.rows + row) * heads + head];
            let weight = stood.y * exp(stood.x - high);
            shares[split * heads + head] = weight;
            total += weight;
        }
        for (var split = 0u; split < params.splits; split++) {
            shares[split * heads + head] /= max(total, 1e-30);
        }
    }
}

// Four k of a row, before the norm.
fn taken(row: u32, step: u32) -> vec4<f32> {
    if SOURCE != 2u {
        return x[row * params.steps + step];
    }
    let heads = params.steps / params.head;
    var v = vec4<f32>(0.0);
    for (var split = 0u; split < params.splits; split++) {
        let weight = shares[split * heads + step / params.head];
        v = fma(vec4<f32>(weight), x[(split * params.rows + row) * params.steps + step], v);
    }
    return v;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let wide = WG / SPLIT;
    let panel = group.x * wide + lane % wide;
    let slice = lane / wide;
    // A thread beyond the last panel repeats it and stores nothing.
    let source = min(panel, params.panels - 1u);
    if SOURCE == 2u {
        weigh_shares(group.y, lane);
        workgroupBarrier();
    }

    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    for (var block = slice; block * 8u < params.steps; block += SPLIT) {
        let scale = weight_scale(source, block);
        let end = min(block * 8u + 8u, params.steps);
        for (var step = block * 8u; step < end; step++) {
            var v = taken(group.y, step);
            if SOURCE == 1u {
                squares = fma(v, v, squares);
                v *= vec4<f32>(before[step * 2u], before[step * 2u + 1u]);
            }
            let w = weight_tile(source, step, scale);
            a = dot_a(v, w, a);
            b = dot_b(v, w, b);
        }
    }

    var square = dot(squares, vec4<f32>(1.0));
    if SPLIT > 1u {
        slices_a[lane] = a;
        slices_b[lane] = b;
        slices_square[lane] = square;
        workgroupBarrier();
        for (var other = lane + wide; other < WG; other += wide) {
            a += slices_a[other];
            b += slices_b[other];
            square += slices_square[other];
        }
    }
    if SOURCE == 1u {
        let scale = inverseSqrt(square / f32(params.steps * 4u) + params.eps);
        a *= scale;
        b *= scale;
    }
    if (slice == 0u) & (panel < params.panels) {
        store(group.y, panel, a + bias[panel * 2u], b + bias[panel * 2u + 1u]);
    }
}
