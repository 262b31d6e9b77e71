//! Every op on the adapter, with bounds checks on: against its plain-loop twin at sizes that reach
//! every edge of its kernel, and against PyTorch's goldens where there is one. Results are written
//! into memory full of NaN, inputs end in it. One file for each family of ops.

mod attention;

mod conv;

mod decoding;

mod formats;

mod linear;

mod masks;

mod norms;

mod rows;

#[path = "../support/mod.rs"]
mod support;

mod windows;

use keraunos::gpu::{Bind, Gpu, GpuOptions, Recorder};

use keraunos::layers::{Conv, ConvTranspose};

use keraunos::ops::choice::Class;

use keraunos::ops::*;

use keraunos::tensor::{
    Checkpoint, Matrix, Precision, Shape, Tensor, Weights as CheckpointWeights,
};

use support::{
    Golden, Random, check, close, encoding, gpu, pad, poison, read, staged, upload, upload_to,
    weights, whole_blocks,
};

const FORMATS: [&str; 11] = [
    "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q5_k", "q6_k",
];

const ACTIVATIONS: [Activation; 9] = [
    Activation::None,
    Activation::Gelu,
    Activation::Relu,
    Activation::Silu,
    Activation::Sigmoid,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Elu,
    Activation::Tanh,
];

fn activation(name: &serde_json::Value) -> Activation {
    let name = name.as_str().unwrap_or_default();
    ACTIVATIONS
        .into_iter()
        .find(|a| format!("{a:?}").to_lowercase() == name)
        .unwrap_or_else(|| panic!("activation `{name}`"))
}

/// `values` padded to whole panels of 8, as biases are.
fn panels(values: &[f32]) -> Vec<f32> {
    pad(values, values.len(), values.len().next_multiple_of(8))
}

/// As `poison`, for ops that lease more than their result: whichever of the next four tensors of this size is it.
fn poison_four(rec: &Recorder, len: usize) {
    let held = [(); 4].map(|()| {
        poison(rec, len);
        Tensor::empty(rec, len)
    });
    drop(held);
}
