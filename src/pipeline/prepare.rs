//! From a volume to what a model sees, and back: 1 mm, RAS, cropped, sliced, normalised.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::geometry::{self, Grid, Orientation};
use super::volume::Volume;
use crate::error::{Error, Result};

/// The side of the square image a model takes, in pixels of 1 mm.
pub const SIZE: usize = 224;

/// How far a voxel size may be from 1 mm and still count as 1 mm.
const SPACING_TOLERANCE: f64 = 0.02;
/// The largest volume that is brought to 1 mm, in mm³: 2³⁰ voxels.
const MAX_EXTENT: f64 = (1_u64 << 30) as f64;
/// The longest axis, in mm: nothing that is scanned measures ten metres.
const MAX_LENGTH: f64 = 10_000.0;
/// Below this share of common field of view two volumes are refused.
const OVERLAP_REFUSED: f64 = 0.1;
/// Below this share of common field of view there is a warning.
const OVERLAP_WARNED: f64 = 0.6;

/// A volume on the grid the models work on, and the way back to its own.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The intensities on [`grid`](Self::grid), first axis fastest.
    pub data: Vec<f32>,
    /// Voxels of 1 mm, axes along right, anterior and superior, cropped to the object.
    pub grid: Grid,
    /// Where the crop begins in the uncropped 1 mm grid, in voxels.
    pub offset: [usize; 3],
    /// The uncropped 1 mm grid.
    whole: Grid,
    /// The grid of the volume as it was read.
    native: Grid,
}

impl Prepared {
    /// Brings a volume to canonical axes and 1 mm, and crops it to its object.
    ///
    /// Axes are permuted and flipped to run right, anterior and superior
    /// ([`Grid::canonical`]); an oblique volume keeps its residual rotation. If a voxel size is
    /// more than 0.02 mm from 1 mm, the volume is interpolated linearly on a 1 mm grid about
    /// the same centre ([`Grid::with_spacing`]); otherwise no value changes. The crop is the
    /// bounding box of the voxels above 0.05 times the 99.5th percentile of the positive ones.
    ///
    /// # Errors
    ///
    /// [`Error::Volume`] if the volume measures less than 2 mm along an axis, or would have more
    /// than 2³⁰ voxels of 1 mm, or measures more than 10 m along one: its voxel sizes are wrong.
    pub fn new(volume: &Volume) -> Result<Self> {
        let native = volume.grid();
        let (whole, data) = to_millimetres(volume)?;
        let (_, [low, high]) = foreground(&data, whole.shape);
        let shape = std::array::from_fn(|axis| high[axis] - low[axis]);
        let cropped = crop(&data, whole.shape, low, shape);
        Ok(Self {
            data: cropped,
            grid: whole.crop(low, shape),
            offset: low,
            whole,
            native,
        })
    }

    /// Another volume of the same patient on this one's grid, and a warning if much of the
    /// grid lies outside it.
    ///
    /// Voxels are matched by their position in space; the two are not registered to each
    /// other. Where the other volume has the same 1 mm grid no value changes; otherwise it is
    /// interpolated once, from its own voxels, and is its own minimum beyond its field of view.
    ///
    /// # Errors
    ///
    /// [`Error::Volume`] if less than a tenth of this volume's field of view lies in the other's.
    pub fn join(&self, other: &Volume) -> Result<(Self, Option<String>)> {
        let grid = other.grid();
        let warning = check_overlap(&self.native, other)?;
        let canonical = grid.canonical();
        let data = geometry::reorient(&other.data, other.shape, grid.orientation());
        let data = if canonical.matches(&self.whole, 1e-3) {
            crop(&data, canonical.shape, self.offset, self.grid.shape)
        } else {
            let outside = data.iter().copied().fold(f32::INFINITY, f32::min);
            geometry::resample(&data, &canonical, &self.grid, outside)
        };
        Ok((
            Self {
                data,
                ..self.clone()
            },
            warning,
        ))
    }

    /// The grid of the volume as it was read, which [`restore_labels`](Self::restore_labels)
    /// and [`restore_map`](Self::restore_map) return to.
    pub fn native(&self) -> &Grid {
        &self.native
    }

    /// Whether the volume had to be interpolated to reach 1 mm.
    pub fn is_resampled(&self) -> bool {
        self.whole.shape != self.native.canonical().shape
            || self.whole.affine != self.native.canonical().affine
    }

    /// Labels on [`grid`](Self::grid) brought back to the volume's own grid by the vote of the
    /// voxels around ([`geometry::resample_labels`]); 0 outside the crop. Exact where the volume
    /// was not resampled.
    ///
    /// # Panics
    ///
    /// If `labels` does not hold the grid.
    pub fn restore_labels<T>(&self, labels: &[T]) -> Vec<T>
    where
        T: Copy + Default + PartialEq + Send + Sync,
    {
        if self.is_resampled() {
            geometry::resample_labels(labels, &self.grid, &self.native, T::default())
        } else {
            self.uncrop(labels, T::default())
        }
    }

    /// Values on [`grid`](Self::grid) brought back to the volume's own grid by linear
    /// interpolation; `outside` beyond the crop. Exact where the volume was not resampled.
    ///
    /// # Panics
    ///
    /// If `map` does not hold the grid.
    pub fn restore_map(&self, map: &[f32], outside: f32) -> Vec<f32> {
        if self.is_resampled() {
            geometry::resample(map, &self.grid, &self.native, outside)
        } else {
            self.uncrop(map, outside)
        }
    }

    /// The crop put back among `outside`, in the volume's own axes.
    fn uncrop<T: Copy + Send + Sync>(&self, data: &[T], outside: T) -> Vec<T> {
        geometry::restore_part(
            data,
            self.offset,
            self.grid.shape,
            self.native.shape,
            self.native.orientation(),
            outside,
        )
    }

    /// The number of slices of a view.
    pub fn slices(&self, view: View) -> usize {
        self.grid.shape[view.axis()]
    }

    /// Slice `index` of a view.
    ///
    /// # Panics
    ///
    /// If there is no such slice.
    pub fn slice(&self, view: View, index: usize) -> Slice<f32> {
        view.slice(&self.data, self.grid.shape, index)
    }

    /// Slice `index` of a view as the model takes it: centred in 224×224, scaled to 0..1; rows
    /// from top to bottom.
    ///
    /// # Panics
    ///
    /// If there is no such slice.
    pub fn input(&self, view: View, index: usize) -> Vec<f32> {
        let slice = self.slice(view, index);
        let mut image = Fit::new(slice.rows, slice.cols).fit(&slice.data);
        normalise(&mut image);
        image
    }
}

/// Whether another volume shows what the first one's grid does, and a warning if much of it is not shown.
pub(super) fn check_overlap(first: &Grid, other: &Volume) -> Result<Option<String>> {
    let overlap = first.overlap(&other.grid());
    let percent = 100.0 * overlap;
    if overlap < OVERLAP_REFUSED {
        return Err(Error::volume(
            &other.path,
            "field of view",
            format!(
                "covers {percent:.0} % of the first volume's: the two are not of one place, \
                 or not in one coordinate system"
            ),
        ));
    }
    Ok((overlap < OVERLAP_WARNED).then(|| {
        format!(
            "`{}` covers {percent:.0} % of the first volume's field of view",
            other.path.display()
        )
    }))
}

/// Refuses a field of view that no voxel size in millimetres gives.
pub(super) fn check_extent(path: &Path, grid: &Grid) -> Result<()> {
    let sizes = grid.voxel_sizes();
    let extent: [f64; 3] = std::array::from_fn(|axis| grid.shape[axis] as f64 * sizes[axis]);
    if extent.iter().any(|mm| !(2.0..=MAX_LENGTH).contains(mm))
        || extent.iter().product::<f64>() > MAX_EXTENT
    {
        let problem = format!("measures {extent:.3?} mm: the voxel sizes must be wrong");
        return Err(Error::volume(path, "field of view", problem));
    }
    Ok(())
}

/// Canonical axes and 1 mm.
fn to_millimetres(volume: &Volume) -> Result<(Grid, Vec<f32>)> {
    let native = volume.grid();
    check_extent(&volume.path, &native)?;
    let canonical = native.canonical();
    let orientation: Orientation = native.orientation();
    let data = geometry::reorient(&volume.data, native.shape, orientation);
    if canonical
        .voxel_sizes()
        .iter()
        .all(|size| (size - 1.0).abs() <= SPACING_TOLERANCE)
    {
        return Ok((canonical, data));
    }
    let fine = canonical.with_spacing([1.0; 3]);
    let outside = data.iter().copied().fold(f32::INFINITY, f32::min);
    let data = geometry::resample(&data, &canonical, &fine, outside);
    Ok((fine, data))
}

/// The rows along the first axis of the part of an array that begins at `offset` and has
/// `part` voxels.
fn rows(
    shape: [usize; 3],
    offset: [usize; 3],
    part: [usize; 3],
) -> impl Iterator<Item = Range<usize>> {
    (0..part[2]).flat_map(move |z| {
        (0..part[1]).map(move |y| {
            let start = offset[0] + shape[0] * (offset[1] + y + shape[1] * (offset[2] + z));
            start..start + part[0]
        })
    })
}

fn crop<T: Copy>(data: &[T], shape: [usize; 3], offset: [usize; 3], part: [usize; 3]) -> Vec<T> {
    rows(shape, offset, part)
        .flat_map(|row| &data[row])
        .copied()
        .collect()
}

/// The threshold between air and object (0.05 times the 99.5th percentile of the positive
/// values) and the bounding box of what lies above: its first voxel and the one after its last.
/// Everything, where no value is positive.
pub(super) fn foreground(data: &[f32], shape: [usize; 3]) -> (f32, [[usize; 3]; 2]) {
    let mut positive: Vec<f32> = data.iter().copied().filter(|&v| v > 0.0).collect();
    let Some(high) = percentile(&mut positive, 99.5) else {
        return (f32::NEG_INFINITY, [[0; 3], shape]);
    };
    let threshold = 0.05 * high;
    let [nx, ny, _] = shape;
    let empty = (shape, [0; 3]);
    let join = |a: ([usize; 3], [usize; 3]), b: ([usize; 3], [usize; 3])| {
        let low = std::array::from_fn(|axis| a.0[axis].min(b.0[axis]));
        let high = std::array::from_fn(|axis| a.1[axis].max(b.1[axis]));
        (low, high)
    };
    let (low, high) = data
        .par_chunks(nx)
        .enumerate()
        .filter_map(|(row, values)| {
            let first = values.iter().position(|&v| v > threshold)?;
            let last = values.iter().rposition(|&v| v > threshold)?;
            let (y, z) = (row % ny, row / ny);
            Some(([first, y, z], [last + 1, y + 1, z + 1]))
        })
        .reduce(|| empty, join);
    (threshold, [low, high])
}

/// The `percent`-th percentile, interpolated linearly, in the same single precision and order
/// of operations as `numpy.percentile` on `float32`; nothing for no values. Reorders `values`.
pub fn percentile(values: &mut [f32], percent: f32) -> Option<f32> {
    let last = values.len().checked_sub(1)?;
    let at = last as f32 * (percent / 100.0);
    if at >= last as f32 {
        return values.iter().copied().reduce(f32::max);
    }
    let below = at.floor() as usize;
    let (_, &mut a, above) = values.select_nth_unstable_by(below, f32::total_cmp);
    let b = above.iter().copied().reduce(f32::min).unwrap_or(a);
    let t = at - below as f32;
    Some(if t >= 0.5 {
        b - (b - a) * (1.0 - t)
    } else {
        a + (b - a) * t
    })
}

/// A direction of slicing, displayed as radiologists do: the patient's right on the left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// Rows from anterior to posterior, columns from right to left.
    Axial,
    /// Rows from superior to inferior, columns from right to left.
    Coronal,
    /// Rows from superior to inferior, columns from anterior to posterior.
    Sagittal,
}

impl View {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Axial, Self::Coronal, Self::Sagittal];

    /// The view's name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Axial => "axial",
            Self::Coronal => "coronal",
            Self::Sagittal => "sagittal",
        }
    }

    /// The RAS axis that the slices are stacked along.
    pub fn axis(self) -> usize {
        match self {
            Self::Axial => 2,
            Self::Coronal => 1,
            Self::Sagittal => 0,
        }
    }

    /// The RAS axes that a slice's rows and columns run along; both run against them.
    pub fn plane(self) -> (usize, usize) {
        match self {
            Self::Axial => (1, 0),
            Self::Coronal => (2, 0),
            Self::Sagittal => (2, 1),
        }
    }

    /// For each pixel of a slice, row by row, the index of its voxel in a RAS array.
    pub fn indices(self, shape: [usize; 3], slice: usize) -> impl Iterator<Item = usize> {
        assert!(
            slice < shape[self.axis()],
            "slice {slice} of shape {shape:?}"
        );
        let stride = [1, shape[0], shape[0] * shape[1]];
        let (down, across) = self.plane();
        let base = slice * stride[self.axis()];
        (0..shape[down]).rev().flat_map(move |r| {
            (0..shape[across])
                .rev()
                .map(move |c| base + r * stride[down] + c * stride[across])
        })
    }

    /// One slice of a RAS array, first axis fastest.
    ///
    /// # Panics
    ///
    /// If there is no such slice.
    pub fn slice<T: Copy>(self, data: &[T], shape: [usize; 3], slice: usize) -> Slice<T> {
        let (down, across) = self.plane();
        let data = self
            .indices(shape, slice)
            .map(|index| data[index])
            .collect();
        Slice {
            rows: shape[down],
            cols: shape[across],
            data,
        }
    }

    /// Puts the pixels of a slice back into a RAS array: undoes [`slice`](Self::slice).
    ///
    /// # Panics
    ///
    /// If there is no such slice or `pixels` does not hold it.
    pub fn put<T: Copy>(self, data: &mut [T], shape: [usize; 3], slice: usize, pixels: &[T]) {
        let (down, across) = self.plane();
        assert_eq!(
            pixels.len(),
            shape[down] * shape[across],
            "pixels of {}",
            self.name()
        );
        for (index, &pixel) in self.indices(shape, slice).zip(pixels) {
            data[index] = pixel;
        }
    }
}

/// A slice as an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice<T> {
    /// The height in pixels.
    pub rows: usize,
    /// The width in pixels.
    pub cols: usize,
    /// The pixels, row by row from the top.
    pub data: Vec<T>,
}

/// A slice of any size centred in the square a model takes, and the way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    rows: usize,
    cols: usize,
    /// Rows and columns of the square that the slice covers, and the first ones of the slice
    /// that are covered.
    square: [Range<usize>; 2],
    start: [usize; 2],
}

impl Fit {
    /// The fit of a slice of `rows` × `cols`: its corner goes to `⌊(224 − n) / 2⌋`, which is
    /// negative where the slice is larger and cut.
    pub fn new(rows: usize, cols: usize) -> Self {
        let place = |n: usize| {
            if n <= SIZE {
                let corner = (SIZE - n) / 2;
                (corner..corner + n, 0)
            } else {
                (0..SIZE, (n - SIZE).div_ceil(2))
            }
        };
        let ((down, top), (across, left)) = (place(rows), place(cols));
        Self {
            rows,
            cols,
            square: [down, across],
            start: [top, left],
        }
    }

    /// Pairs of ranges, a row of the square and the same pixels of the slice.
    fn pairs(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let [down, across] = &self.square;
        let [top, left] = self.start;
        down.clone().map(move |row| {
            let square = row * SIZE + across.start;
            let slice = (row - down.start + top) * self.cols + left;
            (square..square + across.len(), slice..slice + across.len())
        })
    }

    /// The slice in a square of zeros, row by row.
    ///
    /// # Panics
    ///
    /// If `slice` is not of the fitted size.
    pub fn fit(&self, slice: &[f32]) -> Vec<f32> {
        assert_eq!(slice.len(), self.rows * self.cols, "pixels of the slice");
        let mut out = vec![0.0; SIZE * SIZE];
        for (to, from) in self.pairs() {
            out[to].copy_from_slice(&slice[from]);
        }
        out
    }

    /// The slice back out of the square; `outside` where the square did not show it.
    ///
    /// # Panics
    ///
    /// If `square` is not 224×224.
    pub fn unfit<T: Copy>(&self, square: &[T], outside: T) -> Vec<T> {
        assert_eq!(square.len(), SIZE * SIZE, "pixels of the square");
        let mut out = vec![outside; self.rows * self.cols];
        for (from, to) in self.pairs() {
            out[to].copy_from_slice(&square[from]);
        }
        out
    }
}

/// Scales an image to 0..1 between its 0.5th and 99.5th percentile and clips it.
///
/// With the n pixels sorted ascending as s: `lo = s[⌊0.005 (n − 1)⌋]`,
/// `hi = s[⌊0.995 (n − 1)⌋]`, `x = clip((x − lo) / max(hi − lo, 1e-6), 0, 1)`.
pub fn normalise(image: &mut [f32]) {
    let Some(last) = image.len().checked_sub(1) else {
        return;
    };
    let mut sorted = image.to_vec();
    let mut at = |fraction: f64| {
        let index = (fraction * last as f64) as usize;
        *sorted.select_nth_unstable_by(index, f32::total_cmp).1
    };
    let (low, high) = (at(0.005), at(0.995));
    let width = (high - low).max(1e-6);
    for value in image {
        *value = ((*value - low) / width).clamp(0.0, 1.0);
    }
}
