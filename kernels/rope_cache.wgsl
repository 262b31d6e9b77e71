// q[t, h, i] = rotate(qkv[t, h, i], position[t] · frequency[pair of i]), k likewise; v is copied
//
// Splits the rows that the stacked q·k·v product wrote: turns q and k by their position and puts k and v into row slot[t] of
// the caches. One thread per token and 4 columns. What is turned together are neighbours, 2i and 2i + 1, as GGUF's Llama
// tensors are laid out, or with HALVES column i of the first half of a head and of the second, as everywhere else.
// The angle is computed in f32 from the position, like ggml; the frequencies come ready, so that every way to stretch
// a context (linear, llama3, yarn) is a table.

override WG: u32 = 64;
override HALVES: u32 = 0;
override F16: u32 = 0;  // the caches hold f16, eight to a vec4

struct Params {
    tokens: u32,
    heads: u32,     // of q
    kv_heads: u32,  // of k and of v
    width: u32,     // of a head, / 4; even with HALVES
    scale: f32,     // of what is turned: 1 but for yarn
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;            // (tokens, heads + 2 · kv_heads, width) of 4
@group(0) @binding(2) var<storage, read> position: array<u32>;             // (tokens)
@group(0) @binding(3) var<storage, read> slot: array<u32>;                 // (tokens)
@group(0) @binding(4) var<storage, read> frequency: array<vec2<f32>>;      // (width) of 2 pairs, radians a position
@group(0) @binding(5) var<storage, read_write> q: array<vec4<f32>>;        // (tokens, heads, width) of 4
@group(0) @binding(6) var<storage, read_write> k_cache: array<vec4<u32>>;  // (slots, kv_heads, width) of 4 f32, or of 8 f16 with width / 2
@group(0) @binding(7) var<storage, read_write> v_cache: array<vec4<u32>>;  // (slots, kv_heads, width) of 4 f32, or of 8 f16 with width / 2

// The columns `quad` of the head that qkv[i] belongs to.
fn rotated(i: u32, quad: u32, position: f32) -> vec4<f32> {
    let own = qkv[i];
    if HALVES == 0u {
        let angle = position * frequency[quad];
        let c = cos(angle) * params.scale;
        let s = sin(angle) * params.scale;
        return vec4<f32>(
            own.x * c.x - own.y * s.x, own.x * s.x + own.y * c.x,
            own.z * c.y - own.w * s.y, own.z * s.y + own.w * c.y,
        );
    }
    let half = params.width / 2u;
    let first = quad < half;
    let pairs = select(quad - half, quad, first) * 2u;
    let angle = position * vec4<f32>(frequency[pairs], frequency[pairs + 1u]);
    let other = qkv[select(i - half, i + half, first)];
    let s = sin(angle) * params.scale;
    return own * (cos(angle) * params.scale) + other * select(s, -s, first);
}

fn keep_k(i: u32, v: vec4<f32>) {
    if F16 == 0u {
        k_cache[i] = bitcast<vec4<u32>>(v);
        return;
    }
    // The thread of the neighbouring columns writes the other two words.
    let own = halves(v);
    if i % 2u == 0u {
        k_cache[i / 2u].x = own.x;
        k_cache[i / 2u].y = own.y;
    } else {
        k_cache[i / 2u].z = own.x;
        k_cache[i / 2u].w = own.y;
    }
}

fn keep_v(i: u32, v: vec4<f32>) {
    if F16 == 0u {
        v_cache[i] = bitcast<vec4<u32>>(v);
        return;
    }
    let own = halves(v);
    if i % 2u == 0u {
        v_cache[i / 2u].x = own.x;
        v_cache[i / 2u].y = own.y;
    } else {
        v_cache[i / 2u].z = own.x;
        v_cache[i / 2u].w = own.y;
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat(group, groups) * WG + lane;
    let q_row = params.heads * params.width;
    let kv_row = params.kv_heads * params.width;
    let row = q_row + 2u * kv_row;
    if i < params.tokens * row {
        let token = i / row;
        let column = i % row;
        let quad = column % params.width;
        let at = f32(position[token]);
        let cached = slot[token] * kv_row;
        if column < q_row {
            q[token * q_row + column] = rotated(i, quad, at);
        } else if column < q_row + kv_row {
            keep_k(cached + column - q_row, rotated(i, quad, at));
        } else {
            keep_v(cached + column - q_row - kv_row, qkv[i]);
        }
    }
}
