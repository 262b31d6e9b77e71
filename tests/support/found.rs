//! What a reference makes of a model, sampled, and the comparison with it.
#![allow(dead_code, reason = "every test program uses another part")]

use std::collections::BTreeMap;
use std::path::Path;

use keraunos::gpu::Recorder;
use keraunos::tensor::Tensor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Of an activation a stride, every so-manyth value, the mean and the root of the mean of squares of all.
#[derive(Deserialize)]
pub struct Found(pub usize, pub Vec<f32>, f64, f64);

impl Found {
    /// Compares all of an activation; `share` of its scale is let pass.
    pub fn compare(&self, what: &str, got: &[f32], share: f64) {
        let Self(stride, want, mean, root) = self;
        let some: Vec<f32> = got.iter().step_by(*stride).copied().collect();
        assert_eq!(some.len(), want.len(), "{what}: {} values", got.len());
        let scale = f64::from(want.iter().fold(0.0_f32, |most, v| most.max(v.abs())));
        let worst = some
            .iter()
            .zip(want)
            .map(|(a, b)| f64::from((a - b).abs()))
            .fold(0.0, f64::max);
        let count = got.len() as f64;
        let sum = |of: fn(f64) -> f64| got.iter().map(|v| of(f64::from(*v))).sum::<f64>() / count;
        let (own_mean, own_root) = (sum(|v| v), sum(|v| v * v).sqrt());
        println!("{what}: {worst:.2e} of {scale:.2}");
        for (name, off) in [
            ("a value", worst),
            ("the mean", (own_mean - mean).abs()),
            ("the root of the mean of squares", (own_root - root).abs()),
        ] {
            assert!(
                off <= share * scale,
                "{what}: {name} is off by {off:.3e} of {scale:.3}"
            );
        }
    }
}

/// The cases of a file in `tests/goldens`.
pub fn cases<C: DeserializeOwned>(file: &str) -> BTreeMap<String, C> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let text = std::fs::read_to_string(path.join(file)).expect("the goldens");
    let mut cases: BTreeMap<String, Value> = serde_json::from_str(&text).expect("JSON");
    cases.remove("made with");
    cases
        .into_iter()
        .map(|(name, case)| (name, serde_json::from_value(case).expect("a case")))
        .collect()
}

/// Activations that a forward pass shows, those among them that a case has.
pub struct Kept<'a> {
    found: &'a BTreeMap<String, Found>,
    kept: Vec<(String, Tensor)>,
}

impl<'a> Kept<'a> {
    pub fn of(found: &'a BTreeMap<String, Found>) -> Self {
        let kept = Vec::new();
        Self { found, kept }
    }

    pub fn keep(&mut self, name: &str, x: &Tensor) {
        if self.found.contains_key(name) {
            self.kept.push((name.to_owned(), x.clone()));
        }
    }

    /// Reads what was kept and compares it, but for the padding of rows of `cols` (by name); nothing may be missing. All values
    /// of what was compared, by name.
    pub fn compare(
        self,
        what: &str,
        rec: Recorder,
        cols: &[(&str, usize)],
        share: f64,
    ) -> BTreeMap<String, Vec<f32>> {
        let mut all = BTreeMap::new();
        let tensors: Vec<&Tensor> = self.kept.iter().map(|(_, x)| x).collect();
        let values = super::support::read::<f32>(rec, &tensors);
        let mut missing: Vec<&str> = self.found.keys().map(String::as_str).collect();
        for ((at, x), values) in self.kept.iter().zip(values) {
            missing.retain(|other| other != at);
            let own = cols.iter().find(|(name, _)| name == at);
            let values = match own {
                Some((_, cols)) => {
                    let [_, padded] = x.matrix();
                    let rows = values.chunks_exact(padded);
                    rows.flat_map(|row| row[..*cols].to_vec()).collect()
                }
                None => values,
            };
            self.found[at].compare(&format!("{what} {at}"), &values, share);
            all.insert(at.clone(), values);
        }
        assert!(missing.is_empty(), "{what}: {missing:?} are not kept");
        all
    }
}
