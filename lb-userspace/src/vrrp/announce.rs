//! Gratuitous ARP and unsolicited NA in bursts.
//!
//! The machine says when a burst starts; here it is cut into rounds of one frame for each VIP, `interval` apart, so that
//! a switch that limits such frames does not drop all of them, and so that a turn of the thread stays short. The frames
//! are built once, when the interface is known.
use crate::sys::packet::PacketSocket;
use lb_common::model::MacAddr;
use lb_common::spec::{Announce, Instance};
use lb_common::time::Instant;
use lb_common::wire::checksum::Sum;
use lb_common::wire::{arp, ethernet, ipv6, ndp};
use std::net::{IpAddr, Ipv6Addr};

/// One instance's announcements.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    /// One for each VIP.
    frames: Vec<Vec<u8>>,
    /// A question for each VIP: does anybody else have it?
    probes: Vec<Vec<u8>>,
    rounds: u8,
    next: Option<Instant>,
}

/// What became of one round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sent {
    /// Frames that the kernel took.
    pub(super) frames: u64,
    /// Frames that it did not (a full queue): the next round brings them again.
    pub(super) refused: u64,
}

impl Announcer {
    /// Builds the frames for this hardware address. `source` is where the question about an IPv6 address comes from.
    pub(super) fn prepare(&mut self, i: &Instance, mac: Option<MacAddr>, source: Option<IpAddr>) {
        self.frames.clear();
        self.probes.clear();
        let Some(mac) = mac else {
            return;
        };
        for vip in i.virtual_ips.iter().map(|p| p.addr()) {
            match vip {
                IpAddr::V4(vip) => {
                    self.frames.push(arp::gratuitous(mac, vip));
                    self.probes.push(arp::probe(mac, vip));
                }
                IpAddr::V6(vip) => {
                    // A virtual router is a router only to those that send through it; neighbours that hear R=1 from an
                    // address which is not in their router list gain nothing by it.
                    self.frames.push(ndp::unsolicited(mac, vip, false));
                    if let Some(IpAddr::V6(source)) = source {
                        self.probes.extend(solicitation(mac, source, vip));
                    }
                }
            }
        }
    }

    /// A burst starts with a round at once; one that is under way starts again.
    pub(super) fn start(&mut self, now: Instant, settings: &Announce) {
        self.rounds = settings.repeat;
        self.next = (settings.repeat > 0).then_some(now);
    }

    /// Nothing more is announced: this node does not hold the addresses.
    pub(super) fn stop(&mut self) {
        self.rounds = 0;
        self.next = None;
    }

    /// When the next round is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Sends one round.
    pub(super) fn round(&mut self, socket: &PacketSocket, now: Instant, settings: &Announce) -> Sent {
        self.rounds = self.rounds.saturating_sub(1);
        self.next = (self.rounds > 0).then(|| now + settings.interval);
        send_all(&self.frames, socket)
    }

    /// Asks whether anybody else has one of the addresses.
    pub(super) fn probe(&self, socket: &PacketSocket) {
        send_all(&self.probes, socket);
    }
}

fn send_all(frames: &[Vec<u8>], socket: &PacketSocket) -> Sent {
    let mut sent = Sent::default();
    for frame in frames {
        match socket.send(frame) {
            Ok(()) => sent.frames += 1,
            Err(_) => sent.refused += 1,
        }
    }
    sent
}

/// A neighbour solicitation (RFC 4861 §4.3) for `target`, to its solicited-node group. It comes from an address of ours,
/// not from `::` as duplicate address detection's does: the answer to the latter would go to all nodes and turn their
/// caches to the very node that must not have the address.
fn solicitation(mac: MacAddr, source: Ipv6Addr, target: Ipv6Addr) -> Option<Vec<u8>> {
    const SOURCE_LINK_LAYER_ADDRESS: [u8; 2] = [1, 1];
    let t = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, t[13], t[14], t[15]]);
    let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&t);
    body.extend_from_slice(&SOURCE_LINK_LAYER_ADDRESS);
    body.extend_from_slice(&mac.0);
    let sum = Sum::pseudo(source.into(), group.into(), ndp::ICMPV6, body.len())?.bytes(&body);
    body.get_mut(2..4)?.copy_from_slice(&sum.finish().to_be_bytes());
    let mut frame = Vec::new();
    ethernet::Header::new(mac, MacAddr::for_ipv6_multicast(group), ethernet::IPV6).encode(&mut frame);
    let header = ipv6::Header {
        traffic_class: 0,
        flow_label: 0,
        next_header: ndp::ICMPV6,
        hop_limit: 255,
        source,
        destination: group,
    };
    header.encode(body.len(), &mut frame).ok()?;
    frame.extend_from_slice(&body);
    Some(frame)
}
