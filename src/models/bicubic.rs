//! Squares of rows resized on the host, bicubically as PyTorch's `interpolate`, in double precision: positions while weights load,
//! and a small map of logits.

/// PyTorch's parameter of the cubic.
const A: f64 = -0.75;

/// A square of `from` × `from` rows of `dim` values in `to` × `to`; `corners` says whether the corner pixels' middles are the
/// corners of both (`align_corners`).
pub(super) fn bicubic(grid: &[f32], from: usize, to: usize, dim: usize, corners: bool) -> Vec<f32> {
    if from == to {
        return grid.to_vec();
    }
    let places = places(from, to, corners);
    let width = from * dim;
    let mut all = Vec::with_capacity(to * to * dim);
    let (mut line, mut sums) = (vec![0.0_f64; width], vec![0.0_f64; dim]);
    for rows in &places {
        line.fill(0.0);
        for (row, share) in rows {
            let values = &grid[row * width..][..width];
            for (sum, value) in line.iter_mut().zip(values) {
                *sum += share * f64::from(*value);
            }
        }
        for columns in &places {
            sums.fill(0.0);
            for (column, share) in columns {
                for (sum, value) in sums.iter_mut().zip(&line[column * dim..]) {
                    *sum += share * value;
                }
            }
            all.extend(sums.iter().map(|sum| *sum as f32));
        }
    }
    all
}

/// Of each place four neighbours, those beyond the edge being the edge, and their shares.
fn places(from: usize, to: usize, corners: bool) -> Vec<[(usize, f64); 4]> {
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    let last = from as f64 - 1.0;
    let place = |n: usize| {
        let at = match corners {
            true => n as f64 * last / (to.max(2) - 1) as f64,
            false => (n as f64 + 0.5) * from as f64 / to as f64 - 0.5,
        };
        let (low, t) = (at.floor(), at - at.floor());
        let shares = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        std::array::from_fn(|k| {
            let neighbour = (low + k as f64 - 1.0).clamp(0.0, last);
            (neighbour as usize, shares[k])
        })
    };
    (0..to).map(place).collect()
}
