//! What the test programs share: one adapter, values by chance, comparison, goldens.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use keraunos::gpu::{Bind, Gpu, GpuOptions, Recorder};
use keraunos::ops::{copy_rows, gather_rows};
use keraunos::tensor::{Encoding, Matrix, Shape, Tensor};

/// The adapter that all tests of a program share, with bounds checks in its kernels.
///
/// # Panics
/// If there is none: a test that cannot run has failed.
pub fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| open(true))
}

/// An adapter of the test's own.
pub fn open(checked: bool) -> Gpu {
    let options = GpuOptions {
        checked,
        // This program runs what adapters without subgroups run.
        without_subgroups: env!("CARGO_CRATE_NAME") == "ops_without_subgroups",
        // And this one what a graphics card gets.
        as_card: env!("CARGO_CRATE_NAME") == "ops_as_card",
        ..GpuOptions::default()
    };
    match Gpu::open(&options) {
        Ok(gpu) => gpu,
        Err(error) => panic!("{error}"),
    }
}

/// Numbers by chance, the same ones on every run (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Between -1 and 1.
    pub fn value(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }
}

/// Fails with the worst element if `|got - want| > abs + rel · |want|` anywhere, NaN included.
#[track_caller]
pub fn close(got: &[f32], want: &[f32], abs: f64, rel: f64) {
    assert_eq!(got.len(), want.len(), "number of values");
    let excess = |i: usize| {
        let (got, want) = (f64::from(got[i]), f64::from(want[i]));
        // An infinity that is wanted is right.
        if got == want {
            return 0.0;
        }
        let ratio = (got - want).abs() / (abs + rel * want.abs());
        if ratio.is_nan() { f64::INFINITY } else { ratio }
    };
    let Some(worst) = (0..got.len()).max_by(|a, b| excess(*a).total_cmp(&excess(*b))) else {
        return;
    };
    let wrong = (0..got.len()).filter(|i| excess(*i) > 1.0).count();
    assert!(
        wrong == 0,
        "{wrong} of {} values are off; the worst is [{worst}]: got {}, want {}, {:.2} times the tolerance",
        got.len(),
        got[worst],
        want[worst],
        excess(worst),
    );
}

/// The words of tensors after all that was recorded, or the error as a sentence.
#[track_caller]
pub fn read<T: bytemuck::Pod>(rec: Recorder, tensors: &[&Tensor]) -> Vec<Vec<T>> {
    let wanted: Vec<(&dyn Bind, usize)> =
        tensors.iter().map(|t| (*t as &dyn Bind, t.len())).collect();
    match rec.read(&wanted) {
        Ok(values) => values,
        Err(error) => panic!("{error}"),
    }
}

pub fn upload<T: bytemuck::Pod>(shape: impl Into<Shape>, values: &[T]) -> Tensor {
    upload_to(gpu(), shape, values)
}

pub fn upload_to<T: bytemuck::Pod>(gpu: &Gpu, shape: impl Into<Shape>, values: &[T]) -> Tensor {
    match Tensor::upload(gpu, "test", shape, values) {
        Ok(tensor) => tensor,
        Err(error) => panic!("{error}"),
    }
}

/// Fills the memory that the next tensor of `len` values in this recording gets with NaN, so that an
/// element that its op does not write, and one that it should not have, both show.
pub fn poison(rec: &Recorder, len: usize) {
    let capacity = Tensor::empty(rec, len).buffer().bytes() as usize / 4;
    let memory = Tensor::empty(rec, [capacity / 4, 4]);
    assert_eq!(memory.buffer().bytes() as usize, capacity * 4, "size class");
    let nan = upload_to(rec.gpu(), [1, 4], &[f32::NAN; 4]);
    copy_rows(rec, &nan, &memory, capacity / 4, 0, 1);
}

/// `values` in leased memory that is NaN beyond them: a kernel that reads too far shows it.
pub fn staged(rec: &Recorder, shape: impl Into<Shape>, values: &[f32]) -> Tensor {
    let shape = shape.into();
    if !values.len().is_multiple_of(4) || values.is_empty() {
        return upload_to(rec.gpu(), shape, values);
    }
    let plain = upload_to(rec.gpu(), [values.len() / 4, 4], values);
    poison(rec, values.len());
    gather_rows(rec, &plain, values.len() / 4, 0, 1).reshape(shape)
}

/// Runs an op on poisoned memory and compares all of its result; nothing behind it may be written.
#[track_caller]
pub fn check(
    rec: Recorder,
    want: &[f32],
    abs: f64,
    rel: f64,
    op: impl FnOnce(&Recorder) -> Tensor,
) -> Vec<f32> {
    poison(&rec, want.len());
    let y = op(&rec);
    assert_eq!(y.len(), want.len(), "values of the result {}", y.shape());
    let capacity = y.buffer().bytes() as usize / 4;
    let mut got = match rec.read::<f32>(&[(&y, capacity)]) {
        Ok(mut values) => values.swap_remove(0),
        Err(error) => panic!("{error}"),
    };
    let poisoned = |v: &f32| v.to_bits() == f32::NAN.to_bits();
    let written = got[want.len()..].iter().filter(|v| !poisoned(v)).count();
    assert_eq!(written, 0, "values written behind the result {}", y.shape());
    got.truncate(want.len());
    close(&got, want, abs, rel);
    got
}

/// A packed matrix and the values it stands for.
pub struct Weights {
    pub matrix: Matrix,
    pub values: Vec<f32>,
}

/// Random weights of about unit gain in a storage format.
pub fn weights(
    gpu: &Gpu,
    random: &mut Random,
    format: &str,
    [outputs, inputs]: [usize; 2],
) -> Weights {
    use half::{bf16, f16};
    let scale = (3.0 / inputs as f32).sqrt();
    let count = outputs * inputs;
    let shape = [outputs, inputs];
    let mut plain = |short: fn(f32) -> f32| -> Vec<f32> {
        (0..count).map(|_| short(scale * random.value())).collect()
    };
    let packed = match format {
        "f32" => {
            let values = plain(|v| v);
            Matrix::f32(gpu, "test", shape, &values).map(|matrix| Weights { matrix, values })
        }
        "f16" => {
            let values = plain(|v| f16::from_f32(v).to_f32());
            Matrix::f16(gpu, "test", shape, &values).map(|matrix| Weights { matrix, values })
        }
        "bf16" => {
            let values = plain(|v| bf16::from_f32(v).to_f32());
            Matrix::bf16(gpu, "test", shape, &values).map(|matrix| Weights { matrix, values })
        }
        _ => {
            let encoding = encoding(format);
            let bytes = blocks(random, encoding, count, scale);
            let values = encoding.decode(&bytes).unwrap();
            Matrix::quantised(gpu, "test", shape, encoding, &bytes)
                .map(|matrix| Weights { matrix, values })
        }
    };
    match packed {
        Ok(weights) => weights,
        Err(error) => panic!("{error}"),
    }
}

/// The quantised encoding whose storage format has this name.
#[track_caller]
pub fn encoding(format: &str) -> Encoding {
    const QUANTISED: [Encoding; 8] = [
        Encoding::Q8_0,
        Encoding::Q4_0,
        Encoding::Q4_1,
        Encoding::Q5_0,
        Encoding::Q5_1,
        Encoding::Q4_K,
        Encoding::Q5_K,
        Encoding::Q6_K,
    ];
    QUANTISED
        .into_iter()
        .find(|encoding| encoding.to_string().to_lowercase() == format)
        .unwrap_or_else(|| panic!("no format {format}"))
}

/// Whole blocks for `count` values of about `scale`: every bit of quants and sub-scales by chance, factors such that
/// no value stands out.
pub fn blocks(random: &mut Random, encoding: Encoding, count: usize, scale: f32) -> Vec<u8> {
    use half::f16;
    let (per_block, bytes) = encoding.block();
    // Where the factors of a block are, and the largest number that each is multiplied by.
    let factors: &[(usize, f32)] = match encoding {
        Encoding::Q8_0 => &[(0, 127.0)],
        Encoding::Q4_0 => &[(0, 8.0)],
        Encoding::Q5_0 => &[(0, 16.0)],
        Encoding::Q4_1 => &[(0, 8.0), (2, 1.0)],
        Encoding::Q5_1 => &[(0, 16.0), (2, 1.0)],
        Encoding::Q4_K => &[(0, 63.0 * 8.0), (2, 63.0)],
        Encoding::Q5_K => &[(0, 63.0 * 16.0), (2, 63.0)],
        Encoding::Q6_K => &[(208, 128.0 * 32.0)],
        other => panic!("{other} has no blocks"),
    };
    let mut all = Vec::new();
    for _ in 0..count / per_block {
        let mut block: Vec<u8> = (0..bytes).map(|_| random.bits() as u8).collect();
        for &(at, largest) in factors {
            let factor = f16::from_f32(scale / largest * random.value());
            block[at..at + 2].copy_from_slice(&factor.to_le_bytes());
        }
        all.extend(block);
    }
    all
}

/// At least so many inputs, whole blocks of the formats that have long ones.
pub fn whole_blocks(format: &str, inputs: usize) -> usize {
    inputs.next_multiple_of(if format.ends_with("_k") { 256 } else { 4 })
}

/// `values` as rows of `from` columns, each padded with zeros to `to` columns.
pub fn pad<T: Copy + Default>(values: &[T], from: usize, to: usize) -> Vec<T> {
    let mut padded = Vec::with_capacity(values.len() / from * to);
    for row in values.chunks_exact(from) {
        padded.extend_from_slice(row);
        padded.resize(padded.len() + to - from, T::default());
    }
    padded
}

/// The reference values of one file of `tests/goldens`: tensors `<case>.<role>`.
pub struct Golden {
    /// A case's scalars by its name.
    pub cases: BTreeMap<String, serde_json::Value>,
    tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
}

impl Golden {
    #[track_caller]
    pub fn open(stem: &str) -> Self {
        let path = format!(
            "{}/tests/goldens/{stem}.safetensors",
            env!("CARGO_MANIFEST_DIR")
        );
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("cannot read `{path}`: {e}"));
        let damaged = |e: &dyn std::fmt::Display| -> ! { panic!("`{path}`: {e}") };
        let (_, metadata) =
            safetensors::SafeTensors::read_metadata(&bytes).unwrap_or_else(|e| damaged(&e));
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap_or_else(|e| damaged(&e));
        let cases = metadata.metadata().iter().flatten().map(|(case, scalars)| {
            let scalars = serde_json::from_str(scalars).unwrap_or_else(|e| damaged(&e));
            (case.clone(), scalars)
        });
        let tensors = file.iter().map(|(name, view)| {
            (
                name.to_owned(),
                (view.shape().to_vec(), view.data().to_vec()),
            )
        });
        Self {
            cases: cases.collect(),
            tensors: tensors.collect(),
        }
    }

    #[track_caller]
    fn tensor(&self, case: &str, role: &str) -> &(Vec<usize>, Vec<u8>) {
        let name = format!("{case}.{role}");
        self.tensors
            .get(&name)
            .unwrap_or_else(|| panic!("no golden `{name}`"))
    }

    pub fn has(&self, case: &str, role: &str) -> bool {
        self.tensors.contains_key(&format!("{case}.{role}"))
    }

    #[track_caller]
    pub fn shape(&self, case: &str, role: &str) -> &[usize] {
        &self.tensor(case, role).0
    }

    /// The values of an f32 tensor.
    #[track_caller]
    pub fn values(&self, case: &str, role: &str) -> Vec<f32> {
        bytemuck::pod_collect_to_vec(&self.tensor(case, role).1)
    }

    /// The values of an int32 tensor.
    #[track_caller]
    pub fn numbers(&self, case: &str, role: &str) -> Vec<u32> {
        bytemuck::pod_collect_to_vec(&self.tensor(case, role).1)
    }

    /// The raw bytes of a tensor.
    #[track_caller]
    pub fn bytes(&self, case: &str, role: &str) -> &[u8] {
        &self.tensor(case, role).1
    }
}
