//! How a model is spoken to of structures: its template, and what a language model is asked to write instead.

use std::borrow::Cow;

use super::assembly::Assembly;
use super::designed::DesignedPrompt;
use super::instruct::{Author, Instruction, VIEW};
use super::modality::Modality;
use super::structures::Target;

/// The words of a model. In all of them `<instance>` stands for the structure, `<modality>` and `<kind>` for what the image is
/// (`T1-weighted` and `MRI`, nothing and `CT`), `<view>` for the view, `<look>` and `<place>` for how the structure looks and
/// where it lies; in what a language model is asked `<facts>` also for what was measured from the volume.
#[derive(Clone, Debug)]
pub struct Wording {
    /// The instruction where no language model writes one.
    pub stock: String,
    /// What a language model is asked.
    pub instruction: DesignedPrompt,
    /// The part of the body that volumes show, such as `the head`, if it is always the same.
    pub region: Option<String>,
}

impl Wording {
    /// That of the embedded model.
    pub fn embedded() -> &'static Self {
        &Assembly::embedded().wording
    }

    /// The template's words of a target.
    pub fn stock(&self, target: &Target, modality: Modality) -> Instruction {
        let about = About {
            target,
            name: &target.name,
            modality,
            view: VIEW,
            facts: "",
        };
        Instruction {
            structure: target.name.clone(),
            modality,
            text: self.fill(&self.stock, &about),
            author: Author::Stock,
            replaced: None,
        }
    }

    /// A text with what its words in angle brackets stand for, on one line. What is put in is not looked at again.
    pub(super) fn fill(&self, text: &str, about: &About) -> String {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once('<') {
            filled.push_str(before);
            rest = match after.split_once('>') {
                Some((word, left)) if let Some(meant) = self.meant(word, about) => {
                    filled.push_str(&meant);
                    left
                }
                _ => {
                    filled.push('<');
                    after
                }
            };
        }
        filled.push_str(rest);
        filled.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What a word stands for, if for anything.
    fn meant<'a>(&self, word: &str, about: &About<'a>) -> Option<Cow<'a, str>> {
        let structure = about.target.structure;
        Some(match word {
            "instance" => about.name.into(),
            "look" => match structure.and_then(|structure| structure.look.as_deref()) {
                Some(own) => own.into(),
                None => look(about.modality, structure.map_or("", |s| &s.tissue)).into(),
            },
            "place" => match (structure.and_then(|s| s.places.first()), &self.region) {
                (Some(place), _) => place.as_str().into(),
                (None, Some(region)) => format!("in {region}").into(),
                (None, None) => "in the image".into(),
            },
            "modality" => match about.modality {
                Modality::Ct => "".into(),
                modality => modality.phrase().into(),
            },
            "kind" => match about.modality {
                Modality::Ct => "CT".into(),
                _ => "MRI".into(),
            },
            "view" => about.view.into(),
            "facts" => about.facts.into(),
            _ => return None,
        })
    }
}

/// What words in angle brackets stand for.
pub(super) struct About<'a> {
    pub target: &'a Target,
    /// What the target is called: without its side where that is put in later.
    pub name: &'a str,
    pub modality: Modality,
    pub view: &'a str,
    /// What was measured from the volume.
    pub facts: &'a str,
}

/// How a tissue looks in a modality.
fn look(modality: Modality, tissue: &str) -> &'static str {
    match (modality, tissue) {
        (Modality::T1, "csf") | (Modality::Flair, "csf") | (Modality::Ct, "csf") => "dark",
        (Modality::T2, "csf") | (Modality::Pd, "csf") | (Modality::T1, "wm") => "bright",
        (Modality::T1, "gm") => "gray",
        (Modality::T2 | Modality::Flair | Modality::Pd, "wm") => "dark gray",
        (Modality::T2 | Modality::Flair | Modality::Pd, "gm") => "light gray",
        _ => "well visible",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_says_what_it_stands_for() {
        let target = Target::find("left hippocampus").expect("a structure");
        let said = |modality| Wording::embedded().stock(&target, modality).text;
        assert_eq!(
            said(Modality::T1),
            "Segment the left hippocampus in this T1-weighted <view> MRI."
        );
        assert_eq!(
            said(Modality::Ct),
            "Segment the left hippocampus in this <view> CT."
        );
        let other = Wording {
            stock: "<instance>, <look>, <place>".into(),
            region: None,
            ..Wording::embedded().clone()
        };
        let said = |target| other.stock(target, Modality::T1).text;
        assert_eq!(
            said(&target),
            "left hippocampus, gray, the medial temporal lobe"
        );
        // What is put in is not read again, and what stands for nothing stays.
        let odd = Wording {
            stock: "<instance> < <nothing> <kind>".into(),
            ..other.clone()
        };
        let said_oddly = odd.stock(&Target::free("<kind>", 0), Modality::Ct).text;
        assert_eq!(said_oddly, "<kind> < <nothing> CT");
        let free = Target::free("the prostate", 0);
        assert_eq!(said(&free), "the prostate, well visible, in the image");
    }
}
