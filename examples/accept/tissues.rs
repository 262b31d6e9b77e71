//! Where the MNI152 average's tissue maps and FreeSurfer's protocol call the same voxel by different names.
//!
//! The maps class every voxel by its intensity; FreeSurfer, whose outlines zeus-mini learned, gives the brainstem
//! no tissue and calls a pallidum gray. Where that is, another network says: MeshNet-18's outlines of the average.

use std::path::Path;

use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::volume::Labels;
use keraunos::pipeline::{DrawnMask, Observer, Segmenter};
use keraunos::{Error, Result};

use crate::{asking_for, dice, real, request, show};

/// Regions that the two name differently, by FreeSurfer's labels of the left side.
const REGIONS: [(&str, &[u32]); 4] = [
    ("brainstem", &[16]),
    ("thalamus", &[10]),
    ("basal ganglia", &[11, 12, 13, 26]),
    ("ventral diencephalon", &[28]),
];

/// Every mask as it comes.
struct Masks(Vec<Vec<u8>>);

impl Observer for Masks {
    fn drawn(&mut self, drawn: &DrawnMask) -> Result<()> {
        self.0.push(drawn.voxels().map(u8::from).collect());
        Ok(())
    }
}

/// Millilitres and Dice of gray and white matter by region, in the maps and by zeus-mini.
pub fn accept(segmenter: &Segmenter, shared: &Path, folder: &Path) -> Result<()> {
    eprintln!("== mni152, tissues by region");
    let mni = shared.join("data/mni152");
    let scan = real::average(&mni, "t1");
    let labels = Labels::read(&folder.join("mni152.nii.gz"))?;
    let mut truths = real::tissues(&mni)?;
    truths.truncate(2); // gray and white matter; the whole brain is their sum
    if truths
        .iter()
        .any(|(_, truth)| truth.len() != labels.data.len())
    {
        return Err(Error::Argument(format!(
            "`{}` has not as many voxels as `{}`",
            folder.join("mni152.nii.gz").display(),
            scan.display()
        )));
    }
    let mut masks = Masks(Vec::new());
    let asking = asking_for(request(&scan, Modality::T1), &truths);
    segmenter.segment(&asking, &mut masks)?;

    println!(
        "| mni152 | gray matter, ml: its map | zeus-mini | Dice | white matter, ml: its map | zeus-mini | Dice |\n\
         |---|---|---|---|---|---|---|"
    );
    let voxel_ml = labels.grid().voxel_volume() / 1000.0;
    let row = |name: &str, here: &dyn Fn(u32) -> bool| {
        let within = |mask: &[u8]| -> Vec<u8> {
            let voxels = mask.iter().zip(&labels.data);
            voxels
                .map(|(v, label)| v & u8::from(here(*label)))
                .collect()
        };
        let mut cells = Vec::new();
        for ((_, truth), mask) in truths.iter().zip(&masks.0) {
            let [truth, mask] = [within(truth), within(mask)];
            for voxels in [&truth, &mask] {
                let count: u32 = voxels.iter().map(|v| u32::from(*v)).sum();
                cells.push(format!("{:.1}", f64::from(count) * voxel_ml));
            }
            cells.push(show(dice(&mask, &truth)));
        }
        println!("| {name} | {} |", cells.join(" | "));
    };
    for (name, wanted) in REGIONS {
        row(name, &|label| wanted.contains(&label));
    }
    let regions = REGIONS.map(|(_, wanted)| wanted).concat();
    row("**elsewhere**", &|label| !regions.contains(&label));
    row("**all**", &|_| true);
    println!();
    Ok(())
}
