//! The RFC's arithmetic, and the table of a machine's timers.
use crate::model::{Priority, Version};
use crate::time::{Duration, Instant};

/// Skew_Time: the higher the priority, the sooner a backup takes over.
///
/// Version 2 (RFC 3768 §6.1) counts in 256ths of a *second* whatever the interval is (T3); version 3 (RFC 9568 §6.1)
/// in 256ths of Active_Adver_Interval.
pub fn skew_time(version: Version, priority: Priority, active_interval: Duration) -> Duration {
    let whole = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => active_interval,
    };
    whole * (256 - u32::from(priority.get())) / 256
}

/// Active_Down_Interval: how long a backup waits for a silent Active router.
pub fn active_down_interval(version: Version, priority: Priority, active_interval: Duration) -> Duration {
    active_interval * 3 + skew_time(version, priority, active_interval)
}

/// The longest Active_Down_Interval that a backup of any priority can have.
pub fn longest_down_interval(version: Version, active_interval: Duration) -> Duration {
    Priority::new(1).map_or(active_interval * 4, |p| {
        active_down_interval(version, p, active_interval)
    })
}

/// What a machine may be waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Backup: Active_Down_Timer.
    ActiveDown,
    /// Active: Adver_Timer. Leaving: the next priority 0.
    Adver,
    /// Active: the next announcement.
    Announce,
    /// Backup or Leaving: let go of the addresses.
    Linger,
    /// Leaving: nobody came.
    GiveUp,
}

impl Timer {
    /// In the order in which timers of one instant fire: a machine that may become Active again does so before it
    /// would let go.
    const ALL: [Self; 5] = [
        Self::ActiveDown,
        Self::Adver,
        Self::Announce,
        Self::Linger,
        Self::GiveUp,
    ];

    const fn index(self) -> usize {
        match self {
            Self::ActiveDown => 0,
            Self::Adver => 1,
            Self::Announce => 2,
            Self::Linger => 3,
            Self::GiveUp => 4,
        }
    }
}

/// One deadline for each [`Timer`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    pub(super) fn get(&self, timer: Timer) -> Option<Instant> {
        self.0.get(timer.index()).copied().flatten()
    }

    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.put(timer, Some(at));
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        self.put(timer, None);
    }

    pub(super) fn cancel_all(&mut self) {
        self.0 = Default::default();
    }

    fn put(&mut self, timer: Timer, at: Option<Instant>) {
        if let Some(slot) = self.0.get_mut(timer.index()) {
            *slot = at;
        }
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().copied().flatten().min()
    }

    /// Takes the earliest timer that is due, with its deadline.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Timer, Instant)> {
        let (timer, at) = Timer::ALL
            .iter()
            .filter_map(|t| self.get(*t).map(|at| (*t, at)))
            .min_by_key(|(_, at)| *at)?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some((timer, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(n: u8) -> Priority {
        Priority::new(n).unwrap()
    }

    #[test]
    fn t3_skew_is_scaled_in_version_3_only() {
        let ten = Duration::from_secs(10);
        assert_eq!(
            skew_time(Version::V2, p(100), ten),
            Duration::from_nanos(609_375_000)
        );
        assert_eq!(
            skew_time(Version::V3, p(100), ten),
            Duration::from_nanos(6_093_750_000)
        );
        let second = Duration::from_secs(1);
        assert_eq!(
            skew_time(Version::V2, p(100), second),
            skew_time(Version::V3, p(100), second)
        );
    }

    #[test]
    fn the_measured_takeovers_of_keepalived_come_out() {
        // 3610 ms, 368 ms and 37 ms were measured; the rest is its scheduling.
        let d = |ms| active_down_interval(Version::V3, p(100), Duration::from_millis(ms));
        assert_eq!(d(1000), Duration::from_nanos(3_609_375_000));
        assert_eq!(d(100), Duration::from_nanos(360_937_500));
        assert_eq!(d(10), Duration::from_nanos(36_093_750));
    }

    #[test]
    fn no_legal_value_gives_a_timer_of_zero() {
        for priority in 1..=255 {
            for ms in [10, 1000, 40_950] {
                let interval = Duration::from_millis(ms);
                for version in [Version::V2, Version::V3] {
                    assert!(!skew_time(version, p(priority), interval).is_zero());
                    let down = active_down_interval(version, p(priority), interval);
                    assert!(down > interval * 3 && down <= longest_down_interval(version, interval));
                }
            }
        }
    }

    #[test]
    fn the_earliest_due_timer_fires_first_and_once() {
        let mut t = Timers::default();
        t.set(Timer::Adver, Instant::from_millis(2));
        t.set(Timer::Linger, Instant::from_millis(1));
        t.set(Timer::Announce, Instant::from_millis(9));
        assert_eq!(t.next(), Some(Instant::from_millis(1)));
        let now = Instant::from_millis(5);
        assert_eq!(t.pop_due(now).map(|(t, _)| t), Some(Timer::Linger));
        assert_eq!(t.pop_due(now).map(|(t, _)| t), Some(Timer::Adver));
        assert_eq!(t.pop_due(now), None);
        assert_eq!(t.next(), Some(Instant::from_millis(9)));
    }
}
