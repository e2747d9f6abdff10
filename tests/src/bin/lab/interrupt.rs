//! Ctrl-C: the lab is taken down in order rather than left behind.
use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

static ASKED: AtomicBool = AtomicBool::new(false);

/// Takes SIGINT and SIGTERM from now on. Before any other thread starts, so that all of them leave the two alone.
pub(crate) fn watch() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            ASKED.store(true, Ordering::Relaxed);
        }
    });
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
