//! `--profile`: where a command's time on the adapter went, beside what binds it.

use std::collections::HashMap;

use super::console::{Console, table};
use crate::error::Result;
use crate::gpu::{Gpu, GpuOptions, Timing};
use crate::ops::bench::{Ceilings, Work};

/// Dispatches of one kernel that had the same to do.
struct Kind {
    first: Timing,
    count: usize,
    seconds: f64,
}

/// Prints the table to stderr, if `--profile` asked for it. The ceilings are measured then.
pub(super) fn tell(options: &GpuOptions, console: &Console) -> Result<()> {
    let Some(profile) = &options.profile else {
        return Ok(());
    };
    let timings = profile.timings();
    let gpu = Gpu::open(&GpuOptions {
        profile: None,
        ..options.clone()
    })?;
    let ceilings = Ceilings::measure(&gpu)?;
    let count = timings.len();
    let kinds = by_kind(timings);
    let total: f64 = kinds.iter().map(|kind| kind.seconds).sum();
    console.note(&format!(
        "\n{total:.2} s in {count} dispatches on {}; at best it copies {:.1} GB/s and multiplies {:.1} GFLOP/s\n\n{}",
        gpu.summary().name,
        ceilings.copy_bytes_per_second / 1e9,
        ceilings.f32_flops_per_second / 1e9,
        lines(&kinds, total, &ceilings),
    ));
    Ok(())
}

/// The dispatches sorted by what they cost together.
fn by_kind(timings: Vec<Timing>) -> Vec<Kind> {
    let mut kinds: HashMap<_, Kind> = HashMap::new();
    for timing in timings {
        let key = (
            timing.label.clone(),
            timing.groups,
            timing.flops,
            timing.bytes,
        );
        let seconds = timing.seconds;
        let kind = kinds.entry(key).or_insert(Kind {
            first: timing,
            count: 0,
            seconds: 0.0,
        });
        kind.count += 1;
        kind.seconds += seconds;
    }
    let mut kinds: Vec<Kind> = kinds.into_values().collect();
    kinds.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    kinds
}

fn lines(kinds: &[Kind], total: f64, ceilings: &Ceilings) -> String {
    let rows: Vec<Vec<String>> = kinds
        .iter()
        .map(|kind| {
            let Timing {
                label,
                groups: [x, y, z],
                flops,
                bytes,
                ..
            } = &kind.first;
            let each = kind.seconds / kind.count as f64;
            let kernel = label.split([' ', '+']).next().unwrap_or_default();
            let work = Work {
                flops: *flops,
                bytes: *bytes as usize,
            };
            let (least, bound) = ceilings.bound(kernel, work);
            let rate = |amount: f64| match each > 0.0 && amount > 0.0 {
                true => format!("{:.1}", amount / each / 1e9),
                false => "-".into(),
            };
            vec![
                format!("{:.1}", 100.0 * kind.seconds / total.max(f64::MIN_POSITIVE)),
                format!("{:.1}", kind.seconds * 1e3),
                kind.count.to_string(),
                format!("{:.3}", each * 1e3),
                rate(*flops as f64),
                rate(*bytes as f64),
                match each > 0.0 {
                    true => format!("{:.0} of {}", 100.0 * least / each, bound.name()),
                    false => "-".into(),
                },
                format!("{x} x {y} x {z}"),
                label.clone(),
            ]
        })
        .collect();
    let heads = [
        ">%",
        ">ms",
        ">times",
        ">ms each",
        ">GFLOP/s",
        ">GB/s",
        ">% of ceiling",
        ">workgroups",
        "kernel",
    ];
    table(&heads, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(label: &str, flops: usize, seconds: f64) -> Timing {
        Timing {
            label: label.into(),
            groups: [7, 1, 1],
            flops,
            bytes: 4_000_000,
            seconds,
        }
    }

    #[test]
    fn dispatches_are_gathered_by_what_they_do_and_sorted_by_cost() {
        let kinds = by_kind(vec![
            timing("add", 0, 0.001),
            timing("linear", 1_000_000, 0.002),
            timing("linear", 2_000_000, 0.004),
            timing("linear", 1_000_000, 0.003),
        ]);
        let ceilings = Ceilings {
            copy_bytes_per_second: 1e10,
            f32_flops_per_second: 1e9,
            f16_flops_per_second: None,
            coop_flops_per_second: None,
            dispatch_seconds: 1e-6,
        };
        let text = lines(&kinds, 0.01, &ceilings);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .skip(1)
            .map(|line| line.split_whitespace().collect())
            .collect();
        let tail = ["7", "x", "1", "x", "1"];
        let row = |cells: &[&'static str], label| [cells, &tail, &[label]].concat();
        assert_eq!(
            rows[0],
            row(
                &[
                    "50.0", "5.0", "2", "2.500", "0.4", "1.6", "40", "of", "math"
                ],
                "linear"
            )
        );
        assert_eq!(
            rows[1],
            row(
                &[
                    "40.0", "4.0", "1", "4.000", "0.5", "1.0", "50", "of", "math"
                ],
                "linear"
            )
        );
        assert_eq!(
            rows[2],
            row(
                &[
                    "10.0", "1.0", "1", "1.000", "-", "4.0", "40", "of", "memory"
                ],
                "add"
            )
        );
    }
}
