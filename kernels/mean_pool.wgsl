// y[s, :] = m / |m| or, without UNIT, m,  m = mean of x[start[s] .. start[s] + count[s], :]
//
// A sentence embedding: the mean of its token vectors, scaled to unit length. One workgroup per
// sentence; lanes stride over the columns. A zero vector stays zero.

override WG: u32 = 64;
override UNIT: u32 = 1;

struct Params {
    sentences: u32,
    cols: u32,  // / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;        // (tokens, cols) of 4
@group(0) @binding(2) var<storage, read> span: array<vec2<u32>>;     // (sentences) of start, count
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;  // (sentences, cols) of 4

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sentence = flat(group, groups);
    // Two workgroups on one sentence would scale it twice.
    if sentence >= params.sentences {
        return;
    }
    let own = span[sentence];
    var squares = 0.0;
    for (var c = lane; c < params.cols; c += WG) {
        var sum = vec4<f32>(0.0);
        for (var t = own.x; t < own.x + own.y; t++) {
            sum += x[t * params.cols + c];
        }
        let mean = sum / f32(own.y);
        y[sentence * params.cols + c] = mean;
        squares += dot(mean, mean);
    }
    if UNIT == 0u {
        return;
    }
    let scale = inverseSqrt(max(workgroup_sum(lane, squares), 1e-24));
    for (var c = lane; c < params.cols; c += WG) {
        y[sentence * params.cols + c] *= scale;
    }
}
