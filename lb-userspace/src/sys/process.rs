//! What a process asks of the kernel for itself.
#![expect(unsafe_code, reason = "signal(2) has no safe form")]

use nix::sys::signal::{SigSet, Signal};
use std::{fs, io};

/// SIGTERM, SIGINT, SIGHUP and SIGUSR2 no longer end this process: they are blocked, for it and its threads.
pub fn ignore_stop_signals() -> nix::Result<()> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2] {
        set.add(signal);
    }
    set.thread_block()
}

/// How ready the kernel is to kill this process for memory: -1000 never, 1000 first. Lowering it needs
/// CAP_SYS_RESOURCE; a process that may not stays as ready as it was.
pub fn set_oom_score_adj(adjustment: i16) -> io::Result<()> {
    fs::write("/proc/self/oom_score_adj", adjustment.to_string())
}

/// Writing to a pipe that nobody reads ends the process, as it does with every other command. (Rust ignores the signal
/// and makes it an error, which `println!` makes a panic.)
pub fn die_of_sigpipe() {
    // SAFETY: the default action runs no code of ours, and no other thread depends on the old one: it is set before any
    // is started that writes.
    let set = unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) };
    if let Err(error) = set {
        tracing::debug!(%error, "SIGPIPE keeps being ignored");
    }
}
