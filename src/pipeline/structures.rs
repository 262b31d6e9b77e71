//! The structures a model knows by name: those of the embedded one, `weights/structures.json`, or of a user's model.
//!
//! The embedded model's labels of single structures are FreeSurfer's, so that its colour table and every script that
//! speaks it fit; composites (the basal ganglia, both hippocampi) are numbered from 200.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::pipeline::assembly::Assembly;

static EMBEDDED: LazyLock<Catalogue> = LazyLock::new(|| {
    let catalogue = Assembly::embedded().catalogue().ok().flatten();
    catalogue.expect("the embedded model has structures; a test parses them")
});

/// First label of targets that only an instruction describes; further ones count on from
/// [`MORE_FREE_LABELS`], above every label of the catalogue.
pub const FREE_LABEL: u16 = 1;
/// Label of the second such target.
pub const MORE_FREE_LABELS: u16 = 1001;

/// One anatomical structure and how it is spoken of.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Structure {
    /// The name that reports use.
    pub name: String,
    /// Other names that are understood.
    #[serde(default)]
    pub synonyms: Vec<String>,
    /// Whether left and right can be asked for apart.
    #[serde(default)]
    pub sided: bool,
    /// Where it lies, in words.
    #[serde(default)]
    pub places: Vec<String>,
    /// How it looks, in words, where `tissue` does not tell.
    #[serde(default)]
    pub look: Option<String>,
    /// `wm`, `gm`, `csf`, or empty for a mixture.
    #[serde(default)]
    pub tissue: String,
    /// How many elementary parts it is made of: the fewer, the more specific.
    #[serde(default = "one")]
    pub parts: u32,
    /// Label by side.
    labels: Labels,
}

fn one() -> u32 {
    1
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    left: Option<u16>,
    right: Option<u16>,
    both: u16,
}

/// Structures that can be asked for by name, each with labels of its own.
#[derive(Clone, Copy, Debug)]
pub struct Catalogue(&'static [Structure]);

impl Catalogue {
    /// That of the embedded model.
    pub fn embedded() -> Self {
        *EMBEDDED
    }

    /// Looks whether structures can be told apart.
    ///
    /// # Errors
    /// A structure without a name or a side's label, a name or label that two of them have, in a fragment of a message.
    pub fn check(structures: &[Structure]) -> Result<(), String> {
        let (mut names, mut labels) = (BTreeMap::new(), BTreeSet::new());
        if structures.is_empty() {
            return Err("no structure".into());
        }
        for structure in structures {
            let name = &structure.name;
            for known in std::iter::once(name).chain(&structure.synonyms) {
                let (side, rest) = split_side(&normal(known));
                if ["", "left", "right"].contains(&rest.as_str()) || side.is_some() {
                    return Err(format!("`{known}` is no name of a structure"));
                }
                let other = names.insert(rest, name);
                if other.is_some_and(|other| other != name) {
                    return Err(format!("`{known}` is a name of two structures"));
                }
            }
            let Labels { left, right, both } = structure.labels;
            if [left, right].map(|label| label.is_some()) != [structure.sided; 2] {
                let problem = match structure.sided {
                    true => "needs labels for `left` and `right`",
                    false => "has labels for sides, but `sided` is not true",
                };
                return Err(format!("`{name}` {problem}"));
            }
            for label in [Some(both), left, right].into_iter().flatten() {
                if label == 0 {
                    return Err(format!("`{name}` has label 0, which is the background's"));
                }
                if !labels.insert(label) {
                    return Err(format!("label {label} of `{name}` is another's too"));
                }
            }
        }
        Ok(())
    }

    /// Keeps structures as long as the program runs: targets refer to them.
    ///
    /// # Errors
    /// As [`Catalogue::check`].
    pub fn new(structures: Vec<Structure>) -> Result<Self, String> {
        Self::check(&structures)?;
        Ok(Self(structures.leak()))
    }

    /// All structures.
    pub fn structures(self) -> &'static [Structure] {
        self.0
    }

    /// Looks a target up by name, synonym and side: "left hippocampus", "globus pallidus",
    /// "bilateral thalamus".
    ///
    /// # Errors
    /// [`Error::UnknownStructure`] with the nearest names.
    pub fn find(self, words: &str) -> Result<Target> {
        let wanted = normal(words);
        let unknown = || Error::UnknownStructure {
            name: words.to_owned(),
            nearest: self.nearest(&wanted),
        };
        let (side, name) = split_side(&wanted);
        let known = |s: &&Structure| {
            std::iter::once(&s.name)
                .chain(&s.synonyms)
                .any(|n| normal(n) == name)
        };
        let structure = self.0.iter().find(known).ok_or_else(unknown)?;
        match side {
            Some(_) if !structure.sided => Err(unknown()),
            side => Ok(Target::of(structure, side)),
        }
    }

    /// Every target that can be asked for, composites first.
    pub fn targets(self) -> Vec<Target> {
        let sides = |sided| match sided {
            true => &[None, Some(Side::Left), Some(Side::Right)][..],
            false => &[None],
        };
        let of =
            |s: &'static Structure| sides(s.sided).iter().map(move |side| Target::of(s, *side));
        let mut targets: Vec<Target> = self.0.iter().flat_map(of).collect();
        targets.sort_by_key(|target| std::cmp::Reverse(target.parts));
        targets
    }

    /// The known names most like `wanted`, quoted and joined.
    fn nearest(self, wanted: &str) -> String {
        let mut names: Vec<(usize, String)> = self
            .targets()
            .into_iter()
            .map(|target| {
                let structure = target.structure.into_iter().flat_map(|s| &s.synonyms);
                let side = target
                    .side
                    .map_or(String::new(), |side| format!("{} ", side.name()));
                let synonyms =
                    structure.map(|name| distance(wanted, &normal(&format!("{side}{name}"))));
                (
                    synonyms
                        .chain([distance(wanted, &normal(&target.name))])
                        .min()
                        .unwrap_or(usize::MAX),
                    target.name,
                )
            })
            .collect();
        names.sort();
        names
            .iter()
            .take(5)
            .map(|(_, name)| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// A side of the patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The patient's left.
    Left,
    /// The patient's right.
    Right,
}

impl Side {
    /// `left` or `right`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

/// What a mask is asked for.
#[derive(Clone, Debug)]
pub struct Target {
    /// The structure; none for a free instruction.
    pub structure: Option<&'static Structure>,
    /// The side, where one is asked for.
    pub side: Option<Side>,
    /// The name, side included.
    pub name: String,
    /// The label in the map.
    pub label: u16,
    /// Where masks overlap the more specific target wins: the one of fewer parts.
    pub parts: u32,
}

impl Target {
    fn of(structure: &'static Structure, side: Option<Side>) -> Self {
        let labels = &structure.labels;
        let label = match side {
            None => Some(labels.both),
            Some(Side::Left) => labels.left,
            Some(Side::Right) => labels.right,
        };
        let name = match side {
            None => structure.name.clone(),
            Some(side) => format!("{} {}", side.name(), structure.name),
        };
        // Both sides together are twice the parts of one.
        let parts = structure.parts
            * if structure.sided && side.is_none() {
                2
            } else {
                1
            };
        Self {
            structure: Some(structure),
            side,
            name,
            label: label.unwrap_or(labels.both),
            parts,
        }
    }

    /// The `n`-th target that only its instruction describes, from 0 on.
    pub fn free(instruction: &str, n: u16) -> Self {
        let label = if n == 0 {
            FREE_LABEL
        } else {
            MORE_FREE_LABELS + n - 1
        };
        Self {
            structure: None,
            side: None,
            name: instruction.to_owned(),
            label,
            parts: 0,
        }
    }

    /// The structure's name, whichever side is asked for.
    pub fn name_without_side(&self) -> &str {
        self.structure
            .map_or(&self.name, |structure| &structure.name)
    }

    /// [`Catalogue::find`] of the embedded model's.
    ///
    /// # Errors
    /// [`Error::UnknownStructure`] with the nearest names.
    pub fn find(words: &str) -> Result<Self> {
        Catalogue::embedded().find(words)
    }

    /// Every target of the embedded model, composites first.
    pub fn all() -> Vec<Self> {
        Catalogue::embedded().targets()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

fn normal(words: &str) -> String {
    let lower = words
        .to_lowercase()
        .replace("grey", "gray")
        .replace(['-', '_'], " ");
    let words: Vec<&str> = lower
        .split_whitespace()
        .filter(|word| *word != "the")
        .collect();
    words.join(" ")
}

/// The side that words name, and the rest: "left x", "x left", "x on the left", "bilateral x".
fn split_side(words: &str) -> (Option<Side>, String) {
    for side in [Side::Left, Side::Right] {
        let name = side.name();
        let stripped = words
            .strip_prefix(&format!("{name} sided "))
            .or_else(|| words.strip_prefix(&format!("{name} ")))
            .or_else(|| words.strip_suffix(&format!(" on {name}")))
            .or_else(|| words.strip_suffix(&format!(" {name}")));
        // "left and right x" is both.
        if let Some(rest) = stripped.filter(|rest| !rest.starts_with("and ")) {
            return (Some(side), rest.to_owned());
        }
    }
    let both = ["bilateral ", "both ", "left and right "];
    let rest = both
        .iter()
        .find_map(|prefix| words.strip_prefix(prefix))
        .unwrap_or(words);
    (
        None,
        rest.strip_suffix(" on both sides")
            .unwrap_or(rest)
            .to_owned(),
    )
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_is_found_by_its_own_name_and_has_a_label_of_its_own() {
        let targets = Target::all();
        assert_eq!(targets.len(), 69);
        let labels: std::collections::BTreeSet<u16> = targets.iter().map(|t| t.label).collect();
        assert_eq!(labels.len(), targets.len());
        assert!(labels.iter().all(|label| (2..=255).contains(label)));
        for target in targets {
            assert_eq!(
                Target::find(&target.name).expect("a known name").label,
                target.label
            );
        }
    }

    #[test]
    fn sides_and_synonyms_are_understood() {
        let label = |words: &str| Target::find(words).map(|t| t.label).ok();
        assert_eq!(label("Left Hippocampus"), Some(17));
        assert_eq!(label("hippocampus on the right"), Some(53));
        assert_eq!(label("right-sided globus pallidus"), Some(52));
        assert_eq!(label("bilateral thalamus"), label("thalamus"));
        assert_eq!(label("left and right thalamus"), label("thalamus"));
        assert_eq!(label("the grey matter"), label("gray matter"));
        assert_eq!(label("left brainstem"), None);
        assert_eq!(label("left kidney"), None);
    }

    #[test]
    fn the_nearest_names_are_offered() {
        let error = Target::find("left hipocampus")
            .expect_err("a misspelt name")
            .to_string();
        assert!(error.contains("`left hippocampus`"), "{error}");
    }
}
