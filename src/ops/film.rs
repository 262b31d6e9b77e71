//! Feature-wise linear modulation (arXiv 1709.07871).

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// `y = x · gamma + beta`, by prompt and channel.
    FILM = "film" + "shared/flat"; { prompts: u32, tokens: u32, cols: u32 }
}

/// `x · gamma + beta`: of x `[tokens, cols]`, which all prompts see, and of what each says, `[prompts, cols]` twice:
/// `[prompts · tokens, cols]`.
#[track_caller]
pub fn film(rec: &Recorder, x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Tensor {
    let ([tokens, cols], [prompts, _]) = (x.matrix(), gamma.matrix());
    gamma.expect([prompts, cols]);
    beta.expect([prompts, cols]);
    assert!(cols.is_multiple_of(4), "rows of {cols}");
    let y = Tensor::empty(rec, [prompts * tokens, cols]);
    let params = Params {
        prompts: prompts as u32,
        tokens: tokens as u32,
        cols: (cols / 4) as u32,
    };
    rec.dispatch(
        &FILM,
        params,
        &[("x", x), ("gamma", gamma), ("beta", beta), ("y", &y)],
        groups(y.len() / 4),
    );
    y
}
