//! Every op once more, in plain loops on the CPU.
//!
//! A twin says what its op means, not how the kernel goes about it: sums are f64 in the order of the
//! formula, nothing is blocked, and indices are spelled out. Weights are given as plain values;
//! what a storage format makes of them is the caller's business. The self-check, the tests and the
//! benches all compare with these.

mod attentions;
mod pictures;
mod products;
mod rows;

pub use attentions::*;
pub use pictures::*;
pub use products::*;
pub use rows::*;

use crate::ops::Activation;

/// Columns of a matrix that may hold more: row r begins at `r · stride + first`.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub first: usize,
}

impl Columns<'_> {
    fn at(&self, row: usize, column: usize) -> f64 {
        f64::from(self.values[row * self.stride + self.first + column])
    }

    fn rows(&self) -> usize {
        self.values.len() / self.stride
    }
}

/// The error function: its Taylor series near zero, the continued fraction of its complement beyond.
fn erf(x: f64) -> f64 {
    if x.abs() < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let mut fraction = 0.0;
    for n in (1..200).rev() {
        fraction = f64::from(n) / 2.0 / (x.abs() + fraction);
    }
    let complement = (-x * x).exp() / (std::f64::consts::PI.sqrt() * (x.abs() + fraction));
    (1.0 - complement).copysign(x)
}

pub fn activate(activation: Activation, v: f64) -> f64 {
    match activation {
        Activation::None => v,
        Activation::Gelu => v * (1.0 + erf(v / 2f64.sqrt())) / 2.0,
        Activation::Relu => v.max(0.0),
        Activation::Silu => v / (1.0 + (-v).exp()),
        Activation::Sigmoid => 1.0 / (1.0 + (-v).exp()),
        Activation::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3));
            v * (1.0 + u.tanh()) / 2.0
        }
        Activation::QuickGelu => v / (1.0 + (-1.702 * v).exp()),
        Activation::Elu => v.max(v.min(0.0).exp_m1()),
        Activation::Tanh => v.tanh(),
    }
}
