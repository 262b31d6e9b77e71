//! Adapter memory: buffers that return to a pool when the last handle is dropped.
//!
//! A buffer leased during a recording goes back to that recording's own shelf, so a later op of the
//! same pass may take it (commands run in order), but nobody else can before the pass is submitted.
//! After the submit the shelf is closed and its buffers belong to everyone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::Gpu;
use crate::error::{Error, Result};

/// The usages of every buffer that kernels read or write.
pub(super) const USAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

/// Anything that a kernel's binding can be given.
pub trait Bind {
    /// The memory behind it.
    fn buffer(&self) -> &Buffer;

    /// The bytes of it that are in use.
    fn used_bytes(&self) -> u64 {
        self.buffer().bytes()
    }
}

/// A handle to adapter memory; clones share it.
#[derive(Clone, Debug)]
pub struct Buffer(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    raw: wgpu::Buffer,
    /// Where the memory goes when the last handle is dropped; `None` for weights and uploads.
    shelf: Option<Arc<Shelf>>,
}

impl Buffer {
    /// A buffer of its own, outside the pool.
    pub(super) fn owned(raw: wgpu::Buffer) -> Self {
        Self(Arc::new(Memory { raw, shelf: None }))
    }

    pub(super) fn raw(&self) -> &wgpu::Buffer {
        &self.0.raw
    }

    /// Whether both are the same memory.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether the memory was leased from `shelf`.
    pub(super) fn is_from(&self, shelf: &Arc<Shelf>) -> bool {
        self.0
            .shelf
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, shelf))
    }

    /// Whether the memory returns to a pool at all.
    pub(super) fn is_leased(&self) -> bool {
        self.0.shelf.is_some()
    }

    /// Capacity in bytes, at least what was asked for.
    pub fn bytes(&self) -> u64 {
        self.0.raw.size()
    }
}

impl Bind for Buffer {
    fn buffer(&self) -> &Buffer {
        self
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(shelf) = &self.shelf {
            shelf.put(self.raw.clone());
        }
    }
}

/// Free buffers by size class.
#[derive(Debug, Default)]
struct Free(HashMap<u64, Vec<wgpu::Buffer>>);

impl Free {
    fn take(&mut self, class: u64) -> Option<wgpu::Buffer> {
        self.0.get_mut(&class)?.pop()
    }

    fn put(&mut self, raw: wgpu::Buffer) {
        self.0.entry(raw.size()).or_default().push(raw);
    }
}

/// The free buffers that belong to everyone.
#[derive(Debug, Default)]
pub(super) struct Pool(Mutex<Free>);

impl Pool {
    fn lock(&self) -> std::sync::MutexGuard<'_, Free> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of free memory.
    pub(super) fn bytes(&self) -> u64 {
        let free = self.lock();
        free.0.values().flatten().map(wgpu::Buffer::size).sum()
    }

    /// Gives all free memory back to the adapter.
    pub(super) fn clear(&self) {
        self.lock().0.clear();
    }
}

/// The free buffers of one recording.
#[derive(Debug)]
pub(super) struct Shelf {
    pool: Arc<Pool>,
    /// `None` once the recording was submitted.
    free: Mutex<Option<Free>>,
}

impl Shelf {
    pub(super) fn new(pool: Arc<Pool>) -> Arc<Self> {
        Arc::new(Self {
            pool,
            free: Mutex::new(Some(Free::default())),
        })
    }

    fn put(&self, raw: wgpu::Buffer) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        match free.as_mut() {
            Some(free) => free.put(raw),
            None => self.pool.lock().put(raw),
        }
    }

    /// Leases at least `bytes`, and no more than one binding may hold.
    pub(super) fn lease(self: &Arc<Self>, gpu: &Gpu, bytes: u64) -> Result<Buffer> {
        let limit = gpu.max_binding_bytes();
        if bytes > limit {
            return Err(Error::Gpu(format!(
                "an intermediate result needs {bytes} bytes in one binding, the adapter allows {limit}"
            )));
        }
        let class = size_class(bytes).min((limit & !3).max(256));
        let own = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .and_then(|f| f.take(class));
        let raw = match own.or_else(|| self.pool.lock().take(class)) {
            Some(raw) => raw,
            None => gpu.buffer("activation", class)?,
        };
        Ok(Buffer(Arc::new(Memory {
            raw,
            shelf: Some(self.clone()),
        })))
    }

    /// Hands the free buffers to everyone; later drops go there directly.
    pub(super) fn close(&self) {
        let free = self
            .free
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(free) = free {
            let mut pool = self.pool.lock();
            free.0.into_values().flatten().for_each(|raw| pool.put(raw));
        }
    }
}

/// Sizes round up to an eighth of a power of two, so that a growing sequence reuses buffers.
fn size_class(bytes: u64) -> u64 {
    let bytes = bytes.max(256);
    let step = (bytes.next_power_of_two() / 16).max(64);
    bytes.div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::size_class;

    #[test]
    fn size_classes_hold_what_was_asked_and_waste_an_eighth_at_most() {
        for bytes in (1..5000).chain([65_537, 1 << 20, (1 << 20) + 1, 999_999_937]) {
            let class = size_class(bytes);
            assert!(
                class >= bytes && class.is_multiple_of(4),
                "{bytes} -> {class}"
            );
            assert!(
                class <= 256.max(bytes + bytes / 8 + 64),
                "{bytes} -> {class}"
            );
        }
    }
}
