//! The names of a PyTorch checkpoint, a pickle, beside storages of zeros.

use std::io::{Cursor, Write};

use keraunos::Result;
use keraunos::pipeline::convert::convert;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::files::Folder;
use super::safetensors::weigh;
use keraunos::tensor::Checkpoint;

/// Bytes of the storages that there are, by their keys: those of the sound inputs.
const STORAGES: [usize; 13] = [24, 96, 12, 10, 8, 16, 4, 2, 2, 2, 40, 0, 16];

/// Converts it, and reads what came of it.
pub fn read(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    let input = folder.file("model.pth", &archive(bytes));
    let output = folder.path().join("model.safetensors");
    convert(&input, &output)?;
    weigh(&Checkpoint::read(&output).expect("what was written is sound"));
    Ok(())
}

/// Packed here, so that a change of the pickle is not found out by the archive's sums.
fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    let mut put = |name: String, bytes: &[u8]| {
        zip.start_file(name, stored).expect("memory");
        zip.write_all(bytes).expect("memory");
    };
    put("archive/data.pkl".into(), pickle);
    for (key, size) in STORAGES.into_iter().enumerate() {
        put(format!("archive/data/{key}"), &vec![0; size]);
    }
    zip.finish().expect("memory").into_inner()
}
