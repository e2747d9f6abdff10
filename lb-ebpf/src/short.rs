//! The short way: a TCP segment or UDP datagram without VLAN tag, IP options, extension headers and fragments, for a
//! backend on the same network. That is nearly every packet; all of it lies at places that are known beforehand.
//!
//! It does what the long way does, and looks no further where it finds anything else: the long way says what that is.
use crate::config::Config;
use crate::packet::ethernet::Ethernet;
use crate::packet::transport::Segment;
use crate::packet::{Header, Xdp};
use crate::receive::{self, Arrived, Ip};
use crate::select::{self, Choice};
use crate::{count, lookup, maps, rewrite, trace};
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

/// What such a frame begins with.
#[repr(C)]
struct Head<I> {
    ethernet: Ethernet,
    ip: I,
}

// SAFETY: both are, one after the other.
#[expect(unsafe_code, reason = "see Header")]
unsafe impl<I: Ip> Header for Head<I> {}

/// What is not for a virtual IP costs no more than that answer: it is most of what a node receives.
#[inline(always)]
pub(crate) fn go<I: Ip, const FRAGS: bool>(xdp: &mut Xdp<FRAGS>, config: &Config) -> Result<Went, Reason> {
    let frame = xdp.frame();
    let Some(Head::<I> { ethernet, ip }) = frame.at(0) else {
        return Ok(Went::Nowhere);
    };
    let vip = lookup::vip(config.side, ip.dst()).ok_or(Reason::NotVip)?;
    let end = size_of::<Ethernet>() + ip.total();
    let ours = vip.vlan == 0 && ethernet.is_to(maps::mac(vip)) && ip.hops() > GUARD_TTL;
    if !ours || !ip.is_bare() || !xdp.has(frame, end) {
        return Ok(Went::Nowhere);
    }
    let at = size_of::<Head<I>>();
    let mut segment = Segment::EMPTY;
    if segment.read(frame, at, end, ip.proto(), false).is_err() {
        return Ok(Went::Nowhere);
    }
    let Segment { ports, traits } = segment;
    let Some(flow) = receive::flow(config, vip, ip.src(), ip.dst(), ip.proto(), ports) else {
        return Ok(Went::Nowhere);
    };
    let Ok(config) = config.leased() else {
        return Ok(Went::Nowhere);
    };
    // The source of a flow that is remembered was looked at when it was new.
    let Some(choice) = select::choose::<true>(&config, traits, &flow, || ip.has_sane_source())? else {
        return Ok(Went::Nowhere);
    };
    if !rewrite::is_direct(choice.backend) {
        let (traits, length) = (traits.and(I::TRAITS), ip.total());
        return Ok(Went::Chosen(
            Arrived {
                traits,
                length,
                fragment: 0,
                flow: None,
            },
            choice,
        ));
    }
    let bytes = frame.len().max(end) as u64;
    let Some(Head::<I> { ethernet, ip }) = frame.at_mut(0) else {
        return Ok(Went::Nowhere);
    };
    ip.lower_hops(GUARD_TTL);
    ethernet.set_macs(maps::macs(choice.backend));
    count::forwarded(choice.place, bytes, choice.new, choice.remembered);
    trace::forwarded(xdp, choice.place, choice.remembered);
    Ok(Went::All(rewrite::send(xdp, choice.backend)))
}
