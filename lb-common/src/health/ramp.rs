//! Slow start: a server that came back gets its share little by little, for its caches are cold.
use crate::time::{Duration, Instant};

/// Shares grow by so many per cent at a time: each step changes weights in the kernel.
const STEP: u8 = 10;
/// Steps from the first share to the whole.
const STEPS: u32 = 100 / STEP as u32;

/// One server on its way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramp {
    since: Instant,
    over: Duration,
}

impl Ramp {
    /// From now on, for so long.
    pub const fn new(now: Instant, over: Duration) -> Self {
        Self { since: now, over }
    }

    fn step(&self, now: Instant) -> u32 {
        let over = self.over.as_nanos().max(1);
        let done = now.saturating_since(self.since).as_nanos() * u128::from(STEPS) / over;
        u32::try_from(done).unwrap_or(STEPS).min(STEPS)
    }

    /// Its share in per cent: 10, 20, ... 90. `None`: the whole again, and the ramp is over.
    pub fn share(&self, now: Instant) -> Option<u8> {
        let step = u8::try_from(self.step(now)).unwrap_or(u8::MAX);
        let share = step.saturating_add(1).saturating_mul(STEP);
        (share < 100).then_some(share)
    }

    /// When the share grows next; `None` when it is whole.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.share(now)?;
        Some(self.since + self.over / STEPS * (self.step(now) + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_to_the_whole_within_its_time() {
        let start = Instant::from_millis(5_000);
        let ramp = Ramp::new(start, Duration::from_secs(30));
        let at = |s: u64| start + Duration::from_secs(s);
        assert_eq!(ramp.share(start), Some(10));
        assert_eq!(ramp.share(at(14)), Some(50));
        assert_eq!(ramp.share(at(15)), Some(60));
        assert_eq!((ramp.share(at(27)), ramp.share(at(30))), (None, None));
        let (mut now, mut steps) = (start, 0);
        while let Some(next) = ramp.next(now) {
            assert!(next > now);
            now = next;
            steps += 1;
        }
        assert_eq!((steps, ramp.share(now)), (9, None));
        assert_eq!(
            Ramp::new(start, Duration::ZERO).share(start + Duration::from_nanos(1)),
            None
        );
    }
}
