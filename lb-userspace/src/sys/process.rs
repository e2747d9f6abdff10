//! What a process does to itself.
use nix::sys::signal::{SigSet, Signal};

/// SIGTERM, SIGINT and SIGHUP no longer end this process: they are blocked, for it and its threads.
pub fn ignore_stop_signals() -> nix::Result<()> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()
}
