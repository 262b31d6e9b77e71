//! Time per dispatch, by timestamps around one pass each.

use std::sync::{Mutex, PoisonError};

use super::device::Gpu;
use super::kernel::Variant;

/// Dispatches of one query set: WebGPU allows 4,096 queries in it, two a dispatch.
const SET: usize = 2048;

/// The time of one dispatch, and what it had to do.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The kernel with its format and overrides.
    pub label: String,
    /// Workgroups along x, y and z.
    pub groups: [u32; 3],
    /// Floating-point operations, a multiply-add counting two; 0 where the op does not say.
    pub flops: usize,
    /// Bytes of the tensors that are bound, each once.
    pub bytes: u64,
    /// Seconds on the adapter.
    pub seconds: f64,
}

/// Collects the timings of all that a [`Gpu`] runs which was opened with it
/// ([`super::GpuOptions::profile`]).
#[derive(Debug, Default)]
pub struct Profile(Mutex<Vec<Timing>>);

impl Profile {
    /// What was collected so far, in the order it ran.
    pub fn timings(&self) -> Vec<Timing> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn add(&self, timings: Vec<Timing>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(timings);
    }
}

/// Timestamp queries of one recording.
#[derive(Default)]
pub(super) struct Timer {
    sets: Vec<wgpu::QuerySet>,
    timings: Vec<Timing>,
}

impl Timer {
    /// Where the pass of a dispatch writes its two timestamps.
    pub(super) fn stamps(
        &mut self,
        device: &wgpu::Device,
        variant: &Variant,
        groups: [u32; 3],
        bytes: u64,
    ) -> wgpu::ComputePassTimestampWrites<'_> {
        let at = self.timings.len() % SET;
        if at == 0 {
            self.sets
                .push(device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: Some("timer"),
                    ty: wgpu::QueryType::Timestamp,
                    count: 2 * SET as u32,
                }));
        }
        self.timings.push(Timing {
            label: variant.label(),
            groups,
            flops: variant.flops,
            bytes,
            seconds: 0.0,
        });
        wgpu::ComputePassTimestampWrites {
            query_set: &self.sets[self.sets.len() - 1],
            beginning_of_pass_write_index: Some(2 * at as u32),
            end_of_pass_write_index: Some(2 * at as u32 + 1),
        }
    }

    /// Copies the timestamps into a buffer that can be mapped; `None` if nothing was timed.
    pub(super) fn resolve(
        &self,
        device: &wgpu::Device,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Option<wgpu::Buffer> {
        let buffer = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        if self.timings.is_empty() {
            return None;
        }
        let size = self.timings.len() as u64 * 16;
        let staging = buffer(
            size,
            wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        );
        for (n, (set, timings)) in self.sets.iter().zip(self.timings.chunks(SET)).enumerate() {
            let bytes = timings.len() as u64 * 16;
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let resolved = buffer(bytes, usage);
            encoder.resolve_query_set(set, 0..2 * timings.len() as u32, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &staging, (n * SET * 16) as u64, bytes);
        }
        Some(staging)
    }

    /// The timings, from the bytes of [`Timer::resolve`].
    pub(super) fn timings(self, gpu: &Gpu, bytes: &[u8]) -> Vec<Timing> {
        let period = f64::from(gpu.queue().get_timestamp_period()) * 1e-9;
        let stamps: Vec<u64> = bytemuck::pod_collect_to_vec(bytes);
        let mut timings = self.timings;
        for (timing, pair) in timings.iter_mut().zip(stamps.chunks_exact(2)) {
            timing.seconds = pair[1].saturating_sub(pair[0]) as f64 * period;
        }
        timings
    }
}
