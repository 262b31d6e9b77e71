//! Time per dispatch, by timestamps around one pass each.

use super::device::Gpu;
use super::kernel::Variant;

/// The most dispatches one profile can hold: WebGPU's limit of 4,096 queries, two a dispatch.
const MOST: u32 = 2048;

/// The time of one dispatch.
#[derive(Clone, Debug)]
pub struct Timing {
    /// The kernel with its format and overrides.
    pub label: String,
    /// Seconds on the adapter.
    pub seconds: f64,
}

/// Timestamp queries of one recording.
pub(super) struct Timer {
    queries: wgpu::QuerySet,
    labels: Vec<String>,
}

impl Timer {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        let queries = device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("timer"),
            ty: wgpu::QueryType::Timestamp,
            count: 2 * MOST,
        });
        Self {
            queries,
            labels: Vec::new(),
        }
    }

    /// Where the next pass writes its two timestamps; `None` when the set is full.
    pub(super) fn stamps(
        &mut self,
        variant: &Variant,
    ) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let at = 2 * self.labels.len() as u32;
        if at >= 2 * MOST {
            return None;
        }
        self.labels.push(variant.label());
        Some(wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(at),
            end_of_pass_write_index: Some(at + 1),
        })
    }

    /// Copies the timestamps into a buffer that can be mapped.
    pub(super) fn resolve(&self, gpu: &Gpu, encoder: &mut wgpu::CommandEncoder) -> wgpu::Buffer {
        let size = (self.labels.len().max(1) * 16) as u64;
        let buffer = |usage| {
            gpu.device().create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
        let staging = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        encoder.resolve_query_set(&self.queries, 0..2 * self.labels.len() as u32, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, size);
        staging
    }

    pub(super) fn timings(self, gpu: &Gpu, bytes: &[u8]) -> Vec<Timing> {
        let period = f64::from(gpu.queue().get_timestamp_period()) * 1e-9;
        let stamps: Vec<u64> = bytemuck::pod_collect_to_vec(bytes);
        let seconds = |pair: &[u64]| pair[1].saturating_sub(pair[0]) as f64 * period;
        self.labels
            .into_iter()
            .zip(stamps.chunks_exact(2))
            .map(|(label, pair)| Timing {
                label,
                seconds: seconds(pair),
            })
            .collect()
    }
}
