//! What a `model.json` may not say.

use serde_json::{Value, json};

use super::volumes::whole;
use super::*;

/// The one of the built-in model, whose parts are its own.
fn built_in() -> Value {
    json!({
        "card": {"name": "mine"},
        "parts": {"segmentation": "z.safetensors", "text_encoder": {"path": "nothing"}},
        "labels": [{"name": "thalamus", "labels": {"both": 7}}],
    })
}

/// A volume and a model beside it whose description is `json`.
fn described(name: &str, json: impl Into<Vec<u8>>, says: &str) -> Row {
    let line = format!("segment t1.nii --model m -o out {QUICK} --view axial");
    row(format!("model.json: {name}"), &line, says)
        .file("t1.nii", whole())
        .file("m/model.json", json)
        .file(
            "m/z.safetensors",
            include_bytes!("../../weights/zeus-mini.safetensors"),
        )
}

pub(super) fn rows() -> Vec<Row> {
    let spoilt = |name: &str, place: &str, key: &str, value: Value, says: &str| {
        let mut json = built_in();
        json.pointer_mut(place).expect("a place")[key] = value;
        described(name, json.to_string(), says)
    };
    let missing = |name: &str, place: &str, key: &str, says: &str| {
        let mut json = built_in();
        let object = json.pointer_mut(place).and_then(Value::as_object_mut);
        object.expect("an object").remove(key);
        described(name, json.to_string(), says)
    };
    let sam = json!({"image_encoder": "s", "text_encoder": {"path": "t"}});
    vec![
        described("empty", "", "`m/model.json`: *EOF*"),
        described("no JSON", "{\"card\": ", "`m/model.json`: *EOF*"),
        described("a list", "[]", "`m/model.json`: *"),
        described("deep", "[".repeat(100_000), "`m/model.json`: *"),
        described("too large", " ".repeat((1 << 20) + 1), "*model.json*"),
        described("not text", [0xff, 0xfe, 0x00], "*model.json*"),
        described(
            "of TensorFlow.js",
            json!({"modelTopology": {}, "weightsManifest": []}).to_string(),
            "`m/model.json`: *TensorFlow.js's*`keraunos convert`*",
        ),
        missing("no card", "", "card", "*missing field `card`*"),
        missing("no parts", "", "parts", "*missing field `parts`*"),
        missing("no name", "/card", "name", "*missing field `name`*"),
        spoilt(
            "another schema",
            "",
            "$schema",
            "urn:keraunos:model:9".into(),
            "*`urn:keraunos:model:9`, this version reads `urn:keraunos:model:1`",
        ),
        spoilt(
            "an unknown field",
            "",
            "label",
            1.into(),
            "*unknown field `label`*",
        ),
        spoilt(
            "no such view",
            "",
            "views",
            json!(["oblique"]),
            "*unknown variant `oblique`*",
        ),
        spoilt(
            "a view twice",
            "",
            "views",
            json!(["axial", "axial"]),
            "*`views` names `axial` twice",
        ),
        spoilt(
            "no such fusion",
            "",
            "fusion",
            "none".into(),
            "*unknown variant `none`*",
        ),
        spoilt(
            "a role of its own",
            "/card",
            "role",
            "text encoder".into(),
            "*`card.role` is `text encoder`, expected `segmentation`",
        ),
        spoilt(
            "no structure",
            "",
            "labels",
            json!([]),
            "*`labels`*no structure*",
        ),
        spoilt(
            "labels that are not there",
            "",
            "labels",
            "labels.json".into(),
            "*labels.json*",
        ),
        spoilt(
            "the background's label",
            "/labels/0/labels",
            "both",
            0.into(),
            "*`thalamus` has label 0*",
        ),
        spoilt(
            "a label beyond the map",
            "/labels/0/labels",
            "both",
            70_000.into(),
            "*70000*",
        ),
        spoilt(
            "a label twice",
            "/labels/0",
            "sided",
            true.into(),
            "*`thalamus` needs labels for `left` and `right`",
        ),
        spoilt(
            "sides of something that has none",
            "/labels/0/labels",
            "left",
            8.into(),
            "*`thalamus` has labels for sides*",
        ),
        spoilt(
            "a name that is a side",
            "/labels/0",
            "name",
            "left".into(),
            "*`left` is no name of a structure",
        ),
        spoilt(
            "a name twice",
            "",
            "labels",
            json!([{"name": "a", "labels": {"both": 1}}, {"name": "b", "synonyms": ["A"], "labels": {"both": 2}}]),
            "*`A` is a name of two structures",
        ),
        spoilt(
            "one label for two",
            "",
            "labels",
            json!([{"name": "a", "labels": {"both": 1}}, {"name": "b", "labels": {"both": 1}}]),
            "*label 1 of `b` is another's too",
        ),
        spoilt(
            "a template without a structure",
            "",
            "prompts",
            json!({"stock": "Segment it."}),
            "*`prompts.stock` does not say `<instance>`*",
        ),
        spoilt(
            "a prompt that is not there",
            "",
            "prompts",
            json!({"instruction": "p.json"}),
            "*p.json*",
        ),
        spoilt(
            "no text encoder",
            "/parts",
            "text_encoder",
            json!({}),
            "*`parts.text_encoder` needs one of `id` and `path`",
        ),
        spoilt(
            "two places of a text encoder",
            "/parts",
            "text_encoder",
            json!({"id": "a", "path": "b"}),
            "*`parts.text_encoder` needs one of `id` and `path`",
        ),
        spoilt(
            "both ways to draw",
            "/parts",
            "image_encoder",
            "s".into(),
            "*has `image_encoder` beside `segmentation`*",
        ),
        spoilt(
            "nothing that draws",
            "/parts",
            "segmentation",
            Value::Null,
            "*has no `segmentation`*",
        ),
        spoilt("no projection", "", "parts", sam, "*no `text_projection`"),
        spoilt(
            "no such modality",
            "/parts",
            "image_encoders",
            json!({"pet": "s"}),
            "*unknown variant `pet`*",
        ),
        spoilt(
            "weights that are not there",
            "/parts",
            "segmentation",
            "y.safetensors".into(),
            "*m/y.safetensors*",
        ),
        row(
            "model.json: none in the list",
            "structures --model m",
            "cannot read `m/model.json`*",
        )
        .file("m/x", ""),
    ]
}
