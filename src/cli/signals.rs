//! Ctrl-C and a request to end: what is half written goes, and the program with it.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether Ctrl-C is how the command ends.
static EXPECTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C ends the program well, with 0.
pub(super) fn expect_interrupt() {
    EXPECTED.store(true, Ordering::Relaxed);
}

#[cfg(unix)]
pub(super) fn watch() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    // What whoever started the program told it to ignore, as `nohup` does, stays ignored.
    let signals = [SIGHUP, SIGINT, SIGTERM];
    let signals = signals.into_iter().filter(|signal| !is_ignored(*signal));
    // Without a watcher a signal ends the program as it ends others.
    let Ok(mut signals) = Signals::new(signals) else {
        return;
    };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _kept = crate::pipeline::files::abandon();
            if EXPECTED.load(Ordering::Relaxed) && signal == SIGINT {
                signal_hook::low_level::exit(0);
            }
            super::console::Console::interrupted();
            // At once: a driver's own ends would wait for what it is computing.
            signal_hook::low_level::exit(128 + signal);
        }
    });
}

/// Elsewhere the system ends the program; what is half written stays under a name that begins with a dot.
#[cfg(not(unix))]
pub(super) fn watch() {}

/// Whether the process began with this signal ignored, where the system tells.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    mask(&status).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// The line `SigIgn` of Linux's `/proc/self/status`: a bit a signal.
#[cfg(unix)]
fn mask(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(all(test, unix))]
mod tests {
    use super::mask;

    #[test]
    fn ignored_signals_are_bits() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        assert_eq!(mask(status), Some(0x1001));
        assert_eq!(mask("SigBlk:\t1\n"), None);
    }
}
