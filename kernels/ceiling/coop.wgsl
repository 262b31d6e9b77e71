// y[g, n] = sum of 8 · turns products of two tiles that never leave the registers of the subgroups of workgroup g
//
// The best rate of an adapter's cooperative matrices (coop/*.wgsl): a subgroup has eight tiles of sums, so that no
// product waits for the one before, and multiplies the same two tiles over and over. Every value of these is the factor:
// small, so that sums of f16 do not overflow. At the end the tiles leave through workgroup memory, one of each subgroup
// at a time, and are added up.

enable f16;
enable wgpu_cooperative_matrix;

override LANES: u32 = 32;  // of a subgroup
override WG: u32 = 128;    // 4 · LANES

struct Params {
    turns: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;  // (groups, 4 · TILE · TILE)

const PLACES: u32 = 4 * TILE * TILE;

var<workgroup> factors: array<f16, TILE * TILE>;  // (TILE, TILE)
var<workgroup> sums: array<Sum, PLACES>;          // (subgroups, TILE, TILE)

// Adds what the subgroups have put into `sums` to the thread's places of y.
fn leave(group: u32, thread: u32) {
    workgroupBarrier();
    for (var n = thread; n < PLACES; n += WG) {
        y[group * PLACES + n] += f32(sums[n]);
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var n = thread; n < TILE * TILE; n += WG) {
        factors[n] = f16(params.factor);
    }
    for (var n = thread; n < PLACES; n += WG) {
        y[group.x * PLACES + n] = 0.0;
    }
    workgroupBarrier();
    let a = coopLoadT<MatrixA>(&factors[0], TILE);
    let b = coopLoadT<MatrixB>(&factors[0], TILE);
    var c0 = MatrixC();
    var c1 = MatrixC();
    var c2 = MatrixC();
    var c3 = MatrixC();
    var c4 = MatrixC();
    var c5 = MatrixC();
    var c6 = MatrixC();
    var c7 = MatrixC();
    for (var turn = 0u; turn < params.turns; turn++) {
        c0 = coopMultiplyAdd(a, b, c0);
        c1 = coopMultiplyAdd(a, b, c1);
        c2 = coopMultiplyAdd(a, b, c2);
        c3 = coopMultiplyAdd(a, b, c3);
        c4 = coopMultiplyAdd(a, b, c4);
        c5 = coopMultiplyAdd(a, b, c5);
        c6 = coopMultiplyAdd(a, b, c6);
        c7 = coopMultiplyAdd(a, b, c7);
    }
    let own = (thread / LANES) * TILE * TILE;
    coopStoreT(c0, &sums[own], TILE);
    leave(group.x, thread);
    coopStoreT(c1, &sums[own], TILE);
    leave(group.x, thread);
    coopStoreT(c2, &sums[own], TILE);
    leave(group.x, thread);
    coopStoreT(c3, &sums[own], TILE);
    leave(group.x, thread);
    coopStoreT(c4, &sums[own], TILE);
    leave(group.x, thread);
    coopStoreT(c5, &sums[own], TILE);
    leave(group.x, thread);
    coopStoreT(c6, &sums[own], TILE);
    leave(group.x, thread);
    coopStoreT(c7, &sums[own], TILE);
    leave(group.x, thread);
}
