//! `--profile`: where a command's time on the adapter went, beside what binds it.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::json;

use super::console::{Console, table};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuOptions, Timing};
use crate::ops::bench::{Bound, Ceilings, Work};

/// Dispatches of one kernel that had the same to do.
#[derive(Serialize)]
struct Kind {
    /// The kernel with its format and overrides.
    label: String,
    /// Workgroups along x, y and z.
    workgroups: [u32; 3],
    /// How many dispatches.
    dispatches: usize,
    /// Of all of them together.
    seconds: f64,
    /// Of each: floating-point operations, 0 where the op does not say.
    flops: usize,
    /// Of each: bytes of the tensors that are bound.
    bytes: u64,
    /// Which ceiling binds it.
    bound: Bound,
    /// The ceiling's time over the measured one; null where nothing was measured.
    share: Option<f64>,
}

/// Tells where the time went, if `--profile` asked for it: a table on stderr, or a part of the command's JSON. The ceilings
/// are measured then.
pub(super) fn tell(options: &GpuOptions, console: &Console) -> Result<()> {
    let Some(profile) = &options.profile else {
        return Ok(());
    };
    let timings = profile.timings();
    let measured = Gpu::open(&GpuOptions {
        profile: None,
        ..options.clone()
    })
    .and_then(|gpu| Ok((gpu.summary().name.clone(), Ceilings::measure(&gpu)?)));
    let (adapter, ceilings) = match measured {
        Ok(measured) => measured,
        Err(problem) => return unmeasured(problem, console),
    };
    let count = timings.len();
    let kinds = by_kind(timings, &ceilings);
    let total: f64 = kinds.iter().map(|kind| kind.seconds).sum();
    if console.holds() {
        let profile = json!({
            "adapter": adapter,
            "seconds": total,
            "dispatches": count,
            "ceilings": ceilings,
            "kinds": kinds,
        });
        return console.add("profile", Some(profile));
    }
    console.note(&format!(
        "\n{total:.2} s in {count} dispatches on {adapter}; at best it copies {:.1} GB/s and multiplies {:.1} GFLOP/s\n\n{}",
        ceilings.copy_bytes_per_second / 1e9,
        ceilings.f32_flops_per_second / 1e9,
        lines(&kinds, total),
    ));
    Ok(())
}

/// The command has done what it was asked for: its result is told all the same.
fn unmeasured(problem: Error, console: &Console) -> Result<()> {
    console.add("profile", None)?;
    Err(problem)
}

/// The dispatches sorted by what they cost together.
fn by_kind(timings: Vec<Timing>, ceilings: &Ceilings) -> Vec<Kind> {
    let mut kinds: HashMap<_, (usize, f64)> = HashMap::new();
    for timing in timings {
        let key = (timing.label, timing.groups, timing.flops, timing.bytes);
        let (count, seconds) = kinds.entry(key).or_default();
        *count += 1;
        *seconds += timing.seconds;
    }
    let kinds = kinds.into_iter();
    let kinds = kinds.map(
        |((label, workgroups, flops, bytes), (dispatches, seconds))| {
            let kernel = label.split([' ', '+']).next().unwrap_or_default();
            let work = Work {
                flops,
                bytes: bytes as usize,
            };
            let (least, bound) = ceilings.bound(kernel, work);
            let each = seconds / dispatches as f64;
            Kind {
                label,
                workgroups,
                dispatches,
                seconds,
                flops,
                bytes,
                bound,
                share: (each > 0.0).then(|| least / each),
            }
        },
    );
    let mut kinds: Vec<Kind> = kinds.collect();
    kinds.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    kinds
}

fn lines(kinds: &[Kind], total: f64) -> String {
    let rows: Vec<Vec<String>> = kinds
        .iter()
        .map(|kind| {
            let [x, y, z] = kind.workgroups;
            let each = kind.seconds / kind.dispatches as f64;
            let rate = |amount: f64| match each > 0.0 && amount > 0.0 {
                true => format!("{:.1}", amount / each / 1e9),
                false => "-".into(),
            };
            let share = kind.share.map(|share| 100.0 * share);
            vec![
                format!("{:.1}", 100.0 * kind.seconds / total.max(f64::MIN_POSITIVE)),
                format!("{:.1}", kind.seconds * 1e3),
                kind.dispatches.to_string(),
                format!("{:.3}", each * 1e3),
                rate(kind.flops as f64),
                rate(kind.bytes as f64),
                share.map_or("-".into(), |share| {
                    format!("{share:.0} of {}", kind.bound.name())
                }),
                format!("{x} x {y} x {z}"),
                kind.label.clone(),
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
        let ceilings = Ceilings {
            copy_bytes_per_second: 1e10,
            f32_flops_per_second: 1e9,
            f16_flops_per_second: None,
            coop_flops_per_second: None,
            dispatch_seconds: 1e-6,
        };
        let timings = vec![
            timing("add", 0, 0.001),
            timing("linear", 1_000_000, 0.002),
            timing("linear", 2_000_000, 0.004),
            timing("linear", 1_000_000, 0.003),
        ];
        let text = lines(&by_kind(timings, &ceilings), 0.01);
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
