// y[i, c] = sum_j p[i, j] · v[j, c],  p[i, :] = softmax_j(scale · q[i, :] · k[j, :] + added[i, j]), q, k, v and p rounded to f16
//
// attention.wgsl on cooperative matrices (coop/*.wgsl). A workgroup owns 32 query rows of one head, each of its subgroups
// TILE of them, and goes through the keys 32 at a time: its threads bring the keys to workgroup memory as f16 and each
// subgroup multiplies its tiles of q, which stay in registers, with them; LANES / TILE lanes share a row of the scores,
// and while they make probabilities of them v takes the place of the keys; then each subgroup weighs v,
// 32 columns at a time.
//
// How a tile lies in the lanes is the driver's secret, so every product leaves through workgroup memory. There it is added to
// sums that the lanes keep in f32, in an order that they know and can fade when a row's maximum rises. No accumulator of the
// driver's lives longer than one block: f32 ones that were held over such a loop have come out doubled, and f16 ones
// would lose digits.
//
// Delicate: the running maximum starts at a finite -1e30 and hidden scores are at -2e30, so no difference of
// infinities is taken, and a row that has seen no key yet has a sum of 0: one that never sees any becomes zeros. A bias
// below -1e30 hides its key too. A row's sum is that of the rounded probabilities, by which v is weighed. Rows and keys
// beyond the end read the last one again. The head width is a multiple of TILE, at most 128.

enable f16;
enable wgpu_cooperative_matrix;

override LANES: u32 = 32;  // of a subgroup, TILE · 1, 2, 4 …
override WG: u32 = 64;     // 32 / TILE subgroups
override WIDTH: u32 = 64;  // of a head, in columns
override CAUSAL: u32 = 0;  // 1: row i sees keys up to i + keys - queries; 2: of those the last `window`
override ADDED: u32 = 0;   // 1: a bias; 2 and 3: relative positions (rel_pos.wgsl)
override STATE: u32 = 0;   // also store each row's maximum and sum, for attention_spans.wgsl to go on from

struct Params {
    queries: u32,
    keys: u32,
    width: u32,         // of a head, / 4
    heads: u32,         // of q and y
    group: u32,         // q heads to a k, v head
    q_stride: u32,      // vec4s from row to row, and the first one: q, k, v may share one buffer
    q_first: u32,
    k_stride: u32,
    k_first: u32,
    v_stride: u32,
    v_first: u32,
    scale: f32,         // 1 / √d
    window: u32,        // with CAUSAL 2, the keys that a row sees at most
    added_stride: u32,  // vec4s of a row of the bias, or of all queries of a relative position
    added_heads: u32,   // heads that the bias tells apart: 1 or all
    period: u32,        // groups after which the kinds of bias begin again, 0 where there is one kind
    columns: u32,       // of the keys' grid, where positions are relative
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;        // (batch, queries, heads, width) of 4, strided
@group(0) @binding(2) var<storage, read> k: array<vec4<f32>>;        // (batch, keys, heads / group, width) of 4, strided
@group(0) @binding(3) var<storage, read> v: array<vec4<f32>>;        // (batch, keys, heads / group, width) of 4, strided
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;  // (batch, queries, heads, width) of 4
@group(0) @binding(5) var<storage, read_write> state: array<vec2<f32>>;  // (batch, queries, heads) of maximum and sum, any buffer if STATE is 0
@group(0) @binding(6) var<storage, read> added: array<vec4<f32>>;    // (kinds, heads or 1, queries, keys / 4) or (batch, heads, lines + columns, queries / 4) of 4, any buffer if ADDED is 0
@group(0) @binding(7) var<storage, read> kind: array<u32>;           // (period) of the bias, any buffer without one

const ROWS: u32 = 32;       // of a workgroup
const KEYS: u32 = 32;       // of a turn, and the columns of v that are weighed at a time
const WIDEST: u32 = 128;
const APART: u32 = 8;       // unused f16s after each row, so that rows begin in other banks
const PROBS: u32 = KEYS + APART;

var<workgroup> block: array<f16, KEYS * (WIDEST + APART)>;  // (KEYS, WIDTH + APART) of k, then of v
var<workgroup> sums: array<Sum, ROWS * KEYS>;               // (ROWS, KEYS): scores, then weighed columns
var<workgroup> probs: array<f16, ROWS * PROBS>;             // (ROWS, KEYS + APART)
var<workgroup> rows: array<f32, ROWS>;                      // what the sums of a row are multiplied with

// A row of a group and head, where what is added to its scores begins, and the first key beyond what it may see.
struct Row {
    at: u32,
    base: u32,
    seen: u32,
}

fn score(product: f32, row: Row, key: u32) -> f32 {
    var shown = key < min(params.keys, row.seen);
    if CAUSAL == 2u {
        shown = shown && key + params.window >= row.seen;
    }
    var more = 0.0;
    if ADDED == 1u {
        more = added[row.base + row.at * params.added_stride + min(key / 4u, params.added_stride - 1u)][key % 4u];
    }
    if ADDED > 1u {
        let j = min(key, params.keys - 1u);
        let line = j / params.columns;
        let column = j - line * params.columns + params.keys / params.columns;
        let at = row.base + row.at / 4u;
        more = added[at + line * params.added_stride][row.at % 4u] + added[at + column * params.added_stride][row.at % 4u];
    }
    return select(-2e30, fma(product, params.scale, more), shown);
}

// TILE columns of q, from this one on: the whole workgroup brings them, each subgroup takes its own rows.
fn q_tile(column: u32, base: u32, first: u32, thread: u32, subgroup: u32) -> MatrixA {
    workgroupBarrier();
    for (var n = thread; n < ROWS * TILE / 4u; n += WG) {
        let line = n / (TILE / 4u);
        let own = n % (TILE / 4u);
        let a = q[base + min(first + line, params.queries - 1u) * params.q_stride + column / 4u + own];
        let at = line * PROBS + own * 4u;
        probs[at] = f16(a.x);
        probs[at + 1u] = f16(a.y);
        probs[at + 2u] = f16(a.z);
        probs[at + 3u] = f16(a.w);
    }
    workgroupBarrier();
    return coopLoadT<MatrixA>(&probs[subgroup * TILE * PROBS], PROBS);
}

fn bring(at: u32, a: vec4<f32>) {
    block[at] = f16(a.x);
    block[at + 1u] = f16(a.y);
    block[at + 2u] = f16(a.z);
    block[at + 3u] = f16(a.w);
}

// A tile of k, transposed: columns from this one on, keys from this one on.
fn k_tile(column: u32, key: u32) -> MatrixB {
    return coopLoad<MatrixB>(&block[key * (WIDTH + APART) + column], WIDTH + APART);
}

// The sums of a subgroup's rows for up to 32 columns of v, from `column` on, over the keys of the block.
fn weigh(column: u32, subgroup: u32) {
    // Variables, because an argument counts as something that lanes may disagree about.
    var c = column;
    var end = min(column + KEYS, WIDTH);
    for (; c < end; c += TILE) {
        var sum = MatrixC();
        for (var key = 0u; key < KEYS; key += TILE) {
            let p = coopLoadT<MatrixA>(&probs[subgroup * TILE * PROBS + key], PROBS);
            let own = coopLoadT<MatrixB>(&block[key * (WIDTH + APART) + c], WIDTH + APART);
            sum = coopMultiplyAdd(p, own, sum);
        }
        coopStoreT(sum, &sums[subgroup * TILE * KEYS + c - column], KEYS);
    }
}

// The nth vec4 of a subgroup's rows of `sums`, added to what there was.
fn faded(before: vec4<f32>, n: u32, subgroup: u32) -> vec4<f32> {
    let at = subgroup * TILE * KEYS + n * 4u;
    let more = vec4<f32>(f32(sums[at]), f32(sums[at + 1u]), f32(sums[at + 2u]), f32(sums[at + 3u]));
    return fma(before, vec4<f32>(rows[at / KEYS]), more);
}

// This lane's share of 32 weighed columns: every LANES-th vec4 of the subgroup's rows.
fn gather(sum: ptr<function, array<vec4<f32>, 8>>, lane: u32, subgroup: u32) {
    let share = TILE * KEYS / 4u / LANES;
    workgroupBarrier();
    (*sum)[0] = faded((*sum)[0], lane, subgroup);
    if share > 1u {
        (*sum)[1] = faded((*sum)[1], lane + LANES, subgroup);
    }
    if share > 2u {
        (*sum)[2] = faded((*sum)[2], lane + 2u * LANES, subgroup);
        (*sum)[3] = faded((*sum)[3], lane + 3u * LANES, subgroup);
    }
    if share > 4u {
        (*sum)[4] = faded((*sum)[4], lane + 4u * LANES, subgroup);
        (*sum)[5] = faded((*sum)[5], lane + 5u * LANES, subgroup);
        (*sum)[6] = faded((*sum)[6], lane + 6u * LANES, subgroup);
        (*sum)[7] = faded((*sum)[7], lane + 7u * LANES, subgroup);
    }
    workgroupBarrier();
}

// What `gather` added up, as rows of y from `first` on and columns from `column` on.
fn leave(sum: ptr<function, array<vec4<f32>, 8>>, column: u32, base: u32, first: u32, lane: u32, subgroup: u32) {
    let share = TILE * KEYS / 4u / LANES;
    for (var n = 0u; n < share; n++) {
        let at = lane + n * LANES;
        let line = subgroup * TILE + at / (KEYS / 4u);
        let c = column / 4u + at % (KEYS / 4u);
        if first + line < params.queries && c < params.width {
            y[base + (first + line) * params.heads * params.width + c] = (*sum)[n] * rows[line];
        }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let subgroup = thread / LANES;
    let lane = thread % LANES;
    let head = group.y;
    let batch = group.z;
    let first = group.x * ROWS;
    let last = params.queries - 1u;
    let shared_head = head / params.group;
    let q_base = params.q_first + batch * params.queries * params.q_stride + head * params.width;
    let k_base = params.k_first + batch * params.keys * params.k_stride + shared_head * params.width;
    let v_base = params.v_first + batch * params.keys * params.v_stride + shared_head * params.width;

    let q0 = q_tile(0u, q_base, first, thread, subgroup);
    var q1 = MatrixA();
    var q2 = MatrixA();
    var q3 = MatrixA();
    var q4 = MatrixA();
    var q5 = MatrixA();
    var q6 = MatrixA();
    var q7 = MatrixA();
    var q8 = MatrixA();
    var q9 = MatrixA();
    var q10 = MatrixA();
    var q11 = MatrixA();
    var q12 = MatrixA();
    var q13 = MatrixA();
    var q14 = MatrixA();
    var q15 = MatrixA();
    if WIDTH > TILE {
        q1 = q_tile(TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 2u * TILE {
        q2 = q_tile(2u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 3u * TILE {
        q3 = q_tile(3u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 4u * TILE {
        q4 = q_tile(4u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 5u * TILE {
        q5 = q_tile(5u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 6u * TILE {
        q6 = q_tile(6u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 7u * TILE {
        q7 = q_tile(7u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 8u * TILE {
        q8 = q_tile(8u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 9u * TILE {
        q9 = q_tile(9u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 10u * TILE {
        q10 = q_tile(10u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 11u * TILE {
        q11 = q_tile(11u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 12u * TILE {
        q12 = q_tile(12u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 13u * TILE {
        q13 = q_tile(13u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 14u * TILE {
        q14 = q_tile(14u * TILE, q_base, first, thread, subgroup);
    }
    if WIDTH > 15u * TILE {
        q15 = q_tile(15u * TILE, q_base, first, thread, subgroup);
    }

    // This lane's row of scores, the lanes that share it, and its share of 32 keys.
    let sharers = LANES / TILE;
    let line = subgroup * TILE + lane / sharers;
    let share = KEYS / sharers;
    let own = lane % sharers * share;
    var row = Row(min(first + line, last), 0u, params.keys);
    if CAUSAL > 0u {
        row.seen = row.at + params.keys - params.queries + 1u;
    }
    if ADDED == 1u {
        let bias_head = select(0u, head, params.added_heads > 1u);
        var which = 0u;
        if params.period > 0u {
            which = kind[batch % params.period];
        }
        row.base = (which * params.added_heads + bias_head) * params.queries * params.added_stride;
    }
    if ADDED > 1u {
        let places = params.keys / params.columns + params.columns;
        row.base = (batch * params.heads + head) * places * params.added_stride;
    }

    var high = -1e30;
    var sum = 0.0;  // of this lane's own probabilities
    var y0 = array<vec4<f32>, 8>();
    var y1 = array<vec4<f32>, 8>();
    var y2 = array<vec4<f32>, 8>();
    var y3 = array<vec4<f32>, 8>();

    var begin = 0u;
    var end = params.keys;
    if CAUSAL > 0u {
        end = min(end, params.keys - params.queries + first + ROWS);
    }
    if CAUSAL == 2u {
        // The first key that the workgroup's first row sees.
        let seen = params.keys - params.queries + first + 1u;
        begin = (seen - min(seen, params.window)) / KEYS * KEYS;
    }
    for (var key = begin; key < end; key += KEYS) {
        workgroupBarrier();
        for (var n = thread; n < KEYS * params.width; n += WG) {
            let j = n / params.width;
            let c = n % params.width;
            bring(j * (WIDTH + APART) + c * 4u, k[k_base + min(key + j, params.keys - 1u) * params.k_stride + c]);
        }
        workgroupBarrier();
        for (var j = 0u; j < KEYS; j += TILE) {
            var product = coopMultiplyAdd(q0, k_tile(0u, j), MatrixC());
            if WIDTH > TILE {
                product = coopMultiplyAdd(q1, k_tile(TILE, j), product);
            }
            if WIDTH > 2u * TILE {
                product = coopMultiplyAdd(q2, k_tile(2u * TILE, j), product);
            }
            if WIDTH > 3u * TILE {
                product = coopMultiplyAdd(q3, k_tile(3u * TILE, j), product);
            }
            if WIDTH > 4u * TILE {
                product = coopMultiplyAdd(q4, k_tile(4u * TILE, j), product);
            }
            if WIDTH > 5u * TILE {
                product = coopMultiplyAdd(q5, k_tile(5u * TILE, j), product);
            }
            if WIDTH > 6u * TILE {
                product = coopMultiplyAdd(q6, k_tile(6u * TILE, j), product);
            }
            if WIDTH > 7u * TILE {
                product = coopMultiplyAdd(q7, k_tile(7u * TILE, j), product);
            }
            if WIDTH > 8u * TILE {
                product = coopMultiplyAdd(q8, k_tile(8u * TILE, j), product);
            }
            if WIDTH > 9u * TILE {
                product = coopMultiplyAdd(q9, k_tile(9u * TILE, j), product);
            }
            if WIDTH > 10u * TILE {
                product = coopMultiplyAdd(q10, k_tile(10u * TILE, j), product);
            }
            if WIDTH > 11u * TILE {
                product = coopMultiplyAdd(q11, k_tile(11u * TILE, j), product);
            }
            if WIDTH > 12u * TILE {
                product = coopMultiplyAdd(q12, k_tile(12u * TILE, j), product);
            }
            if WIDTH > 13u * TILE {
                product = coopMultiplyAdd(q13, k_tile(13u * TILE, j), product);
            }
            if WIDTH > 14u * TILE {
                product = coopMultiplyAdd(q14, k_tile(14u * TILE, j), product);
            }
            if WIDTH > 15u * TILE {
                product = coopMultiplyAdd(q15, k_tile(15u * TILE, j), product);
            }
            coopStoreT(product, &sums[subgroup * TILE * KEYS + j], KEYS);
        }
        workgroupBarrier();

        for (var n = thread; n < KEYS * params.width; n += WG) {
            let j = n / params.width;
            let c = n % params.width;
            bring(j * (WIDTH + APART) + c * 4u, v[v_base + min(key + j, params.keys - 1u) * params.v_stride + c]);
        }
        var higher = high;
        for (var n = 0u; n < share; n++) {
            // Each row begins elsewhere: neighbouring lanes read other banks.
            let j = own + (n + line) % share;
            higher = max(higher, score(f32(sums[line * KEYS + j]), row, key + j));
        }
        for (var other = 1u; other < sharers; other *= 2u) {
            higher = max(higher, subgroupShuffleXor(higher, other));
        }
        let fade = exp(high - higher);
        high = higher;
        sum *= fade;
        for (var n = 0u; n < share; n++) {
            let j = own + (n + line) % share;
            let p = f16(exp(score(f32(sums[line * KEYS + j]), row, key + j) - high));
            probs[line * PROBS + j] = p;
            sum += f32(p);
        }
        if own == 0u {
            rows[line] = fade;
        }
        workgroupBarrier();

        weigh(0u, subgroup);
        gather(&y0, lane, subgroup);
        if WIDTH > KEYS {
            weigh(KEYS, subgroup);
            gather(&y1, lane, subgroup);
        }
        if WIDTH > 2u * KEYS {
            weigh(2u * KEYS, subgroup);
            gather(&y2, lane, subgroup);
        }
        if WIDTH > 3u * KEYS {
            weigh(3u * KEYS, subgroup);
            gather(&y3, lane, subgroup);
        }
    }

    for (var other = 1u; other < sharers; other *= 2u) {
        sum += subgroupShuffleXor(sum, other);
    }
    if own == 0u {
        rows[line] = 1.0 / max(sum, 1e-30);
        if STATE == 1u && first + line < params.queries {
            state[(batch * params.queries + row.at) * params.heads + head] = vec2<f32>(high, sum);
        }
    }
    workgroupBarrier();
    let y_base = (batch * params.queries * params.heads + head) * params.width;
    leave(&y0, 0u, y_base, first, lane, subgroup);
    if WIDTH > KEYS {
        leave(&y1, KEYS, y_base, first, lane, subgroup);
    }
    if WIDTH > 2u * KEYS {
        leave(&y2, 2u * KEYS, y_base, first, lane, subgroup);
    }
    if WIDTH > 3u * KEYS {
        leave(&y3, 3u * KEYS, y_base, first, lane, subgroup);
    }
}
