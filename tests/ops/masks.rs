//! Masks of slices, and their fusion.

use super::*;

#[test]
fn slice_masks_at_every_edge() {
    // slices, prompts, channels, pixels, first, slices of y
    for [slices, prompts, channels, count, first, all] in [
        [1, 1, 8, 4, 0, 1],
        [2, 3, 8, 12, 1, 4],
        [3, 2, 32, 252, 0, 3],
        [1, 5, 32, 260, 2, 3],
        [2, 1, 24, 1024, 0, 2],
    ] {
        let mut random = Random::new((channels * count) as u64);
        let stride = channels + 4;
        let hyper = random.values(slices * prompts * stride);
        let pixels: Vec<f32> = random
            .values(slices * count * channels)
            .iter()
            .map(|v| half::f16::from_f32(*v).to_f32())
            .collect();
        // Every run of neighbouring prompts that one dispatch may take.
        let runs = (0..prompts).flat_map(|start| (start + 1..=prompts).map(move |end| start..end));
        for wanted in runs.filter(|run| run.len() <= MOST_MASKS) {
            let before = random.values(wanted.len() * all * count);
            let mut want = before.clone();
            let shape = [slices, prompts, stride];
            let to = (&mut want[..], first);
            naive::slice_masks(&hyper, shape, &pixels, channels, wanted.clone(), to);
            let rec = gpu().record("slice_masks");
            let hyper = staged(&rec, shape, &hyper);
            let packed = naive::pack_half(&pixels);
            let packed = upload(packed.len(), &packed);
            let y = upload([wanted.len(), all, count], &before);
            slice_masks(&rec, &hyper, &packed, channels, wanted, &y, first);
            close(&read::<f32>(rec, &[&y])[0], &want, 1e-5, 1e-5);
        }
    }
}

#[test]
fn fuse_view_from_all_sides() {
    // Up to mean logits, and before they are divided, when the weights still count.
    for divides in [true, false] {
        check_fuse_view(divides);
    }
}

fn check_fuse_view(divides: bool) {
    let [size_z, size_y, size_x] = [5, 7, 70];
    let size = [size_x, size_y, size_z];
    let (prompts, prompt, limit) = (2, 1, 1.5);
    // A window smaller than the slice, one that just holds it, one that it is centred in.
    for (height, width, row_offset, column_offset) in
        [(2, 1, -1, -2), (4, 4, 0, 0), (5, 6, 2, 3), (3, 3, 1, -1)]
    {
        let mut random = Random::new((height * 10 + width) as u64);
        let before = random.values(size_x * size_y * size_z);
        let (mut want_sum, mut want_weight) = (before.clone(), before.clone());
        let rec = gpu().record("fuse_view");
        let sum = upload([size_z, size_y, size_x], &before);
        let weight = upload([size_z, size_y, size_x], &before);
        // axial, coronal, sagittal; the last speaks for one half only
        let views = [
            (2, 0, 0..size_z),
            (1, 0, 0..size_y),
            (0, 1, 0..size_x),
            (0, 1, 2..4),
        ];
        for (n, (axis, column_axis, slices)) in views.iter().cloned().enumerate() {
            let place = Placement {
                axis,
                column_axis,
                row_offset,
                column_offset,
                slices,
            };
            let x: Vec<f32> = random
                .values(size[axis] * height * width)
                .iter()
                .map(|v| 3.0 * v)
                .collect();
            let quality: Vec<f32> = random
                .values(size[axis] * prompts * 4)
                .iter()
                .map(|v| v.abs())
                .collect();
            let ends = (n == 0, divides && n + 1 == views.len());
            naive::fuse_view(
                &x,
                [height, width],
                &quality,
                (prompts, prompt),
                &place,
                f64::from(limit),
                [size_z, size_y, size_x],
                (&mut want_sum, &mut want_weight),
                ends,
            );
            // The masks of another prompt before them.
            let other = vec![7.0; x.len()];
            let x = upload([2, size[axis], height, width], &[other, x].concat());
            let quality = upload([size[axis], prompts, 4], &quality);
            fuse_view(
                &rec,
                (&x, 1),
                (&quality, prompt),
                &place,
                limit,
                (&sum, &weight),
                ends,
            );
        }
        let got = read::<f32>(rec, &[&sum, &weight]);
        close(&got[0], &want_sum, 1e-5, 1e-5);
        if !divides {
            close(&got[1], &want_weight, 1e-6, 1e-5);
        }
    }
}
