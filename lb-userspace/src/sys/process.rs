//! What a process asks of the kernel for itself.
use nix::sys::signal::{SigSet, Signal};
use std::{fs, io};

/// SIGTERM, SIGINT and SIGHUP no longer end this process: they are blocked, for it and its threads.
pub fn ignore_stop_signals() -> nix::Result<()> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()
}

/// How ready the kernel is to kill this process for memory: -1000 never, 1000 first. Lowering it needs
/// CAP_SYS_RESOURCE; a process that may not stays as ready as it was.
pub fn set_oom_score_adj(adjustment: i16) -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", adjustment.to_string())
}
