// y[r] = the smallest c whose x[r, c] is largest
//
// One workgroup per row; lanes stride over the columns and the winners are compared in a tree. Ties go
// to the lower index at every step, so the answer does not depend on the division of work.

override WG: u32 = 64;

struct Params {
    rows: u32,
    cols: u32,
    stride: u32,  // of x, at least cols
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // (rows, stride)
@group(0) @binding(2) var<storage, read_write> y: array<u32>;  // (rows)

var<workgroup> values: array<f32, WG>;
var<workgroup> places: array<u32, WG>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = min(flat(group, groups), params.rows - 1u);
    var best = x[row * params.stride + min(lane, params.cols - 1u)];
    var place = min(lane, params.cols - 1u);
    for (var c = lane + WG; c < params.cols; c += WG) {
        let value = x[row * params.stride + c];
        if value > best {
            best = value;
            place = c;
        }
    }
    values[lane] = best;
    places[lane] = place;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let other = values[lane + half];
            let there = places[lane + half];
            if other > values[lane] || (other == values[lane] && there < places[lane]) {
                values[lane] = other;
                places[lane] = there;
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        y[row] = places[0];
    }
}
