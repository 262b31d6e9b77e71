//! Segmentation weights and other safetensors files with one fault each.

use serde_json::{Map, Value, json};

use super::models::safetensors;
use super::*;

/// The embedded weights as they lie in the file.
const ZEUS: &[u8] = include_bytes!("../../weights/zeus-mini.safetensors");
/// A tensor of theirs that a row may miss, misshape or mistype.
const TENSOR: &str = "image_encoder.blocks.0.norm1.weight";

/// A safetensors file taken apart: its texts and its tensors (name, type, shape, bytes).
struct Parts {
    texts: Map<String, Value>,
    tensors: Vec<(String, Value, Value, Vec<u8>)>,
}

impl Parts {
    fn zeus() -> Self {
        let (len, rest) = ZEUS.split_first_chunk().expect("a length");
        let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
        let mut header: Map<String, Value> = serde_json::from_slice(header).expect("a header");
        let texts = header.remove("__metadata__").expect("texts");
        let mut tensors: Vec<_> = header
            .into_iter()
            .map(|(name, entry)| {
                let at = |n: usize| entry["data_offsets"][n].as_u64().expect("an offset") as usize;
                let bytes = data[at(0)..at(1)].to_vec();
                (
                    at(0),
                    (name, entry["dtype"].clone(), entry["shape"].clone(), bytes),
                )
            })
            .collect();
        tensors.sort_by_key(|(at, _)| *at);
        Self {
            texts: texts.as_object().expect("texts").clone(),
            tensors: tensors.into_iter().map(|(_, tensor)| tensor).collect(),
        }
    }

    fn tensor(&mut self, name: &str) -> &mut (String, Value, Value, Vec<u8>) {
        self.tensors
            .iter_mut()
            .find(|tensor| tensor.0 == name)
            .expect(name)
    }

    /// Another number in the model's configuration.
    fn config(mut self, key: &str, value: Value) -> Self {
        let text = self.texts["config"].as_str().expect("a text");
        let mut config: Value = serde_json::from_str(text).expect("a configuration");
        config[key] = value;
        self.texts["config"] = config.to_string().into();
        self
    }

    fn file(&self) -> Vec<u8> {
        let mut header =
            Map::from_iter([("__metadata__".to_owned(), Value::Object(self.texts.clone()))]);
        let mut data = Vec::new();
        for (name, dtype, shape, bytes) in &self.tensors {
            let offsets = [data.len(), data.len() + bytes.len()];
            data.extend_from_slice(bytes);
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
            header.insert(name.clone(), entry);
        }
        safetensors(&Value::Object(header).to_string(), &data)
    }
}

/// The weights with one thing changed.
fn spoilt(spoil: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = Parts::zeus();
    spoil(&mut parts);
    parts.file()
}

/// Weights that `segment` refuses, before it looks at a volume.
fn refused(name: &str, says: &str, bytes: impl Into<Vec<u8>>) -> Row {
    let line = "segment none.nii -o out --weights w.safetensors";
    row(
        format!("weights: {name}"),
        line,
        format!("weights `w.safetensors`: {says}"),
    )
    .file("w.safetensors", bytes)
}

/// A file of one tensor that `inspect` refuses.
fn inspected(name: &str, says: &str, entry: &str, data: usize) -> Row {
    let bytes = safetensors(&format!("{{\"w\":{entry}}}"), &vec![0; data]);
    row(
        format!("safetensors: {name}"),
        "inspect w",
        format!("weights `w`: {says}"),
    )
    .file("w", bytes)
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = zeus();
    rows.extend(containers());
    rows.extend(quantised());
    rows
}

fn zeus() -> Vec<Row> {
    let config = |name: &str, key: &str, value: Value| {
        let bytes = Parts::zeus().config(key, value).file();
        refused(name, "`config` in its metadata*", bytes)
    };
    vec![
        // The volume is what is missing: the weights were taken.
        row(
            "weights: as they should be",
            "segment none.nii -o out --weights w.safetensors",
            "cannot read `none.nii`: *",
        )
        .file("w.safetensors", spoilt(|_| ())),
        refused(
            "cut",
            "tensor `*` ends at byte * of * bytes of data",
            &ZEUS[..ZEUS.len() - 1000],
        ),
        refused(
            "a tensor missing",
            &format!("tensor `{TENSOR}` is missing*"),
            spoilt(|parts| {
                parts.tensors.retain(|tensor| tensor.0 != TENSOR);
            }),
        ),
        refused(
            "a tensor too many",
            "*`left.over`*",
            spoilt(|parts| {
                let tensor = ("left.over".into(), "F32".into(), json!([1]), vec![0; 4]);
                parts.tensors.push(tensor);
            }),
        ),
        refused(
            "a tensor of another shape",
            &format!("tensor `{TENSOR}` has shape [96, 2], expected [192]"),
            spoilt(|parts| {
                parts.tensor(TENSOR).2 = json!([96, 2]);
            }),
        ),
        refused(
            "a tensor of whole numbers",
            &format!("tensor `{TENSOR}` is *"),
            spoilt(|parts| {
                parts.tensor(TENSOR).1 = "I16".into();
            }),
        ),
        refused(
            "a tensor of truth values",
            &format!("tensor `{TENSOR}` is *"),
            spoilt(|parts| {
                let tensor = parts.tensor(TENSOR);
                (tensor.1, tensor.3) = ("BOOL".into(), vec![1; 192]);
            }),
        ),
        refused(
            "a tensor that is not finite",
            &format!("tensor `{TENSOR}` *"),
            spoilt(|parts| {
                parts.tensor(TENSOR).3[..2].copy_from_slice(&[0, 0x7e]);
            }),
        ),
        refused(
            "no configuration",
            "no `config` in its metadata: not a Zeus model",
            spoilt(|parts| {
                parts.texts.remove("config");
            }),
        ),
        refused(
            "a configuration that is no JSON",
            "`config` in its metadata: *",
            spoilt(|parts| {
                parts.texts["config"] = "{".into();
            }),
        ),
        refused(
            "a configuration without end",
            "`config` in its metadata: *",
            spoilt(|parts| {
                parts.texts["config"] = "[".repeat(100_000).into();
            }),
        ),
        config("no heads", "heads", 0.into()),
        config("heads that do not divide", "heads", 5.into()),
        config("a width below nothing", "dim", (-192).into()),
        config("a width without measure", "dim", u64::MAX.into()),
        config("a grid without measure", "grid", u64::MAX.into()),
        config("a grid that wraps around", "grid", (1_u64 << 60).into()),
        config("a picture of nothing", "image_size", 0.into()),
        config("depth without measure", "depth", 1_000_000.into()),
        config("an epsilon below nothing", "ln_eps", (-1.0).into()),
        config("a text for a number", "dim", "wide".into()),
        refused(
            "instructions that are no texts",
            "`instructions`: *",
            spoilt(|parts| {
                parts.texts["instructions"] = "[1]".into();
            }),
        ),
        refused(
            "instructions without tokens",
            "tensor `instruction_tokens` has shape * for 1 texts of *",
            spoilt(|parts| {
                parts.texts["instructions"] = "[\"one\"]".into();
            }),
        ),
        refused(
            "weights of another model",
            "no `config` in its metadata: *",
            include_bytes!("../goldens/add.safetensors"),
        ),
    ]
}

fn containers() -> Vec<Row> {
    let raw = |name: &str, says: &str, bytes: Vec<u8>| {
        row(
            format!("safetensors: {name}"),
            "inspect w",
            format!("weights `w`: {says}"),
        )
        .file("w", bytes)
    };
    let one = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    let header = |text: &str| safetensors(text, &[0; 4]);
    vec![
        good("safetensors: as it should be", "inspect w")
            .file("w", header(&format!("{{\"w\":{one}}}"))),
        raw("empty", "has 0 bytes, expected *", Vec::new()),
        raw(
            "a header that is not there",
            "claims a header of 100 bytes, of which 0 are there; *",
            100_u64.to_le_bytes().into(),
        ),
        raw(
            "a header beyond all files",
            "claims a header of 18446744073709551615 bytes, *",
            vec![255; 64],
        ),
        raw(
            "a header longer than allowed",
            "claims a header of 100000001 bytes, *",
            [&100_000_001_u64.to_le_bytes()[..], b"{}"].concat(),
        ),
        raw("no JSON", "header: *", header("{nothing}")),
        raw(
            "an array for a header",
            "has a header that does not start with `{`",
            header("[]"),
        ),
        raw(
            "a header without end",
            "header: *",
            header(&format!("{{\"w\":{{\"a\":{}", "[".repeat(99_999))),
        ),
        raw(
            "one name twice",
            "header: the name `w` appears twice*",
            header(&format!("{{\"w\":{one},\"w\":{one}}}")),
        ),
        raw(
            "a name that clears the screen",
            "header: the name \"\\u{1b}[2J\" holds a control character*",
            header(&format!("{{\"\\u001b[2J\":{one}}}")),
        ),
        raw(
            "two tensors in one place",
            "*",
            header(&format!("{{\"v\":{one},\"w\":{one}}}")),
        ),
        inspected(
            "offsets beyond the file",
            "tensor `w` ends at byte 4 of 0 bytes of data",
            one,
            0,
        ),
        inspected(
            "offsets below nothing",
            "header: *",
            r#"{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}"#,
            4,
        ),
        inspected(
            "offsets backwards",
            "*",
            r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#,
            4,
        ),
        inspected(
            "offsets with a gap",
            "*",
            r#"{"dtype":"F32","shape":[1],"data_offsets":[4,8]}"#,
            8,
        ),
        inspected("bytes of nobody", "*", one, 8),
        inspected(
            "a size that overflows",
            "*",
            r#"{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,4]}"#,
            4,
        ),
        inspected(
            "a shape of another size",
            "*",
            r#"{"dtype":"F32","shape":[3],"data_offsets":[0,4]}"#,
            4,
        ),
        inspected(
            "a type of nobody",
            "*F33*",
            r#"{"dtype":"F33","shape":[1],"data_offsets":[0,4]}"#,
            4,
        ),
        inspected(
            "complex numbers",
            "tensor `w` is C64, expected *",
            r#"{"dtype":"C64","shape":[1],"data_offsets":[0,8]}"#,
            8,
        ),
        raw(
            "a pickle",
            "is a Python pickle, convert it to safetensors",
            b"\x80\x02}q\0.".to_vec(),
        ),
        raw(
            "an archive of PyTorch",
            "is a zip archive *",
            b"PK\x03\x04".repeat(9),
        ),
        raw(
            "a page",
            "is an HTML page, the download went wrong",
            b"<!DOCTYPE html><html>".to_vec(),
        ),
        raw(
            "a pointer",
            "is a Git LFS pointer, *",
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
        ),
        row("safetensors: not there", "inspect w", "cannot read `w`: *"),
        row(
            "safetensors: a folder without weights",
            "inspect w",
            "weights `w`: has neither `model.safetensors` nor *",
        )
        .file("w/README", "none"),
    ]
}

/// What `quantize` refuses.
fn quantised() -> Vec<Row> {
    let weights = |data: &[f32]| {
        let bytes: Vec<u8> = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        let entry = format!(
            r#"{{"a.weight":{{"dtype":"F32","shape":[32,32],"data_offsets":[0,{}]}}}}"#,
            bytes.len()
        );
        safetensors(&entry, &bytes)
    };
    let line = "quantize w.safetensors -o q.safetensors --format q8_0";
    let mut broken = [1.0; 1024];
    broken[500] = f32::NAN;
    let joined = r#"{"a.weight":{"dtype":"I8","shape":[32,32],"data_offsets":[0,1024]},"a.weight.scale":{"dtype":"F16","shape":[3],"data_offsets":[1024,1030]}}"#;
    vec![
        good("quantize: as it should be", line).file("w.safetensors", weights(&[1.0; 1024])),
        row(
            "quantize: a format of nobody",
            "quantize w.safetensors -o q --format q9",
            "`q9` is no format to quantise to, *",
        )
        .usage()
        .file("w.safetensors", weights(&[1.0; 1024])),
        row(
            "quantize: onto itself",
            "quantize w.safetensors -o ./w.safetensors --format q8_0",
            "`./w.safetensors` is the model itself",
        )
        .usage()
        .file("w.safetensors", weights(&[1.0; 1024])),
        row(
            "quantize: a value that is no number",
            line,
            "weights `w.safetensors`: tensor `a.weight` holds a value that is not finite *",
        )
        .file("w.safetensors", weights(&broken)),
        row(
            "quantize: a GGUF file",
            line,
            "weights `w.safetensors`: is a GGUF file, expected safetensors",
        )
        .file("w.safetensors", super::models::GgufFile::default().bytes()),
        row(
            "quantize: into no folder",
            "quantize w.safetensors -o no/q.safetensors --format q8_0",
            "cannot write `no/q.safetensors`: *",
        )
        .file("w.safetensors", weights(&[1.0; 1024])),
        row(
            "quantize: scales that do not fit",
            "inspect w.safetensors",
            "weights `w.safetensors`: *`a.weight*",
        )
        .file("w.safetensors", safetensors(joined, &[0; 1030])),
    ]
}
