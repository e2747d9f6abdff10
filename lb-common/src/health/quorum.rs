//! Whether enough of a virtual server's real servers are healthy, as keepalived counts it.

/// Lost below `quorum - hysteresis` of healthy weight, regained at `quorum + hysteresis`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quorum {
    lost: bool,
}

impl Quorum {
    /// Whether it is lost.
    pub const fn is_lost(self) -> bool {
        self.lost
    }

    /// Takes the healthy servers' weight in; true when [`Self::is_lost`] changed by it.
    pub const fn handle(&mut self, weight: u32, quorum: u32, hysteresis: u32) -> bool {
        let before = self.lost;
        self.lost = if before {
            weight < quorum.saturating_add(hysteresis)
        } else {
            weight < quorum.saturating_sub(hysteresis)
        };
        self.lost != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_lost_below_and_regained_above_its_margin() {
        let mut quorum = Quorum::default();
        let lost: std::vec::Vec<bool> = [5, 4, 3, 2, 3, 4, 5, 3]
            .into_iter()
            .map(|weight| {
                quorum.handle(weight, 4, 1);
                quorum.is_lost()
            })
            .collect();
        assert_eq!(lost, [false, false, false, true, true, true, false, false]);
    }
}
