//! How far the surfaces of two masks lie apart.
//!
//! The definitions are those of DeepMind's surface-distance (Nikolov et al., *Deep learning to
//! achieve clinically applicable segmentation of head and neck anatomy for radiotherapy*, 2018),
//! with which `tests/reports.rs` compares: the surface lies in the corners between voxels. Eight
//! voxels meet in a corner; where they are neither all inside nor all outside, the corner is an
//! element of the surface, whose area is that of the triangles that marching cubes draws there.

use std::sync::LazyLock;

use rayon::prelude::*;

use super::distance::squared_distances;

/// The triangles of marching cubes around a corner, as areas of their projections along the
/// three axes in eighths of a voxel's face. One row for all arrangements of voxels inside that
/// rotation, reflection and exchange of inside and outside make equal; bit `x + 2 y + 4 z` of
/// the code is the voxel at that place of the eight.
const TRIANGLES: [(u8, &[[u8; 3]]); 13] = [
    (0b0000_0001, &[[1, 1, 1]]),
    (0b0000_0011, &[[0, 2, 2], [0, 2, 2]]),
    (0b0000_0110, &[[1, 1, 1], [1, 1, 1]]),
    (0b0000_0111, &[[1, 1, 1], [2, 2, 2], [0, 0, 4]]),
    (0b0000_1111, &[[0, 0, 4], [0, 0, 4]]),
    (0b0001_0110, &[[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
    (0b0001_0111, &[[1, 1, 1], [1, 1, 1], [2, 2, 2], [2, 2, 2]]),
    (0b0001_1000, &[[1, 1, 1], [1, 1, 1]]),
    (0b0001_1001, &[[1, 1, 1], [2, 2, 0], [2, 2, 0]]),
    (0b0001_1011, &[[1, 1, 1], [2, 2, 0], [2, 0, 2], [3, 3, 3]]),
    (0b0001_1110, &[[1, 1, 1], [1, 1, 1], [2, 2, 2], [0, 0, 4]]),
    (0b0011_1100, &[[0, 2, 2], [0, 2, 2], [0, 2, 2], [0, 2, 2]]),
    (0b0110_1001, &[[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]),
];

/// [`TRIANGLES`] of every code.
static ALL_TRIANGLES: LazyLock<Vec<Vec<[u8; 3]>>> = LazyLock::new(|| {
    const ORDERS: [[usize; 3]; 6] = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    let mut all = vec![Vec::new(); 256];
    for (code, triangles) in TRIANGLES {
        for order in ORDERS {
            for mirrored in 0..8 {
                let moved = (0..8).filter(|bit| code >> bit & 1 == 1).map(|bit| {
                    let axes = (0..3).map(|axis| (bit >> order[axis] & 1) << axis);
                    1_u8 << (axes.sum::<u8>() ^ mirrored)
                });
                let moved: u8 = moved.sum();
                let turned: Vec<[u8; 3]> = triangles
                    .iter()
                    .map(|areas| order.map(|axis| areas[axis]))
                    .collect();
                all[usize::from(!moved)].clone_from(&turned);
                all[usize::from(moved)] = turned;
            }
        }
    }
    all
});

/// The area of the surface in a corner, in mm², for each code of the voxels around it
/// (bit `x + 2 y + 4 z`), voxels being `spacing` mm apart.
pub fn element_areas(spacing: [f64; 3]) -> Vec<f64> {
    let [x, y, z] = spacing;
    let faces = [y * z, x * z, x * y].map(|face| face / 8.0);
    let area = |triangle: &[u8; 3]| {
        let squares = triangle.iter().zip(faces);
        let squares = squares.map(|(eighths, face)| (f64::from(*eighths) * face).powi(2));
        squares.sum::<f64>().sqrt()
    };
    let areas = ALL_TRIANGLES.iter();
    areas.map(|code| code.iter().map(area).sum()).collect()
}

/// A sum that is 0 of nothing; the standard library's is -0.
fn total(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(0.0, |sum, value| sum + value)
}

/// The elements of one surface, nearest first.
#[derive(Clone, Debug, Default)]
struct Elements {
    /// The distance to the other surface in mm, and the element's own area in mm².
    all: Vec<(f64, f64)>,
    area: f64,
}

impl Elements {
    fn new(mut all: Vec<(f64, f64)>) -> Self {
        all.par_sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let area = total(all.iter().map(|(_, area)| *area));
        Self { all, area }
    }

    /// The area of the elements that lie within `tolerance` mm.
    fn area_within(&self, tolerance: f64) -> f64 {
        let near = self
            .all
            .partition_point(|(distance, _)| *distance <= tolerance);
        total(self.all[..near].iter().map(|(_, area)| *area))
    }

    /// The distance that `share` of the area does not exceed; infinite without elements.
    fn percentile(&self, share: f64) -> f64 {
        /// Sums of areas that are equal but for rounding are equal.
        const SLACK: f64 = 1e-12;
        let mut within = 0.0;
        for (distance, area) in &self.all {
            within += area;
            if within / self.area >= share - SLACK {
                return *distance;
            }
        }
        f64::INFINITY
    }

    /// The sum of the distances, each times its area.
    fn weighted(&self) -> f64 {
        total(self.all.iter().map(|(distance, area)| distance * area))
    }
}

/// The distances between the surfaces of a prediction and of the truth.
#[derive(Clone, Debug)]
pub struct SurfaceDistances {
    prediction: Elements,
    truth: Elements,
}

impl SurfaceDistances {
    /// Measures two masks of one grid, first axis fastest, voxels `spacing` mm apart. Beyond the
    /// grid nothing is inside. Memory: about 20 bytes a voxel, so give the box that holds both.
    ///
    /// # Panics
    ///
    /// If a mask does not hold `shape`.
    pub fn new(prediction: &[bool], truth: &[bool], shape: [usize; 3], spacing: [f64; 3]) -> Self {
        let corners = shape.map(|n| n + 1);
        let (prediction, truth) = (codes(prediction, shape), codes(truth, shape));
        let areas = element_areas(spacing);
        let measure = |own: &[u8], other: &[u8]| {
            let squares = squared_distances(corners, spacing, |place| is_surface(other[place]));
            let elements = own.par_iter().zip(squares);
            let elements = elements.filter(|(code, _)| is_surface(**code));
            let elements =
                elements.map(|(code, square)| (square.sqrt(), areas[usize::from(*code)]));
            Elements::new(elements.collect())
        };
        Self {
            prediction: measure(&prediction, &truth),
            truth: measure(&truth, &prediction),
        }
    }

    /// The share of both surfaces' area that lies within `tolerance` mm of the other: the surface
    /// Dice, 0 to 1. `None` where both masks are empty.
    pub fn dice(&self, tolerance: f64) -> Option<f64> {
        let near = self.prediction.area_within(tolerance) + self.truth.area_within(tolerance);
        let all = self.prediction.area + self.truth.area;
        (all > 0.0).then(|| near / all)
    }

    /// The Hausdorff distance in mm that leaves out the farthest `1 - share` of each surface's
    /// area, the larger of the two directions: 1 for the whole distance, 0.95 for HD95. Infinite
    /// where one mask is empty, `None` where both are.
    pub fn hausdorff(&self, share: f64) -> Option<f64> {
        let farther = f64::max(
            self.prediction.percentile(share),
            self.truth.percentile(share),
        );
        self.is_something().then_some(farther)
    }

    /// The mean distance in mm over the area of both surfaces (ASSD). Infinite where one mask is
    /// empty, `None` where both are.
    pub fn mean(&self) -> Option<f64> {
        let sum = self.prediction.weighted() + self.truth.weighted();
        let area = self.prediction.area + self.truth.area;
        self.is_something().then(|| sum / area)
    }

    /// The areas of the prediction's surface and of the truth's, in mm².
    pub fn areas(&self) -> [f64; 2] {
        [self.prediction.area, self.truth.area]
    }

    fn is_something(&self) -> bool {
        !(self.prediction.all.is_empty() && self.truth.all.is_empty())
    }
}

/// Whether some voxels around a corner are inside and some are not.
fn is_surface(code: u8) -> bool {
    code != 0 && code != u8::MAX
}

/// The code of every corner between voxels: one more than voxels along each axis.
fn codes(mask: &[bool], [nx, ny, nz]: [usize; 3]) -> Vec<u8> {
    assert_eq!(mask.len(), nx * ny * nz, "one value per voxel");
    let mut codes = vec![0; (nx + 1) * (ny + 1) * (nz + 1)];
    codes
        .par_chunks_mut(nx + 1)
        .enumerate()
        .for_each(|(line, codes)| {
            let (y, z) = (line % (ny + 1), line / (ny + 1));
            // The four lines of voxels about this line of corners; none beyond the border.
            let lines: [&[bool]; 4] = std::array::from_fn(|of| {
                let (y, z) = ((y + of % 2).checked_sub(1), (z + of / 2).checked_sub(1));
                match (y, z) {
                    (Some(y), Some(z)) if y < ny && z < nz => &mask[nx * (y + ny * z)..][..nx],
                    _ => &[],
                }
            });
            let mut left = 0;
            for (x, code) in codes.iter_mut().enumerate() {
                let inside = |line: &[bool]| u8::from(line.get(x).copied().unwrap_or(false));
                let right = (0..4).map(|of| inside(lines[of]) << (2 * of)).sum::<u8>();
                *code = left | right << 1;
                left = right;
            }
        });
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arrangement_has_its_triangles() {
        let empty = (0..256).filter(|code| ALL_TRIANGLES[*code].is_empty());
        assert_eq!(empty.collect::<Vec<_>>(), [0, 255]);
    }

    #[test]
    fn codes_say_which_voxels_meet_in_a_corner() {
        let mask = [true, false, false, true];
        // Two by two voxels in a plane: corners at z = 0 have them above, at z = 1 below.
        assert_eq!(
            codes(&mask, [2, 2, 1]),
            [
                0x80, 0x40, 0, 0x20, 0x90, 0x40, 0, 0x20, 0x10, 8, 4, 0, 2, 9, 4, 0, 2, 1
            ]
        );
    }
}
