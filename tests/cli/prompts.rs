//! `segment` of what boxes and points show.

use std::collections::BTreeMap;

use super::*;

/// The small model of a file of goldens.
fn small(file: &str) -> TempDir {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens")
        .join(file);
    let text = std::fs::read(path).expect("the goldens");
    let goldens: Value = serde_json::from_slice(&text).expect("JSON");
    let case = &goldens["small"];
    let tensors: BTreeMap<String, Vec<usize>> =
        serde_json::from_value(case["tensors"].clone()).expect("tensors");
    model_files::model_folder(&case["config"], &tensors, str::to_owned)
}

#[test]
fn segment_by_a_box_writes_what_segment_writes() {
    let (folder, model) = (folder(), small("sam.json"));
    let input = phantom(folder.path(), "sub-01_T1w.nii.gz");
    let out = folder.path().join("out");
    let shown = |more: &[&str]| {
        let mut command = keraunos();
        command.arg("segment").arg(&input).arg("--model");
        command.arg(model.path()).arg("-o").arg(&out).args(more);
        command.output().expect("the program starts")
    };
    let text = said(&shown(&[
        "--box",
        "8,10,30,36,17",
        "--slices",
        "0",
        "--find",
        "thalamus",
    ]));
    for part in [
        "thalamus",
        "slices 17 to 17",
        "as far as was asked",
        "arXiv:2304.02643",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let map = results(&out, &input);
    let slice = SHAPE[0] * SHAPE[1];
    let outside = map.data.iter().enumerate().filter(|(n, _)| n / slice != 17);
    assert!(outside.clone().all(|(_, label)| *label == 0));
    assert!(
        map.data[17 * slice..18 * slice]
            .iter()
            .any(|label| *label > 0)
    );

    // The same box in millimetres is the same mask; the report says what was shown.
    let before = std::fs::read(out.join("sub-01_T1w_seg-keraunos_dseg.nii.gz")).expect("bytes");
    let corners = [
        "--mm",
        "--box",
        "-18,-21,15,18,-1.5",
        "--slices",
        "0",
        "--find",
        "thalamus",
    ];
    let value = json(&shown(&[&corners[..], &["--json"]].concat()));
    let after = std::fs::read(out.join("sub-01_T1w_seg-keraunos_dseg.nii.gz")).expect("bytes");
    assert!(before == after, "millimetres differ from voxels");
    let report = &value["report"];
    super::schema::Schema::of("report").holds(report);
    assert_eq!(report["preprocessing"], "sam");
    assert_eq!(report["followed"][0]["shown"][0], "box -18,-21,15,18,-1.5");
    assert_eq!(report["followed"][0]["slices"][0]["slice"], 17);
    assert_eq!(report["inputs"][0]["modality_from"], "file name");
    // Points in another view.
    let points = [
        "--view", "sagittal", "--point", "20,24,18", "--point", "20,5,5,-", "--slices", "0",
    ];
    let value = json(&shown(&[&points[..], &["--json"]].concat()));
    assert_eq!(value["report"]["followed"][0]["slice"], 20);
    assert_eq!(value["structures"][0]["name"], "object 1");
}

#[test]
fn a_mobile_sam_is_shown_where_to_look_as_a_sam_is() {
    let (folder, model) = (folder(), small("mobile_sam.json"));
    let file = folder.path().join("mobile_sam.safetensors");
    std::fs::rename(model.path().join("model.safetensors"), &file).expect("moved");
    let input = phantom(folder.path(), "sub-01_T1w.nii.gz");
    let out = folder.path().join("out");
    let mut command = keraunos();
    command.arg("segment").arg(&input).arg("--model").arg(&file);
    command.args(["--box", "8,10,30,36,17", "--slices", "0", "--json", "-o"]);
    let value = json(&command.arg(&out).output().expect("the program starts"));
    let report = &value["report"];
    super::schema::Schema::of("report").holds(report);
    assert_eq!(report["preprocessing"], "sam");
    assert_eq!(report["followed"][0]["slices"][0]["slice"], 17);
    results(&out, &input);
}
