//! The house keeps its plan: a module names only floors below its own, and each outside crate has one
//! floor that says its name; the workspaces beside it are locked to its dependencies. Reads files, needs no adapter.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The floors of the engine, lowest first.
const FLOORS: [&str; 8] = [
    "error", "gpu", "tensor", "ops", "layers", "models", "pipeline", "cli",
];

/// Crates that one floor alone may name, so that an upgrade of one touches one folder.
const OWNERS: [(&str, &str); 5] = [
    ("wgpu", "gpu"),
    ("safetensors", "tensor"),
    ("half", "tensor"),
    ("nifti", "pipeline"),
    ("tokenizers", "pipeline"),
];

/// A Rust file without what the rules do not speak of.
struct Source {
    path: String,
    /// The top module it belongs to: `gpu`, or `main` and `lib`.
    module: String,
    text: String,
    /// Comments, text in quotes and `#[cfg(test)]` items replaced by blanks; lines are kept.
    code: String,
}

fn sources() -> Vec<Source> {
    fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
        for path in entries.map(|entry| entry.unwrap().path()) {
            match path.is_dir() {
                true => visit(&path, found),
                false if path.extension().is_some_and(|e| e == "rs") => found.push(path),
                false => {}
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    visit(&root, &mut paths);
    paths.sort();
    let sources = paths.iter().map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        let path = path
            .strip_prefix(&root)
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/");
        let module = path.split(['/', '.']).next().unwrap_or_default().to_owned();
        let code = without_tests(&without_words(&text));
        Source {
            path,
            module,
            text,
            code,
        }
    });
    sources.collect()
}

/// Blanks out comments and the inside of text, raw text and character literals.
fn without_words(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    let blank = |code: &mut String, part: &str| {
        code.extend(part.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
    };
    while let Some(first) = rest.chars().next() {
        let raw = rest.starts_with("r\"") || rest.starts_with("r#");
        let after_name = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if raw && !after_name && rest[1..].trim_start_matches('#').starts_with('"') {
            let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
            let end = format!("\"{}", "#".repeat(hashes));
            let start = hashes + 2;
            rest[start..]
                .find(&end)
                .map_or(rest.len(), |at| start + at + end.len())
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && is_character(rest) {
            quoted(rest, '\'')
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        blank(&mut code, &rest[..length]);
        rest = &rest[length..];
    }
    code
}

/// Bytes up to and with the closing quote.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Whether a quote begins a character and not a lifetime.
fn is_character(text: &str) -> bool {
    let mut chars = text.chars().skip(1);
    chars.next() == Some('\\') || chars.next() == Some('\'')
}

/// Blanks out items under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        kept.push_str(&rest[..at]);
        rest = &rest[at..];
        let mut depth = 0;
        let end = rest.char_indices().find(|(_, c)| {
            depth += i32::from(*c == '{') - i32::from(*c == '}');
            depth == 0 && (*c == '}' || *c == ';')
        });
        let end = end.map_or(rest.len(), |(at, _)| at + 1);
        kept.extend(rest[..end].chars().filter(|c| *c == '\n'));
        rest = &rest[end..];
    }
    kept + rest
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Places where `name` stands as a whole word.
fn places<'a>(code: &'a str, name: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(name)
        .map(|(at, _)| at)
        .filter(move |at| {
            !code[..*at].ends_with(is_name) && !code[at + name.len()..].starts_with(is_name)
        })
}

/// Whether the word at `at` is an outside crate's name in a path or an import.
fn is_crate_name(code: &str, name: &str, at: usize) -> bool {
    let before = code[..at].trim_end();
    let after = &code[at + name.len()..];
    !before.ends_with("::") && (after.starts_with("::") || before.ends_with("use"))
}

/// The top modules that `crate::` paths name: `crate::a::b` and `crate::{a, b::{c, d}}`.
fn named_modules(code: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for at in places(code, "crate") {
        let Some(path) = code[at + "crate".len()..].strip_prefix("::") else {
            continue;
        };
        let word = |text: &str| text.chars().take_while(|c| is_name(*c)).collect::<String>();
        let Some(list) = path.strip_prefix('{') else {
            named.push((at, word(path)));
            continue;
        };
        let mut depth = 0;
        let mut begins = true;
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if begins && is_name(c) => {
                    named.push((at, word(&list[i..])));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    named
}

fn line(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Fails with everything that was found at once.
#[track_caller]
fn report(faults: String) {
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn modules_name_only_floors_below_their_own() {
    let floor = |module: &str| FLOORS.iter().position(|name| *name == module);
    let mut faults = String::new();
    for source in sources() {
        if ["lib", "main"].contains(&source.module.as_str()) {
            continue;
        }
        let Some(own) = floor(&source.module) else {
            let _ = writeln!(
                faults,
                "src/{}: `{}` is no floor",
                source.path, source.module
            );
            continue;
        };
        for (at, module) in named_modules(&source.code) {
            if floor(&module).is_none_or(|named| named > own) {
                let line = line(&source.code, at);
                let _ = writeln!(
                    faults,
                    "src/{}:{line}: crate::{module} is not below `{}`",
                    source.path, source.module
                );
            }
        }
        for (at, _) in source.code.match_indices("super::super") {
            let line = line(&source.code, at);
            let _ = writeln!(
                faults,
                "src/{}:{line}: a path from `crate` shows its floor",
                source.path
            );
        }
    }
    report(faults);
}

#[test]
fn each_outside_crate_has_one_floor() {
    let mut faults = String::new();
    for source in sources() {
        for (name, owner) in OWNERS {
            if source.module == owner {
                continue;
            }
            for at in places(&source.code, name).filter(|at| is_crate_name(&source.code, name, *at))
            {
                let line = line(&source.code, at);
                let _ = writeln!(
                    faults,
                    "src/{}:{line}: only src/{owner} says `{name}`",
                    source.path
                );
            }
        }
    }
    report(faults);
}

#[test]
fn only_the_command_line_prints_and_exits() {
    let mut faults = String::new();
    for source in sources() {
        if ["cli", "main"].contains(&source.module.as_str()) {
            continue;
        }
        for name in [
            "println!",
            "print!",
            "eprintln!",
            "eprint!",
            "process::exit",
        ] {
            let word = name.trim_end_matches('!');
            for at in places(&source.code, word).filter(|at| source.code[*at..].starts_with(name)) {
                let line = line(&source.code, at);
                let _ = writeln!(
                    faults,
                    "src/{}:{line}: `{name}` outside src/cli",
                    source.path
                );
            }
        }
    }
    report(faults);
}

#[test]
fn nothing_is_left_half_done() {
    let mut faults = String::new();
    for source in sources() {
        for (text, words) in [
            (&source.text, &["TODO", "FIXME", "XXX"][..]),
            (
                &source.code,
                &["dbg!", "todo!", "unimplemented!", ".unwrap()"][..],
            ),
        ] {
            for word in words {
                for (at, _) in text.match_indices(word) {
                    let _ = writeln!(faults, "src/{}:{}: `{word}`", source.path, line(text, at));
                }
            }
        }
    }
    report(faults);
}

/// The names of the crates below every heading of `Cargo.toml` that ends with `dependencies]` and is not for tests.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut wanted = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            wanted = line.ends_with("dependencies]") && !line.contains("dev-dependencies");
        } else if wanted && let Some((name, _)) = line.split_once(" = ") {
            names.push(name);
        }
    }
    names
}

/// Workspaces of their own that depend on this crate are built with `--locked`, and nobody builds them every day.
#[test]
fn the_workspaces_beside_this_one_are_locked_to_its_dependencies() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let manifest = read("Cargo.toml");
    let wanted = dependencies(&manifest);
    assert!(wanted.contains(&"wgpu") && wanted.contains(&"signal-hook"));
    assert!(!wanted.contains(&"approx"));
    let mut faults = String::new();
    for path in ["benches/peers/Cargo.lock", "fuzz/Cargo.lock"] {
        let lock = read(path);
        let (_, own) = lock
            .split_once("name = \"keraunos\"\n")
            .expect("this crate");
        let (own, _) = own.split_once("\n]").expect("its dependencies");
        // A name may have a version after it where there are several.
        let locked: Vec<&str> = own
            .lines()
            .filter_map(|line| line.strip_prefix(" \"")?.split(['"', ' ']).next())
            .collect();
        for name in wanted.iter().filter(|name| !locked.contains(name)) {
            let _ = writeln!(
                faults,
                "{path} does not know `{name}`: `cargo update --workspace` beside it"
            );
        }
    }
    report(faults);
}

#[test]
fn the_rules_see_through_text_comments_and_tests() {
    let text = "use crate::{error::{Error, Result}, gpu}; // crate::cli\nlet a = \"crate::cli\"; 'x'; '\\''; f::<'a>();\n\
                let b = r#\"crate::cli \" wgpu::\"#; /* wgpu:: */\n#[cfg(test)]\nmod tests { fn f() { x.unwrap() } }\nuse wgpu::Device;\n";
    let code = without_tests(&without_words(text));
    let named: Vec<String> = named_modules(&code)
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(named, ["error", "gpu"]);
    assert!(!code.contains("unwrap"));
    let said: Vec<usize> = places(&code, "wgpu")
        .filter(|at| is_crate_name(&code, "wgpu", *at))
        .collect();
    assert_eq!(said.len(), 1);
    assert_eq!(line(&code, said[0]), 6);
    assert_eq!(code.matches('\n').count(), text.matches('\n').count());
    assert!(!is_crate_name("let half = 1;", "half", 4));
}
