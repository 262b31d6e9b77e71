//! What `segment` is shown by boxes and points.

use clap::Args;

use super::request::SegmentArgs;
use crate::error::{Error, Result};
use crate::pipeline::prepare::View;
use crate::pipeline::prompted::{Corners, Point, PromptedRequest};
use crate::pipeline::structures::Target;

/// Where `--help` puts the options for boxes and points.
const SHOWN: &str = "By boxes and points (SAM, MobileSAM, MedSAM)";
/// What is not for objects that are shown.
const NOT_SHOWN: [&str; 11] = [
    "llm",
    "instruction",
    "instruct",
    "fast",
    "fusion",
    "cases",
    "layout",
    "skip_existing",
    "num_parts",
    "part",
    "save_probabilities",
];

/// What shows a model where to look.
#[derive(Debug, Args)]
pub(in crate::cli) struct PromptArgs {
    /// A box around the object in one slice, in voxels of the file from 0 (as FSLeyes shows them; ITK-SNAP counts from 1): the
    /// two axes that lie in the slice, in the file's order, then the slice [default: the middle one]. Each box is an object;
    /// --find names them in turn
    #[arg(long = "box", value_name = "X0,Y0,X1,Y1[,Z]", allow_hyphen_values = true, help_heading = SHOWN, conflicts_with_all = NOT_SHOWN)]
    corners: Vec<Corners>,
    /// A point in the object or, with `-`, outside it: the file's voxel i,j,k, or two numbers as of a box. All points show one
    /// object
    #[arg(long = "point", value_name = "X,Y[,Z][,+|-]", allow_hyphen_values = true, help_heading = SHOWN, conflicts_with_all = NOT_SHOWN)]
    points: Vec<Point>,
    /// Boxes and points are in millimetres of the scanner's world (right, anterior, superior), not in voxels
    #[arg(long, help_heading = SHOWN)]
    mm: bool,
    /// Follows an object at most N slices to either side [default: until its mask is empty or its predicted IoU below 0.5]
    #[arg(long, value_name = "N", help_heading = SHOWN)]
    slices: Option<usize>,
}

impl SegmentArgs {
    /// What boxes and points show; nothing where words ask.
    pub(in crate::cli) fn shown(&self) -> Result<Option<PromptedRequest>> {
        let prompts = &self.prompts;
        let given = [
            ("--box", !prompts.corners.is_empty()),
            ("--point", !prompts.points.is_empty()),
            ("--mm", prompts.mm),
            ("--slices", prompts.slices.is_some()),
        ];
        let Some((option, _)) = given.iter().find(|(_, given)| *given) else {
            return Ok(None);
        };
        if self.model.is_none() {
            return Err(Error::Argument(format!(
                "{option} is for a model that is shown where to look; name one by --model"
            )));
        }
        let mut inputs = self.volumes.inputs()?;
        if inputs.len() > 1 {
            let problem = format!("{} volumes; boxes and points are of one", inputs.len());
            return Err(Error::Argument(problem));
        }
        let view = match self.volumes.named_views().as_slice() {
            [] => View::Axial,
            [view] => *view,
            views => {
                let problem = format!("{} views; boxes and points are of one", views.len());
                return Err(Error::Argument(problem));
            }
        };
        let targets = self.volumes.find().iter().map(|name| Target::find(name));
        let request = PromptedRequest {
            input: inputs.swap_remove(0),
            view,
            corners: prompts.corners.clone(),
            points: prompts.points.clone(),
            millimetres: prompts.mm,
            targets: targets.collect::<Result<_>>()?,
            reach: prompts.slices,
            tables: self.tables(),
            preview: self.preview.known(),
        };
        request.check()?;
        Ok(Some(request))
    }
}
