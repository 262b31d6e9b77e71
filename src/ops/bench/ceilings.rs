//! What an adapter can do at best, measured once before any kernel: the roof of the roofline.

use super::{Work, least_seconds};
use crate::error::{Error, Result};
use crate::gpu::{COOP_TILES, Gpu, Kernel, Recorder};
use crate::ops::tile_side;
use crate::tensor::Tensor;

/// Declares a kernel that measures a ceiling: no op, so it is not one of [`crate::ops::KERNELS`]. They run without
/// bounds checks as ops do, though no op test runs them: each stays below its own `len`, or is dispatched for just
/// as many threads as `y` has rows.
macro_rules! ceiling {
    ($name:ident = $file:literal, [$($field:expr),+] $(, $tiles:expr)?) => {
        static $name: Kernel = Kernel::proven(
            $file,
            crate::gpu::kernel!(@source $file),
            &[$($field),+],
            &[],
            ceiling!(@tiles $($tiles)?),
        );
    };
    (@tiles $tiles:expr) => { $tiles };
    (@tiles) => { &[] };
}

ceiling!(COPY = "ceiling/copy", [("len", 0), ("stride", 4)]);
ceiling!(
    MULTIPLY_ADD = "ceiling/multiply_add",
    [("turns", 0), ("factor", 4)]
);
ceiling!(
    MULTIPLY_ADD_HALF = "ceiling/multiply_add_half",
    [("turns", 0), ("factor", 4)]
);
ceiling!(
    COOP = "ceiling/coop",
    [("turns", 0), ("factor", 4)],
    COOP_TILES
);
ceiling!(NOTHING = "ceiling/nothing", [("value", 0)]);

/// The kernels behind the ceilings, for the static tests.
#[doc(hidden)]
pub static CEILINGS: &[&Kernel] = &[&COOP, &COPY, &MULTIPLY_ADD, &MULTIPLY_ADD_HALF, &NOTHING];

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
    /// The same in f16, on adapters that compute in it.
    pub f16_flops_per_second: Option<f64>,
    /// Operations in a second of cooperative matrices, where the adapter was opened for them.
    pub coop_flops_per_second: Option<f64>,
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

        let dispatch = least_seconds(gpu, &|rec: &Recorder| {
            let y = Tensor::empty(rec, 4);
            rec.dispatch(&NOTHING, [1u32], &[("y", &y)], 1);
            y
        })?;
        Ok(Self {
            copy_bytes_per_second: (2 * bytes) as f64 / copy,
            f32_flops_per_second: multiply_adds(gpu, &MULTIPLY_ADD, &[1, 2, 4, 8, 16])?,
            f16_flops_per_second: match gpu.computes_half() {
                true => Some(multiply_adds(gpu, &MULTIPLY_ADD_HALF, &[2, 4, 8])?),
                false => None,
            },
            coop_flops_per_second: match gpu.coop_tile() {
                Some(tile) => Some(products_of_tiles(gpu, tile)?),
                None => None,
            },
            dispatch_seconds: dispatch,
        })
    }

    /// The least time that `work` can take by a kernel of this name, and what binds it. Those that end in `_coop`
    /// multiply on cooperative matrices, all others in f32.
    pub fn bound(&self, kernel: &str, work: Work) -> (f64, Bound) {
        let math = match self.coop_flops_per_second {
            Some(rate) if kernel.ends_with("_coop") => (work.flops as f64 / rate, Bound::Coop),
            _ => (work.flops as f64 / self.f32_flops_per_second, Bound::Math),
        };
        let by = [
            (
                work.bytes as f64 / self.copy_bytes_per_second,
                Bound::Memory,
            ),
            math,
            (self.dispatch_seconds, Bound::Launch),
        ];
        by.into_iter()
            .reduce(|a, b| if b.0 > a.0 { b } else { a })
            .expect("three bounds")
    }
}

/// Operations in a second of a kernel of multiply-adds, with the number of chains that is best.
fn multiply_adds(gpu: &Gpu, kernel: &'static Kernel, chains: &[u32]) -> Result<f64> {
    let (threads, turns) = (if gpu.is_cpu() { 1 << 15 } else { 1 << 20 }, 256u32);
    let mut best = 0f64;
    for chains in chains {
        let seconds = least_seconds(gpu, &|rec: &Recorder| {
            let y = Tensor::empty(rec, [threads, 4]);
            let params = [turns, 0.999f32.to_bits()];
            let variant = kernel.set("CHAINS", *chains);
            rec.dispatch(variant, params, &[("y", &y)], threads / 64);
            y
        })?;
        let flops = threads * turns as usize * *chains as usize * 4 * 2;
        best = best.max(flops as f64 / seconds);
    }
    Ok(best)
}

/// Operations in a second of cooperative matrices, after a look at what they computed.
fn products_of_tiles(gpu: &Gpu, tile: &'static str) -> Result<f64> {
    let lanes = gpu
        .subgroup_lanes()
        .expect("subgroups of one size, as cooperative matrices need");
    let side = tile_side(tile);
    let (groups, turns, factor) = (if gpu.is_cpu() { 64 } else { 4096 }, 256u32, 1.0 / 64.0f32);
    let run = |rec: &Recorder| {
        let y = Tensor::empty(rec, [groups, 4 * side * side]);
        let params = [turns, factor.to_bits()];
        let variant = COOP.set("LANES", lanes).set("WG", 4 * lanes).tile(tile);
        rec.dispatch(variant, params, &[("y", &y)], groups);
        y
    };
    let rec = gpu.record("bench");
    let y = run(&rec);
    // Powers of two and few of them, so exact in f16 too.
    let want = 8.0 * turns as f32 * side as f32 * factor * factor;
    if let Some(wrong) = y.read(rec)?.into_iter().find(|value| *value != want) {
        let problem = format!("products of tiles {tile} sum up to {wrong}, expected {want}");
        return Err(Error::Gpu(problem));
    }
    let seconds = least_seconds(gpu, &run)?;
    let flops = groups * 4 * 8 * turns as usize * 2 * side.pow(3);
    Ok(flops as f64 / seconds)
}

/// Which ceiling binds a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Copy bandwidth.
    Memory,
    /// The f32 multiply-add rate.
    Math,
    /// The rate of cooperative matrices.
    Coop,
    /// The cost of a dispatch.
    Launch,
}

impl Bound {
    /// As it is printed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Math => "math",
            Self::Coop => "coop",
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
            f16_flops_per_second: None,
            coop_flops_per_second: Some(8000.0),
            dispatch_seconds: 0.5,
        };
        let bound = |flops, bytes| ceilings.bound("linear", Work { flops, bytes });
        assert_eq!(bound(10, 200), (2.0, Bound::Memory));
        assert_eq!(bound(4000, 200), (4.0, Bound::Math));
        assert_eq!(bound(10, 10), (0.5, Bound::Launch));
        let coop = |flops, bytes| ceilings.bound("linear_coop", Work { flops, bytes });
        assert_eq!(coop(16_000, 100), (2.0, Bound::Coop));
        assert_eq!(coop(4000, 200), (2.0, Bound::Memory));
    }
}
