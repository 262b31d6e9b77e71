//! What the built-in model states of a slice: its text has one form (`weights/recipe/findings.py`), so that statements can be
//! read back and counted.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::pipeline::modality::Modality;
use crate::pipeline::prepare::View;
use crate::pipeline::structures::Side;

/// What is said of the structures after each of these titles.
const TITLES: [(&str, &[Option<Side>]); 5] = [
    ("Both sides", &[Some(Side::Left), Some(Side::Right)]),
    ("Left only", &[Some(Side::Left)]),
    ("Right only", &[Some(Side::Right)]),
    ("Midline", &[None]),
    ("Shown", &[None]),
];

/// A text, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Findings {
    /// The text.
    pub text: String,
    /// The kind of image in the text's words, `T1-weighted MRI`; `MRI` where it is none of those that the model knows.
    pub sequence: String,
    /// The view in the text's words.
    pub view: Option<String>,
    /// Where the slice lies, `basal ganglia`.
    pub level: Option<String>,
    /// What the slice shows, in the order of the text. A sagittal slice does not show its side.
    pub structures: Vec<Shown>,
}

/// A structure that is stated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// Its side, where one is stated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// Its name.
    pub name: String,
}

impl Shown {
    /// Its side and its name.
    pub fn words(&self) -> String {
        match self.side {
            Some(side) => format!("{} {}", side.name(), self.name),
            None => self.name.clone(),
        }
    }
}

impl Findings {
    /// Reads a text. What it does not say in its form counts as not said.
    pub fn read(text: &str) -> Self {
        let text = text.trim();
        let mut sentences = text.split('.').map(str::trim);
        let mut first = sentences.next().unwrap_or_default().split(", ");
        let mut this = Self {
            text: text.to_owned(),
            sequence: first.next().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        for part in first {
            if let Some(view) = part.strip_suffix(" view") {
                this.view = Some(view.to_owned());
            }
            if let Some(level) = part.strip_prefix("level of the ") {
                this.level = Some(level.to_owned());
            }
        }
        for (title, names) in sentences.filter_map(|sentence| sentence.split_once(": ")) {
            let sides = TITLES.iter().find(|(known, _)| *known == title);
            let sides = sides.into_iter().flat_map(|(_, sides)| *sides);
            for side in sides {
                for name in names.split(", ") {
                    let shown = Shown {
                        side: *side,
                        name: name.to_owned(),
                    };
                    if !this.structures.contains(&shown) {
                        this.structures.push(shown);
                    }
                }
            }
        }
        this
    }

    /// The modality that is stated, if it is one of MRI's that the models know.
    pub fn modality(&self) -> Option<Modality> {
        let kind = self.sequence.strip_suffix(" MRI")?;
        let known = [Modality::T1, Modality::T2, Modality::Flair, Modality::Pd];
        known.into_iter().find(|modality| modality.phrase() == kind)
    }

    /// Whether the view is the one that the slice was cut in.
    pub fn is_of(&self, view: View) -> bool {
        self.view.as_deref() == Some(view.name())
    }
}

/// What was stated of the slices of one volume, put together.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// How many slices.
    pub slices: usize,
    /// Each kind of image with the number of slices of which it was stated, the commonest first.
    pub sequences: Vec<(String, usize)>,
    /// Each structure with the number of slices that were said to show it, the commonest first. One that has sides is counted
    /// by side in axial and coronal slices, and without in sagittal ones.
    pub structures: Vec<(String, usize)>,
}

impl Summary {
    /// Puts the findings of a volume's slices together.
    pub fn of(findings: &[Findings]) -> Self {
        let structures = findings
            .iter()
            .flat_map(|f| f.structures.iter().map(Shown::words));
        Self {
            slices: findings.len(),
            sequences: counted(findings.iter().map(|f| f.sequence.clone())),
            structures: counted(structures),
        }
    }

    /// The names of at most so many structures, without their sides, the commonest first.
    pub fn names(&self, most: usize) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (words, _) in &self.structures {
            let sides = [Side::Left, Side::Right].map(Side::name);
            let side = sides.iter().find_map(|side| words.strip_prefix(side));
            let name = side.map_or(words.as_str(), str::trim_start);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.truncate(most);
        names
    }

    /// The modality that most slices are said to be of, if more than half are.
    pub fn modality(&self) -> Option<Modality> {
        let (sequence, slices) = self.sequences.first()?;
        let stated = Findings {
            sequence: sequence.clone(),
            ..Findings::default()
        };
        stated.modality().filter(|_| 2 * slices > self.slices)
    }
}

/// Words with how often each comes, the commonest first, those of one number by name.
fn counted(words: impl Iterator<Item = String>) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word).or_insert(0) += 1;
    }
    let mut all: Vec<(String, usize)> = counts.into_iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_text_is_taken_apart() {
        let findings = Findings::read(
            " T1-weighted MRI, axial view, level of the basal ganglia. Both sides: thalamus, putamen. \
             Left only: amygdala. Midline: third ventricle.",
        );
        assert_eq!(findings.modality(), Some(Modality::T1));
        assert!(findings.is_of(View::Axial) && !findings.is_of(View::Coronal));
        assert_eq!(findings.level.as_deref(), Some("basal ganglia"));
        let words: Vec<String> = findings.structures.iter().map(Shown::words).collect();
        assert_eq!(
            words,
            shown(&[
                "left thalamus",
                "left putamen",
                "right thalamus",
                "right putamen",
                "left amygdala",
                "third ventricle"
            ])
        );
    }

    #[test]
    fn what_is_not_said_in_the_form_is_not_said() {
        let findings = Findings::read("MRI, sagittal view. No brain visible.");
        assert_eq!((findings.modality(), findings.level), (None, None));
        assert!(findings.structures.is_empty());
        let odd = Findings::read("A picture of a cat: nothing, else");
        assert_eq!((odd.modality(), odd.view), (None, None));
        assert!(odd.structures.is_empty());
        assert_eq!(Findings::read(""), Findings::default());
    }

    #[test]
    fn slices_are_put_together() {
        let texts = [
            "T2-weighted MRI, axial view, level of the convexity. No deep structure visible.",
            "T2-weighted MRI, sagittal view, level of the midline. Shown: brainstem, cerebellum.",
            "PD-weighted MRI, sagittal view, level of the midline. Shown: cerebellum.",
        ];
        let findings = texts.map(Findings::read);
        let summary = Summary::of(&findings);
        assert_eq!(summary.modality(), Some(Modality::T2));
        assert_eq!(
            summary.structures,
            [("cerebellum".into(), 2), ("brainstem".into(), 1)]
        );
        assert_eq!(summary.names(1), ["cerebellum"]);
        assert_eq!(Summary::of(&findings[1..]).modality(), None);
        let sides = Findings::read("MRI, axial view. Both sides: thalamus. Midline: brainstem.");
        assert_eq!(Summary::of(&[sides]).names(9), ["brainstem", "thalamus"]);
    }
}
