//! How much memory a segmentation needs, before anything large is read.

use std::path::Path;

use serde::Serialize;

use super::geometry::Grid;
use super::prepare::check_extent;
use super::request::{Fusion, Request, slicing};
use super::volume::read_grid;
use crate::error::{Error, Result};
use crate::models::zeus::ZeusConfig;
use crate::ops::MOST_MASKS;

/// Weights, kernels and the activations of a few slices, on any volume.
const ALWAYS: u64 = 250 << 20;

/// An estimate from the headers of a request's volumes; above what is measured, as the box around the head is not
/// known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// Bytes of the machine's own memory.
    pub host: u64,
    /// Bytes of the adapter's.
    pub adapter: u64,
}

impl Needs {
    /// From the headers of the volumes.
    ///
    /// # Errors
    /// A header that cannot be used.
    pub fn of(request: &Request, model: &ZeusConfig) -> Result<Self> {
        let grids = request.inputs.iter().map(|input| {
            let grid = read_grid(&input.path)?;
            check_extent(&input.path, &grid)?;
            Ok(grid)
        });
        let grids = grids.collect::<Result<Vec<Grid>>>()?;
        let slicing = slicing(request)?;
        let Some(first) = grids.first() else {
            return Err(Error::Argument("no volume to segment".into()));
        };
        // Products of sizes that a header may claim; too much is too much.
        let times = |factors: &[u64]| factors.iter().fold(1_u64, |n, f| n.saturating_mul(*f));
        let voxels = |grid: &Grid| times(&grid.shape.map(|n| n as u64));
        let millimetre = first.canonical().with_spacing([1.0; 3]);
        let (native, prepared) = (voxels(first), voxels(&millimetre));
        let inputs = grids.len() as u64;
        let largest = grids.iter().map(voxels).max().unwrap_or(native);
        // The first volume stays; of another and of the one that is turned and resampled there are two more at a time. Then
        // the map (label, holder and its logit), a structure's logits as they come and on the volume's own grid, its mask.
        let reading = times(&[4, native]).saturating_add(times(&[12, largest]));
        let drawing = times(&[4 + 10 + 4 + 1, native]);
        let host = reading
            .max(drawing)
            .saturating_add(times(&[4, inputs, prepared]))
            .saturating_add(times(&[4, MOST_MASKS as u64, prepared]));
        let slices = slicing.views.iter().map(|view| {
            let along = millimetre.shape[view.axis()];
            along.div_ceil(slicing.step) as u64
        });
        let (longest, slices) = (slices.clone().max().unwrap_or(0), slices.sum::<u64>());
        let groups = match request.fusion {
            Fusion::Late => inputs,
            Fusion::Hybrid | Fusion::Early => 1,
        };
        let [grid, size] = [model.grid, model.low_res].map(|n| n as u64);
        let tokens = times(&[grid, grid, model.prompt_dim as u64, 4]);
        let pixels = times(&[size, size, model.up_dims[2] as u64, 2]);
        let fused = times(&[8, prepared]).saturating_add(times(&[longest, size, size, 4]));
        let adapter = times(&[groups, slices, tokens + pixels])
            .saturating_add(times(&[MOST_MASKS as u64, fused]))
            .saturating_add(ALWAYS);
        Ok(Self { host, adapter })
    }

    /// What is taken from the machine's memory: the adapter's share too where it is the processor.
    pub fn of_machine(&self, adapter_is_cpu: bool) -> u64 {
        match adapter_is_cpu {
            true => self.host.saturating_add(self.adapter),
            false => self.host,
        }
    }
}

/// Refuses work on a file that needs more of the machine's memory than there is left.
///
/// # Errors
/// [`Error::Memory`].
pub(super) fn check(path: &Path, needs: u64) -> Result<()> {
    match available() {
        Some(has) if needs > has => Err(Error::Memory {
            path: path.into(),
            needs: gigabytes(needs),
            has: gigabytes(has),
        }),
        _ => Ok(()),
    }
}

/// Bytes of memory that this machine, this container or this process's limit has left; `None` where the system
/// does not tell.
pub fn available() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| mem_available(&text))?;
    let number = |text: String| text.trim().parse::<u64>().ok();
    let limit = read("/sys/fs/cgroup/memory.max").and_then(number);
    let used = read("/sys/fs/cgroup/memory.current").and_then(number);
    let container = limit
        .zip(used)
        .map(|(limit, used)| limit.saturating_sub(used));
    let limit = read("/proc/self/limits").and_then(|text| address_space(&text));
    let pages = read("/proc/self/statm").and_then(|text| text.split(' ').next()?.parse().ok());
    let process = limit
        .zip(pages)
        .map(|(limit, pages): (u64, u64)| limit.saturating_sub(pages.saturating_mul(4096)));
    [Some(machine), container, process]
        .into_iter()
        .flatten()
        .min()
}

/// Bytes of memory that this process has; 0 where the system does not tell.
pub(super) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    kibibytes(&status, "VmRSS:").unwrap_or(0)
}

/// The limit of the address space (`ulimit -v`) in Linux's `/proc/self/limits`, in bytes.
fn address_space(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The line `MemAvailable` of Linux's `/proc/meminfo`, in bytes.
fn mem_available(text: &str) -> Option<u64> {
    kibibytes(text, "MemAvailable:")
}

/// The line of this name in a table of Linux's, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// A number of bytes for people, in GB.
pub fn gigabytes(bytes: u64) -> String {
    format!("{:.1} GB", bytes as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_kibibytes() {
        let text = "MemTotal:  24000000 kB\nMemFree: 5 kB\nMemAvailable:   20000000 kB\n";
        assert_eq!(mem_available(text), Some(20_480_000_000));
        assert_eq!(mem_available("MemTotal: 5 kB\n"), None);
        assert_eq!(mem_available("MemAvailable: many\n"), None);
    }

    #[test]
    fn a_limit_is_read_in_bytes() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max address space         8192000000           unlimited            bytes\n";
        assert_eq!(address_space(text), Some(8_192_000_000));
        assert_eq!(
            address_space(&text.replace("8192000000", "unlimited ")),
            None
        );
    }
}
