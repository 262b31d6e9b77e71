//! Feature-wise linear modulation (arXiv 1709.07871).

use crate::gpu::{Recorder, kernel};
use crate::ops::groups;
use crate::tensor::Tensor;

kernel! {
    /// `y = x · gamma + beta`, by prompt and channel.
    FILM = "film" + "shared/flat"; { prompts: u32, tokens: u32, rows: u32, cols: u32 }
}

/// `x · gamma + beta`, both `[prompts, cols]`, of the tokens of each prompt: `[prompts · tokens, cols]`. x is `[tokens, cols]`
/// where `shared` says that all prompts see the same, `[prompts · tokens, cols]` else.
#[track_caller]
pub fn film(rec: &Recorder, x: &Tensor, gamma: &Tensor, beta: &Tensor, shared: bool) -> Tensor {
    let ([rows, cols], [prompts, _]) = (x.matrix(), gamma.matrix());
    gamma.expect([prompts, cols]);
    beta.expect([prompts, cols]);
    assert!(
        cols.is_multiple_of(4) && (shared || rows.is_multiple_of(prompts)),
        "{rows} rows of {cols} for {prompts} prompts"
    );
    let tokens = if shared { rows } else { rows / prompts };
    let y = Tensor::empty(rec, [prompts * tokens, cols]);
    let params = Params {
        prompts: prompts as u32,
        tokens: tokens as u32,
        rows: rows as u32,
        cols: (cols / 4) as u32,
    };
    let bindings: &[(&str, &dyn crate::gpu::Bind)] =
        &[("x", x), ("gamma", gamma), ("beta", beta), ("y", &y)];
    rec.dispatch(&FILM, params, bindings, groups(y.len() / 4));
    y
}
