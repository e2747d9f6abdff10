//! Whether a node should hold a virtual IP at all, from what it can do with it: rise and fall of its own, so that the
//! address follows health and does not flutter with it.
//!
//! Two things make this another gate than a server's:
//! - What every node sees at once (no API server answers anybody) must move nothing, although no two nodes see it at the
//!   same moment. So a holder gives way later than others give up, and is back before they are.
//! - Moving an address costs connections. So each fall within [`MEMORY`] doubles how long it must be well before it
//!   counts again: a node whose network flutters loses the address once and not every minute.
use crate::time::{Duration, Instant};

/// After this without a fall, the next one is the first again.
pub const MEMORY: Duration = Duration::from_secs(600);
/// How much longer a holder waits before it gives way, and the others before they are well again.
const PATIENCE: u32 = 2;
/// What repeated falls make of `rise`, at most.
const MOST: u32 = 64;

/// One instance's ability to serve, damped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follow {
    rise: u32,
    fall: u32,
    up: bool,
    /// Observations in a row against what it counts as.
    against: u32,
    /// What [`Self::rise`] is multiplied with.
    penalty: u32,
    fell: Option<Instant>,
}

impl Follow {
    /// Counts as able. `rise` and `fall` of 0 are 1.
    pub fn new(rise: u8, fall: u8) -> Self {
        Self {
            rise: u32::from(rise.max(1)),
            fall: u32::from(fall.max(1)),
            up: true,
            against: 0,
            penalty: 1,
            fell: None,
        }
    }

    /// Whether it counts as able to serve.
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// New thresholds; what is known is kept.
    pub fn set_thresholds(&mut self, rise: u8, fall: u8) {
        self.rise = u32::from(rise.max(1));
        self.fall = u32::from(fall.max(1));
    }

    /// Takes one observation in; true when [`Self::is_up`] changed by it. `holds`: whether this node has the address.
    pub fn handle(&mut self, now: Instant, holds: bool, able: bool) -> bool {
        if self.up == able {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        if self.against < self.needed(holds) {
            return false;
        }
        self.against = 0;
        self.up = able;
        if !able {
            self.remember_fall(now);
        }
        true
    }

    fn needed(&self, holds: bool) -> u32 {
        match (self.up, holds) {
            (true, true) => self.fall * PATIENCE,
            (true, false) => self.fall,
            (false, true) => self.rise * self.penalty,
            (false, false) => self.rise * self.penalty * PATIENCE,
        }
    }

    fn remember_fall(&mut self, now: Instant) {
        let again = self.fell.is_some_and(|at| now.saturating_since(at) < MEMORY);
        self.penalty = if again { (self.penalty * 2).min(MOST) } else { 1 };
        self.fell = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many observations it takes to turn round.
    fn turns_after(follow: &mut Follow, at: Instant, holds: bool, able: bool) -> u32 {
        (1..=10_000)
            .find(|_| follow.handle(at, holds, able))
            .expect("it turns at last")
    }

    #[test]
    fn a_holder_gives_way_later_than_others_give_up_and_is_back_before_them() {
        let at = Instant::ZERO;
        let (mut holder, mut other) = (Follow::new(3, 3), Follow::new(3, 3));
        assert_eq!(turns_after(&mut holder, at, true, false), 6);
        assert_eq!(turns_after(&mut other, at, false, false), 3);
        assert_eq!(turns_after(&mut holder, at, true, true), 3);
        assert_eq!(turns_after(&mut other, at, false, true), 6);
    }

    #[test]
    fn one_good_observation_starts_the_count_again() {
        let mut follow = Follow::new(3, 3);
        for able in [false, false, true, false, false, true, false, false] {
            assert!(!follow.handle(Instant::ZERO, false, able));
        }
        assert!(follow.is_up() && follow.handle(Instant::ZERO, false, false));
    }

    #[test]
    fn each_further_fall_doubles_the_way_back_until_it_is_forgotten() {
        let mut follow = Follow::new(3, 3);
        let mut now = Instant::from_millis(1_000);
        let mut ways = std::vec::Vec::new();
        for _ in 0..9 {
            turns_after(&mut follow, now, false, false);
            ways.push(turns_after(&mut follow, now, true, true));
            now += Duration::from_secs(60);
        }
        assert_eq!(ways, [3, 6, 12, 24, 48, 96, 192, 192, 192]);
        now += MEMORY;
        turns_after(&mut follow, now, false, false);
        assert_eq!(turns_after(&mut follow, now, true, true), 3);
    }
}
