//! A WGSL program: its linked source, its parameters, and what reflection reads from it.
//!
//! `kernel!` declares one beside the op that dispatches it. Sources are linked by appending:
//! WGSL's declarations may come in any order, so the kernel keeps its own line numbers.

use std::collections::BTreeMap;

use wgpu::naga::{
    self, ArraySize, EntryPoint, Expression, Handle, Literal, Module, Type, TypeInner,
};

macro_rules! weight_formats {
    ($($name:literal $(+ $shared:literal)?),+ $(,)?) => {
        &[$((
            $name,
            concat!(
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/weight/", $name, ".wgsl")),
                $("\n", include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/", $shared, ".wgsl")))?
            ),
        )),+]
    };
}

/// The storage formats of packed weights, each a file that kernels are linked with, and what it is
/// linked with itself.
pub const WEIGHT_FORMATS: &[(&str, &str)] = weight_formats!(
    "f32",
    "f16",
    "bf16",
    "q8_0" + "shared/quants",
    "q4_0" + "shared/quants",
    "q4_1" + "shared/quants",
    "q5_0" + "shared/quants",
    "q5_1" + "shared/quants",
    "q4_k" + "shared/quants",
    "q5_k" + "shared/quants",
    "q6_k" + "shared/quants",
);

macro_rules! coop_tiles {
    ($($name:literal),+) => {
        &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/coop/", $name, ".wgsl")))),+]
    };
}

/// The cooperative matrices that kernels can be linked for, best first, each a file: what they sum in, and the side of a
/// tile. Which of them an adapter has, if any, [`Gpu::coop_tile`](crate::gpu::Gpu::coop_tile) says.
pub const COOP_TILES: &[(&str, &str)] = coop_tiles!("f32_16", "f32_8", "f16_8");

/// A WGSL program as declared by an op.
#[derive(Debug)]
pub struct Kernel {
    /// The file's stem, `kernels/<name>.wgsl`.
    pub name: &'static str,
    /// The file with the shared files it uses appended.
    pub source: &'static str,
    /// The fields of its `Params`, with byte offsets, as Rust lays them out.
    pub params: &'static [(&'static str, usize)],
    /// The storage formats that can be linked to it: name and source of `kernels/weight/<name>.wgsl`.
    pub formats: &'static [(&'static str, &'static str)],
    /// The cooperative matrices that can be linked to it: name and source of `kernels/coop/<name>.wgsl`.
    pub tiles: &'static [(&'static str, &'static str)],
    /// Whether it may run without bounds checks: `tests/ops/` proved that it needs none.
    pub(super) proven: bool,
}

impl Kernel {
    /// A kernel from outside the engine, always compiled with bounds checks; `keraunos::kernel!`
    /// writes this.
    pub const fn new(
        name: &'static str,
        source: &'static str,
        params: &'static [(&'static str, usize)],
    ) -> Self {
        Self {
            name,
            source,
            params,
            formats: &[],
            tiles: &[],
            proven: false,
        }
    }

    /// One of the engine's own; the tests reach every edge of it with checks on.
    pub(crate) const fn proven(
        name: &'static str,
        source: &'static str,
        params: &'static [(&'static str, usize)],
        formats: &'static [(&'static str, &'static str)],
        tiles: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self {
            name,
            source,
            params,
            formats,
            tiles,
            proven: true,
        }
    }

    /// The kernel with `format`'s dequantising functions linked in.
    ///
    /// # Panics
    /// If the kernel was not declared with that format.
    pub fn format(&'static self, format: &'static str) -> Variant {
        Variant::from(self).format(format)
    }

    /// The kernel with an `override` set.
    pub fn set(&'static self, name: &'static str, value: u32) -> Variant {
        Variant::from(self).set(name, value)
    }
}

/// A kernel with its format chosen and its overrides set: what one pipeline is made of.
#[derive(Clone, Debug)]
pub struct Variant {
    /// The program.
    pub kernel: &'static Kernel,
    /// The linked storage format, for kernels that read weights.
    pub format: Option<&'static str>,
    /// The linked cooperative matrices, for kernels on them.
    pub tile: Option<&'static str>,
    /// Values of `override` constants that differ from the source.
    pub overrides: Vec<(&'static str, u32)>,
    /// Floating-point operations of the dispatch, for profiles: no part of the pipeline.
    pub flops: usize,
}

impl From<&'static Kernel> for Variant {
    fn from(kernel: &'static Kernel) -> Self {
        Self {
            kernel,
            format: None,
            tile: None,
            overrides: Vec::new(),
            flops: 0,
        }
    }
}

impl Variant {
    /// Links a format's dequantising functions.
    ///
    /// # Panics
    /// If the kernel was not declared with that format.
    #[must_use]
    pub fn format(mut self, format: &'static str) -> Self {
        assert!(
            self.kernel.formats.iter().any(|(name, _)| *name == format),
            "{} has no format {format}",
            self.kernel.name
        );
        self.format = Some(format);
        self
    }

    /// Links cooperative matrices.
    ///
    /// # Panics
    /// If the kernel was not declared with them.
    #[must_use]
    pub fn tile(mut self, tile: &'static str) -> Self {
        assert!(
            self.kernel.tiles.iter().any(|(name, _)| *name == tile),
            "{} has no tiles {tile}",
            self.kernel.name
        );
        self.tile = Some(tile);
        self
    }

    /// Sets an `override` constant.
    #[must_use]
    pub fn set(mut self, name: &'static str, value: u32) -> Self {
        match self.overrides.iter_mut().find(|(set, _)| *set == name) {
            Some((_, old)) => *old = value,
            None => self.overrides.push((name, value)),
        }
        self
    }

    /// The value of an `override` that was set.
    ///
    /// # Panics
    /// If it was not.
    #[track_caller]
    pub fn value(&self, name: &str) -> u32 {
        let set = self.overrides.iter().find(|(set, _)| *set == name);
        match set {
            Some((_, value)) => *value,
            None => panic!("{} without `{name}`", self.label()),
        }
    }

    /// Says how many floating-point operations the dispatch has to do, a multiply-add counting two.
    #[must_use]
    pub fn flops(mut self, flops: usize) -> Self {
        self.flops = flops;
        self
    }

    /// The WGSL text that is compiled.
    pub fn linked(&self) -> String {
        let linked = |files: &[(&str, &'static str)], wanted: Option<&str>| {
            let file = files.iter().find(|(name, _)| Some(*name) == wanted);
            file.map_or("", |(_, source)| source)
        };
        format!(
            "{}{}{}",
            self.kernel.source,
            linked(self.kernel.formats, self.format),
            linked(self.kernel.tiles, self.tile)
        )
    }

    /// A label that names the program, the format and the overrides.
    pub fn label(&self) -> String {
        let mut label = self.kernel.name.to_owned();
        if let Some(format) = self.format {
            label += &format!("+{format}");
        }
        if let Some(tile) = self.tile {
            label += &format!("+{tile}");
        }
        for (name, value) in &self.overrides {
            label += &format!(" {name}={value}");
        }
        label
    }
}

/// What naga reads from a linked source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reflection {
    /// Binding number by name, `params` included.
    pub bindings: BTreeMap<String, u32>,
    /// Bindings that no entry point reaches: an automatic layout leaves them out.
    pub unused: Vec<String>,
    /// The fields of `Params` with byte offsets.
    pub params: Vec<(String, usize)>,
    /// The names of the entry points.
    pub entry_points: Vec<String>,
    /// The most threads of a workgroup at default overrides.
    pub threads: u32,
    /// Bytes of workgroup memory at default overrides.
    pub workgroup_bytes: u32,
    /// Number of storage bindings.
    pub storage_bindings: usize,
}

/// Parses and validates `source` and lists its bindings and parameters.
///
/// # Errors
/// naga's message, with the line it points at.
pub fn reflect(name: &str, source: &str) -> Result<Reflection, String> {
    let module = naga::front::wgsl::parse_str(source)
        .map_err(|e| e.emit_to_string_with_path(source, name))?;
    // What kernels may use beyond the core: `unpack2x16float` and its inverse, which every backend of
    // ours has, and subgroups, f16 and cooperative matrices in kernels of which there is another form for adapters
    // without.
    let info = naga::valid::Validator::new(
        naga::valid::ValidationFlags::all(),
        naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32
            | naga::valid::Capabilities::SUBGROUP
            | naga::valid::Capabilities::SHADER_FLOAT16
            | naga::valid::Capabilities::COOPERATIVE_MATRIX,
    )
    .validate(&module)
    .map_err(|e| e.emit_to_string_with_path(source, name))?;
    let mut reflection = Reflection {
        bindings: BTreeMap::new(),
        unused: Vec::new(),
        params: Vec::new(),
        entry_points: module.entry_points.iter().map(|e| e.name.clone()).collect(),
        threads: 0,
        workgroup_bytes: 0,
        storage_bindings: 0,
    };
    for entry in &module.entry_points {
        let [x, y, z] = workgroup_size(&module, entry)?;
        reflection.threads = reflection.threads.max(x * y * z);
    }
    for (handle, variable) in module.global_variables.iter() {
        let named = || variable.name.clone().unwrap_or_default();
        match variable.space {
            naga::AddressSpace::WorkGroup => {
                reflection.workgroup_bytes += size(&module, variable.ty)?;
            }
            naga::AddressSpace::Storage { .. } | naga::AddressSpace::Uniform => {
                let Some(binding) = &variable.binding else {
                    return Err(format!("`{}` has no binding", named()));
                };
                if binding.group != 0 {
                    return Err(format!("`{}` is not in group 0", named()));
                }
                let unused = |n| info.get_entry_point(n)[handle].is_empty();
                if (0..module.entry_points.len()).all(unused) {
                    reflection.unused.push(named());
                }
                reflection.bindings.insert(named(), binding.binding);
                reflection.storage_bindings +=
                    usize::from(variable.space != naga::AddressSpace::Uniform);
                if let (naga::AddressSpace::Uniform, naga::TypeInner::Struct { members, .. }) =
                    (variable.space, &module.types[variable.ty].inner)
                {
                    reflection.params = members
                        .iter()
                        .map(|m| (m.name.clone().unwrap_or_default(), m.offset as usize))
                        .collect();
                }
            }
            _ => {}
        }
    }
    Ok(reflection)
}

/// The threads of a workgroup along each axis at default overrides.
fn workgroup_size(module: &Module, entry: &EntryPoint) -> Result<[u32; 3], String> {
    let mut size = entry.workgroup_size;
    for (size, given) in size
        .iter_mut()
        .zip(entry.workgroup_size_overrides.iter().flatten())
    {
        if let Some(expression) = given {
            *size = default_value(module, *expression)?;
        }
    }
    Ok(size)
}

/// The bytes of a type at default overrides.
fn size(module: &Module, ty: Handle<Type>) -> Result<u32, String> {
    match module.types[ty].inner {
        TypeInner::Array {
            size: ArraySize::Pending(length),
            stride,
            ..
        } => match module.overrides[length].init {
            Some(length) => Ok(stride * default_value(module, length)?),
            None => Err("an array's length has no default".into()),
        },
        ref inner => Ok(inner.size(module.to_ctx())),
    }
}

/// The value of a constant expression of u32 at default overrides.
fn default_value(module: &Module, expression: Handle<Expression>) -> Result<u32, String> {
    match module.global_expressions[expression] {
        Expression::Literal(Literal::U32(value)) => Ok(value),
        Expression::Literal(Literal::I32(value)) => Ok(value.unsigned_abs()),
        Expression::Constant(constant) => default_value(module, module.constants[constant].init),
        Expression::Override(constant) => match module.overrides[constant].init {
            Some(init) => default_value(module, init),
            None => Err("an override has no default".into()),
        },
        _ => Err("a size is computed; give it an override of its own".into()),
    }
}

/// Declares a kernel of the engine: `kernel! { /// doc  NAME = "stem" + "shared/file" …; { field: u32, … } }`.
///
/// Makes the `static` [`Kernel`] and the `#[repr(C)]` struct `Params`. Write `, weight` after the
/// files for a kernel that a storage format is linked to, `, coop` for one on cooperative matrices, or both.
/// `kernel! { /// doc  NAME = "name", OTHER of "stem" + "shared/file" …; }` declares another form of `OTHER`.
macro_rules! own_kernel {
    (@source $($file:literal),+) => { concat!($(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/kernels/", $file, ".wgsl")), "\n"),+) };
    (@formats weight $($coop:ident)?) => { crate::gpu::WEIGHT_FORMATS };
    (@formats $(coop)?) => { &[] };
    (@tiles $(weight)? coop) => { crate::gpu::COOP_TILES };
    (@tiles $($weight:ident)?) => { &[] };
    // The kernel `$like` of this module linked with other files, under a name of its own.
    (
        $(#[$doc:meta])* $name:ident = $label:literal, $like:ident of $file:literal $(+ $shared:literal)*;
    ) => {
        $(#[$doc])*
        pub static $name: crate::gpu::Kernel = crate::gpu::Kernel::proven(
            $label,
            crate::gpu::kernel!(@source $file $(, $shared)*),
            $like.params,
            $like.formats,
            $like.tiles,
        );
    };
    (
        $(#[$doc:meta])* $name:ident = $file:literal $(+ $shared:literal)* $(, $link:ident)*;
        { $($field:ident : $type:ty),+ $(,)? }
    ) => {
        $(#[$doc])*
        pub static $name: crate::gpu::Kernel = crate::gpu::Kernel::proven(
            $file,
            crate::gpu::kernel!(@source $file $(, $shared)*),
            &[$((stringify!($field), std::mem::offset_of!(Params, $field))),+],
            crate::gpu::kernel!(@formats $($link)*),
            crate::gpu::kernel!(@tiles $($link)*),
        );

        #[repr(C)]
        #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        struct Params {
            $($field: $type),+
        }
    };
}
pub(crate) use own_kernel;

/// Declares a kernel of your own: `kernel! { /// doc  NAME = "file.wgsl" + "more.wgsl" …; { field: u32, … } }`.
///
/// Files are found as [`include_str!`] finds them, beside the Rust file. Makes the `static`
/// [`Kernel`](crate::gpu::Kernel) and the `#[repr(C)]` struct `Params`, whose fields are those of the
/// WGSL struct `Params` at binding 0: u32, i32 and f32 only. Needs the crate `bytemuck` with its feature
/// `derive`. `examples/add_a_kernel.rs` is a whole one.
#[macro_export]
macro_rules! kernel {
    (
        $(#[$doc:meta])* $vis:vis $name:ident = $file:literal $(+ $more:literal)*;
        { $($field:ident : $type:ty),+ $(,)? }
    ) => {
        $(#[$doc])*
        $vis static $name: $crate::gpu::Kernel = $crate::gpu::Kernel::new(
            $file,
            concat!(include_str!($file) $(, "\n", include_str!($more))*),
            &[$((stringify!($field), ::core::mem::offset_of!(Params, $field))),+],
        );

        #[repr(C)]
        #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        struct Params {
            $($field: $type),+
        }
    };
}
