//! A kernel of your own among the engine's: `cargo run --release --example add_a_kernel`.
//!
//! The WGSL beside this file is the only declaration: `kernel!` checks nothing twice. Bindings are found
//! by their names, `Params` is laid out as WGSL does, and a kernel from outside the engine always runs
//! with bounds checks.

use keraunos::gpu::{Gpu, GpuOptions, Recorder};
use keraunos::ops::add;
use keraunos::tensor::Tensor;

keraunos::kernel! {
    /// `y = (x − low) / (high − low)`, kept between 0 and 1.
    WINDOW = "add_a_kernel.wgsl"; { len: u32, low: f32, high: f32 }
}

/// Intensities as a display window shows them.
fn window(rec: &Recorder, x: &Tensor, low: f32, high: f32) -> Tensor {
    let y = Tensor::empty(rec, x.shape());
    let params = Params {
        len: x.len() as u32,
        low,
        high,
    };
    rec.dispatch(
        &WINDOW,
        params,
        &[("x", x), ("y", &y)],
        x.len().div_ceil(64),
    );
    y
}

fn main() -> keraunos::Result<()> {
    let gpu = Gpu::open(&GpuOptions::default())?;
    // Hounsfield units: air, fat, water, brain, blood, bone.
    let units = [-1000f32, -90.0, 0.0, 37.0, 60.0, 800.0, 40.0, 20.0];
    let x = Tensor::upload(&gpu, "units", units.len(), &units)?;
    // One recording, one submission: an op of the engine's takes what ours has made.
    let rec = gpu.record("window");
    let shown = window(&rec, &x, 0.0, 80.0);
    let doubled = add(&rec, &shown, &shown);
    let values = doubled.read(rec)?;
    for (unit, value) in units.iter().zip(&values) {
        println!("{unit:>6} HU  {value:.4}");
        assert!((value - 2.0 * (unit / 80.0).clamp(0.0, 1.0)).abs() < 1e-6);
    }
    Ok(())
}
