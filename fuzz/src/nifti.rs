//! A NIfTI volume, plain, compressed, or a header and its voxels in two files.

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use keraunos::Result;
use keraunos::pipeline::geometry::{self, Grid};
use keraunos::pipeline::prepare::Prepared;
use keraunos::pipeline::volume::{Labels, Volume, read_grid, write_labels};

use super::files::Folder;

/// Volumes with more voxels, or cubic millimetres, are not resampled or written: it would only take longer.
const MOST: f64 = 65536.0;

/// Reads it as a scan and, compressed here so that a change reaches what is inside, as a label map.
pub fn read(bytes: &[u8]) -> Result<()> {
    let Some(at) = pair(bytes) else {
        return read_volume(bytes, "nii", "nii.gz");
    };
    let folder = Folder::new();
    folder.file("scan.img", &bytes[at..]);
    let scan = folder.file("scan.hdr", &bytes[..at]);
    folder.file("map.img.gz", &compressed(&bytes[at..]));
    let map = folder.file("map.hdr.gz", &compressed(&bytes[..at]));
    look(&folder, &scan, &map)
}

/// The same of a volume in one file, which is called by one suffix plain and by the other compressed.
pub(crate) fn read_volume(bytes: &[u8], plain: &str, packed: &str) -> Result<()> {
    let folder = Folder::new();
    let scan = folder.file(&format!("scan.{plain}"), bytes);
    let map = folder.file(&format!("map.{packed}"), &compressed(bytes));
    look(&folder, &scan, &map)
}

/// Reads a scan and a label map.
pub(crate) fn look(folder: &Folder, scan: &Path, map: &Path) -> Result<()> {
    let grid = read_grid(scan);
    let volume = Volume::read(scan);
    if let Ok(volume) = &volume {
        assert!(grid.is_ok_and(|grid| grid == volume.grid()), "another grid");
        check(volume, &folder.path().join("again.nii.gz"));
    }
    let labels = Labels::read(map);
    if let Ok(labels) = &labels {
        assert_eq!(labels.data.len(), labels.grid().len());
    }
    volume.map(drop).or(labels.map(drop))
}

/// Where the voxels of a pair begin in an input: behind the header and four more bytes.
fn pair(bytes: &[u8]) -> Option<usize> {
    let one = bytes.get(344..348) == Some(b"ni1\0");
    let two = bytes.get(4..8) == Some(b"ni2\0");
    let at = if one { 352 } else { 544 };
    ((one || two) && bytes.len() > at).then_some(at)
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// What holds of an accepted volume: a value for each voxel, a place that is invertible, and labels written on its grid that
/// come back as they were.
fn check(volume: &Volume, path: &Path) {
    let grid = volume.grid();
    assert_eq!(volume.data.len(), grid.len());
    assert!(volume.data.iter().all(|value| value.is_finite()));
    assert!(
        geometry::inverse(&grid.affine).is_some(),
        "{:?}",
        grid.affine
    );
    let _ = (grid.orientation().letters(), grid.canonical());
    if grid.len() as f64 > MOST {
        return;
    }
    write_labels(path, volume, &few(volume), &[(1, "one".to_owned())].into()).expect("memory");
    let again = Labels::read(path).expect("what was written is sound");
    assert_eq!(again.data, few(volume), "other labels");
    assert!(is_kept(&grid, &again.grid()), "another place");
    let extent: f64 = (0..3)
        .map(|axis| grid.shape[axis] as f64 * grid.voxel_sizes()[axis])
        .product();
    if extent <= MOST {
        let _ = Prepared::new(volume)
            .map(|prepared| prepared.restore_labels(&vec![1_u8; prepared.grid.len()]));
    }
}

/// Whether a grid is another as NIfTI keeps it: what other formats say in double precision is rounded to single.
fn is_kept(grid: &Grid, again: &Grid) -> bool {
    let rounded = |value: f64| f64::from(value as f32);
    let elements = grid.affine.iter().flatten();
    let pairs = elements.zip(again.affine.iter().flatten());
    grid.shape == again.shape && { pairs }.all(|(a, b)| a == b || rounded(*a) == *b)
}

/// Some label for each voxel.
fn few(volume: &Volume) -> Vec<u32> {
    (0..volume.data.len() as u32).map(|n| n % 3).collect()
}
