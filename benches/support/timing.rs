//! What the benches of whole models share: the least time of some runs, and a table of times.

use std::time::{Duration, Instant};

/// The least time of some runs.
pub fn least(
    runs: usize,
    mut run: impl FnMut() -> Result<(), keraunos::Error>,
) -> Result<Duration, keraunos::Error> {
    let mut best = Duration::MAX;
    for _ in 0..runs {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

/// A row of the table.
pub fn row(name: &str, measured: String, promised: &str) {
    println!("{name:<44} {measured:>12} {promised:>20}");
}

/// A time as the table has it.
pub fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}
