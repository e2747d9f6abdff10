//! What is in force while one packet is looked at.
use crate::maps::{self, Control};
use lb_common::abi::{Reason, Side};

/// One side, chosen when the packet came, and the clock.
#[derive(Clone, Copy)]
pub(crate) struct Config {
    control: Control,
    /// Which side it is: its rings are apart.
    pub(crate) active: u64,
    pub(crate) side: &'static Side,
    /// Jiffies, from [`Self::leased`] on.
    now: u64,
}

impl Config {
    /// `None` never happens: the maps have these elements.
    #[inline(always)]
    pub(crate) fn in_force() -> Option<Self> {
        let control = Control::get();
        let active = control.active();
        let side = maps::side(active)?;
        Some(Self {
            control,
            active,
            side,
            now: 0,
        })
    }

    /// The same with the time, if this node may direct.
    #[inline(always)]
    pub(crate) fn leased(self) -> Result<Self, Reason> {
        let now = maps::jiffies();
        let after = now.wrapping_sub(self.control.lease_until());
        if after as i64 > 0 {
            Err(Reason::LeaseEnded)
        } else {
            Ok(Self { now, ..self })
        }
    }

    /// The time in units of a stamp, of which only the low bits count.
    #[inline(always)]
    pub(crate) fn stamp(&self) -> u64 {
        self.now >> (self.control.stamp_shift() & 63)
    }

    /// One new entry in `FLOWS`, if this processor has not had its share in this 64th of a unit. Made-up sources can
    /// fill the table no faster, whatever they send.
    #[inline(always)]
    pub(crate) fn may_insert(&self) -> bool {
        let Some(budget) = maps::budget() else {
            return false;
        };
        let window = self.now >> (self.control.stamp_shift().saturating_sub(6) & 63);
        if budget.window != window {
            budget.window = window;
            budget.used = 0;
        }
        budget.used += 1;
        budget.used <= self.control.inserts()
    }
}
