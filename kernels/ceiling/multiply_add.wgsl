// y[t] = sum of CHAINS · 4 · turns multiply-adds that never leave the registers of thread t
//
// The best f32 rate of an adapter: independent chains of vec4s, so that no result is waited for. How
// many are best depends on the adapter: too few wait for each other, too many spill out of the registers of
// a CPU. The caller tries 1, 2, 4, 8 and 16. The factor is a parameter, or the compiler would work the
// sums out itself.

override WG: u32 = 64;
override CHAINS: u32 = 16;

struct Params {
    turns: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;  // (threads) of 4

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let m = vec4<f32>(params.factor);
    let c = vec4<f32>(1.0) - m;
    var s0 = vec4<f32>(f32(id.x));
    var s1 = s0 + 1.0;
    var s2 = s1 + 1.0;
    var s3 = s2 + 1.0;
    var s4 = s3 + 1.0;
    var s5 = s4 + 1.0;
    var s6 = s5 + 1.0;
    var s7 = s6 + 1.0;
    var s8 = s7 + 1.0;
    var s9 = s8 + 1.0;
    var s10 = s9 + 1.0;
    var s11 = s10 + 1.0;
    var s12 = s11 + 1.0;
    var s13 = s12 + 1.0;
    var s14 = s13 + 1.0;
    var s15 = s14 + 1.0;
    for (var turn = 0u; turn < params.turns; turn++) {
        s0 = fma(s0, m, c);
        if CHAINS > 1u {
            s1 = fma(s1, m, c);
        }
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
        if CHAINS > 8u {
            s8 = fma(s8, m, c);
            s9 = fma(s9, m, c);
            s10 = fma(s10, m, c);
            s11 = fma(s11, m, c);
            s12 = fma(s12, m, c);
            s13 = fma(s13, m, c);
            s14 = fma(s14, m, c);
            s15 = fma(s15, m, c);
        }
    }
    var sum = s0;
    if CHAINS > 1u {
        sum += s1;
    }
    if CHAINS > 2u {
        sum += s2 + s3;
    }
    if CHAINS > 4u {
        sum += s4 + s5 + s6 + s7;
    }
    if CHAINS > 8u {
        sum += s8 + s9 + s10 + s11 + s12 + s13 + s14 + s15;
    }
    y[id.x] = sum;
}
