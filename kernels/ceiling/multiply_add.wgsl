// y[t] = sum of 16 · 4 · turns multiply-adds that never leave the registers of thread t
//
// The best f32 rate of an adapter: sixteen independent chains of vec4s, so that no result is waited
// for. The factor is a parameter, or the compiler would work the sums out itself.

override WG: u32 = 64;

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
    var s2 = s0 + 2.0;
    var s3 = s0 + 3.0;
    var s4 = s0 + 4.0;
    var s5 = s0 + 5.0;
    var s6 = s0 + 6.0;
    var s7 = s0 + 7.0;
    var s8 = s0 + 8.0;
    var s9 = s0 + 9.0;
    var s10 = s0 + 10.0;
    var s11 = s0 + 11.0;
    var s12 = s0 + 12.0;
    var s13 = s0 + 13.0;
    var s14 = s0 + 14.0;
    var s15 = s0 + 15.0;
    for (var turn = 0u; turn < params.turns; turn++) {
        s0 = fma(s0, m, c);
        s1 = fma(s1, m, c);
        s2 = fma(s2, m, c);
        s3 = fma(s3, m, c);
        s4 = fma(s4, m, c);
        s5 = fma(s5, m, c);
        s6 = fma(s6, m, c);
        s7 = fma(s7, m, c);
        s8 = fma(s8, m, c);
        s9 = fma(s9, m, c);
        s10 = fma(s10, m, c);
        s11 = fma(s11, m, c);
        s12 = fma(s12, m, c);
        s13 = fma(s13, m, c);
        s14 = fma(s14, m, c);
        s15 = fma(s15, m, c);
    }
    y[id.x] = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11 + s12 + s13 + s14 + s15;
}
