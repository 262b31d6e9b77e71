//! `keraunos convert` beside PyTorch and the safetensors library: what they wrote is read to the bit.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keraunos::models::meshnet::{MeshNet, SLAB_BYTES};
use keraunos::pipeline::convert::{Converted, convert};
use keraunos::tensor::{Checkpoint, Encoding, Precision};
use support::{close, gpu};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(name)
}

fn converted(name: &str) -> (Converted, Checkpoint, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.safetensors");
    let done = convert(&golden(name), &path).unwrap_or_else(|error| panic!("{error}"));
    let checkpoint = Checkpoint::open(&path).expect("a checkpoint");
    assert_eq!(done.tensors, checkpoint.tensors().len());
    assert_eq!(done.bytes, checkpoint.byte_len() as u64);
    (done, checkpoint, folder)
}

/// Type, shape and bytes of every tensor by name.
fn content(checkpoint: &Checkpoint) -> BTreeMap<String, (Encoding, Vec<usize>, Vec<u8>)> {
    let tensors = checkpoint.tensors();
    tensors
        .map(|tensor| {
            let own = (
                tensor.encoding,
                tensor.shape.to_vec(),
                tensor.bytes.to_vec(),
            );
            (tensor.name.to_owned(), own)
        })
        .collect()
}

#[test]
fn state_dicts_of_pytorch_are_read_to_the_bit() {
    let cases: [(&str, &str, &[&str]); 5] = [
        ("plain", "torch", &[]),
        ("protocol4", "torch", &[]),
        ("wrapped", "torch", &[]),
        ("extra", "torch", &["version", "name"]),
        ("network", "network", &[]),
    ];
    for (case, want, left_out) in cases {
        let (done, checkpoint, _folder) = converted(&format!("convert_{case}.pth"));
        assert_eq!(
            (done.from, &done.left_out[..]),
            (
                "PyTorch",
                left_out
                    .iter()
                    .map(|s| (*s).to_owned())
                    .collect::<Vec<_>>()
                    .as_slice()
            )
        );
        let want = Checkpoint::open(&golden(&format!("convert_{want}.safetensors")))
            .expect("a golden file");
        assert_eq!(content(&checkpoint), content(&want), "`{case}`");
        assert_eq!(checkpoint.metadata()["format"], "pt");
    }
}

#[test]
fn a_chain_of_tensorflow_js_with_batch_norms_is_the_network() {
    let (done, checkpoint, _folder) = converted("convert_tfjs");
    assert_eq!(done.from, "TensorFlow.js");
    let model = MeshNet::new(gpu(), &checkpoint, Precision::F32).expect("a model");
    let config = model.config();
    assert_eq!(config.classes, ["background", "brain"]);
    assert_eq!(config.quantiles, [0.02, 0.98]);
    assert!(!config.needs_whole());
    let wanted = Checkpoint::open(&golden("convert_tfjs.safetensors")).expect("a golden file");
    let values = |name: &str| {
        wanted
            .tensor(name)
            .and_then(|tensor| tensor.decode())
            .expect("numbers")
    };
    let size: [usize; 3] = wanted
        .tensor("x")
        .expect("x")
        .shape
        .try_into()
        .expect("a volume");
    let mut hidden = Vec::new();
    let keep = |name: &str, slabs: &keraunos::models::meshnet::Slabs| {
        if name == "conv1" {
            hidden = slabs.read(gpu())?;
        }
        Ok(())
    };
    let classes = model.forward(gpu(), &values("x"), size, SLAB_BYTES, keep, &mut |_| ());
    let own: Vec<f32> = hidden
        .chunks(4)
        .flat_map(|pixel| pixel[..3].to_vec())
        .collect();
    close(&own, &values("conv1"), 2e-5, 2e-5);
    let want: Vec<u16> = wanted
        .tensor("classes")
        .expect("classes")
        .bytes
        .iter()
        .map(|class| u16::from(*class))
        .collect();
    assert_eq!(classes.expect("a forward pass"), want);
    assert!(
        want.contains(&0) && want.contains(&1),
        "both classes are there"
    );
}
