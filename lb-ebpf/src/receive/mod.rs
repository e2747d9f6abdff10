//! From a frame to a flow: what a packet for a virtual IP is, or why it is none of ours.
mod ip;
mod ipv4;
mod ipv6;

use crate::config::Config;
use crate::packet::Xdp;
use crate::packet::ethernet::{self, Ethernet, Link};
use crate::packet::ipv4::Ipv4;
use crate::packet::ipv6::Ipv6;
use crate::packet::transport::Ports;
use crate::traits::Traits;
use crate::{lookup, maps};
pub(crate) use ip::{Address, Ip};
use lb_common::abi::tables::SERVICE_AFFINITY;
use lb_common::abi::{GUARD_TTL, Reason, Service, Side, Vip};

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

impl Arrived {
    /// See [`maps::plain`].
    #[inline(always)]
    pub(crate) fn plain(self, side: &'static Side) -> Self {
        Self {
            traits: Traits(maps::plain::<{ Traits::BELOW }>(side, self.traits.0)),
            ..self
        }
    }
}

/// The flow of a packet.
pub(crate) struct Flow {
    pub(crate) service: &'static Service,
    pub(crate) hash: u64,
    /// What the Maglev table goes by: the same, or the client's where it keeps its backend.
    pub(crate) ring: u64,
}

/// Reads any packet. Nothing is changed.
#[inline(always)]
pub(crate) fn receive<const FRAGS: bool>(
    xdp: &Xdp<FRAGS>,
    config: Config,
    link: Link,
) -> Result<(Config, Arrived), Reason> {
    let frame = xdp.frame();
    if link.ethertype == ethernet::IPV4 {
        let (config, ip, vip) = arrive::<Ipv4, FRAGS>(xdp, config, link)?;
        Ok((config, ipv4::classify(&config, frame, link, ip, vip)?))
    } else if link.ethertype == ethernet::IPV6 {
        let (config, ip, vip) = arrive::<Ipv6, FRAGS>(xdp, config, link)?;
        Ok((config, ipv6::classify(&config, frame, link, ip, vip)?))
    } else {
        Err(Reason::NotIp)
    }
}

/// Is it for a virtual IP, may this node direct it, was it sent to this node, and can it be right?
#[inline(always)]
fn arrive<I: Ip, const FRAGS: bool>(
    xdp: &Xdp<FRAGS>,
    config: Config,
    link: Link,
) -> Result<(Config, &I, &'static Vip), Reason> {
    let frame = xdp.frame();
    let ip: &I = frame.at(link.l3).ok_or(Reason::NotIp)?;
    let vip = lookup::vip(config.side, ip.dst()).ok_or(Reason::NotVip)?;
    let config = config.leased()?;
    let ethernet: &Ethernet = frame.at(0).ok_or(Reason::NotIp)?;
    if link.vlan != vip.vlan || !ethernet.is_to(maps::mac(vip)) {
        return Err(Reason::NotForUs);
    }
    if ip.hops() <= GUARD_TTL {
        return Err(Reason::Guarded);
    }
    if !ip.has_sane_source() {
        return Err(Reason::BadSource);
    }
    if !ip.is_well_formed() || !xdp.has(frame, link.l3 + ip.total()) {
        return Err(Reason::BadIp);
    }
    Ok((config, ip, vip))
}

/// The flow from the client to the virtual IP with these ports. `None`: no service has it.
#[inline(always)]
pub(crate) fn flow<A: Address>(
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
