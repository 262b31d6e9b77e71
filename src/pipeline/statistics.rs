//! Numbers about each structure of a label map: how large, how bright, cut by the border or not.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::geometry::Grid;
use super::volume::Names;

/// The measurements of one structure.
///
/// What cannot be measured is null, never 0: an absent structure has no mean.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Structure {
    /// The label in the map.
    pub label: u32,
    /// The structure's name, or the label in words if it has none.
    pub name: String,
    /// The number of voxels.
    pub voxels: u64,
    /// The volume in millilitres; null if the structure is absent.
    pub volume_ml: Option<f64>,
    /// The mean intensity in the volume's own unit; null if the structure is absent.
    pub mean: Option<f64>,
    /// The median intensity in the volume's own unit; null if the structure is absent.
    pub median: Option<f64>,
    /// Whether the structure reaches the border of the volume, so that part of it may lie
    /// outside.
    pub touches_border: bool,
}

/// Measures every structure that is named or present, by ascending label; 0 is background.
///
/// `labels` and `intensities` hold one value per voxel of `grid`. Volumes are counts times the
/// determinant of the affine, so oblique and anisotropic grids are right too. The median of an
/// even count is the mean of the middle two.
///
/// # Panics
///
/// If `labels` or `intensities` do not hold the grid.
pub fn measure<T>(labels: &[T], intensities: &[f32], grid: &Grid, names: &Names) -> Vec<Structure>
where
    T: Copy + Into<u32> + Sync,
{
    assert_eq!(labels.len(), grid.len(), "one label per voxel");
    assert_eq!(intensities.len(), grid.len(), "one intensity per voxel");
    #[derive(Default)]
    struct Found {
        values: Vec<f32>,
        touches_border: bool,
    }
    let mut found: BTreeMap<u32, Found> = names
        .keys()
        .filter(|&&label| label > 0)
        .map(|&label| (label, Found::default()))
        .collect();
    let [nx, ny, nz] = grid.shape;
    let plane = (nx * ny).max(1);
    let border = |at: usize, n: usize| at == 0 || at + 1 == n;
    let planes = labels.par_chunks(plane).zip(intensities.par_chunks(plane));
    let planes: Vec<BTreeMap<u32, Found>> = planes
        .enumerate()
        .map(|(z, (labels, intensities))| {
            let mut found: BTreeMap<u32, Found> = BTreeMap::new();
            for (index, (&label, &value)) in labels.iter().zip(intensities).enumerate() {
                let label: u32 = label.into();
                if label == 0 {
                    continue;
                }
                let structure = found.entry(label).or_default();
                structure.values.push(value);
                let (x, y) = (index % nx, index / nx);
                structure.touches_border |= border(x, nx) || border(y, ny) || border(z, nz);
            }
            found
        })
        .collect();
    // In the order of the planes, so that sums do not depend on the number of threads.
    for (label, part) in planes.into_iter().flatten() {
        let whole = found.entry(label).or_default();
        whole.values.extend(part.values);
        whole.touches_border |= part.touches_border;
    }
    let voxel_ml = grid.voxel_volume() / 1000.0;
    found
        .into_iter()
        .map(
            |(
                label,
                Found {
                    mut values,
                    touches_border,
                },
            )| {
                let count = values.len();
                let present = |value: f64| (count > 0).then_some(value);
                let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
                Structure {
                    label,
                    name: names
                        .get(&label)
                        .cloned()
                        .unwrap_or_else(|| format!("label {label}")),
                    voxels: count as u64,
                    volume_ml: present(count as f64 * voxel_ml),
                    mean: present(sum / count.max(1) as f64),
                    median: median(&mut values),
                    touches_border,
                }
            },
        )
        .collect()
}

fn median(values: &mut [f32]) -> Option<f64> {
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    if values.is_empty() {
        return None;
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    let lower = if even {
        below.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    } else {
        upper
    };
    Some((f64::from(lower) + f64::from(upper)) / 2.0)
}
