//! What `segment` is told by phrases.

use clap::{Args, ValueEnum};

use super::request::SegmentArgs;
use crate::error::{Error, Result};
use crate::pipeline::phrased::{Phrasing, PromptType};
use crate::pipeline::prepare::View;
use crate::pipeline::structures::Target;

/// Where `--help` puts the options for phrases.
const PHRASES: &str = "By phrases (CLIPSeg, BiomedCLIPSeg, CRIS)";
/// What is not for phrases.
const NOT_PHRASED: [&str; 4] = ["llm", "instruct", "fast", "fusion"];

/// What a CLIPSeg is told.
#[derive(Debug, Args)]
pub(in crate::cli) struct PhraseArgs {
    /// A phrase that says what to segment; may be repeated, each is a structure of its own
    #[arg(long = "prompt", value_name = "WORDS", help_heading = PHRASES, conflicts_with_all = NOT_PHRASED)]
    phrases: Vec<String>,
    /// How the structures of --find are put into words, by MedVLSM's prompt types: p0 says nothing, p1 the name, p9 all that is
    /// known [default: p1]
    #[arg(long, value_enum, value_name = "TYPE", help_heading = PHRASES, conflicts_with_all = NOT_PHRASED)]
    prompt_type: Option<PromptTypeArg>,
}

impl PhraseArgs {
    /// Refuses phrases for a model that takes none.
    pub(in crate::cli) fn refuse(&self) -> Result<()> {
        let given = [
            ("--prompt", !self.phrases.is_empty()),
            ("--prompt-type", self.prompt_type.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(Error::Argument(format!(
                "{option} is for a CLIPSeg; name one by --model"
            ))),
        }
    }
}

impl SegmentArgs {
    /// What phrases ask for, of a model that takes them.
    pub(in crate::cli) fn phrasing(&self) -> Result<Phrasing> {
        let request = self.request()?;
        let refused = [
            ("several volumes", request.inputs.len() > 1),
            ("--fast", request.fast),
            ("--instruct", request.instruct != Default::default()),
            ("--fusion", request.fusion != Default::default()),
        ];
        if let Some((what, _)) = refused.iter().find(|(_, asked)| *asked) {
            let problem = "a CLIPSeg segments one volume by phrases";
            return Err(Error::Argument(format!("{problem}; {what} are not for it")));
        }
        let view = match self.volumes.named_views().as_slice() {
            [] => View::Axial,
            [view] => *view,
            views => {
                let problem = format!("{} views; a CLIPSeg looks at one", views.len());
                return Err(Error::Argument(problem));
            }
        };
        let phrases = &self.phrases;
        if let Some(blank) = phrases.phrases.iter().find(|text| text.trim().is_empty()) {
            let problem = format!("the prompt {blank:?} says nothing");
            return Err(Error::Argument(problem));
        }
        let (mut targets, mut own) = (request.targets, request.instructions);
        let free = targets.iter().filter(|t| t.structure.is_none()).count();
        for (n, text) in phrases.phrases.iter().enumerate() {
            targets.push(Target::free(text, (free + n) as u16));
            own.push(Some(text.clone()));
        }
        let phrasing = Phrasing {
            view,
            targets,
            phrases: own,
            prompt_type: phrases
                .prompt_type
                .map_or_else(PromptType::default, PromptTypeArg::known),
            tables: request.tables,
            preview: request.preview,
        };
        phrasing.check()?;
        Ok(phrasing)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PromptTypeArg {
    /// Nothing: what the picture alone is worth
    P0,
    /// left hippocampus
    P1,
    /// As p1: no shape is known
    P2,
    /// gray left hippocampus
    P3,
    /// As p3: no size is known
    P4,
    /// one gray left hippocampus
    P5,
    /// one gray left hippocampus, located in the medial temporal lobe
    P6,
    /// left hippocampus which is gray matter in the floor of the temporal horn
    P7,
    /// p5 and p7
    P8,
    /// p8 and where it is
    P9,
}

impl PromptTypeArg {
    fn known(self) -> PromptType {
        PromptType::ALL[self as usize]
    }
}
