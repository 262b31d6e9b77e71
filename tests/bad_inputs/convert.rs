//! Checkpoints of other programs with one fault each.

use std::io::{Cursor, Write};

use serde_json::{Value, json};

use super::models::safetensors;
use super::*;

/// What `torch.save` wrote of a state dict, and of a module.
const PLAIN: &[u8] = include_bytes!("../goldens/convert_plain.pth");
const MODULE: &[u8] = include_bytes!("../goldens/convert_module.pth");
const COMPLEX: &[u8] = include_bytes!("../goldens/convert_complex.pth");
const NOTHING: &[u8] = include_bytes!("../goldens/convert_nothing.pth");
/// A chain of convolutions of TensorFlow.js.
const JSON: &str = include_str!("../goldens/convert_tfjs/model.json");
const SHARDS: [&[u8]; 2] = [
    include_bytes!("../goldens/convert_tfjs/group1-shard1of2.bin"),
    include_bytes!("../goldens/convert_tfjs/group1-shard2of2.bin"),
];
/// A MeshNet as it is converted.
const MESHNET: &[u8] = include_bytes!("../goldens/meshnet_elu.safetensors");

/// A PyTorch file that `convert` refuses.
fn refused(name: &str, says: &str, bytes: impl Into<Vec<u8>>) -> Row {
    row(
        format!("convert: {name}"),
        "convert w.pth -o out.safetensors",
        format!("weights `w.pth`: {says}"),
    )
    .file("w.pth", bytes)
}

/// An archive of stored files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in files {
        zip.start_file(*name, stored).expect("a file begins");
        zip.write_all(bytes).expect("a file is written");
    }
    zip.finish().expect("an archive").into_inner()
}

/// The archive of a pickle and of one storage of four numbers.
fn saved(pickle: &[u8]) -> Vec<u8> {
    let numbers = [0; 16];
    archive(&[
        ("a/data.pkl", pickle),
        ("a/byteorder", b"little"),
        ("a/data/0", &numbers),
    ])
}

fn text(text: &str) -> Vec<u8> {
    [
        &b"X"[..],
        &(text.len() as u32).to_le_bytes(),
        text.as_bytes(),
    ]
    .concat()
}

fn number(n: i64) -> Vec<u8> {
    [&b"\x8a\x08"[..], &n.to_le_bytes()].concat()
}

fn numbers(all: &[i64]) -> Vec<u8> {
    let all: Vec<u8> = all.iter().flat_map(|n| number(*n)).collect();
    [b"(", &all[..], b"t"].concat()
}

/// An entry of a state dict: a name, and a tensor in storage 0.
fn tensor(name: &str, count: i64, offset: i64, size: &[i64], stride: &[i64]) -> Vec<u8> {
    [
        text(name),
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text("0"),
        text("cpu"),
        number(count),
        b"tQ".to_vec(),
        number(offset),
        numbers(size),
        numbers(stride),
        b"\x89ccollections\nOrderedDict\n)RtRs".to_vec(),
    ]
    .concat()
}

/// A pickle of a dict of these entries.
fn pickle(entries: &[Vec<u8>]) -> Vec<u8> {
    [b"\x80\x02}", &entries.concat()[..], b"."].concat()
}

/// One tensor of four numbers, wrong in where it lies.
fn placed(name: &str, count: i64, offset: i64, size: &[i64], stride: &[i64], says: &str) -> Row {
    refused(
        name,
        says,
        saved(&pickle(&[tensor("w", count, offset, size, stride)])),
    )
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = torch();
    rows.extend(tensorflow());
    rows.extend(meshnet());
    rows
}

fn torch() -> Vec<Row> {
    let sound = pickle(&[tensor("w", 4, 0, &[2, 2], &[2, 1])]);
    let mut flipped = PLAIN.to_vec();
    let at = flipped
        .windows(6)
        .position(|name| name == b"data/0")
        .expect("a storage")
        + 80;
    flipped[at] ^= 1;
    let many: Vec<Vec<u8>> = (0..20)
        .map(|n| tensor(&format!("w{n}"), 10_000, 0, &[10_000], &[1]))
        .collect();
    let lies = "tensor `w` has size *stride * and offset * in a storage of *";
    vec![
        good(
            "convert: as it should be",
            "convert w.pth -o out.safetensors",
        )
        .file("w.pth", PLAIN),
        good("convert: hand-made", "convert w.pth -o out.safetensors").file("w.pth", saved(&sound)),
        refused(
            "a module",
            "`data.pkl` asks for `torch.nn.modules.container.Sequential`, which is not run*",
            MODULE,
        ),
        refused(
            "complex numbers",
            "tensor `x` is stored as `torch.ComplexFloatStorage`, which is not read",
            COMPLEX,
        ),
        refused(
            "no tensor",
            "`data.pkl` has no tensor, neither in itself nor under *; it has `lr`, `steps`",
            NOTHING,
        ),
        refused(
            "from before 1.6",
            "is in PyTorch's format from before version 1.6*",
            &b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.more"[..],
        ),
        refused(
            "a plain text",
            "is neither a PyTorch checkpoint*",
            &b"hello"[..],
        ),
        refused("empty", "is neither a PyTorch checkpoint*", &b""[..]),
        refused(
            "cut",
            "is a damaged zip archive*",
            &PLAIN[..PLAIN.len() / 2],
        ),
        refused(
            "another archive",
            "is a zip archive without `data.pkl`*",
            archive(&[("x/y", b"z")]),
        ),
        refused("a bit that flipped", "`data/0` cannot be read: *", flipped),
        refused(
            "a call",
            "`data.pkl` asks for `os.system`, which is not run*",
            saved(b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R."),
        ),
        refused(
            "a call by protocol 4",
            "`data.pkl` asks for `builtins.eval`*",
            saved(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93."),
        ),
        refused(
            "another protocol",
            "`data.pkl` is a pickle of protocol 9*",
            saved(b"\x80\x09}."),
        ),
        refused(
            "an opcode",
            "`data.pkl` byte 2: opcode 0x69*",
            saved(b"\x80\x02ios\nsystem\n."),
        ),
        refused(
            "a pickle that is cut",
            "`data.pkl` ends *",
            saved(&sound[..40]),
        ),
        refused(
            "a storage missing",
            "`data/0` is missing in the archive",
            archive(&[("a/data.pkl", &sound)]),
        ),
        refused(
            "a storage too short",
            "tensor `w` lies in 4 elements of torch.FloatStorage, `data/0` has 8 bytes",
            archive(&[("a/data.pkl", &sound), ("a/data/0", &[0; 8])]),
        ),
        refused(
            "another byte order",
            "is written in the order of bytes*",
            archive(&[
                ("a/data.pkl", &sound),
                ("a/byteorder", b"big"),
                ("a/data/0", &[0; 16]),
            ]),
        ),
        placed("a tensor beyond its storage", 4, 1, &[4], &[1], lies),
        placed("a tensor before its storage", 4, -1, &[2], &[1], lies),
        placed("a size below zero", 4, 0, &[-4], &[1], lies),
        placed("a stride below zero", 4, 3, &[4], &[-1], lies),
        placed(
            "a size that wraps around",
            4,
            0,
            &[1 << 32, 1 << 32],
            &[0, 0],
            lies,
        ),
        placed("a stride that wraps around", 4, 0, &[3], &[i64::MAX], lies),
        placed(
            "a tensor larger than its storage",
            4,
            0,
            &[1_000_000_000],
            &[0],
            lies,
        ),
        placed("strides without sizes", 4, 0, &[4], &[], lies),
        placed(
            "a storage of another size",
            1 << 40,
            0,
            &[4],
            &[1],
            "tensor `w` lies in * elements of *, `data/0` has 16 bytes",
        ),
        refused(
            "many names of one storage",
            "tensor `w*` and those before it tell * bytes, the file has *",
            archive(&[("a/data.pkl", &pickle(&many)), ("a/data/0", &[0; 40_000])]),
        ),
        refused(
            "a name twice",
            "tensor `w` is there twice",
            saved(&pickle(&[
                tensor("w", 4, 0, &[4], &[1]),
                tensor("w", 4, 0, &[4], &[1]),
            ])),
        ),
        refused(
            "a name that steers a terminal",
            "`data.pkl` has a tensor of the name *",
            saved(&pickle(&[tensor("w\u{1b}[2J", 4, 0, &[4], &[1])])),
        ),
        row(
            "convert: onto itself",
            "convert w.pth -o w.pth",
            "`w.pth` is the checkpoint itself",
        )
        .usage()
        .file("w.pth", PLAIN),
        row(
            "convert: nothing there",
            "convert w.pth -o out.safetensors",
            "cannot read `w.pth`: *",
        ),
    ]
}

/// A folder of TensorFlow.js that `convert` refuses.
fn folder(name: &str, says: &str, spoil: impl FnOnce(&mut Value)) -> Row {
    let mut model: Value = serde_json::from_str(JSON).expect("JSON");
    spoil(&mut model);
    row(
        format!("convert: {name}"),
        "convert d -o out.safetensors",
        format!("`d/model.json`: {says}"),
    )
    .file("d/model.json", model.to_string())
    .file("d/group1-shard1of2.bin", SHARDS[0])
    .file("d/group1-shard2of2.bin", SHARDS[1])
}

fn tensorflow() -> Vec<Row> {
    fn layers(model: &mut Value) -> &mut Value {
        &mut model["modelTopology"]["model_config"]["config"]["layers"]
    }
    fn weights(model: &mut Value) -> &mut Value {
        &mut model["weightsManifest"][0]["weights"]
    }
    let sound = folder("", "", |_| ());
    vec![
        Row {
            name: "convert: a folder as it should be".into(),
            code: 0,
            says: String::new(),
            ..sound
        },
        folder(
            "a layer of another class",
            "layer `act0` is a `LSTM`, which is not converted",
            |m| layers(m)[3]["class_name"] = "LSTM".into(),
        ),
        folder(
            "a layer that branches",
            "layer `conv1` does not follow `drop0`*",
            |m| layers(m)[5]["inbound_nodes"] = json!([[["conv0", 0, 0, {}]]]),
        ),
        folder(
            "a stride",
            "layer `conv0` has `strides` [2,2,2], expected [1,1,1]",
            |m| layers(m)[1]["config"]["strides"] = json!([2, 2, 2]),
        ),
        folder(
            "a flat kernel",
            "layer `conv0` has a kernel or dilation that differs by axis",
            |m| layers(m)[1]["config"]["kernel_size"] = json!([3, 3, 1]),
        ),
        folder(
            "another activation",
            "layer `act0` has `activation` `tanh`*",
            |m| layers(m)[3]["config"]["activation"] = "tanh".into(),
        ),
        folder(
            "a kernel of another shape",
            "layer `conv0` has a `kernel` of shape *",
            |m| weights(m)[0]["shape"] = json!([3, 3, 3, 4, 1]),
        ),
        folder(
            "a kernel missing",
            "layer `conv0` has no weight `kernel`",
            |m| weights(m)[0]["name"] = "else".into(),
        ),
        folder(
            "a weight of another type",
            "weight `conv0/kernel` is stored as int32*",
            |m| weights(m)[0]["dtype"] = "int32".into(),
        ),
        folder(
            "a quantised weight",
            "weight `conv0/kernel` is stored as float32 or quantised*",
            |m| weights(m)[0]["quantization"] = json!({ "dtype": "uint8" }),
        ),
        folder(
            "a shape that wraps around",
            "weight `conv0/kernel` of shape * ends beyond the 1888 bytes of *",
            |m| weights(m)[0]["shape"] = json!([1u64 << 40, 1u64 << 40]),
        ),
        folder(
            "weights too few",
            "* has 1888 bytes, the weights are *",
            |m| drop(weights(m).as_array_mut().expect("weights").pop()),
        ),
        folder(
            "a file elsewhere",
            "names the file \"../secret.bin\", expected one beside it",
            |m| m["weightsManifest"][0]["paths"][0] = "../secret.bin".into(),
        ),
        folder(
            "no layers model",
            "is no layers model of TensorFlow.js: *",
            |m| {
                drop(
                    m.as_object_mut()
                        .expect("an object")
                        .remove("modelTopology"),
                )
            },
        ),
        row(
            "convert: a folder without a model",
            "convert d -o out.safetensors",
            "cannot read `d/model.json`: *",
        )
        .file("d/x", ""),
    ]
}

/// A network that `segment` refuses before it looks at a volume.
fn network(name: &str, says: &str, spoil: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Row {
    let (len, rest) = MESHNET.split_first_chunk().expect("a length");
    let (header, data) = rest.split_at(u64::from_le_bytes(*len) as usize);
    let mut header: serde_json::Map<String, Value> =
        serde_json::from_slice(header).expect("a header");
    spoil(&mut header);
    let bytes = safetensors(&Value::Object(header).to_string(), data);
    row(
        format!("meshnet: {name}"),
        "segment none.nii -o out --model w.safetensors",
        format!("weights `w.safetensors`: {says}"),
    )
    .file("w.safetensors", bytes)
}

fn meshnet() -> Vec<Row> {
    let renamed = |header: &mut serde_json::Map<String, Value>, from: &str, to: &str| {
        let tensor = header.remove(from).expect("a tensor");
        header.insert(to.into(), tensor);
    };
    let texts = |header: &mut serde_json::Map<String, Value>, key: &str, value: &str| {
        header["__metadata__"][key] = value.into();
    };
    let sound = network("", "", |_| ());
    vec![
        Row {
            name: "meshnet: as it should be".into(),
            says: "cannot read `none.nii`: *".into(),
            ..sound
        },
        network("a tensor missing", "tensor `conv3d_1.weight` is missing, expected shape [6, 6, 3, 3, 3]", |h| renamed(h, "conv3d_1.weight", "other.weight")),
        network("a tensor of another shape", "tensor `conv3d_1.bias` has shape [3, 2], expected [6]", |h| h["conv3d_1.bias"]["shape"] = json!([3, 2])),
        network("another kind of model", "its metadata says neither `architecture` MeshNet nor Zeus' `config`, and it is no SAM, CLIPSeg or CRIS; tensor `*` looks like BERT*", |h| {
            h.remove("__metadata__");
            renamed(h, "conv3d_1.bias", "encoder.layer.0.attention.self.query.bias");
        }),
        network("no known model", "*tensor `*` looks like a MeshNet that lost its metadata*", |h| drop(h.remove("__metadata__"))),
        network("layers that do not follow", "metadata: layer `conv3d_0`: `in_channels` is 2, the layer before it has 1", |h| texts(h, "layers", r#"[{"name":"conv3d_0","in_channels":2,"out_channels":2,"kernel_size":3,"dilation":1,"activation":"none"}]"#)),
        network("an even kernel", "metadata: layer `a`: `kernel_size` is 2, expected an odd number", |h| texts(h, "layers", r#"[{"name":"a","in_channels":1,"out_channels":2,"kernel_size":2,"dilation":1,"activation":"none"}]"#)),
        network("a dilation of nothing", "metadata: layer `a`: `dilation` is 0, expected 1 to 256", |h| texts(h, "layers", r#"[{"name":"a","in_channels":1,"out_channels":2,"kernel_size":3,"dilation":0,"activation":"none"}]"#)),
        network("classes without names", "metadata: `classes` has 1 names, the last layer 3 channels", |h| texts(h, "classes", r#"["background"]"#)),
        network("no layers", "metadata: `layers` is empty", |h| texts(h, "layers", "[]")),
        network("quantiles that fall", "metadata: `quantiles` are *", |h| texts(h, "quantiles", "[0.9, 0.1]")),
        row("meshnet: words", "segment none.nii -o out --model w.safetensors --find thalamus", "a MeshNet labels one volume with its own classes; structures by name or instruction are not for it").usage().file("w.safetensors", MESHNET),
    ]
}
