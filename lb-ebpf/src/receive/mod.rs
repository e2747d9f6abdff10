//! From a frame to a flow: what a packet for a virtual IP is, or why it is none of ours.
mod address;
mod ipv4;
mod ipv6;

use crate::config::Config;
use crate::{lookup, maps};
use crate::packet::ethernet::{self, Link};
use crate::packet::transport::Ports;
use crate::packet::{Frame, Xdp};
use crate::traits::Traits;
use address::Address;
use lb_common::abi::tables::SERVICE_AFFINITY;
use lb_common::abi::{Reason, Service, Vip};

/// A packet that is to be forwarded.
pub(crate) struct Arrived {
    pub(crate) traits: Traits,
    /// Bytes of the IP packet; the frame may be longer.
    pub(crate) length: usize,
    /// With [`Traits::FIRST`] or [`Traits::LATER`]: the packet's hash, for all its parts.
    pub(crate) fragment: u64,
    /// Without [`Traits::LATER`].
    pub(crate) flow: Option<Flow>,
}

/// The flow of a packet.
pub(crate) struct Flow {
    pub(crate) service: &'static Service,
    pub(crate) hash: u64,
    /// What the Maglev table goes by: the same, or the client's where it keeps its backend.
    pub(crate) ring: u64,
}

/// Reads it. Nothing is changed.
#[inline(always)]
pub(crate) fn receive<const FRAGS: bool>(
    xdp: &Xdp<FRAGS>,
    config: &Config,
    link: Link,
) -> Result<Arrived, Reason> {
    if link.ethertype == ethernet::IPV4 {
        ipv4::receive(xdp, config, link)
    } else if link.ethertype == ethernet::IPV6 {
        ipv6::receive(xdp, config, link)
    } else {
        Err(Reason::NotIp)
    }
}

/// Was the frame sent to this node, on this VLAN?
#[inline(always)]
fn is_for_us(frame: Frame<'_>, link: Link, vip: &Vip) -> bool {
    // A word that begins with the address; the two bytes more are shifted out.
    let Some(start) = frame.at::<[u8; 8]>(0) else { return false };
    link.vlan == vip.vlan && (u64::from_le_bytes(*start) ^ maps::mac(vip)) << 16 == 0
}

/// The flow from the client to the virtual IP with these ports. `None`: no service has it.
#[inline(always)]
fn flow<A: Address>(
    config: &Config,
    vip: &Vip,
    client: A,
    address: A,
    proto: u8,
    ports: Ports,
) -> Option<Flow> {
    let side = config.side;
    let service = lookup::service(side, vip, proto, ports.destination())?;
    let hash = A::flow(&side.key, client, address, ports.0, u32::from(proto));
    let ring = if service.flags & SERVICE_AFFINITY == 0 {
        hash
    } else {
        A::client(&side.key, client, service)
    };
    Some(Flow { service, hash, ring })
}
