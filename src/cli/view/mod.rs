//! `keraunos view`: a result in the browser, on this machine alone.
//!
//! The page, its style and its script lie beside this file; niivue, which draws volumes, in `vendor/` as it is
//! published. All of it is part of the program.

mod server;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use self::server::{Content, Served, Server};

pub use self::server::{VIEW_TOKEN, answered};
use super::console::Console;
use super::signals;
use crate::error::{Error, Result};
use crate::pipeline::shown::Shown;
use crate::pipeline::volume::{self, LabelTable};

pub(super) const VIEW_EXAMPLES: &str = "\
Examples:
  keraunos view out/                                       the only result in a folder
  keraunos view out/sub-01_T1w_report.json --open          one of several, in the browser at once
  keraunos view out/ --scan moved/sub-01_T1w.nii.gz        where the scan is not where the report says

Prints an address that only this machine can open, and that nobody can guess; the page is served until Ctrl-C. It
shows the scan in three planes and in depth, the label map over it, and of each structure its volume, its predicted
Dice and what was said of it to the model. Nothing is fetched from elsewhere.";

#[derive(Debug, Args)]
pub(super) struct ViewArgs {
    /// A report that `segment` wrote, or a folder with one result
    result: PathBuf,
    /// The scan, where it is not where the report says; repeatable, in the order of the inputs
    #[arg(long, value_name = "FILE")]
    scan: Vec<PathBuf>,
    /// The port to listen on [default: one that is free]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Opens the page in the browser
    #[arg(long)]
    open: bool,
    /// Prints the address as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What is always the same: name, media type, whether it is compressed, bytes.
const FIXED: [(&str, &str, bool, &[u8]); 6] = [
    ("", HTML, false, include_bytes!("page.html")),
    (
        "page.css",
        "text/css; charset=utf-8",
        false,
        include_bytes!("page.css"),
    ),
    ("page.js", SCRIPT, false, include_bytes!("page.js")),
    (
        "icon.svg",
        "image/svg+xml",
        false,
        include_bytes!("icon.svg"),
    ),
    (
        "niivue.js",
        SCRIPT,
        true,
        include_bytes!("vendor/niivue.umd.js.gz"),
    ),
    (
        "licences.txt",
        "text/plain; charset=utf-8",
        false,
        include_bytes!("vendor/LICENCES.txt"),
    ),
];
const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
const VOLUME: &str = "application/octet-stream";

pub(super) fn run(args: &ViewArgs, console: &Console) -> Result<()> {
    let shown = Shown::open(&args.result, &args.scan)?;
    for warning in &shown.page.warnings {
        console.warn(warning);
    }
    let server = Server::new(args.port, table(&shown)?)?;
    let address = server.address();
    match args.json {
        true => console.json(&json!({ "url": address, "report": shown.report }))?,
        false => console.print(&format!("{address}\n"))?,
    }
    console.note("served to this machine alone, until Ctrl-C");
    if args.open
        && let Err(problem) = open::that_detached(&address)
    {
        console.warn(&format!("no browser could be opened: {problem}"));
    }
    signals::expect_interrupt();
    server.run();
    Ok(())
}

/// Everything that is served.
fn table(shown: &Shown) -> Result<BTreeMap<String, Served>> {
    let mut table = BTreeMap::new();
    for (name, kind, gzip, bytes) in FIXED {
        let content = Content::Bytes(Cow::Borrowed(bytes));
        table.insert(
            name.to_owned(),
            Served {
                kind,
                gzip,
                content,
            },
        );
    }
    let mut file = |name: String, kind: &'static str, path: &Path| {
        let (content, gzip) = (Content::File(path.to_path_buf()), false);
        table.insert(
            name,
            Served {
                kind,
                gzip,
                content,
            },
        );
    };
    file("report.json".into(), JSON, &shown.report);
    file("stats.json".into(), JSON, &shown.statistics);
    file("labels.nii.gz".into(), VOLUME, &shown.map);
    let mut scans = Vec::new();
    for (n, paths) in shown.scans.iter().enumerate() {
        let names: Vec<String> = paths
            .iter()
            .map(|path| format!("scan-{}{}", n + 1, volume::suffix(path).unwrap_or(".nii")))
            .collect();
        for (name, path) in names.iter().zip(paths) {
            file(name.clone(), VOLUME, path);
        }
        scans.push(names);
    }
    let mut page = json!(shown.page);
    let names = shown.page.structures.iter();
    let names = names.map(|shown| (u32::from(shown.measured.label), shown.measured.name.clone()));
    let colours: Value = serde_json::from_str(&LabelTable::Niivue.text(&names.collect()))
        .map_err(|e| Error::config(&shown.map, format!("has labels that make no table: {e}")))?;
    page["files"] = json!({ "scans": scans, "labels": "labels.nii.gz", "colours": colours });
    let bytes = page.to_string().into_bytes();
    let (content, kind, gzip) = (Content::Bytes(Cow::Owned(bytes)), JSON, false);
    table.insert(
        "result.json".to_owned(),
        Served {
            kind,
            gzip,
            content,
        },
    );
    Ok(table)
}
