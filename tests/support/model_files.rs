//! Hand-made model files, as wrong as a test wants them.
#![allow(dead_code, reason = "every test program uses another part")]

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

/// A file in its own temporary folder, removed when dropped.
pub struct TempFile {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl TempFile {
    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A new file called `name` with the given content.
pub fn temp_file(name: &str, bytes: &[u8]) -> TempFile {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    std::fs::File::create(&path)
        .and_then(|mut f| f.write_all(bytes))
        .expect("a temporary file");
    TempFile {
        _folder: folder,
        path,
    }
}

/// Bytes that live as long as the test program, as embedded weights do.
pub fn leak(bytes: Vec<u8>) -> &'static [u8] {
    Vec::leak(bytes)
}

/// A safetensors file of a header and data, neither checked.
pub fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        data,
    ]
    .concat()
}

/// A GGUF file under construction; nothing it is told is checked.
#[derive(Default, Clone)]
pub struct GgufFile {
    version: Option<u32>,
    entries: Vec<u8>,
    entry_count: u64,
    claimed_entries: Option<u64>,
    tensors: Vec<u8>,
    tensor_count: u64,
    claimed_tensors: Option<u64>,
    data: Vec<u8>,
}

impl GgufFile {
    /// The version to state instead of 3.
    pub fn version(mut self, version: u32) -> Self {
        self.version = Some(version);
        self
    }

    /// The number of metadata entries to state instead of the true one.
    pub fn claimed_entries(mut self, count: u64) -> Self {
        self.claimed_entries = Some(count);
        self
    }

    /// The number of tensors to state instead of the true one.
    pub fn claimed_tensors(mut self, count: u64) -> Self {
        self.claimed_tensors = Some(count);
        self
    }

    /// A metadata entry of a numbered type, with its value as stored.
    pub fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.entries.extend(text(key));
        self.entries.extend(kind.to_le_bytes());
        self.entries.extend(value);
        self.entry_count += 1;
        self
    }

    pub fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    pub fn f32(self, key: &str, value: f32) -> Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    pub fn bool(self, key: &str, value: bool) -> Self {
        self.entry(key, 7, &[value.into()])
    }

    pub fn str(self, key: &str, value: &str) -> Self {
        self.entry(key, 8, &text(value))
    }

    pub fn strings(self, key: &str, values: &[&str]) -> Self {
        let mut array = [
            &8_u32.to_le_bytes()[..],
            &(values.len() as u64).to_le_bytes(),
        ]
        .concat();
        array.extend(values.iter().flat_map(|value| text(value)));
        self.entry(key, 9, &array)
    }

    pub fn i32s(self, key: &str, values: &[i32]) -> Self {
        let mut array = [
            &5_u32.to_le_bytes()[..],
            &(values.len() as u64).to_le_bytes(),
        ]
        .concat();
        array.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.entry(key, 9, &array)
    }

    pub fn f32s(self, key: &str, values: &[f32]) -> Self {
        let mut array = [
            &6_u32.to_le_bytes()[..],
            &(values.len() as u64).to_le_bytes(),
        ]
        .concat();
        array.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.entry(key, 9, &array)
    }

    /// A tensor of a numbered type with its bytes appended to the data, padded to 32.
    pub fn tensor(mut self, name: &str, dims: &[i64], kind: u32, bytes: &[u8]) -> Self {
        let offset = self.data.len() as u64;
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self.tensor_at(name, dims, kind, offset)
    }

    /// A tensor that claims to lie at an offset of the data.
    pub fn tensor_at(mut self, name: &str, dims: &[i64], kind: u32, offset: u64) -> Self {
        self.tensors.extend(text(name));
        self.tensors.extend((dims.len() as u32).to_le_bytes());
        self.tensors
            .extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.unwrap_or(3).to_le_bytes());
        file.extend(
            self.claimed_tensors
                .unwrap_or(self.tensor_count)
                .to_le_bytes(),
        );
        file.extend(
            self.claimed_entries
                .unwrap_or(self.entry_count)
                .to_le_bytes(),
        );
        file.extend(&self.entries);
        file.extend(&self.tensors);
        file.resize(file.len().next_multiple_of(32), 0);
        file.extend(&self.data);
        file
    }
}

/// A text as GGUF stores it.
fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// The numbers of a tensor: a hash of its name and their place, as in goldens/llama.py.
pub fn hashed(name: &str, count: usize) -> Vec<f32> {
    let name = name.bytes().fold(2_166_136_261_u32, |h, byte| {
        (h ^ u32::from(byte)).wrapping_mul(16_777_619)
    });
    (0..count as u32)
        .map(|i| {
            let mut x = i.wrapping_mul(0x9E37_79B9).wrapping_add(name);
            x = (x ^ (x >> 16)).wrapping_mul(0x85EB_CA6B);
            x = (x ^ (x >> 13)).wrapping_mul(0xC2B2_AE35);
            x ^= x >> 16;
            (x >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// The values of a tensor, as goldens/vision.py makes them; `batch` says that it is of a batch norm, as in goldens/cris.py.
fn values_of(name: &str, shape: &[usize], batch: bool) -> Vec<f32> {
    let last = name.rsplit('.').next().unwrap_or_default();
    let about_one = name.to_lowercase().contains("norm")
        || format!(".{name}").contains(".ln_")
        || name.contains(".bn.")
        || batch && ["weight", "running_var"].contains(&last);
    let scale = |v: f32| match shape {
        [_, rest @ ..] if !rest.is_empty() => {
            v * 2.0 / (rest.iter().product::<usize>() as f32).sqrt()
        }
        _ => v * 0.25 + f32::from(u8::from(about_one)),
    };
    let count = shape.iter().product();
    hashed(name, count).into_iter().map(scale).collect()
}

/// Whether a tensor is a batch norm's count, one whole number.
fn is_count(name: &str) -> bool {
    name.ends_with(".num_batches_tracked")
}

/// A folder as Hugging Face has it: `config.json` and `model.safetensors`, its tensors called by `rename`.
pub fn model_folder(
    config: &serde_json::Value,
    tensors: &BTreeMap<String, Vec<usize>>,
    rename: impl Fn(&str) -> String,
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let start = end;
        let (kind, size) = if is_count(name) {
            ("I64", 8)
        } else {
            ("F32", 4)
        };
        end += size * shape.iter().product::<usize>();
        let entry = serde_json::json!({
            "dtype": kind, "shape": shape, "data_offsets": [start, end],
        });
        header.insert(rename(name), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let file = std::fs::File::create(folder.path().join("model.safetensors"));
    let mut file = BufWriter::new(file.expect("a file"));
    let mut write = |bytes: &[u8]| file.write_all(bytes).expect("written");
    write(&(header.len() as u64).to_le_bytes());
    write(header.as_bytes());
    // A few at a time, since whole models are gigabytes.
    let all: Vec<(&String, &Vec<usize>)> = tensors.iter().collect();
    for some in all.chunks(8) {
        let batch = |name: &str| {
            let stem = name.rsplit_once('.').map_or("", |(stem, _)| stem);
            tensors.contains_key(&format!("{stem}.running_var"))
        };
        let made = some.par_iter().map(|(name, shape)| match is_count(name) {
            true => 7_i64.to_le_bytes().to_vec(),
            false => bytemuck::pod_collect_to_vec(&values_of(name, shape, batch(name))),
        });
        for bytes in made.collect::<Vec<Vec<u8>>>() {
            write(&bytes);
        }
    }
    drop(file);
    folder
}
