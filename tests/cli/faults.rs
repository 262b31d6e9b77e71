//! Bad input: named, and nothing is left.

use super::*;

/// The phantom's file with something wrong in it.
fn spoilt(spoil: impl Fn(&mut Made, &mut Vec<f64>)) -> Vec<u8> {
    let (mut made, mut values) = (header(), head());
    spoil(&mut made, &mut values);
    made.file(&values)
}

#[test]
fn bad_volumes_are_named_and_leave_nothing() {
    let folder = folder();
    let whole = gzip(&header().file(&head()));
    let spaced = |spacing: f64| {
        spoilt(move |made, _| {
            made.rows.0 = 0;
            made.quaternion = (1, [0.0; 3], [0.0; 3]);
            made.pixdim[2] = spacing;
        })
    };
    let series = spoilt(|made, values| {
        made.dim = vec![4, 40, 48, 18, 2, 1, 1, 1];
        values.truncate(40 * 48 * 36);
    });
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("cut.nii.gz", whole[..whole.len() / 2].to_vec(), "truncated"),
        ("cut.nii", header().file(&head())[..9000].to_vec(), "9000"),
        ("magic.nii", spoilt(|m, _| m.magic = *b"abc\0"), "magic"),
        ("text.nii", b"not a volume at all".to_vec(), "NIfTI"),
        (
            "slices.dcm",
            [vec![0; 128], b"DICM".to_vec(), vec![0; 999]].concat(),
            "DICOM",
        ),
        ("series.nii", series, "time series"),
        ("zero.nii", spaced(0.0), "pixdim"),
        ("nan.nii", spaced(f64::NAN), "pixdim"),
        ("void.nii", spoilt(|_, v| v.fill(f64::NAN)), "NaN"),
        ("flat.nii", spoilt(|_, v| v.fill(7.0)), "all 7"),
        (
            "singular.nii",
            spoilt(|m, _| m.rows.1[2] = m.rows.1[1]),
            "singular or not finite",
        ),
    ];
    for (name, bytes, part) in cases {
        let (input, out) = (folder.path().join(name), folder.path().join("out"));
        write(&input, &bytes);
        let line = refused(&segment(&input, &out, &[]), 1);
        assert!(line.contains(name) && line.contains(part), "{line}");
        assert!(!out.exists(), "{name}: {:?}", names_in(&out));
    }
    let (missing, out) = (folder.path().join("missing.nii"), folder.path().join("out"));
    let line = refused(&segment(&missing, &out, &[]), 1);
    assert!(
        line.contains("cannot read `") && line.contains("missing.nii"),
        "{line}"
    );
    // A folder that was there stays, and stays empty.
    std::fs::create_dir(&out).expect("a folder");
    refused(&segment(&missing, &out, &[]), 1);
    assert!(out.is_dir() && names_in(&out).is_empty());
}

#[test]
fn modalities_of_two_places_are_refused() {
    let folder = folder();
    let input = phantom(folder.path(), "a.nii.gz");
    let (far, out) = (folder.path().join("far.nii"), folder.path().join("out"));
    write(&far, &spoilt(|m, _| m.rows.1[0][3] = 5000.0));
    let line = refused(&segment(&input, &out, &[far.to_str().expect("a path")]), 1);
    assert!(line.contains("field of view covers 0 %"), "{line}");
}

#[test]
fn results_never_replace_an_input() {
    let folder = folder();
    let input = phantom(folder.path(), "a.nii.gz");
    let before = std::fs::read(&input).expect("bytes");
    let line = refused(&segment(&input, &input, &[]), 2);
    assert!(line.contains("the output folder is the input"), "{line}");
    // A second input that bears the name of the first one's result.
    let name = "a_seg-keraunos_dseg.nii.gz";
    let second = phantom(folder.path(), name);
    let more = [second.to_str().expect("a path")];
    let line = refused(&segment(&input, folder.path(), &more), 2);
    assert!(line.contains("would overwrite the input"), "{line}");
    assert_eq!(names_in(folder.path()), ["a.nii.gz", name]);
    assert!(std::fs::read(&input).expect("bytes") == before);
}

#[test]
fn a_folder_that_cannot_be_written_is_found_before_the_run() {
    let folder = folder();
    // Even root cannot make a folder below a file.
    let input = phantom(folder.path(), "a.nii.gz");
    write(&folder.path().join("file"), b"");
    let out = folder.path().join("file/out");
    // Before the volume is looked at.
    let missing = folder.path().join("missing.nii");
    for volume in [&input, &missing] {
        let line = refused(&segment(volume, &out, &[]), 1);
        assert!(
            line.contains("cannot write `") && line.contains("file/out"),
            "{line}"
        );
    }
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let folder = folder();
    let input = phantom(folder.path(), "a.nii.gz");
    let (weights, out) = (
        folder.path().join("w.safetensors"),
        folder.path().join("out"),
    );
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sound = std::fs::read(root.join("weights/zeus-mini.safetensors")).expect("the weights");
    let other = std::fs::read(root.join("tests/goldens/add.safetensors")).expect("a golden");
    for (bytes, part) in [
        (&sound[..sound.len() - 1000], "bytes of data"),
        (&sound[..5], "5 bytes"),
        (&other[..], "config"),
    ] {
        write(&weights, bytes);
        let more = ["--weights", weights.to_str().expect("a path")];
        let line = refused(&segment(&input, &out, &more), 1);
        assert!(
            line.contains("w.safetensors") && line.contains(part),
            "{line}"
        );
        assert!(!out.exists());
    }
}

#[test]
fn without_an_adapter_the_driver_to_install_is_named() {
    let folder = folder();
    let input = phantom(folder.path(), "a.nii.gz");
    let out = folder.path().join("out");
    let blind = || {
        let mut command = keraunos();
        command.env("VK_ICD_FILENAMES", "/nonexistent");
        command.env("VK_DRIVER_FILES", "/nonexistent");
        command
    };
    let output = blind()
        .arg("segment")
        .arg(&input)
        .arg("-o")
        .arg(&out)
        .args(SHORT)
        .output();
    let line = refused(&output.expect("it starts"), 1);
    assert!(
        line.contains("no graphics adapter found") && line.contains("mesa-vulkan-drivers"),
        "{line}"
    );
    assert!(!out.exists());
    let output = blind().args(["doctor"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("No adapter") && stdout(&output).contains(TEXT_ENCODER));
    assert!(
        said(
            &blind()
                .args(["segment", "--device", "list"])
                .output()
                .expect("it starts")
        )
        .contains("No adapter")
    );
}
