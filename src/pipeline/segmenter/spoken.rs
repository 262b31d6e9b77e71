//! What is said of each target, by whom, and as which prompt tokens.

use std::collections::{BTreeMap, BTreeSet};

use super::{Observer, Segmenter};
use crate::error::{Error, Result};
use crate::gpu::Recorder;
use crate::models::bert::Sentences;
use crate::pipeline::describe::findings::Summary;
use crate::pipeline::describe::slices::places;
use crate::pipeline::inputs::{Loaded, ReportedInput, facts, load};
use crate::pipeline::instruct::Instruction;
use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::{Prepared, View};
use crate::pipeline::request::{Instruct, Request, slicing, targets};
use crate::pipeline::speaking::{Subject, Told};
use crate::tensor::Tensor;

/// Slices of each view that the LVLM looks at.
const LOOKED_AT: usize = 3;
/// The most structures that the language model is told are shown.
const NAMED: usize = 8;

impl Segmenter {
    /// Only the instructions of a request.
    ///
    /// # Errors
    /// As [`Segmenter::segment`].
    pub fn instruct(
        &self,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<(Vec<Instruction>, Vec<String>)> {
        let slicing = slicing(request)?;
        let Loaded {
            reference,
            images,
            mut inputs,
            mut warnings,
            ..
        } = load(&request.inputs)?;
        let seen = match request.instruct {
            Instruct::Lvlm => Some(self.see(&images, &mut inputs, &slicing.views, observer)?),
            _ => None,
        };
        let spoken: Vec<Modality> = inputs.iter().map(|input| input.modality).collect();
        let wording = &self.assembly.wording;
        let region = wording.region.as_deref();
        let subject = Subject {
            request,
            targets: &targets(request)?,
            modalities: &spoken,
            facts: &facts(&inputs[0], &reference, region, seen.as_deref()),
            views: &slicing.views,
            wording,
        };
        let mut told = Told {
            weights: &mut BTreeMap::new(),
            warnings: &mut warnings,
        };
        let instructions = self.said(&subject, &mut told, observer)?;
        Ok((instructions, warnings))
    }

    /// The instructions about a subject.
    pub(super) fn said(
        &self,
        subject: &Subject,
        told: &mut Told,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Instruction>> {
        subject.instructions(&self.gpu, || self.some_writer(), told, observer)
    }

    /// Looks at the middle of each volume: gives what the first shows, in words for the language model, and takes a modality
    /// that was only estimated from what is stated.
    pub(super) fn see(
        &self,
        images: &[Prepared],
        inputs: &mut [ReportedInput],
        views: &[View],
        observer: &mut dyn Observer,
    ) -> Result<String> {
        let mut shown = None;
        for (image, input) in images.iter().zip(inputs) {
            let looked: Vec<(View, usize)> = views
                .iter()
                .flat_map(|view| places(image, *view, LOOKED_AT).map(|index| (*view, index)))
                .collect();
            let summary = Summary::of(&self.findings(image, &looked, observer)?);
            input.take_stated(&summary);
            shown.get_or_insert_with(|| summary.names(NAMED).join(", "));
        }
        self.gpu.trim();
        Ok(shown.unwrap_or_default())
    }

    /// Prompt tokens of the instructions: per modality and view a tensor `[targets, prompt_dim]`.
    pub(super) fn texts(
        &self,
        instructions: &[Instruction],
        targets: usize,
        views: &[View],
        weights: &mut BTreeMap<&'static str, String>,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Tensor>> {
        let dim = self.zeus.config().prompt_dim;
        let mut known: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        for text in views
            .iter()
            .flat_map(|view| instructions.iter().map(|i| i.for_view(*view)))
        {
            match self.stock.get(&text) {
                Some(token) => drop(known.insert(text, token.to_vec())),
                None => drop(unknown.insert(text)),
            }
        }
        if !unknown.is_empty() {
            let encoder = self.some_text_encoder()?;
            let (has, wants) = (encoder.dim(), self.zeus.config().text_dim);
            if has != wants {
                return Err(Error::Argument(format!(
                    "the text encoder gives {has} values a token; these weights read {wants}"
                )));
            }
            weights.insert("text encoder", encoder.sha256.clone());
            let texts: Vec<&str> = unknown.iter().map(String::as_str).collect();
            let read = |rec: &Recorder, sentences: &Sentences| self.zeus.read(rec, sentences);
            let (values, cut) = encoder.read(&self.gpu, &texts, read)?;
            if cut {
                warnings.push(
                    "an instruction was longer than the text encoder takes; its end was left out"
                        .into(),
                );
            }
            let rows = values.chunks_exact(dim).map(<[f32]>::to_vec);
            known.extend(texts.iter().map(|text| (*text).to_owned()).zip(rows));
        }
        // Modalities outside, then views.
        let mut tensors = Vec::new();
        for instructions in instructions.chunks(targets) {
            for view in views {
                let values: Vec<f32> = instructions
                    .iter()
                    .flat_map(|i| known[&i.for_view(*view)].iter().copied())
                    .collect();
                tensors.push(Tensor::upload(
                    &self.gpu,
                    "instructions",
                    [instructions.len(), dim],
                    &values,
                )?);
            }
        }
        Ok(tensors)
    }
}
