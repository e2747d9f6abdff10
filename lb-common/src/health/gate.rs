//! Rise and fall: one real server's health as a machine, so that a single lost packet changes nothing.

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Good,
    /// It did not.
    Bad,
}

/// Healthy after `rise` good outcomes in a row, unhealthy after `fall` bad ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    rise: u8,
    fall: u8,
    up: bool,
    against: u8,
}

impl Gate {
    /// Starts healthy: a node that has just taken over must not turn everybody away until it has looked. `rise` and
    /// `fall` of 0 count as 1.
    pub const fn new(rise: u8, fall: u8) -> Self {
        Self {
            rise: if rise == 0 { 1 } else { rise },
            fall: if fall == 0 { 1 } else { fall },
            up: true,
            against: 0,
        }
    }

    /// Whether it counts as healthy.
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Takes an outcome in; true when [`Self::is_up`] changed by it.
    pub fn handle(&mut self, outcome: Outcome) -> bool {
        if self.up == matches!(outcome, Outcome::Good) {
            self.against = 0;
            return false;
        }
        self.against = self.against.saturating_add(1);
        let enough = if self.up { self.fall } else { self.rise };
        if self.against < enough {
            return false;
        }
        self.up = !self.up;
        self.against = 0;
        true
    }

    /// New thresholds; what is known is kept.
    pub const fn set_thresholds(&mut self, rise: u8, fall: u8) {
        self.rise = if rise == 0 { 1 } else { rise };
        self.fall = if fall == 0 { 1 } else { fall };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_falls_after_fall_bad_ones_in_a_row_and_rises_after_rise_good_ones() {
        let mut gate = Gate::new(2, 3);
        assert!(gate.is_up());
        assert!(!gate.handle(Outcome::Bad) && !gate.handle(Outcome::Bad));
        assert!(!gate.handle(Outcome::Good), "a good one starts the count again");
        assert!(!gate.handle(Outcome::Bad) && !gate.handle(Outcome::Bad) && gate.handle(Outcome::Bad));
        assert!(!gate.is_up());
        assert!(!gate.handle(Outcome::Good) && !gate.handle(Outcome::Bad) && !gate.handle(Outcome::Good));
        assert!(gate.handle(Outcome::Good) && gate.is_up());
    }

    #[test]
    fn thresholds_of_zero_count_as_one() {
        let mut gate = Gate::new(0, 0);
        assert!(gate.handle(Outcome::Bad) && gate.handle(Outcome::Good));
    }
}
