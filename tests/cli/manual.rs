//! What is installed beside the program: completions and manual pages; and what lists itself: commands.

use super::*;

/// The commands, as `--help` lists them.
fn commands() -> Vec<String> {
    let help = said(&run!("--help"));
    let list = help.split("Commands:\n").nth(1).expect("a list");
    let list = list.split("\n\n").next().expect("its end");
    let lines = list
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_is_in_every_script_and_has_a_page() {
    let commands = commands();
    assert!(commands.len() >= 18, "{commands:?}");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = said(&run!("completions", shell));
        for command in &commands {
            assert!(script.contains(command.as_str()), "{shell}: {command}");
        }
        assert!(script.contains("find"), "{shell}: options");
    }
    let folder = folder();
    let pages = folder.path().join("man/man1");
    let text = said(&run!("man", "-o", &pages));
    assert!(text.starts_with(&format!("{} pages in ", commands.len() + 1)));
    let mut want: Vec<String> = commands
        .iter()
        .map(|name| format!("keraunos-{name}.1"))
        .collect();
    want.push("keraunos.1".into());
    want.sort();
    assert_eq!(names_in(&pages), want);
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).expect("a page");
    let whole = page("keraunos.1");
    assert_eq!(whole, said(&run!("man")));
    for command in &commands {
        // A hyphen is written so that it is copied as one.
        let named = format!("keraunos\\-{}(1)", command.replace('-', "\\-"));
        assert!(whole.contains(&named), "{command}: {whole}");
    }
    let segment = page("keraunos-segment.1");
    for part in [
        "\\-\\-save\\-probabilities",
        ".SH NOTES",
        "imagesTs/ \\-o out/",
    ] {
        assert!(segment.contains(part), "{part}: {segment}");
    }
}

#[test]
fn bash_completes_what_the_script_says() {
    if !is_there("bash") {
        return;
    }
    let folder = folder();
    let script = folder.path().join("keraunos.bash");
    write(&script, said(&run!("completions", "bash")).as_bytes());
    let checked = Command::new("bash").arg("-n").arg(&script).output();
    let checked = checked.expect("bash starts");
    assert!(checked.status.success(), "{}", stderr(&checked));
    // What bash offers for a line whose last word is unfinished.
    let offered = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let ask = format!(
            ". '{}'; COMP_WORDS=({}); COMP_CWORD={}; _keraunos keraunos '{}' '{}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display(),
            quoted.join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let output = Command::new("bash").arg("-c").arg(ask).output();
        let output = output.expect("bash starts");
        assert!(output.status.success(), "{}", stderr(&output));
        let words = stdout(&output);
        words
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(offered("keraunos seg"), ["segment"]);
    assert_eq!(offered("keraunos segment --save"), ["--save-probabilities"]);
    assert_eq!(
        offered("keraunos segment --instruct "),
        ["llm", "lvlm", "stock"]
    );
    assert!(offered("keraunos ").contains(&"evaluate".to_owned()));
}

#[test]
fn other_shells_and_man_read_what_is_made_for_them() {
    let folder = folder();
    for (shell, check) in [("zsh", "-n"), ("fish", "--no-execute")] {
        if is_there(shell) {
            let script = folder.path().join(shell);
            write(&script, said(&run!("completions", shell)).as_bytes());
            let checked = Command::new(shell).arg(check).arg(&script).output();
            let checked = checked.expect("it starts");
            assert!(checked.status.success(), "{shell}: {}", stderr(&checked));
        }
    }
    let pages = folder.path().join("man");
    said(&run!("man", "-o", &pages, "-q"));
    for name in names_in(&pages) {
        let page = pages.join(name);
        if is_there("groff") {
            let checked = Command::new("groff")
                .args(["-man", "-Tascii", "-ww", "-z"])
                .arg(&page)
                .output()
                .expect("groff starts");
            assert_eq!(stderr(&checked), "", "{}", page.display());
        }
        if is_there("mandoc") {
            let checked = Command::new("mandoc")
                .args(["-T", "lint", "-W", "error"])
                .arg(&page)
                .output()
                .expect("mandoc starts");
            assert!(checked.status.success(), "{}", stdout(&checked));
        }
    }
}

#[test]
fn a_page_that_cannot_be_written_is_an_error() {
    let folder = folder();
    let file = folder.path().join("file");
    write(&file, b"text");
    let line = refused(&run!("man", "-o", &file), 1);
    assert!(line.contains("file"), "{line}");
    assert_eq!(std::fs::read(&file).expect("it is still there"), b"text");
    let output = run!("completions", "tcsh");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("tcsh") && output.stdout.is_empty());
}
