//! To a backend on another network: IP in IP (RFC 2003, RFC 2473, RFC 4213), in any mixture of IPv4 and IPv6.
use crate::maps;
use crate::packet::ethernet::{self, Link};
use crate::packet::ipv4::{DONT_FRAGMENT, Ipv4, PLAIN};
use crate::packet::ipv6::Ipv6;
use crate::packet::{Refused, Xdp};
use crate::receive::Arrived;
use crate::traits::Traits;
use crate::{rewrite, too_big};
use lb_common::abi::tables::BACKEND_TUNNEL4;
use lb_common::abi::{Backend, OUTER_TTL, Reason};

/// Protocol numbers of a packet in a packet.
const IPV4_IN: u8 = 4;
const IPV6_IN: u8 = 41;

/// Puts the outer header before the packet, or tells the sender that the packet is too long.
#[inline(always)]
pub(crate) fn encapsulate<const FRAGS: bool>(
    xdp: &mut Xdp<FRAGS>,
    link: Link,
    arrived: &Arrived,
    backend: &Backend,
) -> Result<(), Reason> {
    let over_ipv4 = backend.flags & BACKEND_TUNNEL4 != 0;
    let room = if over_ipv4 {
        size_of::<Ipv4>()
    } else {
        size_of::<Ipv6>()
    };
    if arrived.length + room > backend.mtu as usize {
        return Err(too_big::tell(
            xdp,
            link,
            arrived,
            backend.mtu.saturating_sub(room as u32),
        ));
    }
    rewrite::guard(xdp, link, arrived.traits)?;
    let class = class(xdp, link, arrived.traits).ok_or(Reason::BadIp)?;
    let made = if over_ipv4 {
        over_v4(xdp, link, arrived, backend, class)
    } else {
        over_v6(xdp, link, arrived, backend, class)
    };
    made.map_err(|Refused| Reason::NoHeadroom)
}

#[inline(always)]
fn over_v4<const FRAGS: bool>(
    xdp: &mut Xdp<FRAGS>,
    link: Link,
    arrived: &Arrived,
    backend: &Backend,
    class: u8,
) -> Result<(), Refused> {
    const ROOM: usize = size_of::<Ipv4>();
    xdp.make_room(ROOM as i32)?;
    let frame = xdp.frame();
    ethernet::lead(frame, link, ROOM, maps::macs(backend), ethernet::IPV4).ok_or(Refused)?;
    let outer: &mut Ipv4 = frame.at_mut(link.l3).ok_or(Refused)?;
    *outer = Ipv4 {
        version_ihl: PLAIN,
        tos: class,
        total_length: ((ROOM + arrived.length) as u16).to_be(),
        id: 0,
        fragment: DONT_FRAGMENT,
        ttl: OUTER_TTL,
        proto: inner(arrived.traits),
        checksum: 0,
        src: backend.outer_src[0],
        dst: backend.outer_dst[0],
    };
    outer.set_checksum();
    Ok(())
}

#[inline(always)]
fn over_v6<const FRAGS: bool>(
    xdp: &mut Xdp<FRAGS>,
    link: Link,
    arrived: &Arrived,
    backend: &Backend,
    class: u8,
) -> Result<(), Refused> {
    const ROOM: usize = size_of::<Ipv6>();
    xdp.make_room(ROOM as i32)?;
    let frame = xdp.frame();
    ethernet::lead(frame, link, ROOM, maps::macs(backend), ethernet::IPV6).ok_or(Refused)?;
    let outer: &mut Ipv6 = frame.at_mut(link.l3).ok_or(Refused)?;
    *outer = Ipv6 {
        version_class_label: Ipv6::first_word(class),
        payload_length: (arrived.length as u16).to_be(),
        next: inner(arrived.traits),
        hop_limit: OUTER_TTL,
        src: maps::outer(&backend.outer_src),
        dst: maps::outer(&backend.outer_dst),
    };
    Ok(())
}

#[inline(always)]
fn inner(traits: Traits) -> u8 {
    if traits.any(Traits::V6) { IPV6_IN } else { IPV4_IN }
}

/// Traffic class, ECN included (RFC 6040, normal mode).
#[inline(always)]
fn class<const FRAGS: bool>(xdp: &Xdp<FRAGS>, link: Link, traits: Traits) -> Option<u8> {
    let frame = xdp.frame();
    if traits.any(Traits::V6) {
        return Some(frame.at::<Ipv6>(link.l3)?.traffic_class());
    }
    Some(frame.at::<Ipv4>(link.l3)?.tos)
}
