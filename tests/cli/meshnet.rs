//! `convert` and `segment --model` of a network with classes of its own.

use super::schema::Schema;
use super::*;

/// The small network of the goldens, converted.
fn network(folder: &Path) -> PathBuf {
    let path = folder.join("small.safetensors");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/convert_tfjs");
    said(&run!("convert", from, "-o", &path));
    path
}

/// The phantom as large as a head: a conformed volume of which it fills little is nothing to the network.
fn large(folder: &Path) -> PathBuf {
    let mut made = header();
    made.pixdim = [1.0, 3.5, 3.5, 3.5, 0.0, 0.0, 0.0, 0.0];
    made.rows.1 = [
        [3.5, 0.0, 0.0, -70.0],
        [0.0, 3.5, 0.0, -84.0],
        [0.0, 0.0, 3.5, -63.0],
    ];
    let path = folder.join("sub-01_T1w.nii.gz");
    write(&path, &gzip(&made.file(&head())));
    path
}

#[test]
fn segment_by_a_meshnet_writes_what_segment_writes() {
    let folder = folder();
    let (model, out) = (network(folder.path()), folder.path().join("out"));
    let input = large(folder.path());
    let text = said(&run!("segment", &input, "--model", &model, "-o", &out));
    assert!(text.contains("arXiv:1612.00940"), "{text}");
    let map = results(&out, &input);
    let read = |name: &str| -> Value {
        let bytes = std::fs::read(out.join(name)).expect("a result");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let report = read("sub-01_T1w_report.json");
    Schema::of("report").holds(&report);
    let stats = read("sub-01_T1w_stats.json");
    // Every class that is told is in the map with as many voxels.
    let told = stats.as_array().expect("structures");
    assert!(!told.is_empty());
    for structure in told {
        let label = structure["label"].as_u64().expect("a label") as u32;
        let count = map.data.iter().filter(|l| **l == label).count() as u64;
        assert_eq!(structure["labelled_voxels"], count, "{structure}");
    }
    let first = std::fs::read(out.join("sub-01_T1w_seg-keraunos_dseg.nii.gz")).expect("a map");
    said(&run!("segment", &input, "--model", &model, "-o", &out));
    let again = std::fs::read(out.join("sub-01_T1w_seg-keraunos_dseg.nii.gz")).expect("a map");
    assert!(first == again, "another map");
}

#[test]
fn a_meshnet_is_asked_for_nothing_that_it_cannot_do() {
    let folder = folder();
    let (model, out) = (network(folder.path()), folder.path().join("out"));
    let input = phantom(folder.path(), "sub-01_T1w.nii.gz");
    let refuse = |more: &[&str], code: i32, part: &str| {
        let mut command = keraunos();
        command.arg("segment").arg(&input).arg("--model");
        command.arg(&model).arg("-o").arg(&out).args(more);
        let line = refused(&command.output().expect("the program starts"), code);
        assert!(line.contains(part), "{line}");
        assert!(!out.exists(), "{more:?} left a folder");
    };
    refuse(&["--find", "thalamus"], 2, "structures by name");
    refuse(&["--view", "axial"], 2, "views are not for it");
    refuse(&["--save-probabilities"], 2, "gives classes");
    refuse(
        &["--box", "1,1,9,9,9"],
        2,
        "is a MeshNet: a box or point is not for it",
    );
    let other = phantom(folder.path(), "sub-01_T2w.nii.gz");
    let other = other.to_str().expect("UTF-8");
    refuse(&[other], 2, "several volumes");
}

/// A batch of a model: its exit code, and how many cases were done, were done before and failed.
fn counted(output: &Output) -> (Option<i32>, [u64; 3]) {
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let counts = ["done", "skipped", "failed"];
    let counts = counts.map(|what| value[what].as_u64().expect("a count"));
    (output.status.code(), counts)
}

#[test]
fn a_meshnet_labels_a_folder_of_scans() {
    let folder = folder();
    let (model, out) = (network(folder.path()), folder.path().join("out"));
    let input = folder.path().join("in");
    let scan = std::fs::read(large(folder.path())).expect("a scan");
    std::fs::create_dir(&input).expect("a folder");
    for name in ["a_T1w.nii.gz", "b_T1w.nii.gz"] {
        write(&input.join(name), &scan);
    }
    write(&input.join("c_T1w.nii.gz"), b"no volume");
    let many = |more: &[&str]| {
        let mut command = keraunos();
        command.arg("segment").arg(&input).arg("--model");
        command.arg(&model).arg("-o").arg(&out).args(more);
        command.output().expect("the program starts")
    };
    let line = refused(&many(&["--find", "thalamus"]), 2);
    assert!(line.contains("structures by name"), "{line}");
    assert!(!out.exists());
    assert_eq!(counted(&many(&["--json"])), (Some(1), [2, 0, 1]));
    let map = |name: &str| {
        let name = format!("{name}_T1w_seg-keraunos_dseg.nii.gz");
        std::fs::read(out.join(name)).expect("a map")
    };
    assert!(map("a") == map("b"), "another map of the same scan");
    let report = std::fs::read(out.join("b_T1w_report.json")).expect("a report");
    Schema::of("report").holds(&serde_json::from_slice(&report).expect("JSON"));
    let again = counted(&many(&["--json", "--skip-existing"]));
    assert_eq!(again, (Some(1), [0, 2, 1]));
}
