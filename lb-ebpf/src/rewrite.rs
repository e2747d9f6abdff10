//! To the backend.
use crate::maps;
use crate::packet::Xdp;
use crate::packet::ethernet::{Ethernet, Link};
use crate::packet::ipv4::Ipv4;
use crate::packet::ipv6::Ipv6;
use crate::receive::Arrived;
use crate::traits::Traits;
use crate::tunnel;
use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_TX};
use lb_common::abi::tables::{BACKEND_LOCAL, BACKEND_REACHABLE, BACKEND_TUNNEL4, BACKEND_TUNNEL6};
use lb_common::abi::{Backend, GUARD_TTL, Reason};

/// Makes the frame one for the backend. The answer is the program's verdict.
#[inline(always)]
pub(crate) fn to_backend<const FRAGS: bool>(
    xdp: &mut Xdp<FRAGS>,
    link: Link,
    arrived: &Arrived,
    backend: &Backend,
) -> Result<u32, Reason> {
    if is_direct(backend) {
        guard(xdp, link, arrived.traits)?;
        let ethernet: &mut Ethernet = xdp.frame().at_mut(0).ok_or(Reason::NotIp)?;
        ethernet.set_macs(maps::macs(backend));
    } else if backend.flags & BACKEND_LOCAL != 0 {
        return Ok(XDP_PASS);
    } else if backend.flags & BACKEND_REACHABLE == 0 {
        return Err(Reason::NoNeighbour);
    } else {
        tunnel::encapsulate(xdp, link, arrived, backend)?;
    }
    Ok(send(xdp, backend))
}

/// Whether it is reached by its MAC address alone.
#[inline(always)]
pub(crate) fn is_direct(backend: &Backend) -> bool {
    const HOW: u32 = BACKEND_LOCAL | BACKEND_REACHABLE | BACKEND_TUNNEL4 | BACKEND_TUNNEL6;
    backend.flags & HOW == BACKEND_REACHABLE
}

/// The verdict that makes the frame leave where the backend is.
#[inline(always)]
pub(crate) fn send<const FRAGS: bool>(xdp: &Xdp<FRAGS>, backend: &Backend) -> u32 {
    if backend.ifindex == xdp.ingress() {
        return XDP_TX;
    }
    xdp.redirect(backend.ifindex)
}

/// Lowers the TTL to what no director forwards.
#[inline(always)]
pub(crate) fn guard<const FRAGS: bool>(
    xdp: &mut Xdp<FRAGS>,
    link: Link,
    traits: Traits,
) -> Result<(), Reason> {
    let frame = xdp.frame();
    if traits.any(Traits::V6) {
        let ip: &mut Ipv6 = frame.at_mut(link.l3).ok_or(Reason::BadIp)?;
        ip.hop_limit = GUARD_TTL;
    } else {
        let ip: &mut Ipv4 = frame.at_mut(link.l3).ok_or(Reason::BadIp)?;
        ip.lower_ttl(GUARD_TTL);
    }
    Ok(())
}
