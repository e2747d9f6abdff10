//! Ctrl-C: the lab is taken down in order rather than left behind.
use anyhow::{Result, bail};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: i32) {
    ASKED.store(true, Ordering::Relaxed);
}

/// Takes SIGINT and SIGTERM from now on. By handlers and not by a mask: a mask would be the daemons' too.
pub(crate) fn watch() -> Result<()> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        #[allow(
            unsafe_code,
            reason = "installing a handler is unsafe, since handlers may do harm"
        )]
        // SAFETY: the handler stores to an atomic and does nothing else, which is allowed at any moment.
        unsafe {
            sigaction(signal, &action)?;
        }
    }
    Ok(())
}

/// An error once somebody asked for the end.
pub(crate) fn check() -> Result<()> {
    if ASKED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Sleeps until somebody asks for the end.
pub(crate) fn wait() {
    while !ASKED.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
    }
}
