//! The files of a result: what `keraunos view` shows, and the summary of a batch that is resumed.

use keraunos::Result;
use keraunos::pipeline::batch::{SUMMARY, write_summary};
use keraunos::pipeline::shown::Shown;

use super::files::{Folder, parts};

/// The files that an input may hold, by what they are called here.
const NAMES: [&str; 4] = [REPORT, STATISTICS, TABLE, SUMMARY[0]];
const REPORT: &str = "scan_report.json";
const STATISTICS: &str = "scan_stats.json";
const TABLE: &str = "scan_seg-keraunos_dseg.tsv";

/// Opens it as `keraunos view` does, beside a map and a scan that are sound; then adds nothing to the summary.
pub fn read(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    let volume = sound();
    folder.file("scan.nii", &volume);
    folder.file("scan_seg-keraunos_dseg.nii.gz", &volume);
    let given = parts(bytes, &NAMES);
    for (name, bytes) in &given {
        folder.file(name, bytes);
    }
    let has = |wanted: &str| given.iter().any(|(name, _)| *name == wanted);
    let shown = match has(REPORT) {
        true => Shown::open(&folder.path().join(REPORT), &[]).map(|shown| {
            let sizes = shown.scans.iter().map(Vec::len).sum::<usize>();
            assert!(sizes >= shown.page.scans.len() && sizes > 0);
            serde_json::to_string(&shown.page).expect("a page");
        }),
        false => Ok(()),
    };
    let summary = match has(SUMMARY[0]) {
        true => write_summary(folder.path(), &[]).map(drop),
        false => Ok(()),
    };
    shown.and(summary)
}

/// A NIfTI-1 volume of 2 × 3 × 4 voxels of 1 mm, labels 0 to 3.
fn sound() -> Vec<u8> {
    let mut bytes = vec![0; 352];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &348_i32.to_le_bytes());
    for (n, size) in [3_i16, 2, 3, 4, 1, 1, 1, 1].iter().enumerate() {
        put(40 + 2 * n, &size.to_le_bytes());
        put(76 + 4 * n, &1_f32.to_le_bytes());
    }
    put(70, &2_i16.to_le_bytes());
    put(72, &8_i16.to_le_bytes());
    put(108, &352_f32.to_le_bytes());
    put(254, &1_i16.to_le_bytes());
    for row in 0..3 {
        put(280 + 20 * row, &1_f32.to_le_bytes());
    }
    put(344, b"n+1\0");
    bytes.extend((0..24).map(|n| n % 4));
    bytes
}
