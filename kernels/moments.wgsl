// y[n, 0, c] = mean_r(x[n, r, c]), y[n, 1, c] = mean_r((x[n, r, c] - y[n, 0, c])²)
//
// With MERGE the rows of x are themselves moments of equally many values each, and y is those of all of them:
// y[n, 0, c] = mean_r(x[n, r, 0, c]), y[n, 1, c] = mean_r(x[n, r, 1, c] + (x[n, r, 0, c] - y[n, 0, c])²).
//
// One thread per run n and 4 channels. The variance is of the differences from the mean, in a second pass: squares of
// a channel far from zero lose its digits. Moments of lines, merged over a slice and then over a volume, are sums of a
// few hundred values each; one sum over 16 million would lose half its digits.

override WG: u32 = 64;
override MERGE: u32 = 0;  // 1: the rows are moments

struct Params {
    runs: u32,
    rows: u32,   // of a run
    quads: u32,  // channels / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (runs, rows, quads) of 4 channels, with MERGE (runs, rows, 2, quads)
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;  // (runs, 2, quads) of 4 channels

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i >= params.runs * params.quads {
        return;
    }
    let run = i / params.quads;
    let c = i % params.quads;
    let pitch = params.quads * (1u + MERGE);
    let first = run * params.rows * pitch + c;
    let end = first + params.rows * pitch;
    let share = vec4<f32>(1.0 / f32(params.rows));

    var sum = vec4<f32>(0.0);
    for (var at = first; at < end; at += pitch) {
        sum += x[at];
    }
    let mean = sum * share;
    var square = vec4<f32>(0.0);
    for (var at = first; at < end; at += pitch) {
        let d = x[at] - mean;
        square = fma(d, d, square);
        if MERGE == 1u {
            square += x[at + params.quads];
        }
    }
    y[run * 2u * params.quads + c] = mean;
    y[run * 2u * params.quads + params.quads + c] = square * share;
}
