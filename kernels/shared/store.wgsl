// y[r, c] = activate(sum[r, c]) (+ residual[r, c]), or activate(gate[r, c]) · up[r, c] (+ residual[r, c])
//
// What follows a product with packed weights: the 8 columns of a panel of one row, in registers. Of a gated matrix a
// panel holds the gates of 4 columns and then what they gate: both meet in the thread that computed them.
// A product may fill a part of the columns of y, beside those of other matrices.

override RESIDUAL: u32 = 0;
override GATED: u32 = 0;

@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>;  // (rows, y_cols / 4), any buffer if RESIDUAL is 0
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;   // (rows, y_cols / 4)

fn put(at: u32, value: vec4<f32>) {
    var v = value;
    if RESIDUAL == 1u {
        v += residual[at];
    }
    y[at] = v;
}

// Sums of columns 0..3 and 4..7 of a panel, which already hold the bias; a row beyond the last is left out.
fn store(row: u32, panel: u32, a: vec4<f32>, b: vec4<f32>) {
    if row >= params.rows {
        return;
    }
    let start = (row * params.y_cols + params.y_first) / 4u;
    if GATED == 1u {
        put(start + panel, activate(a) * b);
    } else {
        put(start + panel * 2u, activate(a));
        if panel * 8u + 4u < params.cols {
            put(start + panel * 2u + 1u, activate(b));
        }
    }
}
