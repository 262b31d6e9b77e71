//! Boxes, points and the models that they are for.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::Value;

use super::models::model_folder;
use super::volumes::whole;
use super::*;

/// A small SAM: its `config.json` and its weights.
static SAM: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/sam.json");
    let text = fs::read(path).expect("the goldens");
    let goldens: Value = serde_json::from_slice(&text).expect("JSON");
    let case = &goldens["small"];
    let tensors: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(case["tensors"].clone()).expect("tensors");
    let folder = model_folder(&case["config"], &tensors, str::to_owned);
    ["config.json", "model.safetensors"]
        .map(|name| fs::read(folder.path().join(name)).expect("a file of the model"))
});
/// The embedded weights, which are no SAM's.
const ZEUS: &[u8] = include_bytes!("../../weights/zeus-mini.safetensors");

/// A volume and a model beside the words that show something in it.
fn shown(name: &str, words: &str, says: &str) -> Row {
    let [config, weights] = &*SAM;
    let line = format!("segment t1.nii --model m -o out {words}");
    row(format!("prompts: {name}"), line.trim_end(), says)
        .file("t1.nii", whole())
        .file("m/config.json", config.clone())
        .file("m/model.safetensors", weights.clone())
}

pub(super) fn rows() -> Vec<Row> {
    let json = |change: fn(&mut Value)| {
        let mut config: Value = serde_json::from_slice(&SAM[0]).expect("JSON");
        change(&mut config);
        config.to_string()
    };
    vec![
        shown(
            "three numbers",
            "--box 1,2,3",
            "*--box*3 numbers, expected 4 or 5*",
        )
        .usage(),
        shown("no number", "--box 1,2,3,x", "*`x` is no number*").usage(),
        shown("not finite", "--point nan,2", "*`nan` is no number*").usage(),
        shown("an empty box", "--box=", "*").usage(),
        shown(
            "four numbers",
            "--point 1,2,3,4",
            "*4 numbers, expected 2 or 3*",
        )
        .usage(),
        shown(
            "words too",
            "--box 1,1,5,5 --instruction x",
            "*--instruction*",
        )
        .usage(),
        shown(
            "other weights too",
            "--box 1,1,5,5 --weights z",
            "*--weights*",
        )
        .usage(),
        shown("a quick look", "--box 1,1,5,5 --fast", "*--fast*").usage(),
        shown(
            "slices below none",
            "--box 1,1,5,5 --slices=-1",
            "*--slices*",
        )
        .usage(),
        row(
            "prompts: no model",
            "segment t1.nii -o out --box 1,1,5,5",
            "--box is for a model that is shown where to look; name one by --model",
        )
        .file("t1.nii", whole())
        .usage(),
        shown("nothing", "", "neither --box nor --point is given").usage(),
        shown(
            "outside alone",
            "--point 1,2,-",
            "no --point lies in the object*",
        )
        .usage(),
        shown(
            "points of several",
            "--box 1,1,5,5 --box 2,2,6,6 --point 3,3",
            "--point with several --box*",
        )
        .usage(),
        shown(
            "names for others",
            "--box 1,1,5,5 --find thalamus --find putamen",
            "2 times --find for 1 objects*",
        )
        .usage(),
        shown(
            "two views",
            "--box 1,1,5,5 --view axial --view coronal",
            "2 views*",
        )
        .usage(),
        shown(
            "beyond the volume",
            "--box 1,1,500,5,2",
            "--box 1,1,500,5,2 lies outside the volume of*",
        )
        .usage(),
        shown(
            "before the volume",
            "--point -1,2,2",
            "--point -1,2,2,+ lies outside the volume of*",
        )
        .usage(),
        shown(
            "in no millimetre",
            "--mm --point 9e9,0,0",
            "--point *lies outside*(in millimetres)",
        )
        .usage(),
        shown(
            "two slices",
            "--point 3,3,2 --point 3,3,4",
            "--point 3,3,2,+ and --point 3,3,4,+ lie in two axial slices*",
        )
        .usage(),
        row(
            "prompts: no such model",
            "segment t1.nii --model m -o out --box 1,1,5,5",
            "*`m`*",
        )
        .file("t1.nii", whole()),
        row(
            "prompts: another model",
            "segment t1.nii --model z.safetensors -o out --box 1,1,5,5",
            "--model is a Zeus: a box or point is not for it",
        )
        .usage()
        .file("t1.nii", whole())
        .file("z.safetensors", ZEUS),
        shown(
            "another kind",
            "--box 1,1,5,5",
            "*config.json`: `model_type` is `sam2`, expected `sam`",
        )
        .file("m/config.json", json(|c| c["model_type"] = "sam2".into())),
        shown(
            "another size",
            "--box 1,1,5,5",
            "*config.json`: `hidden_size` is 33, the tensors are those of 32",
        )
        .file(
            "m/config.json",
            json(|c| c["vision_config"]["hidden_size"] = 33.into()),
        ),
        Row {
            code: 0,
            ..shown("sound", "--box 1,1,6,6,4 --slices 0", "")
        },
    ]
}
