//! What else decides an instance's priority, and what a machine is told of it: a fault, or a weight.
//!
//! Interfaces are looked at by the election itself. Programs and virtual servers are looked at elsewhere, and what came of
//! it is handed in: the election waits for nobody.
use super::{FaultReason, Input};
use crate::health::Command;
use alloc::string::String;
use core::time::Duration;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// Something that an instance's priority depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Track {
    /// What.
    pub what: Tracked,
    /// 0: a fault while it fails. Below: added to the priority while it fails. Above: added while it does not.
    pub weight: i16,
}

/// What is tracked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Tracked {
    /// An interface of that name is up.
    Interface(String),
    /// A program ends with 0.
    Exec(TrackExec),
    /// This node's datapath works, and some real server of each of the instance's virtual servers can be reached from
    /// here.
    VirtualServers(TrackServers),
}

/// A program that is run again and again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct TrackExec {
    /// Which.
    pub run: Command,
    /// From one start to the next.
    pub interval: Duration,
    /// When it is killed, with all that it started.
    pub timeout: Duration,
    /// So many successes in a row make it well.
    pub rise: u8,
    /// So many failures in a row make it fail.
    pub fall: u8,
}

/// Whether this node can serve, as [`crate::health::Follow`] damps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct TrackServers {
    /// So many good observations in a row.
    pub rise: u8,
    /// So many bad ones.
    pub fall: u8,
}

impl Default for TrackServers {
    fn default() -> Self {
        Self { rise: 3, fall: 3 }
    }
}

/// What all that is looked at outside the election adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Something fails whose weight is 0.
    pub fault: bool,
    /// The sum of the weights.
    pub weight: i32,
}

impl Outside {
    /// Of `track`, with what is known of each item looked up by its index; `None`: nothing is known yet, and it counts as
    /// well, as an interface does that is up.
    pub fn of(track: &[Track], well: impl Fn(usize) -> Option<bool>) -> Self {
        let mut sum = Self::default();
        for (i, t) in track.iter().enumerate() {
            match t.what {
                Tracked::Interface(_) => {}
                Tracked::Exec(_) | Tracked::VirtualServers(_) => {
                    let (fault, weight) = t.verdict(well(i).unwrap_or(true));
                    sum.fault |= fault;
                    sum.weight = sum.weight.saturating_add(weight);
                }
            }
        }
        sum
    }
}

impl Track {
    /// Whether it is a fault, and what it adds to the priority.
    fn verdict(&self, well: bool) -> (bool, i32) {
        let counts = well == (self.weight > 0);
        (
            !well && self.weight == 0,
            if counts { i32::from(self.weight) } else { 0 },
        )
    }
}

/// What can be said of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InterfaceState {
    /// There is none of that name.
    Missing,
    /// It is down or has no carrier.
    Down,
    /// It is up, but has no address that adverts could leave from.
    NoAddress,
    /// It can be used.
    Up,
}

impl InterfaceState {
    /// What is wrong with it as the interface of an instance.
    pub const fn fault(self) -> Option<FaultReason> {
        match self {
            Self::Missing => Some(FaultReason::NoInterface),
            Self::Down => Some(FaultReason::InterfaceDown),
            Self::NoAddress => Some(FaultReason::NoAddress),
            Self::Up => None,
        }
    }

    /// Whether something that tracks it counts it as up: the link matters, not the address.
    pub const fn is_up(self) -> bool {
        match self {
            Self::Missing | Self::Down => false,
            Self::NoAddress | Self::Up => true,
        }
    }
}

/// What tracking of interfaces makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why the instance can take no part.
    pub fault: Option<FaultReason>,
    /// The sum of the weights.
    pub weight: i32,
}

impl Verdict {
    /// Of an instance on `own`, with everything that it tracks looked up by `state`.
    pub fn of(own: InterfaceState, track: &[Track], state: impl Fn(&str) -> InterfaceState) -> Self {
        let mut verdict = Self {
            fault: own.fault(),
            weight: 0,
        };
        for t in track {
            let up = match &t.what {
                Tracked::Interface(name) => state(name).is_up(),
                Tracked::Exec(_) | Tracked::VirtualServers(_) => continue,
            };
            let (fault, weight) = t.verdict(up);
            // The instance's own fault says more than that of something it tracks.
            if fault {
                verdict.fault = verdict.fault.or(Some(FaultReason::Tracked));
            }
            verdict.weight = verdict.weight.saturating_add(weight);
        }
        verdict
    }

    /// What a machine must be told that was last told `before`; `None` before the first time. The weight comes first,
    /// so that a machine that starts does so with its priority.
    pub fn inputs(self, before: Option<Self>) -> impl Iterator<Item = Input> {
        let weight = (before.map_or(0, |b| b.weight) != self.weight).then_some(Input::Weight(self.weight));
        let fault = (before.map(|b| b.fault) != Some(self.fault))
            .then(|| self.fault.map_or(Input::Startup, Input::Fault));
        weight.into_iter().chain(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn track(interface: &str, weight: i16) -> Track {
        Track {
            what: Tracked::Interface(interface.into()),
            weight,
        }
    }

    fn state(name: &str) -> InterfaceState {
        match name {
            "up" => InterfaceState::Up,
            "bare" => InterfaceState::NoAddress,
            "down" => InterfaceState::Down,
            _ => InterfaceState::Missing,
        }
    }

    fn of(own: InterfaceState, tracks: &[(&str, i16)]) -> Verdict {
        let tracks: Vec<_> = tracks.iter().map(|(n, w)| track(n, *w)).collect();
        Verdict::of(own, &tracks, state)
    }

    #[test]
    fn a_weight_of_zero_is_a_fault_while_it_is_down() {
        let up = InterfaceState::Up;
        assert_eq!(of(up, &[("up", 0), ("bare", 0)]), Verdict::default());
        for name in ["down", "absent"] {
            assert_eq!(of(up, &[("up", 0), (name, 0)]).fault, Some(FaultReason::Tracked));
        }
    }

    #[test]
    fn a_negative_weight_counts_while_down_and_a_positive_one_while_up() {
        let up = InterfaceState::Up;
        assert_eq!(of(up, &[("up", -20), ("up", 30), ("down", 7)]).weight, 30);
        assert_eq!(of(up, &[("down", -20), ("absent", -5), ("bare", 3)]).weight, -22);
        assert_eq!(of(up, &[("down", -20)]).fault, None);
    }

    #[test]
    fn what_is_looked_at_outside_adds_up_by_itself() {
        let servers = |weight| Track {
            what: Tracked::VirtualServers(TrackServers::default()),
            weight,
        };
        let list = [track("down", -7), servers(-100), servers(0), servers(20)];
        let of = |well: [Option<bool>; 4]| Outside::of(&list, |i| well[i]);
        let (unknown, bad) = (None, Some(false));
        assert_eq!(
            of([unknown; 4]),
            Outside {
                fault: false,
                weight: 20
            }
        );
        assert_eq!(
            of([bad; 4]),
            Outside {
                fault: true,
                weight: -100
            }
        );
        assert_eq!(
            Verdict::of(InterfaceState::Up, &list, state),
            Verdict {
                fault: None,
                weight: -7
            }
        );
    }

    #[test]
    fn its_own_interface_comes_first() {
        for (own, fault) in [
            (InterfaceState::Missing, FaultReason::NoInterface),
            (InterfaceState::Down, FaultReason::InterfaceDown),
            (InterfaceState::NoAddress, FaultReason::NoAddress),
        ] {
            assert_eq!(of(own, &[("down", 0)]).fault, Some(fault));
        }
    }

    #[test]
    fn only_what_changed_is_told() {
        let well = Verdict::default();
        let bad = Verdict {
            fault: Some(FaultReason::Tracked),
            weight: -20,
        };
        assert_eq!(well.inputs(None).collect::<Vec<_>>(), [Input::Startup]);
        assert_eq!(well.inputs(Some(well)).count(), 0);
        assert_eq!(
            bad.inputs(Some(well)).collect::<Vec<_>>(),
            [Input::Weight(-20), Input::Fault(FaultReason::Tracked)]
        );
        assert_eq!(
            well.inputs(Some(bad)).collect::<Vec<_>>(),
            [Input::Weight(0), Input::Startup]
        );
    }
}
