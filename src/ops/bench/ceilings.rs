//! What an adapter can do at best, measured once before any kernel: the roof of the roofline.

use super::{Work, least_seconds};
use crate::error::Result;
use crate::gpu::{Gpu, Kernel, Recorder};
use crate::tensor::Tensor;

/// Declares a kernel that measures a ceiling: no op, so it is not one of [`crate::ops::KERNELS`]. They run without
/// bounds checks as ops do, though no op test runs them: each stays below its own `len`, or is dispatched for just
/// as many threads as `y` has rows.
macro_rules! ceiling {
    ($name:ident = $file:literal, [$($field:expr),+]) => {
        static $name: Kernel = Kernel::proven(
            $file,
            crate::gpu::kernel!(@source $file),
            &[$($field),+],
            &[],
            &[],
        );
    };
}

ceiling!(COPY = "ceiling/copy", [("len", 0), ("stride", 4)]);
ceiling!(
    MULTIPLY_ADD = "ceiling/multiply_add",
    [("turns", 0), ("factor", 4)]
);
ceiling!(NOTHING = "ceiling/nothing", [("value", 0)]);

/// The kernels behind the ceilings, for the static tests.
#[doc(hidden)]
pub static CEILINGS: &[&Kernel] = &[&COPY, &MULTIPLY_ADD, &NOTHING];

/// Bytes of the copy's source: beyond the caches of any adapter.
const COPY_BYTES: usize = 256 << 20;
/// Workgroups of the copy, of 64 threads: enough for any adapter, and within every limit.
const COPY_GROUPS: usize = 1 << 14;
/// On a CPU adapter a quarter of it is already beyond them.
const CPU_COPY_BYTES: usize = 64 << 20;

/// What binds a kernel.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Ceilings {
    /// Bytes read and written in a second by a copy larger than the caches.
    pub copy_bytes_per_second: f64,
    /// f32 operations in a second, a multiply-add counting two, in registers.
    pub f32_flops_per_second: f64,
    /// Seconds that one dispatch among many costs which does nothing.
    pub dispatch_seconds: f64,
}

impl Ceilings {
    /// Measures them, in a second or two.
    ///
    /// # Errors
    /// Those of the adapter.
    pub fn measure(gpu: &Gpu) -> Result<Self> {
        let bytes = match gpu.is_cpu() {
            true => CPU_COPY_BYTES,
            false => COPY_BYTES.min(gpu.summary().max_binding_bytes as usize),
        };
        let quads = bytes / 16;
        let x = Tensor::upload(gpu, "bench", [quads, 4], &vec![1f32; 4 * quads])?;
        let copy = least_seconds(gpu, &|rec: &Recorder| {
            let y = Tensor::empty(rec, [quads, 4]);
            let groups = quads.div_ceil(64).min(COPY_GROUPS);
            let params = [quads as u32, 64 * groups as u32];
            rec.dispatch(&COPY, params, &[("x", &x), ("y", &y)], groups);
            y
        })?;

        let (threads, turns) = (if gpu.is_cpu() { 1 << 15 } else { 1 << 20 }, 256u32);
        let mut flops_per_second = 0f64;
        for chains in [1, 2, 4, 8, 16] {
            let seconds = least_seconds(gpu, &|rec: &Recorder| {
                let y = Tensor::empty(rec, [threads, 4]);
                let params = [turns, 0.999f32.to_bits()];
                let variant = MULTIPLY_ADD.set("CHAINS", chains);
                rec.dispatch(variant, params, &[("y", &y)], threads / 64);
                y
            })?;
            let flops = threads * turns as usize * chains as usize * 4 * 2;
            flops_per_second = flops_per_second.max(flops as f64 / seconds);
        }

        let dispatch = least_seconds(gpu, &|rec: &Recorder| {
            let y = Tensor::empty(rec, 4);
            rec.dispatch(&NOTHING, [1u32], &[("y", &y)], 1);
            y
        })?;
        Ok(Self {
            copy_bytes_per_second: (2 * bytes) as f64 / copy,
            f32_flops_per_second: flops_per_second,
            dispatch_seconds: dispatch,
        })
    }

    /// The least time that `work` can take, and what binds it.
    pub fn bound(&self, work: Work) -> (f64, Bound) {
        let by = [
            (
                work.bytes as f64 / self.copy_bytes_per_second,
                Bound::Memory,
            ),
            (work.flops as f64 / self.f32_flops_per_second, Bound::Math),
            (self.dispatch_seconds, Bound::Launch),
        ];
        by.into_iter()
            .reduce(|a, b| if b.0 > a.0 { b } else { a })
            .expect("three bounds")
    }
}

/// Which ceiling binds a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Copy bandwidth.
    Memory,
    /// The f32 multiply-add rate.
    Math,
    /// The cost of a dispatch.
    Launch,
}

impl Bound {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Math => "math",
            Self::Launch => "launch",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_of_three_binds() {
        let ceilings = Ceilings {
            copy_bytes_per_second: 100.0,
            f32_flops_per_second: 1000.0,
            dispatch_seconds: 0.5,
        };
        let bound = |flops, bytes| ceilings.bound(Work { flops, bytes });
        assert_eq!(bound(10, 200), (2.0, Bound::Memory));
        assert_eq!(bound(4000, 200), (4.0, Bound::Math));
        assert_eq!(bound(10, 10), (0.5, Bound::Launch));
    }
}
