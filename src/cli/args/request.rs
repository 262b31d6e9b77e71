//! What `segment` and `instruct` are asked for: volumes or cases, what to find in them, and how to say it.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::adapter::ModelArgs;
use super::phrases::PhraseArgs;
use super::prompts::PromptArgs;
use crate::error::{Error, Result};
use crate::pipeline::assembly::Assembly;
use crate::pipeline::batch::Batch;
use crate::pipeline::cases::Layout;
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::View;
use crate::pipeline::preview::Style;
use crate::pipeline::structures::Target;
use crate::pipeline::volume::LabelTable;
use crate::pipeline::{Fusion, Input, Instruct, Request};

/// Where `--help` puts the options for many cases.
const MANY: &str = "Many cases";

/// Which volumes, what to find in them, and how to say it.
#[derive(Debug, Args)]
pub(in crate::cli) struct VolumeArgs {
    /// Volumes (NIfTI, MGH or NRRD) of one patient, one per modality; the first gives the grid of the result. Or, for
    /// `segment`, a folder of many cases
    #[arg(value_name = "VOLUME|FOLDER")]
    inputs: Vec<PathBuf>,
    /// The modality of each VOLUME in turn, or of each channel in a FOLDER [default: from the file's name, else
    /// estimated]
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
        self.request_for(self.inputs()?)
    }

    fn request_for(&self, inputs: Vec<Input>) -> Result<Request> {
        self.request_of(inputs, &|name| Target::find(name))
    }

    /// The same of structures that `find` finds.
    fn request_of(
        &self,
        inputs: Vec<Input>,
        find: &dyn Fn(&str) -> Result<Target>,
    ) -> Result<Request> {
        let mut request = Request::new(inputs);
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
                    request.targets.push(find(name)?);
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
            Some(InstructArg::Lvlm) => Instruct::Lvlm,
            Some(InstructArg::Stock) => Instruct::Stock,
        };
        request.fast = self.fast;
        request.views = self.views()?;
        Ok(request)
    }

    /// The structures' names.
    pub(super) fn find(&self) -> &[String] {
        &self.find
    }

    /// The views that are named, each once.
    pub(super) fn named_views(&self) -> Vec<View> {
        ViewArg::named(&self.view)
    }

    pub(super) fn inputs(&self) -> Result<Vec<Input>> {
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
        let views = ViewArg::named(&self.view);
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
    /// How several modalities become one map [default: late, or as the model says]
    #[arg(long, value_enum, value_name = "FUSION")]
    fusion: Option<FusionArg>,
    #[command(flatten)]
    pub(in crate::cli) models: ModelArgs,
    #[command(flatten)]
    pub(in crate::cli) prompts: PromptArgs,
    #[command(flatten)]
    pub(in crate::cli) phrases: PhraseArgs,
    /// Another network than the built-in one: a MeshNet that `convert` wrote, which has classes of its own; a CLIPSeg or
    /// a CRIS that is told by --prompt or --find, a folder; or a SAM or MobileSAM that is shown where to look by --box and --point:
    /// Hugging Face's folder, or a safetensors file with segment-anything's names; called MedSAM, it sees slices as MedSAM does. Or a
    /// model.json, or the folder of one, that puts a Zeus together from checkpoints (`keraunos schema model`). Or the name of one
    /// that `pull` fetched
    #[arg(long, value_name = "FILE|DIR|NAME", conflicts_with = "weights")]
    pub(in crate::cli) model: Option<PathBuf>,
    /// Segments the cases of a list, CSV or JSON, instead of a folder's
    #[arg(long, value_name = "FILE", help_heading = MANY)]
    cases: Option<PathBuf>,
    /// How the folder names its cases [default: by what is in it]
    #[arg(long, value_enum, help_heading = MANY)]
    layout: Option<LayoutArg>,
    /// Passes over cases that are done: the same inputs, weights and options by their report
    #[arg(long, help_heading = MANY)]
    skip_existing: bool,
    /// Takes one of N parts of the cases, for several machines or jobs
    #[arg(long, value_name = "N", requires = "part", help_heading = MANY)]
    num_parts: Option<usize>,
    /// Which of the parts, from 1
    #[arg(long, value_name = "K", requires = "num_parts", help_heading = MANY)]
    part: Option<usize>,
    /// Writes the labels' names for 3D Slicer, ITK-SNAP, FreeSurfer, FSLeyes or niivue too
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PROGRAM,...")]
    labels: Vec<LabelsArg>,
    /// How the preview draws structures
    #[arg(long, value_enum, value_name = "STYLE", default_value = "both")]
    pub(super) preview: PreviewArg,
    /// Writes each structure's probabilities as a volume too
    #[arg(long)]
    pub(in crate::cli) save_probabilities: bool,
    /// Prints paths, structures and report as one JSON object
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// What many cases are found by.
pub(in crate::cli) enum Cases {
    Folder(PathBuf, Option<Layout>),
    List(PathBuf),
}

impl SegmentArgs {
    /// Where many cases come from; nothing for the volumes of one.
    pub(in crate::cli) fn cases(&self) -> Result<Option<Cases>> {
        let volumes = &self.volumes;
        let named = [
            &volumes.t1,
            &volumes.t2,
            &volumes.flair,
            &volumes.pd,
            &volumes.ct,
        ];
        let has_named = named.iter().any(|path| path.is_some());
        let folder = volumes.inputs.iter().find(|path| path.is_dir());
        let cases = match (&self.cases, folder, volumes.inputs.as_slice()) {
            (Some(list), None, []) if !has_named => {
                if !volumes.modality.is_empty() {
                    let problem = "--modality with --cases; a list has a column for each modality";
                    return Err(Error::Argument(problem.into()));
                }
                Cases::List(list.clone())
            }
            (None, Some(folder), [_]) if !has_named => {
                Cases::Folder(folder.clone(), self.layout.map(LayoutArg::known))
            }
            (None, None, _) => {
                let many = [
                    ("--layout", self.layout.is_some()),
                    ("--skip-existing", self.skip_existing),
                    ("--num-parts", self.num_parts.is_some()),
                ];
                return match many.iter().find(|(_, given)| *given) {
                    Some((option, _)) => Err(Error::Argument(format!(
                        "{option} is for many cases; give a folder of them, or --cases"
                    ))),
                    None => Ok(None),
                };
            }
            (_, Some(folder), _) => {
                return Err(Error::Argument(format!(
                    "`{}` is a folder; give it alone, or the volumes of one patient",
                    folder.display()
                )));
            }
            (Some(_), None, _) => {
                let problem = "--cases names all volumes; leave out the others";
                return Err(Error::Argument(problem.into()));
            }
        };
        if let (Cases::List(_), Some(_)) = (&cases, self.layout) {
            let problem = "--layout is for a folder; a list says where its volumes are";
            return Err(Error::Argument(problem.into()));
        }
        Ok(Some(cases))
    }

    /// The share of the cases that is asked for: the `k`-th of `n`, from 0.
    pub(in crate::cli) fn part(&self) -> Result<(usize, usize)> {
        match (self.part.unwrap_or(1), self.num_parts.unwrap_or(1)) {
            (k, n) if (1..=n).contains(&k) => Ok((k - 1, n)),
            (k, n) => Err(Error::Argument(format!(
                "--part {k} of {n}; parts are counted from 1 to --num-parts"
            ))),
        }
    }

    /// The modalities by which a folder's volumes are known.
    pub(in crate::cli) fn modalities(&self) -> Vec<Modality> {
        let named = self.volumes.modality.iter();
        named.map(|modality| modality.known()).collect()
    }

    /// The run over many cases of what is asked of each.
    pub(in crate::cli) fn batch(&self, request: Request) -> Result<Batch> {
        Ok(Batch {
            request,
            folder: self.output()?.clone(),
            skip_existing: self.skip_existing,
            probabilities: self.save_probabilities,
        })
    }

    /// The volumes; none where there are many cases of them.
    fn inputs(&self) -> Result<Vec<Input>> {
        match self.cases()? {
            Some(_) => Ok(Vec::new()),
            None => self.volumes.inputs(),
        }
    }

    pub(in crate::cli) fn request(&self) -> Result<Request> {
        let mut request = self.volumes.request_for(self.inputs()?)?;
        request.fusion = self.fusion.map_or(Fusion::Late, FusionArg::known);
        request.tables = self.tables();
        request.preview = self.preview.known();
        Ok(request)
    }

    /// The same of a model's own structures, views and fusion.
    pub(in crate::cli) fn request_to(&self, model: &Assembly) -> Result<Request> {
        let catalogue = model.catalogue()?;
        let find = |name: &str| match catalogue {
            Some(catalogue) => catalogue.find(name),
            None => Err(Error::Argument(format!(
                "`{}` has no `labels`: give --instruction instead of --find",
                model.path.display()
            ))),
        };
        let volumes = &self.volumes;
        let mut request = volumes.request_of(self.inputs()?, &find)?;
        if let (true, Some(catalogue)) = (request.targets.is_empty(), catalogue) {
            request.targets = catalogue.targets();
        }
        if volumes.named_views().is_empty() && !request.fast {
            request.views.clone_from(&model.views);
        }
        let own = self.fusion.map(FusionArg::known);
        request.fusion = own.or(model.fusion).unwrap_or_default();
        request.tables = self.tables();
        request.preview = self.preview.known();
        Ok(request)
    }

    pub(super) fn tables(&self) -> Vec<LabelTable> {
        let mut tables = Vec::new();
        for table in self.labels.iter().map(|labels| labels.known()) {
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        tables
    }

    pub(in crate::cli) fn output(&self) -> Result<&PathBuf> {
        let missing = || Error::Argument("no folder for the results; give one by --output".into());
        self.output.as_ref().ok_or_else(missing)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FusionArg {
    /// The masks of each modality, weighted by their predicted Dice
    Late,
    /// The mean of the modalities' embeddings
    Hybrid,
    /// The modalities as channels of one image, where the weights have them
    Early,
}

impl FusionArg {
    fn known(self) -> Fusion {
        match self {
            Self::Late => Fusion::Late,
            Self::Hybrid => Fusion::Hybrid,
            Self::Early => Fusion::Early,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutArg {
    /// sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz
    Bids,
    /// case_0000.nii.gz, case_0001.nii.gz, a channel each
    Nnunet,
    /// Every volume is a case
    Flat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum PreviewArg {
    /// Outlines, and a tint inside
    Both,
    /// Outlines alone, which leave the image as it is
    Contour,
    /// Areas alone
    Fill,
}

impl PreviewArg {
    pub(super) fn known(self) -> Style {
        match self {
            Self::Both => Style::Both,
            Self::Contour => Style::Contour,
            Self::Fill => Style::Fill,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LabelsArg {
    /// 3D Slicer's colour table
    Ctbl,
    /// ITK-SNAP's label description
    Itksnap,
    /// FreeSurfer's colour look-up table
    Freesurfer,
    /// FSLeyes' look-up table
    Fsleyes,
    /// niivue's label colour map
    Niivue,
}

impl LabelsArg {
    fn known(self) -> LabelTable {
        match self {
            Self::Ctbl => LabelTable::Ctbl,
            Self::Itksnap => LabelTable::Itksnap,
            Self::Freesurfer => LabelTable::Freesurfer,
            Self::Fsleyes => LabelTable::Fsleyes,
            Self::Niivue => LabelTable::Niivue,
        }
    }
}

impl LayoutArg {
    fn known(self) -> Layout {
        match self {
            Self::Bids => Layout::Bids,
            Self::Nnunet => Layout::Nnunet,
            Self::Flat => Layout::Flat,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum InstructArg {
    /// The language model
    Llm,
    /// The language model after looking at the volume (`keraunos describe` shows what it sees)
    Lvlm,
    /// The built-in template
    Stock,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum ViewArg {
    Axial,
    Coronal,
    Sagittal,
    All,
}

impl ViewArg {
    /// The views that are named, each once, in their order.
    fn named(given: &[Self]) -> Vec<View> {
        let mut views = Vec::new();
        for view in given {
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
        views
    }

    /// The views that are named, or all.
    pub(in crate::cli) fn views(given: &[Self]) -> Vec<View> {
        match given {
            [] => View::ALL.to_vec(),
            some => Self::named(some),
        }
    }
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
