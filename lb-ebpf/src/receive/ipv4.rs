//! IPv4.
use super::ip::Address;
use super::{Arrived, Flow, flow};
use crate::config::Config;
use crate::fragment;
use crate::packet::Frame;
use crate::packet::ethernet::Link;
use crate::packet::icmp::{ICMP, Icmp};
use crate::packet::ipv4::Ipv4;
use crate::packet::transport::{self, Segment, TCP, UDP};
use crate::traits::Traits;
use lb_common::abi::{Reason, Vip};

/// What comes after the header.
#[inline(always)]
pub(super) fn classify(
    config: &Config,
    frame: Frame<'_>,
    link: Link,
    ip: &Ipv4,
    vip: &Vip,
) -> Result<Arrived, Reason> {
    let length = ip.total();
    let at = link.l3 + ip.header_length();
    let end = link.l3 + length;
    let mut fragment = 0;
    let mut part = Traits::NONE;
    if ip.is_fragment() {
        match ip.proto {
            TCP | UDP => {}
            ICMP => return Err(Reason::IcmpOther),
            _ => return Err(Reason::NotService),
        }
        let (id, proto) = (u32::from(ip.id), u32::from(ip.proto));
        fragment = Address::fragment(&config.side.key, ip.src, ip.dst, id, proto);
        if ip.is_later_fragment() {
            return Ok(Arrived {
                traits: Traits::LATER,
                length,
                fragment,
                flow: None,
            });
        }
        part = Traits::FIRST;
    }
    if ip.proto == ICMP {
        let flow = quoted(config, frame, at, end, ip, vip).ok_or(Reason::IcmpOther)?;
        return Ok(Arrived {
            traits: Traits::ERROR,
            length,
            fragment,
            flow: Some(flow),
        });
    }
    let mut segment = Segment::EMPTY;
    segment.read(frame, at, end, ip.proto, part.any(Traits::FIRST))?;
    let flow = flow(config, vip, ip.src, ip.dst, ip.proto, segment.ports);
    if flow.is_none() {
        if part.any(Traits::FIRST) {
            fragment::remember(config, fragment, fragment::PASSED);
        }
        return Err(Reason::NotService);
    }
    Ok(Arrived {
        traits: segment.traits.and(part),
        length,
        fragment,
        flow,
    })
}

/// The flow that an ICMP error is about: a packet from the virtual IP to a client.
#[inline(always)]
fn quoted(config: &Config, frame: Frame<'_>, at: usize, end: usize, ip: &Ipv4, vip: &Vip) -> Option<Flow> {
    let icmp: &Icmp = frame.at(at)?;
    let at = at + size_of::<Icmp>();
    let inner: &Ipv4 = frame.at(at)?;
    if !icmp.is_error() || !inner.begins_well() || inner.src != ip.dst || inner.is_later_fragment() {
        return None;
    }
    let ports = transport::ports(frame, at + inner.header_length(), end)?;
    flow(config, vip, inner.dst, inner.src, inner.proto, ports.reversed())
}
