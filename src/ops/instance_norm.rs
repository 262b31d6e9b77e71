//! Channels of a picture or volume shifted and scaled to mean 0 and variance 1.

use crate::gpu::{Recorder, kernel};
use crate::ops::{Activation, groups};
use crate::tensor::Tensor;

kernel! {
    /// `y = activate((x − mean) / √(var + eps))`, channel by channel.
    INSTANCE_NORM = "instance_norm" + "shared/flat" + "shared/activation"; { rows: u32, quads: u32, eps: f32 }
}

/// PyTorch's `InstanceNorm3d` without weights, and an activation: x `[…, channels]` a part or all of a volume whose moments
/// are `[1, 2, channels]`, see [`moments`](crate::ops::moments()).
#[track_caller]
pub fn instance_norm(
    rec: &Recorder,
    x: &Tensor,
    moments: &Tensor,
    eps: f32,
    activation: Activation,
) -> Tensor {
    let [rows, channels] = x.matrix();
    moments.expect([1, 2, channels]);
    assert!(channels.is_multiple_of(4), "norm of {channels} channels");
    let y = Tensor::empty(rec, x.shape());
    let params = Params {
        rows: rows as u32,
        quads: (channels / 4) as u32,
        eps,
    };
    rec.dispatch(
        INSTANCE_NORM.set("ACTIVATION", activation as u32),
        params,
        &[("x", x), ("moments", moments), ("y", &y)],
        groups(rows * channels / 4),
    );
    y
}
