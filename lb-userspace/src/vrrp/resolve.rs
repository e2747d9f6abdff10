//! Which interface, which source address, and whether an instance can take part at all: one pure function of what the
//! kernel has.
//!
//! A virtual IP never becomes a source address, whoever's it is and wherever it stands: it may have stayed from a run
//! that crashed, it may have been added first and so be the "primary" of its subnet, or it may stand on a dummy
//! interface for the real server's sake. (k0s #4664: adverts that leave from the VIP.)
use super::InterfaceRef;
use crate::sys::linkmon::{Address, Link, LinkTable};
use lb_common::model::{Family, MacAddr};
use lb_common::spec::{Instance, InterfaceSelector, Transport};
use lb_common::vrrp::FaultReason;
use lb_common::vrrp::track::{InterfaceState, Verdict};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Every virtual IP of every instance, those that still leave included.
pub(super) type Vips = BTreeSet<IpAddr>;

/// Where an instance runs on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolution {
    /// The interface that carries the VIPs.
    pub(super) interface: Option<InterfaceRef>,
    /// Its hardware address.
    pub(super) mac: Option<MacAddr>,
    /// The interface that adverts pass: the same, unless a configured unicast source is on another one.
    pub(super) via: Option<InterfaceRef>,
    /// What adverts leave from.
    pub(super) source: Option<IpAddr>,
    /// Why it cannot take part.
    pub(super) fault: Option<FaultReason>,
    /// What tracking adds to the priority.
    pub(super) weight: i32,
}

/// `previous` is the interface's index of last time: an automatic choice stays as long as nothing better is there, so
/// that a card whose address is away for a moment does not move the instance to the default route's card.
pub(super) fn resolve(table: &LinkTable, i: &Instance, vips: &Vips, previous: Option<u32>) -> Resolution {
    let mut r = Resolution::default();
    let link = select(table, i, vips, previous);
    let found = link.and_then(|l| source(table, i, vips, l));
    let via = found.and_then(|(_, index)| table.link(index));
    r.interface = link.map(reference);
    r.mac = link.and_then(|l| l.mac);
    r.source = found.map(|(addr, _)| addr);
    r.via = via.map(reference);
    let own = match link {
        None => InterfaceState::Missing,
        Some(l) if !l.usable || via.is_some_and(|v| !v.usable) => InterfaceState::Down,
        Some(_) if r.source.is_none() => InterfaceState::NoAddress,
        Some(_) => InterfaceState::Up,
    };
    let verdict = Verdict::of(own, &i.track, |name| match table.by_name(name) {
        None => InterfaceState::Missing,
        Some(l) if !l.usable => InterfaceState::Down,
        Some(_) => InterfaceState::Up,
    });
    r.fault = verdict.fault;
    r.weight = verdict.weight;
    r
}

fn reference(link: &Link) -> InterfaceRef {
    InterfaceRef {
        index: link.index,
        name: link.name.clone(),
    }
}

fn select<'t>(table: &'t LinkTable, i: &Instance, vips: &Vips, previous: Option<u32>) -> Option<&'t Link> {
    match &i.interface {
        InterfaceSelector::Name(name) => table.by_name(name),
        InterfaceSelector::Mac(mac) => by_mac(table, *mac),
        InterfaceSelector::Auto => by_subnet(table, i, vips, previous)
            .or_else(|| previous.and_then(|p| table.link(p)))
            .or_else(|| table.default_interface(i.family())),
    }
}

/// Several interfaces may have one MAC address: a bond and its cards, a card and its VLANs. One that is a part of a bond
/// or a bridge cannot carry addresses and comes last; then a card before a bond or bridge, then what is stacked on top.
fn by_mac(table: &LinkTable, mac: MacAddr) -> Option<&Link> {
    let rank = |l: &&Link| {
        let stacked = match l.kind.as_deref() {
            None => 0,
            Some("bond" | "team" | "bridge") => 1,
            Some(_) => 2,
        };
        (is_port(table, l), stacked, l.index)
    };
    table.links().filter(|l| l.mac == Some(mac)).min_by_key(rank)
}

/// A part of a bond or a bridge; the members of a VRF are interfaces in their own right.
fn is_port(table: &LinkTable, link: &Link) -> bool {
    let controller = link.controller.and_then(|c| table.link(c));
    controller.is_some_and(|c| c.kind.as_deref() != Some("vrf"))
}

/// The interface with an address, not a VIP, whose subnet holds the first VIP: the longest prefix, then the one of last
/// time, then the lowest index.
fn by_subnet<'t>(table: &'t LinkTable, i: &Instance, vips: &Vips, previous: Option<u32>) -> Option<&'t Link> {
    // fe80::/64 is on every interface and says nothing.
    let vip = i
        .virtual_ips
        .iter()
        .map(|p| p.addr())
        .find(|a| !is_link_local(*a))?;
    let holds = |a: &&Address| {
        // A host address holds nothing but itself.
        a.prefix.contains(vip)
            && a.prefix.prefix_len() < a.prefix.family().bits()
            && !vips.contains(&a.prefix.addr())
    };
    let candidates = table.addresses().filter(holds).filter_map(|a| {
        let link = table.link(a.interface).filter(|l| !l.loopback)?;
        Some((a, link))
    });
    let rank = |(a, l): &(&Address, &Link)| {
        let len = std::cmp::Reverse(a.prefix.prefix_len());
        (len, previous != Some(l.index), l.index)
    };
    candidates.min_by_key(rank).map(|(_, link)| link)
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

/// The source address and the interface that has it.
fn source(table: &LinkTable, i: &Instance, vips: &Vips, link: &Link) -> Option<(IpAddr, u32)> {
    let link_local = match &i.transport {
        Transport::Unicast {
            source: Some(wanted), ..
        } => {
            let having = table
                .addresses()
                .filter(|a| a.prefix.addr() == *wanted && !a.tentative);
            let nearest = having.min_by_key(|a| a.interface != link.index)?;
            return Some((*wanted, nearest.interface));
        }
        // RFC 9568 §5.1.2.1: the link-local address.
        Transport::Multicast => true,
        Transport::Unicast { peers, .. } => peers.iter().all(|p| is_link_local(*p)),
    };
    let own: Vec<IpAddr> = i.virtual_ips.iter().map(|p| p.addr()).collect();
    let rank = |a: &&Address| {
        let addr = a.prefix.addr();
        let far = match i.family() {
            Family::Ipv4 => is_link_local(addr),
            Family::Ipv6 => is_link_local(addr) != link_local,
        };
        (own.contains(&addr), far, a.deprecated, a.secondary)
    };
    let eligible = |a: &&Address| {
        let addr = a.prefix.addr();
        // The owner's virtual IP is its own address, and may be the only one.
        let vip = vips.contains(&addr) && !(i.priority.is_owner() && own.contains(&addr));
        let right_scope = i.family() == Family::Ipv4 || is_link_local(addr) == link_local;
        a.interface == link.index
            && a.prefix.family() == i.family()
            && !vip
            && !a.tentative
            && !addr.is_loopback()
            && right_scope
    };
    let best = table.addresses().filter(eligible).min_by_key(rank)?;
    Some((best.prefix.addr(), best.interface))
}

#[cfg(test)]
mod tests;
