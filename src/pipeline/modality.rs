//! Which kind of image a volume is: from its file's name, or estimated from its intensities.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::volume::Volume;

/// The kinds of image the models know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// T1-weighted MRI: fluid dark, white matter brightest.
    T1,
    /// T2-weighted MRI: fluid brightest.
    T2,
    /// T2-weighted MRI with the fluid's signal nulled.
    Flair,
    /// Proton-density-weighted MRI: little contrast.
    Pd,
    /// Computed tomography in Hounsfield units.
    Ct,
}

impl Modality {
    /// How an instruction calls it, as in "this T1-weighted axial MRI".
    pub fn phrase(self) -> &'static str {
        match self {
            Self::T1 => "T1-weighted",
            Self::T2 => "T2-weighted",
            Self::Flair => "FLAIR",
            Self::Pd => "PD-weighted",
            Self::Ct => "CT",
        }
    }

    /// The modality that a file's name states, if it states one.
    ///
    /// The name is cut at everything but letters and digits, and whole pieces are compared in
    /// any case: BIDS suffixes (`_T1w`, `_T2w`, `_FLAIR`, `_PDw`, `_ct`) as well as `t1`, `t2`,
    /// `pd` and their kin. FLAIR wins over the `t2` that often stands beside it; otherwise the
    /// last piece that names a modality counts. Folders are not looked at.
    pub fn from_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let found = name
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter_map(|piece| {
                Some(match piece {
                    "t1" | "t1w" | "t1c" | "t1ce" | "t1gd" | "mprage" => Self::T1,
                    "t2" | "t2w" | "t2s" | "t2star" | "t2starw" => Self::T2,
                    "flair" | "t2flair" => Self::Flair,
                    "pd" | "pdw" => Self::Pd,
                    "ct" => Self::Ct,
                    _ => return None,
                })
            });
        found.reduce(|before, piece| if before == Self::Flair { before } else { piece })
    }
}

impl fmt::Display for Modality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::T1 => "T1",
            Self::T2 => "T2",
            Self::Flair => "FLAIR",
            Self::Pd => "PD",
            Self::Ct => "CT",
        })
    }
}

/// A guess at a modality, to be reported as one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The guess.
    pub modality: Modality,
    /// What it rests on, a sentence with the numbers.
    pub reason: String,
    /// How much longer the bright tail of the middle's intensities is than the dark one,
    /// `(p98 − p50) / (p50 − p5)`: small in T1, large in T2. Nothing where there is no such middle.
    pub bright_tail: Option<f64>,
}

/// How much longer the bright tail of a T1 must be than that of a T2 of the same patient for the two to look exchanged.
const EXCHANGED: f64 = 3.0;

/// Whether a T1 and a T2 look as if each were the other, by their [`Estimate::bright_tail`].
pub fn look_exchanged(t1: &Estimate, t2: &Estimate) -> bool {
    let tails = t1.bright_tail.zip(t2.bright_tail);
    tails.is_some_and(|(t1, t2)| t1 > EXCHANGED * t2)
}

/// Estimates the modality of a volume of a head from its intensities.
///
/// CT is a volume of which at least 1 % lies below −200: no MRI has negative air. For the rest
/// the inner part of the object is looked at (the ellipsoid of 0.45 of the half axes of the
/// bounding box of everything above 5 % of the 99.5th percentile): mostly white matter, with
/// the ventricles as the fluid. With `p5`, `p50`, `p98` its percentiles:
///
/// * T2 where the bright tail is far longer than the dark one, `p98 − p50 > 2 (p50 − p5)`;
/// * PD where there is hardly any dark tail, `p5 > 0.55 p50`;
/// * T1 otherwise: dark fluid, and the largest tissue near the top.
///
/// FLAIR has dark fluid too and cannot be told from T1 this way, so it is never the estimate;
/// the file's name or the user has to say it.
pub fn estimate(volume: &Volume) -> Estimate {
    let data = &volume.data;
    let air = data.iter().filter(|&&v| v < -200.0).count() as f64 / data.len() as f64;
    if air >= 0.01 {
        let reason = format!(
            "{:.0} % of the voxels lie below -200, as air does in CT",
            100.0 * air
        );
        return Estimate {
            modality: Modality::Ct,
            reason,
            bright_tail: None,
        };
    }
    let (threshold, [low, high]) = super::prepare::foreground(data, volume.shape);
    let mut core: Vec<f32> = Vec::new();
    let half: [f64; 3] = std::array::from_fn(|axis| (high[axis] - low[axis]) as f64 / 2.0);
    let [nx, ny, _] = volume.shape;
    for (index, &value) in data.iter().enumerate() {
        let voxel = [index % nx, index / nx % ny, index / (nx * ny)];
        let radius: f64 = (0..3)
            .map(|axis| (voxel[axis] as f64 + 0.5 - low[axis] as f64) / half[axis] - 1.0)
            .map(|share| share * share)
            .sum();
        if radius < 0.45 * 0.45 && value > threshold {
            core.push(value);
        }
    }
    if core.is_empty() {
        let reason = "the middle of the volume is empty; T1 is the commonest".to_owned();
        return Estimate {
            modality: Modality::T1,
            reason,
            bright_tail: None,
        };
    }
    core.sort_unstable_by(f32::total_cmp);
    let at = |fraction: f64| f64::from(core[(fraction * (core.len() - 1) as f64) as usize]);
    let (p5, p50, p98) = (at(0.05), at(0.5), at(0.98));
    let (modality, why) = if p98 - p50 > 2.0 * (p50 - p5) {
        (Modality::T2, "a long bright tail, as of bright fluid")
    } else if p5 > 0.55 * p50 {
        (Modality::Pd, "little contrast, without dark fluid")
    } else {
        (Modality::T1, "a dark tail, as of dark fluid")
    };
    let reason = format!(
        "{why}: the 5th, 50th and 98th percentiles of the middle are {p5:.4}, {p50:.4} and {p98:.4}"
    );
    let tail = (p98 - p50) / (p50 - p5);
    Estimate {
        modality,
        reason,
        bright_tail: Some(tail).filter(|tail| tail.is_finite()),
    }
}
