//! What `segment` and `instruct` are asked for: volumes, what to find in them, and how to say it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::adapter::ModelArgs;
use crate::error::{Error, Result};
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::View;
use crate::pipeline::structures::Target;
use crate::pipeline::{Fusion, Input, Instruct, Request};

/// Which volumes, what to find in them, and how to say it.
#[derive(Debug, Args)]
pub(in crate::cli) struct VolumeArgs {
    /// NIfTI volumes of one patient, one per modality; the first gives the grid of the result
    #[arg(value_name = "VOLUME")]
    inputs: Vec<PathBuf>,
    /// The modality of each VOLUME in turn [default: from the file's name, else estimated]
    #[arg(long, value_enum, value_name = "NAME")]
    modality: Vec<ModalityArg>,
    /// A T1-weighted volume; with the four below, these follow the VOLUMEs in this order
    #[arg(long, value_name = "FILE")]
    t1: Option<PathBuf>,
    /// A T2-weighted volume
    #[arg(long, value_name = "FILE")]
    t2: Option<PathBuf>,
    /// A FLAIR volume
    #[arg(long, value_name = "FILE")]
    flair: Option<PathBuf>,
    /// A proton-density volume
    #[arg(long, value_name = "FILE")]
    pd: Option<PathBuf>,
    /// A CT volume
    #[arg(long, value_name = "FILE")]
    ct: Option<PathBuf>,
    /// A structure, such as "left hippocampus"; may be repeated [default: every known one]
    #[arg(long, value_name = "STRUCTURE")]
    find: Vec<String>,
    /// Your own instruction: one for each --find in turn, or alone for something else
    #[arg(long, value_name = "TEXT")]
    instruction: Vec<String>,
    /// Who writes the instructions [default: the language model if it is here, else the template]
    #[arg(long, value_enum, value_name = "WHO")]
    instruct: Option<InstructArg>,
    /// The slices that are looked at; may be repeated [default: all, with --fast axial]
    #[arg(long, value_enum)]
    view: Vec<ViewArg>,
    /// One view, every second slice
    #[arg(long)]
    fast: bool,
}

impl VolumeArgs {
    /// The library's request.
    pub(in crate::cli) fn request(&self) -> Result<Request> {
        let mut request = Request::new(self.inputs()?);
        match (self.find.as_slice(), self.instruction.as_slice()) {
            ([], []) => {}
            ([], [text]) => request = request.instruction(text),
            ([], texts) => {
                return Err(Error::Argument(format!(
                    "{} instructions without a structure; give one, or a --find for each",
                    texts.len()
                )));
            }
            (names, texts) if texts.is_empty() || texts.len() == names.len() => {
                for (n, name) in names.iter().enumerate() {
                    request.targets.push(Target::find(name)?);
                    request.instructions.push(texts.get(n).cloned());
                }
            }
            (names, texts) => {
                return Err(Error::Argument(format!(
                    "{} instructions for {} structures; give one for each --find, in turn",
                    texts.len(),
                    names.len()
                )));
            }
        }
        if let Some(blank) = self.instruction.iter().find(|text| text.trim().is_empty()) {
            return Err(Error::Argument(format!(
                "the instruction {blank:?} says nothing"
            )));
        }
        request.instruct = match self.instruct {
            None => Instruct::Auto,
            Some(InstructArg::Llm) => Instruct::Llm,
            Some(InstructArg::Stock) => Instruct::Stock,
        };
        request.fast = self.fast;
        request.views = self.views()?;
        Ok(request)
    }

    fn inputs(&self) -> Result<Vec<Input>> {
        if self.modality.len() > self.inputs.len() {
            return Err(Error::Argument(format!(
                "{} times --modality for {} volumes; one names the modality of one VOLUME",
                self.modality.len(),
                self.inputs.len()
            )));
        }
        let named = [
            (&self.t1, Modality::T1),
            (&self.t2, Modality::T2),
            (&self.flair, Modality::Flair),
            (&self.pd, Modality::Pd),
            (&self.ct, Modality::Ct),
        ];
        let plain = self.inputs.iter().enumerate().map(|(n, path)| Input {
            path: path.clone(),
            modality: self.modality.get(n).map(|modality| modality.known()),
        });
        let named = named.into_iter().filter_map(|(path, modality)| {
            let path = path.clone()?;
            Some(Input {
                path,
                modality: Some(modality),
            })
        });
        let inputs: Vec<Input> = plain.chain(named).collect();
        if inputs.is_empty() {
            return Err(Error::Argument("no volume is given; see --help".into()));
        }
        Ok(inputs)
    }

    fn views(&self) -> Result<Vec<View>> {
        let mut views = Vec::new();
        for view in &self.view {
            let named = match view {
                ViewArg::Axial => &[View::Axial][..],
                ViewArg::Coronal => &[View::Coronal],
                ViewArg::Sagittal => &[View::Sagittal],
                ViewArg::All => &View::ALL,
            };
            views.extend(
                named
                    .iter()
                    .filter(|view| !views.contains(*view))
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
        match (self.fast, views.len()) {
            (true, 0) => Ok(vec![View::Axial]),
            (true, 2..) => Err(Error::Argument(
                "--fast looks at one view; name one by --view, or none for axial".into(),
            )),
            (false, 0) => Ok(View::ALL.to_vec()),
            _ => Ok(views),
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::cli) struct SegmentArgs {
    #[command(flatten)]
    pub(in crate::cli) volumes: VolumeArgs,
    /// The folder for the results; made if need be
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// How several modalities become one map
    #[arg(long, value_enum, default_value_t)]
    fusion: FusionArg,
    #[command(flatten)]
    pub(in crate::cli) models: ModelArgs,
    /// Writes each structure's probabilities as a volume too
    #[arg(long)]
    pub(in crate::cli) save_probabilities: bool,
    /// Prints paths, structures and report as one JSON object
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

impl SegmentArgs {
    pub(in crate::cli) fn request(&self) -> Result<Request> {
        let mut request = self.volumes.request()?;
        request.fusion = match self.fusion {
            FusionArg::Late => Fusion::Late,
            FusionArg::Hybrid => Fusion::Hybrid,
            FusionArg::Early => Fusion::Early,
        };
        Ok(request)
    }

    pub(in crate::cli) fn output(&self) -> Result<&PathBuf> {
        let missing = || Error::Argument("no folder for the results; give one by --output".into());
        self.output.as_ref().ok_or_else(missing)
    }
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum FusionArg {
    /// The masks of each modality, weighted by their predicted Dice
    #[default]
    Late,
    /// The mean of the modalities' embeddings
    Hybrid,
    /// The modalities as channels of one image, where the weights have them
    Early,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum InstructArg {
    /// The language model
    Llm,
    /// The built-in template
    Stock,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ViewArg {
    Axial,
    Coronal,
    Sagittal,
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ModalityArg {
    T1,
    T2,
    Flair,
    Pd,
    Ct,
}

impl ModalityArg {
    fn known(self) -> Modality {
        match self {
            Self::T1 => Modality::T1,
            Self::T2 => Modality::T2,
            Self::Flair => Modality::Flair,
            Self::Pd => Modality::Pd,
            Self::Ct => Modality::Ct,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn request(line: &str) -> Result<Request> {
        let words = ["keraunos", "segment"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words).expect("a command line").command {
            Command::Segment(args) => args.request(),
            other => panic!("{other:?}"),
        }
    }

    fn refusal(line: &str) -> String {
        request(line).expect_err(line).to_string()
    }

    #[test]
    fn inputs_keep_their_order_and_modality() {
        let request = request("a.nii b.nii --modality pd --flair f.nii --t1 t.nii").expect("four");
        let found: Vec<_> = request
            .inputs
            .iter()
            .map(|input| (input.path.to_str().expect("a name"), input.modality))
            .collect();
        assert_eq!(
            found,
            [
                ("a.nii", Some(Modality::Pd)),
                ("b.nii", None),
                ("t.nii", Some(Modality::T1)),
                ("f.nii", Some(Modality::Flair))
            ]
        );
        assert!(refusal("a.nii --modality t1 --modality t2").contains("2 times --modality"));
        assert!(refusal("--find thalamus").contains("no volume"));
    }

    #[test]
    fn instructions_pair_with_structures() {
        let paired =
            request("a.nii --find thalamus --find putamen --instruction x --instruction y")
                .expect("two");
        assert_eq!(paired.instructions, [Some("x".into()), Some("y".into())]);
        let free = request("a.nii --instruction x").expect("one");
        assert_eq!(
            (free.targets.len(), free.targets[0].name.as_str()),
            (1, "x")
        );
        let open = request("a.nii --find thalamus").expect("one");
        assert_eq!(open.instructions, [None]);
        assert!(
            refusal("a.nii --find thalamus --find putamen --instruction x")
                .contains("1 instructions for 2")
        );
        assert!(
            refusal("a.nii --instruction x --instruction y").contains("2 instructions without")
        );
        assert!(refusal("a.nii --find hipocampus").contains("`hippocampus`"));
    }

    #[test]
    fn fast_takes_one_view() {
        let views = |line: &str| request(line).expect(line).views;
        assert_eq!(views("a.nii"), View::ALL);
        assert_eq!(views("a.nii --fast"), [View::Axial]);
        assert_eq!(views("a.nii --fast --view coronal"), [View::Coronal]);
        assert_eq!(
            views("a.nii --view coronal --view axial --view coronal"),
            [View::Coronal, View::Axial]
        );
        assert!(refusal("a.nii --fast --view all").contains("--fast looks at one view"));
    }
}
