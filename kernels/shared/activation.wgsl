// activate(v) = v | gelu(v) = v · (1 + erf(v / √2)) / 2 | relu(v) | silu(v) = v / (1 + e⁻ᵛ) | sigmoid(v) = 1 / (1 + e⁻ᵛ)
//               | gelu_tanh(v) = v · (1 + tanh(√(2 / π) · (v + 0.044715 v³))) / 2 | quick_gelu(v) = v / (1 + e^(-1.702 v))
//               | elu(v) = v above 0, eᵛ - 1 below | tanh(v)
//
// erf is a rational function on [-4, 4], ±1 beyond (largest error 3e-7); it costs no exponential.
// Beyond it is ±1 outright: a quotient that an adapter rounds to 1 - 6e-8 would leave a part of a
// large negative v. (1 + tanh(u)) / 2 is 1 / (1 + e^(-2u)): no difference of nearly equal numbers. tanh is 1 - 2 / (1 + e^(2v)),
// ±1 from 10 on, where no f32 lies between. Linked into every kernel with an epilogue.

override ACTIVATION: u32 = 0;  // 0 none, 1 gelu (erf), 2 relu, 3 silu, 4 sigmoid, 5 gelu by tanh, 6 quick gelu, 7 elu, 8 tanh

fn activate(v: vec4<f32>) -> vec4<f32> {
    if ACTIVATION == 1u {
        let x = clamp(v * 0.70710678, vec4<f32>(-4.0), vec4<f32>(4.0));
        let s = x * x;
        var p = fma(s, vec4<f32>(-2.72614225801306e-10), vec4<f32>(2.77068142495902e-08));
        p = fma(s, p, vec4<f32>(-2.10102402082508e-06));
        p = fma(s, p, vec4<f32>(-5.69250639462346e-05));
        p = fma(s, p, vec4<f32>(-7.34990630326855e-04));
        p = fma(s, p, vec4<f32>(-2.95459980854025e-03));
        p = fma(s, p, vec4<f32>(-1.60960333262415e-02));
        var q = fma(s, vec4<f32>(-1.45660718464996e-05), vec4<f32>(-2.13374055278905e-04));
        q = fma(s, q, vec4<f32>(-1.68282697438203e-03));
        q = fma(s, q, vec4<f32>(-7.37332916720468e-03));
        q = fma(s, q, vec4<f32>(-1.42647390514189e-02));
        let erf = select(x * p / q, sign(x), abs(x) >= vec4<f32>(4.0));
        return 0.5 * v * (1.0 + erf);
    }
    if ACTIVATION == 2u {
        return max(v, vec4<f32>(0.0));
    }
    if ACTIVATION == 3u {
        return v / (1.0 + exp(-v));
    }
    if ACTIVATION == 4u {
        return 1.0 / (1.0 + exp(-v));
    }
    if ACTIVATION == 5u {
        return v / (1.0 + exp(-1.5957691 * fma(0.044715 * v * v, v, v)));
    }
    if ACTIVATION == 6u {
        return v / (1.0 + exp(-1.702 * v));
    }
    if ACTIVATION == 7u {
        return select(exp(min(v, vec4<f32>(0.0))) - 1.0, v, v > vec4<f32>(0.0));
    }
    if ACTIVATION == 8u {
        return 1.0 - 2.0 / (1.0 + exp(2.0 * clamp(v, vec4<f32>(-10.0), vec4<f32>(10.0))));
    }
    return v;
}
