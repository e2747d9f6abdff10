//! Somebody else who answers for a virtual IP that this node holds.
//!
//! Around a change of holder two nodes answer for a moment, by design: what is heard then counts for nothing. When that
//! moment is over, a question goes out (an ARP probe, a neighbour solicitation), because a host that was given the
//! address by hand says nothing by itself.
use lb_common::model::{Family, MacAddr};
use lb_common::time::{Duration, Instant};
use lb_common::wire::{arp, ethernet, ipv6, ndp};
use std::net::IpAddr;

/// On top of how long a predecessor lingers.
const SETTLE: Duration = Duration::from_secs(2);
/// While there is a conflict, the question is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(20);
/// Nothing heard for so long: it is over.
const OVER: Duration = Duration::from_secs(50);

/// A claim that was heard on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Whose card.
    pub(super) mac: MacAddr,
    /// Which address.
    pub(super) address: IpAddr,
}

/// What one frame claims, if it is one that claims anything.
pub(super) fn parse(family: Family, frame: &[u8]) -> Option<Claim> {
    let (eth, payload) = ethernet::Header::parse(frame).ok()?;
    match family {
        Family::Ipv4 => {
            let arp = arp::Packet::parse(payload).ok()?;
            Some(Claim {
                mac: arp.sender_mac,
                address: arp.sender_ip.into(),
            })
        }
        Family::Ipv6 => {
            let (ip, body) = ipv6::Header::parse(payload).ok()?;
            if ip.next_header != ndp::ICMPV6 {
                return None;
            }
            let na = ndp::NeighbourAdvert::parse(ip.source, ip.destination, ip.hop_limit, body).ok()?;
            Some(Claim {
                mac: na.mac.unwrap_or(eth.source),
                address: na.target.into(),
            })
        }
    }
}

/// One instance's watch.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Deaf until then; `None` while nothing is held.
    from: Option<Instant>,
    ask: Option<Instant>,
    found: Option<(Claim, Instant)>,
}

impl Watch {
    /// This node took the addresses.
    pub(super) fn holding(&mut self, now: Instant, linger: Duration) {
        let from = now + linger + SETTLE;
        *self = Self {
            from: Some(from),
            ask: Some(from),
            found: None,
        };
    }

    /// This node let go.
    pub(super) fn released(&mut self) {
        *self = Self::default();
    }

    /// True when the claim is a conflict.
    pub(super) fn heard(&mut self, now: Instant, claim: Claim) -> bool {
        let listening = self.from.is_some_and(|from| now >= from);
        if listening {
            self.found = Some((claim, now));
            self.ask.get_or_insert(now + ASK_AGAIN);
        }
        listening
    }

    /// Who else answers.
    pub(super) fn found(&self) -> Option<Claim> {
        self.found.map(|(claim, _)| claim)
    }

    /// When there is something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.ask
    }

    /// True when the question is to be asked now.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        if self.ask.is_none_or(|at| now < at) {
            return false;
        }
        if self.found.is_some_and(|(_, at)| now.saturating_since(at) > OVER) {
            self.found = None;
        }
        // The first question of a takeover is followed by others only if somebody answered.
        self.ask = self.found.map(|_| now + ASK_AGAIN);
        true
    }

    /// As a sentence.
    pub(super) fn sentence(&self) -> Option<String> {
        let claim = self.found()?;
        Some(format!("{} is also answered for by {}", claim.address, claim.mac))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_counts_only_after_the_change_of_holder_and_is_over_when_nobody_repeats_it() {
        let at = Instant::from_millis;
        let claim = Claim {
            mac: MacAddr([2, 0, 0, 0, 0, 9]),
            address: IpAddr::from([192, 0, 2, 1]),
        };
        let mut w = Watch::default();
        assert!(!w.heard(at(0), claim), "nothing is held");
        w.holding(at(0), Duration::from_secs(1));
        assert!(!w.heard(at(2900), claim), "the predecessor lingers");
        assert_eq!(w.due(), Some(at(3000)));
        assert!(w.tick(at(3000)));
        assert!(w.heard(at(3001), claim));
        assert_eq!(
            w.sentence().unwrap(),
            "192.0.2.1 is also answered for by 02:00:00:00:00:09"
        );
        for s in [24, 45, 66] {
            assert!(w.tick(at(s * 1000)));
        }
        assert_eq!(w.sentence(), None);
        assert_eq!(w.due(), None);
        w.released();
        assert!(!w.heard(at(70_000), claim));
    }
}
