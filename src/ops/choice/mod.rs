//! Which kernel and which tile a product takes: what its class begins with, or what was measured to be faster here.
//!
//! Products that want the same tile are a class. The candidates of a class share the work out differently, but each
//! output is the same sum of the same products in the same order in all of them, so their results are equal to the bit
//! and a choice changes nothing but time. `tests/ops/linear.rs` compares them so at awkward sizes, and [`measure`] once more on
//! the adapter it measures: a driver that fuses differently in two kernels loses one of them, and no mask changes.

mod measure;

pub use measure::{Measured, Timed, measure};

use crate::gpu::{Gpu, Kernel, Variant};
use crate::ops::{
    CONV, CONV_BROADCAST, LINEAR, LINEAR_BROADCAST, LINEAR_VEC, broadcasts, shared_lanes,
};

/// Products that want the same tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A linear layer.
    Linear(Rows, Format),
    /// A convolution of up to `NARROW_PANELS` panels of output channels.
    ConvNarrow,
    /// A convolution of more.
    ConvWide,
}

/// How much a linear layer gives an adapter to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// One row or two, by `linear_vec`.
    One,
    /// Up to four rows.
    Four,
    /// Up to eight.
    Eight,
    /// More, in fewer than `LARGE` tiles of 8 rows by 8 columns: a GPU with many cores idles.
    Small,
    /// More tiles.
    Large,
}

/// What a thread does to a weight before it multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Little: f32, f16, bf16.
    Float,
    /// Much: the formats of quants in blocks.
    Quants,
}

/// Tiles of 8 rows by 8 columns from which a product is large.
const LARGE: usize = 8192;
/// Panels of 8 output channels up to which a convolution is narrow.
const NARROW_PANELS: usize = 4;

impl Class {
    /// All of them.
    pub const ALL: [Self; 12] = {
        use Format::{Float, Quants};
        [
            Self::Linear(Rows::One, Float),
            Self::Linear(Rows::One, Quants),
            Self::Linear(Rows::Four, Float),
            Self::Linear(Rows::Four, Quants),
            Self::Linear(Rows::Eight, Float),
            Self::Linear(Rows::Eight, Quants),
            Self::Linear(Rows::Small, Float),
            Self::Linear(Rows::Small, Quants),
            Self::Linear(Rows::Large, Float),
            Self::Linear(Rows::Large, Quants),
            Self::ConvNarrow,
            Self::ConvWide,
        ]
    };

    /// The class of a linear layer with a tile of rows in each thread: `few` says that it has one row or two for
    /// `linear_vec`.
    pub(super) fn linear(rows: usize, panels: usize, format: &str, few: bool) -> Self {
        let amount = match rows {
            _ if few => Rows::One,
            ..=4 => Rows::Four,
            5..=8 => Rows::Eight,
            _ if rows.div_ceil(8) * panels < LARGE => Rows::Small,
            _ => Rows::Large,
        };
        let float = matches!(format, "f32" | "f16" | "bf16");
        Self::Linear(amount, if float { Format::Float } else { Format::Quants })
    }

    /// The class of a convolution.
    pub(super) fn conv(panels: usize) -> Self {
        match panels {
            ..=NARROW_PANELS => Self::ConvNarrow,
            _ => Self::ConvWide,
        }
    }

    /// Its name in tables and in what is remembered.
    pub fn name(self) -> &'static str {
        use Format::{Float, Quants};
        match self {
            Self::Linear(Rows::One, Float) => "linear, 1 or 2 rows, float",
            Self::Linear(Rows::One, Quants) => "linear, 1 or 2 rows, quants",
            Self::Linear(Rows::Four, Float) => "linear, up to 4 rows, float",
            Self::Linear(Rows::Four, Quants) => "linear, up to 4 rows, quants",
            Self::Linear(Rows::Eight, Float) => "linear, up to 8 rows, float",
            Self::Linear(Rows::Eight, Quants) => "linear, up to 8 rows, quants",
            Self::Linear(Rows::Small, Float) => "linear, small, float",
            Self::Linear(Rows::Small, Quants) => "linear, small, quants",
            Self::Linear(Rows::Large, Float) => "linear, large, float",
            Self::Linear(Rows::Large, Quants) => "linear, large, quants",
            Self::ConvNarrow => "conv, narrow",
            Self::ConvWide => "conv, wide",
        }
    }

    /// What this class may be computed by on an adapter, all to the same bits; first what is taken without a
    /// measurement.
    pub fn candidates(self, gpu: &Gpu) -> Vec<Variant> {
        let broadcasts_first = broadcasts(gpu).is_some();
        // What makes no difference to a CPU adapter is not compiled there: a program costs it a fifth of a second.
        let groups: &[u32] = match gpu.is_cpu() {
            true => &[64],
            false => &[64, 32, 128, 256],
        };
        let (tile, broadcast) = match self {
            Self::Linear(Rows::One, _) => {
                let groups: &[u32] = match gpu.is_cpu() {
                    true => &[8, 64],
                    false => &[64, 32, 128, 256],
                };
                return each(&LINEAR_VEC, groups, None, &[]);
            }
            // Half a tile would be idle.
            Self::Linear(Rows::Four, _) => (
                each(&LINEAR, groups, Some("ROWS"), &[4, 8]),
                each(&LINEAR_BROADCAST, &[64], Some("TALL"), &[0]),
            ),
            Self::Linear(Rows::Eight, _) => (
                each(&LINEAR, groups, Some("ROWS"), &[8, 4]),
                each(&LINEAR_BROADCAST, &[64], Some("TALL"), &[0]),
            ),
            Self::Linear(..) => (
                each(&LINEAR, groups, Some("ROWS"), &[8, 4]),
                each(&LINEAR_BROADCAST, &[64], Some("TALL"), &[1, 0]),
            ),
            Self::ConvNarrow | Self::ConvWide => (
                each(&CONV, groups, Some("ROWS"), &[8, 4]),
                each(&CONV_BROADCAST, &[64], None, &[]),
            ),
        };
        let usable = |variants: Vec<Variant>| {
            let shares = shared_lanes(gpu).is_some();
            variants
                .into_iter()
                .filter(move |v| shares || !v.kernel.name.ends_with("_broadcast"))
                .filter(|v| gpu.trusts(v.kernel))
        };
        match broadcasts_first {
            true => usable(broadcast).chain(usable(tile)).collect(),
            false => usable(tile).chain(usable(broadcast)).collect(),
        }
    }

    /// What it is computed by on this adapter: as was chosen, else as it begins.
    pub(super) fn plan(self, gpu: &Gpu) -> Variant {
        let chosen = gpu.choice(self.name());
        chosen
            .filter(|variant| gpu.trusts(variant.kernel))
            .unwrap_or_else(|| self.candidates(gpu).swap_remove(0))
    }

    /// Takes the candidate of this label from now on; false, and no change, if there is none.
    pub fn choose(self, gpu: &Gpu, label: &str) -> bool {
        let mut candidates = self.candidates(gpu).into_iter();
        let found = candidates.find(|candidate| candidate.label() == label);
        if let Some(found) = found.clone() {
            gpu.choose(self.name(), found);
        }
        found.is_some()
    }
}

/// A kernel with workgroups of each size and each value of another override.
fn each(
    kernel: &'static Kernel,
    groups: &[u32],
    name: Option<&'static str>,
    values: &[u32],
) -> Vec<Variant> {
    let sized = groups.iter().map(|threads| kernel.set("WG", *threads));
    match name {
        None => sized.collect(),
        Some(name) => sized
            .flat_map(|variant| values.iter().map(move |v| variant.clone().set(name, *v)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuOptions;

    #[test]
    fn every_class_has_a_name_and_candidates_of_its_own() {
        let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
        let mut names = Vec::new();
        for class in Class::ALL {
            let mut labels: Vec<String> =
                class.candidates(&gpu).iter().map(Variant::label).collect();
            assert!(!labels.is_empty(), "{class:?}");
            let count = labels.len();
            labels.sort();
            labels.dedup();
            assert_eq!(labels.len(), count, "{class:?}");
            names.push(class.name());
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Class::ALL.len());
    }

    #[test]
    fn a_choice_is_one_of_the_candidates_and_trusted() {
        let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
        let class = Class::Linear(Rows::Small, Format::Float);
        let first = class.plan(&gpu).label();
        assert!(!class.choose(&gpu, "linear WG=7"));
        assert!(!class.choose(&gpu, "argmax"));
        assert_eq!(class.plan(&gpu).label(), first);
        assert!(class.choose(&gpu, "linear WG=64 ROWS=4"));
        assert_eq!(class.plan(&gpu).label(), "linear WG=64 ROWS=4");
        gpu.distrust(&LINEAR_BROADCAST, "a test".into());
        for candidate in class.candidates(&gpu) {
            assert_eq!(candidate.kernel.name, "linear");
        }
    }

    #[test]
    fn classes_are_divided_where_they_say() {
        use Format::{Float, Quants};
        let class = |rows, panels, format| Class::linear(rows, panels, format, false);
        assert_eq!(
            Class::linear(2, 9, "f16", true),
            Class::Linear(Rows::One, Float)
        );
        assert_eq!(class(2, 9, "bf16"), Class::Linear(Rows::Four, Float));
        assert_eq!(class(4, 9, "q4_k"), Class::Linear(Rows::Four, Quants));
        assert_eq!(class(5, 9, "q8_0"), Class::Linear(Rows::Eight, Quants));
        assert_eq!(
            class(9, LARGE / 2 - 1, "f32"),
            Class::Linear(Rows::Small, Float)
        );
        assert_eq!(
            class(9, LARGE / 2, "f32"),
            Class::Linear(Rows::Large, Float)
        );
        assert_eq!(
            [4, 5].map(Class::conv),
            [Class::ConvNarrow, Class::ConvWide]
        );
    }
}
