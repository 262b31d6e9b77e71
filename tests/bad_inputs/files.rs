//! Volumes that are cut, packed wrongly, of another format, or do not belong together.

use super::made::gzip;
use super::volumes::{refused, spoilt, whole};
use super::*;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = files();
    rows.extend(sets());
    rows
}

fn files() -> Vec<Row> {
    let packed = gzip(&whole());
    let zip = |name: &str, says: &str, bytes: Vec<u8>| {
        let line = format!("segment a_T1w.nii.gz -o out {QUICK}");
        row(
            format!("volume: {name}"),
            &line,
            format!("`a_T1w.nii.gz`: {says}"),
        )
        .file("a_T1w.nii.gz", bytes)
    };
    let mut damaged = packed.clone();
    let end = damaged.len();
    damaged[end - 8] ^= 1;
    let mut broken = packed.clone();
    broken[packed.len() / 2..]
        .iter_mut()
        .for_each(|byte| *byte = !*byte);
    // A thousandfold: 80 KB that inflate to 80 MB behind the voxels.
    let bomb = gzip(&[whole(), vec![0; 80 << 20]].concat());
    let gap = gzip(&[spoilt(|m| m.vox_offset = 90e6), vec![0; 1 << 20]].concat());
    let far = gzip(&[spoilt(|m| m.vox_offset = 2e9), vec![0; 4 << 20]].concat());
    let foreign =
        |name: &str, says: &str, start: &[u8]| refused(name, says, [start, &[0; 400]].concat());
    vec![
        refused(
            "cut",
            "file is truncated: it holds 3000 bytes, *",
            whole()[..3000].to_vec(),
        ),
        refused(
            "cut in the header",
            "file is truncated: 100 bytes, *",
            whole()[..100].to_vec(),
        ),
        refused("empty", "file is empty", Vec::new()),
        refused("one byte", "file is not a NIfTI file: *", vec![92]),
        refused(
            "a text",
            "file is not a NIfTI file: *",
            b"subject,age\n1,42\n".repeat(99),
        ),
        refused(
            "noise",
            "file is not a NIfTI file: *",
            (0..4000_u32).map(|n| (n * n / 7 + 5) as u8).collect(),
        ),
        foreign(
            "DICOM",
            "file is a DICOM file; convert the series with dcm2niix",
            &[&[0; 128][..], b"DICM"].concat(),
        ),
        foreign("PNG", "file is a PNG picture; *", b"\x89PNG\r\n\x1a\n"),
        foreign("JPEG", "file is a JPEG picture; *", b"\xff\xd8\xff\xe0"),
        foreign("TIFF", "file is a TIFF picture; *", b"II*\0"),
        foreign("zip", "file is a zip archive; *", b"PK\x03\x04"),
        foreign("PDF", "file is a PDF document", b"%PDF-1.7"),
        foreign("MINC", "file is an HDF5 or MINC 2 file; *", b"\x89HDF\r\n"),
        foreign(
            "MetaImage",
            "file is a MetaImage header; *",
            b"ObjectType = Image\n",
        ),
        zip(
            "cut gzip",
            "gzip stream ends too early: *",
            packed[..packed.len() - 20].to_vec(),
        ),
        zip("gzip cut in its header", "*", packed[..7].to_vec()),
        zip(
            "gzip of another checksum",
            "gzip stream is damaged: *",
            damaged,
        ),
        zip("broken gzip", "*", broken),
        zip(
            "gzip within gzip",
            "file is compressed twice",
            gzip(&packed),
        ),
        zip("gzip of nothing", "file is not a NIfTI file: *", gzip(b"")),
        zip(
            "gzip bomb",
            "file goes on for more than 67108864 bytes after the voxels",
            bomb,
        ),
        zip(
            "gzip with noise behind",
            "gzip stream is damaged: *",
            [&packed[..], &[7; 100]].concat(),
        ),
        zip("gzip with a gap that is not there", "*truncated*", gap),
        zip(
            "gzip with a gap of gigabytes",
            "vox_offset is 2000000000: implausibly *",
            far,
        ),
        zip(
            "gzip of a header that claims what no gzip holds",
            "file is truncated: it can at most inflate to *",
            gzip(&spoilt(|m| m.dim[1..4].fill(1000))),
        ),
        row(
            "volume: not there",
            "segment none_T1w.nii -o out",
            "cannot read `none_T1w.nii`: *",
        ),
        row(
            "volume: below a file",
            "segment a_T1w.nii/b.nii -o out",
            "cannot read `a_T1w.nii/b.nii`: *",
        )
        .file("a_T1w.nii", whole()),
    ]
}

/// Several volumes that do not belong together.
fn sets() -> Vec<Row> {
    let far = spoilt(|m| m.rows.1[0][3] = 900.0);
    let two = |name: &str, line: &str, says: &str| {
        row(format!("set: {name}"), line, says)
            .file("a_T1w.nii", whole())
            .file("b_T2w.nii", far.clone())
    };
    vec![
        two(
            "of two places",
            &format!("segment a_T1w.nii b_T2w.nii -o out {QUICK}"),
            "`b_T2w.nii`: field of view covers 0 % of the first volume's: *",
        ),
        two(
            "one volume twice",
            &format!("segment a_T1w.nii ./a_T1w.nii -o out {QUICK}"),
            "`./a_T1w.nii` is given twice (also as `a_T1w.nii`)",
        )
        .usage(),
        two(
            "early fusion of what was trained on one",
            &format!("segment a_T1w.nii --t2 b_T1w.nii -o out --fusion early {QUICK}"),
            "early fusion of 2 modalities*",
        )
        .file("b_T1w.nii", whole())
        .usage(),
        two(
            "second one damaged",
            &format!("segment a_T1w.nii --t2 c.nii -o out {QUICK}"),
            "`c.nii`: file is truncated: *",
        )
        .file("c.nii", whole()[..900].to_vec()),
        two(
            "as one by instruct",
            "instruct a_T1w.nii b_T2w.nii --instruct stock",
            "`b_T2w.nii`: field of view covers 0 % of the first volume's: *",
        ),
        two(
            "more modalities than volumes",
            "segment a_T1w.nii --modality t1 --modality t2 -o out",
            "2 times --modality for 1 volumes; *",
        )
        .usage(),
        two(
            "a modality of nobody",
            "segment a_T1w.nii --modality pet -o out",
            "invalid value 'pet' for '--modality <NAME>'*",
        )
        .usage(),
        two(
            "result on an input",
            "segment a_T1w.nii -o a_T1w.nii",
            "*`a_T1w.nii`*",
        )
        .usage(),
    ]
}
