//! Slices in other sizes by cubic splines, as MedSAM's own program resizes them: scikit-image's `resize` with `order=3` and
//! `anti_aliasing`, which is scipy's Gaussian and `zoom`, in double precision.

use crate::pipeline::prepare::Slice;

/// The picture in `rows` × `cols` pixels, cut to whole levels.
pub(super) fn resize(picture: &Slice<u8>, [rows, cols]: [usize; 2]) -> Slice<u8> {
    let (low, high) = picture
        .data
        .iter()
        .fold((u8::MAX, 0), |(low, high), v| (low.min(*v), high.max(*v)));
    let (from_rows, from_cols) = (picture.rows, picture.cols);
    let x: Vec<f64> = picture.data.iter().map(|v| f64::from(*v)).collect();
    // Lines of an axis are made rows, so that both axes are one function.
    let down = lines(&transposed(&x, from_cols), from_rows, rows);
    let across = lines(&transposed(&down, rows), from_cols, cols);
    let level = |v: &f64| v.clamp(f64::from(low), f64::from(high)) as u8;
    Slice {
        rows,
        cols,
        data: across.iter().map(level).collect(),
    }
}

/// Columns of a picture as rows.
fn transposed(x: &[f64], cols: usize) -> Vec<f64> {
    let column = |c: usize| x.iter().skip(c).step_by(cols).copied();
    (0..cols).flat_map(column).collect()
}

/// Rows of `from` values as rows of `to`.
fn lines(x: &[f64], from: usize, to: usize) -> Vec<f64> {
    let step = from as f64 / to as f64;
    let blur = gaussian(((step - 1.0) / 2.0).max(0.0));
    let taps: Vec<(isize, [f64; 4])> = (0..to)
        .map(|n| taps((n as f64 + 0.5) * step - 0.5))
        .collect();
    let mut y = Vec::with_capacity(x.len() / from * to);
    for row in x.chunks_exact(from) {
        let mut row = blurred(row, &blur);
        prefilter(&mut row);
        y.extend(taps.iter().map(|(first, weights)| {
            let seen = weights.iter().zip(*first..);
            seen.map(|(weight, at)| weight * row[mirrored(at, from)])
                .sum::<f64>()
        }));
    }
    y
}

/// A place beyond a row's ends, mirrored about its first and last value.
fn mirrored(at: isize, len: usize) -> usize {
    let last = len as isize - 1;
    if last == 0 {
        return 0;
    }
    let at = at.rem_euclid(2 * last);
    at.min(2 * last - at) as usize
}

/// The weights of a Gaussian, four deviations to either side; one where there is none.
fn gaussian(sigma: f64) -> Vec<f64> {
    if sigma <= 1e-15 {
        return vec![1.0];
    }
    let radius = (4.0 * sigma + 0.5) as isize;
    let weight = |n: isize| (-0.5 * (n * n) as f64 / (sigma * sigma)).exp();
    let weights: Vec<f64> = (-radius..=radius).map(weight).collect();
    let all: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / all).collect()
}

fn blurred(row: &[f64], weights: &[f64]) -> Vec<f64> {
    let radius = (weights.len() / 2) as isize;
    let value = |n: usize| {
        let seen = weights.iter().zip(n as isize - radius..);
        seen.map(|(weight, at)| weight * row[mirrored(at, row.len())])
            .sum()
    };
    (0..row.len()).map(value).collect()
}

/// Values become the coefficients of the spline through them.
fn prefilter(c: &mut [f64]) {
    let n = c.len();
    if n < 2 {
        return;
    }
    let pole = 3.0_f64.sqrt() - 2.0;
    c.iter_mut()
        .for_each(|v| *v *= (1.0 - pole) * (1.0 - 1.0 / pole));
    let far = pole.powi(n as i32 - 1);
    let mut power = pole;
    c[0] += far * c[n - 1];
    for i in 1..n - 1 {
        c[0] += power * (c[i] + far * c[n - 1 - i]);
        power *= pole;
    }
    c[0] /= 1.0 - far * far;
    for i in 1..n {
        c[i] += pole * c[i - 1];
    }
    c[n - 1] = (pole * c[n - 2] + c[n - 1]) * pole / (pole * pole - 1.0);
    for i in (0..n - 1).rev() {
        c[i] = pole * (c[i + 1] - c[i]);
    }
}

/// The first coefficient that a place sees, and the weights of four.
fn taps(at: f64) -> (isize, [f64; 4]) {
    let floor = at.floor();
    let t = at - floor;
    let s = 1.0 - t;
    let inner = |t: f64| (4.0 + t * t * (3.0 * t - 6.0)) / 6.0;
    let weights = [s * s * s / 6.0, inner(t), inner(s), t * t * t / 6.0];
    (floor as isize - 1, weights)
}
