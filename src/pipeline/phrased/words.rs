//! Phrases for structures, by the prompt types of MedVLSM (arXiv 2308.07706): from nothing by the bare name to everything that is
//! known of a structure.

use crate::pipeline::modality::Modality;
use crate::pipeline::structures::Target;

/// How much a phrase says. MedVLSM's types also give shape (`P2`) and size (`P4`); the table of structures has neither, so they are
/// left out here, and those two say what the type before them says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptType {
    /// Nothing: what the picture alone is worth.
    P0,
    /// The name.
    #[default]
    P1,
    /// The name with its shape.
    P2,
    /// With its shade of grey in this modality.
    P3,
    /// With its size.
    P4,
    /// With its number.
    P5,
    /// With where it is.
    P6,
    /// The name and what it is.
    P7,
    /// `P5` and what it is.
    P8,
    /// `P8` with where it is.
    P9,
}

impl PromptType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::P0,
        Self::P1,
        Self::P2,
        Self::P3,
        Self::P4,
        Self::P5,
        Self::P6,
        Self::P7,
        Self::P8,
        Self::P9,
    ];

    /// The phrase for a structure: `one gray left hippocampus, located in the medial temporal lobe`. What is not known of it is
    /// left out.
    pub fn phrase(self, target: &Target, modality: Modality) -> String {
        let named = |shaded: bool, counted: bool| {
            let count = counted.then(|| number(target)).flatten();
            let shade = shaded.then(|| shade(target, modality)).flatten();
            let words = [count, shade, Some(target.name.as_str())];
            words.into_iter().flatten().collect::<Vec<_>>().join(" ")
        };
        match self {
            Self::P0 => String::new(),
            Self::P1 | Self::P2 => named(false, false),
            Self::P3 | Self::P4 => named(true, false),
            Self::P5 => named(true, true),
            Self::P6 => named(true, true) + &place(target),
            Self::P7 => named(false, false) + &kind(target),
            Self::P8 => named(true, true) + &kind(target),
            Self::P9 => named(true, true) + &kind(target) + &place(target),
        }
    }
}

fn number(target: &Target) -> Option<&'static str> {
    let structure = target.structure?;
    Some(match structure.sided && target.side.is_none() {
        true => "two",
        false => "one",
    })
}

/// The grey of a tissue among the others.
fn shade(target: &Target, modality: Modality) -> Option<&'static str> {
    let tissue = target.structure?.tissue.as_str();
    Some(match (modality, tissue) {
        (Modality::T1, "wm") | (Modality::T2, "csf") | (Modality::Flair | Modality::Pd, "gm") => {
            "bright"
        }
        (Modality::T1 | Modality::Flair | Modality::Ct, "csf")
        | (Modality::T2 | Modality::Pd, "wm") => "dark",
        (_, "wm" | "gm" | "csf") => "gray",
        _ => return None,
    })
}

/// ` which is …`, of its tissue and the last of its places.
fn kind(target: &Target) -> String {
    let Some(structure) = target.structure else {
        return String::new();
    };
    let tissue = match structure.tissue.as_str() {
        "wm" => "white matter",
        "gm" => "gray matter",
        "csf" => "fluid",
        _ => "tissue",
    };
    let places = structure.places.last();
    let places = places.map_or_else(String::new, |place| format!(" {}", placed(place)));
    format!(" which is {tissue}{places}")
}

/// `, located …`, by the first of its places.
fn place(target: &Target) -> String {
    let places = target.structure.and_then(|s| s.places.first());
    places.map_or_else(String::new, |place| format!(", located {}", placed(place)))
}

/// A place as where something is: one that begins with an article is something to be in.
fn placed(place: &str) -> String {
    match place.starts_with("the ") {
        true => format!("in {place}"),
        false => place.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_grow_with_their_type() {
        let phrase = |name: &str, modality| {
            let target = Target::find(name).expect("a structure");
            PromptType::ALL.map(|kind| kind.phrase(&target, modality))
        };
        let [p0, p1, p2, p3, p4, p5, p6, p7, p8, p9] = phrase("left hippocampus", Modality::T1);
        assert_eq!(
            [p0.as_str(), p1.as_str(), p2.as_str()],
            ["", "left hippocampus", "left hippocampus"]
        );
        assert_eq!([p3.as_str(), p4.as_str()], ["gray left hippocampus"; 2]);
        assert_eq!(p5, "one gray left hippocampus");
        assert_eq!(
            p6,
            "one gray left hippocampus, located in the medial temporal lobe"
        );
        assert_eq!(
            p7,
            "left hippocampus which is gray matter in the floor of the temporal horn"
        );
        assert_eq!(
            p8,
            "one gray left hippocampus which is gray matter in the floor of the temporal horn"
        );
        assert_eq!(
            p9,
            "one gray left hippocampus which is gray matter in the floor of the temporal horn, located in the medial temporal lobe"
        );
        let [.., p6, _, _, _] = phrase("thalamus", Modality::Flair);
        assert_eq!(
            p6,
            "two bright thalamus, located beside the third ventricle"
        );
        let [_, _, _, p3, ..] = phrase("whole brain", Modality::T2);
        assert_eq!(p3, "whole brain");
    }

    #[test]
    fn what_only_words_describe_stays_as_it_is() {
        let target = Target::free("a polyp", 0);
        for kind in &PromptType::ALL[1..] {
            assert_eq!(kind.phrase(&target, Modality::T1), "a polyp");
        }
    }
}
