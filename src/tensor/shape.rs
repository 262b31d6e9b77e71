//! Up to five dimensions, outermost first.

use std::fmt;

/// The most dimensions: images, depth, height, width, channels.
const MOST: usize = 5;

/// The dimensions of a tensor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    dims: [usize; MOST],
    rank: usize,
}

impl Shape {
    /// The number of values.
    pub fn len(&self) -> usize {
        self.as_slice().iter().product()
    }

    /// Whether a dimension is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The dimensions as a slice.
    pub fn as_slice(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// The dimensions as an array.
    ///
    /// # Panics
    /// If there are not `N`.
    #[track_caller]
    pub fn dims<const N: usize>(&self) -> [usize; N] {
        self.as_slice()
            .try_into()
            .unwrap_or_else(|_| panic!("shape {self} has not {N} dimensions"))
    }

    /// The same shape with another last dimension.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    #[track_caller]
    pub fn with_last(mut self, last: usize) -> Self {
        assert!(self.rank > 0, "a shape without dimensions");
        self.dims[self.rank - 1] = last;
        self
    }

    /// All but the last dimension as rows: `[rows, cols]`.
    pub fn matrix(&self) -> [usize; 2] {
        let cols = self.as_slice().last().copied().unwrap_or(1);
        [self.as_slice().iter().rev().skip(1).product(), cols]
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(from: [usize; N]) -> Self {
        const { assert!(N <= MOST, "at most five dimensions") };
        let mut dims = [1; MOST];
        dims[..N].copy_from_slice(&from);
        Self { dims, rank: N }
    }
}

impl From<usize> for Shape {
    fn from(len: usize) -> Self {
        [len].into()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.as_slice().iter().map(usize::to_string).collect();
        write!(f, "[{}]", dims.join(", "))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
