//! The kernels as texts: each is valid, fits what every adapter guarantees, says what its Rust side
//! says, and has its twin, its test and its bench. Needs no adapter.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use keraunos::gpu::{COOP_TILES, Kernel, Reflection, Variant, WEIGHT_FORMATS, reflect};
use keraunos::ops::KERNELS;
use keraunos::ops::bench::CEILINGS;

/// What WebGPU guarantees on every adapter.
const MOST_STORAGE_BINDINGS: usize = 8;
const MOST_WORKGROUP_BYTES: u32 = 16 * 1024;
const MOST_THREADS: u32 = 256;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The stems of the files with an ending in a folder.
fn stems(folder: &str, ending: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    paths
        .filter(|path| path.extension().is_some_and(|e| e == ending))
        .map(stem)
        .collect()
}

/// Every WGSL file, by its path from the root.
fn files() -> Vec<String> {
    let mut files = Vec::new();
    for folder in [
        "kernels",
        "kernels/ceiling",
        "kernels/coop",
        "kernels/shared",
        "kernels/weight",
    ] {
        files.extend(
            stems(folder, "wgsl")
                .iter()
                .map(|stem| format!("{folder}/{stem}.wgsl")),
        );
    }
    files
}

/// A kernel as it is compiled: once, or once for each storage format, or for each of those and each cooperative matrix.
fn linked(kernel: &'static Kernel) -> Vec<Variant> {
    let formats: Vec<Variant> = match kernel.formats {
        [] => vec![kernel.into()],
        formats => formats
            .iter()
            .map(|(name, _)| kernel.format(name))
            .collect(),
    };
    if kernel.tiles.is_empty() {
        return formats;
    }
    let tiled = |variant: &Variant| {
        let tiles = kernel.tiles.iter().map(|(tile, _)| *tile);
        tiles
            .map(|tile| variant.clone().tile(tile))
            .collect::<Vec<_>>()
    };
    formats.iter().flat_map(tiled).collect()
}

/// The stem of a kernel's file: one that adds up by subgroups is another's, linked otherwise.
fn stem(kernel: &Kernel) -> &'static str {
    kernel.name.strip_suffix("_subgroup").unwrap_or(kernel.name)
}

/// Everything that is wrong with a linked kernel.
fn faults(kernel: &Kernel, source: &str) -> Vec<String> {
    let reflection = match reflect(kernel.name, source) {
        Ok(reflection) => reflection,
        Err(message) => return vec![message],
    };
    let Reflection {
        bindings,
        unused,
        params,
        entry_points,
        threads,
        workgroup_bytes,
        storage_bindings,
    } = reflection;
    let mut faults = Vec::new();
    let mut expect = |right: bool, fault: String| {
        if !right {
            faults.push(fault);
        }
    };
    expect(
        entry_points == ["main"],
        format!("entry points {entry_points:?}, not `main` alone"),
    );
    let declared: Vec<(String, usize)> = kernel
        .params
        .iter()
        .map(|(name, at)| ((*name).to_owned(), *at))
        .collect();
    expect(
        params == declared,
        format!("`Params` is {params:?} in WGSL and {declared:?} in Rust"),
    );
    expect(
        bindings.get("params") == Some(&0),
        "`params` is not binding 0".into(),
    );
    expect(
        unused.is_empty(),
        format!("bindings that nothing uses: {unused:?}"),
    );
    let numbers: BTreeSet<u32> = bindings.values().copied().collect();
    expect(
        numbers.len() == bindings.len(),
        format!("two bindings of one number: {bindings:?}"),
    );
    expect(
        storage_bindings <= MOST_STORAGE_BINDINGS,
        format!("{storage_bindings} storage bindings"),
    );
    expect(
        workgroup_bytes <= MOST_WORKGROUP_BYTES,
        format!("{workgroup_bytes} bytes of workgroup memory"),
    );
    expect(
        threads <= MOST_THREADS,
        format!("{threads} threads in a workgroup"),
    );
    faults
}

#[test]
fn kernels_are_valid_and_fit_every_adapter() {
    for kernel in KERNELS.iter().chain(CEILINGS) {
        for variant in linked(kernel) {
            let faults = faults(kernel, &variant.linked());
            assert!(
                faults.is_empty(),
                "{}: {}",
                variant.label(),
                faults.join("\n")
            );
        }
    }
}

/// Whether the first line is a formula: a comment that says what equals what.
fn opens_with_a_formula(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default();
    first.starts_with("// ") && first.contains('=')
}

/// The storage bindings whose line does not end in their shape in round brackets.
fn without_a_shape(text: &str) -> Vec<&str> {
    let shaped = |line: &str| {
        let shape = line.split_once("// (").map(|(_, shape)| shape);
        shape.is_some_and(|shape| shape.contains(')'))
    };
    text.lines()
        .filter(|line| line.contains("var<storage") && !shaped(line))
        .collect()
}

#[test]
fn files_open_with_their_formula_and_bindings_have_a_shape() {
    for file in files() {
        let text = text(&file);
        // `sum += v · w` is one too.
        assert!(
            opens_with_a_formula(&text),
            "{file}: the first line is no formula"
        );
        let bare = without_a_shape(&text);
        assert!(
            bare.is_empty(),
            "{file}: bindings without a shape\n{}",
            bare.join("\n")
        );
        assert!(
            text.ends_with('\n') && !text.contains('\t'),
            "{file}: no last line end, or tabs"
        );
    }
}

#[test]
fn every_file_is_linked() {
    let names: BTreeSet<String> = KERNELS
        .iter()
        .map(|kernel| kernel.name.to_owned())
        .collect();
    assert_eq!(names.len(), KERNELS.len(), "two kernels of one name");
    let files: BTreeSet<String> = KERNELS
        .iter()
        .map(|kernel| stem(kernel).to_owned())
        .collect();
    assert_eq!(
        stems("kernels", "wgsl"),
        files,
        "files in kernels/ and names in `KERNELS`"
    );
    let ceilings: BTreeSet<String> = CEILINGS
        .iter()
        .map(|kernel| kernel.name.replace("ceiling/", ""))
        .collect();
    assert_eq!(
        stems("kernels/ceiling", "wgsl"),
        ceilings,
        "files in kernels/ceiling/ and names in `CEILINGS`"
    );
    let formats: BTreeSet<String> = WEIGHT_FORMATS
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(
        stems("kernels/weight", "wgsl"),
        formats,
        "files in kernels/weight/ and formats"
    );
    let tiles: BTreeSet<String> = COOP_TILES
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    assert_eq!(
        stems("kernels/coop", "wgsl"),
        tiles,
        "files in kernels/coop/ and tiles"
    );
    for stem in stems("kernels/shared", "wgsl") {
        let shared = text(format!("kernels/shared/{stem}.wgsl"));
        let users = KERNELS
            .iter()
            .map(|kernel| kernel.source)
            .chain(WEIGHT_FORMATS.iter().map(|(_, source)| *source))
            .filter(|source| source.contains(&shared))
            .count();
        assert!(
            users > 0,
            "kernels/shared/{stem}.wgsl is linked by no kernel"
        );
    }
}

/// An adapter may lack subgroups and cooperative matrices: what uses them has a form that does not.
#[test]
fn kernels_with_subgroups_have_a_form_without() {
    let mut found = 0;
    let special = ["subgroup_", "subgroupShuffle", "wgpu_cooperative_matrix"];
    let is_special = |k: &&&Kernel| special.iter().any(|word| k.source.contains(word));
    for kernel in KERNELS.iter().filter(is_special) {
        let plain = ["_broadcast", "_coop", "_subgroup"]
            .iter()
            .find_map(|suffix| kernel.name.strip_suffix(suffix));
        let has_plain = KERNELS.iter().any(|other| Some(other.name) == plain);
        assert!(has_plain, "{} needs subgroups everywhere", kernel.name);
        found += 1;
    }
    assert!(found > 0, "nothing was looked at");
}

/// What `kernel!` linked is the file itself, at its own line numbers.
#[test]
fn sources_begin_with_their_file() {
    for kernel in KERNELS.iter().chain(CEILINGS) {
        let file = text(format!("kernels/{}.wgsl", stem(kernel)));
        assert!(kernel.source.starts_with(&file), "{}", kernel.name);
    }
}

/// Whether a text has a public function of a name, generic or not.
fn declares(text: &str, name: &str) -> bool {
    ["(", "<"]
        .iter()
        .any(|next| text.contains(&format!("pub fn {name}{next}")))
}

#[test]
fn every_op_has_its_twin_its_test_and_its_bench() {
    let families = |folder: &str| {
        ["attentions", "pictures", "products", "rows"]
            .map(|stem| text(format!("src/ops/{folder}/{stem}.rs")))
            .concat()
    };
    let (twins, tests, benches) = (
        families("naive"),
        stems("tests/ops", "rs")
            .iter()
            .map(|stem| text(format!("tests/ops/{stem}.rs")))
            .collect::<String>(),
        families("bench"),
    );
    let choices = text("src/ops/choice/mod.rs") + &text("src/ops/linear.rs");
    let mut modules = stems("src/ops", "rs");
    modules.remove("mod");
    let names: BTreeSet<String> = KERNELS
        .iter()
        .map(|kernel| stem(kernel).to_owned())
        .collect();
    assert_eq!(modules, names, "files in src/ops/ and names in `KERNELS`");
    for name in names {
        let op = text(format!("src/ops/{name}.rs"));
        assert!(
            declares(&op, &name),
            "src/ops/{name}.rs has no `pub fn {name}`"
        );
        assert!(
            op.contains(&format!("= \"{name}\"")),
            "src/ops/{name}.rs declares another kernel"
        );
        assert!(
            declares(&twins, &name),
            "src/ops/naive/ has no twin `{name}`"
        );
        assert!(
            tests.contains(&format!(" {name}(")),
            "tests/ops/ does not call `{name}`"
        );
        // The rows of linear layers and convolutions are named by the choice that the op itself makes.
        let family = name.split('_').next().unwrap_or_default();
        let chosen = choices.contains(&format!("(&{}", name.to_uppercase()))
            && benches.contains(&format!("{family}_plan("));
        assert!(
            chosen || benches.contains(&format!("\"{name}\"")),
            "src/ops/bench/ has no row `{name}`"
        );
    }
}

/// The checks above find what they look for.
#[test]
fn faults_are_found() {
    const SOUND: &str = "struct Params { rows: u32, eps: f32 }\n\
        override WG: u32 = 64;\n\
        var<workgroup> sums: array<vec4<f32>, WG>;\n\
        @group(0) @binding(0) var<uniform> params: Params;\n\
        @group(0) @binding(1) var<storage, read_write> y: array<f32>; // (rows)\n\
        @compute @workgroup_size(WG)\n\
        fn main(@builtin(local_invocation_index) lane: u32) { sums[lane].x = params.eps; y[lane] = sums[lane].x; }\n";
    let kernel = Kernel::new("sound", "", &[("rows", 0), ("eps", 4)]);
    assert_eq!(faults(&kernel, SOUND), [""; 0]);
    let broken = |from: &str, to: &str| faults(&kernel, &SOUND.replace(from, to)).join("\n");
    assert!(broken("rows: u32", "cols: u32").contains("`Params`"));
    assert!(broken("main", "start").contains("entry points"));
    assert!(broken("= 64", "= 512").contains("512 threads"));
    assert!(broken("vec4<f32>, WG", "vec4<f32>, 1025").contains("16400 bytes"));
    assert!(broken("vec4<f32>, WG", "mat4x4<f32>, WG").contains("error"));
    assert!(broken("y[lane] = sums[lane].x", "").contains("nothing uses: [\"y\"]"));
    assert!(broken("params.eps", "params.epsilon").contains("sound:7"));
    assert_eq!(without_a_shape(SOUND), [""; 0]);
    assert_eq!(
        without_a_shape(&SOUND.replace("// (rows)", "// one a row")).len(),
        1
    );
    assert!(
        opens_with_a_formula("// y = x\n")
            && !opens_with_a_formula("// adds\n")
            && !opens_with_a_formula(SOUND)
    );
}
