//! What every segmentation tells of its run: the seconds of its stages, how weights are stored, and logits that no adapter means.

use std::time::Instant;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::tensor::Precision;

/// Voxels that a thread takes at once.
pub(super) const TOGETHER: usize = 1 << 16;

/// Times stages.
pub(super) struct Clock {
    last: Instant,
    pub(super) seconds: Vec<(&'static str, f64)>,
}

impl Clock {
    /// From now on.
    pub(super) fn new() -> Self {
        Self::after(Vec::new())
    }

    /// From now on, after stages that were timed elsewhere.
    pub(super) fn after(seconds: Vec<(&'static str, f64)>) -> Self {
        Self {
            last: Instant::now(),
            seconds,
        }
    }

    pub(super) fn lap(&mut self, stage: &'static str) {
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64();
        tracing::info!("{stage}: {seconds:.3} s");
        self.seconds.push((stage, seconds));
        self.last = now;
    }
}

/// How weights are stored and sums are taken, for the report.
pub(super) fn precision_in_words(precision: Precision, gpu: &Gpu) -> String {
    match precision {
        Precision::Auto if gpu.coop_tile().is_some() => {
            "weights as stored, products of f16 on cooperative matrices".into()
        }
        Precision::Auto => "weights as stored, f32 sums".into(),
        Precision::F16 => "f16 weights, f32 sums".into(),
        Precision::F32 => "f32".into(),
    }
}

/// What logits say of the adapter that computed them: a warning if all are 0, which no model means.
///
/// # Errors
/// [`Error::Gpu`] if one is not a number.
pub(super) fn check_logits(name: &str, logits: &[f32]) -> Result<Option<String>> {
    let broken: usize = logits
        .par_chunks(TOGETHER)
        .map(|part| part.iter().filter(|logit| logit.is_nan()).count())
        .sum();
    if broken > 0 {
        return Err(Error::Gpu(format!(
            "{broken} of {} values of `{name}` are no numbers; `keraunos doctor` checks the adapter",
            logits.len()
        )));
    }
    let nothing = !logits.is_empty() && logits.iter().all(|logit| *logit == 0.0);
    Ok(nothing.then(|| {
        format!("all values of `{name}` are 0: the adapter may have computed nothing; `keraunos doctor` checks it")
    }))
}

#[cfg(test)]
mod tests {
    use super::check_logits;

    #[test]
    fn values_that_no_adapter_means_are_told() {
        assert!(matches!(check_logits("x", &[-3.0, 0.0, 2.0]), Ok(None)));
        assert!(matches!(check_logits("x", &[]), Ok(None)));
        let told = check_logits("left putamen", &[0.0; 5]).expect("a warning");
        assert!(told.is_some_and(|text| text.contains("`left putamen` are 0")));
        let error = check_logits("x", &[1.0, f32::NAN, 0.0]).expect_err("NaN");
        assert!(
            error.to_string().contains("1 of 3 values of `x`"),
            "{error}"
        );
    }
}
