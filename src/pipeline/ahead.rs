//! Pipelines made ahead: what an earlier run of the same command dispatched is compiled by threads while this one reads
//! its files, and what the driver compiled then it gets back.
//!
//! Both are kept in the cache folder, for each adapter, driver and set of kernels: a list of pipelines for each command,
//! and the driver's own cache where it has one that can be kept. A list is names and numbers that are looked up among
//! this program's kernels; what it may not say counts for nothing. The driver's cache begins with its digest, so that
//! no bit that a disk has lost reaches the driver. Either is only written when it has changed, and whole or not at all.

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Variant};
use crate::ops::KERNELS;
use crate::pipeline::{adapter, files};

/// Pipelines beyond this are no list of ours: a command needs some dozens.
const MOST_PIPELINES: usize = 1000;
/// Bytes of a driver's cache beyond which it is begun anew.
const MOST_BYTES: u64 = 256 << 20;
/// Bytes of the digest before the driver's cache.
const DIGEST: usize = 32;

/// A pipeline by names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    kernel: String,
    format: Option<String>,
    tile: Option<String>,
    overrides: Vec<(String, u32)>,
}

impl Made {
    fn of(variant: &Variant) -> Self {
        Self {
            kernel: variant.kernel.name.to_owned(),
            format: variant.format.map(str::to_owned),
            tile: variant.tile.map(str::to_owned),
            overrides: variant
                .overrides
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
        }
    }

    /// The pipeline, if this program has such a kernel with such formats, cooperative matrices and overrides.
    fn variant(&self) -> Option<Variant> {
        let kernel = KERNELS.iter().find(|kernel| kernel.name == self.kernel)?;
        let known = |files: &[(&'static str, &str)], wanted: &Option<String>| match wanted {
            None => files.is_empty().then_some(None),
            Some(name) => files.iter().find(|(n, _)| n == name).map(|(n, _)| Some(*n)),
        };
        let mut variant = Variant::from(*kernel);
        variant.format = known(kernel.formats, &self.format)?;
        variant.tile = known(kernel.tiles, &self.tile)?;
        for (wanted, value) in &self.overrides {
            let mut declared = kernel.source.lines().filter_map(declaration);
            variant = variant.set(declared.find(|name| name == wanted)?, *value);
        }
        Some(variant)
    }
}

/// The name in a line `override NAME: …`.
fn declaration(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix("override ")?.split_once(':')?;
    Some(name)
}

/// Makes what `command` needed when it was last run on this adapter, unless that is a CPU, and has what it needs now
/// remembered when the adapter is closed. Before any pipeline is made.
pub fn begin(gpu: &Gpu, cache: &Path, command: &str) {
    let pipelines = gpu.pipelines();
    let key = adapter::key(gpu);
    let driver = pipelines
        .cache_key()
        .map(|name| cache.join(format!("{name}-{key}.bin")));
    let compiled = driver.as_deref().and_then(read_compiled);
    pipelines.restore(compiled.as_deref());
    let list = cache.join(format!("pipelines-{key}-{command}.json"));
    let earlier = read_list(&list);
    let known: Vec<Variant> = earlier.iter().filter_map(Made::variant).collect();
    // A CPU adapter computes on the cores that would make them: there a start took a tenth to a quarter longer.
    if !gpu.is_cpu() {
        tracing::debug!("{} pipelines are made ahead", known.len());
        pipelines.make_ahead(known);
    }
    pipelines.keep(move |used, data| {
        let used: Vec<Made> = used.iter().map(Made::of).collect();
        let mut kept = Ok(());
        if !used.is_empty() && used != earlier {
            kept = write_list(&list, &used);
        }
        if let (Some(driver), Some(data)) = (driver, data)
            && compiled.as_ref() != Some(&data)
        {
            kept = kept.and(write_compiled(&driver, &data));
        }
        // It costs the next run time, and this one nothing.
        if let Err(problem) = kept {
            tracing::info!("{problem}; pipelines will not be made ahead");
        }
    });
}

fn read_list(place: &Path) -> Vec<Made> {
    let text = std::fs::read(place).unwrap_or_default();
    let list: Vec<Made> = serde_json::from_slice(&text).unwrap_or_default();
    match list.len() {
        ..=MOST_PIPELINES => list,
        _ => Vec::new(),
    }
}

fn write_list(place: &Path, list: &[Made]) -> Result<()> {
    let text = serde_json::to_string(list).map_err(|e| Error::write(place)(e.into()))?;
    write(place, text.as_bytes())
}

/// A driver's cache as it was written, or nothing.
fn read_compiled(place: &Path) -> Option<Vec<u8>> {
    let bytes = std::fs::metadata(place).ok()?.len();
    if bytes > MOST_BYTES {
        return None;
    }
    let mut kept = std::fs::read(place).ok()?;
    let data = kept.split_off(DIGEST.min(kept.len()));
    (kept == *Sha256::digest(&data)).then_some(data)
}

fn write_compiled(place: &Path, data: &[u8]) -> Result<()> {
    write(place, &[&Sha256::digest(data)[..], data].concat())
}

fn write(place: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
    }
    files::atomic_write(place, |file| file.write_all(bytes))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::gpu::GpuOptions;
    use crate::ops::{LINEAR, add};
    use crate::tensor::Tensor;

    fn opened(cache: &Path) -> Gpu {
        let gpu = Gpu::open(&GpuOptions::default()).expect("an adapter");
        begin(&gpu, cache, "test");
        gpu
    }

    fn two_and_two(gpu: &Gpu) -> Vec<f32> {
        let x = Tensor::upload(gpu, "x", [1, 4], &[2f32; 4]).expect("memory");
        let rec = gpu.record("test");
        let y = add(&rec, &x, &x);
        y.read(rec).expect("a sum")
    }

    /// The file of a kind in a cache folder.
    fn file(cache: &Path, ending: &str) -> Option<PathBuf> {
        let entries = std::fs::read_dir(cache).expect("a folder");
        let mut paths = entries.map(|entry| entry.expect("an entry").path());
        paths.find(|path| path.extension().is_some_and(|e| e == ending))
    }

    #[test]
    fn what_was_used_is_remembered_and_made_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("new");
        let gpu = opened(&cache);
        assert_eq!(two_and_two(&gpu), [4.0; 4]);
        let has_driver_cache = gpu.pipelines().cache_key().is_some();
        drop(gpu);
        let list = file(&cache, "json").expect("a list");
        let names = |list: &Path| -> Vec<String> {
            let list = read_list(list);
            list.into_iter().map(|made| made.kernel).collect()
        };
        assert_eq!(names(&list), ["add"]);
        assert_eq!(file(&cache, "bin").is_some(), has_driver_cache);
        // Nothing new: nothing is written.
        let before = std::fs::metadata(&list)
            .and_then(|m| m.modified())
            .expect("a time");
        assert_eq!(two_and_two(&opened(&cache)), [4.0; 4]);
        let after = std::fs::metadata(&list)
            .and_then(|m| m.modified())
            .expect("a time");
        assert_eq!(before, after);
        // A run that needs nothing forgets nothing.
        drop(opened(&cache));
        assert_eq!(names(&list), ["add"]);
        // What is damaged costs nothing but time, and is mended.
        for text in ["", "[1", "{}", "[{\"kernel\": \"add\"}]"] {
            std::fs::write(&list, text).expect("written");
            assert_eq!(two_and_two(&opened(&cache)), [4.0; 4], "{text}");
            assert_eq!(names(&list), ["add"], "{text}");
        }
        // A refused pipeline is nobody's until it is dispatched.
        let refused = Made {
            kernel: "layer_norm".into(),
            format: None,
            tile: None,
            overrides: vec![("WG".into(), 1 << 20)],
        };
        let gpu = opened(&cache);
        let ahead = [
            refused.variant(),
            Some(Variant::from(&crate::ops::ADD)),
            refused.variant(),
        ];
        gpu.pipelines().make_ahead(
            ahead
                .map(|variant| variant.expect("a kernel of ours"))
                .into(),
        );
        assert_eq!(two_and_two(&gpu), [4.0; 4]);
        drop(gpu);
        write_list(&list, &[refused]).expect("written");
        assert_eq!(two_and_two(&opened(&cache)), [4.0; 4]);
        assert_eq!(names(&list), ["add"]);
    }

    #[test]
    fn a_list_can_name_nothing_but_kernels_of_this_program() {
        let sound = Made::of(&LINEAR.format("q4_1").set("WG", 32).set("GATED", 1));
        let back = sound.variant().expect("a pipeline of ours");
        assert_eq!(back.label(), "linear+q4_1 WG=32 GATED=1");
        assert_eq!(Made::of(&back), sound);
        let broken = |change: fn(&mut Made)| {
            let mut made = sound.clone();
            change(&mut made);
            made.variant().is_none()
        };
        assert!(broken(|made| made.kernel = "linear_".into()));
        assert!(broken(|made| made.format = None));
        assert!(broken(|made| made.format = Some("q3_k".into())));
        assert!(broken(|made| made.tile = Some("f32_16".into())));
        assert!(broken(|made| made.overrides[0].0 = "WGS".into()));
    }

    #[test]
    fn a_drivers_cache_that_has_changed_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("driver.bin");
        assert!(read_compiled(&place).is_none());
        write_compiled(&place, b"compiled").expect("written");
        assert_eq!(read_compiled(&place).as_deref(), Some(&b"compiled"[..]));
        let whole = std::fs::read(&place).expect("a file");
        for at in [0, DIGEST - 1, DIGEST, whole.len() - 1] {
            let mut broken = whole.clone();
            broken[at] ^= 1;
            std::fs::write(&place, &broken).expect("written");
            assert!(read_compiled(&place).is_none(), "byte {at}");
        }
        for length in [0, 5, DIGEST, whole.len() - 1] {
            std::fs::write(&place, &whole[..length]).expect("written");
            assert!(read_compiled(&place).is_none(), "{length} bytes");
        }
    }
}
