//! Memory over many volumes. A process of its own: what it holds is measured.

#![cfg(target_os = "linux")]

use keraunos::pipeline::modality::Modality;
use keraunos::pipeline::prepare::View;
use keraunos::pipeline::{Input, Instruct, Options, Request, Segmenter};

#[path = "support/nifti.rs"]
mod nifti;

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    kibibytes
        .and_then(|n| n.parse::<u64>().ok())
        .expect("VmRSS")
        << 10
}

/// Volumes of ever other sizes leave nothing behind, on the adapter or off it.
#[test]
fn memory_stays_flat_over_many_volumes() {
    let folder = tempfile::tempdir().expect("a folder");
    let segmenter = Segmenter::open(&Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let mut held = Vec::new();
    for n in 0..32_usize {
        // No two volumes have one number of slices, which take 1 MB each on the adapter.
        let shape = [40 + 11 * (n % 8), 50 + 7 * (n % 7), 4 + 13 * n % 32];
        let mut made = nifti::Made::new(shape, 2);
        made.pixdim = [1.0, 0.5, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0];
        (made.rows.1[0][0], made.rows.1[1][1]) = (0.5, 0.5);
        let path = folder.path().join("volume.nii");
        std::fs::write(&path, made.counting()).expect("a volume");
        let mut request = Request::new(vec![Input {
            path,
            modality: Some(Modality::T1),
        }]);
        for name in ["whole brain", "cerebellum"] {
            request = request.find(name).expect("a known structure");
        }
        request.instruct = Instruct::Stock;
        (request.fast, request.views) = (true, vec![View::Axial]);
        segmenter
            .segment(&request, &mut ())
            .expect("a segmentation");
        assert_eq!(segmenter.gpu().pooled_bytes(), 0, "volume {n}");
        held.push(resident());
    }
    // A quarter of the run compiles every kernel and meets nearly the largest volume. What the allocator keeps may come
    // and go by the largest one's share, 30 MB.
    let settled = held[..8].iter().max().copied().unwrap_or(0);
    let last = held[24..].iter().max().copied().unwrap_or(0);
    let megabytes: Vec<u64> = held.iter().map(|bytes| bytes >> 20).collect();
    println!("{megabytes:?} MiB");
    assert!(last < settled + (30 << 20), "{megabytes:?} MiB");
}
