//! A checkpoint on its way to the adapter: tensors asked for by name and shape at once.
//!
//! Names are the checkpoint's, verbatim; no table renames them. What was asked for is remembered, so
//! that [`Weights::finish`] can name tensors that a model never read.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::tensor::{Checkpoint, Encoding, Matrix, Tensor, TensorEntry};

/// How wide unquantised weights are stored on the adapter. Sums are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As the checkpoint stores them.
    #[default]
    Auto,
    /// As f32.
    F32,
    /// As f16, half the memory; f32 checkpoints are rounded.
    F16,
}

/// A place in a checkpoint from which tensors are asked for.
#[derive(Clone)]
pub struct Weights<'a> {
    gpu: &'a Gpu,
    checkpoint: &'a Checkpoint,
    precision: Precision,
    prefix: String,
    asked: Rc<RefCell<BTreeSet<String>>>,
}

impl<'a> Weights<'a> {
    /// The root of a checkpoint.
    pub fn new(gpu: &'a Gpu, checkpoint: &'a Checkpoint, precision: Precision) -> Self {
        Self {
            gpu,
            checkpoint,
            precision,
            prefix: String::new(),
            asked: Rc::default(),
        }
    }

    /// The adapter that the tensors go to.
    pub fn gpu(&self) -> &'a Gpu {
        self.gpu
    }

    /// The place `name` below this one: `w.at("layers").at(3).at("norm1")` is `layers.3.norm1`.
    #[must_use]
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self {
            prefix: format!("{}{name}.", self.prefix),
            ..self.clone()
        }
    }

    /// The root of a checkpoint whose names all begin with `wrapper`, which ends with a dot or is empty.
    #[must_use]
    pub fn within(self, wrapper: &str) -> Self {
        let prefix = wrapper.into();
        Self { prefix, ..self }
    }

    /// Whether the checkpoint has `name` here.
    pub fn has(&self, name: &str) -> bool {
        self.checkpoint.tensor(&self.full(name)).is_some()
    }

    /// The name in the checkpoint of `name` here.
    pub(crate) fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Says that `name` here, if it is there, is known and of no use.
    pub fn skip(&self, name: &str) {
        self.asked.borrow_mut().insert(self.full(name));
    }

    /// A fault of the file that these weights come from.
    pub(crate) fn fault(&self, problem: String) -> Error {
        Error::weights(self.checkpoint.path(), problem)
    }

    fn entry(&self, name: &str, shape: &[usize]) -> Result<TensorEntry<'a>> {
        let full = self.full(name);
        let entry = self.checkpoint.tensor(&full).ok_or_else(|| {
            self.fault(format!(
                "tensor `{full}` is missing, expected shape {shape:?}"
            ))
        })?;
        if entry.shape != shape {
            return Err(self.fault(format!(
                "tensor `{full}` has shape {:?}, expected {shape:?}",
                entry.shape
            )));
        }
        self.asked.borrow_mut().insert(full);
        Ok(entry)
    }

    /// The values of a tensor as f32.
    ///
    /// # Errors
    /// A missing tensor, another shape, an integer encoding, or a value that is not finite.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let entry = self.entry(name, shape)?;
        self.decode(&entry)
    }

    fn decode(&self, entry: &TensorEntry) -> Result<Vec<f32>> {
        let values = entry.decode().ok_or_else(|| {
            self.fault(format!(
                "tensor `{}` is stored as {}, not as numbers",
                entry.name, entry.encoding
            ))
        })?;
        match values.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(self.fault(format!(
                "tensor `{}` holds {} at element {at}",
                entry.name, values[at]
            ))),
            None => Ok(values),
        }
    }

    /// A tensor of any shape, as f32.
    ///
    /// # Errors
    /// As [`Weights::values`], or no memory.
    pub fn tensor<const N: usize>(&self, name: &str, shape: [usize; N]) -> Result<Tensor> {
        Tensor::upload(self.gpu, name, shape, &self.values(name, &shape)?)
    }

    /// A vector: the weight or bias of a norm.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn vector(&self, name: &str, len: usize) -> Result<Tensor> {
        self.tensor(name, [len])
    }

    /// The bias of a product, padded with zeros to whole panels; all zeros if `name` is `None`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn bias(&self, name: Option<&str>, len: usize) -> Result<Tensor> {
        let values = match name {
            Some(name) => self.values(name, &[len])?,
            None => vec![0.0; len],
        };
        self.padded_bias(&values)
    }

    /// The bias of a product from its values, padded with zeros to whole panels.
    ///
    /// # Errors
    /// No memory.
    pub fn padded_bias(&self, values: &[f32]) -> Result<Tensor> {
        let mut values = values.to_vec();
        values.resize(values.len().next_multiple_of(8), 0.0);
        Tensor::upload(self.gpu, "bias", values.len(), &values)
    }

    /// As [`Weights::matrix`], its rows in as few parts as the adapter's largest binding asks for: of all but the last
    /// a multiple of 64.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn matrix_in_parts(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
    ) -> Result<Vec<Matrix>> {
        let entry = self.entry(name, &[outputs, inputs])?;
        self.in_parts(name, &entry)
    }

    fn in_parts(&self, label: &str, entry: &TensorEntry) -> Result<Vec<Matrix>> {
        let (outputs, inputs) = (entry.shape[0], entry.shape[1]);
        let rows = self.rows_at_once(entry.encoding, inputs);
        (0..outputs)
            .step_by(rows)
            .map(|first| {
                let shape = [rows.min(outputs - first), inputs];
                self.pack(label, shape, &[rows_of(entry, first, &shape)])
            })
            .collect()
    }

    /// Rows of a matrix that fit into one binding, a multiple of 64.
    fn rows_at_once(&self, encoding: Encoding, inputs: usize) -> usize {
        let (per_block, block_bytes) = self.stored(encoding).block();
        // Packing pads inputs to blocks, and gives six-bit scales a byte: at most a fifth more than in the file.
        let row_bytes = inputs.div_ceil(per_block) * block_bytes * 6 / 5;
        let most = self.gpu.max_binding_bytes() as usize / row_bytes.max(1) / 64 * 64;
        most.max(64)
    }

    /// The weight of a linear layer, `[outputs, inputs]`, packed in the checkpoint's own format.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Matrix> {
        let entry = self.entry(name, &shape)?;
        self.pack(name, shape, &[entry])
    }

    /// The same, its inputs in as many blocks as `order` names: block i is the checkpoint's block `order[i]`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    ///
    /// # Panics
    /// If the inputs cannot be parted into so many blocks.
    pub fn matrix_in_order(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        order: &[usize],
    ) -> Result<Matrix> {
        assert!(
            inputs.is_multiple_of(order.len()),
            "{inputs} inputs in {} blocks",
            order.len()
        );
        let entry = self.entry(name, &[outputs, inputs])?;
        let (values, width) = (self.decode(&entry)?, inputs / order.len());
        let mut ordered = Vec::with_capacity(values.len());
        for row in values.chunks_exact(inputs) {
            for block in order {
                ordered.extend_from_slice(&row[block * width..][..width]);
            }
        }
        self.pack_values(name, [outputs, inputs], entry.encoding, &ordered)
    }

    /// As [`Weights::matrix`], its outputs in another order: row i is the checkpoint's row `order[i]`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    ///
    /// # Panics
    /// If there are not as many outputs.
    pub fn matrix_of_rows(&self, name: &str, inputs: usize, order: &[usize]) -> Result<Matrix> {
        let shape = [order.len(), inputs];
        let entry = self.entry(name, &shape)?;
        let row = entry.bytes.len() / order.len();
        let rows = order.iter().flat_map(|n| &entry.bytes[n * row..][..row]);
        let bytes: Vec<u8> = rows.copied().collect();
        let entry = TensorEntry {
            bytes: &bytes,
            ..entry
        };
        self.pack(name, shape, &[entry])
    }

    /// Some rows of a matrix, in the checkpoint's own format.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    ///
    /// # Panics
    /// If there are not so many.
    pub fn matrix_rows(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        rows: Range<usize>,
    ) -> Result<Matrix> {
        let entry = self.entry(name, &[outputs, inputs])?;
        let shape = [rows.len(), inputs];
        self.pack(name, shape, &[rows_of(&entry, rows.start, &shape)])
    }

    /// A matrix made of the values of a tensor of shape `stored`: `value` is given all of them, an output and an input, and says
    /// what stands there.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn matrix_of(
        &self,
        name: &str,
        stored: &[usize],
        [outputs, inputs]: [usize; 2],
        value: impl Fn(&[f32], usize, usize) -> f32,
    ) -> Result<Matrix> {
        let entry = self.entry(name, stored)?;
        let values = self.decode(&entry)?;
        let row = |o: usize| (0..inputs).map(move |i| (o, i));
        let all = (0..outputs).flat_map(row);
        let all: Vec<f32> = all.map(|(o, i)| value(&values, o, i)).collect();
        self.pack_values(name, [outputs, inputs], entry.encoding, &all)
    }

    /// Several matrices with the same inputs, one above the other: q, k and v as one product. Where the file stores
    /// neighbours in different formats another matrix begins, and where they are larger together than the adapter binds at
    /// once.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn stacked(&self, parts: &[(&str, usize)], inputs: usize) -> Result<Vec<Matrix>> {
        let entries = parts
            .iter()
            .map(|(name, outputs)| self.entry(name, &[*outputs, inputs]))
            .collect::<Result<Vec<_>>>()?;
        let label = |name: &'a str| name.strip_prefix(self.prefix.as_str()).unwrap_or(name);
        let mut all = Vec::new();
        for run in entries.chunk_by(|a, b| self.stored(a.encoding) == self.stored(b.encoding)) {
            let outputs = run.iter().map(|entry| entry.shape[0]).sum();
            if outputs <= self.rows_at_once(run[0].encoding, inputs) {
                all.push(self.pack(label(run[0].name), [outputs, inputs], run)?);
                continue;
            }
            for entry in run {
                all.extend(self.in_parts(label(entry.name), entry)?);
            }
        }
        Ok(all)
    }

    /// Two matrices as one whose products are `activate(x · gateᵀ) · (x · upᵀ)`, see [`Matrix::gated`]; in parts as
    /// [`Weights::matrix_in_parts`].
    ///
    /// # Errors
    /// As [`Weights::tensor`]; also if the formats differ.
    pub fn gated(&self, names: [&str; 2], [outputs, inputs]: [usize; 2]) -> Result<Vec<Matrix>> {
        let both = [
            self.entry(names[0], &[outputs, inputs])?,
            self.entry(names[1], &[outputs, inputs])?,
        ];
        let [gate, up] = &both;
        if gate.encoding != up.encoding {
            let problem = format!(
                "tensor `{}` is stored as {}, `{}` as {}; a gate and what it gates need one format",
                gate.name, gate.encoding, up.name, up.encoding
            );
            return Err(self.fault(problem));
        }
        let rows = (self.rows_at_once(gate.encoding, inputs) / 128 * 64).max(64);
        (0..outputs)
            .step_by(rows)
            .map(|first| {
                let shape = [rows.min(outputs - first), inputs];
                let parts = both.each_ref().map(|entry| rows_of(entry, first, &shape));
                self.gated_rows(names[0], &parts)
            })
            .collect()
    }

    fn gated_rows(&self, label: &str, [gate, up]: &[TensorEntry; 2]) -> Result<Matrix> {
        let (outputs, inputs) = (gate.shape[0], gate.shape[1]);
        let rows = 2 * outputs.next_multiple_of(4);
        let packed = if gate.encoding.is_quantised() {
            // Blocks of zeros are zeros, or nothing times a number.
            let bytes = by_fours([gate.bytes, up.bytes], outputs);
            Matrix::quantised(self.gpu, label, [rows, inputs], gate.encoding, &bytes)
        } else {
            let values = by_fours([&self.decode(gate)?, &self.decode(up)?], outputs);
            self.pack_values(label, [rows, inputs], gate.encoding, &values)
        };
        Ok(Matrix {
            outputs,
            ..packed?.gated()
        })
    }

    /// The bias of a transposed convolution: `len` values padded to a multiple of 4, once for each of its pixels, padded to
    /// whole panels; all zeros if `name` is `None`.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn repeated_bias(&self, name: Option<&str>, len: usize, pixels: usize) -> Result<Tensor> {
        let mut values = match name {
            Some(name) => self.values(name, &[len])?,
            None => Vec::new(),
        };
        values.resize(len.next_multiple_of(4), 0.0);
        let mut values = values.repeat(pixels);
        values.resize(values.len().next_multiple_of(8), 0.0);
        Tensor::upload(self.gpu, name.unwrap_or("no bias"), values.len(), &values)
    }

    /// A 1 × 1 convolution, `[outputs, inputs, 1, 1]`: the same as a linear layer on NHWC.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn conv1x1(&self, name: &str, [outputs, inputs]: [usize; 2]) -> Result<Matrix> {
        let entry = self.entry(name, &[outputs, inputs, 1, 1])?;
        self.pack(name, [outputs, inputs], &[entry])
    }

    /// The kernel of a convolution, two sizes and then its rows and columns, or its slices, rows and columns: a picture's
    /// where the checkpoint has four dimensions and the kernel one slice.
    fn kernel_entry(
        &self,
        name: &str,
        sizes: [usize; 2],
        kernel: [usize; 3],
    ) -> Result<TensorEntry<'a>> {
        let [a, b] = sizes;
        let [slices, rows, columns] = kernel;
        let stored = self.checkpoint.tensor(&self.full(name));
        if slices == 1 && stored.is_none_or(|entry| entry.shape.len() != 5) {
            self.entry(name, &[a, b, rows, columns])
        } else {
            self.entry(name, &[a, b, slices, rows, columns])
        }
    }

    /// A convolution, `[outputs, inputs / groups, rows, columns]` or `[outputs, inputs / groups, slices, rows, columns]`,
    /// and the groups that are left. A row of the matrix is the taps in that order, of each its group's inputs, padded to
    /// a multiple of 4. Neighbouring groups are merged, zeros where they do not see each other, until a group has
    /// a multiple of 8 outputs and 4 inputs. With `scales` each output's weights are multiplied by its own.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    ///
    /// # Panics
    /// If inputs or outputs cannot be parted into so many groups.
    pub fn conv(
        &self,
        name: &str,
        [outputs, inputs]: [usize; 2],
        kernel: [usize; 3],
        groups: usize,
        scales: Option<&[f64]>,
    ) -> Result<(Matrix, usize)> {
        assert!(
            inputs.is_multiple_of(groups) && outputs.is_multiple_of(groups),
            "{inputs} inputs and {outputs} outputs in {groups} groups"
        );
        let (few, own) = (inputs / groups, outputs / groups);
        let entry = self.kernel_entry(name, [outputs, few], kernel)?;
        let values = scaled(self.decode(&entry)?, scales);
        let merged = (1..=groups)
            .filter(|merged| groups.is_multiple_of(*merged))
            .find(|merged| (own * merged).is_multiple_of(8) && (few * merged).is_multiple_of(4))
            .unwrap_or(groups);
        let (taps, padded) = (
            kernel.iter().product::<usize>(),
            (few * merged).next_multiple_of(4),
        );
        let mut rows = vec![0.0; outputs * taps * padded];
        for o in 0..outputs {
            let first = o / own % merged * few;
            for i in 0..few {
                for tap in 0..taps {
                    rows[(o * taps + tap) * padded + first + i] =
                        values[(o * few + i) * taps + tap];
                }
            }
        }
        let matrix = self.pack_values(name, [outputs, taps * padded], entry.encoding, &rows)?;
        Ok((matrix, groups / merged))
    }

    /// A convolution of each channel by itself, `[channels, 1, rows, columns]` or `[channels, 1, slices, rows, columns]`, as
    /// f32 `[taps, channels padded to 4]`; `scales` as in [`Weights::conv`].
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn conv_depthwise(
        &self,
        name: &str,
        channels: usize,
        kernel: [usize; 3],
        scales: Option<&[f64]>,
    ) -> Result<Tensor> {
        let entry = self.kernel_entry(name, [channels, 1], kernel)?;
        let values = scaled(self.decode(&entry)?, scales);
        let (taps, padded) = (
            kernel.iter().product::<usize>(),
            channels.next_multiple_of(4),
        );
        let mut rows = vec![0.0; taps * padded];
        for (i, value) in values.iter().enumerate() {
            rows[i % taps * padded + i / taps] = *value;
        }
        Tensor::upload(self.gpu, name, [taps, padded], &rows)
    }

    /// A transposed convolution whose stride is its kernel, `[inputs, outputs, rows, columns]` or `[inputs, outputs, slices,
    /// rows, columns]`, as a product with a column for each pixel in row-major order and output, outputs padded to a
    /// multiple of 4.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn conv_transpose(
        &self,
        name: &str,
        [inputs, outputs]: [usize; 2],
        kernel: [usize; 3],
    ) -> Result<Matrix> {
        let entry = self.kernel_entry(name, [inputs, outputs], kernel)?;
        let values = self.decode(&entry)?;
        let (pixels, padded) = (
            kernel.iter().product::<usize>(),
            outputs.next_multiple_of(4),
        );
        let mut rows = vec![0.0; pixels * padded * inputs];
        for i in 0..inputs {
            for o in 0..outputs {
                for pixel in 0..pixels {
                    rows[(pixel * padded + o) * inputs + i] =
                        values[(i * outputs + o) * pixels + pixel];
                }
            }
        }
        self.pack_values(name, [pixels * padded, inputs], entry.encoding, &rows)
    }

    /// The same of a picture, `[inputs, 1, rows, columns]`, to one plane: a column for each pixel in row-major order, and no
    /// padding.
    ///
    /// # Errors
    /// As [`Weights::tensor`].
    pub fn conv_transpose_plane(
        &self,
        name: &str,
        inputs: usize,
        [rows, columns]: [usize; 2],
    ) -> Result<Matrix> {
        let entry = self.entry(name, &[inputs, 1, rows, columns])?;
        let values = self.decode(&entry)?;
        let pixels = rows * columns;
        let turned: Vec<f32> = (0..pixels * inputs)
            .map(|at| values[at % inputs * pixels + at / inputs])
            .collect();
        self.pack_values(name, [pixels, inputs], entry.encoding, &turned)
    }

    fn pack(&self, label: &str, shape: [usize; 2], entries: &[TensorEntry]) -> Result<Matrix> {
        let encoding = entries[0].encoding;
        if !encoding.is_quantised() {
            let mut values = Vec::new();
            for entry in entries {
                values.extend(self.decode(entry)?);
            }
            return self.pack_values(label, shape, encoding, &values);
        }
        match entries {
            [one] => Matrix::quantised(self.gpu, label, shape, encoding, one.bytes),
            many => {
                let bytes = many.iter().map(|entry| entry.bytes).collect::<Vec<_>>();
                Matrix::quantised(self.gpu, label, shape, encoding, &bytes.concat())
            }
        }
    }

    fn pack_values(
        &self,
        label: &str,
        shape: [usize; 2],
        encoding: Encoding,
        values: &[f32],
    ) -> Result<Matrix> {
        // What was taken apart is no longer in blocks.
        let stored = match encoding.is_quantised() {
            true => self.stored(Encoding::F32),
            false => self.stored(encoding),
        };
        if stored == Encoding::F16
            && let Some(beyond) = values.iter().find(|v| v.abs() > 65504.0)
        {
            let problem = format!(
                "`{}{label}` holds {beyond}, beyond f16; use f32 precision",
                self.prefix
            );
            return Err(self.fault(problem));
        }
        match stored {
            Encoding::F16 => Matrix::f16(self.gpu, label, shape, values),
            Encoding::BF16 => Matrix::bf16(self.gpu, label, shape, values),
            _ => Matrix::f32(self.gpu, label, shape, values),
        }
    }

    /// How weights of an encoding are stored on the adapter.
    fn stored(&self, encoding: Encoding) -> Encoding {
        match (self.precision, encoding) {
            (_, quantised) if quantised.is_quantised() => quantised,
            (Precision::Auto, Encoding::F16 | Encoding::BF16) => encoding,
            (Precision::Auto | Precision::F32, _) => Encoding::F32,
            (Precision::F16, _) => Encoding::F16,
        }
    }

    /// Says that the checkpoint holds nothing else than what was asked for, but for `unused`.
    ///
    /// # Errors
    /// Names the first tensor that no part of the model read.
    pub fn finish(&self, unused: &[&str]) -> Result<()> {
        let asked = self.asked.borrow();
        let left = |name: &str| !asked.contains(name) && !unused.contains(&name);
        match self.checkpoint.tensors().find(|entry| left(entry.name)) {
            Some(entry) => Err(Error::weights(
                self.checkpoint.path(),
                format!(
                    "tensor `{}` {:?} is not part of the model",
                    entry.name, entry.shape
                ),
            )),
            None => Ok(()),
        }
    }

    /// The full names of all tensors asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.borrow().iter().cloned().collect()
    }
}

/// The rows of a matrix from `first` on, of this shape.
fn rows_of<'t>(entry: &TensorEntry<'t>, first: usize, shape: &'t [usize; 2]) -> TensorEntry<'t> {
    let row = entry.bytes.len() / entry.shape[0].max(1);
    TensorEntry {
        shape,
        bytes: &entry.bytes[first * row..(first + shape[0]) * row],
        ..*entry
    }
}

/// The weights of a convolution, each output's multiplied by its scale, if there are scales.
fn scaled(mut values: Vec<f32>, scales: Option<&[f64]>) -> Vec<f32> {
    if let Some(scales) = scales {
        let own = values.len() / scales.len();
        for (weights, scale) in values.chunks_exact_mut(own).zip(scales) {
            let scaled = |weight: &mut f32| *weight = (f64::from(*weight) * scale) as f32;
            weights.iter_mut().for_each(scaled);
        }
    }
    values
}

/// The rows of two matrices in turn, four of each, with rows of zeros after the last to fill four.
fn by_fours<T: Copy + Default>(matrices: [&[T]; 2], rows: usize) -> Vec<T> {
    let row = matrices[0].len() / rows;
    let mut both = Vec::with_capacity(2 * rows.next_multiple_of(4) * row);
    for first in (0..rows).step_by(4) {
        for matrix in matrices {
            both.extend_from_slice(&matrix[first * row..rows.min(first + 4) * row]);
            both.resize(both.len().next_multiple_of(4 * row), T::default());
        }
    }
    both
}
