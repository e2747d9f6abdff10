//! IPv6.
use super::ip::Address;
use super::{Arrived, Flow, flow};
use crate::config::Config;
use crate::fragment;
use crate::packet::Frame;
use crate::packet::ethernet::Link;
use crate::packet::icmp::{ICMPV6, Icmp};
use crate::packet::ipv6::{self, Ipv6};
use crate::packet::transport::{self, Segment, TCP, UDP};
use crate::traits::Traits;
use lb_common::abi::{Reason, Vip};

/// What comes after the header.
#[inline(always)]
pub(super) fn classify(
    config: &Config,
    frame: Frame<'_>,
    link: Link,
    ip: &Ipv6,
    vip: &Vip,
) -> Result<Arrived, Reason> {
    let length = ip.total();
    let end = link.l3 + length;
    let upper = ipv6::walk(config.side, frame, link.l3 + size_of::<Ipv6>(), ip.next, end)?;
    let mut fragment = 0;
    let part = upper.part;
    if part != Traits::NONE {
        let proto = upper.fragment_proto;
        fragment = Address::fragment(&config.side.key, ip.src, ip.dst, upper.id, u32::from(proto));
        if part.any(Traits::LATER) {
            check_later(proto)?;
            return Ok(Arrived {
                traits: Traits::LATER.and(Traits::V6),
                length,
                fragment,
                flow: None,
            });
        }
    }
    match upper.proto {
        TCP | UDP => {}
        ICMPV6 if part.any(Traits::FIRST) => return Err(Reason::IcmpOther),
        ICMPV6 => {
            let flow = quoted(config, frame, upper.at, end, ip, vip).ok_or(Reason::IcmpOther)?;
            let traits = Traits::ERROR.and(Traits::V6);
            return Ok(Arrived {
                traits,
                length,
                fragment,
                flow: Some(flow),
            });
        }
        other if ipv6::is_extension(other) => return Err(Reason::Extension),
        _ => return Err(Reason::NotService),
    }
    let mut segment = Segment::EMPTY;
    segment.read(frame, upper.at, end, upper.proto, part.any(Traits::FIRST))?;
    let flow = flow(config, vip, ip.src, ip.dst, upper.proto, segment.ports);
    if flow.is_none() {
        if part.any(Traits::FIRST) {
            fragment::remember(config, fragment, fragment::PASSED);
        }
        return Err(Reason::NotService);
    }
    Ok(Arrived {
        traits: segment.traits.and(part).and(Traits::V6),
        length,
        fragment,
        flow,
    })
}

/// A later fragment may be one of a packet that was forwarded, unless what its header names says no.
#[inline(always)]
fn check_later(proto: u8) -> Result<(), Reason> {
    match proto {
        TCP | UDP => Ok(()),
        ICMPV6 => Err(Reason::IcmpOther),
        other if ipv6::is_looked_through(other) => Ok(()),
        other if ipv6::is_extension(other) => Err(Reason::Extension),
        _ => Err(Reason::NotService),
    }
}

/// The flow that an ICMPv6 error is about: a packet from the virtual IP to a client.
#[inline(always)]
fn quoted(config: &Config, frame: Frame<'_>, at: usize, end: usize, ip: &Ipv6, vip: &Vip) -> Option<Flow> {
    let icmp: &Icmp = frame.at(at)?;
    let at = at + size_of::<Icmp>();
    let inner: &Ipv6 = frame.at(at)?;
    if !icmp.is_error6() || !inner.begins_well() || { inner.src } != { ip.dst } {
        return None;
    }
    let upper = ipv6::walk(config.side, frame, at + size_of::<Ipv6>(), inner.next, end).ok()?;
    if upper.part.any(Traits::LATER) {
        return None;
    }
    let ports = transport::ports(frame, upper.at, end)?;
    flow(config, vip, inner.dst, inner.src, upper.proto, ports.reversed())
}
