// q[t, h, 2i..] = rotate(qkv[t, h, 2i..], position[t] · theta^(-2i / d)), k likewise; v is copied
//
// Splits the rows that the stacked q·k·v product wrote: turns q and k by their position (pairs of
// neighbours, as GGUF's Llama tensors are laid out) and puts k and v into row slot[t] of the caches.
// One thread per token and 4 columns. The angle is computed in f32 from the position, like ggml.

override WG: u32 = 64;

struct Params {
    tokens: u32,
    heads: u32,     // of q
    kv_heads: u32,  // of k and of v
    width: u32,     // of a head, / 4
    theta_log2: f32,  // log2 of the base of the angles
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>;            // (tokens, heads + 2 · kv_heads, width) of 4
@group(0) @binding(2) var<storage, read> position: array<u32>;             // (tokens)
@group(0) @binding(3) var<storage, read> slot: array<u32>;                 // (tokens)
@group(0) @binding(4) var<storage, read_write> q: array<vec4<f32>>;        // (tokens, heads, width) of 4
@group(0) @binding(5) var<storage, read_write> k_cache: array<vec4<f32>>;  // (slots, kv_heads, width) of 4
@group(0) @binding(6) var<storage, read_write> v_cache: array<vec4<f32>>;  // (slots, kv_heads, width) of 4

fn rotate(v: vec4<f32>, position: f32, quad: u32) -> vec4<f32> {
    // Two pairs: i = 2 · quad and 2 · quad + 1 of d / 2.
    let d = f32(params.width * 4u);
    let angle0 = position * exp2(-params.theta_log2 * f32(4u * quad) / d);
    let angle1 = position * exp2(-params.theta_log2 * f32(4u * quad + 2u) / d);
    let c0 = cos(angle0);
    let s0 = sin(angle0);
    let c1 = cos(angle1);
    let s1 = sin(angle1);
    return vec4<f32>(v.x * c0 - v.y * s0, v.x * s0 + v.y * c0, v.z * c1 - v.w * s1, v.z * s1 + v.w * c1);
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
            q[token * q_row + column] = rotate(qkv[i], at, quad);
        } else if column < q_row + kv_row {
            k_cache[cached + column - q_row] = rotate(qkv[i], at, quad);
        } else {
            v_cache[cached + column - q_row - kv_row] = qkv[i];
        }
    }
}
