//! Where voxels lie: affines, orientations, grids, and moving an image from one grid to another.
//!
//! An affine maps a voxel index `[i, j, k]` to millimetres in RAS (towards the patient's right,
//! anterior, superior) and gives the voxel's centre. Arrays hold the first index fastest.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A voxel-to-millimetre map: three rows of four, the fourth being the translation.
pub type Affine = [[f64; 4]; 3];

/// The affine that changes nothing.
pub const IDENTITY: Affine = [
    [1.0, 0.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0],
    [0.0, 0.0, 1.0, 0.0],
];

/// `affine · point`.
pub fn apply(affine: &Affine, point: [f64; 3]) -> [f64; 3] {
    affine.map(|[x, y, z, t]| x * point[0] + y * point[1] + z * point[2] + t)
}

/// The map that applies `inner` first and `outer` to its result.
pub fn compose(outer: &Affine, inner: &Affine) -> Affine {
    outer.map(|row| {
        let mut out: [f64; 4] =
            std::array::from_fn(|c| (0..3).map(|k| row[k] * inner[k][c]).sum::<f64>());
        out[3] += row[3];
        out
    })
}

/// The determinant of the linear part: the signed volume of a voxel in mm³.
pub fn determinant(affine: &Affine) -> f64 {
    let [a, b, c] = affine;
    a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
        + a[2] * (b[0] * c[1] - b[1] * c[0])
}

/// The inverse map, or nothing where the affine is singular or not finite.
pub fn inverse(affine: &Affine) -> Option<Affine> {
    if !is_usable(affine) {
        return None;
    }
    let m = affine;
    let det = determinant(m);
    // The adjugate, that is the transposed matrix of cofactors, over the determinant.
    let cofactor = |r: usize, c: usize| {
        let [r1, r2, c1, c2] = [(r + 1) % 3, (r + 2) % 3, (c + 1) % 3, (c + 2) % 3];
        m[r1][c1] * m[r2][c2] - m[r1][c2] * m[r2][c1]
    };
    let mut out: Affine = std::array::from_fn(|r| {
        [
            cofactor(0, r) / det,
            cofactor(1, r) / det,
            cofactor(2, r) / det,
            0.0,
        ]
    });
    for row in &mut out {
        row[3] = -(0..3).map(|k| row[k] * m[k][3]).sum::<f64>();
    }
    Some(out)
}

/// The distance in mm between neighbouring voxel centres along each voxel axis.
pub fn voxel_sizes(affine: &Affine) -> [f64; 3] {
    std::array::from_fn(|c| affine.iter().map(|row| row[c] * row[c]).sum::<f64>().sqrt())
}

/// Whether an affine is finite and maps the three voxel axes to three independent directions.
pub fn is_usable(affine: &Affine) -> bool {
    let sizes = voxel_sizes(affine);
    affine.iter().flatten().all(|v| v.is_finite())
        && sizes.iter().all(|&size| size > 0.0 && size.is_finite())
        && determinant(affine).abs() > 1e-4 * sizes.iter().product::<f64>()
}

/// Whether voxel 0 is at the origin and the axes are the world's: an affine that says no more than voxel sizes. The
/// isocentre of no scanner is in the corner of its image.
pub fn is_made_up(affine: &Affine) -> bool {
    let rows = affine.iter().enumerate();
    let mut cells =
        rows.flat_map(|(r, row)| row.iter().enumerate().map(move |(c, v)| (r == c, *v)));
    cells.all(|(is_diagonal, value)| is_diagonal == (value != 0.0))
}

/// How an array's axes lie in the patient: one of 48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Orientation {
    /// For each voxel axis the world axis it follows most closely: 0 right, 1 anterior,
    /// 2 superior.
    pub axes: [usize; 3],
    /// For each voxel axis whether it runs against that world axis.
    pub flips: [bool; 3],
}

impl Orientation {
    /// The orientation of a usable affine.
    ///
    /// The linear part is first made a rotation (its polar factor, which is what nibabel's
    /// `io_orientation` gets from a singular value decomposition); then the voxel axes, from
    /// the one nearest to a world axis to the one farthest from any, each take the nearest
    /// world axis that is still free.
    pub fn of(affine: &Affine) -> Self {
        let rotation = polar(affine);
        let nearness = |axis: usize| {
            rotation
                .iter()
                .map(|row| row[axis].abs())
                .fold(0.0, f64::max)
        };
        let mut order = [0, 1, 2];
        order.sort_by(|&a, &b| nearness(b).total_cmp(&nearness(a)));
        let (mut axes, mut flips, mut taken) = ([0; 3], [false; 3], [false; 3]);
        for axis in order {
            let length = |world: &usize| rotation[*world][axis].abs();
            // Backwards, so that among equals the first is chosen, as numpy's argmax does.
            let nearest = (0..3)
                .rev()
                .filter(|&world| !taken[world])
                .max_by(|a, b| length(a).total_cmp(&length(b)));
            if let Some(world) = nearest {
                (axes[axis], flips[axis], taken[world]) =
                    (world, rotation[world][axis] < 0.0, true);
            }
        }
        Self { axes, flips }
    }

    /// The letters towards which the three axes run, such as `RAS` or `LIA`.
    pub fn letters(&self) -> String {
        const ENDS: [[char; 2]; 3] = [['R', 'L'], ['A', 'P'], ['S', 'I']];
        (0..3)
            .map(|axis| ENDS[self.axes[axis]][usize::from(self.flips[axis])])
            .collect()
    }

    /// Every one of the 48, in a fixed order.
    pub fn all() -> impl Iterator<Item = Self> {
        const ORDERS: [[usize; 3]; 6] = [
            [0, 1, 2],
            [0, 2, 1],
            [1, 0, 2],
            [1, 2, 0],
            [2, 0, 1],
            [2, 1, 0],
        ];
        ORDERS.into_iter().flat_map(|axes| {
            (0..8).map(move |bits| Self {
                axes,
                flips: [0, 1, 2].map(|axis| bits >> axis & 1 == 1),
            })
        })
    }
}

/// The rotation (or rotation and reflection) nearest to the linear part of a usable affine.
///
/// Newton's iteration for the polar factor, `x ← (x + x⁻ᵀ) / 2`, which converges quadratically.
fn polar(affine: &Affine) -> [[f64; 3]; 3] {
    let sizes = voxel_sizes(affine);
    let mut x = affine.map(|row| [row[0] / sizes[0], row[1] / sizes[1], row[2] / sizes[2], 0.0]);
    for _ in 0..60 {
        let Some(inverted) = inverse(&x) else { break };
        let mut step = 0.0_f64;
        let before = x;
        for r in 0..3 {
            for c in 0..3 {
                x[r][c] = 0.5 * (before[r][c] + inverted[c][r]);
                step = step.max((x[r][c] - before[r][c]).abs());
            }
        }
        if step < 1e-15 {
            break;
        }
    }
    x.map(|row| [row[0], row[1], row[2]])
}

/// The quaternion (b, c, d) of the rotation nearest to the linear part of a usable affine, and whether its third axis
/// is turned round for that, as it is in left-handed axes: the qform of NIfTI-1.
pub fn quaternion(affine: &Affine) -> ([f64; 3], bool) {
    let mut r = polar(affine);
    let is_left_handed = determinant(affine) < 0.0;
    if is_left_handed {
        r.iter_mut().for_each(|row| row[2] = -row[2]);
    }
    let [[xx, xy, xz], [yx, yy, yz], [zx, zy, zz]] = r;
    // Four times the square of each component; the largest is safe to divide by.
    let squares = [
        1.0 + xx + yy + zz,
        1.0 + xx - yy - zz,
        1.0 - xx + yy - zz,
        1.0 - xx - yy + zz,
    ];
    let largest = (0..4).max_by(|&i, &j| squares[i].total_cmp(&squares[j]));
    // Each component times four times the largest.
    let products = match largest {
        Some(1) => [zy - yz, squares[1], xy + yx, xz + zx],
        Some(2) => [xz - zx, xy + yx, squares[2], yz + zy],
        Some(3) => [yx - xy, xz + zx, yz + zy, squares[3]],
        _ => [squares[0], zy - yz, xz - zx, yx - xy],
    };
    let length = products.iter().map(|v| v * v).sum::<f64>().sqrt();
    // The first component is not stored: it is taken to be positive.
    let sign = if products[0] < 0.0 { -1.0 } else { 1.0 };
    let [b, c, d] = [1, 2, 3].map(|n| sign * products[n] / length);
    ([b, c, d], is_left_handed)
}

/// A box of voxels in space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grid {
    /// The number of voxels along each axis.
    pub shape: [usize; 3],
    /// Voxel index to RAS millimetres.
    pub affine: Affine,
}

impl Grid {
    /// The number of voxels.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the grid holds no voxel.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The distance in mm between neighbouring voxels along each axis.
    pub fn voxel_sizes(&self) -> [f64; 3] {
        voxel_sizes(&self.affine)
    }

    /// The volume of one voxel in mm³.
    pub fn voxel_volume(&self) -> f64 {
        determinant(&self.affine).abs()
    }

    /// How the axes lie in the patient.
    pub fn orientation(&self) -> Orientation {
        Orientation::of(&self.affine)
    }

    /// Whether the three axes form a right-handed system in RAS.
    pub fn is_right_handed(&self) -> bool {
        determinant(&self.affine) > 0.0
    }

    /// The same voxels with their axes permuted and flipped to run as near to right, anterior
    /// and superior as they can; an oblique grid keeps its residual rotation.
    ///
    /// [`reorient`] moves an array the same way and [`restore`] back.
    pub fn canonical(&self) -> Self {
        let orientation = self.orientation();
        let (mut shape, mut affine) = (self.shape, self.affine);
        for axis in 0..3 {
            let to = orientation.axes[axis];
            shape[to] = self.shape[axis];
            let sign = if orientation.flips[axis] { -1.0 } else { 1.0 };
            for (new, old) in affine.iter_mut().zip(&self.affine) {
                new[to] = sign * old[axis];
                if orientation.flips[axis] {
                    new[3] += old[axis] * (self.shape[axis].max(1) - 1) as f64;
                }
            }
        }
        Self { shape, affine }
    }

    /// A grid over the same field of view, with the same axes and centre, whose voxels measure
    /// `spacing` mm.
    ///
    /// Each axis gets `round(n · size / spacing)` voxels (ties to even) and at least one. The
    /// centres of both grids coincide, which is where `scipy.ndimage.zoom` puts them too; scipy
    /// then stretches the outermost voxel centres onto each other, so the two differ by nothing
    /// in the middle and by at most half the difference of the voxel sizes at the border.
    pub fn with_spacing(&self, spacing: [f64; 3]) -> Self {
        let sizes = self.voxel_sizes();
        let shape: [usize; 3] = std::array::from_fn(|axis| {
            let count = (self.shape[axis] as f64 * sizes[axis] / spacing[axis]).round_ties_even();
            (count as usize).max(1)
        });
        let mut affine = self.affine;
        for row in &mut affine {
            for axis in 0..3 {
                let step = row[axis] / sizes[axis] * spacing[axis];
                let old_middle = (self.shape[axis] as f64 - 1.0) / 2.0;
                let new_middle = (shape[axis] as f64 - 1.0) / 2.0;
                row[3] += row[axis] * old_middle - step * new_middle;
                row[axis] = step;
            }
        }
        Self { shape, affine }
    }

    /// The part of the grid that begins at voxel `offset` and has `shape` voxels.
    pub fn crop(&self, offset: [usize; 3], shape: [usize; 3]) -> Self {
        let mut affine = self.affine;
        let origin = apply(&self.affine, offset.map(|o| o as f64));
        for (row, origin) in affine.iter_mut().zip(origin) {
            row[3] = origin;
        }
        Self { shape, affine }
    }

    /// Whether both grids have one shape and no element of their affines differs by more than
    /// `tolerance` (mm).
    pub fn matches(&self, other: &Self, tolerance: f64) -> bool {
        self.shape == other.shape
            && self
                .affine
                .iter()
                .flatten()
                .zip(other.affine.iter().flatten())
                .all(|(a, b)| (a - b).abs() <= tolerance)
    }

    /// The fraction, 0 to 1, of this grid's field of view that lies inside `other`'s.
    ///
    /// Both fields reach half a voxel beyond the outermost centres. Measured at 32 points along
    /// each axis, so good to about 3 %.
    pub fn overlap(&self, other: &Self) -> f64 {
        const POINTS: usize = 32;
        let Some(into_other) = inverse(&other.affine) else {
            return 0.0;
        };
        let map = compose(&into_other, &self.affine);
        let at = |p: usize, n: usize| (p as f64 + 0.5) / POINTS as f64 * n as f64 - 0.5;
        let mut inside = 0_usize;
        for z in 0..POINTS {
            for y in 0..POINTS {
                for x in 0..POINTS {
                    let [nx, ny, nz] = self.shape;
                    let point = apply(&map, [at(x, nx), at(y, ny), at(z, nz)]);
                    let within =
                        |axis: usize| (-0.5..other.shape[axis] as f64 - 0.5).contains(&point[axis]);
                    inside += usize::from(within(0) && within(1) && within(2));
                }
            }
        }
        inside as f64 / POINTS.pow(3) as f64
    }
}

/// Strides, in elements, of an array with the first index fastest.
fn strides(shape: [usize; 3]) -> [usize; 3] {
    [1, shape[0], shape[0] * shape[1]]
}

/// For each canonical axis the native stride along it, and the native offset of canonical
/// voxel 0.
fn walk(native: [usize; 3], orientation: Orientation) -> ([isize; 3], isize, [usize; 3]) {
    let (mut steps, mut start, mut shape) = ([0; 3], 0, [0; 3]);
    let native_strides = strides(native);
    for axis in 0..3 {
        let (to, stride) = (orientation.axes[axis], native_strides[axis] as isize);
        shape[to] = native[axis];
        if orientation.flips[axis] {
            steps[to] = -stride;
            start += stride * (native[axis] as isize - 1);
        } else {
            steps[to] = stride;
        }
    }
    (steps, start, shape)
}

/// Permutes and flips `data` of `shape` (native, in `orientation`) to canonical axes, as
/// [`Grid::canonical`] does with the grid. No value changes.
///
/// # Panics
///
/// If `data` does not hold `shape`.
pub fn reorient<T: Copy>(data: &[T], shape: [usize; 3], orientation: Orientation) -> Vec<T> {
    assert_eq!(
        data.len(),
        shape.iter().product::<usize>(),
        "data of shape {shape:?}"
    );
    let ([sx, sy, sz], start, [nx, ny, nz]) = walk(shape, orientation);
    let mut out = Vec::with_capacity(data.len());
    for z in 0..nz as isize {
        for y in 0..ny as isize {
            let row = start + z * sz + y * sy;
            out.extend((0..nx as isize).map(|x| data[(row + x * sx) as usize]));
        }
    }
    out
}

/// Undoes [`reorient`]: `data` is canonical, `shape` the native shape that results.
///
/// # Panics
///
/// If `data` does not hold `shape`.
pub fn restore<T: Copy + Default + Send + Sync>(
    data: &[T],
    shape: [usize; 3],
    orientation: Orientation,
) -> Vec<T> {
    let (_, _, whole) = walk(shape, orientation);
    restore_part(data, [0; 3], whole, shape, orientation, T::default())
}

/// [`restore`] of a part of the canonical array, `data` of shape `part` from voxel `offset` on; `outside` elsewhere.
///
/// # Panics
///
/// If `data` does not hold `part`, or the part does not lie in the array.
pub fn restore_part<T: Copy + Send + Sync>(
    data: &[T],
    offset: [usize; 3],
    part: [usize; 3],
    shape: [usize; 3],
    orientation: Orientation,
    outside: T,
) -> Vec<T> {
    assert_eq!(
        data.len(),
        part.iter().product::<usize>(),
        "data of shape {part:?}"
    );
    let stride = strides(part);
    // For each native axis where it meets the part, and the step in the part along it.
    let along: [(Range<usize>, bool, usize); 3] = std::array::from_fn(|axis| {
        let to = orientation.axes[axis];
        let end = offset[to] + part[to];
        assert!(end <= shape[axis], "a part that ends at {end} of {shape:?}");
        let met = match orientation.flips[axis] {
            true => shape[axis] - end..shape[axis] - offset[to],
            false => offset[to]..end,
        };
        (met, orientation.flips[axis], stride[to])
    });
    // The index that native voxel `i` of an axis adds; nothing where it is not in the part.
    let at = |axis: usize, i: usize| {
        let (met, flipped, step) = &along[axis];
        met.contains(&i).then(|| match flipped {
            true => (met.end - 1 - i) * step,
            false => (i - met.start) * step,
        })
    };
    let (met, flipped, step) = &along[0];
    let mut out = vec![outside; shape.iter().product()];
    out.par_chunks_mut((shape[0] * shape[1]).max(1))
        .enumerate()
        .filter_map(|(z, plane)| Some((at(2, z)?, plane)))
        .for_each(|(z, plane)| {
            for (y, row) in plane.chunks_mut(shape[0].max(1)).enumerate() {
                let Some(y) = at(1, y) else { continue };
                let (row, first) = (&mut row[met.clone()], z + y);
                match (flipped, step) {
                    (false, 1) => row.copy_from_slice(&data[first..first + met.len()]),
                    (false, step) => {
                        let values = data[first..].iter().step_by(*step);
                        row.iter_mut()
                            .zip(values)
                            .for_each(|(to, value)| *to = *value);
                    }
                    (true, step) => {
                        let values = data[first..].iter().step_by(*step);
                        row.iter_mut()
                            .rev()
                            .zip(values)
                            .for_each(|(to, value)| *to = *value);
                    }
                }
            }
        });
    out
}

/// How much coarser than its source an image may become before it is blurred first.
const BLUR_ABOVE: f64 = 1.5;

/// `data` on grid `from`, interpolated linearly at the voxel centres of grid `to`.
///
/// Up to half a voxel beyond the outermost centres the border value is used; farther out the
/// result is `outside`. Where `to` is coarser than `from` by more than 1.5 along an axis, a
/// Gaussian along that axis comes first, so that fine detail does not alias. Each voxel depends
/// on nothing but its inputs, so the result is the same to the bit on any number of threads.
///
/// # Panics
///
/// If `data` does not hold `from`, or `from` is singular.
pub fn resample(data: &[f32], from: &Grid, to: &Grid, outside: f32) -> Vec<f32> {
    assert_eq!(data.len(), from.len(), "data of shape {:?}", from.shape);
    let map = into_voxels(from, to);
    let mut blurred = None;
    for (axis, row) in map.iter().enumerate() {
        // How many source voxels one step of the new grid covers along this axis.
        let ratio = row[..3].iter().map(|v| v * v).sum::<f64>().sqrt();
        if ratio > BLUR_ABOVE {
            // The blur that turns a source voxel's width into the new one's, widths taken as
            // full widths at half maximum.
            let sigma = (ratio * ratio - 1.0).sqrt() / 2.354_820_045;
            let source = blurred.as_deref().unwrap_or(data);
            blurred = Some(blur(source, from.shape, axis, sigma));
        }
    }
    let data = blurred.as_deref().unwrap_or(data);
    gather(to, outside, |point| {
        let cell = Cell::at(&map, from.shape, point)?;
        let value = |corner: usize| f64::from(data[cell.index(corner)]);
        let mix = |a: f64, b: f64, weight: f64| a + (b - a) * weight;
        let along_x = |corner| mix(value(corner), value(corner + 1), cell.weight[0]);
        let along_y = |corner| mix(along_x(corner), along_x(corner + 2), cell.weight[1]);
        Some(mix(along_y(0), along_y(4), cell.weight[2]) as f32)
    })
}

/// `data` on grid `from`, voted for each voxel of grid `to` by the eight voxels around it, each
/// with its weight of linear interpolation; `outside` beyond the field of view. For labels,
/// which must not be mixed: borders come out smoother and truer than from the nearest voxel,
/// and on a common lattice no label changes.
///
/// # Panics
///
/// If `data` does not hold `from`, or `from` is singular.
pub fn resample_labels<T>(data: &[T], from: &Grid, to: &Grid, outside: T) -> Vec<T>
where
    T: Copy + PartialEq + Send + Sync,
{
    assert_eq!(data.len(), from.len(), "data of shape {:?}", from.shape);
    let map = into_voxels(from, to);
    gather(to, outside, |point| {
        let cell = Cell::at(&map, from.shape, point)?;
        let labels: [T; 8] = std::array::from_fn(|corner| data[cell.index(corner)]);
        if labels.iter().all(|label| *label == labels[0]) {
            return Some(labels[0]);
        }
        let votes = |label: T| -> f64 {
            (0..8)
                .filter(|&corner| labels[corner] == label)
                .map(|corner| cell.share(corner))
                .sum()
        };
        labels
            .into_iter()
            .max_by(|&a, &b| votes(a).total_cmp(&votes(b)))
    })
}

/// The eight voxels around a point and the point's place between them.
struct Cell {
    first: usize,
    /// To the second voxel along each axis; 0 at the border.
    next: [usize; 3],
    /// The share of the second voxel along each axis.
    weight: [f64; 3],
}

impl Cell {
    /// The cell around `map · point` in an array of `shape`; nothing beyond its field of view.
    fn at(map: &Affine, shape: [usize; 3], point: [f64; 3]) -> Option<Self> {
        let mut cell = Self {
            first: 0,
            next: [0; 3],
            weight: [0.0; 3],
        };
        let stride = strides(shape);
        for axis in 0..3 {
            let at = apply_row(&map[axis], point);
            if !inside(at, shape[axis]) {
                return None;
            }
            let last = shape[axis] - 1;
            let at = at.clamp(0.0, last as f64);
            let index = (at as usize).min(last);
            cell.first += index * stride[axis];
            cell.next[axis] = if index < last { stride[axis] } else { 0 };
            cell.weight[axis] = at - index as f64;
        }
        Some(cell)
    }

    /// The array index of a corner; bit `axis` of `corner` says second along that axis.
    fn index(&self, corner: usize) -> usize {
        self.first
            + (0..3)
                .map(|axis| (corner >> axis & 1) * self.next[axis])
                .sum::<usize>()
    }

    /// The weight of a corner.
    fn share(&self, corner: usize) -> f64 {
        (0..3)
            .map(|axis| {
                let weight = self.weight[axis];
                if corner >> axis & 1 == 1 {
                    weight
                } else {
                    1.0 - weight
                }
            })
            .product()
    }
}

/// `data` on grid `from`, taken from the nearest voxel for each voxel of grid `to`; `outside`
/// beyond the field of view. For labels, which must not be mixed.
///
/// # Panics
///
/// If `data` does not hold `from`, or `from` is singular.
pub fn resample_nearest<T: Copy + Send + Sync>(
    data: &[T],
    from: &Grid,
    to: &Grid,
    outside: T,
) -> Vec<T> {
    assert_eq!(data.len(), from.len(), "data of shape {:?}", from.shape);
    let map = into_voxels(from, to);
    let stride = strides(from.shape);
    gather(to, outside, |point| {
        let mut index = 0;
        for axis in 0..3 {
            let at = apply_row(&map[axis], point);
            if !inside(at, from.shape[axis]) {
                return None;
            }
            index += (at.round().max(0.0) as usize).min(from.shape[axis] - 1) * stride[axis];
        }
        Some(data[index])
    })
}

/// Voxels of `to` to voxels of `from`.
fn into_voxels(from: &Grid, to: &Grid) -> Affine {
    let Some(inverted) = inverse(&from.affine) else {
        panic!("the grid to resample from is singular: {:?}", from.affine)
    };
    compose(&inverted, &to.affine)
}

/// Whether a voxel coordinate lies in a field of view of `n` voxels, borders included. The
/// margin keeps a border voxel in when its coordinate carries a rounding error.
fn inside(at: f64, n: usize) -> bool {
    (-0.5 - 1e-6..=n as f64 - 0.5 + 1e-6).contains(&at)
}

fn apply_row(row: &[f64; 4], [x, y, z]: [f64; 3]) -> f64 {
    row[0] * x + row[1] * y + row[2] * z + row[3]
}

/// Fills grid `to`, in parallel over its planes, with `value` at each voxel index.
fn gather<T: Copy + Send + Sync>(
    to: &Grid,
    outside: T,
    value: impl Fn([f64; 3]) -> Option<T> + Sync,
) -> Vec<T> {
    let [nx, ny, _] = to.shape;
    let mut out = vec![outside; to.len()];
    out.par_chunks_mut((nx * ny).max(1))
        .enumerate()
        .for_each(|(z, plane)| {
            for (y, row) in plane.chunks_mut(nx).enumerate() {
                for (x, voxel) in row.iter_mut().enumerate() {
                    *voxel = value([x as f64, y as f64, z as f64]).unwrap_or(outside);
                }
            }
        });
    out
}

/// A Gaussian of `sigma` voxels along one axis, cut off at three sigma, borders repeated.
fn blur(data: &[f32], shape: [usize; 3], axis: usize, sigma: f64) -> Vec<f32> {
    let reach = (3.0 * sigma).ceil() as isize;
    let weights: Vec<f64> = (-reach..=reach)
        .map(|d| (-0.5 * (d as f64 / sigma).powi(2)).exp())
        .collect();
    let total: f64 = weights.iter().sum();
    let stride = strides(shape)[axis];
    let last = shape[axis] as isize - 1;
    let mut out = vec![0.0; data.len()];
    let plane = (shape[0] * shape[1]).max(1);
    out.par_chunks_mut(plane)
        .enumerate()
        .for_each(|(z, values)| {
            for (within, value) in values.iter_mut().enumerate() {
                let index = z * plane + within;
                let at = (index / stride % shape[axis]) as isize;
                let first = index - at as usize * stride;
                let sum: f64 = (-reach..=reach)
                    .zip(&weights)
                    .map(|(d, w)| {
                        w * f64::from(data[first + (at + d).clamp(0, last) as usize * stride])
                    })
                    .sum();
                *value = (sum / total) as f32;
            }
        });
    out
}
