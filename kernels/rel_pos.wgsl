// y[b, h, first + c, i] = q[b, i, h] · table[p(i) - c + places - 1],  p(i) = i / columns, or i % columns with ACROSS
//
// What the place of a key relative to that of a query adds to their score, for the lines of a grid or for its
// columns (the decomposed relative positions of MViTv2 and SAM): (queries × (lines + columns)) numbers a head, of
// which the attention takes two for each pair. A thread makes 8 places for 4 neighbouring queries of a line: their
// places differ by at most 10 rows of the table. The queries lie innermost, as the attention's rows do.
//
// Delicate: q is not scaled. Queries and rows of the table beyond the end read the last one again; what pads the
// queries to whole vec4s is zeros.

override WG: u32 = 64;
override ACROSS: u32 = 0;

struct Params {
    lines: u32,     // of the grid, queries are lines · columns
    columns: u32,
    quads: u32,     // ceil(columns / 4)
    heads: u32,
    width: u32,     // of a head, / 4
    q_stride: u32,  // vec4s from row to row, and the first one
    q_first: u32,
    places: u32,    // lines, or columns with ACROSS
    first: u32,     // where they begin in y: 0, or lines with ACROSS
    padded: u32,    // queries in whole vec4s
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;      // (batch, lines · columns, heads, width) of 4, strided
@group(0) @binding(2) var<storage, read> table: array<vec4<f32>>;  // (2 · places - 1, width) of 4
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // (batch, heads, lines + columns, padded)

struct Queries {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

fn row(n: i32) -> u32 {
    return u32(clamp(n, 0, 2 * i32(params.places) - 2)) * params.width;
}

// Each query with a row of its own.
fn own(q: Queries, ra: vec4<f32>, rb: vec4<f32>, rc: vec4<f32>, rd: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(dot(q.a, ra), dot(q.b, rb), dot(q.c, rc), dot(q.d, rd));
}

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let tile = id.x / (params.quads * params.lines);
    let line = id.x / params.quads % params.lines;
    let column = id.x % params.quads * 4u;
    let head = id.y;
    let batch = id.z;
    let place = tile * 8u;
    if place >= params.places {
        return;
    }
    let queries = params.lines * params.columns;
    let last = params.columns - 1u;
    let q_base = params.q_first + (batch * queries + line * params.columns) * params.q_stride + head * params.width;
    let qa = q_base + min(column, last) * params.q_stride;
    let qb = q_base + min(column + 1u, last) * params.q_stride;
    let qc = q_base + min(column + 2u, last) * params.q_stride;
    let qd = q_base + min(column + 3u, last) * params.q_stride;
    // The row for the first query and the last of the 8 places.
    let lowest = i32(select(line, column, ACROSS == 1u)) - i32(place) + i32(params.places) - 8;
    let r0 = row(lowest);
    let r1 = row(lowest + 1);
    let r2 = row(lowest + 2);
    let r3 = row(lowest + 3);
    let r4 = row(lowest + 4);
    let r5 = row(lowest + 5);
    let r6 = row(lowest + 6);
    let r7 = row(lowest + 7);
    let r8 = row(lowest + 8);
    let r9 = row(lowest + 9);
    let r10 = row(lowest + 10);
    var s0 = vec4<f32>(0.0);
    var s1 = vec4<f32>(0.0);
    var s2 = vec4<f32>(0.0);
    var s3 = vec4<f32>(0.0);
    var s4 = vec4<f32>(0.0);
    var s5 = vec4<f32>(0.0);
    var s6 = vec4<f32>(0.0);
    var s7 = vec4<f32>(0.0);
    for (var i = 0u; i < params.width; i++) {
        let x = Queries(q[qa + i], q[qb + i], q[qc + i], q[qd + i]);
        let t0 = table[r0 + i];
        let t1 = table[r1 + i];
        let t2 = table[r2 + i];
        let t3 = table[r3 + i];
        let t4 = table[r4 + i];
        let t5 = table[r5 + i];
        let t6 = table[r6 + i];
        let t7 = table[r7 + i];
        if ACROSS == 1u {
            let t8 = table[r8 + i];
            let t9 = table[r9 + i];
            let t10 = table[r10 + i];
            s7 += own(x, t0, t1, t2, t3);
            s6 += own(x, t1, t2, t3, t4);
            s5 += own(x, t2, t3, t4, t5);
            s4 += own(x, t3, t4, t5, t6);
            s3 += own(x, t4, t5, t6, t7);
            s2 += own(x, t5, t6, t7, t8);
            s1 += own(x, t6, t7, t8, t9);
            s0 += own(x, t7, t8, t9, t10);
        } else {
            s7 += own(x, t0, t0, t0, t0);
            s6 += own(x, t1, t1, t1, t1);
            s5 += own(x, t2, t2, t2, t2);
            s4 += own(x, t3, t3, t3, t3);
            s3 += own(x, t4, t4, t4, t4);
            s2 += own(x, t5, t5, t5, t5);
            s1 += own(x, t6, t6, t6, t6);
            s0 += own(x, t7, t7, t7, t7);
        }
    }
    let base = (batch * params.heads + head) * (params.lines + params.columns) + params.first;
    store(base, place, line, column, s0);
    store(base, place + 1u, line, column, s1);
    store(base, place + 2u, line, column, s2);
    store(base, place + 3u, line, column, s3);
    store(base, place + 4u, line, column, s4);
    store(base, place + 5u, line, column, s5);
    store(base, place + 6u, line, column, s6);
    store(base, place + 7u, line, column, s7);
}

fn store(base: u32, place: u32, line: u32, column: u32, s: vec4<f32>) {
    if place >= params.places {
        return;
    }
    let all = (base + place) * params.padded;
    let at = all + line * params.columns + column;
    y[at] = s.x;
    if column + 1u < params.columns {
        y[at + 1u] = s.y;
    }
    if column + 2u < params.columns {
        y[at + 2u] = s.z;
    }
    if column + 3u < params.columns {
        y[at + 3u] = s.w;
    }
    if line + 1u == params.lines && column + 4u >= params.columns {
        for (var i = params.lines * params.columns; i < params.padded; i++) {
            y[all + i] = 0.0;
        }
    }
}
