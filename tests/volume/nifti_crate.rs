//! Volumes as the `nifti` crate reads them, and every shared one.

use super::*;

/// The stored numbers as the `nifti` crate reads them.
fn oracle(path: &Path) -> (nifti::NiftiHeader, Vec<u8>) {
    use nifti::{NiftiObject, ReaderOptions};
    let object = ReaderOptions::new().read_file(path).expect("a good file");
    let header = object.header().clone();
    (header, object.into_volume().into_raw_data())
}

#[test]
fn good_files_read_as_the_nifti_crate_reads_them() {
    let folder = Folder::new();
    for datatype in [2, 4, 8, 16, 512] {
        let file = Made::new([5, 6, 7], datatype);
        let path = folder.put("v.nii.gz", &gzip(&file.counting()));
        let (header, raw) = oracle(&path);
        let volume = Volume::read(&path).unwrap();
        assert_eq!(
            file.encode(
                &volume
                    .data
                    .iter()
                    .map(|&v| f64::from(v))
                    .collect::<Vec<_>>()
            ),
            raw
        );
        assert_eq!(header.srow_x.map(f64::from), volume.affine[0]);
    }
    let Some(root) = shared() else { return };
    for name in [
        "colin27/ch2bet",
        "spinalcord/t2",
        "totalsegmentator/example_ct",
        "spinalcord/t2s",
    ] {
        let path = root.join(format!("data/{name}.nii.gz"));
        let (header, raw) = oracle(&path);
        let volume = Volume::read(&path).unwrap();
        let mut like = Made::new(volume.shape, header.datatype);
        like.big = false;
        let values: Vec<f64> = volume.data.iter().map(|&v| f64::from(v)).collect();
        assert!(like.encode(&values) == raw, "{name}");
        for (row, affine) in [header.srow_x, header.srow_y, header.srow_z]
            .iter()
            .zip(volume.affine)
        {
            assert_eq!(row.map(f64::from), affine, "{name}");
        }
    }
}

#[test]
fn what_we_write_the_nifti_crate_reads() {
    let folder = Folder::new();
    let volume = Volume::read(&folder.put("in.nii", &Made::new([4, 5, 6], 4).counting())).unwrap();
    let labels: Vec<u16> = (0..120).map(|v| v * 3).collect();
    let path = folder.path("out.nii");
    write_labels(&path, &volume, &labels, &Names::new()).unwrap();
    let (header, raw) = oracle(&path);
    assert_eq!(header.intent_code, 1002);
    assert_eq!(
        raw,
        labels
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<_>>()
    );
}

#[test]
fn every_shared_volume_reads() {
    let Some(root) = shared() else { return };
    for name in [
        "colin27/aal",
        "labels/seg_01",
        "labels/seg_02",
        "totalsegmentator/example_seg",
        "spinalcord/t2s_gmseg_manual",
    ] {
        let labels = Labels::read(&root.join(format!("data/{name}.nii.gz"))).unwrap();
        assert!(labels.data.iter().any(|&label| label > 0), "{name}");
        if name.contains("example_seg") {
            assert_eq!(labels.names[&5], "liver");
        }
    }
}
