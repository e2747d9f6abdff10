//! Ending at once when something is broken, so that the guardian leaves in the daemon's place.
use crate::logging;
use std::cell::Cell;

thread_local! {
    static SURVIVABLE: Cell<bool> = const { Cell::new(false) };
}

/// A panic anywhere ends the process: a daemon with a dead thread would hold an address that it no longer defends.
/// Except within [`survivable`].
pub(super) fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        if !SURVIVABLE.get() {
            abort();
        }
    }));
}

/// Work that holds nothing: reading a file must never cost the address, not even where a library has a fault. Its panic
/// is its caller's error.
pub(super) fn survivable<T>(work: impl FnOnce() -> T) -> T {
    SURVIVABLE.set(true);
    let done = work();
    SURVIVABLE.set(false);
    done
}

/// Ends the process without leaving; what was logged is written first.
pub(super) fn abort() -> ! {
    logging::flush();
    std::process::abort()
}
