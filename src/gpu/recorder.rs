//! One forward pass: dispatches collected into one compute pass and submitted at once.

use std::cell::RefCell;
use std::sync::Arc;

use super::device::Gpu;
use super::kernel::Variant;
use super::pool::{Bind, Buffer, Shelf};
use super::timer::Timer;
use crate::error::{Error, Result};

/// Bytes between two parameter slots: the largest uniform alignment an adapter may ask for.
const SLOT: usize = 256;
/// Bytes of one parameter buffer.
const CHUNK: usize = 64 * 1024;

/// What an adapter gets done in a second with kernels like ours, if it is slow for its kind: a driver's watchdog ends what
/// takes longer than a second or two, and with it the display.
#[derive(Clone, Copy, Debug)]
struct Pace {
    flops: f64,
    bytes: f64,
}

/// Seconds at that pace after which a recording goes on in another submission.
const PART_SECONDS: f64 = 0.25;

impl Pace {
    /// Software adapters have no watchdog: their recordings stay whole.
    fn of(gpu: &Gpu) -> Option<Self> {
        match gpu.summary().kind {
            _ if gpu.is_cpu() => None,
            "discrete" => Some(Self {
                flops: 1e12,
                bytes: 100e9,
            }),
            _ => Some(Self {
                flops: 50e9,
                bytes: 10e9,
            }),
        }
    }

    /// What a dispatch takes at the most: its arithmetic and its memory one after the other.
    fn seconds(self, flops: usize, bytes: u64) -> f64 {
        flops as f64 / self.flops + bytes as f64 / self.bytes
    }
}

/// The number of workgroups of a dispatch.
///
/// A count over 65,535, the most that WebGPU guarantees in one dimension, is folded into `y`; the
/// kernel recovers it with `shared/flat.wgsl` and ignores what lies beyond its own bound.
#[derive(Clone, Copy, Debug)]
pub struct Groups([u32; 3]);

impl From<usize> for Groups {
    fn from(count: usize) -> Self {
        const MOST: usize = 65_535;
        let count = count.max(1);
        let y = count.div_ceil(MOST);
        Self([count.div_ceil(y) as u32, y as u32, 1])
    }
}

impl From<[usize; 2]> for Groups {
    fn from([x, y]: [usize; 2]) -> Self {
        Self([x as u32, y as u32, 1])
    }
}

impl From<[usize; 3]> for Groups {
    fn from([x, y, z]: [usize; 3]) -> Self {
        Self([x as u32, y as u32, z as u32])
    }
}

/// Records one forward pass. Reading or submitting ends it.
pub struct Recorder<'g> {
    gpu: &'g Gpu,
    label: &'static str,
    shelf: Arc<Shelf>,
    pace: Option<Pace>,
    state: RefCell<State>,
}

struct State {
    /// Parts that are full: each a submission of its own, before the last.
    parts: Vec<wgpu::CommandBuffer>,
    /// Seconds that the part under way takes at the adapter's pace.
    seconds: f64,
    encoder: wgpu::CommandEncoder,
    pass: Option<wgpu::ComputePass<'static>>,
    /// Parameters of all dispatches, one slot each, and the buffers that will hold them.
    arena: Vec<u8>,
    chunks: Vec<wgpu::Buffer>,
    /// Tensors of other recordings that this one reads: kept until the submit.
    foreign: Vec<Buffer>,
    /// The first failure; reported when the recording ends.
    failure: Option<Error>,
    timer: Option<Timer>,
    dispatches: usize,
}

impl<'g> Recorder<'g> {
    pub(super) fn new(gpu: &'g Gpu, label: &'static str, timer: Option<Timer>) -> Self {
        Self {
            gpu,
            label,
            shelf: Shelf::new(gpu.pool().clone()),
            pace: Pace::of(gpu),
            state: RefCell::new(State {
                parts: Vec::new(),
                seconds: 0.0,
                encoder: encoder(gpu, label),
                pass: None,
                arena: Vec::new(),
                chunks: Vec::new(),
                foreign: Vec::new(),
                failure: None,
                timer,
                dispatches: 0,
            }),
        }
    }

    /// The adapter that will run the recording.
    pub fn gpu(&self) -> &'g Gpu {
        self.gpu
    }

    /// Leases memory for `bytes` bytes; its content is undefined. More than the adapter has, or
    /// allows in one binding, makes the recording fail when it ends.
    pub fn lease(&self, bytes: usize) -> Buffer {
        let leased = self.shelf.lease(self.gpu, bytes as u64);
        leased.unwrap_or_else(|error| {
            self.state.borrow_mut().failure.get_or_insert(error);
            // No dispatch is recorded any more, so its size does not matter.
            Buffer::owned(self.gpu.create_buffer("none", 16))
        })
    }

    /// Appends one dispatch. `bindings` are given by the names of the WGSL variables, all but
    /// `params`, in any order.
    ///
    /// # Panics
    /// If a binding of the kernel is missing or a name is unknown: mistakes of our own.
    #[track_caller]
    pub fn dispatch<P: bytemuck::Pod>(
        &self,
        variant: impl Into<Variant>,
        params: P,
        bindings: &[(&str, &dyn Bind)],
        groups: impl Into<Groups>,
    ) {
        let variant = variant.into();
        let groups = groups.into();
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if state.failure.is_some() {
            return;
        }
        let pipeline = match self.gpu.pipelines().needed(&variant) {
            Ok(pipeline) => pipeline,
            Err(error) => {
                state.failure = Some(error);
                return;
            }
        };
        let offset = self.params(state, bytemuck::bytes_of(&params));
        let chunk = &state.chunks[offset / CHUNK];
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: pipeline.bindings["params"],
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: chunk,
                offset: (offset % CHUNK) as u64,
                size: wgpu::BufferSize::new(SLOT as u64),
            }),
        }];
        for (name, bound) in bindings {
            let buffer = bound.buffer();
            let Some(&binding) = pipeline.bindings.get(*name) else {
                panic!("kernel `{}` has no binding `{name}`", variant.label());
            };
            entries.push(wgpu::BindGroupEntry {
                binding,
                resource: buffer.raw().as_entire_binding(),
            });
            if buffer.is_leased() && !buffer.is_from(&self.shelf) {
                state.foreign.push(buffer.clone());
            }
        }
        assert_eq!(
            entries.len(),
            pipeline.bindings.len(),
            "bindings of kernel `{}`",
            variant.label()
        );
        let group = self
            .gpu
            .device()
            .create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(variant.kernel.name),
                layout: &pipeline.layout,
                entries: &entries,
            });
        if let Some(pace) = self.pace {
            let own = pace.seconds(variant.flops, distinct_bytes(bindings));
            if state.seconds > 0.0 && state.seconds + own > PART_SECONDS {
                state.pass = None;
                let next = encoder(self.gpu, self.label);
                let full = std::mem::replace(&mut state.encoder, next);
                state.parts.push(full.finish());
                state.seconds = 0.0;
            }
            state.seconds += own;
        }
        let timed = match &mut state.timer {
            Some(timer) => {
                state.pass = None;
                let bytes = distinct_bytes(bindings);
                Some(timer.stamps(self.gpu.device(), &variant, groups.0, bytes))
            }
            None => None,
        };
        let pass = state.pass.get_or_insert_with(|| {
            let descriptor = wgpu::ComputePassDescriptor {
                label: Some(self.label),
                timestamp_writes: timed,
            };
            state
                .encoder
                .begin_compute_pass(&descriptor)
                .forget_lifetime()
        });
        pass.set_pipeline(&pipeline.raw);
        pass.set_bind_group(0, &group, &[]);
        let Groups([x, y, z]) = groups;
        pass.dispatch_workgroups(x, y, z);
        state.dispatches += 1;
    }

    /// Puts `params` into the arena and returns their offset.
    fn params(&self, state: &mut State, params: &[u8]) -> usize {
        assert!(params.len() <= SLOT, "parameters of at most {SLOT} bytes");
        let offset = state.arena.len();
        if offset.is_multiple_of(CHUNK) {
            state.chunks.push(self.gpu.lease_params(CHUNK as u64));
        }
        state.arena.extend_from_slice(params);
        state.arena.resize(offset + SLOT, 0);
        offset
    }

    /// The number of dispatches so far.
    pub fn dispatches(&self) -> usize {
        self.state.borrow().dispatches
    }

    /// Submissions that it will be: more than one where a driver's watchdog might end it.
    pub fn submissions(&self) -> usize {
        self.state.borrow().parts.len() + 1
    }

    /// Submits without waiting.
    ///
    /// # Errors
    /// A kernel that the driver refused, or a lost adapter.
    pub fn submit(self) -> Result<Submission> {
        self.finish(&[]).map(|(submission, _)| submission)
    }

    /// Submits, waits, and returns the first `count` 32-bit words of each tensor.
    ///
    /// # Errors
    /// A kernel that the driver refused, or a lost adapter.
    pub fn read<T: bytemuck::Pod>(self, wanted: &[(&dyn Bind, usize)]) -> Result<Vec<Vec<T>>> {
        self.begin_read(wanted)?.finish()
    }

    /// Submits without waiting, and has the first `count` 32-bit words of each tensor copied to where
    /// [`Reading::finish`] finds them, so that another recording can be made meanwhile.
    ///
    /// # Errors
    /// A kernel that the driver refused, or a lost adapter.
    pub fn begin_read(self, wanted: &[(&dyn Bind, usize)]) -> Result<Reading<'g>> {
        let gpu = self.gpu;
        let (submission, staging) = self.finish(wanted)?;
        Ok(Reading {
            gpu,
            submission,
            staging,
            counts: wanted.iter().map(|(_, count)| *count).collect(),
        })
    }

    /// Ends the pass, copies what is wanted into a staging buffer, uploads the parameters, submits.
    fn finish(self, wanted: &[(&dyn Bind, usize)]) -> Result<(Submission, Option<wgpu::Buffer>)> {
        let state = self.state.into_inner();
        let State {
            parts,
            mut encoder,
            pass,
            arena,
            chunks,
            foreign,
            failure,
            timer,
            ..
        } = state;
        // What the driver refuses of this recording is this recording's error, and no other's.
        let scope = self
            .gpu
            .device()
            .push_error_scope(wgpu::ErrorFilter::Validation);
        drop(pass);
        if let Some(failure) = failure {
            self.shelf.close();
            return Err(failure);
        }
        let words: usize = wanted.iter().map(|(_, count)| count).sum();
        let staging = (words > 0).then(|| {
            let staging = self.gpu.lease_staging(words as u64 * 4);
            let mut at = 0;
            for (bound, count) in wanted {
                let bytes = *count as u64 * 4;
                encoder.copy_buffer_to_buffer(bound.buffer().raw(), 0, &staging, at, bytes);
                at += bytes;
            }
            staging
        });
        let stamps = timer
            .as_ref()
            .and_then(|timer| timer.resolve(self.gpu.device(), &mut encoder));
        for (chunk, bytes) in chunks.iter().zip(arena.chunks(CHUNK)) {
            self.gpu.queue().write_buffer(chunk, 0, bytes);
        }
        for part in parts {
            self.gpu.queue().submit([part]);
        }
        let submission = Submission(self.gpu.queue().submit([encoder.finish()]));
        self.gpu.return_params(chunks);
        self.shelf.close();
        drop(foreign);
        if let Some(refused) = pollster::block_on(scope.pop()) {
            // Without what led to it, which came outside the scope.
            self.gpu.present()?;
            let _ = self.gpu.check();
            return Err(Error::Gpu(refused.to_string()));
        }
        self.gpu.check()?;
        if let (Some(profile), Some(timer), Some(stamps)) = (self.gpu.profile(), timer, stamps) {
            let bytes = self.gpu.map(&stamps, &submission)?;
            profile.add(timer.timings(self.gpu, &bytes));
        }
        Ok((submission, staging))
    }
}

fn encoder(gpu: &Gpu, label: &str) -> wgpu::CommandEncoder {
    let descriptor = wgpu::CommandEncoderDescriptor { label: Some(label) };
    gpu.device().create_command_encoder(&descriptor)
}

/// A recording that was submitted: [`Gpu::wait_for`] waits until it is done.
#[derive(Debug)]
pub struct Submission(pub(super) wgpu::SubmissionIndex);

/// Values that a submitted recording computes.
#[must_use = "values are read by `finish`"]
pub struct Reading<'g> {
    gpu: &'g Gpu,
    submission: Submission,
    /// None if nothing was wanted.
    staging: Option<wgpu::Buffer>,
    counts: Vec<usize>,
}

impl Reading<'_> {
    /// Waits for the recording, and for no later one, and returns the words of each tensor.
    ///
    /// # Errors
    /// A lost adapter.
    pub fn finish<T: bytemuck::Pod>(self) -> Result<Vec<Vec<T>>> {
        assert_eq!(size_of::<T>(), 4, "only 32-bit values are read back");
        let bytes = match self.staging {
            Some(staging) => {
                let bytes = self.gpu.map(&staging, &self.submission)?;
                self.gpu.return_staging(staging);
                bytes
            }
            None => Vec::new(),
        };
        let mut at = 0;
        Ok(self
            .counts
            .iter()
            .map(|count| {
                let values = bytemuck::pod_collect_to_vec(&bytes[at * 4..(at + count) * 4]);
                at += count;
                values
            })
            .collect())
    }
}

/// The bytes in use of all that is bound, what is bound twice counting once.
fn distinct_bytes(bindings: &[(&str, &dyn Bind)]) -> u64 {
    let first = |n: usize| {
        let raw = bindings[n].1.buffer().raw();
        bindings[..n]
            .iter()
            .all(|(_, other)| other.buffer().raw() != raw)
    };
    (0..bindings.len())
        .filter(|n| first(*n))
        .map(|n| bindings[n].1.used_bytes())
        .sum()
}
