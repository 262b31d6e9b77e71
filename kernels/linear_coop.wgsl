// y[r, c] = activate(sum_k x[r, k] · w[c, k] + bias[c]) (+ residual[r, c]), x and w rounded to f16
//
// On cooperative matrices (coop/*.wgsl), whose tiles a subgroup multiplies as one. A workgroup of four subgroups
// makes 8 · TILE rows by 4 · TILE columns of y and goes through k in steps of 32: its threads bring x and the unpacked
// w to workgroup memory as f16, then each subgroup multiplies a quarter of the block, 4 by 2 tiles, of which
// every tile of x is used twice and every tile of w four times from registers. One block of 32 k is one block of the
// quantised formats, so scales are read once a tile of w.
//
// The sums leave through workgroup memory, one tile of each subgroup at a time, because how a tile lies in the lanes is
// the driver's secret; there bias, activation and residual are added in f32. Rows beyond m read row m - 1 again and
// are not stored, k beyond the end is filled with zeros, columns beyond n are zeros in the packed weight. The
// three arrays take 16 KiB with tiles of 16, what WebGPU guarantees.

enable f16;
enable wgpu_cooperative_matrix;

override LANES: u32 = 32;  // of a subgroup
override WG: u32 = 128;    // 4 · LANES

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

const DEPTH: u32 = 32;                 // k of a turn
const ROWS: u32 = 8 * TILE;            // of a workgroup
const COLS: u32 = 4 * TILE;

var<workgroup> x_block: array<f16, ROWS * DEPTH>;        // (ROWS, DEPTH)
var<workgroup> w_block: array<f16, DEPTH * COLS>;        // (DEPTH, COLS)
var<workgroup> sums: array<Sum, 4 * TILE * TILE>;        // (subgroups, TILE, TILE)

fn sum_of(at: u32) -> vec4<f32> {
    return vec4<f32>(f32(sums[at]), f32(sums[at + 1u]), f32(sums[at + 2u]), f32(sums[at + 3u]));
}

// The tile that a subgroup has put into `sums`, whose first row and panel of y are these.
fn leave(own: u32, lane: u32, row: u32, first: u32) {
    workgroupBarrier();
    for (var n = lane; n < TILE * TILE / 8u; n += LANES) {
        let line = n / (TILE / 8u);
        let panel = first + n % (TILE / 8u);
        if panel < params.panels {
            let at = own + line * TILE + (n % (TILE / 8u)) * 8u;
            let a = sum_of(at) + bias[panel * 2u];
            let b = sum_of(at + 4u) + bias[panel * 2u + 1u];
            store(row + line, panel, a, b);
        }
    }
    workgroupBarrier();
}

fn bring(at: u32, v: vec4<f32>) {
    w_block[at] = f16(v.x);
    w_block[at + 1u] = f16(v.y);
    w_block[at + 2u] = f16(v.z);
    w_block[at + 3u] = f16(v.w);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let subgroup = thread / LANES;
    let lane = thread % LANES;
    let first_row = group.y * ROWS;
    let first_panel = group.x * (COLS / 8u);
    let last = params.rows - 1u;
    // This subgroup's quarter of the block.
    let row = (subgroup / 2u) * 4u * TILE;
    let column = (subgroup % 2u) * 2u * TILE;

    var c00 = MatrixC();
    var c01 = MatrixC();
    var c10 = MatrixC();
    var c11 = MatrixC();
    var c20 = MatrixC();
    var c21 = MatrixC();
    var c30 = MatrixC();
    var c31 = MatrixC();

    for (var base = 0u; base < params.steps; base += DEPTH / 4u) {
        workgroupBarrier();
        for (var n = thread; n < ROWS * DEPTH / 4u; n += WG) {
            let step = base + n % (DEPTH / 4u);
            var v = vec4<f32>(0.0);
            if step < params.steps {
                v = x[min(first_row + n / (DEPTH / 4u), last) * params.steps + step];
            }
            x_block[n * 4u] = f16(v.x);
            x_block[n * 4u + 1u] = f16(v.y);
            x_block[n * 4u + 2u] = f16(v.z);
            x_block[n * 4u + 3u] = f16(v.w);
        }
        for (var n = thread; n < (COLS / 8u) * (DEPTH / 4u); n += WG) {
            let panel = n % (COLS / 8u);
            let step = n / (COLS / 8u);
            let at = step * 4u * COLS + panel * 8u;
            if base + step < params.steps {
                let w = weight_tile(first_panel + panel, base + step, weight_scale(first_panel + panel, base / 8u));
                bring(at, w.a0);
                bring(at + 4u, w.b0);
                bring(at + COLS, w.a1);
                bring(at + COLS + 4u, w.b1);
                bring(at + 2u * COLS, w.a2);
                bring(at + 2u * COLS + 4u, w.b2);
                bring(at + 3u * COLS, w.a3);
                bring(at + 3u * COLS + 4u, w.b3);
            } else {
                for (var k = 0u; k < 4u; k++) {
                    bring(at + k * COLS, vec4<f32>(0.0));
                    bring(at + k * COLS + 4u, vec4<f32>(0.0));
                }
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k += TILE) {
            let b0 = coopLoadT<MatrixB>(&w_block[k * COLS + column], COLS);
            let b1 = coopLoadT<MatrixB>(&w_block[k * COLS + column + TILE], COLS);
            let a0 = coopLoadT<MatrixA>(&x_block[row * DEPTH + k], DEPTH);
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            let a1 = coopLoadT<MatrixA>(&x_block[(row + TILE) * DEPTH + k], DEPTH);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
            let a2 = coopLoadT<MatrixA>(&x_block[(row + 2u * TILE) * DEPTH + k], DEPTH);
            c20 = coopMultiplyAdd(a2, b0, c20);
            c21 = coopMultiplyAdd(a2, b1, c21);
            let a3 = coopLoadT<MatrixA>(&x_block[(row + 3u * TILE) * DEPTH + k], DEPTH);
            c30 = coopMultiplyAdd(a3, b0, c30);
            c31 = coopMultiplyAdd(a3, b1, c31);
        }
    }

    let y_row = first_row + row;
    let panel = first_panel + column / 8u;
    let own = subgroup * TILE * TILE;
    coopStoreT(c00, &sums[own], TILE);
    leave(own, lane, y_row, panel);
    coopStoreT(c01, &sums[own], TILE);
    leave(own, lane, y_row, panel + TILE / 8u);
    coopStoreT(c10, &sums[own], TILE);
    leave(own, lane, y_row + TILE, panel);
    coopStoreT(c11, &sums[own], TILE);
    leave(own, lane, y_row + TILE, panel + TILE / 8u);
    coopStoreT(c20, &sums[own], TILE);
    leave(own, lane, y_row + 2u * TILE, panel);
    coopStoreT(c21, &sums[own], TILE);
    leave(own, lane, y_row + 2u * TILE, panel + TILE / 8u);
    coopStoreT(c30, &sums[own], TILE);
    leave(own, lane, y_row + 3u * TILE, panel);
    coopStoreT(c31, &sums[own], TILE);
    leave(own, lane, y_row + 3u * TILE, panel + TILE / 8u);
}
