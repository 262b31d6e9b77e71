//! What every result says of the program and the model behind it: what they are not for, what the model was made of, and
//! whose work to name.

use serde::{Deserialize, Serialize};

use super::assembly::Assembly;

/// What keraunos is not.
pub const DISCLAIMER: &str = "Not a medical device; not for clinical use.";

/// Whose work a user of the results names: the program, and the paper whose topology it runs. The words are those of
/// `CITATION.cff`.
pub const CITATION: [&str; 2] = [
    concat!(
        "The keraunos developers. keraunos ",
        env!("CARGO_PKG_VERSION"),
        "."
    ),
    "S. Dai, K. Ye, G. Liu, H. Tang, L. Zhan. Zeus: Zero-shot LLM Instruction for Union Segmentation in Multimodal \
     Medical Imaging. arXiv:2504.07336, 2025.",
];

/// The same where boxes and points showed what to segment: SAM's paper, MedSAM's and MobileSAM's.
pub const PROMPTED_CITATION: [&str; 2] = [
    CITATION[0],
    "A. Kirillov et al. Segment Anything. arXiv:2304.02643, 2023; where MedSAM's weights were used also J. Ma et al. \
     Segment Anything in Medical Images. arXiv:2304.12306, 2023, where MobileSAM's were C. Zhang et al. Faster \
     Segment Anything. arXiv:2306.14289, 2023.",
];

/// The same where phrases named what to segment: CLIPSeg's paper, and MedVLSM's.
pub const PHRASED_CITATION: [&str; 2] = [
    CITATION[0],
    "T. Lüddecke, A. Ecker. Image Segmentation Using Text and Image Prompts. arXiv:2112.10003, 2022; for medical images K. Poudel et \
     al. Exploring Transfer Learning in Medical Image Segmentation using Vision-Language Models. arXiv:2308.07706, 2024.",
];

/// The same where the phrases were BiomedCLIP's: MedVLSM's paper, and BiomedCLIP's.
pub const BIOMED_CITATION: [&str; 2] = [
    CITATION[0],
    "K. Poudel et al. Exploring Transfer Learning in Medical Image Segmentation using Vision-Language Models. arXiv:2308.07706, 2024; \
     on S. Zhang et al. BiomedCLIP: a multimodal biomedical foundation model pretrained from fifteen million scientific image-text \
     pairs. arXiv:2303.00915, 2023.",
];

/// The same where a CRIS drew: its paper, and MedVLSM's.
pub const CRIS_CITATION: [&str; 2] = [
    CITATION[0],
    "Z. Wang et al. CRIS: CLIP-Driven Referring Image Segmentation. arXiv:2111.15174, 2022; for medical images K. Poudel et al. \
     Exploring Transfer Learning in Medical Image Segmentation using Vision-Language Models. arXiv:2308.07706, 2024.",
];

/// The same where a MeshNet labelled the volume.
pub const MESHNET_CITATION: [&str; 2] = [
    CITATION[0],
    "A. Fedorov, J. Johnson, E. Damaraju, A. Ozerin, V. Calhoun, S. Plis. End-to-end learning of brain tissue segmentation from \
     imperfect labeling. arXiv:1612.00940, 2017.",
];

/// What a model was made for and of, and where it fails; `weights/README.md` in short.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// What it is called.
    pub name: String,
    /// What it does here; reports name the hash of its weights by this word.
    #[serde(default = "segmentation")]
    pub role: String,
    /// The licence of its weights, as an SPDX expression.
    #[serde(default = "not_stated")]
    pub licence: String,
    /// What it is for.
    #[serde(default = "not_stated")]
    pub intended_use: String,
    /// What it was trained on.
    #[serde(default = "not_stated")]
    pub data: String,
    /// What it cannot do, or was never asked to.
    #[serde(default)]
    pub limits: Vec<String>,
    /// Whose work a user of its results names, beside what the program names anyhow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub citation: Option<String>,
}

impl Card {
    /// The card of the model that is part of the program.
    pub fn zeus_mini() -> &'static Self {
        &Assembly::embedded().card
    }
}

fn segmentation() -> String {
    "segmentation".into()
}

fn not_stated() -> String {
    "not stated".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of a key in `CITATION.cff`, in their order, without quotes and list marks.
    fn values(key: &str) -> Vec<&'static str> {
        let lines = include_str!("../../CITATION.cff").lines();
        let lines = lines.map(|line| line.trim_start().trim_start_matches("- "));
        let values = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        values.map(|value| value.trim_matches('"')).collect()
    }

    #[test]
    fn the_citation_is_that_of_the_citation_file() {
        let (titles, names) = (values("title"), values("name"));
        let ([title, paper], [program]) = (titles.as_slice(), names.as_slice()) else {
            panic!("{titles:?}, {names:?}");
        };
        let version = values("version")[0];
        assert_eq!(CITATION[0], format!("{program}. {title} {version}."));
        let authors = values("family-names")
            .into_iter()
            .zip(values("given-names"));
        let initial = |given: &str| given.chars().next().expect("a name");
        let authors: Vec<String> = authors
            .map(|(family, given)| format!("{}. {family}", initial(given)))
            .collect();
        let (place, year) = (values("value")[0], values("year")[0]);
        let whole = format!("{}. {paper}. {place}, {year}.", authors.join(", "));
        assert_eq!(CITATION[1], whole);
    }

    #[test]
    fn the_card_is_that_of_the_weights() {
        let card = Card::zeus_mini();
        let text = include_str!("../../weights/README.md");
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| `{}.safetensors`", card.name)));
        let row = row.expect("a row of the table of models");
        assert!(
            row.contains(&card.role) && row.contains(&card.licence),
            "{row}"
        );
        assert!(!card.data.is_empty() && !card.intended_use.is_empty());
        assert!(card.limits.len() >= 5, "{:?}", card.limits);
    }
}
