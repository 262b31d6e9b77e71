//! The volumes of a request: read, judged, and brought to one grid.

use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::pipeline::describe::findings::Summary;
use crate::pipeline::files;
use crate::pipeline::modality::{self, Estimate, Modality};
use crate::pipeline::prepare::Prepared;
use crate::pipeline::request::Input;
use crate::pipeline::volume::{self, Volume};

/// A file that was read.
#[derive(Clone, Debug, Serialize)]
pub struct ReportedInput {
    /// The path as given.
    pub path: PathBuf,
    /// SHA-256 of the file, or of header and voxels one after the other if they are two files.
    pub sha256: String,
    /// The modality that was taken.
    pub modality: Modality,
    /// `flag`, `file name`, `estimate: …` or `stated: …`.
    pub modality_from: String,
    /// Voxels.
    pub shape: [usize; 3],
    /// Millimetres.
    pub voxel_size: [f64; 3],
    /// The directions of its axes, such as `RAS`.
    pub orientation: String,
}

impl ReportedInput {
    /// Takes the modality that was stated of the volume's slices where it was only estimated before.
    pub(super) fn take_stated(&mut self, summary: &Summary) {
        if let Some(modality) = summary.modality()
            && self.modality_from.starts_with("estimate")
            && self.modality != Modality::Ct
        {
            let (sequence, count) = &summary.sequences[0];
            self.modality = modality;
            self.modality_from =
                format!("stated: {sequence} of {count} of {} slices", summary.slices);
        }
    }
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

impl Loaded {
    /// What was odd about the volumes and what was made of it, a sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Reads the volumes and brings them to the first one's prepared grid.
///
/// # Errors
/// A volume that cannot be used, one that is given twice, or modalities that do not overlap.
pub fn load(inputs: &[Input]) -> Result<Loaded> {
    let began = Instant::now();
    let (mut images, mut warnings) = (Vec::<Prepared>::new(), Vec::new());
    let mut reference = None;
    let reported = read_inputs(inputs, &mut warnings, |volume, input, warnings| {
        if input.modality == Modality::Ct {
            warnings.push("the default model was not trained on CT; expect little of it".into());
        }
        match images.first() {
            None => images.push(Prepared::new(&volume)?),
            Some(first) => {
                let (image, warning) = first.join(&volume)?;
                warnings.extend(warning);
                images.push(image);
            }
        }
        reference.get_or_insert(volume);
        Ok(())
    })?;
    let Some(reference) = reference else {
        return Err(Error::Argument("no volume to segment".into()));
    };
    Ok(Loaded {
        seconds: began.elapsed().as_secs_f64(),
        reference,
        images,
        inputs: reported,
        warnings,
    })
}

/// Reads the volumes of one patient, one after the other, and gives each away: to whom it is shown with what is reported of it.
///
/// # Errors
/// None at all, one that is given twice or cannot be used, or what `keep` fails with.
pub(super) fn read_inputs(
    inputs: &[Input],
    warnings: &mut Vec<String>,
    mut keep: impl FnMut(Volume, &ReportedInput, &mut Vec<String>) -> Result<()>,
) -> Result<Vec<ReportedInput>> {
    if inputs.is_empty() {
        return Err(Error::Argument("no volume to segment".into()));
    }
    let (mut reported, mut estimates) = (Vec::<ReportedInput>::new(), Vec::<Estimate>::new());
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
        let (volume, input, measured) = read_input(input, warnings)?;
        estimates.push(measured);
        keep(volume, &input, warnings)?;
        reported.push(input);
    }
    let of = |modality| reported.iter().position(|input| input.modality == modality);
    if let (Some(t1), Some(t2)) = (of(Modality::T1), of(Modality::T2))
        && modality::look_exchanged(&estimates[t1], &estimates[t2])
    {
        warnings.push(format!(
            "`{}` is given as T1 and `{}` as T2, but fluid is bright in the first and dark in the second: \
             they look exchanged",
            reported[t1].path.display(),
            reported[t2].path.display()
        ));
    }
    Ok(reported)
}

/// Reads one volume, and takes its modality from whoever knows it; gives what its intensities say too.
///
/// # Errors
/// A volume that cannot be used.
pub(super) fn read_input(
    input: &Input,
    warnings: &mut Vec<String>,
) -> Result<(Volume, ReportedInput, Estimate)> {
    let volume = Volume::read(&input.path)?;
    let measured = modality::estimate(&volume);
    let path = input.path.display();
    let (modality, modality_from) = match (input.modality, Modality::from_name(&input.path)) {
        (Some(modality), _) => (modality, "flag".to_owned()),
        (None, Some(modality)) => (modality, "file name".to_owned()),
        (None, None) => {
            warnings.push(format!(
                "`{path}` is taken for {}, an estimate: {}",
                measured.modality, measured.reason
            ));
            (measured.modality, format!("estimate: {}", measured.reason))
        }
    };
    if (modality == Modality::Ct) != (measured.modality == Modality::Ct) {
        warnings.push(format!(
            "`{path}` is given as {modality}, but looks like {}: {}",
            measured.modality, measured.reason
        ));
    }
    let odd = volume.warnings.iter();
    warnings.extend(odd.map(|warning| format!("`{path}`: {warning}")));
    let grid = volume.grid();
    let reported = ReportedInput {
        path: input.path.clone(),
        sha256: volume::sha256(&input.path)?,
        modality,
        modality_from,
        shape: volume.shape,
        voxel_size: grid.voxel_sizes(),
        orientation: grid.orientation().letters(),
    };
    Ok((volume, reported, measured))
}

/// What was measured from the first volume and, where a model looked at it, what it shows, in words for the language model.
pub(super) fn facts(
    input: &ReportedInput,
    reference: &Volume,
    region: Option<&str>,
    seen: Option<&str>,
) -> String {
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
    let region = region.map_or_else(String::new, |region| format!(" of {region}"));
    let mut facts = format!(
        "a {name}{kind}{region}, {} mm, voxels of {x:.1} x {y:.1} x {z:.1} mm",
        extent.join(" x ")
    );
    if let Some(seen) = seen.filter(|seen| !seen.is_empty()) {
        facts += &format!(", showing {seen}");
    }
    facts
}
