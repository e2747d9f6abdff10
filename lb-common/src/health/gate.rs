//! Rise and fall: one real server's health as a machine, so that a single lost packet changes nothing.
//!
//! ```text
//!                 fall bad ones, the last `fall` of them silent or refused
//!        +---------------------------------------------------------------+
//!        |                          fall bad ones       fall dead ones    v
//!   Up --+------------------------------> Unready ----------------------> Down
//!    ^                                    |   ^                            |  |
//!    +------- rise good ones -------------+   +--- rise that are not dead -+  |
//!    +------- rise good ones --------------------------------------------------+
//! ```
//! Not ready and dead are two things: an API server that was told to stop says so at `/readyz` and goes on serving what
//! it has begun. It gets nothing new, and keeps its connections. One that does not answer has none to keep.
use super::Start;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered as it should.
    Good,
    /// It answered, and said that it should get nothing new.
    Unready,
    /// It did not answer.
    Dead,
}

/// What a server counts as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Health {
    /// It serves.
    #[default]
    Up,
    /// It keeps what it has and gets nothing new.
    Unready,
    /// It serves nothing: what it has is cut.
    Down,
}

impl Health {
    /// As the status shows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Unready => "unready",
            Self::Down => "down",
        }
    }
}

/// Healthy after `rise` good outcomes in a row, not so after `fall` bad ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    rise: u8,
    fall: u8,
    health: Health,
    /// Nothing was found yet, and the first outcome decides.
    undecided: bool,
    /// In a row, each: good, not dead, bad, dead.
    good: u8,
    alive: u8,
    bad: u8,
    dead: u8,
}

impl Gate {
    /// Counts as `start` says: by default as healthy, for a node that has just taken over must not turn everybody away
    /// until it has looked; but the first look counts. `rise` and `fall` of 0 are 1.
    pub const fn new(rise: u8, fall: u8, start: Start) -> Self {
        Self {
            rise: at_least_1(rise),
            fall: at_least_1(fall),
            health: match start {
                Start::Undecided | Start::Up => Health::Up,
                Start::Down => Health::Down,
            },
            undecided: matches!(start, Start::Undecided),
            good: 0,
            alive: 0,
            bad: 0,
            dead: 0,
        }
    }

    /// One whose server was found to be so by a process before this one.
    pub const fn known(rise: u8, fall: u8, health: Health) -> Self {
        Self {
            health,
            undecided: false,
            ..Self::new(rise, fall, Start::Up)
        }
    }

    /// What it counts as.
    pub const fn health(&self) -> Health {
        self.health
    }

    /// Whether it counts as healthy.
    pub const fn is_up(&self) -> bool {
        matches!(self.health, Health::Up)
    }

    /// Whether the last outcome contradicts what it counts as: it may be about to change.
    pub const fn is_in_doubt(&self) -> bool {
        match self.health {
            Health::Up => self.bad > 0,
            Health::Unready => self.good > 0 || self.dead > 0,
            Health::Down => self.alive > 0,
        }
    }

    /// Takes an outcome in; true when [`Self::health`] changed by it.
    pub fn handle(&mut self, outcome: Outcome) -> bool {
        let run = |holds: bool, n: u8| if holds { n.saturating_add(1) } else { 0 };
        self.good = run(outcome == Outcome::Good, self.good);
        self.alive = run(outcome != Outcome::Dead, self.alive);
        self.bad = run(outcome != Outcome::Good, self.bad);
        self.dead = run(outcome == Outcome::Dead, self.dead);
        let before = self.health;
        let decides = core::mem::take(&mut self.undecided);
        let (rise, fall) = if decides { (1, 1) } else { (self.rise, self.fall) };
        self.health = if self.good >= rise {
            Health::Up
        } else if self.dead >= fall {
            Health::Down
        } else {
            match before {
                Health::Up if self.bad >= fall => Health::Unready,
                Health::Down if self.alive >= rise => Health::Unready,
                Health::Up | Health::Unready | Health::Down => before,
            }
        };
        self.health != before
    }

    /// New thresholds; what is known is kept.
    pub const fn set_thresholds(&mut self, rise: u8, fall: u8) {
        self.rise = at_least_1(rise);
        self.fall = at_least_1(fall);
    }
}

const fn at_least_1(n: u8) -> u8 {
    if n == 0 { 1 } else { n }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Outcome::{Dead, Good, Unready};
    use proptest::prelude::*;

    /// The health after each outcome.
    fn after(gate: &mut Gate, outcomes: &[Outcome]) -> std::vec::Vec<Health> {
        let one = |o: &Outcome| {
            gate.handle(*o);
            gate.health()
        };
        outcomes.iter().map(one).collect()
    }

    #[test]
    fn it_falls_after_fall_bad_ones_in_a_row_and_rises_after_rise_good_ones() {
        use Health::{Down, Up};
        let mut gate = Gate::new(2, 3, Start::Up);
        let seen = after(&mut gate, &[Dead, Dead, Good, Dead, Dead, Dead]);
        assert_eq!(
            seen,
            [Up, Up, Up, Up, Up, Down],
            "a good one starts the count again"
        );
        let seen = after(&mut gate, &[Good, Dead, Good, Good]);
        assert_eq!(seen, [Down, Down, Down, Up]);
    }

    #[test]
    fn one_that_says_no_is_unready_and_one_that_then_falls_silent_is_down() {
        use Health::{Down, Unready as NotReady, Up};
        let mut gate = Gate::new(2, 3, Start::Up);
        let stops = [Unready, Unready, Unready, Unready, Dead, Dead, Dead];
        assert_eq!(
            after(&mut gate, &stops),
            [Up, Up, NotReady, NotReady, NotReady, NotReady, Down]
        );
        let starts = [Unready, Unready, Good, Unready, Good, Good];
        assert_eq!(
            after(&mut gate, &starts),
            [Down, NotReady, NotReady, NotReady, NotReady, Up]
        );
    }

    #[test]
    fn silence_within_a_row_of_refusals_does_not_cut_connections() {
        let mut gate = Gate::new(1, 3, Start::Up);
        after(&mut gate, &[Dead, Unready, Dead]);
        assert_eq!(gate.health(), Health::Unready);
    }

    #[test]
    fn the_first_outcome_decides_unless_told_otherwise() {
        for (outcome, health) in [
            (Good, Health::Up),
            (Unready, Health::Unready),
            (Dead, Health::Down),
        ] {
            let mut gate = Gate::new(2, 3, Start::Undecided);
            assert!(gate.is_up());
            gate.handle(outcome);
            assert_eq!(gate.health(), health);
        }
        let mut gate = Gate::new(2, 3, Start::Undecided);
        after(&mut gate, &[Good, Dead]);
        assert!(gate.is_up(), "only the first");
        let mut gate = Gate::new(2, 3, Start::Down);
        assert_eq!(after(&mut gate, &[Good, Good]), [Health::Down, Health::Up]);
    }

    #[test]
    fn thresholds_of_zero_count_as_one() {
        let mut gate = Gate::new(0, 0, Start::Up);
        assert!(gate.handle(Dead) && gate.handle(Good));
    }

    proptest! {
        /// By the words of the module and not by its code.
        #[test]
        fn it_is_as_the_last_outcomes_say(
            rise in 1u8..5, fall in 1u8..5,
            outcomes in proptest::collection::vec(prop_oneof![Just(Good), Just(Unready), Just(Dead)], 1..60),
        ) {
            let mut gate = Gate::new(rise, fall, Start::Up);
            for n in 1..=outcomes.len() {
                gate.handle(outcomes[n - 1]);
                let last = |k: u8, f: fn(Outcome) -> bool| {
                    n >= usize::from(k) && outcomes[n - usize::from(k)..n].iter().all(|o| f(*o))
                };
                if last(rise, |o| o == Good) {
                    prop_assert_eq!(gate.health(), Health::Up);
                } else if last(fall, |o| o == Dead) {
                    prop_assert_eq!(gate.health(), Health::Down);
                } else if last(fall, |o| o != Good) {
                    prop_assert_ne!(gate.health(), Health::Up);
                }
                let settled = match gate.health() {
                    Health::Up => outcomes[n - 1] == Good,
                    Health::Unready => outcomes[n - 1] == Unready,
                    Health::Down => outcomes[n - 1] == Dead,
                };
                prop_assert_eq!(gate.is_in_doubt(), !settled);
            }
        }
    }
}
