//! Ctrl-C and a request to end: what is half written goes, and the program with it.

#[cfg(unix)]
pub(super) fn watch() {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    // Without a watcher a signal ends the program as it ends others.
    let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM]) else {
        return;
    };
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _kept = crate::pipeline::files::abandon();
            super::console::Console::interrupted();
            // At once: a driver's own ends would wait for what it is computing.
            signal_hook::low_level::exit(128 + signal);
        }
    });
}

/// Elsewhere the system ends the program; what is half written stays under a name that begins with a dot.
#[cfg(not(unix))]
pub(super) fn watch() {}
