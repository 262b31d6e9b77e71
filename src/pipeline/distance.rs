//! How far every place of a grid is from the nearest marked one, exactly.

use rayon::prelude::*;

/// What one line needs while it is worked on.
#[derive(Default)]
struct Scratch {
    /// The line as it came.
    before: Vec<f64>,
    /// The places whose parabolas make the lower envelope.
    places: Vec<usize>,
    /// Where each of them begins to be the lowest, in places.
    begins: Vec<f64>,
}

/// The squared Euclidean distance, in mm², from each place of a grid to the nearest place that
/// `is_marked`; infinite everywhere where none is.
///
/// Places count with the first axis fastest and are `spacing` mm apart. One axis after the
/// other, each line is the lower envelope of the parabolas that stand on its places: Felzenszwalb
/// and Huttenlocher, *Distance Transforms of Sampled Functions*, 2012. Linear in the number of
/// places, parallel over lines.
pub fn squared_distances(
    shape: [usize; 3],
    spacing: [f64; 3],
    is_marked: impl Fn(usize) -> bool + Sync,
) -> Vec<f64> {
    let count = shape.iter().product();
    let mut field: Vec<f64> = (0..count)
        .into_par_iter()
        .map(|place| if is_marked(place) { 0.0 } else { f64::INFINITY })
        .collect();
    // Each pass works along the fastest axis; three turns bring the axes back to their places.
    let mut shape = shape;
    for step in spacing {
        if field.is_empty() {
            break;
        }
        field
            .par_chunks_mut(shape[0])
            .for_each_init(Scratch::default, |scratch, line| {
                lower_envelope(line, step, scratch);
            });
        field = turned(&field, shape);
        shape = [shape[1], shape[2], shape[0]];
    }
    field
}

/// The same field with its first axis slowest.
fn turned(field: &[f64], [nx, ny, nz]: [usize; 3]) -> Vec<f64> {
    let mut out = vec![0.0; field.len()];
    out.par_chunks_mut(ny).enumerate().for_each(|(line, out)| {
        let (z, x) = (line % nz, line / nz);
        for (y, out) in out.iter_mut().enumerate() {
            *out = field[x + nx * (y + ny * z)];
        }
    });
    out
}

/// `line[q] = min over p of line[p] + ((q - p) · step)²`.
fn lower_envelope(line: &mut [f64], step: f64, scratch: &mut Scratch) {
    let Scratch {
        before,
        places,
        begins,
    } = scratch;
    if line.iter().all(|value| value.is_infinite()) {
        return;
    }
    before.clear();
    before.extend_from_slice(line);
    places.clear();
    begins.clear();
    let square = step * step;
    for (q, value) in before.iter().enumerate() {
        if value.is_infinite() {
            continue;
        }
        // The parabola of q crosses that of the last place here; what it undercuts at once goes.
        let begin = loop {
            let Some(&p) = places.last() else {
                break f64::NEG_INFINITY;
            };
            let apart = (q - p) as f64;
            let middle = (q + p) as f64 / 2.0;
            let crossing = (value - before[p]) / (2.0 * square * apart) + middle;
            if crossing > begins[places.len() - 1] {
                break crossing;
            }
            places.pop();
            begins.pop();
        };
        places.push(q);
        begins.push(begin);
    }
    let mut at = 0;
    for (q, out) in line.iter_mut().enumerate() {
        while begins.get(at + 1).is_some_and(|begin| *begin < q as f64) {
            at += 1;
        }
        let away = (q as f64 - places[at] as f64) * step;
        *out = before[places[at]] + away * away;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every place against every marked place.
    fn naive(shape: [usize; 3], spacing: [f64; 3], marked: &[bool]) -> Vec<f64> {
        let [nx, ny, _] = shape;
        let point = |place: usize| {
            let at = [place % nx, place / nx % ny, place / (nx * ny)];
            [0, 1, 2].map(|axis| at[axis] as f64 * spacing[axis])
        };
        let nearest = |from: [f64; 3]| {
            let distances = (0..marked.len()).filter(|place| marked[*place]).map(|to| {
                let to = point(to);
                (0..3).map(|axis| (from[axis] - to[axis]).powi(2)).sum()
            });
            distances.fold(f64::INFINITY, f64::min)
        };
        (0..marked.len())
            .map(|place| nearest(point(place)))
            .collect()
    }

    #[test]
    fn distances_are_those_of_the_nearest_marked_place() {
        for shape in [[1, 1, 1], [1, 7, 1], [5, 1, 9], [13, 8, 6], [3, 17, 2]] {
            for spacing in [[1.0; 3], [0.9375, 0.9375, 3.0], [2.0, 0.1, 1.25]] {
                for sparse in [1, 2, 11, 97, 100_000] {
                    let marked: Vec<bool> = (0..shape.iter().product::<usize>())
                        .map(|place| ((place * 2_654_435_761) >> 7) % sparse == 1 % sparse)
                        .collect();
                    let found = squared_distances(shape, spacing, |place| marked[place]);
                    let want = naive(shape, spacing, &marked);
                    for (found, want) in found.iter().zip(&want) {
                        // Sums of three squares of one order: a few roundings apart.
                        let same = found == want || (found - want).abs() <= 1e-12 * want;
                        assert!(same, "{shape:?} {spacing:?} {sparse}: {found} for {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_grid_without_places_has_no_distances() {
        assert!(squared_distances([0, 4, 4], [1.0; 3], |_| true).is_empty());
    }
}
