//! A panic anywhere ends the process, so that the guardian leaves in its place: a daemon with a dead thread would hold
//! an address that it no longer defends.

/// Installs it.
pub fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default(info);
        std::process::abort();
    }));
}
