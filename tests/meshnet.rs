//! MeshNet beside PyTorch: small networks by chance, layer by layer, and brainchop's own on a real scan.

#[path = "support/contract.rs"]
mod contract;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use keraunos::gpu::{Gpu, GpuOptions};
use keraunos::models::meshnet::{MeshNet, SLAB_BYTES};
use keraunos::pipeline::conform::{Conformed, Part, restore};
use keraunos::pipeline::convert::convert;
use keraunos::pipeline::meshnet::MeshSegmenter;
use keraunos::pipeline::volume::Volume;
use keraunos::pipeline::{Input, Request};
use keraunos::tensor::{Checkpoint, Precision};
use support::{close, gpu};

fn golden(name: &str) -> Checkpoint {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    Checkpoint::open(&path.join(format!("meshnet_{name}.safetensors"))).expect("a golden file")
}

fn values(golden: &Checkpoint, name: &str) -> Vec<f32> {
    let entry = golden.tensor(name);
    let entry = entry.unwrap_or_else(|| panic!("no golden `{name}`"));
    entry.decode().expect("numbers")
}

fn bytes(golden: &Checkpoint, name: &str) -> Vec<u8> {
    golden.tensor(name).expect("a golden").bytes.to_vec()
}

fn words(golden: &Checkpoint, name: &str) -> Vec<usize> {
    let bytes = bytes(golden, name);
    let words = bytes
        .chunks_exact(4)
        .map(|word| i32::from_le_bytes(word.try_into().expect("four")));
    words.map(|word| word as usize).collect()
}

/// Channels without what pads them to a multiple of 4, which must be 0.
fn unpadded(values: &[f32], channels: usize) -> Vec<f32> {
    let pixels = values.chunks_exact(channels.next_multiple_of(4));
    let own = pixels.flat_map(|pixel| {
        assert!(
            pixel[channels..].iter().all(|v| *v == 0.0),
            "padding {pixel:?}"
        );
        pixel[..channels].iter().copied()
    });
    own.collect()
}

/// Every layer's values and the classes.
fn run(
    model: &MeshNet,
    x: &[f32],
    size: [usize; 3],
    slab_bytes: usize,
) -> (Vec<(String, Vec<f32>)>, Vec<u16>) {
    let (mut layers, mut shares) = (Vec::new(), Vec::new());
    let keep = |name: &str, slabs: &keraunos::models::meshnet::Slabs| {
        layers.push((name.to_owned(), slabs.read(gpu())?));
        Ok(())
    };
    let classes = model.forward(gpu(), x, size, slab_bytes, keep, &mut |share| {
        shares.push(share)
    });
    let classes = classes.unwrap_or_else(|error| panic!("{error}"));
    assert!(
        shares.is_sorted() && shares.last() == Some(&1.0),
        "{shares:?}"
    );
    (layers, classes)
}

#[test]
fn every_layer_equals_pytorch_in_slabs_of_any_size() {
    let wanted = golden("layers");
    for case in ["elu", "gelu_norm"] {
        let x = wanted.tensor(&format!("{case}.x")).expect("an input");
        let size: [usize; 3] = x.shape.try_into().expect("a volume");
        let x = values(&wanted, &format!("{case}.x"));
        let want: Vec<u16> = bytes(&wanted, &format!("{case}.classes"))
            .into_iter()
            .map(u16::from)
            .collect();
        let model = MeshNet::new(gpu(), &golden(case), Precision::F32).expect("a model");
        let (layers, classes) = run(&model, &x, size, SLAB_BYTES);
        assert_eq!(classes, want, "classes of `{case}`");
        let configs = &model.config().layers;
        assert_eq!(layers.len() + 1, configs.len());
        for ((name, got), config) in layers.iter().zip(configs) {
            let want = values(&wanted, &format!("{case}.{name}"));
            // Sums of a few hundred products of about 1, in f32.
            close(&unpadded(got, config.out_channels), &want, 1e-5, 1e-5);
        }
        // A slab of one slice of results, of two or three, of all: not a bit may differ.
        let slice = size[1] * size[2] * 8 * 4;
        for slab_bytes in [1, 4 * slice, 5 * slice + 7, 7 * slice] {
            let (others, same) = run(&model, &x, size, slab_bytes);
            assert_eq!(
                same, classes,
                "classes of `{case}` in slabs of {slab_bytes} bytes"
            );
            for ((name, one), (_, other)) in layers.iter().zip(&others) {
                let is_same = one
                    .iter()
                    .zip(other)
                    .all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(is_same, "`{case}.{name}` in slabs of {slab_bytes} bytes");
            }
        }
        // Weights of 11 bits: each layer is off by a thousandth or so of its own scale.
        let half = MeshNet::new(gpu(), &golden(case), Precision::F16).expect("a model");
        let (layers, classes) = run(&half, &x, size, SLAB_BYTES);
        for ((name, got), config) in layers.iter().zip(configs) {
            let want = values(&wanted, &format!("{case}.{name}"));
            close(&unpadded(got, config.out_channels), &want, 1e-2, 1e-2);
        }
        let other = classes.iter().zip(&want).filter(|(a, b)| a != b).count();
        assert!(
            100 * other <= want.len(),
            "{other} of {} voxels of `{case}`",
            want.len()
        );
    }
}

/// The networks and scans of the shared folder; the test says so where it is not there.
fn shared() -> Option<PathBuf> {
    let shared = std::env::var_os("KERAUNOS_SHARED").unwrap_or_else(|| "../shared".into());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(shared)
        .join("data");
    if !folder.is_dir() {
        eprintln!(
            "{} is not there: brainchop's networks are not looked at",
            folder.display()
        );
        return None;
    }
    Some(folder)
}

#[test]
fn networks_of_brainchop_classify_a_scan_as_pytorch_does() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let scan = Volume::read(&shared.join("meshnet/t1_crop.nii.gz")).expect("a scan");
    let conformed = Conformed::new(&scan);
    for name in [
        "model5_gw_ae",
        "model20chan3cls",
        "model30chan18cls",
        "mindgrab",
    ] {
        let path = folder.path().join(format!("{name}.safetensors"));
        let done = convert(&shared.join("meshnet").join(name), &path).expect("a conversion");
        assert_eq!(done.from, "TensorFlow.js");
        let wanted = golden(name);
        let part = Part {
            first: words(&wanted, "first").try_into().expect("three"),
            size: [64; 3],
        };
        let lengths = words(&wanted, "lengths");
        let runs = lengths.iter().zip(bytes(&wanted, "values"));
        let want: Vec<u16> = runs
            .flat_map(|(count, class)| vec![u16::from(class); *count])
            .collect();
        let near = words(&wanted, "near");
        let checkpoint = Checkpoint::open(&path).expect("a checkpoint");
        if name == "model30chan18cls" {
            let held = checkpoint.tensors();
            let held: BTreeMap<_, _> = held
                .map(|tensor| (tensor.name.to_owned(), tensor.shape.to_vec()))
                .collect();
            assert_eq!(held, contract::contract("meshnet-model30chan18cls"));
        }
        // Half precision by the deepest network with classes that are small.
        let precisions = match name {
            "model30chan18cls" => &[Precision::Auto, Precision::F16][..],
            _ => &[Precision::Auto],
        };
        for precision in precisions.iter().copied() {
            let model = MeshNet::new(gpu(), &checkpoint, precision).expect("a model");
            let config = model.config();
            let x = conformed.scaled(part, conformed.quantiles(config.quantiles));
            let mut last = Vec::new();
            let keep = |layer: &str, slabs: &keraunos::models::meshnet::Slabs| {
                if wanted.tensor(layer).is_some() {
                    last = slabs.read(gpu())?;
                }
                Ok(())
            };
            let classes = model.forward(gpu(), &x, part.size, SLAB_BYTES, keep, &mut |_| ());
            let classes = classes.expect("a forward pass");
            let other: Vec<usize> = (0..want.len())
                .filter(|n| classes[*n] != want[*n])
                .collect();
            let far = other.iter().filter(|n| !near.contains(n)).count();
            eprintln!(
                "{name} {precision:?}: {} voxels of another class, {far} of them no ties",
                other.len()
            );
            if precision == Precision::F16 {
                // Weights of 11 bits move a border here and there.
                assert!(
                    other.len() * 200 <= want.len(),
                    "{name}: {} voxels",
                    other.len()
                );
                continue;
            }
            assert_eq!(far, 0, "{name}: voxels of another class");
            let layer = &config.layers[config.layers.len() - 2];
            let want = values(&wanted, &layer.name);
            let channels = layer.out_channels;
            let got = unpadded(&last, channels);
            let strided = |n: usize| {
                let pixel = [n / 64, n / 8 % 8, n % 8]
                    .iter()
                    .fold(0, |at, i| at * 64 + 8 * i);
                &got[pixel * channels..(pixel + 1) * channels]
            };
            let got: Vec<f32> = (0..512).flat_map(strided).copied().collect();
            let scale = want.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            close(&got, &want, 1e-3 * f64::from(scale), 0.0);
        }
    }
}

#[test]
fn a_whole_scan_gets_the_map_that_pytorch_gives_it() {
    let Some(shared) = shared() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.safetensors");
    convert(&shared.join("meshnet/model5_gw_ae"), &path).expect("a conversion");
    let checkpoint = Checkpoint::open(&path).expect("a checkpoint");
    let own = Gpu::open(&GpuOptions::default()).expect("an adapter");
    let segmenter = MeshSegmenter::on(own, &checkpoint, Precision::Auto).expect("a model");
    // Neither conformed nor of whole millimetres: both resamplings are in it.
    let request = Request::new(vec![Input::new(shared.join("chris/chris_t1.nii.gz"))]);
    let found = segmenter.segment(&request, &mut ()).expect("a map");
    let wanted = golden("whole_model5_gw_ae");
    let runs = words(&wanted, "lengths")
        .into_iter()
        .zip(bytes(&wanted, "values"));
    let want: Vec<u16> = runs
        .flat_map(|(count, class)| vec![u16::from(class); count])
        .collect();
    let [nx, ny, nz] = found.reference.grid().shape;
    let fourth = |n: usize| (0..n).step_by(4);
    let got: Vec<u16> = fourth(nz)
        .flat_map(|z| fourth(ny).map(move |y| (y, z)))
        .flat_map(|(y, z)| fourth(nx).map(move |x| (z * ny + y) * nx + x))
        .map(|at| found.labels[at])
        .collect();
    assert_eq!(got.len(), want.len());
    for class in 1..=2 {
        let of = |map: &[u16]| map.iter().filter(|label| **label == class).count();
        let both = got
            .iter()
            .zip(&want)
            .filter(|(a, b)| **a == class && a == b);
        let dice = 2.0 * both.count() as f64 / (of(&got) + of(&want)) as f64;
        eprintln!("class {class}: {} voxels, Dice {dice:.5}", of(&want));
        assert!(of(&want) > 1000 && dice > 0.998, "class {class}: {dice}");
    }
}

#[test]
fn a_scan_is_conformed_as_nibabel_does() {
    let Some(shared) = shared() else { return };
    let scan = Volume::read(&shared.join("chris/chris_t1.nii.gz")).expect("a scan");
    let wanted = golden("chris_t1");
    let conformed = Conformed::new(&scan);
    let affine = wanted.tensor("affine").expect("an affine");
    let affine = affine
        .bytes
        .chunks_exact(8)
        .map(|word| f64::from_le_bytes(word.try_into().expect("eight")));
    for (got, want) in conformed.grid.affine.iter().flatten().zip(affine) {
        assert!((got - want).abs() < 1e-4, "{:?}", conformed.grid);
    }
    // Every 13th voxel of each axis.
    let picked = |n: usize| (5..256).step_by(13).nth(n).expect("below 20");
    let got: Vec<f32> = (0..8000)
        .map(|n| {
            let [i, j, k] = [n / 400, n / 20 % 20, n % 20].map(picked);
            conformed.values[(i * 256 + j) * 256 + k]
        })
        .collect();
    let want = values(&wanted, "values");
    // Both interpolate in f64 from what the header's f32 numbers say.
    let scale = want.iter().fold(0.0f32, |most, v| most.max(*v));
    close(&got, &want, 1e-4 * f64::from(scale), 0.0);
    assert!(
        want.iter().filter(|v| **v > 0.1 * scale).count() > 500,
        "a head is there"
    );
    let head = conformed.head();
    let sides = [0, 1, 2].map(|axis| [head.first[axis], head.first[axis] + head.size[axis]]);
    assert_eq!(sides.concat(), words(&wanted, "box"));
    let between = values(&wanted, "between");
    close(&conformed.quantiles([0.05, 0.95]), &between, 1e-3, 1e-4);
    // And back: blocks of 8 voxels on the scan's own grid.
    let blocks: Vec<u16> = (0..256usize.pow(3))
        .map(|n| {
            let [i, j, k] = [n >> 16, n >> 8 & 255, n & 255].map(|at| at / 8);
            ((31 * i + 7 * j + k) % 251) as u16
        })
        .collect();
    let back = restore(&blocks, Conformed::whole(), &conformed.grid, &scan.grid());
    let want = words(&wanted, "back");
    let [nx, ny, nz] = scan.shape;
    let mut got = Vec::new();
    for i in (0..nx).step_by(11) {
        for j in (0..ny).step_by(11) {
            got.extend(
                (0..nz)
                    .step_by(11)
                    .map(|k| usize::from(back[i + nx * (j + ny * k)])),
            );
        }
    }
    let other = got.iter().zip(&want).filter(|(a, b)| a != b).count();
    // A voxel half way between two goes one way or the other.
    assert!(
        got.len() == want.len() && other * 500 <= got.len(),
        "{other} of {} labels",
        got.len()
    );
}
