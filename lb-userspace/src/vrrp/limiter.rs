//! At most one line a minute for each thing that can go on being wrong.
use lb_common::time::{Duration, Instant};
use lb_common::vrrp::InstanceId;
use std::collections::BTreeMap;
use std::net::IpAddr;

const WINDOW: Duration = Duration::from_secs(60);
/// Sources can be forged: beyond so many the oldest are forgotten.
const MAX_KEYS: usize = 1024;

/// What makes two lines the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// The instance.
    pub(super) instance: InstanceId,
    /// What is wrong, as a word.
    pub(super) kind: &'static str,
    /// Whose fault it is.
    pub(super) source: Option<IpAddr>,
}

/// Remembers what was said.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    said: BTreeMap<Key, (Instant, u64)>,
}

impl Limiter {
    /// `Some(n)`: say it now, and that `n` like it were not said since the last time.
    pub(super) fn admit(&mut self, key: Key, now: Instant) -> Option<u64> {
        if let Some((at, suppressed)) = self.said.get_mut(&key) {
            if now.saturating_since(*at) < WINDOW {
                *suppressed += 1;
                return None;
            }
            *at = now;
            return Some(std::mem::take(suppressed));
        }
        if self.said.len() >= MAX_KEYS {
            self.forget(now);
        }
        // Full of fresh keys: somebody forges sources. What is counted in the view is not said again.
        if self.said.len() >= MAX_KEYS {
            return None;
        }
        self.said.insert(key, (now, 0));
        Some(0)
    }

    fn forget(&mut self, now: Instant) {
        self.said.retain(|_, (at, _)| now.saturating_since(*at) < WINDOW);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: u8) -> Key {
        Key {
            instance: InstanceId(1),
            kind: "checksum",
            source: Some(IpAddr::from([192, 0, 2, source])),
        }
    }

    #[test]
    fn a_line_comes_once_a_minute_with_the_count_of_those_left_out() {
        let mut l = Limiter::default();
        let at = |s: u64| Instant::from_millis(s * 1000);
        assert_eq!(l.admit(key(1), at(0)), Some(0));
        assert_eq!(l.admit(key(1), at(1)), None);
        assert_eq!(l.admit(key(2), at(1)), Some(0), "another source");
        assert_eq!(l.admit(key(1), at(59)), None);
        assert_eq!(l.admit(key(1), at(60)), Some(2));
        assert_eq!(l.admit(key(1), at(120)), Some(0));
    }

    #[test]
    fn forged_sources_do_not_fill_the_memory() {
        let mut l = Limiter::default();
        for n in 0..5000u32 {
            let k = Key {
                source: Some(IpAddr::from(n.to_be_bytes())),
                ..key(0)
            };
            l.admit(k, Instant::ZERO);
        }
        assert_eq!(l.said.len(), MAX_KEYS);
        assert!(l.admit(key(1), Instant::from_millis(61_000)).is_some());
    }
}
