//! Panics of libraries that read what strangers wrote, as values.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread will become an error, so that nobody need be told of it.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// What `run` returns, or nothing if it panics. What it has half changed must not be used any more.
pub(super) fn guarded<T>(run: impl FnOnce() -> T) -> Option<T> {
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(run));
    GUARDED.set(before);
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_nothing_and_ends_the_guard() {
        assert_eq!(guarded(|| usize::from(is_guarded())), Some(1));
        assert_eq!(guarded(|| [1, 2][std::hint::black_box(2)]), None);
        let within = guarded(|| (guarded(|| -> u8 { panic!("a test") }), is_guarded()));
        assert_eq!(within, Some((None, true)));
        assert!(!is_guarded());
    }
}
