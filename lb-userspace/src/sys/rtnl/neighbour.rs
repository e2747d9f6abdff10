//! The neighbour table: which MAC address a host on the link has.
use super::channel::CREATE;
use super::{Rtnl, RtnlError, family, interface_name};
use lb_common::model::{Family, MacAddr};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState as State,
};
use std::net::IpAddr;

/// How sure the kernel is of an entry (`NUD_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// Being asked for; no MAC address yet.
    Incomplete,
    /// Confirmed a moment ago.
    Reachable,
    /// Was right some time ago; still used.
    Stale,
    /// Used while stale; about to be probed.
    Delay,
    /// Being probed.
    Probe,
    /// Nobody answers.
    Failed,
    /// Set by hand, or needs no resolution.
    Permanent,
    /// Anything else.
    None,
}

/// An entry of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The host.
    pub ip: IpAddr,
    /// Its MAC address, where one is known.
    pub mac: Option<MacAddr>,
    /// How sure.
    pub state: NeighbourState,
}

impl Neighbour {
    /// The MAC address if it may be used to send to.
    pub fn usable(&self) -> Option<MacAddr> {
        match self.state {
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent => self.mac,
            NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None => None,
        }
    }
}

impl Rtnl {
    /// The entries of both families on one interface.
    pub async fn neighbours(&mut self, interface: u32) -> Result<Vec<Neighbour>, RtnlError> {
        let request = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let found = self.dump("listing neighbours", &request).await?;
        Ok(found
            .into_iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewNeighbour(m) if m.header.ifindex == interface => neighbour(&m),
                _ => None,
            })
            .collect())
    }

    /// Lets the kernel find out `ip`'s MAC address, or confirm the one it has, by ARP or neighbour solicitation
    /// (`NTF_USE`). The answer shows in [`Self::neighbours`] and as a [`Change::Neighbour`](super::Change::Neighbour).
    pub async fn probe_neighbour(&mut self, interface: u32, ip: IpAddr) -> Result<(), RtnlError> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(Family::of(ip));
        message.header.ifindex = interface;
        message.header.flags = NeighbourFlags::Use;
        let destination = match ip {
            IpAddr::V4(a) => NeighbourAddress::Inet(a),
            IpAddr::V6(a) => NeighbourAddress::Inet6(a),
        };
        message
            .attributes
            .push(NeighbourAttribute::Destination(destination));
        let action = format!("probing {ip} on {}", interface_name(interface));
        self.ask(&action, &RouteNetlinkMessage::NewNeighbour(message), CREATE)
            .await?;
        Ok(())
    }
}

/// Also used for notifications, whose message is the same.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => ip = Some(IpAddr::V4(*a)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => ip = Some(IpAddr::V6(*a)),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(MacAddr);
            }
            _ => {}
        }
    }
    let state = match message.header.state {
        State::Incomplete => NeighbourState::Incomplete,
        State::Reachable => NeighbourState::Reachable,
        State::Stale => NeighbourState::Stale,
        State::Delay => NeighbourState::Delay,
        State::Probe => NeighbourState::Probe,
        State::Failed => NeighbourState::Failed,
        State::Permanent | State::Noarp => NeighbourState::Permanent,
        _ => NeighbourState::None,
    };
    Some(Neighbour { ip: ip?, mac, state })
}
