//! Floor 3: one function per operation, each with its kernel of the same stem in `kernels/`.
//!
//! An op checks shapes (and panics on a mismatch: weights were checked when they loaded), leases its
//! result, records one dispatch and returns. `ops!` lists them all; `KERNELS` is what `doctor` and
//! the static tests go through.

use crate::gpu::{Gpu, Kernel, Recorder, Variant};

macro_rules! ops {
    ($($module:ident: $($kernel:ident)|+),+ $(,)?) => {
        $(mod $module; pub use $module::*;)+

        /// Every kernel of the engine.
        pub static KERNELS: &[&Kernel] = &[$($(&$module::$kernel),+),+];
    };
}

ops! {
    add: ADD,
    argmax: ARGMAX,
    attention: ATTENTION,
    attention_broadcast: ATTENTION_BROADCAST,
    attention_coop: ATTENTION_COOP,
    attention_merge: ATTENTION_MERGE,
    attention_narrow: ATTENTION_NARROW,
    attention_spans: ATTENTION_SPANS,
    attention_split: ATTENTION_SPLIT,
    conv: CONV,
    conv_broadcast: CONV_BROADCAST,
    conv_depthwise: CONV_DEPTHWISE,
    copy_rows: COPY_ROWS,
    cross_entropy: CROSS_ENTROPY,
    embed: EMBED,
    film: FILM,
    fourier: FOURIER,
    fuse_view: FUSE_VIEW,
    gather_rows: GATHER_ROWS,
    head_norm: HEAD_NORM | HEAD_NORM_SUBGROUP,
    instance_norm: INSTANCE_NORM,
    layer_norm: LAYER_NORM | LAYER_NORM_SUBGROUP,
    linear: LINEAR,
    linear_broadcast: LINEAR_BROADCAST,
    linear_coop: LINEAR_COOP,
    linear_vec: LINEAR_VEC,
    matmul: MATMUL,
    mean_pool: MEAN_POOL,
    moments: MOMENTS,
    pack_half: PACK_HALF,
    pixel_shuffle: PIXEL_SHUFFLE,
    rel_pos: REL_POS,
    resample: RESAMPLE,
    rms_norm: RMS_NORM | RMS_NORM_SUBGROUP,
    rope_cache: ROPE_CACHE,
    slice_masks: SLICE_MASKS,
    unpack_half: UNPACK_HALF,
    windows: WINDOWS,
}

pub mod bench;
mod check;
pub mod choice;
#[doc(hidden)]
pub mod naive;

pub use check::{KernelCheck, self_check};

/// What follows a product, in its kernel's epilogue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None = 0,
    /// `v · (1 + erf(v / √2)) / 2`.
    Gelu = 1,
    /// `max(v, 0)`.
    Relu = 2,
    /// `v / (1 + e⁻ᵛ)`.
    Silu = 3,
    /// `1 / (1 + e⁻ᵛ)`.
    Sigmoid = 4,
    /// `v · (1 + tanh(√(2 / π) · (v + 0.044715 v³))) / 2`, the usual approximation of `Gelu`.
    GeluTanh = 5,
    /// `v / (1 + e^(-1.702 v))`, a coarser one.
    QuickGelu = 6,
    /// `v` above zero, `eᵛ - 1` below.
    Elu = 7,
    /// `tanh(v)`.
    Tanh = 8,
}

/// Threads of a workgroup in kernels that do one thing per thread, `override WG`'s default.
const WG: usize = 64;

/// Workgroups for `threads` threads.
fn groups(threads: usize) -> usize {
    threads.div_ceil(WG)
}

/// Threads of a workgroup in kernels whose threads do much or share a row: one vector's worth on a
/// CPU adapter, where more only make the grid coarser.
fn light_threads(gpu: &Gpu) -> u32 {
    if gpu.is_cpu() { 8 } else { 64 }
}

/// Workgroups of [`light_threads`] for `threads` threads.
fn light_groups(rec: &Recorder, threads: usize) -> usize {
    threads.div_ceil(light_threads(rec.gpu()) as usize)
}

/// Lanes that share a row in the norms: a CPU adapter wants none to, a GPU many.
const TEAM: u32 = 32;

/// A norm's kernel with as many lanes to a row as the adapter wants: `by_subgroup` where a GPU's subgroups hold a row's
/// lanes, `plain` elsewhere.
fn row_team(gpu: &Gpu, plain: &'static Kernel, by_subgroup: &'static Kernel) -> Variant {
    match team_lanes(gpu) {
        Some(lanes) if gpu.trusts(by_subgroup) => team(gpu, by_subgroup, lanes),
        _ => plain_team(gpu, plain),
    }
}

/// The kernel that needs no subgroups, likewise.
fn plain_team(gpu: &Gpu, plain: &'static Kernel) -> Variant {
    team(gpu, plain, if gpu.is_cpu() { 1 } else { TEAM })
}

/// A norm's kernel with so many lanes to a row.
fn team(gpu: &Gpu, kernel: &'static Kernel, lanes: u32) -> Variant {
    kernel.set("LANES", lanes).set("WG", light_threads(gpu))
}

/// Workgroups of such a kernel for `rows` rows.
fn team_groups(team: &Variant, rows: usize) -> usize {
    rows.div_ceil((team.value("WG") / team.value("LANES")) as usize)
}

/// The lanes of a row on a GPU that are of one subgroup whatever the subgroup's size, 8 or more.
fn team_lanes(gpu: &Gpu) -> Option<u32> {
    let fewest = gpu.fewest_subgroup_lanes()?;
    (!gpu.is_cpu() && fewest >= 8 && fewest.is_power_of_two()).then(|| fewest.min(TEAM))
}

/// The lanes of a subgroup that can hand round what one of them loads: 8 or more, the same in every subgroup.
fn shared_lanes(gpu: &Gpu) -> Option<u32> {
    gpu.subgroup_lanes()
        .filter(|lanes| *lanes >= 8 && WG.is_multiple_of(*lanes as usize))
}

/// The same where the `_broadcast` kernels are taken unless a measurement says otherwise: on a CPU adapter, whose loads
/// are loops over the lanes.
fn broadcasts(gpu: &Gpu) -> Option<u32> {
    shared_lanes(gpu).filter(|_| gpu.is_cpu())
}

/// Up to so many subgroups each is a workgroup: of a few large ones the last leaves cores idle.
const MOST_ALONE: usize = 1024;

/// A `_broadcast` kernel's variant with the size of its workgroups, and their number: as it has it, or one subgroup to each.
fn subgroup_groups(variant: Variant, lanes: u32, subgroups: usize) -> (Variant, usize) {
    let threads = match subgroups {
        0..=MOST_ALONE => lanes,
        _ => variant.value("WG"),
    };
    let groups = (subgroups * lanes as usize).div_ceil(threads as usize);
    (variant.set("WG", threads), groups)
}

/// Kernels that are there for speed alone, each with the plain one that its op takes instead where the self-check
/// finds it wrong.
pub static STAND_INS: &[(&Kernel, &Kernel)] = &[
    (&ATTENTION_BROADCAST, &ATTENTION),
    (&ATTENTION_COOP, &ATTENTION),
    (&ATTENTION_MERGE, &ATTENTION_SPANS),
    (&ATTENTION_NARROW, &ATTENTION),
    (&ATTENTION_SPLIT, &ATTENTION_SPANS),
    (&CONV_BROADCAST, &CONV),
    (&HEAD_NORM_SUBGROUP, &HEAD_NORM),
    (&LAYER_NORM_SUBGROUP, &LAYER_NORM),
    (&LINEAR_BROADCAST, &LINEAR),
    (&LINEAR_COOP, &LINEAR),
    (&LINEAR_VEC, &LINEAR),
    (&RMS_NORM_SUBGROUP, &RMS_NORM),
];
