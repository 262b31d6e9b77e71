//! The volumes of a request: read, judged, and brought to one grid.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::pipeline::files;
use crate::pipeline::modality::{self, Modality};
use crate::pipeline::prepare::Prepared;
use crate::pipeline::request::Input;
use crate::pipeline::volume::Volume;

/// A file that was read.
#[derive(Clone, Debug, Serialize)]
pub struct ReportedInput {
    /// The path as given.
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub sha256: String,
    /// The modality that was taken.
    pub modality: Modality,
    /// `flag`, `file name` or `estimate: …`.
    pub modality_from: String,
    /// Voxels.
    pub shape: [usize; 3],
    /// Millimetres.
    pub voxel_size: [f64; 3],
    /// The directions of its axes, such as `RAS`.
    pub orientation: String,
}

/// The volumes of a request, read and brought to one grid. Reading needs no adapter, so that one thread can read
/// while another computes.
pub struct Loaded {
    /// How long that took.
    pub(super) seconds: f64,
    pub(super) reference: Volume,
    pub(super) images: Vec<Prepared>,
    pub(super) inputs: Vec<ReportedInput>,
    pub(super) warnings: Vec<String>,
}

/// Reads the volumes and brings them to the first one's prepared grid.
///
/// # Errors
/// A volume that cannot be used, one that is given twice, or modalities that do not overlap.
pub fn load(inputs: &[Input]) -> Result<Loaded> {
    let began = Instant::now();
    let Some(first) = inputs.first() else {
        return Err(Error::Argument("no volume to segment".into()));
    };
    let (mut images, mut reported, mut warnings) = (Vec::<Prepared>::new(), Vec::new(), Vec::new());
    let mut reference = None;
    for (n, input) in inputs.iter().enumerate() {
        if let Some(twin) = inputs[..n]
            .iter()
            .find(|other| files::same_file(&other.path, &input.path))
        {
            return Err(Error::Argument(format!(
                "`{}` is given twice (also as `{}`)",
                input.path.display(),
                twin.path.display()
            )));
        }
        let (volume, told) = read_input(input, &mut warnings)?;
        if told.modality == Modality::Ct {
            warnings.push("the default model was not trained on CT; expect little of it".into());
        }
        reported.push(told);
        match images.first() {
            None => images.push(Prepared::new(&volume)?),
            Some(first) => {
                let (image, warning) = first.join(&volume)?;
                warnings.extend(warning);
                images.push(image);
            }
        }
        reference.get_or_insert(volume);
    }
    let Some(reference) = reference else {
        return Err(Error::Argument(format!(
            "`{}` is empty",
            first.path.display()
        )));
    };
    Ok(Loaded {
        seconds: began.elapsed().as_secs_f64(),
        reference,
        images,
        inputs: reported,
        warnings,
    })
}

/// Reads a volume and says what it is.
///
/// # Errors
/// A volume that cannot be used.
pub(super) fn read_input(
    input: &Input,
    warnings: &mut Vec<String>,
) -> Result<(Volume, ReportedInput)> {
    let volume = Volume::read(&input.path)?;
    let (modality, modality_from) = match (input.modality, Modality::from_name(&input.path)) {
        (Some(modality), _) => (modality, "flag".to_owned()),
        (None, Some(modality)) => (modality, "file name".to_owned()),
        (None, None) => {
            let estimate = modality::estimate(&volume);
            let path = input.path.display();
            warnings.push(format!(
                "`{path}` is taken for {}, an estimate: {}",
                estimate.modality, estimate.reason
            ));
            (estimate.modality, format!("estimate: {}", estimate.reason))
        }
    };
    let measured = modality::estimate(&volume);
    if (modality == Modality::Ct) != (measured.modality == Modality::Ct) {
        let path = input.path.display();
        warnings.push(format!(
            "`{path}` is given as {modality}, but looks like {}: {}",
            measured.modality, measured.reason
        ));
    }
    warnings.extend(
        volume
            .warnings
            .iter()
            .map(|warning| format!("`{}`: {warning}", input.path.display())),
    );
    let grid = volume.grid();
    let told = ReportedInput {
        path: input.path.clone(),
        sha256: files::sha256(&input.path)?,
        modality,
        modality_from,
        shape: volume.shape,
        voxel_size: grid.voxel_sizes(),
        orientation: grid.orientation().letters(),
    };
    Ok((volume, told))
}

/// What was measured from the first volume, in words for the language model.
pub(super) fn facts(input: &ReportedInput, reference: &Volume) -> String {
    let grid = reference.grid();
    let [x, y, z] = grid.voxel_sizes();
    let extent: Vec<String> = (0..3)
        .map(|n| format!("{:.0}", grid.shape[n] as f64 * [x, y, z][n]))
        .collect();
    let kind = if input.modality == Modality::Ct {
        "CT"
    } else {
        "MRI"
    };
    let name = if input.modality == Modality::Ct {
        String::new()
    } else {
        format!("{} ", input.modality.phrase())
    };
    format!(
        "a {name}{kind} of the head, {} mm, voxels of {x:.1} x {y:.1} x {z:.1} mm",
        extent.join(" x ")
    )
}
