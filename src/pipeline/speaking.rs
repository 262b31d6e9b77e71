//! Who says what of each target in each modality: the user, the language model, or the template.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::pipeline::Observer;
use crate::pipeline::instruct::{self, Author, Instruction, Writer};
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::View;
use crate::pipeline::request::{Instruct, Request};
use crate::pipeline::structures::Target;
use crate::pipeline::wording::Wording;

/// What instructions are about.
pub(super) struct Subject<'a> {
    /// Who writes them, and the user's own.
    pub request: &'a Request,
    pub targets: &'a [Target],
    /// Those that are spoken of.
    pub modalities: &'a [Modality],
    /// What was measured from the volume.
    pub facts: &'a str,
    pub views: &'a [View],
    pub wording: &'a Wording,
}

/// What a station of a segmentation leaves for the report.
pub(super) struct Told<'a> {
    /// Hashes by role.
    pub weights: &'a mut BTreeMap<&'static str, String>,
    pub warnings: &'a mut Vec<String>,
}

impl Subject<'_> {
    /// An instruction for each modality and target, targets fastest. `writer` loads the language model, where it has to write.
    pub(super) fn instructions(
        &self,
        gpu: &Gpu,
        writer: impl FnOnce() -> Result<Arc<Writer>>,
        told: &mut Told,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Instruction>> {
        let request = self.request;
        let own = |n: usize| request.instructions.get(n).and_then(Option::as_deref);
        let targets = || self.targets.iter().enumerate();
        let modalities = self.modalities.iter();
        let pairs: Vec<_> = modalities
            .flat_map(|modality| targets().map(move |(n, target)| (*modality, n, target)))
            .collect();
        let mut instructions: Vec<Instruction> = pairs
            .iter()
            .map(|(modality, n, target)| match own(*n) {
                Some(text) => Instruction::user(target, *modality, text),
                None => self.wording.stock(target, *modality),
            })
            .collect();
        let open: Vec<usize> = (0..pairs.len())
            .filter(|at| own(pairs[*at].1).is_none())
            .collect();
        if open.is_empty() || request.instruct == Instruct::Stock {
            return Ok(instructions);
        }
        let writer = match writer() {
            Err(error @ Error::MissingModel { .. }) if request.instruct == Instruct::Auto => {
                told.warnings
                    .push(format!("{error}; the instructions are the built-in ones"));
                return Ok(instructions);
            }
            writer => writer?,
        };
        told.weights
            .insert("language model", writer.sha256().to_owned());
        let requests: Vec<instruct::Request> = open
            .iter()
            .map(|at| instruct::Request {
                target: pairs[*at].2,
                modality: pairs[*at].0,
            })
            .collect();
        let mut progress = |done| observer.progress("writing instructions", done);
        let (wording, facts, views) = (self.wording, self.facts, self.views);
        let written = writer.instruct(gpu, wording, &requests, facts, views, &mut progress)?;
        drop(writer);
        gpu.trim();
        let replaced = written
            .iter()
            .filter(|instruction| instruction.replaced.is_some())
            .count();
        if replaced > 0 {
            let all = written.len();
            told.warnings.push(format!("{replaced} of {all} generated instructions missed their topic and were replaced by the built-in ones"));
        }
        for (at, mut instruction) in open.into_iter().zip(written) {
            if request.instruct == Instruct::Lvlm && instruction.author == Author::Llm {
                instruction.author = Author::Lvlm;
            }
            instructions[at] = instruction;
        }
        Ok(instructions)
    }
}
