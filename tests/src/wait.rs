//! Waiting for a condition, and suites that cannot run here.
use anyhow::{Result, bail};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(10);

/// Waits until `probe` gives something; the error says `what` was waited for.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            bail!("not within {limit:?}: {what}");
        }
        thread::sleep(STEP);
    }
}

/// Checks that `holds` stays true for all of `time`.
pub fn steady(what: &str, time: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < time {
        if !holds() {
            bail!("no longer after {:?}: {what}", started.elapsed());
        }
        thread::sleep(STEP);
    }
    Ok(())
}

/// Says that a test does not run here. The harness has no word for it, so `cargo xtask test` counts these lines.
pub fn say_skipped(why: &str) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    // Not `eprintln!`: the harness would keep it back.
    let _ = writeln!(std::io::stderr(), "@@cplb-skip {name}: {why}");
}

/// Leaves a test that cannot run here, with the reason. The test returns a `Result`.
#[macro_export]
macro_rules! skip {
    ($($why:tt)+) => {{
        $crate::wait::say_skipped(&format!($($why)+));
        return Ok(());
    }};
}
