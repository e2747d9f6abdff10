//! Ending at once when something is broken, so that the guardian leaves in the daemon's place.
use crate::logging;

/// A panic anywhere ends the process: a daemon with a dead thread would hold an address that it no longer defends.
pub(super) fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        abort();
    }));
}

/// Ends the process without leaving; what was logged is written first.
pub(super) fn abort() -> ! {
    logging::flush();
    std::process::abort()
}
