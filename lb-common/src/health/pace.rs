//! When a real server is asked next.
use super::{Gate, HealthCheck};
use core::time::Duration;

/// From the start to the first try: somewhere within the warm-up, so that many servers, and many nodes that start at once,
/// are not all asked in one moment. `jitter` is any number, the same one gives the same answer.
pub fn first(check: &HealthCheck, jitter: u32) -> Duration {
    let nanos = check.warm_up.as_nanos() * u128::from(jitter) / (u128::from(u32::MAX) + 1);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// From the start of one try to the start of the next.
pub const fn next(check: &HealthCheck, gate: &Gate) -> Duration {
    if gate.is_in_doubt() {
        check.fast_interval
    } else if gate.is_up() {
        check.interval
    } else {
        check.down_interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Outcome, Probe, Start};

    #[test]
    fn haproxys_intervals_are_followed() {
        let seconds = Duration::from_secs;
        let check = HealthCheck {
            interval: seconds(10),
            down_interval: seconds(5),
            fast_interval: seconds(1),
            ..HealthCheck::new(Probe::Tcp)
        };
        let mut gate = Gate::new(2, 3, Start::Up);
        let expected = [
            (Outcome::Good, 10),
            (Outcome::Dead, 1),
            (Outcome::Dead, 1),
            (Outcome::Dead, 5),
            (Outcome::Dead, 5),
            (Outcome::Good, 1),
            (Outcome::Good, 10),
        ];
        for (outcome, after) in expected {
            gate.handle(outcome);
            assert_eq!(next(&check, &gate), seconds(after), "{outcome:?}");
        }
    }

    #[test]
    fn the_first_try_is_within_the_warm_up() {
        let check = HealthCheck {
            warm_up: Duration::from_secs(4),
            ..HealthCheck::new(Probe::Tcp)
        };
        assert_eq!(first(&check, 0), Duration::ZERO);
        assert_eq!(first(&check, 1 << 31), Duration::from_secs(2));
        assert!(first(&check, u32::MAX) < Duration::from_secs(4));
    }
}
