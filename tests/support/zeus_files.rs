//! A Zeus of several checkpoints and volumes for it, as goldens/zeus.py makes them.
#![allow(dead_code, reason = "every test program uses another part")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::model_files::{hashed, model_folder};
use crate::nifti::Made;

/// `goldens/zeus.json`.
pub fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/zeus.json");
    serde_json::from_slice(&std::fs::read(path).expect("the goldens")).expect("JSON")
}

/// What stands in the `model.json` of [`zeus`].
pub fn model_json() -> Value {
    json!({
        "$schema": "urn:keraunos:model:1",
        "card": {"name": "small", "licence": "MIT", "limits": ["Its weights are hashes."]},
        "parts": {
            "image_encoders": {"t1": "sam-t1", "t2": "sam-t2"},
            "mask_decoder": "sam-t1",
            "text_projection": "f_tt/model.safetensors",
            "text_encoder": {"path": "medclip"},
        },
        "labels": [
            {"name": "ring", "labels": {"both": 1}},
            {"name": "lump", "synonyms": ["bump"], "sided": true, "parts": 2, "labels": {"both": 2, "left": 3, "right": 4}},
        ],
    })
}

/// A folder with the parts and their `model.json`.
pub fn zeus() -> tempfile::TempDir {
    let golden = golden();
    let folder = tempfile::tempdir().expect("a folder");
    let part = |name: &str, config: &Value, tensors: BTreeMap<String, Vec<usize>>, prefix: &str| {
        let made = model_folder(config, &tensors, |name| {
            name.strip_prefix(prefix).expect("a prefix").to_owned()
        });
        let place = folder.path().join(name);
        std::fs::create_dir(&place).expect("a folder");
        for file in ["config.json", "model.safetensors"] {
            std::fs::rename(made.path().join(file), place.join(file)).expect("moved");
        }
    };
    let tensors = |key: &str| -> BTreeMap<String, Vec<usize>> {
        serde_json::from_value(golden[key].clone()).expect("tensors")
    };
    for name in ["t1", "t2"] {
        // The numbers of a tensor are those of its name: another prefix, other numbers.
        let prefix = golden["seeds"][name].as_str().expect("a seed").to_owned();
        let own = tensors("sam").into_iter();
        let own = own.map(|(tensor, shape)| (prefix.clone() + &tensor, shape));
        part(
            &format!("sam-{name}"),
            &golden["config"],
            own.collect(),
            &prefix,
        );
    }
    let projection = [("weight", vec![128, 32]), ("bias", vec![128])];
    let projection = projection.map(|(name, shape)| (format!("f_tt.{name}"), shape));
    part("f_tt", &json!({}), projection.into(), "f_tt.");
    part("medclip", &json!({}), tensors("medclip"), "");
    // MedCLIP comes without one.
    for name in ["f_tt", "medclip"] {
        std::fs::remove_file(folder.path().join(name).join("config.json")).expect("removed");
    }
    let words: Vec<String> = serde_json::from_value(golden["vocabulary"].clone()).expect("words");
    let vocabulary = folder.path().join("medclip/vocab.txt");
    std::fs::write(vocabulary, words.join("\n") + "\n").expect("a vocabulary");
    write_json(folder.path(), &model_json());
    folder
}

/// Writes the `model.json` of a folder.
pub fn write_json(folder: &Path, json: &Value) {
    std::fs::write(folder.join("model.json"), json.to_string()).expect("a model.json");
}

/// A volume of a modality, `t1` or `t2`: its axes run right, anterior and superior.
pub fn volume(folder: &Path, modality: &str) -> PathBuf {
    let shape: [usize; 3] = serde_json::from_value(golden()["shape"].clone()).expect("a shape");
    let values = hashed(&format!("volume {modality}"), shape.iter().product());
    let value = |(n, v): (usize, &f32)| match n % 11 {
        0 => 0.0,
        _ => (138.0 + 150.0 * f64::from(*v))
            .round_ties_even()
            .clamp(10.0, 266.0),
    };
    let data: Vec<f64> = values.iter().enumerate().map(value).collect();
    let path = folder.join(format!("scan_{}w.nii", modality.to_uppercase()));
    let mut made = Made::new(shape, 16);
    made.rows.1 = [[1., 0., 0., 0.], [0., 1., 0., 0.], [0., 0., 1., 0.]];
    std::fs::write(&path, made.file(&data)).expect("a volume");
    path
}
