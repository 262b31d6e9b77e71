//! Slices of a volume as pictures of grey levels.

use crate::pipeline::prepare::{Prepared, Slice, View, normalise};

/// `count` slices of a view, spread evenly about its middle and each with its index: one is the middle slice. Fewer, where the
/// view has fewer.
///
/// Grey levels run from the 0.5th to the 99.5th percentile of the slice.
pub fn pictures(prepared: &Prepared, view: View, count: usize) -> Vec<(usize, Slice<u8>)> {
    places(prepared, view, count)
        .map(|index| {
            let mut slice = prepared.slice(view, index);
            normalise(&mut slice.data);
            let levels = slice.data.iter().map(|v| (255.0 * v).round() as u8);
            let picture = Slice {
                rows: slice.rows,
                cols: slice.cols,
                data: levels.collect(),
            };
            (index, picture)
        })
        .collect()
}

/// The indices of `count` slices of a view, spread evenly about its middle; of all, where the view has fewer.
pub fn places(prepared: &Prepared, view: View, count: usize) -> impl Iterator<Item = usize> {
    let all = prepared.slices(view);
    let count = count.min(all);
    (0..count).map(move |n| (2 * n + 1) * all / (2 * count))
}
