//! From the state of interfaces to what a machine is told: a fault, or a weight.
use super::{FaultReason, Input};
use crate::spec::TrackInterface;

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

/// What tracking makes of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why the instance can take no part.
    pub fault: Option<FaultReason>,
    /// The sum of the weights.
    pub weight: i32,
}

impl Verdict {
    /// Of an instance on `own`, with everything that it tracks looked up by `state`.
    pub fn of(own: InterfaceState, track: &[TrackInterface], state: impl Fn(&str) -> InterfaceState) -> Self {
        let mut verdict = Self {
            fault: own.fault(),
            weight: 0,
        };
        for t in track {
            let up = state(&t.interface).is_up();
            // The instance's own fault says more than that of something it tracks.
            if !up && t.weight == 0 {
                verdict.fault = verdict.fault.or(Some(FaultReason::Tracked));
            }
            if up == (t.weight > 0) {
                verdict.weight = verdict.weight.saturating_add(i32::from(t.weight));
            }
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

    fn track(interface: &str, weight: i16) -> TrackInterface {
        TrackInterface {
            interface: interface.into(),
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
