// y[t] = sum of CHAINS · 4 · turns multiply-adds of f16 that never leave the registers of thread t
//
// multiply_add.wgsl in half precision, on adapters that compute in it: what kernels would gain that keep their sums
// in f16. The start is small and the factor near one, so that every sum tends to one and none overflows.

enable f16;

override WG: u32 = 64;
override CHAINS: u32 = 8;  // 2, 4 or 8

struct Params {
    turns: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;  // (threads) of 4

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let m = vec4<f16>(f16(params.factor));
    let c = vec4<f16>(f16(1.0)) - m;
    var s0 = vec4<f16>(f16(id.x % 64u));
    var s1 = s0 + m;
    var s2 = s1 + m;
    var s3 = s2 + m;
    var s4 = s3 + m;
    var s5 = s4 + m;
    var s6 = s5 + m;
    var s7 = s6 + m;
    for (var turn = 0u; turn < params.turns; turn++) {
        s0 = fma(s0, m, c);
        s1 = fma(s1, m, c);
        if CHAINS > 2u {
            s2 = fma(s2, m, c);
            s3 = fma(s3, m, c);
        }
        if CHAINS > 4u {
            s4 = fma(s4, m, c);
            s5 = fma(s5, m, c);
            s6 = fma(s6, m, c);
            s7 = fma(s7, m, c);
        }
    }
    var sum = s0 + s1;
    if CHAINS > 2u {
        sum += s2 + s3;
    }
    if CHAINS > 4u {
        sum += s4 + s5 + s6 + s7;
    }
    y[id.x] = vec4<f32>(sum);
}
