//! Floor 2: shapes, tensors, and how weights are read, packed and uploaded. The only floor that
//! says `safetensors` and `half`.
//!
//! A [`Tensor`] is contiguous f32 (or u32 token ids) with at most five dimensions, outermost first.
//! Pictures are NHWC, volumes NDHWC, so a pixel and a ViT token are the same row of memory and no op permutes.

mod checkpoint;
mod encoding;
mod gguf;
mod pack;
pub mod quantised;
mod shape;
mod weights;

pub use checkpoint::{Checkpoint, Container, TensorEntry, hex, read_bounded};
pub use encoding::Encoding;
pub use gguf::{Array, Gguf, TensorInfo, Value};
pub use pack::Matrix;
pub use shape::Shape;
pub use weights::{Precision, Weights};

use crate::error::Result;
use crate::gpu::{Bind, Buffer, Gpu, Recorder};

/// A contiguous array in adapter memory. Dropping the last clone frees it for the next op.
#[derive(Clone, Debug)]
pub struct Tensor {
    shape: Shape,
    buffer: Buffer,
}

impl Tensor {
    /// Leases an uninitialised tensor for the result of an op.
    pub fn empty(rec: &Recorder, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        Self {
            shape,
            buffer: rec.lease(shape.len() * 4),
        }
    }

    /// Copies 32-bit values into memory of their own.
    ///
    /// # Errors
    /// More bytes than one binding may hold, or no memory.
    ///
    /// # Panics
    /// If `values` does not fill `shape`.
    #[track_caller]
    pub fn upload<T: bytemuck::Pod>(
        gpu: &Gpu,
        label: &str,
        shape: impl Into<Shape>,
        values: &[T],
    ) -> Result<Self> {
        let shape = shape.into();
        assert_eq!(size_of::<T>(), 4, "tensors hold 32-bit values");
        assert_eq!(values.len(), shape.len(), "values of `{label}` {shape}");
        Ok(Self {
            shape,
            buffer: gpu.upload(label, values)?,
        })
    }

    /// A zeroed tensor outside the pool, for caches and sums that outlive one recording.
    ///
    /// # Errors
    /// As [`Tensor::upload`].
    pub fn zeros(gpu: &Gpu, label: &str, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        Ok(Self {
            shape,
            buffer: gpu.allocate(label, shape.len() * 4)?,
        })
    }

    /// The dimensions, outermost first.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The number of values.
    pub fn len(&self) -> usize {
        self.shape.len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tensor as rows of its last dimension: `[rows, cols]`.
    pub fn matrix(&self) -> [usize; 2] {
        self.shape.matrix()
    }

    /// The dimensions as an array.
    ///
    /// # Panics
    /// If there are not `N`.
    #[track_caller]
    pub fn dims<const N: usize>(&self) -> [usize; N] {
        self.shape.dims()
    }

    /// Checks the shape.
    ///
    /// # Panics
    /// If it differs: a mistake of our own, since weights are checked when they load.
    #[track_caller]
    pub fn expect(&self, shape: impl Into<Shape>) {
        let shape = shape.into();
        assert_eq!(
            self.shape, shape,
            "tensor of shape {}, expected {shape}",
            self.shape
        );
    }

    /// Whether both are the same memory.
    pub fn is(&self, other: &Self) -> bool {
        self.buffer.is(&other.buffer)
    }

    /// The same values under another shape.
    ///
    /// # Panics
    /// If the number of values differs.
    #[track_caller]
    #[must_use]
    pub fn reshape(&self, shape: impl Into<Shape>) -> Self {
        let shape = shape.into();
        assert_eq!(
            self.len(),
            shape.len(),
            "{} reshaped to {shape}",
            self.shape
        );
        Self {
            shape,
            buffer: self.buffer.clone(),
        }
    }

    /// Ends a recording and returns this tensor's values.
    ///
    /// # Errors
    /// A kernel that the driver refused, or a lost adapter.
    pub fn read(&self, rec: Recorder) -> Result<Vec<f32>> {
        Ok(rec.read(&[(self, self.len())])?.swap_remove(0))
    }
}

impl Bind for Tensor {
    fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    fn used_bytes(&self) -> u64 {
        self.len() as u64 * 4
    }
}
