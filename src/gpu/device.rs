//! One open adapter: choosing it, making pipelines, moving bytes in and out.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::kernel::{Kernel, Variant};
use super::pipelines::Pipelines;
use super::pool::{Buffer, Pool, USAGE};
use super::recorder::{Recorder, Submission};
use super::timer::{Profile, Timer};
use crate::error::{Error, Result};

/// How to open an adapter.
#[derive(Clone, Debug, Default)]
pub struct GpuOptions {
    /// A number from [`Gpu::adapters`] or a part of a name; `None` takes the fastest kind there is.
    pub device: Option<String>,
    /// Compile kernels with bounds checks, as the tests do.
    pub checked: bool,
    /// Take no kernel that needs subgroups, as on an adapter without them.
    pub without_subgroups: bool,
    /// Take the kernels and shares of work that a graphics card gets, on whichever adapter: for tests.
    pub as_card: bool,
    /// Take every product's first tile and none that was measured to be faster here: for `pipeline::adapter::open`,
    /// which else sees to it by [`Gpu::choose`].
    pub untuned: bool,
    /// Bind no more bytes than these, as on a smaller adapter: for tests.
    pub max_binding_bytes: Option<u64>,
    /// Multiply on cooperative matrices (tensor cores): activations and weights are rounded to f16 for it.
    pub cooperative: bool,
    /// Time every dispatch and tell this; slower, since each becomes a pass of its own.
    pub profile: Option<Arc<Profile>>,
}

/// What `doctor` and the report say of an adapter.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AdapterSummary {
    /// The name its driver gives it.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub kind: &'static str,
    /// `vulkan`, `metal` or `dx12`.
    pub backend: &'static str,
    /// The driver's name and version.
    pub driver: String,
    /// The largest storage binding in bytes.
    pub max_binding_bytes: u64,
    /// The largest buffer in bytes.
    pub max_buffer_bytes: u64,
    /// The lanes of a subgroup, least and most; zero where unknown.
    pub subgroup_lanes: [u32; 2],
    /// Optional features of interest that it has.
    pub features: Vec<&'static str>,
}

/// One open adapter with its pipelines and memory. Shared between threads by reference.
pub struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    summary: AdapterSummary,
    profile: Option<Arc<Profile>>,
    subgroup_lanes: Option<[u32; 2]>,
    as_card: bool,
    /// Whether the driver, or a test, has taken the device away.
    lost: Arc<AtomicBool>,
    coop_tile: Option<&'static str>,
    /// Kernels that gave wrong values here.
    distrusted: Mutex<BTreeMap<&'static str, String>>,
    /// What was measured to be the fastest here, by the name of a class of dispatches.
    choices: Mutex<BTreeMap<&'static str, Variant>>,
    pipelines: Pipelines,
    pool: Arc<Pool>,
    params: Mutex<Vec<wgpu::Buffer>>,
    staging: Mutex<Vec<wgpu::Buffer>>,
    /// What the driver complained about outside any error scope.
    complaints: Arc<Mutex<Vec<String>>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    // A shader or layer fault is reported by wgpu itself; the driver's own validation is for us.
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

/// All adapters, fastest kind first, as a stable order for `--device N`.
fn adapters() -> Vec<wgpu::Adapter> {
    let mut adapters = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::all()));
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    adapters
}

fn summary(adapter: &wgpu::Adapter) -> AdapterSummary {
    let info = adapter.get_info();
    let limits = adapter.limits();
    let has = adapter.features();
    let features = [
        (wgpu::Features::SHADER_F16, "f16 shaders"),
        (wgpu::Features::SUBGROUP, "subgroups"),
        (wgpu::Features::TIMESTAMP_QUERY, "timestamps"),
    ];
    AdapterSummary {
        name: info.name,
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "cpu",
            wgpu::DeviceType::Other => "other",
        },
        backend: match info.backend {
            wgpu::Backend::Vulkan => "vulkan",
            wgpu::Backend::Metal => "metal",
            wgpu::Backend::Dx12 => "dx12",
            _ => "other",
        },
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_owned(),
        max_binding_bytes: limits.max_storage_buffer_binding_size,
        max_buffer_bytes: limits.max_buffer_size,
        subgroup_lanes: [info.subgroup_min_size, info.subgroup_max_size],
        features: features
            .into_iter()
            .filter(|(flag, _)| has.contains(*flag))
            .map(|(_, name)| name)
            .chain(coop_tile(adapter).map(|_| "cooperative matrices"))
            .collect(),
    }
}

/// Which of `COOP_TILES` an adapter has, best first; kernels need subgroups of one size for them.
fn coop_tile(adapter: &wgpu::Adapter) -> Option<&'static str> {
    use wgpu::CooperativeScalarType::{F16, F32};
    let needed = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16;
    let info = adapter.get_info();
    let one_size = info.subgroup_min_size == info.subgroup_max_size;
    if !one_size
        || !adapter
            .features()
            .contains(needed | wgpu::Features::SUBGROUP)
    {
        return None;
    }
    let found = adapter.cooperative_matrix_properties();
    let has = |side: u32, sums| {
        found.iter().any(|tile| {
            [tile.m_size, tile.n_size, tile.k_size] == [side; 3]
                && (tile.ab_type, tile.cr_type) == (F16, sums)
        })
    };
    [("f32_16", 16, F32), ("f32_8", 8, F32), ("f16_8", 8, F16)]
        .into_iter()
        .find(|(_, side, sums)| has(*side, *sums))
        .map(|(name, ..)| name)
}

/// What a machine without an adapter lacks, in words that help.
const NO_ADAPTER: &str = "neither Vulkan, Metal nor DirectX 12 offers one; on Linux install your card's Vulkan driver, \
     or the software one: `apt-get install mesa-vulkan-drivers`";

impl Gpu {
    /// Every adapter of the machine, in the order of `--device N`.
    pub fn adapters() -> Vec<AdapterSummary> {
        adapters().iter().map(summary).collect()
    }

    /// Opens an adapter with all the limits it has.
    ///
    /// # Errors
    /// No adapter, none of that name, or a driver that refuses to open it.
    pub fn open(options: &GpuOptions) -> Result<Self> {
        let mut found = adapters();
        if found.is_empty() {
            return Err(Error::NoAdapter(NO_ADAPTER.into()));
        }
        let names: Vec<String> = found.iter().map(|a| a.get_info().name).collect();
        let chosen = match &options.device {
            None => 0,
            Some(wanted) => wanted
                .parse::<usize>()
                .ok()
                .filter(|n| *n < names.len())
                .or_else(|| {
                    names
                        .iter()
                        .position(|name| name.to_lowercase().contains(&wanted.to_lowercase()))
                })
                .ok_or_else(|| Error::UnknownDevice {
                    name: wanted.clone(),
                    found: names
                        .iter()
                        .enumerate()
                        .map(|(n, name)| format!("{n} {name}"))
                        .collect::<Vec<_>>()
                        .join(", "),
                })?,
        };
        let adapter = found.swap_remove(chosen);
        let mut features = adapter.features()
            & (wgpu::Features::TIMESTAMP_QUERY
                | wgpu::Features::SHADER_F16
                | wgpu::Features::SUBGROUP
                | wgpu::Features::PIPELINE_CACHE);
        if options.without_subgroups {
            features.remove(wgpu::Features::SUBGROUP);
        }
        if options.profile.is_some() && !features.contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Err(Error::Gpu(format!(
                "adapter `{}` has no timestamp queries, so it cannot be profiled",
                adapter.get_info().name
            )));
        }
        let coop_tile = if options.cooperative && !options.without_subgroups {
            coop_tile(&adapter)
        } else {
            None
        };
        if options.cooperative && coop_tile.is_none() {
            return Err(Error::Gpu(format!(
                "adapter `{}` has no cooperative matrices of f16 in subgroups of one size",
                adapter.get_info().name
            )));
        }
        let experimental_features = if coop_tile.is_some() {
            features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
            // Safety: asked for by name only, and of what it enables our kernels use whole tiles of memory that is
            // theirs; the self-check runs them before anything else does.
            #[expect(unsafe_code, reason = "cooperative matrices are experimental in wgpu")]
            unsafe {
                wgpu::ExperimentalFeatures::enabled()
            }
        } else {
            wgpu::ExperimentalFeatures::disabled()
        };
        let opened = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            label: Some("keraunos"),
            required_features: features,
            required_limits: adapter.limits(),
            experimental_features,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            trace: wgpu::Trace::Off,
        }));
        let (device, queue) = opened.map_err(|e| {
            Error::Gpu(format!(
                "adapter `{}` cannot be opened: {e}",
                adapter.get_info().name
            ))
        })?;
        let mut summary = summary(&adapter);
        if let Some(most) = options.max_binding_bytes {
            summary.max_binding_bytes = summary.max_binding_bytes.min(most);
        }
        tracing::info!(
            "adapter `{}`, {}, {}",
            summary.name,
            summary.kind,
            summary.driver
        );
        let [least, most] = summary.subgroup_lanes;
        let subgroups = features.contains(wgpu::Features::SUBGROUP) && least > 0;
        let subgroup_lanes = subgroups.then_some([least, most]);
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let sink = complaints.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            lock(&sink).push(error.to_string())
        }));
        let lost = Arc::new(AtomicBool::new(false));
        let flag = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            if reason != wgpu::DeviceLostReason::Destroyed {
                tracing::warn!("the adapter was lost: {message}");
                flag.store(true, Ordering::Relaxed);
            }
        });
        let cache_key = features
            .contains(wgpu::Features::PIPELINE_CACHE)
            .then(|| wgpu::util::pipeline_cache_key(&adapter.get_info()))
            .flatten();
        Ok(Self {
            pipelines: Pipelines::new(device.clone(), options.checked, cache_key),
            device,
            queue,
            summary,
            profile: options.profile.clone(),
            subgroup_lanes,
            as_card: options.as_card,
            lost,
            coop_tile,
            distrusted: Mutex::default(),
            choices: Mutex::default(),
            pool: Arc::default(),
            params: Mutex::default(),
            staging: Mutex::default(),
            complaints,
        })
    }

    /// What the adapter is and can do.
    pub fn summary(&self) -> &AdapterSummary {
        &self.summary
    }

    /// The lanes of a subgroup, if kernels may use subgroups and all have this size.
    pub fn subgroup_lanes(&self) -> Option<u32> {
        let [least, most] = self.subgroup_lanes?;
        (least == most).then_some(least)
    }

    /// The fewest lanes of a subgroup, if kernels may use subgroups.
    pub fn fewest_subgroup_lanes(&self) -> Option<u32> {
        self.subgroup_lanes.map(|[least, _]| least)
    }

    /// The cooperative matrices that kernels use here: one of [`COOP_TILES`](super::COOP_TILES), if the adapter was opened
    /// for them.
    pub fn coop_tile(&self) -> Option<&'static str> {
        self.coop_tile
    }

    /// Whether kernels may compute in f16.
    pub fn computes_half(&self) -> bool {
        self.device.features().contains(wgpu::Features::SHADER_F16)
    }

    /// From now on no op takes this kernel where another does the same work; `reason` says what it got wrong here.
    pub fn distrust(&self, kernel: &Kernel, reason: String) {
        lock(&self.distrusted).insert(kernel.name, reason);
    }

    /// Whether nothing is known against a kernel.
    pub fn trusts(&self, kernel: &Kernel) -> bool {
        !lock(&self.distrusted).contains_key(kernel.name)
    }

    /// Why kernels are not used here that others would be, one sentence each.
    pub fn distrusted(&self) -> Vec<String> {
        lock(&self.distrusted).values().cloned().collect()
    }

    /// From now on dispatches of `class` are made with this kernel and these overrides.
    pub fn choose(&self, class: &'static str, variant: Variant) {
        lock(&self.choices).insert(class, variant);
    }

    /// What was chosen for a class, if anything was.
    pub fn choice(&self, class: &str) -> Option<Variant> {
        lock(&self.choices).get(class).cloned()
    }

    /// Whether every kernel is compiled with bounds checks.
    pub fn is_checked(&self) -> bool {
        self.pipelines.are_checked()
    }

    /// Whether the adapter is a software one, which runs a few wide threads instead of many, and is to be treated as one.
    pub fn is_cpu(&self) -> bool {
        self.summary.kind == "cpu" && !self.as_card
    }

    /// The most bytes one storage binding may hold.
    pub fn max_binding_bytes(&self) -> u64 {
        self.summary.max_binding_bytes
    }

    /// Begins a forward pass.
    pub fn record(&self, label: &'static str) -> Recorder<'_> {
        let timer = self.profile.as_ref().map(|_| Timer::default());
        Recorder::new(self, label, timer)
    }

    /// Copies `data` into memory of its own.
    ///
    /// # Errors
    /// More bytes than one storage binding of the adapter may hold, or memory that runs out.
    pub fn upload<T: bytemuck::Pod>(&self, label: &str, data: &[T]) -> Result<Buffer> {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let buffer = self.allocate(label, bytes.len())?;
        if !bytes.is_empty() {
            let whole = bytes.len() & !3;
            self.queue.write_buffer(buffer.raw(), 0, &bytes[..whole]);
            if whole < bytes.len() {
                let mut tail = [0u8; 4];
                tail[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
                self.queue.write_buffer(buffer.raw(), whole as u64, &tail);
            }
            // Frees the copy that wgpu keeps until a submit.
            self.queue.submit([]);
        }
        self.check()?;
        Ok(buffer)
    }

    /// Zeroed memory of its own, outside the pool.
    ///
    /// # Errors
    /// As [`Gpu::upload`].
    pub fn allocate(&self, label: &str, bytes: usize) -> Result<Buffer> {
        let limit = self.max_binding_bytes();
        if bytes as u64 > limit {
            return Err(Error::Gpu(format!(
                "`{label}` needs {bytes} bytes in one binding, the adapter allows {limit}"
            )));
        }
        let raw = self.buffer(label, (bytes as u64).next_multiple_of(16).max(16))?;
        Ok(Buffer::owned(raw))
    }

    /// Gives the adapter up, as if it had been unplugged: for tests.
    #[doc(hidden)]
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
        self.device.destroy();
    }

    /// Waits until everything submitted is done.
    ///
    /// # Errors
    /// A lost adapter.
    pub fn wait(&self) -> Result<()> {
        self.device
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|e| self.failed(&e))?;
        self.check()
    }

    /// Bytes that are free and kept for the next recordings: [`Gpu::trim`] gives them back.
    pub fn pooled_bytes(&self) -> u64 {
        let staging = lock(&self.staging);
        self.pool.bytes() + staging.iter().map(wgpu::Buffer::size).sum::<u64>()
    }

    /// Waits until a recording is done; what was submitted after it goes on.
    ///
    /// # Errors
    /// A lost adapter.
    pub fn wait_for(&self, submission: &Submission) -> Result<()> {
        let until = wgpu::PollType::Wait {
            submission_index: Some(submission.0.clone()),
            timeout: None,
        };
        let polled = self.device.poll(until);
        polled.map_err(|e| self.failed(&e))?;
        self.check()
    }

    /// Gives free activation memory back to the adapter.
    pub fn trim(&self) {
        self.pool.clear();
        lock(&self.staging).clear();
    }

    /// Compiles a kernel ahead of its first dispatch.
    ///
    /// # Errors
    /// The shader compiler's message.
    pub fn prepare(&self, variant: &Variant) -> Result<()> {
        self.pipelines.get(variant).map(|_| ())
    }

    /// The pipelines, for making them ahead and for keeping what the driver made of them.
    pub fn pipelines(&self) -> &Pipelines {
        &self.pipelines
    }

    /// New memory for kernels.
    pub(super) fn buffer(&self, label: &str, bytes: u64) -> Result<wgpu::Buffer> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let raw = self.create_buffer(label, bytes);
        self.present()?;
        match pollster::block_on(scope.pop()) {
            Some(error) => Err(Error::Gpu(format!(
                "no memory for `{label}`, {bytes} bytes: {error}"
            ))),
            None => Ok(raw),
        }
    }

    /// New memory for kernels that is known to fit.
    pub(super) fn create_buffer(&self, label: &str, bytes: u64) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage: USAGE,
            mapped_at_creation: false,
        })
    }

    pub(super) fn device(&self) -> &wgpu::Device {
        &self.device
    }

    pub(super) fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    pub(super) fn profile(&self) -> Option<&Profile> {
        self.profile.as_deref()
    }

    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The first complaint of the driver since the last check; once the adapter is lost, that, whatever else follows from it.
    pub(super) fn check(&self) -> Result<()> {
        self.present()?;
        match lock(&self.complaints).drain(..).next() {
            Some(complaint) => Err(Error::Gpu(complaint)),
            None => Ok(()),
        }
    }

    /// An error if the adapter was lost.
    pub(super) fn present(&self) -> Result<()> {
        match self.lost.load(Ordering::Relaxed) {
            true => Err(Error::Gpu(format!(
                "adapter `{}` was lost: its driver was reset, or it was removed",
                self.summary.name
            ))),
            false => Ok(()),
        }
    }

    /// A failure of the driver, or what is behind it.
    fn failed(&self, error: &dyn std::fmt::Display) -> Error {
        let lost = self.present().err();
        lost.unwrap_or_else(|| Error::Gpu(error.to_string()))
    }

    /// A parameter buffer that no unsubmitted recording uses.
    pub(super) fn lease_params(&self, bytes: u64) -> wgpu::Buffer {
        lock(&self.params).pop().unwrap_or_else(|| {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("params"),
                size: bytes,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })
    }

    pub(super) fn return_params(&self, chunks: Vec<wgpu::Buffer>) {
        lock(&self.params).extend(chunks);
    }

    /// A buffer of at least `bytes` that can be mapped for reading.
    pub(super) fn lease_staging(&self, bytes: u64) -> wgpu::Buffer {
        let mut free = lock(&self.staging);
        let fits = |b: &wgpu::Buffer| b.size() >= bytes && b.size() <= 2 * bytes.max(4096);
        if let Some(at) = free.iter().position(fits) {
            return free.swap_remove(at);
        }
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("staging"),
            size: bytes.next_multiple_of(256),
            usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    }

    pub(super) fn return_staging(&self, buffer: wgpu::Buffer) {
        let mut free = lock(&self.staging);
        if free.len() < 4 {
            free.push(buffer);
        }
    }

    /// Waits for the submission that fills a staging buffer and copies its bytes.
    pub(super) fn map(&self, staging: &wgpu::Buffer, filled: &Submission) -> Result<Vec<u8>> {
        let (send, receive) = std::sync::mpsc::channel();
        staging
            .slice(..)
            .map_async(wgpu::MapMode::Read, move |result| {
                // The receiver lives until the poll below returns.
                let _ = send.send(result);
            });
        self.wait_for(filled)?;
        let mapped = receive
            .recv()
            .map_err(|_| self.failed(&"the adapter never answered"))?;
        mapped.map_err(|e| self.failed(&format!("cannot read results back: {e}")))?;
        let view = staging
            .slice(..)
            .get_mapped_range()
            .map_err(|e| self.failed(&e))?;
        let bytes = view.to_vec();
        drop(view);
        staging.unmap();
        Ok(bytes)
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu")
            .field("summary", &self.summary)
            .field("checked", &self.is_checked())
            .finish_non_exhaustive()
    }
}
