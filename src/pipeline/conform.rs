//! Volumes brought to the one grid that a 3-D network was trained on: 256 × 256 × 256 voxels of 1 mm, LIA, as FreeSurfer's
//! `mri_convert --conform` and nibabel's `conform` have it.

use rayon::prelude::*;

use crate::pipeline::geometry::{Affine, Grid, Orientation, apply, compose, inverse};
use crate::pipeline::volume::Volume;

/// Voxels along each axis.
pub const SIDE: usize = 256;
/// The first axis runs to the left, the second down, the third to the front.
const LIA: Orientation = Orientation {
    axes: [0, 2, 1],
    flips: [true, true, false],
};
/// How far outside of the outermost centres a point still counts as on them, in voxels: what products of affines round.
const ON_BORDER: f64 = 1e-6;

/// A volume on a conformed grid, **first axis slowest**: so a network's kernels count.
#[derive(Clone, Debug)]
pub struct Conformed {
    /// Where its voxels lie.
    pub grid: Grid,
    /// The values of all voxels.
    pub values: Vec<f32>,
}

/// A part of a conformed volume: its first voxel and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first voxel along each axis.
    pub first: [usize; 3],
    /// Voxels along each axis.
    pub size: [usize; 3],
}

/// The grid of a conformed volume over `from`: the axes that are nearest to LIA, the middle voxels on each other.
pub fn conformed_grid(from: &Grid) -> Grid {
    // In its own order an axis of `from` is the one that runs along LIA's.
    let own = from.orientation();
    let (mut shape, mut turned) = ([0; 3], from.affine);
    for axis in 0..3 {
        let world = LIA.axes[axis];
        let Some(source) = own.axes.iter().position(|of| *of == world) else {
            continue;
        };
        shape[axis] = from.shape[source];
        let is_flipped = own.flips[source] != LIA.flips[axis];
        let sign = if is_flipped { -1.0 } else { 1.0 };
        for (row, old) in turned.iter_mut().zip(&from.affine) {
            row[axis] = sign * old[source];
            if is_flipped {
                row[3] += old[source] * (from.shape[source].max(1) - 1) as f64;
            }
        }
    }
    let sizes = crate::pipeline::geometry::voxel_sizes(&turned);
    let middle = apply(
        &turned,
        shape.map(|n: usize| (n.saturating_sub(1) / 2) as f64),
    );
    let new_middle = ((SIDE - 1) / 2) as f64;
    let mut affine: Affine = turned;
    for (row, middle) in affine.iter_mut().zip(middle) {
        for (value, size) in row[..3].iter_mut().zip(sizes) {
            *value /= size;
        }
        row[3] = middle - row[..3].iter().sum::<f64>() * new_middle;
    }
    Grid {
        shape: [SIDE; 3],
        affine,
    }
}

/// A coordinate on an axis of so many voxels: the voxel at or below it and how far it lies beyond.
fn between(at: f64, count: usize) -> Option<(usize, f64)> {
    let last = (count - 1) as f64;
    if !(-ON_BORDER..=last + ON_BORDER).contains(&at) {
        return None;
    }
    let at = at.clamp(0.0, last);
    let below = (at.floor() as usize).min(count.saturating_sub(2));
    Some((below, at - below as f64))
}

impl Conformed {
    /// Interpolates a volume linearly at the voxels of its conformed grid; 0 where it has none.
    pub fn new(volume: &Volume) -> Self {
        let from = volume.grid();
        let grid = conformed_grid(&from);
        let into = inverse(&from.affine).expect("a volume's affine was checked when it was read");
        let map = compose(&into, &grid.affine);
        let [nx, ny, nz] = from.shape;
        let mut values = vec![0.0; grid.len()];
        values
            .par_chunks_mut(SIDE)
            .enumerate()
            .for_each(|(line, row)| {
                let (i, j) = (line / SIDE, line % SIDE);
                for (k, value) in row.iter_mut().enumerate() {
                    let [x, y, z] = apply(&map, [i, j, k].map(|n| n as f64));
                    let (Some((x, fx)), Some((y, fy)), Some((z, fz))) =
                        (between(x, nx), between(y, ny), between(z, nz))
                    else {
                        continue;
                    };
                    let at = |dx: usize, dy: usize, dz: usize| {
                        let (x, y, z) = (
                            (x + dx).min(nx - 1),
                            (y + dy).min(ny - 1),
                            (z + dz).min(nz - 1),
                        );
                        f64::from(volume.data[x + nx * (y + ny * z)])
                    };
                    let along = |dy, dz| at(0, dy, dz) * (1.0 - fx) + at(1, dy, dz) * fx;
                    let across = |dz| along(0, dz) * (1.0 - fy) + along(1, dz) * fy;
                    *value = (across(0) * (1.0 - fz) + across(1) * fz) as f32;
                }
            });
        Self { grid, values }
    }

    /// The intensities below which these two shares of the voxels lie, as brainchop takes them; `[0, 1]` are the least and
    /// the largest.
    pub fn quantiles(&self, shares: [f64; 2]) -> [f32; 2] {
        let count = self.values.len() as f64;
        let low = (count * shares[0]).floor() as usize;
        let high = ((count * shares[1]).ceil() as usize).max(1) - 1;
        let mut values = self.values.clone();
        [low, high].map(|at| {
            *values
                .select_nth_unstable_by(at.min(self.values.len() - 1), f32::total_cmp)
                .1
        })
    }

    /// All of it.
    pub fn whole() -> Part {
        Part {
            first: [0; 3],
            size: [SIDE; 3],
        }
    }

    /// The box around the head: voxels above 2 % of the range of intensities, and 8 beyond them on each side. All of it
    /// where none is.
    pub fn head(&self) -> Part {
        const SHARE: f32 = 0.02;
        const MARGIN: usize = 8;
        let [low, high] = self.quantiles([0.0, 1.0]);
        let above = low + SHARE * (high - low);
        let (mut least, mut most) = ([SIDE; 3], [0; 3]);
        for (n, value) in self.values.iter().enumerate() {
            if *value > above {
                let at = [n / (SIDE * SIDE), n / SIDE % SIDE, n % SIDE];
                for axis in 0..3 {
                    least[axis] = least[axis].min(at[axis]);
                    most[axis] = most[axis].max(at[axis]);
                }
            }
        }
        if least[0] > most[0] {
            return Self::whole();
        }
        let first = least.map(|at| at.saturating_sub(MARGIN));
        let end = most.map(|at| (at + MARGIN + 1).min(SIDE));
        Part {
            first,
            size: [0, 1, 2].map(|axis| end[axis] - first[axis]),
        }
    }

    /// The values of a part, the intensities `from` as 0 and 1.
    pub fn scaled(&self, part: Part, [low, high]: [f32; 2]) -> Vec<f32> {
        let Part { first, size } = part;
        let mut values = Vec::with_capacity(size.iter().product());
        for i in first[0]..first[0] + size[0] {
            for j in first[1]..first[1] + size[1] {
                let at = (i * SIDE + j) * SIDE + first[2];
                let row = &self.values[at..at + size[2]];
                values.extend(row.iter().map(|value| (value - low) / (high - low)));
            }
        }
        values
    }
}

/// Labels of a part of a conformed grid, first axis slowest, on the grid `to`, first axis fastest: of each voxel the label of the
/// nearest conformed one, 0 outside of the part.
pub fn restore(labels: &[u16], part: Part, conformed: &Grid, to: &Grid) -> Vec<u16> {
    let into = inverse(&conformed.affine).expect("a conformed grid is sound");
    let map = compose(&into, &to.affine);
    let Part { first, size } = part;
    let [nx, ny, _] = to.shape;
    let mut restored = vec![0; to.len()];
    restored
        .par_chunks_mut(nx)
        .enumerate()
        .for_each(|(line, row)| {
            let (j, k) = (line % ny, line / ny);
            for (i, label) in row.iter_mut().enumerate() {
                let at = apply(&map, [i, j, k].map(|n| n as f64)).map(|at| (at + 0.5).floor());
                let inside = |axis: usize| {
                    let at = at[axis] - first[axis] as f64;
                    (0.0..size[axis] as f64)
                        .contains(&at)
                        .then_some(at as usize)
                };
                if let (Some(x), Some(y), Some(z)) = (inside(0), inside(1), inside(2)) {
                    *label = labels[(x * size[1] + y) * size[2] + z];
                }
            }
        });
    restored
}
