//! What the user sees: results on stdout, everything else on stderr, bars on a terminal only.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

use crate::error::{Error, Result};
use crate::pipeline::Observer;
use crate::pipeline::guard::is_guarded;

/// What stdout is called in an error.
const STDOUT: &str = "standard output";

/// How much is said, and where.
pub(super) struct Console {
    quiet: bool,
    bars: bool,
    /// Where something is added to the JSON of a command after it has ended: the object that waits for it.
    held: Option<RefCell<Option<Value>>>,
}

impl Console {
    pub(super) fn new(quiet: bool, verbose: bool) -> Self {
        // Log lines and a bar would write over each other.
        let bars = !quiet && !verbose && io::stderr().is_terminal();
        Self {
            quiet,
            bars,
            held: None,
        }
    }

    /// The same, keeping the JSON object of the command until [`Console::add`] has added to it.
    pub(super) fn holding(self) -> Self {
        Self {
            held: Some(RefCell::default()),
            ..self
        }
    }

    /// Writes a result to stdout.
    pub(super) fn print(&self, text: &str) -> Result<()> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(Error::write(Path::new(STDOUT)))
    }

    /// Writes the command's one JSON object to stdout, over several lines; or keeps it for what will be added.
    pub(super) fn json(&self, value: &impl Serialize) -> Result<()> {
        let unfit = |e: serde_json::Error| Error::write(Path::new(STDOUT))(e.into());
        if let Some(held) = &self.held {
            *held.borrow_mut() = Some(serde_json::to_value(value).map_err(unfit)?);
            return Ok(());
        }
        let text = serde_json::to_string_pretty(value).map_err(unfit)?;
        self.print(&(text + "\n"))
    }

    /// Writes one JSON object of several to stdout, in a line.
    pub(super) fn json_line(&self, value: &Value) -> Result<()> {
        self.print(&format!("{value}\n"))
    }

    /// Whether something is to be added to the command's JSON.
    pub(super) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Writes the JSON that was kept, with what is added to it under a name; after lines one more line.
    pub(super) fn add(&self, name: &str, added: Option<Value>) -> Result<()> {
        let held = self.held.as_ref().and_then(RefCell::take);
        match (held, added) {
            (Some(Value::Object(mut object)), Some(added)) => {
                object.insert(name.to_owned(), added);
                self.print(&format!("{:#}\n", Value::Object(object)))
            }
            (Some(held), None) => self.print(&format!("{held:#}\n")),
            (_, Some(added)) => self.json_line(&json!({ name: added })),
            (None, None) => Ok(()),
        }
    }

    /// Writes to stdout what `--quiet` leaves out.
    pub(super) fn tell(&self, text: &str) -> Result<()> {
        if self.quiet {
            return Ok(());
        }
        self.print(text)
    }

    /// A line on stderr that `--quiet` leaves out.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            Self::stderr(text);
        }
    }

    /// Something that the user should know.
    pub(super) fn warn(&self, text: &str) {
        self.note(&format!("warning: {}", plain(text)));
    }

    /// A signal ended the program; a bar may still be drawn.
    #[cfg(unix)]
    pub(super) fn interrupted() {
        let bar = if io::stderr().is_terminal() { "\n" } else { "" };
        Self::stderr(&format!(
            "{bar}error: interrupted; nothing half written is left"
        ));
    }

    /// Why one of many cases failed.
    pub(super) fn failure(&self, text: &str) {
        Self::stderr(&format!("error: {}", plain(text)));
    }

    /// Why the command failed.
    pub(super) fn error(&self, error: &Error) {
        Self::stderr(&format!("error: {}", plain(&error.to_string())));
    }

    fn stderr(text: &str) {
        // Nobody is left to tell if stderr is gone.
        let _ = writeln!(io::stderr(), "{text}");
    }

    /// Bars for the stages of a segmentation.
    pub(super) fn progress(&self) -> Progress {
        Progress {
            draws: self.bars,
            current: None,
        }
    }

    /// A bar that counts bytes; hidden where nobody looks.
    pub(super) fn bytes(&self, total: u64) -> ProgressBar {
        if !self.bars {
            return ProgressBar::hidden();
        }
        let style = "{prefix:<28} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
        ProgressBar::new(total).with_style(bar(style))
    }
}

/// The most characters of a message.
const MAX_MESSAGE: usize = 800;

/// A message as one line of a bounded length that cannot steer a terminal, whatever the names and values in it are.
fn plain(text: &str) -> String {
    let mut line = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == MAX_MESSAGE {
            line.push('…');
            break;
        }
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}

/// Whether an error is only that the reader of stdout went away.
pub(super) fn is_closed_pipe(error: &Error) -> bool {
    matches!(error, Error::Write { path, source }
        if path == Path::new(STDOUT) && source.kind() == io::ErrorKind::BrokenPipe)
}

/// Sends the engine's log to stderr: nothing unless asked for by `-v`, `-vv` or `RUST_LOG`.
pub(super) fn log(verbose: u8, quiet: bool) {
    let level = match verbose {
        _ if quiet => "off",
        0 => "warn",
        1 => "keraunos=info",
        _ => "keraunos=debug",
    };
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if verbose == 0 && !quiet => EnvFilter::new(filter),
        _ => EnvFilter::new(level),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .without_time()
        .init();
}

/// Keeps quiet about panics that become errors.
pub(super) fn hide_guarded_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_guarded() {
            tell(panic);
        }
    }));
}

/// A bar for each stage, one after the other.
pub(super) struct Progress {
    draws: bool,
    current: Option<(&'static str, ProgressBar)>,
}

/// Steps of a bar whose length is a share.
const STEPS: u64 = 1000;

impl Observer for Progress {
    fn progress(&mut self, stage: &'static str, done: f64) {
        if !self.draws {
            return;
        }
        if self.current.as_ref().is_none_or(|(name, _)| *name != stage) {
            self.finish();
            let style = bar("{prefix:<22} [{bar:30}] {percent:>3} % {elapsed}");
            let new = ProgressBar::new(STEPS).with_style(style).with_prefix(stage);
            self.current = Some((stage, new));
        }
        if let Some((_, bar)) = &self.current {
            bar.set_position((done.clamp(0.0, 1.0) * STEPS as f64) as u64);
        }
    }
}

impl Progress {
    /// Clears the bar of the last stage.
    pub(super) fn finish(&mut self) {
        if let Some((_, bar)) = self.current.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn bar(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// Rows of text under each other. Columns whose heading begins with `>` are set to the right.
pub(super) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let right: Vec<bool> = heads.iter().map(|head| head.starts_with('>')).collect();
    let heads = heads
        .iter()
        .map(|head| head.trim_start_matches('>').to_owned())
        .collect();
    let all: Vec<&Vec<String>> = std::iter::once(&heads).chain(rows).collect();
    let widths: Vec<usize> = (0..right.len())
        .map(|c| {
            all.iter()
                .map(|row| row[c].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in all {
        let cells = row.iter().zip(&widths).zip(&right);
        let cells: Vec<String> = cells
            .map(|((cell, &width), &right)| match right {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            })
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// A number of bytes for people: `91.7 MB`.
pub(super) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.95 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["left hippocampus".into(), "17".into()],
            vec!["µ".into(), "5".into()],
        ];
        assert_eq!(
            table(&["structure", ">label"], &rows),
            "structure         label\nleft hippocampus     17\nµ                     5\n"
        );
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_960, "1.0 MB"),
            (91_700_000, "91.7 MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
