//! The short way: a TCP segment or UDP datagram without VLAN tag, IP options, extension headers and fragments, for a
//! backend on the same network. That is nearly every packet; all of it lies at places that are known beforehand.
//!
//! It does what the long way does, with the same functions, and gives up where there is more to do.
use crate::config::Config;
use crate::packet::Xdp;
use crate::packet::ethernet::{Ethernet, Link};
use crate::packet::transport::{self, TCP, UDP};
use crate::receive::{self, Arrived, Ip};
use crate::select::{self, Choice};
use crate::{count, maps, rewrite};
use lb_common::abi::{GUARD_TTL, Reason};

/// How far it went.
pub(crate) enum Went {
    /// The frame is rewritten and counted; the program's verdict.
    All(u32),
    /// Its backend is chosen.
    Chosen(Arrived, Choice),
    /// Nothing is done.
    Nowhere,
}

#[inline(always)]
pub(crate) fn go<I: Ip, const FRAGS: bool>(
    xdp: &mut Xdp<FRAGS>,
    config: &Config,
    link: Link,
) -> Result<Went, Reason> {
    let (ip, vip) = receive::arrive::<I, FRAGS>(xdp, config, link)?;
    let proto = ip.proto();
    if !ip.is_bare() || (proto != TCP && proto != UDP) {
        return Ok(Went::Nowhere);
    }
    let frame = xdp.frame();
    let length = ip.total();
    let at = link.l3 + size_of::<I>();
    let end = link.l3 + length;
    let traits = transport::parse(frame, at, end, proto, false)?;
    let ports = transport::ports(frame, at, end).ok_or(Reason::BadTransport)?;
    let flow = receive::flow(config, vip, ip.src(), ip.dst(), proto, ports).ok_or(Reason::NotService)?;
    let Some(choice) = select::choose::<true>(config, traits, &flow)? else {
        return Ok(Went::Nowhere);
    };
    if !rewrite::is_direct(choice.backend) {
        let arrived = Arrived { traits: traits.and(I::TRAITS), length, fragment: 0, flow: None };
        return Ok(Went::Chosen(arrived, choice));
    }
    let bytes = frame.len().max(end) as u64;
    let ip: &mut I = frame.at_mut(link.l3).ok_or(Reason::BadIp)?;
    ip.lower_hops(GUARD_TTL);
    let ethernet: &mut Ethernet = frame.at_mut(0).ok_or(Reason::BadIp)?;
    ethernet.set_macs(maps::macs(choice.backend));
    count::forwarded(choice.place, bytes, choice.new, choice.remembered);
    Ok(Went::All(rewrite::send(xdp, choice.backend)))
}
