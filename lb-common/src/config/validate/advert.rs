//! An instance's times: between adverts, and before taking over from a living router.
use super::super::duration::GoDuration;
use super::super::path::Path;
use super::super::problem::{Findings, Problem};
use super::super::raw::VrrpInstance;
use crate::model::{AdvertInterval, Version};
use alloc::format;
use core::time::Duration;

/// A duration within a range, both ends included.
pub(super) fn span(
    value: GoDuration,
    min: Duration,
    max: Duration,
    at: &Path,
    what: &str,
) -> Result<Duration, Problem> {
    value
        .positive_or_zero()
        .filter(|d| *d >= min && *d <= max)
        .ok_or_else(|| {
            let (min, max) = (GoDuration::from(min), GoDuration::from(max));
            Problem::new(
                at,
                format!("{what} must be in the range of {min} to {max}. Got: {value}"),
            )
        })
}

/// `advertInterval` or `advertIntervalSeconds`, if `version` can carry it.
pub(super) fn interval(
    raw: &VrrpInstance,
    version: Option<Version>,
    at: &Path,
    f: &mut Findings,
) -> Option<AdvertInterval> {
    let seconds = at.key("advertIntervalSeconds");
    let (nanos, at) = match (raw.advert_interval, raw.advert_interval_seconds) {
        (Some(_), Some(_)) => {
            let message = "advertInterval and advertIntervalSeconds say the same thing";
            f.refuse(Problem::new(&seconds, message).help("keep one of them"));
            return None;
        }
        (Some(d), None) => (d.nanos(), at.key("advertInterval")),
        (None, Some(s)) => (s.saturating_mul(1_000_000_000), seconds),
        (None, None) => return Some(AdvertInterval::SECOND),
    };
    let version = version?;
    let value = (nanos % 10_000_000 == 0)
        .then_some(nanos / 10_000_000)
        .and_then(|cs| u16::try_from(cs).ok())
        .and_then(|cs| AdvertInterval::new(version, cs));
    if value.is_none() {
        f.refuse(out_of_range(raw, version, &at));
    }
    value
}

fn out_of_range(raw: &VrrpInstance, version: Version, at: &Path) -> Problem {
    match (version, raw.advert_interval.is_some()) {
        (Version::V2, true) => {
            let problem = Problem::new(at, "VRRP version 2 counts whole seconds, 1s to 255s");
            if raw.advert_interval.is_some_and(|d| d.nanos() > 40_950_000_000) {
                problem
            } else if raw.version.is_some() {
                problem.help("write version: 3 for parts of a second")
            } else {
                problem.help(
                    "authPass makes this instance version 2; write version: 3, which has no password, for parts of a second",
                )
            }
        }
        (Version::V2, false) => Problem::new(at, "advertIntervalSeconds must be in the range of 1-255"),
        (Version::V3, true) => Problem::new(
            at,
            "VRRP version 3 counts hundredths of a second: 10ms to 40.95s in steps of 10ms",
        ),
        (Version::V3, false) => Problem::new(
            at,
            "advertIntervalSeconds must be in the range of 1-40 with VRRP version 3",
        ),
    }
}

/// Whether and after how long a living router of lower priority is relieved.
pub(super) fn preempt(raw: &VrrpInstance, at: &Path, f: &mut Findings) -> (bool, Option<Duration>) {
    let preempt = raw.preempt.unwrap_or(true);
    let Some(delay) = raw.preempt_delay else {
        return (preempt, Some(Duration::ZERO));
    };
    let at = at.key("preemptDelay");
    let delay = f.take(span(
        delay,
        Duration::ZERO,
        Duration::from_secs(3600),
        &at,
        "preemptDelay",
    ));
    if !preempt && delay.is_some_and(|d| !d.is_zero()) {
        f.warn(Problem::new(
            &at,
            "preemptDelay has no effect with preempt: false",
        ));
    }
    (preempt, delay)
}
