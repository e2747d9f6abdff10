//! The only place that reads the operating system's clock for the machines.
use lb_common::time::Instant;
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of `CLOCK_BOOTTIME`: monotonic, and it goes on while the host is suspended, so that a holder that wakes
/// up sees how long it slept.
pub fn now() -> Instant {
    // The clock exists since Linux 2.6.39; a kernel without it has no netlink address lifetimes that we could use either.
    let t = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC))
        .expect("CLOCK_MONOTONIC is always there");
    let ns = i128::from(t.tv_sec()) * 1_000_000_000 + i128::from(t.tv_nsec());
    Instant::from_nanos(u64::try_from(ns).unwrap_or(0))
}
