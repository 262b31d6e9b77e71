//! What a segmentation gives: the label map, a row for each structure, and the report of the run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::gpu::{AdapterSummary, Gpu};
use crate::pipeline::card::{CITATION, Card, DISCLAIMER};
use crate::pipeline::inputs::ReportedInput;
use crate::pipeline::instruct::Instruction;
use crate::pipeline::prepare::View;
use crate::pipeline::preview::Style;
use crate::pipeline::prompted::{Followed, Preprocessing};
use crate::pipeline::request::{Asked, Fusion, VERSION};
use crate::pipeline::schema;
use crate::pipeline::segmenter::DrawnMask;
use crate::pipeline::stages::{TOGETHER, precision_in_words};
use crate::pipeline::statistics;
use crate::pipeline::structures::Target;
use crate::pipeline::threshold::sigmoid;
use crate::pipeline::volume::{LabelTable, Names, Volume};

/// One structure of the result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StructureResult {
    /// The label in the map.
    pub label: u16,
    /// The structure's name.
    pub name: String,
    /// Whether anything was found.
    pub present: bool,
    /// The volume of its own mask, overlaps with other structures included, in millilitres.
    pub volume_ml: Option<f64>,
    /// The mean intensity in the first modality.
    pub mean_intensity: Option<f64>,
    /// The median intensity in the first modality.
    pub median_intensity: Option<f64>,
    /// Whether the mask reaches the border of the field of view.
    pub touches_border: Option<bool>,
    /// The predicted Dice.
    pub predicted_dice: Option<f32>,
    /// The probability above which a voxel is in its mask; none of a model that labels voxels at once.
    pub threshold: Option<f32>,
    /// Voxels that bear its label in the map, after more specific structures took theirs.
    pub labelled_voxels: u64,
}

/// The run, in a form that machines read.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The schema that it follows ([`crate::pipeline::schema`]).
    #[serde(rename = "$schema")]
    pub schema: &'static str,
    /// The program and its version.
    pub version: &'static str,
    /// What it is not.
    pub disclaimer: &'static str,
    /// Whose work a user of the result names.
    pub citation: [&'static str; 2],
    /// What the segmentation model was made for and of, and where it fails; nothing is known of weights that are not the
    /// program's own.
    pub model: Option<Card>,
    /// The adapter.
    pub adapter: AdapterSummary,
    /// How weights are stored and sums are taken.
    pub precision: String,
    /// SHA-256 of every weight file that was used, by role.
    pub weights: BTreeMap<&'static str, String>,
    /// What was asked for. Equal in two reports with the same inputs and weights, their maps are equal.
    pub asked: Asked,
    /// The volumes.
    pub inputs: Vec<ReportedInput>,
    /// The views.
    pub views: Vec<View>,
    /// Whether every second slice was taken.
    pub fast: bool,
    /// How modalities were fused.
    pub fusion: Fusion,
    /// Every instruction that was used.
    pub instructions: Vec<Instruction>,
    /// How slices were shown to a model that was prompted by boxes and points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
    /// What boxes and points showed, and where it was found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub followed: Vec<Followed>,
    /// Seconds per stage, in order.
    pub seconds: Vec<(&'static str, f64)>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Report {
    /// That of a run on an adapter which has read nothing yet.
    pub(super) fn new(gpu: &Gpu, asked: Asked) -> Self {
        Self {
            schema: schema::REPORT.id,
            version: VERSION,
            disclaimer: DISCLAIMER,
            citation: CITATION,
            model: None,
            adapter: gpu.summary().clone(),
            precision: precision_in_words(asked.precision, gpu),
            weights: BTreeMap::new(),
            asked,
            inputs: Vec::new(),
            views: Vec::new(),
            fast: false,
            fusion: Fusion::Late,
            instructions: Vec::new(),
            preprocessing: None,
            followed: Vec::new(),
            seconds: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// A labelled map with everything that belongs to it.
#[derive(Clone, Debug)]
pub struct Segmentation {
    /// What its files are called: the request's name, else the first input's without suffix.
    pub name: String,
    /// The first input, whose grid and header the results have.
    pub reference: Volume,
    /// A label for each voxel, 0 for none.
    pub labels: Vec<u16>,
    /// The labels' names.
    pub names: Names,
    /// Tables of them for other programs, written with the map.
    pub tables: Vec<LabelTable>,
    /// The volumes as BIDS calls them, in a BIDS derivative: the map gets a JSON sidecar then.
    pub sources: Vec<String>,
    /// How the preview draws structures.
    pub preview: Style,
    /// A row for each target.
    pub structures: Vec<StructureResult>,
    /// The run.
    pub report: Report,
}

impl Segmentation {
    /// Writes the map, the table of its names, the statistics, the preview and the report into a folder,
    /// which is made if need be. Returns the paths, those of other programs' tables last. See [`crate::pipeline::finish`].
    ///
    /// # Errors
    /// A folder that cannot be written, or that holds an input under a result's name.
    pub fn write(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        crate::pipeline::finish::write(self, folder)
    }
}

/// The map as it grows, one target after the other.
pub(super) struct LabelMap {
    pub(super) labels: Vec<u16>,
    /// Parts of the target that holds the voxel, and its logit there.
    holder: Vec<(u32, f32)>,
}

impl LabelMap {
    pub(super) fn new(reference: &Volume) -> Self {
        let voxels = reference.data.len();
        Self {
            labels: vec![0; voxels],
            holder: vec![(u32::MAX, 0.0); voxels],
        }
    }

    /// Takes in a target's mask. Where masks overlap the more specific target holds the voxel; of two
    /// equals the one with the higher logit, of two equal logits the first.
    pub(super) fn add(&mut self, drawn: &DrawnMask, quality: Option<f32>) -> StructureResult {
        let DrawnMask {
            target,
            logits,
            above,
            reference,
        } = *drawn;
        let mut mask = vec![0_u8; logits.len()];
        let kept = self.labels.par_chunks_mut(TOGETHER);
        let kept = kept.zip(self.holder.par_chunks_mut(TOGETHER));
        let new = mask
            .par_chunks_mut(TOGETHER)
            .zip(logits.par_chunks(TOGETHER));
        kept.zip(new)
            .for_each(|((labels, holders), (mask, logits))| {
                let kept = labels.iter_mut().zip(holders);
                for ((label, holder), (inside, logit)) in kept.zip(mask.iter_mut().zip(logits)) {
                    if *logit > above {
                        *inside = 1;
                        let (parts, held) = *holder;
                        if target.parts < parts || target.parts == parts && *logit > held {
                            *label = target.label;
                            *holder = (target.parts, *logit);
                        }
                    }
                }
            });
        let names = Names::from([(1, target.name.clone())]);
        let measured =
            statistics::measure(&mask, &reference.data, &reference.grid(), &names).swap_remove(0);
        let present = measured.voxels > 0;
        StructureResult {
            label: target.label,
            name: target.name.clone(),
            present,
            volume_ml: measured.volume_ml,
            mean_intensity: measured.mean,
            median_intensity: measured.median,
            touches_border: present.then_some(measured.touches_border),
            threshold: Some(sigmoid(above)),
            predicted_dice: quality,
            labelled_voxels: 0,
        }
    }

    /// Counts the labels and names them.
    pub(super) fn finish(&self, targets: &[Target], structures: &mut [StructureResult]) -> Names {
        let mut counts: BTreeMap<u16, u64> = BTreeMap::new();
        self.labels
            .iter()
            .for_each(|label| *counts.entry(*label).or_default() += 1);
        for structure in structures {
            structure.labelled_voxels = counts.get(&structure.label).copied().unwrap_or(0);
        }
        targets
            .iter()
            .map(|target| (u32::from(target.label), target.name.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_is_cut_where_the_mask_is() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/trial/scan.nii.gz");
        let reference = Volume::read(&path).expect("the slab");
        let target = Target::find("left putamen").expect("a target");
        let mut logits = vec![-1.0; reference.data.len()];
        (logits[3], logits[7]) = (-0.1, 0.1);
        for (above, drawn) in [(0.0, 1), (-0.2, 2)] {
            let mut map = LabelMap::new(&reference);
            let mask = DrawnMask {
                target: &target,
                logits: &logits,
                above,
                reference: &reference,
            };
            let mut structures = [map.add(&mask, Some(0.8))];
            map.finish(std::slice::from_ref(&target), &mut structures);
            assert_eq!(structures[0].labelled_voxels, drawn, "above {above}");
            assert_eq!(map.labels[3] == target.label, drawn == 2);
            assert_eq!(structures[0].threshold, Some(sigmoid(above)));
        }
    }
}
