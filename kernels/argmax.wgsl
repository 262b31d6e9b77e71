// y[r] = the smallest c whose x[r, c] is largest
//
// LANES lanes to a row, WG / LANES rows to a workgroup: lanes stride over the columns and the winners are compared in a
// tree. Ties go to the lower index at every step, so the answer does not depend on the division of work. LANES 1 has no
// barrier: many rows of a few classes each.

override WG: u32 = 64;
override LANES: u32 = 64;  // a power of two

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
    let member = lane % LANES;
    let row = flat(group, groups) * (WG / LANES) + lane / LANES;
    let start = min(row, params.rows - 1u) * params.stride;
    var place = min(member, params.cols - 1u);
    var best = x[start + place];
    for (var c = member + LANES; c < params.cols; c += LANES) {
        let value = x[start + c];
        if value > best {
            best = value;
            place = c;
        }
    }
    if LANES > 1u {
        values[lane] = best;
        places[lane] = place;
        workgroupBarrier();
        for (var half = LANES / 2u; half > 0u; half /= 2u) {
            if member < half {
                let other = values[lane + half];
                let there = places[lane + half];
                if other > values[lane] || (other == values[lane] && there < places[lane]) {
                    values[lane] = other;
                    places[lane] = there;
                }
            }
            workgroupBarrier();
        }
        place = places[lane];
    }
    if member == 0u && row < params.rows {
        y[row] = place;
    }
}
