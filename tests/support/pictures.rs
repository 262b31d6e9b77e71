//! Pictures by chance.

use keraunos::tensor::Tensor;

use super::model_files::hashed;
use super::support::{gpu, pad};

/// Pictures of pixels by chance, as goldens/clip.py makes them.
pub fn pictures(size: usize, count: usize) -> Tensor {
    let picture = |n: usize| -> Vec<f32> {
        let planes = hashed(&format!("pixels{n}"), 3 * size * size);
        let pixel = |at: usize| [0, 1, 2].map(|plane| planes[plane * size * size + at]);
        (0..size * size).flat_map(pixel).collect()
    };
    let pixels: Vec<f32> = (0..count).flat_map(picture).collect();
    let pixels = pad(&pixels, 3, 4);
    Tensor::upload(gpu(), "pixels", [count, size, size, 4], &pixels).expect("memory")
}
