//! Pictures in other sizes, to the grey level as Pillow resizes them: image processors are defined by it.
//!
//! Columns first, then rows, each output pixel a sum over a window that widens when the picture shrinks. Weights are
//! computed in double precision and rounded to 22 bits; what lies between the two passes is rounded to whole levels.

use std::f64::consts::PI;

use crate::pipeline::prepare::Slice;

/// Bits of a weight behind the point.
const BITS: u32 = 32 - 8 - 2;

/// A way to weigh the pixels around a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A sinc in the window of a wider one, three pixels to either side.
    Lanczos,
    /// A tent, one pixel.
    Bilinear,
    /// Keys' cubic with a = -0.5, two pixels.
    Bicubic,
}

impl Filter {
    /// By its number in Pillow, and so in `preprocessor_config.json`.
    pub fn numbered(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Lanczos,
            2 => Self::Bilinear,
            3 => Self::Bicubic,
            _ => return None,
        })
    }

    /// How far it reaches, in pixels.
    fn support(self) -> f64 {
        match self {
            Self::Lanczos => 3.0,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        let sinc = |x: f64| match x {
            0.0 => 1.0,
            x => (x * PI).sin() / (x * PI),
        };
        let far = x.abs();
        match self {
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Bilinear if far < 1.0 => 1.0 - far,
            Self::Bicubic if far < 1.0 => ((A + 2.0) * far - (A + 3.0)) * far * far + 1.0,
            Self::Bicubic if far < 2.0 => (((far - 5.0) * far + 8.0) * far - 4.0) * A,
            _ => 0.0,
        }
    }
}

/// The first pixel that an output pixel sees, and the weights from there on.
struct Window {
    first: usize,
    weights: Vec<i64>,
}

/// The windows of `to` pixels along an axis of `from`.
fn windows(from: usize, to: usize, filter: Filter) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let window = |n: usize| {
        let center = (n as f64 + 0.5) * scale;
        // A cast cuts towards zero and stops at it.
        let first = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let place = |at: usize| (at as f64 - center + 0.5) * (1.0 / stretch);
        let raw: Vec<f64> = (first..end).map(|at| filter.weight(place(at))).collect();
        let all: f64 = raw.iter().sum();
        let rounded = |weight: &f64| {
            let weight = if all == 0.0 { *weight } else { weight / all };
            (weight * f64::from(1 << BITS) + 0.5_f64.copysign(weight)) as i64
        };
        Window {
            first,
            weights: raw.iter().map(rounded).collect(),
        }
    };
    (0..to).map(window).collect()
}

/// A sum as a grey level.
fn level(sum: i64) -> u8 {
    ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
}

/// The picture in `rows` × `cols` pixels.
///
/// # Panics
/// If one of the sizes is nothing.
pub fn resize(picture: &Slice<u8>, [rows, cols]: [usize; 2], filter: Filter) -> Slice<u8> {
    assert!(
        rows > 0 && cols > 0 && picture.rows > 0 && picture.cols > 0,
        "{} × {} pixels as {rows} × {cols}",
        picture.rows,
        picture.cols
    );
    let mut wide = Vec::with_capacity(picture.rows * cols);
    if cols == picture.cols {
        wide.extend(&picture.data);
    } else {
        let windows = windows(picture.cols, cols, filter);
        for row in picture.data.chunks_exact(picture.cols) {
            wide.extend(windows.iter().map(|window| {
                let seen = row[window.first..].iter().zip(&window.weights);
                level(seen.map(|(pixel, weight)| i64::from(*pixel) * weight).sum())
            }));
        }
    }
    if rows == picture.rows {
        let data = wide;
        return Slice { rows, cols, data };
    }
    let mut data = Vec::with_capacity(rows * cols);
    let mut sums = vec![0_i64; cols];
    for window in windows(picture.rows, rows, filter) {
        sums.fill(0);
        let seen = wide[window.first * cols..].chunks_exact(cols);
        for (row, weight) in seen.zip(&window.weights) {
            for (sum, pixel) in sums.iter_mut().zip(row) {
                *sum += i64::from(*pixel) * weight;
            }
        }
        data.extend(sums.iter().map(|sum| level(*sum)));
    }
    Slice { rows, cols, data }
}
