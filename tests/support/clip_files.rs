//! Folders of CLIPs, CLIPSegs and CRISes as Hugging Face has them, with numbers for weights and a small vocabulary.
#![allow(dead_code, reason = "every test program uses another part")]

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use super::model_files::model_folder;

/// `clip_words.json`.
#[derive(Deserialize)]
pub struct Words {
    pub pieces: Vec<String>,
    pub merges: Vec<String>,
    letters: String,
    pub small: Ids,
    pub whole: Option<Ids>,
}

/// Ids of a thousand texts.
#[derive(Deserialize)]
pub struct Ids {
    pub checksum: String,
    pub first: Vec<Vec<u32>>,
    pub tokens: usize,
}

/// A file of `tests/goldens`.
pub fn golden(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let text = std::fs::read(path.join(file)).expect("the goldens");
    serde_json::from_slice(&text).expect("JSON")
}

impl Words {
    pub fn open() -> Self {
        serde_json::from_value(golden("clip_words.json")).expect("words")
    }

    /// The letters of bytes in the order of the small vocabulary.
    pub fn letters(&self) -> Vec<char> {
        self.letters.chars().collect()
    }
}

/// Writes `vocab.json` and `merges.txt` in CLIP's layout: letters of bytes, those at the end of a word, merges, two marks.
pub fn write_vocabulary(folder: &Path, letters: &[char], merges: &[String]) {
    let plain = letters.iter().map(char::to_string);
    let last = letters.iter().map(|letter| format!("{letter}</w>"));
    let merged = merges.iter().map(|merge| merge.replacen(' ', "", 1));
    let marks = ["<|startoftext|>", "<|endoftext|>"].map(str::to_owned);
    let tokens = plain.chain(last).chain(merged).chain(marks);
    let vocab: BTreeMap<String, u32> = tokens.zip(0..).collect();
    let vocab = serde_json::to_string(&vocab).expect("JSON");
    std::fs::write(folder.join("vocab.json"), vocab).expect("written");
    let merges = format!("#version: 0.2\n{}\n", merges.join("\n"));
    std::fs::write(folder.join("merges.txt"), merges).expect("written");
}

/// The small CLIPSeg of `clipseg_slice.json` with its words and its processor.
pub fn clipseg() -> tempfile::TempDir {
    let case = &golden("clipseg_slice.json")["slice"];
    let tensors: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(case["tensors"].clone()).expect("tensors");
    let folder = model_folder(&case["config"], &tensors, str::to_owned);
    let words = Words::open();
    write_vocabulary(folder.path(), &words.letters(), &words.merges);
    let processor = json!({
        "feature_extractor_type": "ViTFeatureExtractor", "do_resize": true, "do_normalize": true, "resample": 2,
        "size": case["size"], "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    });
    let path = folder.path().join("preprocessor_config.json");
    std::fs::write(path, processor.to_string()).expect("written");
    folder
}

/// The small CRIS of `cris_slice.json` with its words, with this before all names.
pub fn cris(wrapper: &str) -> tempfile::TempDir {
    let case = &golden("cris_slice.json")["slice"];
    let tensors: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(case["tensors"].clone()).expect("tensors");
    let folder = model_folder(&json!({}), &tensors, |name| format!("{wrapper}{name}"));
    let words = Words::open();
    write_vocabulary(folder.path(), &words.letters(), &words.merges);
    let path = folder.path().join("preprocessor_config.json");
    std::fs::write(path, json!({ "size": case["size"] }).to_string()).expect("written");
    folder
}

/// The small BiomedCLIPSeg of `biomedclipseg.json` with a word list of letters.
pub fn biomedclipseg() -> tempfile::TempDir {
    let case = &golden("biomedclipseg.json")["refined"];
    let tensors: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(case["tensors"].clone()).expect("tensors");
    let folder = model_folder(&json!({}), &tensors, str::to_owned);
    let marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned);
    let letters = ('a'..='z').flat_map(|letter| [letter.to_string(), format!("##{letter}")]);
    let list: Vec<String> = marks.into_iter().chain(letters).collect();
    std::fs::write(folder.path().join("vocab.txt"), list.join("\n")).expect("written");
    folder
}
