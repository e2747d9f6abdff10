//! The proxy's clock: milliseconds since it was first asked, never back.
use std::sync::OnceLock;
use std::time::Instant;

/// Now. Never 0: that is for "never".
pub(super) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1) + 1
}
