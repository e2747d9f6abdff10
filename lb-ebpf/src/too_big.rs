//! A packet that is too long for the tunnel: its sender is told how long it may be (RFC 1191, RFC 8201), from the
//! virtual IP, in the frame that it came in.
use crate::packet::ethernet::{self, Ethernet, Link};
use crate::packet::icmp::{FRAGMENTATION_NEEDED, ICMP, ICMPV6, Icmp, PACKET_TOO_BIG, UNREACHABLE};
use crate::packet::ipv4::{DONT_FRAGMENT, Ipv4, PLAIN};
use crate::packet::ipv6::Ipv6;
use crate::packet::{Frame, Xdp, fold, sum};
use crate::receive::Arrived;
use crate::traits::Traits;
use lb_common::abi::{OUTER_TTL, Reason};

/// As much of the packet as an answer may quote: IPv4 576 bytes in all (RFC 1812 §4.3.2.3), IPv6 1280 (RFC 4443 §2.4).
const QUOTE4: usize = 576 - size_of::<Ipv4>() - size_of::<Icmp>();
const QUOTE6: usize = 1280 - size_of::<Ipv6>() - size_of::<Icmp>();
/// Where less of it lies in the frame's first buffer, or it is shorter: enough for all headers up to the ports.
const SHORT: usize = 128;
/// Internetwork control (RFC 1812 §4.3.2.5).
const PRECEDENCE: u8 = 0xc0;

/// Tells the sender. The answer is what became of the packet.
#[inline(always)]
pub(crate) fn tell<const FRAGS: bool>(
    xdp: &mut Xdp<FRAGS>,
    link: Link,
    arrived: &Arrived,
    mtu: u32,
) -> Reason {
    if arrived
        .traits
        .any(Traits::FIRST.and(Traits::LATER).and(Traits::ERROR))
    {
        return Reason::TooBig;
    }
    let held = xdp.frame().len() - link.l3;
    let whole = if arrived.length < held {
        arrived.length
    } else {
        held
    };
    let told = match arrived.traits.any(Traits::V6) {
        false if whole >= QUOTE4 => tell4::<FRAGS, QUOTE4>(xdp, link, mtu),
        false if whole >= SHORT => tell4::<FRAGS, SHORT>(xdp, link, mtu),
        true if whole >= QUOTE6 => tell6::<FRAGS, QUOTE6>(xdp, link, mtu),
        true if whole >= SHORT => tell6::<FRAGS, SHORT>(xdp, link, mtu),
        _ => None,
    };
    match told {
        Some(()) => Reason::TooBigTold,
        None => Reason::TooBig,
    }
}

#[inline(always)]
fn tell4<const FRAGS: bool, const QUOTE: usize>(xdp: &mut Xdp<FRAGS>, link: Link, mtu: u32) -> Option<()> {
    const ROOM: usize = size_of::<Ipv4>() + size_of::<Icmp>();
    let ip: &Ipv4 = xdp.frame().at(link.l3)?;
    let (client, vip) = (ip.src, ip.dst);
    let frame = answer::<FRAGS, QUOTE, ROOM>(xdp, link, ethernet::IPV4)?;
    let outer: &mut Ipv4 = frame.at_mut(link.l3)?;
    *outer = Ipv4 {
        version_ihl: PLAIN,
        tos: PRECEDENCE,
        total_length: ((ROOM + QUOTE) as u16).to_be(),
        id: 0,
        fragment: DONT_FRAGMENT,
        ttl: OUTER_TTL,
        proto: ICMP,
        checksum: 0,
        src: vip,
        dst: client,
    };
    outer.set_checksum();
    let at = link.l3 + size_of::<Ipv4>();
    let icmp = Icmp {
        kind: UNREACHABLE,
        code: FRAGMENTATION_NEEDED,
        checksum: 0,
        rest: (mtu & 0xffff).to_be(),
    };
    *frame.at_mut(at)? = icmp;
    let checksum = match QUOTE {
        QUOTE4 => summed::<{ 8 + QUOTE4 - 512 }>(frame, at, 1, 0)?,
        _ => summed::<{ 8 + SHORT }>(frame, at, 0, 0)?,
    };
    frame.at_mut::<Icmp>(at)?.checksum = !checksum;
    Some(())
}

#[inline(always)]
fn tell6<const FRAGS: bool, const QUOTE: usize>(xdp: &mut Xdp<FRAGS>, link: Link, mtu: u32) -> Option<()> {
    const ROOM: usize = size_of::<Ipv6>() + size_of::<Icmp>();
    let ip: &Ipv6 = xdp.frame().at(link.l3)?;
    let (client, vip) = (ip.src, ip.dst);
    let frame = answer::<FRAGS, QUOTE, ROOM>(xdp, link, ethernet::IPV6)?;
    let length = size_of::<Icmp>() + QUOTE;
    *frame.at_mut(link.l3)? = Ipv6 {
        version_class_label: Ipv6::first_word(0),
        payload_length: (length as u16).to_be(),
        next: ICMPV6,
        hop_limit: OUTER_TTL,
        src: vip,
        dst: client,
    };
    let at = link.l3 + size_of::<Ipv6>();
    *frame.at_mut(at)? = Icmp {
        kind: PACKET_TOO_BIG,
        code: 0,
        checksum: 0,
        rest: mtu.to_be(),
    };
    // The addresses are the last of the header, and the message follows: with length and protocol, all that the
    // checksum is of (RFC 8200 §8.1).
    let addresses = at - 32;
    // Of 16-bit words, so that no carry is lost: the length has no more, and neither has the protocol.
    let pseudo = u32::from((length as u16).to_be()) + u32::from(u16::from(ICMPV6).to_be());
    let checksum = match QUOTE {
        QUOTE6 => summed::<{ 32 + 8 + QUOTE6 - 1024 }>(frame, addresses, 2, pseudo)?,
        _ => summed::<{ 32 + 8 + SHORT }>(frame, addresses, 0, pseudo)?,
    };
    frame.at_mut::<Icmp>(at)?.checksum = !checksum;
    Some(())
}

/// Cuts the packet to `QUOTE` bytes, and makes room before it for a way back to where it came from.
#[inline(always)]
fn answer<const FRAGS: bool, const QUOTE: usize, const ROOM: usize>(
    xdp: &mut Xdp<FRAGS>,
    link: Link,
    ethertype: u16,
) -> Option<Frame<'_>> {
    xdp.cut(link.l3 + QUOTE).ok()?;
    xdp.make_room(ROOM as i32).ok()?;
    let frame = xdp.frame();
    let came: &Ethernet = frame.at(ROOM)?;
    ethernet::lead(frame, link, ROOM, came.macs().reversed(), ethertype)?;
    Some(frame)
}

/// The folded sum of `blocks` times 512 bytes at `at`, and `REST` more.
#[inline(always)]
fn summed<const REST: usize>(frame: Frame<'_>, mut at: usize, blocks: usize, mut total: u32) -> Option<u16> {
    const BLOCK: usize = 512;
    for _ in 0..blocks {
        total = sum(frame.at::<[u8; BLOCK]>(at)?, total);
        at += BLOCK;
    }
    Some(fold(u64::from(sum(frame.at::<[u8; REST]>(at)?, total))))
}
