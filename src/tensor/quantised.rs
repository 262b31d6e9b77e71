//! Matrices as small integers beside their scales: made from numbers, and kept in safetensors.
//!
//! Safetensors has no type for blocks, so a quantised matrix `weight` is two or three tensors there: `weight` with the
//! integers, `weight.scale` and, for `Q4_1`, `weight.min`, one f16 for each 32 columns of a row. `Q8_0` has signed
//! bytes, `[outputs, inputs]`; the others two nibbles a byte, `[outputs, inputs / 2]`, of 32 columns the first 16 in the
//! low ones, as ggml has them. When a checkpoint is opened they are put together to
//! ggml's blocks, which [`part`] takes apart again.

use std::borrow::Cow;
use std::collections::BTreeMap;

use half::f16;
use safetensors::{Dtype, View};

use crate::tensor::{Encoding, TensorEntry};

/// What the scales' name ends in.
pub(crate) const SCALE: &str = ".scale";
/// What the offsets' name ends in.
pub(crate) const MIN: &str = ".min";
/// Columns to a block.
const BLOCK: usize = 32;

/// A quantised matrix as ggml's blocks.
pub(super) struct Joined {
    pub encoding: Encoding,
    /// Outputs and inputs.
    pub shape: [usize; 2],
    pub blocks: Vec<u8>,
}

/// A quantised matrix in the parts that safetensors keeps.
pub struct Parts {
    /// The integers: signed bytes for `Q8_0`, else pairs of nibbles.
    pub weight: Vec<u8>,
    /// An f16 for each block.
    pub scale: Vec<u8>,
    /// Another, for `Q4_1`.
    pub min: Option<Vec<u8>>,
}

/// The formats that numbers are quantised to.
pub const FORMATS: [Encoding; 3] = [Encoding::Q8_0, Encoding::Q4_0, Encoding::Q4_1];

/// `values`, whole blocks of 32, in one of [`FORMATS`], to the bit as ggml's reference does; `None` if a value or its scale
/// is beyond f16.
///
/// # Panics
/// For another format, or if blocks are not whole.
#[track_caller]
pub fn quantise(values: &[f32], encoding: Encoding) -> Option<Vec<u8>> {
    assert!(
        FORMATS.contains(&encoding) && values.len().is_multiple_of(BLOCK),
        "{} values as {encoding}",
        values.len()
    );
    let mut blocks = Vec::with_capacity(values.len() / BLOCK * encoding.block().1);
    for block in values.chunks_exact(BLOCK) {
        let inverse = |d: f32| if d == 0.0 { 0.0 } else { 1.0 / d };
        let mut put = |number: f32| {
            let half = f16::from_f32(number);
            blocks.extend(half.to_le_bytes());
            half.is_finite()
        };
        let (low, high) = block
            .iter()
            .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| {
                (low.min(*v), high.max(*v))
            });
        let (finite, quants): (bool, Vec<u8>) = match encoding {
            Encoding::Q8_0 => {
                let d = low.abs().max(high.abs()) / 127.0;
                let quant = |v: &f32| ((v * inverse(d)).round() as i8).cast_unsigned();
                (put(d), block.iter().map(quant).collect())
            }
            Encoding::Q4_0 => {
                // The first of the largest keeps its sign, which is why there are eight steps to one side.
                let first = |most: f32, v: &f32| if v.abs() > most.abs() { *v } else { most };
                let d = block.iter().fold(0.0, first) / -8.0;
                let quant = |v: &f32| ((v * inverse(d) + 8.5) as u8).min(15);
                (put(d), block.iter().map(quant).collect())
            }
            _ => {
                let d = (high - low) / 15.0;
                let quant = |v: &f32| (((v - low) * inverse(d) + 0.5) as u8).min(15);
                let finite = put(d);
                (put(low) && finite, block.iter().map(quant).collect())
            }
        };
        if !finite || block.iter().any(|v| !v.is_finite()) {
            return None;
        }
        match encoding {
            Encoding::Q8_0 => blocks.extend(quants),
            _ => blocks.extend((0..BLOCK / 2).map(|i| quants[i] | quants[i + BLOCK / 2] << 4)),
        }
    }
    Some(blocks)
}

/// A tensor on its way into a safetensors file.
pub struct Stored<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Its elements as they will be stored.
    pub bytes: Cow<'a, [u8]>,
}

impl<'a> Stored<'a> {
    /// A tensor as a checkpoint has it.
    ///
    /// # Panics
    /// If it is quantised.
    #[track_caller]
    pub fn plain(entry: &TensorEntry<'a>) -> Self {
        Self {
            name: entry.name.to_owned(),
            dtype: entry.encoding.safetensors().expect("no quantised tensor"),
            shape: entry.shape.to_vec(),
            bytes: Cow::Borrowed(entry.bytes),
        }
    }

    /// The parts of a matrix of these blocks.
    ///
    /// # Panics
    /// For a format that is none of [`FORMATS`], or a shape that is no matrix.
    #[track_caller]
    pub fn quantised(name: &str, shape: &[usize], blocks: &[u8], encoding: Encoding) -> Vec<Self> {
        let &[outputs, inputs] = shape else {
            panic!("`{name}` of shape {shape:?} is no matrix");
        };
        let Parts { weight, scale, min } = part(blocks, encoding);
        let stored = |name: String, dtype, columns, bytes| Self {
            name,
            dtype,
            shape: vec![outputs, columns],
            bytes: Cow::Owned(bytes),
        };
        let (dtype, columns) = match encoding {
            Encoding::Q8_0 => (Dtype::I8, inputs),
            _ => (Dtype::U8, inputs / 2),
        };
        let factors = inputs / BLOCK;
        let mut parts = vec![
            stored(name.to_owned(), dtype, columns, weight),
            stored(format!("{name}{SCALE}"), Dtype::F16, factors, scale),
        ];
        parts.extend(min.map(|min| stored(format!("{name}{MIN}"), Dtype::F16, factors, min)));
        parts
    }
}

impl View for &Stored<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A safetensors file of these tensors and texts.
///
/// # Errors
/// Why the library refuses them.
pub fn file(tensors: Vec<Stored>, metadata: BTreeMap<String, String>) -> Result<Vec<u8>, String> {
    let metadata = (!metadata.is_empty()).then(|| metadata.into_iter().collect());
    let named = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
    safetensors::serialize(named, metadata).map_err(|e| e.to_string())
}

/// ggml's blocks in parts.
///
/// # Panics
/// For a format that is none of [`FORMATS`].
#[track_caller]
pub fn part(blocks: &[u8], encoding: Encoding) -> Parts {
    assert!(FORMATS.contains(&encoding), "{encoding} in parts");
    let offset = encoding == Encoding::Q4_1;
    let (mut weight, mut scale, mut min) = (Vec::new(), Vec::new(), Vec::new());
    for block in blocks.chunks_exact(encoding.block().1) {
        let (head, quants) = block.split_at(if offset { 4 } else { 2 });
        scale.extend(&head[..2]);
        min.extend(&head[2..]);
        weight.extend(quants);
    }
    Parts {
        weight,
        scale,
        min: offset.then_some(min),
    }
}

/// The parts as ggml's blocks, or what is wrong with them.
pub(super) fn join(
    weight: TensorEntry,
    scale: TensorEntry,
    min: Option<TensorEntry>,
) -> Result<Joined, String> {
    let encoding = match (weight.encoding, &min) {
        (Encoding::I8, None) => Encoding::Q8_0,
        (Encoding::U8, None) => Encoding::Q4_0,
        (Encoding::U8, Some(_)) => Encoding::Q4_1,
        (other, _) => {
            return Err(format!(
                "tensor `{}` has scales and is stored as {other}, expected I8 (q8_0) or U8 (q4_0, q4_1)",
                weight.name
            ));
        }
    };
    let &[outputs, columns] = weight.shape else {
        return Err(format!(
            "tensor `{}` has scales and shape {:?}, expected a matrix",
            weight.name, weight.shape
        ));
    };
    let inputs = if encoding == Encoding::Q8_0 {
        columns
    } else {
        2 * columns
    };
    if inputs == 0 || !inputs.is_multiple_of(BLOCK) {
        return Err(format!(
            "tensor `{}` has {inputs} columns, expected a multiple of {BLOCK} for {encoding}",
            weight.name
        ));
    }
    for factor in [Some(scale), min].into_iter().flatten() {
        let expected = [outputs, inputs / BLOCK];
        if factor.shape != expected || factor.encoding != Encoding::F16 {
            return Err(format!(
                "tensor `{}` is {} {:?}, expected F16 {expected:?}",
                factor.name, factor.encoding, factor.shape
            ));
        }
    }
    let quants = encoding.block().1 - if min.is_some() { 4 } else { 2 };
    let mut blocks = Vec::with_capacity(outputs * inputs / BLOCK * encoding.block().1);
    for (n, quants) in weight.bytes.chunks_exact(quants).enumerate() {
        blocks.extend(&scale.bytes[2 * n..2 * n + 2]);
        if let Some(min) = min {
            blocks.extend(&min.bytes[2 * n..2 * n + 2]);
        }
        blocks.extend(quants);
    }
    Ok(Joined {
        encoding,
        shape: [outputs, inputs],
        blocks,
    })
}
