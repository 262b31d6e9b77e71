//! Compiled kernels: made once each, by whoever needs one first or ahead of that by threads, and kept.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use super::device::lock;
use super::kernel::{Variant, reflect};
use crate::error::{Error, Result};

/// A compiled kernel.
pub(super) struct Pipeline {
    pub(super) raw: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) bindings: BTreeMap<String, u32>,
}

/// A kernel by its address, since two may have one name; what is linked to it; its overrides.
type Key = (usize, [Option<&'static str>; 2], Vec<(&'static str, u32)>);
/// Where a pipeline comes to be: threads that want the same one wait for the first. Else what the compiler said.
type Slot = Arc<OnceLock<Result<Arc<Pipeline>, String>>>;
/// Told at the end, once: the variants that were dispatched in the order of their first use, and the driver's cache.
type Keeper = Box<dyn FnOnce(&[Variant], Option<Vec<u8>>) + Send>;

/// The pipelines of an adapter.
pub struct Pipelines {
    maker: Arc<Maker>,
    /// What was dispatched, in the order of first use.
    used: Mutex<Vec<Variant>>,
    ahead: Mutex<Vec<JoinHandle<()>>>,
    keeper: Mutex<Option<Keeper>>,
    cache_key: Option<String>,
}

/// What threads share.
struct Maker {
    device: wgpu::Device,
    checked: bool,
    cache: OnceLock<wgpu::PipelineCache>,
    made: Mutex<HashMap<Key, Slot>>,
    /// Whether nothing is to be made ahead any more.
    closed: AtomicBool,
}

impl Pipelines {
    /// None yet. `cache_key` names adapters that can exchange what their drivers made, where this one has such a cache.
    pub(super) fn new(device: wgpu::Device, checked: bool, cache_key: Option<String>) -> Self {
        Self {
            maker: Arc::new(Maker {
                device,
                checked,
                cache: OnceLock::new(),
                made: Mutex::default(),
                closed: AtomicBool::new(false),
            }),
            used: Mutex::default(),
            ahead: Mutex::default(),
            keeper: Mutex::default(),
            cache_key,
        }
    }

    pub(super) fn are_checked(&self) -> bool {
        self.maker.checked
    }

    /// A name for the driver's cache of compiled programs; none where it has none that can be kept. It says nothing of
    /// the driver's version, which the driver itself looks at.
    pub fn cache_key(&self) -> Option<&str> {
        self.cache_key.as_deref()
    }

    /// Gives the driver what [`Pipelines::keep`] was given for the same [`Pipelines::cache_key`] by an earlier run, or
    /// an empty cache, before any pipeline is made. The caller vouches that not a bit of it has changed since; nothing
    /// happens on adapters without a cache.
    pub fn restore(&self, data: Option<&[u8]>) {
        if self.cache_key.is_none() {
            return;
        }
        let descriptor = wgpu::PipelineCacheDescriptor {
            label: Some("keraunos"),
            data,
            // What is of another driver is left out, and an empty cache begun.
            fallback: true,
        };
        // Safety: the data is what `get_data` gave for this key, unchanged by its digest; wgpu compares its adapter,
        // and the driver its own version and build, before a bit of it is used.
        #[expect(unsafe_code, reason = "a driver reads what an earlier run kept")]
        let cache = unsafe { self.maker.device.create_pipeline_cache(&descriptor) };
        // A second one would be of no use: pipelines may have been made with the first.
        let _ = self.maker.cache.set(cache);
    }

    /// Has threads make these in turn while the caller goes on. Whoever needs one that is being made waits for it; one
    /// that is refused says so only to who dispatches it.
    pub fn make_ahead(&self, variants: Vec<Variant>) {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let variants = Arc::new(variants);
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..cores.min(variants.len()).min(MOST_THREADS) {
            let (maker, variants, next) = (self.maker.clone(), variants.clone(), next.clone());
            let thread = std::thread::Builder::new().name("pipelines".into());
            let made = thread.spawn(move || {
                while !maker.closed.load(Ordering::Relaxed) {
                    match variants.get(next.fetch_add(1, Ordering::Relaxed)) {
                        Some(variant) => drop(maker.get(variant)),
                        None => break,
                    }
                }
            });
            // Without threads everything is made when it is needed.
            if let Ok(thread) = made {
                lock(&self.ahead).push(thread);
            }
        }
    }

    /// Has what was used, and the driver's cache, handed to `keeper` when the adapter is closed.
    pub fn keep(&self, keeper: impl FnOnce(&[Variant], Option<Vec<u8>>) + Send + 'static) {
        *lock(&self.keeper) = Some(Box::new(keeper));
    }

    /// The pipeline of a variant.
    pub(super) fn get(&self, variant: &Variant) -> Result<Arc<Pipeline>> {
        self.maker.get(variant)
    }

    /// The pipeline of a variant that is to be dispatched.
    pub(super) fn needed(&self, variant: &Variant) -> Result<Arc<Pipeline>> {
        let mut used = lock(&self.used);
        let key = key(variant);
        if !used.iter().any(|other| self::key(other) == key) {
            used.push(variant.clone());
        }
        drop(used);
        self.maker.get(variant)
    }
}

/// The most threads that make pipelines: beyond, drivers wait for each other.
const MOST_THREADS: usize = 8;

impl Drop for Pipelines {
    /// Waits for what is being made, since a driver must not be at work when the program ends.
    fn drop(&mut self) {
        self.maker.closed.store(true, Ordering::Relaxed);
        for thread in lock(&self.ahead).drain(..) {
            // A thread that panicked has made nothing; who needed it has seen that.
            let _ = thread.join();
        }
        if let Some(keeper) = lock(&self.keeper).take() {
            let data = self
                .maker
                .cache
                .get()
                .and_then(wgpu::PipelineCache::get_data);
            keeper(&lock(&self.used), data);
        }
    }
}

fn key(variant: &Variant) -> Key {
    (
        std::ptr::from_ref(variant.kernel).addr(),
        [variant.format, variant.tile],
        variant.overrides.clone(),
    )
}

impl Maker {
    /// The pipeline of `variant`, compiled once.
    fn get(&self, variant: &Variant) -> Result<Arc<Pipeline>> {
        let slot = lock(&self.made).entry(key(variant)).or_default().clone();
        let made = slot.get_or_init(|| {
            let start = Instant::now();
            let pipeline = self.compile(variant)?;
            tracing::debug!("compiled {} in {:.0?}", variant.label(), start.elapsed());
            Ok(Arc::new(pipeline))
        });
        made.clone().map_err(|problem| Error::Kernel {
            name: variant.label(),
            problem,
        })
    }

    fn compile(&self, variant: &Variant) -> Result<Pipeline, String> {
        let source = variant.linked();
        let bindings = reflect(variant.kernel.name, &source)?.bindings;
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let label = variant.label();
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(&label),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        };
        let checked = self.checked || !variant.kernel.proven;
        let module = if checked {
            self.device.create_shader_module(descriptor)
        } else {
            // Safety: proven kernels are our own and complete at compile time; `tests/ops/` runs each
            // of them with all checks on, at sizes that reach every edge, so no index leaves its
            // buffer and every loop ends.
            #[expect(unsafe_code, reason = "shader checks cost up to a third of the speed")]
            unsafe {
                self.device.create_shader_module_trusted(
                    descriptor,
                    wgpu::ShaderRuntimeChecks::unchecked(),
                )
            }
        };
        let constants: Vec<(&str, f64)> = variant
            .overrides
            .iter()
            .map(|(name, v)| (*name, f64::from(*v)))
            .collect();
        let raw = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    zero_initialize_workgroup_memory: checked,
                },
                cache: self.cache.get(),
            });
        if let Some(error) = pollster::block_on(scope.pop()) {
            return Err(error.to_string());
        }
        let layout = raw.get_bind_group_layout(0);
        Ok(Pipeline {
            raw,
            layout,
            bindings,
        })
    }
}
