// y[t, c] = scale · w[ids[t] - first, c]  where first <= ids[t] < first + rows
//
// Gathers rows of a packed matrix, whatever its format, so a table that is also the output layer
// is stored once. One thread per token and 4 columns: it unpacks the tile that holds its row
// (8 rows of the table) and keeps one of them. A table larger than a binding is several matrices: each writes the
// tokens that are its own and leaves the others alone.

override WG: u32 = 64;

struct Params {
    tokens: u32,
    steps: u32,  // columns / 4
    first: u32,  // the table's row that is this matrix' first
    rows: u32,   // of this matrix
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;            // (tokens)
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;  // (tokens, steps) of 4

// One of four values; a chain of selects, since an index into a vector spills it to memory.
fn pick(v: vec4<f32>, column: u32) -> f32 {
    return select(select(v.x, v.y, column == 1u), select(v.z, v.w, column == 3u), column >= 2u);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    if i < params.tokens * params.steps {
        // A row before the first wraps around and is beyond the last.
        let id = ids[i / params.steps] - params.first;
        if id >= params.rows {
            return;
        }
        let step = i % params.steps;
        let panel = id / 8u;
        let w = weight_tile(panel, step, weight_scale(panel, step / 8u));
        let low = (id & 4u) == 0u;
        let column = id & 3u;
        y[i] = params.scale * vec4<f32>(
            pick(select(w.b0, w.a0, low), column), pick(select(w.b1, w.a1, low), column),
            pick(select(w.b2, w.a2, low), column), pick(select(w.b3, w.a3, low), column),
        );
    }
}
