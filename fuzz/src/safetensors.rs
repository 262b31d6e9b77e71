//! A safetensors file, and what a file of zeus-mini says of itself.

use keraunos::Result;
use keraunos::models::zeus::ZeusConfig;
use keraunos::tensor::Checkpoint;
use serde_json::Value;

use super::files::Folder;

/// Tensors with more elements are not decoded: it would only take longer.
const MOST_DECODED: usize = 1 << 14;
/// The most data that is added to a header which asks for it.
const MOST_DATA: u64 = 1 << 16;

/// Reads it as `keraunos inspect` and `--weights` do.
pub fn read(bytes: &[u8]) -> Result<()> {
    let folder = Folder::new();
    let path = folder.file("model.safetensors", &file(bytes));
    let checkpoint = Checkpoint::read(&path)?;
    weigh(&checkpoint);
    match checkpoint.metadata().contains_key("config") {
        true => ZeusConfig::of(&checkpoint).map(drop),
        false => Ok(()),
    }
}

/// The file that an input stands for. One that begins with a brace is a header, up to a zero byte, and data: it gets the
/// length that it lacks in front, and as much data as its tensors ask for, since nearly every change would otherwise fail at
/// one of the two. Every other input is the file itself.
fn file(bytes: &[u8]) -> Vec<u8> {
    if bytes.first() != Some(&b'{') {
        return bytes.to_vec();
    }
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    let (header, data) = bytes.split_at(end);
    let mut data = data.get(1..).unwrap_or_default().to_vec();
    let entries = serde_json::from_slice::<Value>(header).unwrap_or_default();
    let ends = entries
        .as_object()
        .into_iter()
        .flat_map(|entries| entries.values());
    let ends = ends.filter_map(|entry| entry["data_offsets"][1].as_u64());
    if let Some(end) = ends.max().filter(|end| *end <= MOST_DATA) {
        data.resize(end as usize, 0x3c);
    }
    [&(header.len() as u64).to_le_bytes()[..], header, &data].concat()
}

/// What holds of an accepted file: every tensor has the bytes of its shape and can be decoded.
pub fn weigh(checkpoint: &Checkpoint) {
    for tensor in checkpoint.tensors() {
        let wanted = tensor.encoding.byte_len(tensor.elements() as u64);
        assert_eq!(wanted, Some(tensor.bytes.len() as u64), "{}", tensor.name);
        assert!(checkpoint.tensor(tensor.name).is_some(), "{}", tensor.name);
        if tensor.elements() <= MOST_DECODED {
            let values = tensor.decode();
            assert_eq!(values.is_some(), tensor.encoding.is_real());
            assert!(values.is_none_or(|values| values.len() == tensor.elements()));
        }
    }
    let _ = (
        checkpoint.expect_finite(),
        checkpoint.metadata(),
        checkpoint.sha256(),
    );
}
