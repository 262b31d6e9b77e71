//! `keraunos bench`: how fast every kernel is on this adapter, beside its ceiling.

use std::path::Path;

use super::args::BenchArgs;
use super::console::Console;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuOptions};
use crate::ops::bench::{Ceilings, Report, Row, Wanted, Watcher, bench};
use crate::pipeline::files;

/// The most bytes of an earlier run.
const MAX_EARLIER: u64 = 16 << 20;

pub(super) fn run(args: &BenchArgs, console: &Console) -> Result<()> {
    let earlier = args.compare.as_deref().map(read).transpose()?;
    let options = GpuOptions {
        cooperative: args.coop,
        ..args.gpu.options()
    };
    if options.profile.is_some() {
        let problem = "`bench` times kernels by itself, without `--profile`";
        return Err(Error::Argument(problem.into()));
    }
    let gpu = args.gpu.open_idle(console)?;
    if let Some(earlier) = &earlier
        && earlier.adapter != gpu.summary().name
    {
        console.warn(&format!(
            "the earlier run was on another adapter, {}",
            earlier.adapter
        ));
    }
    // Cooperative matrices are an adapter of their own: one that was opened for them takes them wherever it can.
    let coop = match gpu.summary().features.contains(&"cooperative matrices") {
        true => Some(Gpu::open(&GpuOptions {
            cooperative: true,
            ..options
        })?),
        false => None,
    };
    let wanted = Wanted {
        filter: args.filter.clone(),
        all: args.all,
    };
    let mut printer = Printer {
        console,
        gpu: &gpu,
        earlier,
        head: None,
    };
    let watcher: &mut dyn Watcher = if args.json { &mut () } else { &mut printer };
    let report = bench(&gpu, coop.as_ref(), &wanted, watcher)?;
    if report.rows.is_empty() {
        return Err(Error::Argument(format!(
            "no kernel or case contains `{}`",
            args.filter
        )));
    }
    if args.json {
        console.json(&report)?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Report> {
    let text = files::read_bounded(path, MAX_EARLIER)?;
    serde_json::from_slice(&text).map_err(|e| Error::Config {
        path: path.to_owned(),
        problem: format!("is no `keraunos bench --json`: {e}"),
    })
}

/// Prints a line as soon as it is measured.
struct Printer<'a> {
    console: &'a Console,
    gpu: &'a Gpu,
    earlier: Option<Report>,
    /// What stands above the first row.
    head: Option<String>,
}

impl Watcher for Printer<'_> {
    fn ceilings(&mut self, ceilings: &Ceilings) -> Result<()> {
        let adapter = self.gpu.summary();
        let checked = if self.gpu.is_checked() {
            ", with bounds checks"
        } else {
            ""
        };
        let more = [
            (ceilings.f16_flops_per_second, "in f16"),
            (ceilings.coop_flops_per_second, "on cooperative matrices"),
        ];
        let more: String = more
            .iter()
            .filter_map(|(rate, how)| Some(format!(", {how} {:.1}", (*rate)? / 1e9)))
            .collect();
        self.head = Some(format!(
            "{} ({}, {}{checked})\ncopy {:.1} GB/s, multiply-add {:.1} GFLOP/s{more}, a dispatch {:.1} us\n\n\
             {:<16} {:<38} {:>9} {:>9} {:>8}  {}{}\n",
            adapter.name,
            adapter.backend,
            adapter.driver,
            ceilings.copy_bytes_per_second / 1e9,
            ceilings.f32_flops_per_second / 1e9,
            ceilings.dispatch_seconds * 1e6,
            "kernel",
            "case",
            "ms",
            "GFLOP/s",
            "GB/s",
            "ceiling",
            self.earlier
                .as_ref()
                .map_or("", |_| "              was  times as fast"),
        ));
        Ok(())
    }

    fn row(&mut self, row: &Row) -> Result<()> {
        if let Some(head) = self.head.take() {
            self.console.print(&head)?;
        }
        let mut line = format!(
            "{:<16} {:<38} {:>9.4} {:>9.1} {:>8.2}  {:>4.0} % of {}",
            row.kernel,
            row.case,
            row.seconds * 1e3,
            row.flops as f64 / row.seconds / 1e9,
            row.bytes as f64 / row.seconds / 1e9,
            row.share * 100.0,
            row.bound.name(),
        );
        if let Some(earlier) = &self.earlier {
            line += &match earlier.seconds(&row.kernel, &row.case) {
                Some(was) => format!(
                    "{:>pad$.4} {:>6.2}",
                    was * 1e3,
                    was / row.seconds,
                    pad = 16 - row.bound.name().len(),
                ),
                None => format!("{:>pad$}", "new", pad = 16 - row.bound.name().len()),
            };
        }
        self.console.print(&(line + "\n"))
    }
}
